"""Sampling where some of the pixels under a kernel are holes: pixels without weight, and all outside the window."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import leaf
from zemosaic.kernels.resample.lanczos import N_PHASES, WIDTH, dot4_left, dot6_left, dot8_left

__all__ = ["MAX_LOST", "bilinear", "bilinear_near_holes", "phase_of", "pixel_at", "sum_near_holes"]

MAX_LOST = 0.05
"""Largest share of a kernel's total |tap| that holes may take.

A lost tap shifts the value by at most its share times the difference between the missing pixel and the result.
At 5 % Lanczos-3 survives a hole in its outer rings (the second ring's largest share is 3.5 %) and not one among the
nearest four pixels (15.7 % at mid-pixel), so the pixel nearest to a position is never a hole.
"""


@leaf
def phase_of(fraction):  # type: ignore[no-untyped-def]
    """Row of the table for a fraction of a pixel."""
    return np.int32(fraction * N_PHASES + np.float32(0.5))


@leaf
def pixel_at(image, weight, shape, y, x):  # type: ignore[no-untyped-def]
    """A pixel of a plane of `shape` that lies in a row, 0 for holes."""
    inside = y >= 0 and x >= 0 and y < shape[0] and x < shape[1]
    at = np.uintp(y * shape[1] + x if inside else 0)
    return image[at] if inside and weight[at] > 0 else np.float32(0)


@leaf
def bilinear(a, b, c, d, fx, fy):  # type: ignore[no-untyped-def]
    """Between four pixels, a b above c d; exact at whole positions whatever the neighbours hold."""
    gx, gy = np.float32(1) - fx, np.float32(1) - fy
    return (a * gx + b * fx) * gy + (c * gx + d * fx) * fy


@leaf
def bilinear_near_holes(data, weight, shape, whole, fraction):  # type: ignore[no-untyped-def]
    """Between four pixels of which some may be holes; NaN where too much is lost.

    Data and weight lie in a row; position (whole pixel and fraction) are each y and x.
    """
    y, x = whole
    fy, fx = fraction
    lost = np.float32(0)
    for b in range(2):
        for a in range(2):
            if pixel_at(weight, weight, shape, y + b, x + a) == 0:
                lost += (fx if a else np.float32(1) - fx) * (fy if b else np.float32(1) - fy)
    if not lost <= MAX_LOST:
        return np.float32(np.nan)
    a, b = pixel_at(data, weight, shape, y, x), pixel_at(data, weight, shape, y, x + 1)
    c, d = pixel_at(data, weight, shape, y + 1, x), pixel_at(data, weight, shape, y + 1, x + 1)
    return bilinear(a, b, c, d, fx, fy) / (np.float32(1) - lost)


@leaf
def sum_near_holes(data, weight, shape, taps, near, n_taps, whole, fraction):  # type: ignore[no-untyped-def]
    """The sum at one position (whole pixel and fraction, each y and x) with holes under the kernel.

    What remains is divided by the sum of its taps: exactly 1 when no tap other than 0 was lost, so that the sum then
    has the bits that it has without holes.
    """
    y, x, stride = whole[0] - (n_taps // 2 - 1), whole[1] - (n_taps // 2 - 1), shape[1]
    rows = (phase_of(fraction[1]) * WIDTH, phase_of(fraction[0]) * WIDTH)
    if y >= 0 and x >= 0 and y + n_taps <= shape[0] and x + WIDTH <= stride:
        total, lost, share = _dot_left(data, weight, (y * stride + x, 0, stride), taps, rows, n_taps)
    else:
        _copy_near(data, weight, shape, (y, x), near)
        total, lost, share = _dot_left(near, near, (0, WIDTH, 2 * WIDTH), taps, rows, n_taps)
    if share <= MAX_LOST:
        return total / (np.float32(1) - lost)
    return bilinear_near_holes(data, weight, shape, whole, fraction)


@leaf
def _dot_left(pixels, weight, place, taps, rows, n_taps):  # type: ignore[no-untyped-def]
    first, apart, stride = place
    if n_taps == 6:
        return dot6_left(pixels, weight, first, apart, stride, taps, rows[0], rows[1])
    if n_taps == 4:
        return dot4_left(pixels, weight, first, apart, stride, taps, rows[0], rows[1])
    return dot8_left(pixels, weight, first, apart, stride, taps, rows[0], rows[1])


@leaf
def _copy_near(data, weight, shape, first, near):  # type: ignore[no-untyped-def]
    """Copy the pixels from `first` on, WIDTH along each axis, and each row before its weights; 0 outside."""
    for a in range(WIDTH):
        for b in range(WIDTH):
            y, x = first[0] + a, first[1] + b
            near[2 * a * WIDTH + b] = pixel_at(data, weight, shape, y, x)
            near[(2 * a + 1) * WIDTH + b] = pixel_at(weight, weight, shape, y, x)
