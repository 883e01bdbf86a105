"""Sums over square blocks of pixels."""

from __future__ import annotations

import math

import numpy as np

from zemosaic.kernels.compiled import kernel

__all__ = ["sum_blocks"]


@kernel
def sum_blocks(data, factor, total, count):
    """Sums and numbers of the finite pixels of ``factor x factor`` blocks.

    Parameters
    ----------
    data : ndarray, float32, shape (c, h, w)
    factor : int
        Side of a block; the last blocks may be partial.
    total : ndarray, float64, shape (c, ceil(h / factor), ceil(w / factor))
        Written: the sums, 0 where there is no finite pixel.
    count : ndarray, int32, same shape
        Written: the numbers of finite pixels.
    """
    total[:] = 0
    count[:] = 0
    for k in range(data.shape[0]):
        for y in range(data.shape[1]):
            row, sums, numbers = data[k, y], total[k, y // factor], count[k, y // factor]
            for i in range(sums.size):
                for x in range(i * factor, min((i + 1) * factor, row.size)):
                    if math.isfinite(row[x]):
                        sums[i] += np.float64(row[x])
                        numbers[i] += 1
