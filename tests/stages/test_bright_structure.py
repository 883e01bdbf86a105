"""Gains on bright structure: knots that pass for stars, and a sky that tells some images' gains and not others'."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cases.simulated_measurements import SHAPE, Survey, tan_place
from zemosaic.model.box import Box
from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.settings import MatchSettings, MeasureSettings
from zemosaic.stages.match.match import ImageFacts, match
from zemosaic.stages.measure.frame import measure_frame


class Galaxy(Survey):
    """A flat sky with one bright, compact light in its middle."""

    def sky(self, x, y):
        middle = self.grid.shape[0] / 2
        return 1000.0 + 5000 * np.exp(-np.hypot(x - middle, y - middle) / 60)


def on_knots(survey: Survey, wider: float) -> list[Measurements]:
    """The survey's images with knots behind the stars that the first one sees, whose apertures are wider.

    Wide apertures hold 10 % more there, and the first image's flux has as much more as a curved sky adds: it grows
    with the fourth power of the radius.
    """
    x0, y0 = survey.grid.wcs.sky_to_pixel(*survey.wcs[0].pixel_to_sky(SHAPE[1] / 2, SHAPE[0] / 2))
    out = []
    for i, (m, wcs) in enumerate(zip(survey.measurements, survey.wcs, strict=True)):
        x, y = survey.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(m.stars.x, m.stars.y))
        added = np.where(np.hypot(x - x0, y - y0) < SHAPE[1] / 2, 1.1, 1.0).astype(np.float32)
        flux, width = m.stars.flux, m.fwhm_px
        if i == 0:
            flux, width = flux * (1 + (added - 1) * np.float32(wider**4 - 1) / 2), width * wider
        # An image's width is that of its stars.
        own = np.full_like(m.stars.fwhm_px, width)
        out.append(
            replace(m, fwhm_px=width, stars=replace(m.stars, flux=flux, flux_wide=1.02 * added * flux, fwhm_px=own))
        )
    return out


def match_knots(wider: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors of ln gain, the median of all taken out, and stated errors."""
    survey = Survey(seed=4, nebula=0.0)
    found = match(on_knots(survey, wider), survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=survey.camera))
    error = np.log([s.gain[0] for s in found.scales]) - np.log(survey.gain)
    return error - np.median(error), np.array([s.gain_error[0] for s in found.scales])


@pytest.mark.parametrize("wider", [0.9, 1.15])
def test_stars_on_knots_tell_little_where_apertures_differ(wider):
    """What a wider aperture sees of the knots looked like a gain, known to 0.1 %."""
    error, stated = match_knots(wider)
    assert abs(error[0]) < 3 * stated[0]
    assert np.max(np.abs(error[1:])) < 0.003
    assert max(stated[1:]) < 0.004


def test_apertures_of_one_width_see_the_same_of_a_knot():
    """Nothing is lost where all images have the same seeing."""
    error, stated = match_knots(1.0)
    assert np.max(np.abs(error)) < 0.003
    assert max(stated) < 0.004


def test_structure_far_away_tells_no_gain():
    """Images that see the galaxy know their gains, and few stars alone tell those of the others: all had one error."""
    pulls = []
    for seed in range(1, 7):
        survey = Galaxy(seed=seed, n_stars=60, n_side=5)
        found = match(survey.measurements, survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=survey.camera))
        error = np.log([s.gain[0] for s in found.scales]) - np.log(survey.gain)
        stated = np.array([s.gain_error[0] for s in found.scales])
        error -= np.median(error[stated < 2 * np.min(stated)])
        assert np.max(stated) > 10 * np.min(stated)
        pulls.append(error / stated)
    assert np.max(np.abs(pulls)) < 4
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.3


