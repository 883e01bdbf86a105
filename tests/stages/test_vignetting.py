"""Steep vignetting under a bright sky: stars tell its quadratic, the sky what lies beyond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import SCALE, SHAPE, Survey, without_trend
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.match import ImageFacts, match


class Steep(Survey):
    """Forty per cent of the light lost in the corners, most of it near them."""

    def sky(self, x, y):
        return 4000.0 + super().sky(x, y)

    def response(self, x, y, shape):
        r2 = ((x / shape[1] - 0.52) ** 2 * shape[1] ** 2 + (y / shape[0] - 0.48) ** 2 * shape[0] ** 2) / (
            shape[0] ** 2 + shape[1] ** 2
        )
        return 1 - 0.4 * (4 * r2) ** 1.7


def solve(survey):
    return match(
        survey.measurements, survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=["one"] * len(survey.wcs))
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_steep_response_is_flattened_by_the_sky_itself(seed):
    survey = Steep(seed=seed)
    found = solve(survey)
    x, y, error = survey.sky_error(found)
    assert np.std(without_trend(x, y, error, 3)) < 0.4 * survey.measurements[0].noise[0]
    v, u = np.mgrid[0 : SHAPE[0] : 20, 0 : SHAPE[1] : 20].astype(float)
    ratio = np.log(found.scales[0].response_at(u, v, SHAPE)[0] / survey.response(u, v, SHAPE))
    # The quadratic is the stars' affair; what the sky adds is better than a hundredth.
    assert np.std(without_trend(u.ravel(), v.ravel(), ratio.ravel(), 2)) < 0.01


class Round(Steep):
    """Light falls off with the square of the distance from the middle, under more noise."""

    def response(self, x, y, shape):
        u, v = 2 * (x + 0.5) / shape[1] - 1, 2 * (y + 0.5) / shape[0] - 1
        return 1 - 0.2 * (u**2 + v**2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_a_first_solve_misses_of_a_response_later_ones_add(seed):
    """What a solve adds may lie below four errors: of ln F beyond the quadratic 3 to 4e-4 was left here."""
    rng = np.random.default_rng(seed)
    steps = np.stack(np.meshgrid([-0.75, 0.0, 0.75], [-0.375, 0.375], [0.0] * 3), axis=-1).reshape(-1, 3)[:, :2]
    places = steps * np.array(SHAPE[::-1]) * SCALE / 3600 + rng.normal(0, 0.005, steps.shape)
    survey = Round(seed=seed, centres=tuple((float(x), float(y)) for x, y in places), noise=2.0, n_stars=600)
    found = solve(survey)
    v, u = np.mgrid[0 : SHAPE[0] : 20, 0 : SHAPE[1] : 20].astype(float)
    ratio = np.log(found.scales[0].response_at(u, v, SHAPE)[0] / survey.response(u, v, SHAPE))
    assert np.std(without_trend(u.ravel(), v.ravel(), ratio.ravel(), 2)) < 0.0002


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bias_below_a_steep_response_bends_no_mosaic(seed):
    """A bias is not vignetted: over the response it is a bowl in every image. Of 17 noises most must go."""
    survey = Steep(seed=seed)
    skies = []
    for bias in (0, 400):
        raised = [
            replace(m, blocks=replace(m.blocks, mean=m.blocks.mean + np.float32(bias))) for m in survey.measurements
        ]
        found = match(raised, survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=["one"] * len(survey.wcs)))
        skies.append(found.sky[0])
    known = np.isfinite(skies[0])
    y, x = np.nonzero(known)
    assert np.std(without_trend(x, y, (skies[1] - skies[0])[known], 1)) < 10 * survey.measurements[0].noise[0]


def test_gains_hold_that_the_middle_of_a_fall_off_is_not_known() -> None:
    """Its light falls off about a point 4 % of half a side off the middle: gains tilt, and stars do not tell."""
    survey = Steep(seed=2)
    found = solve(survey)
    stated = np.array([scale.gain_error[0] for scale in found.scales])
    assert np.sqrt(np.mean((survey.log_gain_error(found) / stated) ** 2)) < 2
    assert stated.max() < 0.03
    assert "match.tilted-gains" in {notice.code for notice in found.notices}


def test_a_flat_camera_stays_flat():
    survey = Survey(seed=1)
    assert all(scale.response is None for scale in solve(survey).scales)


def test_a_response_that_few_stars_tell_bends_no_mosaic():
    """What all images share of its error looks like a curved sky: it counts once, not once for each image."""
    survey = Steep(seed=2, n_stars=300, nebula=20.0, slope_sd=80.0)
    x, y, error = survey.sky_error(solve(survey))
    assert np.std(without_trend(x, y, error, 1)) < survey.measurements[0].noise[0]
