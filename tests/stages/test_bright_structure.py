"""Gains on bright structure: knots that pass for stars, and a sky that tells some images' gains and not others'."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cases.simulated_measurements import SHAPE, Survey
from zemosaic.model.measurements import Measurements
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.match import ImageFacts, match


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
        out.append(replace(m, fwhm_px=width, stars=replace(m.stars, flux=flux, flux_wide=1.02 * added * flux)))
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
    for seed in (1, 2, 3):
        survey = Galaxy(seed=seed, n_stars=60, n_side=5)
        found = match(survey.measurements, survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=survey.camera))
        error = np.log([s.gain[0] for s in found.scales]) - np.log(survey.gain)
        stated = np.array([s.gain_error[0] for s in found.scales])
        error -= np.median(error[stated < 2 * np.min(stated)])
        assert np.max(stated) > 10 * np.min(stated)
        pulls.append(error / stated)
    assert np.max(np.abs(pulls)) < 4
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.3
