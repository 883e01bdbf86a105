"""Rows of output pixels: where they fall on a frame, how much their place counts, how they are stored.

Shared by all resampling kernels. A frame's coordinates and corrections are known at the nodes of a lattice of
square cells; between nodes they are bilinear. Every number of a pixel follows from its cell and its place in the
cell alone, so results do not depend on where a row was cut.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = [
    "ALPHA_FULL",
    "FLAG_SATURATED",
    "Edges",
    "as_rows",
    "find_ends",
    "find_row",
    "find_taper",
    "interpolate_row",
    "mark_row",
    "positions_round",
    "store_row",
]

ALPHA_FULL = 127
"""The uint8 code of alpha = 1."""

FLAG_SATURATED = 128
"""Bit of the alpha plane that marks a saturated sample."""

_LARGEST = np.finfo(np.float32).max

_ROUNDING = 1e-6  # px, far above what interpolated positions are rounded by


@leaf
def interpolate_row(nodes, step, row, first, out):  # type: ignore[no-untyped-def]
    """Bilinear interpolation of `nodes` (2-D) along lattice row `row` at columns ``first .. first + out.size``.

    `row` and `first` count pixels from node (0, 0). A cell with a NaN corner gives NaN.
    """
    gy = row // step
    fy = (row - gy * step) / step
    gx = first // step
    inside = first - gx * step
    done = 0
    while done < out.size:
        left = nodes[gy, gx] + (nodes[gy + 1, gx] - nodes[gy, gx]) * fy
        right = nodes[gy, gx + 1] + (nodes[gy + 1, gx + 1] - nodes[gy, gx + 1]) * fy
        slope = (right - left) / step
        n = min(step - inside, out.size - done)
        cell = out[done : done + n]
        for j in range(n):
            cell[j] = left + slope * (inside + j)
        done += n
        gx += 1
        inside = 0


@kernel
def positions_round(xy, step, y0, y1, x0, x1):  # type: ignore[no-untyped-def]
    """Lowest and highest frame y and x of the pixels ``y0 <= y < y1``, ``x0 <= x < x1``, counted from node (0, 0).

    Bilinear coordinates are extreme at the corners of the pieces of cells that lie in the box. NaN is passed over;
    where all is NaN the lowest is above the highest.
    """
    _, ny, nx = xy.shape
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for k in range(ny):
        row = min(max(k * step, y0), y1 - 1)
        j = min(row // step, ny - 2)
        fy = (row - j * step) / step
        for m in range(nx):
            column = min(max(m * step, x0), x1 - 1)
            i = min(column // step, nx - 2)
            fx = (column - i * step) / step
            for axis in range(2):
                nodes = xy[axis]
                left = nodes[j, i] + (nodes[j + 1, i] - nodes[j, i]) * fy
                right = nodes[j, i + 1] + (nodes[j + 1, i + 1] - nodes[j, i + 1]) * fy
                at = left + (right - left) * fx
                low[axis] = at if at < low[axis] else low[axis]
                high[axis] = at if at > high[axis] else high[axis]
    return low[1], high[1], low[0], high[0]


class Edges(NamedTuple):
    """Where output pixels fall on a frame, and the edges within which the frame counts.

    Attributes
    ----------
    nodes_xy, step, start, box, taper_px
        As in `zemosaic.kernels.resample.window.Window`, whose ``taper_box`` is the box.
    window : tuple of int
        (y0, y1, x0, x1) of the pixels at hand.
    """

    nodes_xy: npt.NDArray[np.float64]
    step: int
    start: tuple[int, int]
    window: tuple[int, int, int, int]
    box: tuple[int, int, int, int]
    taper_px: float


@kernel
def find_taper(edges, codes):  # type: ignore[no-untyped-def]
    """Lower codes of `ALPHA_FULL` to the quantised taper of output pixels: 0 outside `window` and `box`, else 1 to 127.

    Alpha is ``s(dx) s(dy)``, with d the distance to the nearer edge of the box over `taper_px` and
    ``s(t) = t^2 (3 - 2 t)`` for t < 1, else 1: smooth at both ends, and smooth across the diagonals of
    the corners. Cells of the lattice whose corners are all well inside, or all beyond one edge, need no look at their
    pixels.
    """
    nodes_xy, step, start, window, box, taper_px = edges
    height, width = codes.shape
    x, y = np.empty(step), np.empty(step)
    reach = (
        (max(box[0], window[0]) - 0.5, min(box[1], window[1]) - 0.5),
        (max(box[2], window[2]) - 0.5, min(box[3], window[3]) - 0.5),
    )
    inner = (
        (max(reach[0][0], box[0] - 0.5 + taper_px), min(reach[0][1], box[1] - 0.5 - taper_px)),
        (max(reach[1][0], box[2] - 0.5 + taper_px), min(reach[1][1], box[3] - 0.5 - taper_px)),
    )
    for gy in range(start[0] // step, -(-(start[0] + height) // step)):
        y0, y1 = max(gy * step - start[0], 0), min((gy + 1) * step - start[0], height)
        for gx in range(start[1] // step, -(-(start[1] + width) // step)):
            x0, x1 = max(gx * step - start[1], 0), min((gx + 1) * step - start[1], width)
            across = _side_of(nodes_xy[0], gy, gx, reach[1], inner[1])
            along = _side_of(nodes_xy[1], gy, gx, reach[0], inner[0])
            if min(across, along) > 0:
                continue
            for row in range(y0, y1):
                run = codes[row, x0:x1]
                if min(across, along) < 0:
                    for i in range(run.size):
                        run[i] = 0
                    continue
                interpolate_row(nodes_xy[0], step, start[0] + row, start[1] + x0, x[: x1 - x0])
                interpolate_row(nodes_xy[1], step, start[0] + row, start[1] + x0, y[: x1 - x0])
                _taper_run(x, y, reach, box, taper_px, run)


@part
def _side_of(nodes, gy, gx, reach, inner):  # type: ignore[no-untyped-def]
    """1: the corners of a cell are within `inner`; -1: all are beyond one end of `reach`; 0: else, and for NaN."""
    n_inside, n_below, n_above = 0, 0, 0
    for j in range(gy, gy + 2):
        for i in range(gx, gx + 2):
            # Between the corners positions are as far out as they at most, but for rounding.
            n_inside += np.int64((nodes[j, i] > inner[0] + _ROUNDING) & (nodes[j, i] < inner[1] - _ROUNDING))
            n_below += np.int64(nodes[j, i] < reach[0] - _ROUNDING)
            n_above += np.int64(nodes[j, i] > reach[1] + _ROUNDING)
    if n_below == 4 or n_above == 4:
        return -1
    return 1 if n_inside == 4 else 0


@leaf
def _taper_run(x, y, reach, box, taper_px, codes):  # type: ignore[no-untyped-def]
    """`find_taper` of neighbouring pixels at given positions."""
    y_low, y_high, x_low, x_high = box[0] - 0.5, box[1] - 0.5, box[2] - 0.5, box[3] - 0.5
    (y_first, y_last), (x_first, x_last) = reach
    rate = 1 / taper_px if taper_px > 0 else 0.0
    full = 0.0 if taper_px > 0 else 1.0
    for i in range(codes.size):
        ty, tx = y[i] - y_low, x[i] - x_low
        ty = full + rate * (ty if ty < y_high - y[i] else y_high - y[i])
        tx = full + rate * (tx if tx < x_high - x[i] else x_high - x[i])
        ty, tx = ty if ty < 1 else 1.0, tx if tx < 1 else 1.0
        smooth = ty * ty * (3 - 2 * ty) * (tx * tx * (3 - 2 * tx))
        # Written so that NaN fails; a position on the far edge belongs to the next pixel.
        inside = (y[i] >= y_first) & (y[i] < y_last) & (x[i] >= x_first) & (x[i] < x_last)
        code = smooth * ALPHA_FULL + 0.5 if inside else 0.0
        codes[i] = np.uint8(np.int32(code if code >= 1 or not inside else 1.0))


@leaf
def find_ends(codes):  # type: ignore[no-untyped-def]
    """The half-open range of columns outside which all codes are 0."""
    begin, end = 0, codes.size
    while begin < end and codes[begin] == 0:
        begin += 1
    while end > begin and codes[end - 1] == 0:
        end -= 1
    return begin, end


class Correction(NamedTuple):
    """How the samples of a row and channel are corrected and weighed.

    Attributes
    ----------
    scale, offset : ndarray, float64, shape (n,)
        ``value = scale * sample - offset``.
    inverse_variance : float
        Of a raw sample of weight 1.
    """

    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    inverse_variance: float


@leaf
def store_row(samples, relative, alpha, correction, values, weights):  # type: ignore[no-untyped-def]
    """Correct the samples of one channel and weigh them.

    ``value = scale * sample - offset`` and ``weight = alpha / 127 * relative * inverse_variance / scale^2``;
    both are 0 where alpha or the weight is 0 or a number is not finite (whatever `samples` and `relative` hold).
    """
    scale, offset, inverse_variance = correction
    unit = np.float32(inverse_variance / ALPHA_FULL)
    for i in range(alpha.size):
        s = np.float32(scale[i])
        weight = np.float32(alpha[i]) * relative[i] * unit / (s * s)
        value = np.float32(scale[i] * samples[i] - offset[i])
        # Written so that NaN fails.
        good = (alpha[i] > 0) & (weight > 0) & (weight <= _LARGEST) & (abs(value) <= _LARGEST)
        values[i] = value if good else np.float32(0)
        weights[i] = weight if good else np.float32(0)


@leaf
def mark_row(weights, codes, flags, alpha):  # type: ignore[no-untyped-def]
    """Set alpha to its code and to the saturation bit of `flags` where a channel has weight; else leave it."""
    for i in range(alpha.size):
        code = codes[i] | (flags[i] & np.uint8(FLAG_SATURATED))
        alpha[i] = np.uint8(code) if weights[i] > 0 else alpha[i]


def as_rows(out: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int, int]:
    """An output as the memory it lies in, with the strides of channels and rows in elements.

    One compiled version then serves whole arrays and slices of a larger stack alike, and sees rows without gaps.

    Raises
    ------
    ValueError
        When pixels of a row are not neighbours in memory.
    """
    item = out.itemsize
    if (out.strides[2] != item and out.shape[2] > 1) or min(out.strides) < 0:
        raise ValueError(f"pixels of an output row must be neighbours in memory, got strides {out.strides}")
    n = 1 + sum((size - 1) * (stride // item) for size, stride in zip(out.shape, out.strides, strict=True))
    flat = np.lib.stride_tricks.as_strided(out, (n if out.size else 0,), (item,))
    return flat, out.strides[0] // item, out.strides[1] // item


@leaf
def find_row(rows, channel, y, x0, x1):  # type: ignore[no-untyped-def]
    """Where pixels ``x0 .. x1`` of a row lie in an output given by `as_rows`: from and to."""
    _, channel_stride, row_stride = rows
    first = channel * channel_stride + y * row_stride
    return first + x0, first + x1
