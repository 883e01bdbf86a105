"""A moonlit night does not bend the dark ones."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import SHAPE, Survey, without_trend
from zemosaic.model.photo_scale import surface_basis
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.match import ImageFacts, match
from zemosaic.stages.match.surface_priors import night_scales

NIGHTS = ["dark"] * 12 + ["moonlit"] * 4
MOONLIGHT = np.array([5000.0, 600, -450, 200, 150, -250])


def moonlit(seed):
    """A survey whose last row of frames saw the moon: a common gradient that grows by 15 % from frame to frame."""
    survey = Survey(seed=seed)
    for k in range(12, 16):
        m = survey.measurements[k]
        light = MOONLIGHT * (1 + 0.15 * (k - 12)) @ surface_basis(m.blocks.x, m.blocks.y, SHAPE)
        mean = m.blocks.mean + (survey.gain[k] * light).astype(np.float32)
        survey.measurements[k] = replace(m, blocks=replace(m.blocks, mean=mean))
    return survey


def solve(survey, nights):
    return match(
        survey.measurements, survey.wcs, survey.grid, MatchSettings(response_order=0), ImageFacts(nights=nights)
    )


def sky_rms(survey, found):
    """What is left of the sky's error but for its level, in the noise of a sample, where two dark frames reach."""
    dark = copy(survey)
    for name in ("wcs", "measurements", "gain", "surface", "camera"):
        setattr(dark, name, getattr(survey, name)[:12])
    x, y, error = dark.sky_error(replace(found, scales=found.scales[:12]))
    return np.std(without_trend(x, y, error, 0)) / survey.measurements[0].noise[0]


@pytest.mark.parametrize(("seed", "bound", "share"), [(1, 1.5, 1.0), (2, 1.0, 0.5), (3, 1.0, 0.5)])
def test_a_moonlit_night_does_not_bend_the_dark_ones(seed, bound, share):
    """In the first sky the nights hardly matter: what they share bends little of it."""
    survey = moonlit(seed)
    bent, right = (sky_rms(survey, solve(survey, nights)) for nights in (None, NIGHTS))
    assert right < bound
    assert right < share * bent


def test_widths_are_those_of_a_typical_night():
    found = solve(moonlit(1), NIGHTS)
    np.testing.assert_allclose(found.prior_sd[0], [250, 40, 7], rtol=0.6)


def test_equal_nights_change_nothing():
    survey = Survey(seed=1)
    one, two = (solve(survey, nights) for nights in (None, ["a", "b"] * 8))
    for a, b in zip(one.scales, two.scales, strict=True):
        np.testing.assert_allclose(b.surface, a.surface, atol=1e-6)


def test_scales_need_enough_coefficients_and_another_night():
    surfaces = np.ones((9, 3))
    surfaces[8] = 100
    night = np.array([0] * 8 + [1])
    np.testing.assert_array_equal(night_scales(surfaces, np.zeros(9, np.int64), 1), 1)
    np.testing.assert_array_equal(night_scales(surfaces, night, 1), 1)
    surfaces[5:] = 100
    night[5:] = 1
    np.testing.assert_allclose(night_scales(surfaces, night, 1)[5:], 100)
    np.testing.assert_array_equal(night_scales(surfaces, night, 1)[:5], 1)
