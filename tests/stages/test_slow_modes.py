"""What a dark sky says of the trends that overlaps tell badly."""

from __future__ import annotations

import numpy as np
import pytest

from zemosaic.model.photo_scale import surface_terms
from zemosaic.stages.gauge.slow_modes import SlowModes, trend_above

CUBIC = slice(6, 10)
NO_MISFITS = [np.zeros((1, 6))]


def modes_of(ny: int, nx: int) -> SlowModes:
    """Of one image with quadratic surfaces, whose first four coefficients are drawn for the cubics of the mosaic."""
    y, x = np.mgrid[:ny, :nx]
    terms = surface_terms(2 * x / (nx - 1) - 1, 2 * y / (ny - 1) - 1, 4)
    in_surfaces = np.zeros((1, 6, 15))
    in_surfaces[0, range(4), range(6, 10)] = 1
    covered, none = np.ones((ny, nx), bool), np.zeros((1, 6, 15))
    return SlowModes(terms, none, np.eye(15), np.eye(15), in_surfaces, np.array([0]), covered, 6, np.zeros(15))


def open_to(sd: float, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(0, sd, (12, 1, 6)))


def sky_of(modes: SlowModes, amplitudes: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.3, modes.covered.shape)
    return np.tensordot(amplitudes, modes.on_nodes[CUBIC], 1) + noise


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_dark_sky_has_no_trend_of_third_degree_where_overlaps_hardly_tell(seed):
    modes, amplitudes = modes_of(64, 64), np.random.default_rng(seed).normal(0, 2, 4)
    taken = trend_above(sky_of(modes, amplitudes, seed), modes, np.zeros((15, 15)), open_to(2.0, seed), NO_MISFITS)
    assert np.abs(taken[CUBIC] - amplitudes).max() < 0.5
    assert not taken[:6].any()
    assert not taken[10:].any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_overlaps_tell_well_is_left_to_them(seed):
    modes, amplitudes = modes_of(64, 64), np.random.default_rng(seed).normal(0, 2, 4)
    taken = trend_above(sky_of(modes, amplitudes, seed), modes, np.zeros((15, 15)), open_to(0.01, seed), NO_MISFITS)
    assert np.abs(taken).max() < 0.1


def test_what_follows_the_images_no_better_than_draws_say_is_open_too():
    """Misfits leave more open than draws: the dark sky counts."""
    modes, amplitudes = modes_of(64, 64), np.array([2.0, -1, 1, -2])
    draws = open_to(0.01, 1), open_to(2.0, 2)
    taken = trend_above(sky_of(modes, amplitudes, 1), modes, np.zeros((15, 15)), *draws)
    assert np.abs(taken[CUBIC] - amplitudes).max() < 0.5


def test_a_strip_tells_nothing():
    modes = modes_of(8, 64)
    sky = sky_of(modes, np.array([2.0, -1, 1, -2]), 1)
    assert not trend_above(sky, modes, np.zeros((15, 15)), open_to(2.0, 1), NO_MISFITS).any()
