"""Outliers by order: the generalised ESD test, and dropping the lowest and highest values.

Both sort the samples of a pixel and keep an interval of them. A clipped sample's weight is made negative, in place.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.stack.normal_tables import MIN_SPREAD_COUNT
from zemosaic.kernels.stack.order import (
    SEGMENT,
    fill_columns,
    gather_pixels,
    make_columns,
    pick_middle,
    sort_columns,
)
from zemosaic.kernels.stack.samples import noise_of, weighted_variance

Z_CAP = np.float32(1e6)
"""Deviations are cut at this many sigma: sums of squares then keep their digits whatever the samples hold."""

__all__ = ["trim_esd_rows", "trim_minmax_rows"]


@leaf
def _standardize(row, centre, guard, noise, z):
    """Deviations from the centre, less the guard, in sigma of the samples (value, weight, alpha) of a row."""
    value, weight, alpha = row
    zero = np.float32(0)
    for j in range(value.size):
        d = value[j] - centre[j]
        size = abs(d) - guard[j]
        variance = weighted_variance(alpha[j], centre[j], noise) / weight[j]
        size = (size if size > zero else zero) / np.sqrt(variance)
        size = size if size < Z_CAP else Z_CAP
        z[j] = size if d > zero else -size


@leaf
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


@leaf
def _sort(columns, what, m, width):
    """Sort those of `what`, one array for each row of `columns`, that have weight."""
    columns.count[:] = 0
    for i in range(m):
        fill_columns(what[i, :width], columns.weights[i, :width], columns.ordered[i], columns.count)
    sort_columns(columns.ordered, m, width)


@leaf
def _keep_inside(samples, maps, corner, columns, m, what, interval):
    """Mark the samples whose `what` lies outside of their column's interval; `corner` is (y, x) of the first column."""
    y, x0 = corner
    first, last = interval
    for i in range(m):
        weight = columns.weights[i]
        for j in range(first.size):
            if weight[j] > 0 and not first[j] <= what[i, j] <= last[j]:
                samples.weights[columns.frame[i], y, x0 + j] = -weight[j]
                maps.kept[y, x0 + j] -= 1
                weight[j] = 0.0


@kernel
def trim_esd_rows(samples, maps, y0, y1, share, critical, table):
    """Clip by the generalised extreme studentised deviate test (Rosner, Technometrics 25, 165, 1983).

    The values tested are deviations from the template's median, less the guard, in units of each sample's own noise.
    An outlier must pass the test against the scatter of its pixel and against the noise model; below
    `MIN_SPREAD_COUNT` values the noise model alone decides.

    Parameters
    ----------
    samples : Samples
    maps : Maps
        Middle values become those of the samples kept.
    y0, y1 : int
        Rows to do.
    share : float
        Largest share of a pixel's samples that may be outliers.
    critical : ndarray, float64, shape (2, n + 1)
        Critical values by the number of values left: of the test, and of the normal distribution.
    table : ndarray, float32
        `spread_table` for n.
    """
    n, _, image_width = samples.values.shape
    columns = make_columns(n)
    z = np.zeros((n, SEGMENT), np.float32)
    pixels = np.arange(samples.values.shape[1] * image_width)
    interval = np.zeros((2, SEGMENT), np.float32)
    unused = np.zeros(SEGMENT, np.float32)
    half = np.float32(0.5)
    for y in range(y0, y1):
        centre = half * maps.low[y] + half * maps.high[y]
        for x0 in range(0, image_width, SEGMENT):
            x1 = min(x0 + SEGMENT, image_width)
            width = x1 - x0
            m = gather_pixels(samples, pixels[y * image_width + x0 : y * image_width + x1], columns)
            for i in range(m):
                row = (columns.values[i, :width], columns.weights[i, :width], columns.alpha[i, :width])
                noise = noise_of(samples.noise, columns.frame[i])
                _standardize(row, centre[x0:x1], maps.guard[y, x0:x1], noise, z[i])
            _sort(columns, z, m, width)
            for j in range(width):
                interval[0, j], interval[1, j] = _esd_interval(columns.ordered, j, columns.count[j], share, critical)
            _keep_inside(samples, maps, (y, x0), columns, m, z, (interval[0, :width], interval[1, :width]))
            _sort(columns, columns.values, m, width)
            middle = (maps.low[y, x0:x1], maps.high[y, x0:x1], unused)
            pick_middle(columns.ordered, columns.count, width, table, middle)


@kernel
def trim_minmax_rows(samples, maps, y0, y1, n_low, n_high):
    """Drop the lowest and highest values of each pixel that has more than ``n_low + n_high``.

    On a star, where the template is steep, only values farther from the median than the guard are dropped.

    Parameters
    ----------
    samples : Samples
        Values equal to the last kept one are kept.
    maps : Maps
    y0, y1 : int
        Rows to do.
    n_low, n_high : int
        How many to drop.
    """
    n, _, image_width = samples.values.shape
    columns = make_columns(n)
    pixels = np.arange(samples.values.shape[1] * image_width)
    interval = np.zeros((2, SEGMENT), np.float32)
    for y in range(y0, y1):
        for x0 in range(0, image_width, SEGMENT):
            x1 = min(x0 + SEGMENT, image_width)
            width = x1 - x0
            m = gather_pixels(samples, pixels[y * image_width + x0 : y * image_width + x1], columns)
            _sort(columns, columns.values, m, width)
            for j in range(width):
                first, last = -np.float32(np.inf), np.float32(np.inf)
                k = columns.count[j]
                if k > n_low + n_high:
                    rim = maps.guard[y, x0 + j]
                    first = columns.ordered[n_low, j]
                    last = columns.ordered[k - 1 - n_high, j]
                    if rim > 0:
                        first = min(first, maps.low[y, x0 + j] - rim)
                        last = max(last, maps.high[y, x0 + j] + rim)
                interval[0, j], interval[1, j] = first, last
            inside = (interval[0, :width], interval[1, :width])
            _keep_inside(samples, maps, (y, x0), columns, m, columns.values, inside)
