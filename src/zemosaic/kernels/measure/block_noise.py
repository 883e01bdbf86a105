"""Level and noise of small blocks, in one pass. Serial, nogil."""

from __future__ import annotations

import math

import numpy as np

from zemosaic.kernels.compiled import kernel

__all__ = ["block_noise"]

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
    for j in range(ny):
        for i in range(nx):
            total, n, bends, n_bends = 0.0, 0, 0.0, 0
            first, last = x_edges[i], x_edges[i + 1]
            for y in range(y_edges[j], y_edges[j + 1]):
                line, there = data[y], have[y]
                for x in range(first, last):
                    if there[x]:
                        total += line[x]
                        n += 1
                for x in range(max(first, 2), min(last, width - 2) if y % 2 == 0 else 0):
                    if there[x - 2] and there[x] and there[x + 2]:
                        bends += abs(line[x - 2] - np.float32(2) * line[x] + line[x + 2])
                        n_bends += 1
            enough = 2 * n >= (y_edges[j + 1] - y_edges[j]) * (last - first)
            level[j, i] = total / n if enough else np.nan
            noise[j, i] = _OF_BEND * bends / n_bends if enough and n_bends > 0 else np.nan
