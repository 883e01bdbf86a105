"""Level and noise of small blocks, in one pass; sums of some of them. Serial, nogil."""

from __future__ import annotations

import math

import numpy as np

from zemosaic.kernels.compiled import kernel, part

__all__ = ["block_noise", "sum_bands"]

_OF_BEND = math.sqrt(math.pi / 12)
"""Sigma over the mean of |a - 2 b + c|, which is sigma sqrt(6) sqrt(2 / pi) for Gaussian noise."""


@kernel
def block_noise(data, have, edges, level, noise):
    """Mean of each block, and its noise from second differences in every other row, which know no slope.

    Columns two apart hold the same colour of a Bayer plane.

    Parameters
    ----------
    data : float32 (h, w); have : bool (h, w)
    edges : BlockEdges
    level, noise : float64 (ny, nx), output
        NaN where less than half of a block has data.
    """
    y_edges, x_edges = edges
    ny, nx = level.shape
    width = data.shape[1]
    # Rows of one array may have gaps between their numbers for all the compiler knows: one array each.
    total, bends = np.empty(width), np.empty(width)
    n, n_bends = np.empty(width, np.int32), np.empty(width, np.int32)
    for j in range(ny):
        total[:], bends[:], n[:], n_bends[:] = 0.0, 0.0, 0, 0
        # Down the columns first: loops along rows are vectorised.
        for y in range(y_edges[j], y_edges[j + 1]):
            _add_row(data[y], have[y], total, n)
            if y % 2 == 0 and width > 4:
                _add_bends(data[y], have[y], bends[2:-2], n_bends[2:-2])
        for i in range(nx):
            light, n_here, bent, n_bent = 0.0, 0, 0.0, 0
            for x in range(x_edges[i], x_edges[i + 1]):
                light += total[x]
                n_here += n[x]
                bent += bends[x]
                n_bent += n_bends[x]
            enough = 2 * n_here >= (y_edges[j + 1] - y_edges[j]) * (x_edges[i + 1] - x_edges[i])
            level[j, i] = light / n_here if enough else np.nan
            noise[j, i] = _OF_BEND * bent / n_bent if enough and n_bent > 0 else np.nan


@part
def _add_row(line, there, total, n):
    """Add samples that are there to the sums and numbers of their columns."""
    for x in range(len(line)):
        total[x] += line[x] if there[x] else np.float32(0)
        n[x] += there[x]


@part
def _add_bends(line, there, bends, n_bends):
    """Add second differences over two columns each, from the third column to the third last."""
    left, middle, right = line[:-4], line[2:-2], line[4:]
    has_left, has_middle, has_right = there[:-4], there[2:-2], there[4:]
    for x in range(len(bends)):
        is_whole = has_left[x] & has_middle[x] & has_right[x]
        bend = abs(left[x] - np.float32(2) * middle[x] + right[x])
        bends[x] += bend if is_whole else np.float32(0)
        n_bends[x] += is_whole


@kernel
def sum_bands(data, bad, side, step, total, count):
    """Sums over the good pixels of square blocks, in every `step`-th row of blocks, and how many these are.

    Parameters
    ----------
    data : float32 (h, w); bad : uint8 (h, w), 0 where a pixel counts
    side, step : int
    total : float64 (n_bands, n_cols), output
    count : int64 (n_bands, n_cols), output
    """
    n_bands, n_cols = total.shape
    width = n_cols * side
    light, n = np.empty(width), np.empty(width, np.int32)
    for band in range(n_bands):
        light[:], n[:] = 0.0, 0
        first = band * step * side
        for y in range(first, first + side):
            _add_good(data[y, :width], bad[y, :width], light, n)
        for i in range(n_cols):
            in_block, n_here = 0.0, 0
            for x in range(i * side, (i + 1) * side):
                in_block += light[x]
                n_here += n[x]
            total[band, i], count[band, i] = in_block, n_here


@part
def _add_good(line, bad, total, n):
    """Add good samples to the sums and numbers of their columns."""
    for x in range(len(line)):
        total[x] += line[x] if bad[x] == 0 else np.float32(0)
        n[x] += bad[x] == 0
