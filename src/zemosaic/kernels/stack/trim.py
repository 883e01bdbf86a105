"""Outliers by order: the generalised ESD test, and dropping the lowest and highest values.

Both sort the samples of a pixel and keep an interval of them. A clipped sample's weight is made negative, in place.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from zemosaic.kernels.stack.normal_tables import MIN_SPREAD_COUNT
from zemosaic.kernels.stack.order import (
    SEGMENT,
    fill_columns,
    gather_pixels,
    pick_middle,
    sort_columns,
)

Z_CAP = np.float32(1e6)
"""Deviations are cut at this many sigma: sums of squares then keep their digits whatever the samples hold."""

__all__ = ["trim_esd_rows", "trim_minmax_rows"]


@njit(nogil=True, cache=True, error_model="numpy")
def _standardize(value, weight, alpha, centre, guard, sky, poisson, z):
    """Deviations from the centre, less the guard, in sigma of the noise model."""
    zero = np.float32(0)
    unit = np.float32(1 / 127)
    for j in range(value.size):
        d = value[j] - centre[j]
        size = abs(d) - guard[j]
        signal = centre[j] - sky
        variance = unit * np.float32(alpha[j] & 127) / weight[j] + poisson * (signal if signal > zero else zero)
        size = (size if size > zero else zero) / np.sqrt(variance)
        size = size if size < Z_CAP else Z_CAP
        z[j] = size if d > zero else -size


@njit(nogil=True, cache=True, error_model="numpy")
def _esd_interval(buf, j, k, share, critical):
    """The interval of a sorted column that the generalised ESD test keeps."""
    total = 0.0
    squares = 0.0
    for r in range(k):
        z = np.float64(buf[r, j])
        total += z
        squares += z * z
    low = 0
    high = k - 1
    keep_low = low
    keep_high = high
    for _ in range(int(share * k)):
        m = high - low + 1
        mean = total / m
        variance = max(squares - total * mean, 0.0) / (m - 1)
        up = buf[high, j] - mean
        down = mean - buf[low, j]
        farthest = buf[high, j] if up > down else buf[low, j]
        distance = max(up, down)
        own = distance * distance > critical[0, m] * critical[0, m] * variance or k < MIN_SPREAD_COUNT
        if up > down:
            high -= 1
        else:
            low += 1
        total -= farthest
        squares -= np.float64(farthest) * farthest
        if own and distance > critical[1, m]:
            keep_low = low
            keep_high = high
    return buf[keep_low, j], buf[keep_high, j]


@njit(nogil=True, cache=True, error_model="numpy")
def _mark(z, w, m, frame, y, x0, width, first, last, weights, kept):
    """Mark the samples outside of their column's interval."""
    for i in range(m):
        for j in range(width):
            if w[i, j] > 0 and not first[j] <= z[i, j] <= last[j]:
                weights[frame[i], y, x0 + j] = -w[i, j]
                kept[y, x0 + j] -= 1
                w[i, j] = 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def trim_esd_rows(samples, maps, y0, y1, share, critical, table):
    """Clip by the generalised extreme studentised deviate test (Rosner, Technometrics 25, 165, 1983).

    The values tested are deviations from the template's median, less the guard, in units of each sample's own noise.
    An outlier must pass the test against the scatter of its pixel and against the noise model; below
    `MIN_SPREAD_COUNT` values the noise model alone decides.

    Parameters
    ----------
    samples, maps : tuples of ndarray
        As `clip_rows` takes them. Middle values become those of the samples kept.
    y0, y1 : int
        Rows to do.
    share : float
        Largest share of a pixel's samples that may be outliers.
    critical : ndarray, float64, shape (2, n + 1)
        Critical values by the number of values left: of the test, and of the normal distribution.
    table : ndarray, float32
        `spread_table` for n.
    """
    values, weights, _, sky, poisson, _ = samples
    low, high, _, guard, kept = maps
    n, _, image_width = values.shape
    cube = np.zeros((4, n, SEGMENT), np.float32)
    v, w, z, buf = cube[0], cube[1], cube[2], cube[3]
    a = np.zeros((n, SEGMENT), np.uint8)
    frame = np.zeros(n, np.int64)
    pixels = np.arange(image_width)
    count = np.zeros(SEGMENT, np.int32)
    first = np.zeros(SEGMENT, np.float32)
    last = np.zeros(SEGMENT, np.float32)
    unused = np.zeros(SEGMENT, np.float32)
    half = np.float32(0.5)
    for y in range(y0, y1):
        centre = half * low[y] + half * high[y]
        for x0 in range(0, image_width, SEGMENT):
            x1 = min(x0 + SEGMENT, image_width)
            width = x1 - x0
            m = gather_pixels(samples, y, pixels[x0:x1], v, w, a, frame)
            count[:] = 0
            for i in range(m):
                f = frame[i]
                _standardize(v[i, :width], w[i, :width], a[i], centre[x0:x1], guard[y, x0:x1], sky[f], poisson[f], z[i])
                fill_columns(z[i, :width], w[i, :width], buf[i], count)
            sort_columns(buf, m, width)
            for j in range(width):
                first[j], last[j] = _esd_interval(buf, j, count[j], share, critical)
            _mark(z, w, m, frame, y, x0, width, first, last, weights, kept)
            count[:] = 0
            for i in range(m):
                fill_columns(v[i, :width], w[i, :width], buf[i], count)
            sort_columns(buf, m, width)
            pick_middle(buf, count, width, table, low[y, x0:x1], high[y, x0:x1], unused)


@njit(nogil=True, cache=True, error_model="numpy")
def trim_minmax_rows(samples, maps, y0, y1, n_low, n_high):
    """Drop the lowest and highest values of each pixel that has more than ``n_low + n_high``.

    On a star, where the template is steep, only values farther from the median than the guard are dropped.

    Parameters
    ----------
    samples, maps : tuples of ndarray
        As `clip_rows` takes them. Values equal to the last kept one are kept.
    y0, y1 : int
        Rows to do.
    n_low, n_high : int
        How many to drop.
    """
    values, weights, _, _, _, _ = samples
    low, high, _, guard, kept = maps
    n, _, image_width = values.shape
    cube = np.zeros((3, n, SEGMENT), np.float32)
    v, w, buf = cube[0], cube[1], cube[2]
    a = np.zeros((n, SEGMENT), np.uint8)
    frame = np.zeros(n, np.int64)
    pixels = np.arange(image_width)
    count = np.zeros(SEGMENT, np.int32)
    first = np.zeros(SEGMENT, np.float32)
    last = np.zeros(SEGMENT, np.float32)
    for y in range(y0, y1):
        for x0 in range(0, image_width, SEGMENT):
            x1 = min(x0 + SEGMENT, image_width)
            width = x1 - x0
            m = gather_pixels(samples, y, pixels[x0:x1], v, w, a, frame)
            count[:] = 0
            for i in range(m):
                fill_columns(v[i, :width], w[i, :width], buf[i], count)
            sort_columns(buf, m, width)
            for j in range(width):
                first[j] = -np.inf
                last[j] = np.inf
                if count[j] > n_low + n_high:
                    rim = guard[y, x0 + j]
                    first[j] = buf[n_low, j]
                    last[j] = buf[count[j] - 1 - n_high, j]
                    if rim > 0:
                        first[j] = min(first[j], low[y, x0 + j] - rim)
                        last[j] = max(last[j], high[y, x0 + j] + rim)
            _mark(v, w, m, frame, y, x0, width, first, last, weights, kept)
