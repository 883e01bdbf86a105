"""Cells of 2 x 2 raw samples as pixels of three colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel

__all__ = ["Cell", "bin_cells"]

Floats = npt.NDArray[np.float32]
Place = tuple[int, int]


class Cell(NamedTuple):
    """Where the colours lie in a cell of 2 x 2 samples: (y, x) of each."""

    red: Place
    green: Place
    other_green: Place
    blue: Place


@kernel
def bin_cells(
    raw: Floats,
    weight: Floats,
    cell: Cell,
    saturation: float,
    data: Floats,
    out_weight: Floats,
) -> None:
    """Fill `data` with four times the mean sample of each colour in each cell.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
        A raw plane from its first pixel, and its relative inverse variance.
    cell : Cell
    saturation : float
        A green sample from this level on lifts its cell's green to four times the level at least.
    data, out_weight : ndarray, float32, shape (3, h // 2, w // 2)
        Filled; 0 where no sample of the colour has weight. The weight is the relative inverse variance of the mean,
        1 where all samples have 1.
    """
    (ay, ax), (by, bx) = cell.green, cell.other_green
    for j in range(data.shape[1]):
        for k, (dy, dx) in ((0, cell.red), (2, cell.blue)):
            row, row_weight = raw[2 * j + dy], weight[2 * j + dy]
            for i in range(data.shape[2]):
                m = row_weight[2 * i + dx]
                data[k, j, i] = np.float32(4) * row[2 * i + dx] if m > 0 else np.float32(0)
                out_weight[k, j, i] = m if m > 0 else np.float32(0)
        for i in range(data.shape[2]):
            a, m = raw[2 * j + ay, 2 * i + ax], weight[2 * j + ay, 2 * i + ax]
            b, n = raw[2 * j + by, 2 * i + bx], weight[2 * j + by, 2 * i + bx]
            value, merged = np.float32(0), np.float32(0)
            if m > 0 and n > 0:
                # Variance of the mean of two: (1 / m + 1 / n) / 4 against 1 / 2 for two plain samples.
                value, merged = np.float32(2) * (a + b), np.float32(2) * m * n / (m + n)
            elif m > 0:
                value, merged = np.float32(4) * a, np.float32(0.5) * m
            elif n > 0:
                value, merged = np.float32(4) * b, np.float32(0.5) * n
            if (m > 0 and a >= saturation) or (n > 0 and b >= saturation):
                value = max(value, np.float32(4 * saturation))
            data[1, j, i], out_weight[1, j, i] = value, merged
