"""Robust means of small blocks of pixels. Serial, nogil."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.measure.mesh import largest_block
from zemosaic.kernels.select import select_with

__all__ = ["MeanRule", "Means", "block_means"]

F4 = npt.NDArray[np.float32]

_ENOUGH = 128
"""Values that are enough to place a clip; selecting among all of a large block's would cost most of the time."""


_STRIDE = 8
"""Pixels of a row that are looked at together: pieces of rows are too short for longer vectors."""


class MeanRule(NamedTuple):
    """How `block_means` takes the value of a block.

    Attributes
    ----------
    kappa : float
        Clip about the block's median, in robust sigma.
    quantile, shift, spread : float
        Quantile to take (0: the clipped mean), what to subtract from it, and its error times the root of the number
        of pixels: data cut off at a floor have a biased mean.
    least : int
        Blocks of fewer good pixels have error inf.
    """

    kappa: float
    quantile: float
    shift: float
    spread: float
    least: int


class Means(NamedTuple):
    """What `block_means` finds in each block: value, error, mean position of its good pixels; shape (ny, nx)."""

    mean: F4
    error: F4
    x: F4
    y: F4


class _Room(NamedTuple):
    """Arrays of one axis to work in: a block's values, some of them, and those as keys; partial sums of values and of
    their squares."""

    values: F4
    some: F4
    keys: npt.NDArray[np.int32]
    sums: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]


@kernel
def block_means(data, bad, edges, rule, out):
    """Clipped mean of each block, its error, and the mean position of its good pixels.

    Parameters
    ----------
    data : float32 (h, w); bad : uint8 (h, w), 0 where a pixel counts
    edges : BlockEdges
    rule : MeanRule
    out : Means, output
    """
    y_edges, x_edges = edges
    mean, error, xs, ys = out
    ny, nx = mean.shape
    largest = largest_block(edges)
    # Room for three more, where four are looked at at once. One array each: rows of one array may have gaps between
    # their numbers for all the compiler knows.
    values, some = np.empty(largest + 3, np.float32), np.empty(largest, np.float32)
    room = _Room(values, some, np.empty(largest, np.int32), np.empty(largest), np.empty(largest))
    bad_columns = np.empty(data.shape[1], np.uint8)
    for j in range(ny):
        rows = y_edges[j], y_edges[j + 1]
        _find_bad_columns(bad, rows[0], rows[1], bad_columns)
        for i in range(nx):
            columns = x_edges[i], x_edges[i + 1]
            if _has_any(bad_columns, x_edges[i], x_edges[i + 1]):
                n, sx, sy = _take_good(data, bad, rows, columns, values)
            else:
                n, sx, sy = _take_all(data, rows, columns, values)
            if n < rule.least or n < 8:
                mean[j, i], error[j, i] = 0.0, np.inf
                xs[j, i], ys[j, i] = 0.5 * (x_edges[i] + x_edges[i + 1] - 1), 0.5 * (y_edges[j] + y_edges[j + 1] - 1)
                continue
            xs[j, i], ys[j, i] = sx / n, sy / n
            if rule.quantile > 0:
                mean[j, i] = select_with(room.keys, values, n, int(rule.quantile * n)) - rule.shift
                error[j, i] = rule.spread / math.sqrt(n)
            else:
                mean[j, i], error[j, i] = _clipped_mean(room, n, rule.kappa)


@leaf
def _find_bad_columns(bad, y0, y1, out):
    """Where columns hold a bad pixel in rows from `y0` to before `y1`: not 0."""
    out[:] = 0
    for y in range(y0, y1):
        for x in range(out.size):
            out[x] |= bad[y, x]


@leaf
def _has_any(marks, x0, x1):
    found = np.uint8(0)
    for x in range(x0, x1):
        found |= marks[x]
    return found != 0


@leaf
def _take_all(data, rows, columns, values):
    """Copy a block whose pixels are all good; returns as `_take_good`, for all rows.

    A few columns at a time: rows of a block are too short for other vectors.
    """
    (y0, y1), (x0, x1), n = rows, columns, 0
    width = x1 - x0
    last = x0 + width // _STRIDE * _STRIDE
    for y in range(y0, y1):
        for x in range(x0, last, _STRIDE):
            for k in range(_STRIDE):
                values[n + x - x0 + k] = data[y, x + k]
        for x in range(last, x1):
            values[n + x - x0] = data[y, x]
        n += width
    return n, n * (x0 + x1 - 1) // 2, n * (y0 + y1 - 1) // 2


@leaf
def _take_good(data, bad, rows, columns, values):
    """Copy the good pixels of a block to `values`; returns how many they are, and the sums of their columns and rows.

    Whole arrays are handed in: a view of each row costs more than what is done to it.
    """
    (y0, y1), (x0, x1), n, of_x, of_y = rows, columns, 0, 0, 0
    for y in range(y0, y1):
        before = n
        for x in range(x0, x1):
            # Without a branch, which stars and defects would make a guess: a bad pixel is overwritten.
            values[n] = data[y, x]
            good = np.int64(bad[y, x] == 0)
            n += good
            of_x += good * x
        of_y += (n - before) * y
    return n, of_x, of_y


@leaf
def _clipped_mean(room, n, kappa):
    """Mean and error of the first n values within kappa sigma of the median."""
    step = max(n // _ENOUGH, 1)
    m = 0
    for k in range(0, n, step):
        room.some[m] = room.values[k]
        m += 1
    median = float(select_with(room.keys, room.some, m, m // 2))
    for k in range(m):
        room.some[k] = abs(room.some[k] - median)
    sigma = 1.4826 * float(select_with(room.keys, room.some, m, m // 2)) + 1e-30
    centre = median
    for _ in range(2):
        shift, squares, count = _moments_within(room, n, median, centre - kappa * sigma, centre + kappa * sigma)
        if count < 8:
            return median, 1.2533 * sigma / math.sqrt(n)
        centre = median + shift
        sigma = math.sqrt(max(squares - shift * shift, 1e-30))
    return centre, sigma / math.sqrt(count)


@leaf
def _moments_within(room, n, origin, low, high):
    """Mean and mean square about `origin`, and count, of the first n values from `low` to `high`."""
    values, sums, squares = room.values, room.sums, room.squares
    quarter, count = (n + 3) // 4, np.int32(0)
    for k in range(n, 4 * quarter):
        values[k] = np.nan  # which lies nowhere
    # Four values to a place, then one half of the places onto the other: sums in an order that vectors keep.
    for k in range(quarter):
        total, square = 0.0, 0.0
        for part_of in range(4):
            value = values[k + part_of * quarter]
            is_within = (low <= value) & (value <= high)
            away = value - origin if is_within else 0.0
            total += away
            square += away * away
            count = np.int32(count + np.int32(is_within))
        sums[k], squares[k] = total, square
    m = quarter
    while m > 1:
        half = (m + 1) // 2
        for k in range(m - half):
            sums[k] += sums[half + k]
            squares[k] += squares[half + k]
        m = half
    return (sums[0] / count, squares[0] / count, np.int64(count)) if count > 0 else (0.0, 0.0, 0)
