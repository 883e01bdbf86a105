"""Stars wider than their image: what repeats from image to image is taken, what follows the place in images is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from cases.simulated_measurements import Survey
from zemosaic.model.measurements import Measurements
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.match import ImageFacts, match
from zemosaic.stages.match.star_ties import StarTies, find_star_ties

F8 = npt.NDArray[np.float64]
Width = Callable[[F8, F8, F8, F8], F8]
"""Of a star over 2.7 px, from its x and y on the grid (-1 to 1) and in its image (-1 to 1)."""

LOSS = 0.06
"""ln of total over measured flux of a star whose width the aperture follows."""


def seen_with(survey: Survey, true: Width, shown: Width | None = None, noise: float = 0.02) -> list[Measurements]:
    """The survey's measurements under a PSF of a `true` width, of which `shown` is measured; apertures follow it."""
    rng, out = np.random.default_rng(survey.seed), []
    half = survey.grid.shape[0] / 2
    for m, wcs in zip(survey.measurements, survey.wcs, strict=True):
        x, y = survey.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(m.stars.x, m.stars.y))
        at = x / half - 1, y / half - 1, 2 * m.stars.x / m.shape[1] - 1, 2 * m.stars.y / m.shape[0] - 1
        measured = 2.7 * (shown or true)(*at) * np.exp(rng.normal(0, noise, len(x)))
        typical = float(np.median(measured))
        lost = LOSS * (2.7 * true(*at) / typical) ** 3
        stars = replace(
            m.stars, flux=m.stars.flux * np.exp(-lost).astype(np.float32), flux_wide=m.stars.flux,
            fwhm_px=measured.astype(np.float32),
        )  # fmt: skip
        out.append(replace(m, stars=stars, fwhm_px=typical))
    return out


def in_bands(x: F8, _y: F8, _u: F8, _v: F8) -> F8:
    return np.where(np.abs(x) < 0.15, 1.0, 1.08)


def everywhere(x: F8, _y: F8, _u: F8, _v: F8) -> F8:
    return np.ones_like(x)


def wide_in_corners(_x: F8, _y: F8, u: F8, v: F8) -> F8:
    return 1 + 0.1 * (u**2 + v**2)


def worst_gain(survey: Survey, measured: list[Measurements]) -> float:
    found = match(measured, survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=survey.camera))
    return float(np.max(np.abs(survey.log_gain_error(found))))


def ties_of(survey: Survey, measured: list[Measurements]) -> StarTies:
    return find_star_ties(measured, survey.wcs, survey.grid, np.zeros(len(measured), np.int64))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_psf_that_changes_over_the_sky_moves_no_gain(seed):
    """Typical widths are those of most stars: where images share the others, gains went astray."""
    survey = Survey(seed=seed, nebula=0.0)
    measured = seen_with(survey, in_bands)
    assert worst_gain(survey, measured) < 0.002
    # Apertures of two sizes lose up to 1.5 % more of the same stars.
    hidden = [replace(m, stars=replace(m.stars, fwhm_px=np.full_like(m.stars.fwhm_px, np.nan))) for m in measured]
    assert worst_gain(survey, hidden) > 0.003


@pytest.mark.parametrize("seed", [1, 2])
def test_widths_that_follow_the_place_in_the_image_are_not_believed(seed):
    """A bent background makes stars look wide in the corners, and no star of them loses more there."""
    survey = Survey(seed=seed, nebula=0.0)
    measured = seen_with(survey, everywhere, wide_in_corners)
    plain = seen_with(survey, everywhere, lambda *at: np.full_like(at[0], np.median(wide_in_corners(*at))))
    np.testing.assert_allclose(ties_of(survey, measured).flux, ties_of(survey, plain).flux, rtol=0.004)
    assert worst_gain(survey, measured) < 0.004


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_of_widths_moves_no_gain(seed):
    survey = Survey(seed=seed, nebula=0.0)
    assert worst_gain(survey, seen_with(survey, everywhere, noise=0.05)) < 0.002


def test_images_whose_apertures_suit_are_left_alone():
    survey = Survey(seed=3, nebula=0.0)
    measured = seen_with(survey, everywhere)
    plain = [replace(m, stars=replace(m.stars, fwhm_px=np.full_like(m.stars.fwhm_px, m.fwhm_px))) for m in measured]
    assert np.array_equal(ties_of(survey, measured).flux, ties_of(survey, plain).flux)
