"""Area-weighting kernels: exact overlap of output pixels with frame pixels, or with drops shrunk from them.

Both gather: an output pixel's outline is carried to the frame, where it is a quadrilateral, and cut against the
pixels (or drops) that it covers. What a scatter of drops onto the output adds up piece by piece is the same sum.
"""

from __future__ import annotations

import math

import numpy as np

from zemosaic.kernels.compiled import kernel, part
from zemosaic.kernels.resample.lattice import (
    FLAG_SATURATED,
    Correction,
    find_ends,
    find_row,
    interpolate_row,
    mark_row,
    store_row,
)
from zemosaic.kernels.resample.window import Output, Window, prepare

__all__ = ["MIN_USED", "resample_polygon"]

MIN_USED = 0.5
"""Area kernel: least share of an output pixel that must lie on pixels with weight."""

_TINY = 1e-6  # overlap, as a share of the outline, below which a drop is touched by rounding only


def resample_polygon(window: Window, out: Output, pixfrac: float | None = None) -> None:
    """Resample a window of a frame by area, or by drizzling.

    Parameters
    ----------
    window : Window
        The frame's pixels and their place.
    out : Output
        Filled.
    pixfrac : float or None
        None: the area kernel. A value is the mean of the pixels under the output pixel's outline, weighted by
        overlap; flux is conserved to the accuracy of the lattice. Weights only say which pixels count; the result
        has weight 0 where less than `MIN_USED` of the outline lies on pixels with weight.
        In (0, 1]: drizzle (Fruchter & Hook 2002, PASP 114, 144). Each pixel is shrunk to a drop of this side; a
        value is the mean of the drops under the outline, weighted by overlap times weight. Output pixels that no
        drop reaches have weight 0.

    Notes
    -----
    The relative weight m is the sum of overlap times weight over the area of the outline (drizzle: times
    ``pixfrac^2``, so that m averages to 1 on plain pixels). Saturation is flagged where a saturated pixel (or its drop)
    lies under the outline. The outline's corners come from the pixel's own lattice cell: neighbours in different
    cells may disagree about a common corner by as much as the lattice bends there, far below its error.

    Raises
    ------
    ValueError
        When `pixfrac` is out of range, shapes do not fit or the nodes do not cover the pixels.
    """
    if pixfrac is not None and not 0 < pixfrac <= 1:
        raise ValueError(f"pixfrac must be in (0, 1], got {pixfrac}")
    plain, rows, target = prepare(window, out)
    _resample(plain, rows, target, pixfrac if pixfrac is not None else 1.0, pixfrac is not None)


@kernel
def _resample(place, rows, target, side, is_drizzle):  # type: ignore[no-untyped-def]
    data, nodes_xy, origin, step, start = place.data, place.nodes_xy, place.origin, place.step, place.start
    out_values, out_weights, out_alpha = rows
    n_channels = data.shape[0]
    y0, y1, x0, x1 = target
    n = x1 - x0
    scale, offset = np.empty(n), np.empty(n)
    samples, relative = np.empty((n_channels, n), np.float32), np.empty((n_channels, n), np.float32)
    flags = np.empty(n, np.uint8)
    corners, sums = np.zeros((3, 5)), np.empty((3, n_channels))
    for row in range(y1 - y0):
        out_y, node_y = y0 + row, start[0] + row
        codes = place.codes[row]
        begin, end = find_ends(codes)
        for i in range(begin, end):
            flags[i] = 0
            if codes[i]:
                area = _outline(nodes_xy, step, node_y, start[1] + i, origin, corners)
                flags[i] = _add_pixels(data, place.weight, place.saturation, corners, side, is_drizzle, sums)
                _finish(sums, area, side, is_drizzle, i, samples, relative)
        a, b = find_row(out_alpha, 0, out_y, x0, x1)
        alpha = out_alpha[0][a:b]
        alpha[:] = 0
        for k in range(n_channels):
            interpolate_row(place.nodes_scale[k], step, node_y, start[1], scale)
            interpolate_row(place.nodes_offset[k], step, node_y, start[1], offset)
            correction = Correction(scale, offset, place.inverse_variance[k])
            (a, b), (c, d) = find_row(out_values, k, out_y, x0, x1), find_row(out_weights, k, out_y, x0, x1)
            weights = out_weights[0][c:d]
            store_row(samples[k], relative[k], codes, correction, out_values[0][a:b], weights)
            mark_row(weights, codes, flags, alpha)


