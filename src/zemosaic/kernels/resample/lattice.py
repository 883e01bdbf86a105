"""Rows of output pixels: where they fall on a frame, how much their place counts, how they are stored.

Shared by all resampling kernels. A frame's coordinates and corrections are known at the nodes of a lattice of
square cells; between nodes they are bilinear. Every number of a pixel follows from its cell and its place in the
cell alone, so results do not depend on where a row was cut.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part

__all__ = [
    "ALPHA_FULL",
    "FLAG_SATURATED",
    "as_rows",
    "get_row",
    "interpolate_row",
    "mark_row",
    "positions_round",
    "store_row",
    "taper_row",
]

ALPHA_FULL = 127
"""The uint8 code of alpha = 1."""

FLAG_SATURATED = 128
"""Bit of the alpha plane that marks a saturated sample."""

_LARGEST = np.finfo(np.float32).max


@part
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


@part
def _count_inside(position, ends):  # type: ignore[no-untyped-def]
    """Positions from the first end to before the second; NaN is none of them."""
    low, high = ends
    n = np.int32(0)
    for i in range(position.size):
        n += np.int32((position[i] >= low) & (position[i] < high))
    return n


@part
def taper_row(x, y, window, box, taper_px, alpha):  # type: ignore[no-untyped-def]
    """Quantised taper of positions: 0 outside `window` and `box` (y0, y1, x0, x1), else 1 to 127.

    Alpha is ``s(dx) s(dy)``, with d the distance to the nearer edge of the box over `taper_px` and
    ``s(t) = t^2 (3 - 2 t)`` for t < 1, else 1: smooth at both ends, and smooth across the diagonals of
    the corners. Returns the half-open range of columns outside which all is 0.
    """
    y_low, y_high, x_low, x_high = box[0] - 0.5, box[1] - 0.5, box[2] - 0.5, box[3] - 0.5
    wy_low, wy_high = max(y_low, window[0] - 0.5), min(y_high, window[1] - 0.5)
    wx_low, wx_high = max(x_low, window[2] - 0.5), min(x_high, window[3] - 0.5)
    inner = (max(wy_low, y_low + taper_px), min(wy_high, y_high - taper_px))
    if _count_inside(y, inner) == x.size:
        inner = (max(wx_low, x_low + taper_px), min(wx_high, x_high - taper_px))
        if _count_inside(x, inner) == x.size:
            for i in range(x.size):
                alpha[i] = ALPHA_FULL
            return 0, x.size
    rate = 1 / taper_px if taper_px > 0 else 0.0
    full = 0.0 if taper_px > 0 else 1.0
    for i in range(x.size):
        ty = min(full + rate * min(y[i] - y_low, y_high - y[i]), 1.0)
        tx = min(full + rate * min(x[i] - x_low, x_high - x[i]), 1.0)
        smooth = ty * ty * (3 - 2 * ty) * (tx * tx * (3 - 2 * tx))
        # Written so that NaN fails; a position on the far edge belongs to the next pixel.
        inside = (y[i] >= wy_low) & (y[i] < wy_high) & (x[i] >= wx_low) & (x[i] < wx_high)
        alpha[i] = max(np.int32(smooth * ALPHA_FULL + 0.5), 1) if inside else 0
    begin, end = 0, x.size
    while begin < end and alpha[begin] == 0:
        begin += 1
    while end > begin and alpha[end - 1] == 0:
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


@part
def store_row(samples, relative, alpha, correction, values, weights):  # type: ignore[no-untyped-def]
    """Correct the samples of one channel and weigh them.

    ``value = scale * sample - offset`` and ``weight = alpha / 127 * relative * inverse_variance / scale^2``;
    both are 0 where alpha or the weight is 0 or a number is not finite (whatever `samples` and `relative` hold).

    Short loops, few arrays each: beyond a handful LLVM gives up proving that they do not overlap, and with that
    its vectors.
    """
    scale, offset, inverse_variance = correction
    unit = np.float32(inverse_variance / ALPHA_FULL)
    for i in range(alpha.size):
        s = np.float32(scale[i])
        weights[i] = np.float32(alpha[i]) * relative[i] * unit / (s * s)
    for i in range(alpha.size):
        values[i] = scale[i] * samples[i] - offset[i]
    for i in range(alpha.size):
        # Written so that NaN fails.
        good = (alpha[i] > 0) & (weights[i] > 0) & (weights[i] <= _LARGEST) & (abs(values[i]) <= _LARGEST)
        values[i] = values[i] if good else np.float32(0)
        weights[i] = weights[i] if good else np.float32(0)


@part
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


@part
def get_row(rows, channel, y, x0, x1):  # type: ignore[no-untyped-def]
    """Pixels ``x0 .. x1`` of a row of an output given by `as_rows`."""
    flat, channel_stride, row_stride = rows
    first = channel * channel_stride + y * row_stride
    return flat[first + x0 : first + x1]