def test_structure_outvotes_stars_that_are_wrong_together():
    """Stars 5 % off in every second image held gains 29 mmag off the truth, stated to 2."""
    survey = Galaxy(seed=1, n_stars=60, n_side=3)
    images = []
    for i, m in enumerate(survey.measurements):
        off = np.float32(np.exp(0.05 * (-1) ** i))
        images.append(replace(m, stars=replace(m.stars, flux=off * m.stars.flux, flux_wide=off * m.stars.flux_wide)))
    found = match(images, survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=survey.camera))
    error = np.log([s.gain[0] for s in found.scales]) - np.log(survey.gain)
    error -= np.median(error)
    assert np.max(np.abs(error)) < 0.001
    assert np.max(np.abs(error / [s.gain_error[0] for s in found.scales])) < 4
    assert "match.stars-disagree" in [told.code for told in found.notices]


def draw_galaxy() -> np.ndarray:
    """A bright disc, (620, 800), with a star of 50 000 on its flank at x 400, y 310, and 60 others."""
    rng, fwhm = np.random.default_rng(1), 3.0
    y, x = np.mgrid[:620, :800].astype(float)
    u, v = x - 374, y - 354
    light = 1000 + 1500 * np.exp(-np.hypot(0.8 * u + 0.6 * v, (0.8 * v - 0.6 * u) / 0.35) / 233)
    places = [(400.0, 310.0), *rng.uniform(0, (800, 620), (60, 2))]
    for (sx, sy), flux in zip(places, [5e4, *rng.uniform(4e3, 4e4, 60)], strict=True):
        light += (
            flux * np.exp(-4 * np.log(2) * ((x - sx) ** 2 + (y - sy) ** 2) / fwhm**2) * np.log(16) / np.pi / fwhm**2
        )
    return light + rng.normal(0, 7, light.shape)


def test_a_star_on_a_galaxy_is_as_bright_in_every_frame():
    """Its ring left out what stood out of one frame's sky, half of it in the first: 17 % of the star's light."""
    galaxy, seen = draw_galaxy().astype(np.float32), []
    for x0, y0 in ((250, 87), (250, 30)):
        image = galaxy[None, y0 : y0 + 300, x0 : x0 + 400]
        stars = measure_frame(image, np.ones_like(image), MeasureSettings()).stars
        nearest = np.argmin(np.hypot(stars.x - (400 - x0), stars.y - (310 - y0)))
        seen.append(stars.flux[0, nearest] / 5e4)
    assert seen[0] == pytest.approx(seen[1], rel=0.003)
    assert seen == pytest.approx([1, 1], rel=0.02)


def cut_filaments() -> tuple[list[Measurements], list[CelestialWcs], SkyGrid, np.ndarray]:
    """Four frames of 512 px that overlap by a quarter, on filaments 70 px apart; their true ln gains."""
    rng, place = np.random.default_rng(1), tan_place((900, 900), 83.0, -5.0, 2.0)
    y, x = np.mgrid[:900, :900].astype(float)
    sky = 3000 + 1500 * np.sin(x / 23 + 2 * np.sin(y / 41)) * np.sin(y / 31 + 2 * np.sin(x / 37))
    log_gain, measured, places = rng.uniform(-0.2, 0.2, 4), [], []
    for k, box in enumerate(Box(y0, y0 + 512, x0, x0 + 512) for y0 in (0, 381) for x0 in (0, 387)):
        image = np.exp(log_gain[k]) * (sky[box.slices] + rng.normal(0, 4, box.shape)) + rng.normal(0, 10)
        image = image[None].astype(np.float32)
        measured.append(measure_frame(image, np.ones_like(image), MeasureSettings()))
        places.append(place.cut(box))
    return measured, places, SkyGrid(place), log_gain


def test_blocks_follow_filaments():
    """Blocks as wide as on a plain sky left 4 mmag between frames that share no star."""
    measured, places, grid, log_gain = cut_filaments()
    found = match(measured, places, grid, MatchSettings(), ImageFacts(cameras=["one"] * 4))
    assert np.ptp(np.log([s.gain[0] for s in found.scales]) - log_gain) < 0.002
    assert [m.fine.size_px / m.blocks.size_px for m in measured] == [0.5] * 4


def test_a_plain_sky_has_no_fine_blocks():
    """They would take the match four times as long."""
    image = np.random.default_rng(1).normal(1000, 5, (1, 512, 512)).astype(np.float32)
    assert measure_frame(image, np.ones_like(image), MeasureSettings()).fine is None
