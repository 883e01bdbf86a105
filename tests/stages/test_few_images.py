"""Few images and thin overlaps: what they do not determine stays small, and is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import SCALE, SHAPE, Survey, without_trend
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.match import ImageFacts, match

WIDTH_DEG = SHAPE[1] * SCALE / 3600
ROW_OF_THREE = tuple((step * 0.95 * WIDTH_DEG, 0.002 * step) for step in (-1, 0, 1))
ONE_FIELD = ((0.0, 0.0), (0.01, -0.006), (-0.008, 0.004))


def solve(survey, **keywords):
    return match(survey.measurements, survey.wcs, survey.grid, MatchSettings(), ImageFacts(survey.camera, **keywords))


def noise_of(survey):
    return survey.measurements[0].noise[0]


def test_slopes_of_a_row_of_three_do_not_run_free():
    """Overlaps of 5 % tell hardly one slope: their width is that of ordinary frames, not a first guess.

    What is left after a cubic are curvatures that no overlap tells: of one row by chance more, of three rows less.
    """
    uneven = []
    for seed in (1, 2, 3):
        row = Survey(seed=seed, centres=ROW_OF_THREE)
        found = solve(row)
        x, y, error = row.sky_error(found, least_depth=1)
        uneven.append(np.std(without_trend(x, y, error, 3)) / noise_of(row))
        assert np.std(without_trend(x, y, error, 0)) < 6 * noise_of(row)
        slopes = np.array([s.surface[0, 1:3] for s in found.scales])
        assert np.abs(slopes).max() < 150
        assert 5 < found.prior_sd[0, 1] < 120
    assert np.sqrt(np.mean(np.square(uneven))) < 0.4


def test_what_overlaps_leave_open_is_told_with_its_size():
    found = solve(Survey(seed=2, centres=ROW_OF_THREE))
    told = [str(notice) for notice in found.notices if "held near 0" in str(notice)]
    assert len(told) == 1
    assert " of 3 image(s)" in told[0]
    assert f"{found.prior_sd[0, 1]:.3g} of slope" in told[0]


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frames_of_one_field_get_no_common_slope(n, seed):
    """Differences cannot tell it; a first guess of hundreds of ADU would let the sky's nebula decide it."""
    field = Survey(seed=seed, centres=ONE_FIELD[:n])
    found = solve(field)
    given, taken = np.mean(field.surface, axis=0)[1:3], np.mean([s.surface[0, 1:3] for s in found.scales], axis=0)
    assert np.abs(taken).max() < 60
    # What frames differ by is told by every pixel.
    own = np.array([s.surface[0, 1:3] for s in found.scales]) - taken
    np.testing.assert_allclose(own, np.array(field.surface)[:, 1:3] - given, atol=15)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_curved_sky_is_not_taken_for_a_curvature_of_all_frames(seed):
    """A bright nebula over one field: between nodes it bends, and surfaces that bend for it would fit better."""
    field = Survey(seed=seed, centres=tuple((0.01 * step, 0.007 * (step % 3)) for step in range(8)), nebula=600.0)
    found = solve(field)
    given, taken = np.mean(field.surface, axis=0)[3:], np.mean([s.surface[0, 3:6] for s in found.scales], axis=0)
    assert np.abs(taken).max() < 0.2
    x, y, error = field.sky_error(found)
    # What is left is what the frames really have in common, which no difference tells.
    assert np.std(without_trend(x, y, error, 1)) < 0.5 * np.abs(given).sum()


def test_few_images_that_differ_are_not_taken_for_equal():
    """Of two images the common level is as wide as its prior: that must not hide what they differ by."""
    two = Survey(seed=1, centres=ONE_FIELD[:2])
    found = solve(two)
    levels = np.array([s.surface[0, 0] for s in found.scales])
    assert np.abs(np.diff(levels))[0] > 50
    assert found.prior_sd[0, 0] > 0.3 * np.abs(np.diff(levels))[0]


def test_levels_far_apart_give_no_common_slope():
    """Short exposures beside long ones: on the mosaic's scale pedestals are thousands apart, and slopes are none."""
    centres = tuple((0.01 * step, 0.007 * (step % 3)) for step in range(8))
    mixed = Survey(seed=1, centres=centres, offset_sd=3000.0, slope_sd=0.0, curve_sd=0.0, nebula=20.0)
    found = solve(mixed)
    x, y, error = mixed.sky_error(found)
    assert np.std(without_trend(x, y, error, 0)) < 0.1 * noise_of(mixed)
    assert np.all(found.prior_sd[0, 1:] < 0.01 * found.prior_sd[0, 0])


@pytest.mark.parametrize("steps", [(0, 1), (-1, 0, 1)])
def test_errors_of_gains_of_few_images_are_honest(steps):
    """Stars state them about the mean of the images: taken as each image's own, pulls were 1.2 and 1.35 wide here."""
    pulls = []
    for seed in range(1, 25):
        row = Survey(seed=seed, centres=tuple((0.95 * k * WIDTH_DEG, 0.002 * k) for k in steps), nebula=20.0)
        found = solve(row)
        pulls.append(row.log_gain_error(found) / [s.gain_error[0] for s in found.scales])
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.12


def without_stars_at(measured, low, high):
    """Without the stars between two columns."""
    stars = measured.stars
    kept = (stars.x < low) | (stars.x > high)
    fields = {name: getattr(stars, name)[..., kept] for name in stars.__dataclass_fields__}
    return replace(measured, stars=replace(stars, **fields))


def test_groups_that_share_no_star_state_no_gains_to_each_other():
    """Two pairs of panels, no structure: each pair knows its own ratio, and nothing tells the ratio of the pairs."""
    centres = tuple((step * 0.8 * WIDTH_DEG, 0.0) for step in (-1.5, -0.5, 0.5, 1.5))
    row = Survey(seed=5, centres=centres, nebula=0.0, n_stars=3000)
    # East is at low columns: pairs are 0, 1 and 2, 3.
    parts = [
        row.measurements[0],
        without_stars_at(row.measurements[1], -1, 0.25 * SHAPE[1]),
        without_stars_at(row.measurements[2], 0.75 * SHAPE[1], SHAPE[1]),
        row.measurements[3],
    ]
    found = match(parts, row.wcs, row.grid, MatchSettings(response_order=0))
    error = np.array([s.gain_error[0] for s in found.scales])
    assert np.isfinite(error).sum() == np.isinf(error).sum() == 2
    assert any("2 of 4 image(s) share too few stars" in str(notice) for notice in found.notices)


def test_a_gain_that_nothing_determines_is_its_header_and_said_so():
    flat = Survey(seed=4, centres=ROW_OF_THREE, nebula=0.0, n_stars=1)
    priors = [0.9, 1.0, 1.1]
    found = solve(flat, gain_priors=priors)
    np.testing.assert_allclose([s.gain[0] for s in found.scales], priors, rtol=1e-6)
    assert all(np.isinf(s.gain_error[0]) and "gain is its prior" in s.note for s in found.scales)
    assert any("3 of 3 image(s) share too few stars" in str(notice) for notice in found.notices)
