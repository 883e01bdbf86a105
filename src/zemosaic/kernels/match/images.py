"""What the blocks of each image tell alone: medians, squares that they share, sums of products. Serial, nogil."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.match.background import fill_columns
from zemosaic.kernels.select import select_nth

__all__ = ["group_images", "image_medians", "list_squares", "sum_parts", "sum_products"]


@leaf
def _first_of(above, i):
    """The first image of i's group so far; the way there becomes shorter."""
    while above[i] != i:
        above[i] = above[above[i]]
        i = above[i]
    return i


@kernel
def group_images(start, things, n_things, group):
    """Number the groups of images that are tied by things in common; the group of the first image is 0, and so on.

    Parameters
    ----------
    start : int64 (n + 1,)
    things : int32 or int64
        Those of image i (nodes that it touches, stars that it shows) are ``things[start[i]:start[i + 1]]``.
    n_things : int
    group : int64 (n,), output
    """
    n, number = len(start) - 1, 0
    seen_by, above = np.full(n_things, -1, np.int64), np.arange(n)
    for i in range(n):
        for a in range(start[i], start[i + 1]):
            thing = things[a]
            if seen_by[thing] < 0:
                seen_by[thing] = i
                continue
            one, other = _first_of(above, i), _first_of(above, seen_by[thing])
            above[max(one, other)] = min(one, other)
    for i in range(n):
        first = _first_of(above, i)
        group[i] = group[first] if first < i else number
        number += first == i


@kernel
def image_medians(start, values, most, out):
    """Median of each image's values, NaN left out.

    Parameters
    ----------
    start : int64 (n + 1,)
    values : float32 (blocks,)
    most : int
        An even selection of about so many of an image's blocks is looked at.
    out : float64 (n,), output; NaN where an image has no value
    """
    room = np.empty(len(values), np.float32)
    for i in range(len(start) - 1):
        n, step = 0, max((start[i + 1] - start[i]) // most, 1)
        for b in range(start[i], start[i + 1], step):
            if not np.isnan(values[b]):
                room[n] = values[b]
                n += 1
        if n == 0:
            out[i] = np.nan
            continue
        out[i] = select_nth(room, n, (n - 1) // 2)
        if n % 2 == 0:
            out[i] = 0.5 * (out[i] + select_nth(room, n, n // 2))


@kernel
def list_squares(start, cell, error, n_nodes, out_start, square):
    """Number the squares between nodes in which each image has blocks, image after image; returns how many there are.

    Parameters
    ----------
    start : int64 (n + 1,); cell : int32 (blocks,)
    error : float32 (blocks,); 0 leaves a block out
    n_nodes : int
    out_start : int64 (n + 1,), output; those of image i are ``out_start[i]`` to ``out_start[i + 1]``
    square : int64 (blocks,), output; -1 for blocks that are left out
    """
    last_image, number = np.full(n_nodes, -1, np.int32), np.empty(n_nodes, np.int64)
    total = 0
    for i in range(len(start) - 1):
        out_start[i] = total
        for b in range(start[i], start[i + 1]):
            square[b] = -1
            if error[b] == 0.0:
                continue
            if last_image[cell[b]] != i:
                last_image[cell[b]], number[cell[b]] = i, total
                total += 1
            square[b] = number[cell[b]]
    out_start[-1] = total
    return total


@kernel
def sum_parts(blocks, weight, value, n_side, total, sums):
    """Weighted sums of a value over n_side x n_side parts of each image, and the summed weights.

    Parameters
    ----------
    blocks : PlacedBlocks
    weight, value : float32 (blocks,)
    n_side : int
    total, sums : float64 (n, n_side * n_side), output
    """
    start, u, v, sides = blocks.start, blocks.u, blocks.v, np.float32(n_side)
    total[:] = 0.0
    sums[:] = 0.0
    for i in range(len(start) - 1):
        for b in range(start[i], start[i + 1]):
            row = min(max(int((v[b] + np.float32(1)) / np.float32(2) * sides), 0), n_side - 1)
            column = min(max(int((u[b] + np.float32(1)) / np.float32(2) * sides), 0), n_side - 1)
            total[i, row * n_side + column] += weight[b]
            sums[i, row * n_side + column] += weight[b] * value[b]


@kernel
def sum_products(blocks, weight, residual, images, most, out, n_used):
    """Weighted sums of products of an image's columns with each other, over an even selection of its blocks.

    Parameters
    ----------
    blocks : PlacedBlocks
        Columns are the polynomial terms of its order, the extra column (0 where there is none), and the residual.
    weight, residual : float32 (blocks,)
    images : int64 (m,)
    most : int
        An even selection of about so many of an image's blocks is looked at.
    out : float64 (m, columns, columns), output
    n_used : int64 (m,), output
        Blocks of a weight above 0 among those.
    """
    start, _, _, _, u, v, extra, order, _ = blocks
    n_columns = out.shape[1]
    columns = np.empty(n_columns)
    sums = np.empty((n_columns, n_columns))
    for m in range(len(images)):
        i = images[m]
        sums[:] = 0.0
        n_used[m] = 0
        for b in range(start[i], start[i + 1], max((start[i + 1] - start[i]) // most, 1)):
            if weight[b] == 0.0:
                continue
            n_used[m] += 1
            fill_columns(float(u[b]), float(v[b]), order, float(extra[b]) if len(extra) > 0 else 0.0, columns[:-1])
            columns[-1] = residual[b]
            for p in range(n_columns):
                wp = weight[b] * columns[p]
                for q in range(p + 1):
                    sums[p, q] += wp * columns[q]
        for p in range(n_columns):
            for q in range(n_columns):
                out[m, p, q] = sums[max(p, q), min(p, q)]
