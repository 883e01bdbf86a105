"""What images' blocks tell alone, against plain numpy."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.match.images import image_medians, list_squares, sum_products
from zemosaic.kernels.match.values import PlacedBlocks
from zemosaic.model.photo_scale import surface_terms

START = np.array([0, 7, 7, 30, 130])


def blocks_of(rng, order, extra):
    """Blocks of four images, one of them without any, on 5 x 4 nodes."""
    n = START[-1]
    cell = rng.choice([0, 1, 2, 5, 6, 11], n).astype(np.int32)
    fx, fy, u, v = rng.uniform(size=(4, n)).astype(np.float32)
    return PlacedBlocks(START, cell, fx, fy, 2 * u - 1, 2 * v - 1, extra, order, 5)


def test_medians_leave_out_nan_and_what_an_even_selection_skips():
    rng = np.random.default_rng(1)
    values = rng.normal(size=START[-1]).astype(np.float32)
    values[rng.uniform(size=len(values)) < 0.2] = np.nan
    parts = np.split(values, START[1:-1])
    out = np.empty(4)
    image_medians(START, values, 1000, out)
    np.testing.assert_allclose(out[[0, 2, 3]], [np.nanmedian(parts[i]) for i in (0, 2, 3)], rtol=1e-6)
    assert np.isnan(out[1])
    image_medians(START, values, 25, out)
    np.testing.assert_allclose(out[3], np.nanmedian(parts[3][::4]), rtol=1e-6)


def test_sums_of_products_are_those_of_a_design_matrix():
    rng = np.random.default_rng(2)
    extra, residual, weight = rng.uniform(size=(3, START[-1])).astype(np.float32)
    weight[::3] = 0
    placed = blocks_of(rng, 3, extra)
    images, sums, n_used = np.array([3, 1]), np.empty((2, 12, 12)), np.empty(2, np.int64)
    sum_products(placed, weight, residual, images, 50, sums, n_used)
    used = np.arange(30, 130, 2)
    design = np.vstack([surface_terms(placed.u[used], placed.v[used], 3), extra[used], residual[used]])
    np.testing.assert_allclose(sums[0], (design * weight[used]) @ design.T, rtol=1e-6)
    assert n_used.tolist() == [np.count_nonzero(weight[used]), 0]
    assert not sums[1].any()


def test_squares_are_those_in_which_an_image_has_a_value():
    rng = np.random.default_rng(3)
    cell = blocks_of(rng, 1, np.empty(0, np.float32)).cell
    error = np.where(rng.uniform(size=len(cell)) < 0.3, 0, 1).astype(np.float32)
    start, square = np.empty(5, np.int64), np.empty(len(cell), np.int64)
    n = list_squares(START, cell, error, 20, start, square)
    np.testing.assert_array_equal(square >= 0, error > 0)
    image = np.repeat(np.arange(4), np.diff(START))
    pairs = {(i, c) for i, c, e in zip(image, cell, error, strict=True) if e > 0}
    assert n == start[-1] == len(pairs)
    # Each square has blocks of one image and place, and lies among those of its image.
    for q in range(n):
        (found,) = set(zip(image[square == q], cell[square == q], strict=True))
        assert start[found[0]] <= q < start[found[0] + 1]
