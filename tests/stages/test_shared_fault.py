"""A fault that all frames of a camera share, told by the stars of a catalogue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from simulated_measurements import SHAPE, Survey
from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.stages.quality.shared_fault import find_shared_fault

FIELD = ((0.0, 0.0), (0.01, -0.006), (-0.008, 0.004), (0.006, 0.007), (-0.004, -0.009))
HEIGHT, WIDTH = SHAPE


class KnownStars:
    """The brighter stars of a survey, with magnitudes that err as those of a catalogue do."""

    name = "known stars"

    def __init__(self, survey: Survey, seed: int = 0, faintest: float = 80) -> None:
        rng = np.random.default_rng(seed)
        known = survey.star_flux > np.percentile(survey.star_flux, faintest)
        ra, dec = survey.grid.wcs.pixel_to_sky(survey.star_x[known], survey.star_y[known])
        mag = -2.5 * np.log10(survey.star_flux[known]) + rng.normal(0, 0.2, np.count_nonzero(known))
        order = np.argsort(mag)
        self.stars = CatalogueStars(ra[order], dec[order], mag[order])

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> CatalogueStars:
        return self.stars


@pytest.fixture(scope="module")
def field() -> Survey:
    return Survey(seed=2, centres=FIELD)


def dimmed(measured: Measurements, light: npt.ArrayLike) -> Measurements:
    """Stars with a share of their light."""
    flux = (measured.stars.flux * np.asarray(light)).astype(np.float32)
    return replace(measured, stars=replace(measured.stars, flux=flux))


def behind_an_obstacle(measured: Measurements) -> Measurements:
    return dimmed(measured, np.where(measured.stars.y > 320, 0.4, 1.0))


def shutter(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1 - 0.8 * np.clip((np.asarray(x) / WIDTH - 0.4) / 0.4, 0, 1)


def under_a_slow_shutter(measured: Measurements) -> Measurements:
    return dimmed(measured, shutter(measured.stars.x))


def with_a_sky_that_falls(measured: Measurements) -> Measurements:
    blocks = measured.blocks
    return replace(measured, blocks=replace(blocks, mean=(blocks.mean * shutter(blocks.x)).astype(np.float32)))


def with_shifted_rows(measured: Measurements) -> Measurements:
    stars = measured.stars
    return replace(measured, stars=replace(stars, x=np.where(stars.y < 200, (stars.x + 40) % WIDTH, stars.x)))


@pytest.mark.parametrize(
    ("fault", "share", "inside"),
    [
        (behind_an_obstacle, 0.4, (WIDTH / 2, 480)),
        (under_a_slow_shutter, 0.3, (WIDTH * 0.9, HEIGHT / 2)),
        (with_shifted_rows, 0.1, (WIDTH / 2, 80)),
    ],
)
def test_a_part_that_is_dim_in_all_frames_is_found(field, fault, share, inside):
    part = find_shared_fault([fault(m) for m in field.measurements], field.wcs, KnownStars(field))
    assert part is not None
    assert part.share == pytest.approx(share, abs=0.15)
    x, y = inside
    assert part.box.x0 < x < part.box.x1
    assert part.box.y0 < y < part.box.y1
    assert part.n_dim < 0.8 * part.n_stars


FEW = 97.5
"""Percentile that leaves some fifteen known stars in the frames: too few to tell a part by themselves."""


@pytest.mark.parametrize("seed", range(4))
def test_few_stars_tell_that_light_falls_where_the_sky_does(field, seed):
    few = KnownStars(field, seed, FEW)
    faulty = [with_a_sky_that_falls(under_a_slow_shutter(m)) for m in field.measurements]
    part = find_shared_fault(faulty, field.wcs, few)
    assert part is not None
    assert part.n_stars < 24
    assert part.share == pytest.approx(0.3, abs=0.1)
    assert part.box.x0 == pytest.approx(0.6 * WIDTH, abs=0.1 * WIDTH)
    assert part.box.x1 > 0.97 * WIDTH


@pytest.mark.parametrize("seed", range(4))
def test_a_sky_that_falls_alone_is_no_fault(field, seed):
    faulty = [with_a_sky_that_falls(m) for m in field.measurements]
    for faintest in (FEW, 80):
        assert find_shared_fault(faulty, field.wcs, KnownStars(field, seed, faintest)) is None


def test_no_fault_is_seen_where_there_is_none(field):
    for survey in (field, Survey(seed=1), Survey(seed=5, vignetting=0.5)):
        assert find_shared_fault(survey.measurements, survey.wcs, KnownStars(survey)) is None


def test_faint_stars_that_shallow_frames_do_not_show_are_no_fault(field):
    shallow = []
    for measured in field.measurements:
        stars = measured.stars
        shown = (stars.flux[0] > np.percentile(stars.flux[0], 90)) | (np.hypot(stars.x - 480, stars.y - 270) < 180)
        kept = {name: getattr(stars, name)[..., shown] for name in stars.__dataclass_fields__}
        shallow.append(replace(measured, stars=replace(stars, **kept)))
    assert find_shared_fault(shallow, field.wcs, KnownStars(field)) is None


def test_a_catalogue_of_another_sky_says_nothing(field):
    faulty = [behind_an_obstacle(m) for m in field.measurements]
    assert find_shared_fault(faulty, field.wcs, KnownStars(Survey(seed=3, centres=FIELD))) is None
    assert find_shared_fault([], [], KnownStars(field)) is None
