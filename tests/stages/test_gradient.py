"""Gradients and small holes of pictures, with the truth known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from zemosaic.stages.picture.background import find_gradient
from zemosaic.stages.picture.holes import close_holes

SHAPE = (300, 400)
V, U = np.meshgrid(np.linspace(-1, 1, SHAPE[0]), np.linspace(-1, 1, SHAPE[1]), indexing="ij")
GRADIENT = 200 * (0.6 * U - 0.4 * V + 0.3 * U**2 + 0.2 * U * V - 0.15 * V**2)
ONE = np.ones(SHAPE, np.int32)


def nebula(peak: float, width: float, u: float = 0.2, v: float = -0.1) -> NDArray[np.float64]:
    return peak * np.exp(-((U - u) ** 2 + (V - v) ** 2) / 2 / width**2)


def sky(seed: int, *lights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Noise of 10, stars, and what else shines."""
    rng = np.random.default_rng(seed)
    data = 1000 + rng.normal(0, 10, SHAPE) + sum(lights)
    for y, x in rng.integers(3, SHAPE[0] - 3, (150, 2)):
        data[y - 1 : y + 2, x - 1 : x + 2] += rng.exponential(500)
    return data[None].astype(np.float32)


def taken_off(data: NDArray[np.float32], islands: NDArray[np.int32] = ONE) -> tuple[NDArray[np.float32], bool]:
    found = find_gradient(data, islands)
    return found.at(np.arange(SHAPE[0], dtype=float), np.arange(SHAPE[1], dtype=float))[0], found.is_sky


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_gradient_goes_and_a_nebula_stays(seed: int) -> None:
    cloud = nebula(300, 0.2)
    off, is_sky = taken_off(sky(seed, GRADIENT, cloud))
    assert is_sky
    dark = cloud < 6
    assert np.std((GRADIENT - off)[dark]) < 0.02 * np.std(GRADIENT)
    change = (off - GRADIENT) - np.mean((off - GRADIENT)[dark])
    bright = cloud > 15
    assert abs(change[bright].sum()) < 0.03 * cloud[bright].sum()


def test_without_a_gradient_next_to_nothing_goes() -> None:
    off, is_sky = taken_off(sky(4, nebula(300, 0.2)))
    assert is_sky
    assert np.std(off) < 1  # a tenth of the noise


@pytest.mark.parametrize("width", [0.5, 0.8])
def test_where_a_nebula_fills_the_picture_no_gradient_is_believed(width: float) -> None:
    assert not taken_off(sky(5, GRADIENT, nebula(500, width)))[1]
    assert not taken_off(sky(6, GRADIENT, nebula(300, width), nebula(300, width, -0.5, 0.4)))[1]


def test_islands_have_levels_of_their_own_and_one_gradient() -> None:
    islands = ONE.copy()
    islands[:, 190:200], islands[:, 200:] = 0, 2
    data = sky(7, GRADIENT, 5000.0 * (islands == 2))
    off, is_sky = taken_off(data, islands)
    assert is_sky
    assert np.std((GRADIENT - off)[islands == 1]) < 2
    assert np.std((GRADIENT - off)[islands == 2]) < 2


def test_too_little_sky_tells_nothing() -> None:
    assert not taken_off(sky(8), np.zeros(SHAPE, np.int32))[1]


def test_small_holes_are_closed_and_rims_stay() -> None:
    data = np.add.outer(np.arange(60.0), 2 * np.arange(80.0)).astype(np.float32)[None] + 100
    truth = data.copy()
    data[:, 20:24, 30:34] = np.nan
    data[:, :10] = np.nan
    closed, seen = close_holes(data)
    np.testing.assert_allclose(closed[:, 20:24, 30:34], truth[:, 20:24, 30:34], atol=3)
    assert seen[20:24, 30:34].all()
    assert not seen[:10].any()
    assert not closed[:, :10].any()
    known = np.isfinite(data)
    assert np.array_equal(closed[known], data[known])


def test_a_wide_hole_stays_open() -> None:
    data = np.ones((3, 100, 100), np.float32)
    data[:, 30:70, 30:70] = np.nan
    seen = close_holes(data)[1]
    assert not seen[50, 50]
    assert seen[:29].all()