@part
def _outline(nodes_xy, step, row, column, origin, corners):  # type: ignore[no-untyped-def]
    """Outline of an output pixel on the frame: rows x, y of its corners (closed, in window pixels), and of edge slopes.

    Returns the area inside, px^2.
    """
    gy, gx = row // step, column // step
    for i in range(5):
        # Round the square: (-, -), (+, -), (+, +), (-, +), and back.
        ty = (row - gy * step + (0.5 if 2 <= i <= 3 else -0.5)) / step
        tx = (column - gx * step + (0.5 if 1 <= i <= 2 else -0.5)) / step
        for axis in range(2):
            nodes = nodes_xy[axis]
            low = nodes[gy, gx] + (nodes[gy + 1, gx] - nodes[gy, gx]) * ty
            high = nodes[gy, gx + 1] + (nodes[gy + 1, gx + 1] - nodes[gy, gx + 1]) * ty
            corners[axis, i] = low + (high - low) * tx - origin[1 - axis]
    for i in range(4):
        dx = corners[0, i + 1] - corners[0, i]
        corners[2, i] = (corners[1, i + 1] - corners[1, i]) / dx if dx != 0 else 0.0
    width, height = corners[0, 2] - corners[0, 0], corners[1, 2] - corners[1, 0]
    across_x, across_y = corners[0, 3] - corners[0, 1], corners[1, 3] - corners[1, 1]
    return 0.5 * abs(width * across_y - height * across_x)


@part
def _add_pixels(data, weight, saturation, corners, side, is_drizzle, sums):  # type: ignore[no-untyped-def]
    """Sums, per channel, of overlap times weight times value, of what that is a mean over, and of overlap times weight.

    Returns the saturation flag.
    """
    c, h, w = data.shape
    sums[:] = 0
    flag = np.uint8(0)
    half = 0.5 * side
    low_x, high_x = _reach(corners, 0, half, w)
    low_y, high_y = _reach(corners, 1, half, h)
    for py in range(low_y, high_y + 1):
        for px in range(low_x, high_x + 1):
            overlap = _overlap(corners, px - half, py - half, side)
            if overlap < _TINY * side * side:
                continue
            for k in range(c):
                m = weight[min(k, weight.shape[0] - 1), py, px]
                if m > 0:
                    counts = overlap * m if is_drizzle else overlap
                    sums[0, k] += counts * data[k, py, px]
                    sums[1, k] += counts
                    sums[2, k] += overlap * m
                    if data[k, py, px] >= saturation:
                        flag = np.uint8(FLAG_SATURATED)
    return flag


@part
def _reach(corners, axis, half, size):  # type: ignore[no-untyped-def]
    """First and last pixel on an axis whose square the outline's bounding box touches."""
    low = high = corners[axis, 0]
    for i in range(1, 4):
        low, high = min(low, corners[axis, i]), max(high, corners[axis, i])
    return max(math.ceil(low - half), 0), min(math.floor(high + half), size - 1)


@part
def _finish(sums, area, side, is_drizzle, i, samples, relative):  # type: ignore[no-untyped-def]
    for k in range(samples.shape[0]):
        enough = sums[1, k] > 0 if is_drizzle else sums[1, k] >= MIN_USED * area
        samples[k, i] = sums[0, k] / sums[1, k] if enough else np.nan
        relative[k, i] = sums[2, k] / (area * side * side) if enough else 0


@part
def _overlap(corners, left, low, side):  # type: ignore[no-untyped-def]
    """Area that a quadrilateral shares with the square of `side` whose lower left corner is (left, low), px^2.

    Green's theorem: each edge adds the signed area between it and the square's lower side, with x and y cut to
    the square.
    """
    total = 0.0
    for i in range(4):
        xa, xb = corners[0, i] - left, corners[0, i + 1] - left
        cut_a, cut_b = min(max(xa, 0.0), side), min(max(xb, 0.0), side)
        if cut_a != cut_b:
            slope = corners[2, i]
            ya = corners[1, i] - low + slope * (cut_a - xa)
            total += (cut_b - cut_a) * _mean_cut(ya, ya + slope * (cut_b - cut_a), side)
    return abs(total)


@part
def _mean_cut(ya, yb, side):  # type: ignore[no-untyped-def]
    """Mean height of a straight line that runs from ya to yb, each height cut to [0, side]."""
    low, high = min(ya, yb), max(ya, yb)
    if high <= 0:
        return 0.0
    if low >= side:
        return side
    cut_low, cut_high = max(low, 0.0), min(high, side)
    inside = 0.5 * (cut_low + cut_high)
    if low >= 0 and high <= side:
        return inside
    return (inside * (cut_high - cut_low) + side * (high - cut_high)) / (high - low)
