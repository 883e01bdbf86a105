"""Cells of 2 x 2 raw samples as pixels of three colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf

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
    (ry, rx), (sy, sx) = cell.red, cell.blue
    for j in range(data.shape[1]):
        y = 2 * j
        _lift(raw[y + ry, rx:], weight[y + ry, rx:], data[0, j], out_weight[0, j])
        _lift(raw[y + sy, sx:], weight[y + sy, sx:], data[2, j], out_weight[2, j])
        green = raw[y + ay, ax:], weight[y + ay, ax:]
        other = raw[y + by, bx:], weight[y + by, bx:]
        _merge_values(green, other, saturation, data[1, j])
        _merge_weights(green[1], other[1], out_weight[1, j])


@leaf
def _lift(line, weight, out, out_weight):
    """Every other sample of a row as superpixels."""
    for i in range(out.size):
        is_given = weight[2 * i] > 0
        out[i] = np.float32(4) * line[2 * i] if is_given else np.float32(0)
        out_weight[i] = weight[2 * i] if is_given else np.float32(0)


@leaf
def _merge_values(one, other, saturation, out):
    """Every other sample of two rows as superpixels."""
    (first, first_weight), (second, second_weight) = one, other
    level = np.float32(4 * saturation)
    for i in range(out.size):
        a, b = first[2 * i], second[2 * i]
        has_a, has_b = first_weight[2 * i] > 0, second_weight[2 * i] > 0
        alone = np.float32(4) * a if has_a else (np.float32(4) * b if has_b else np.float32(0))
        value = np.float32(2) * (a + b) if has_a & has_b else alone
        is_saturated = (has_a & (a >= saturation)) | (has_b & (b >= saturation))
        out[i] = level if is_saturated & (value < level) else value


@leaf
def _merge_weights(first, second, out):
    """Weights of such superpixels."""
    for i in range(out.size):
        m, n = first[2 * i], second[2 * i]
        has_m, has_n = m > 0, n > 0
        alone = np.float32(0.5) * m if has_m else (np.float32(0.5) * n if has_n else np.float32(0))
        # Variance of the mean of two: (1 / m + 1 / n) / 4 against 1 / 2 for two plain samples.
        out[i] = np.float32(2) * m * n / (m + n) if has_m & has_n else alone
