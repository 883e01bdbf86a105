"""Values in other units: measurements and the match see none of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import Survey
from zemosaic.model.photo_scale import surface_basis
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.match import ImageFacts, match
from zemosaic.stages.match.pedestal import find_pedestal
from zemosaic.stages.numeric.units import noise_unit, sample_noise


@pytest.mark.parametrize("factor", [1e-19, 1e-11, 1e9])
def test_the_match_of_any_unit_is_the_same(factor):
    survey = Survey(n_side=2)
    plain = match(survey.measurements, survey.wcs, survey.grid, MatchSettings(response_order=0))
    scaled = [m.times(factor) for m in survey.measurements]
    other = match(scaled, survey.wcs, survey.grid, MatchSettings(response_order=0))
    for a, b in zip(plain.scales, other.scales, strict=True):
        np.testing.assert_allclose(b.gain, a.gain, rtol=1e-5)
        np.testing.assert_allclose(b.surface / factor, a.surface, atol=0.005 * survey.measurements[0].noise[0])
        np.testing.assert_allclose(b.level_error / factor, a.level_error, rtol=1e-3)
    np.testing.assert_allclose(other.prior_sd / factor, plain.prior_sd, rtol=1e-3)
    assert other.seams_after[0].rms / factor == pytest.approx(plain.seams_after[0].rms, rel=1e-3)


def raised(measured, offset):
    """Measurements of the same image with a constant added to all of its values."""
    blocks = replace(measured.blocks, mean=measured.blocks.mean + np.float32(offset))
    return replace(measured, sky=measured.sky + offset, blocks=blocks)


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_added_to_all_values_is_given_back(seed):
    survey, settings, offset = Survey(seed=seed, n_side=3), MatchSettings(response_order=0), -1000.0
    plain = match(survey.measurements, survey.wcs, survey.grid, settings)
    other = match([raised(m, offset) for m in survey.measurements], survey.wcs, survey.grid, settings)
    shape = survey.wcs[0].shape
    terms = surface_basis(*(q.ravel() for q in np.meshgrid(*(np.linspace(0, n, 5) for n in shape[::-1]))), shape)
    changes = []
    for a, b in zip(plain.scales, other.scales, strict=True):
        np.testing.assert_allclose(b.gain, a.gain, rtol=1e-4)
        taken = (b.surface[0] - a.surface[0]) @ terms
        changes.append(taken - offset / b.gain[0] + offset)
    # Pixels differ in area by 1e-4, and an added value does not.
    assert np.abs(changes).max() < 0.05 * survey.measurements[0].noise[0]


def test_a_pedestal_is_found_whatever_is_added():
    rng = np.random.default_rng(1)
    log_gain = rng.normal(0, 0.1, 12)
    level = 1500 + rng.normal(0, 100, 12)
    found = find_pedestal(level, log_gain)
    assert found == pytest.approx(np.median(level), abs=200)
    assert find_pedestal(level - 4000, log_gain) == pytest.approx(found - 4000, abs=1e-6)
    level[3] = np.nan
    cloud = level.copy()
    cloud[0] += 50_000
    assert find_pedestal(cloud, log_gain) == pytest.approx(find_pedestal(level[1:], log_gain[1:]), abs=20)
    assert find_pedestal(np.full(3, np.nan), np.zeros(3)) == 0


def test_short_exposures_tell_pedestal_and_sky_apart():
    gain = np.array([1.0] * 5 + [1 / 30] * 5) * np.exp(np.random.default_rng(2).normal(0, 0.05, 10))
    assert find_pedestal(300 + 1200 * gain, np.log(gain)) == pytest.approx(300, abs=10)


def test_one_false_header_among_few_does_not_move_the_unit():
    """Gains of a hazy night scatter by 15 %: their scatter alone would believe a header of twice the exposure."""
    centres = ((0.0, 0.0), (0.01, -0.006), (-0.008, 0.004), (0.006, 0.007), (-0.004, -0.009), (0.0, 0.01))
    survey, settings = Survey(seed=1, centres=centres, gain_sd=0.15, n_stars=600), MatchSettings(response_order=0)
    true = match(survey.measurements, survey.wcs, survey.grid, settings, ImageFacts(gain_priors=np.ones(6)))
    false = match(survey.measurements, survey.wcs, survey.grid, settings, ImageFacts(gain_priors=[2, 1, 1, 1, 1, 1]))
    ratio = [b.gain[0] / a.gain[0] for a, b in zip(true.scales, false.scales, strict=True)]
    assert ratio == pytest.approx(np.ones(6), abs=0.05)


def test_a_unit_is_a_power_of_two_near_the_noise():
    assert [noise_unit(noise) for noise in (0.0, np.inf, 1e-6, 14.0, 1e6)] == [1.0] * 5
    for noise in (3e-19, 2e7):
        unit = noise_unit(noise)
        assert 0.5 < noise / unit < 2
        assert np.frexp(unit)[0] == 0.5


def test_the_noise_of_a_sample_is_of_samples_that_count():
    data = np.random.default_rng(1).normal(0, 3e-18, (1, 200, 300)).astype(np.float32)
    data[..., ::2] += np.float32(1e-15)  # the other colour of a Bayer plane
    data[..., :150] = 1e9
    weight = np.ones_like(data)
    weight[..., :150] = 0
    assert sample_noise(data, weight) == pytest.approx(3e-18, rel=0.1)
    assert sample_noise(data, np.zeros_like(weight)) == 0
