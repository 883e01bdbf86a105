"""The median template of a stack: what the sky looks like before anything is clipped, and how steep it is."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.stack.ahead import fetch_row
from zemosaic.kernels.stack.order import SEGMENT, make_ordered, pick_middle, sort_columns

__all__ = ["median_rows", "steepness_rows", "template_rows"]


@leaf
def _gather(row, share, into, count, precision):
    """Copy samples with weight, +inf for the others, and count them.

    Adds 1/variance of each sample at the sky's level, ``127 weight / (alpha share)``.
    """
    value, weight, alpha = row
    inf, full, zero = np.float32(np.inf), np.float32(127), np.float32(0)
    for j in range(value.size):
        there = weight[j] > 0
        into[j] = value[j] if there else inf
        count[j] += np.int32(there)
        precision[j] += full * weight[j] / (share * np.float32(alpha[j] & 127)) if there else zero


@leaf
def _template_segment(samples, maps, y, ends, table, precision, buf):
    """`template_rows` of neighbouring pixels of a row, whose samples go to columns of `buf`."""
    x0, x1 = ends
    n_here = maps.kept[y, x0:x1]
    precision_here = precision[y, x0:x1]
    m = 0
    for i in range(samples.values.shape[0]):
        if x0 == 0:
            fetch_row(samples, i, y)
        if samples.span[i, y, 1] <= x0 or samples.span[i, y, 0] >= x1:
            continue
        row = (samples.values[i, y, x0:x1], samples.weights[i, y, x0:x1], samples.alpha[i, y, x0:x1])
        _gather(row, samples.noise.share[i], buf[m], n_here, precision_here)
        m += 1
    sort_columns(buf, m, x1 - x0)
    middle = (maps.low[y, x0:x1], maps.high[y, x0:x1], maps.spread[y, x0:x1])
    pick_middle(buf, n_here, x1 - x0, table, middle)


@kernel
def template_rows(samples, maps, y0, y1, table, precision):
    """Median, scatter and precision of all samples of each pixel, rows `y0` to `y1`.

    Parameters
    ----------
    samples : Samples
        Nothing is clipped yet.
    maps : Maps
        Written: all but the guard.
    y0, y1 : int
        Rows to do.
    table : ndarray, float32
        `spread_table` for n.
    precision : ndarray, float32, shape (h, w)
        Written: sum of 1/variance of the samples, at the sky's level.
    """
    n, _, w = samples.values.shape
    buf = make_ordered(n)
    for y in range(y0, y1):
        precision[y] = 0.0
        maps.kept[y] = 0
        for x0 in range(0, w, SEGMENT):
            _template_segment(samples, maps, y, (x0, min(x0 + SEGMENT, w)), table, precision, buf)


@kernel
def median_rows(maps, precision, y0, y1, median, variance):
    """The median template and its variance, from what `template_rows` found.

    Of two samples the lower is taken: a trail in one of them is no part of the sky's own steepness.

    Parameters
    ----------
    maps : Maps
    precision : ndarray, float32, shape (h, w)
        From `template_rows`.
    y0, y1 : int
        Rows to do.
    median : ndarray, float32, shape (h, w)
        Written: mean of the two middle values; of two samples the lower.
    variance : ndarray, float32, shape (h, w)
        Written: ``(pi / 2) / precision``, infinite where there is no sample.
    """
    half = np.float32(0.5)
    half_pi = np.float32(np.pi / 2)
    for y in range(y0, y1):
        for x in range(median.shape[1]):
            low = maps.low[y, x]
            median[y, x] = low if maps.kept[y, x] == 2 else half * low + half * maps.high[y, x]
            variance[y, x] = half_pi / precision[y, x]


@leaf
def _steeper(here, there, scale, noise, best):
    """Raise `best` to the squared change from one (median, variance) to the other, where it is larger."""
    value, variance = here
    other, other_variance = there
    for j in range(value.size):
        change = other[j] - value[j]
        square = scale * change * change - noise * (variance[j] + other_variance[j])
        best[j] = square if square > best[j] else best[j]


@kernel
def steepness_rows(template, rows, radius, n_sigma, factor, guard):
    """`factor` times the largest change of the template within `radius` of a pixel, less its noise.

    A neighbour up to half a pixel beyond the radius takes part with its change scaled by radius over
    distance, so that the result follows the radius smoothly. The noise is taken out in squares,
    ``sqrt(change^2 - n_sigma^2 variance)``: blank sky gives 0, a steep star nearly all of its change.

    Parameters
    ----------
    template : two ndarray, float32, shape (h, w)
        Median and variance from `median_rows`; neighbours of infinite variance do not count.
    rows : (int, int)
        From and to.
    radius, n_sigma, factor : float
        Reach in pixels; sigmas of noise taken out; factor on the result.
    guard : ndarray, float32, shape (h, w)
        Written.
    """
    median, variance = template
    h, w = median.shape
    reach = int(radius + 0.5)
    noise = np.float32(n_sigma * n_sigma)
    for y in range(rows[0], rows[1]):
        best = guard[y]
        best[:] = 0.0
        for dy in range(max(-reach, -y), min(reach, h - 1 - y) + 1):
            for dx in range(-reach, reach + 1):
                distance = np.sqrt(np.float64(dy * dy + dx * dx))
                if distance == 0 or distance > radius + 0.5 or abs(dx) >= w:
                    continue
                scale = np.float32(min(1.0, radius / distance) ** 2)
                a = max(-dx, 0)
                b = w - max(dx, 0)
                here = (median[y, a:b], variance[y, a:b])
                there = (median[y + dy, a + dx : b + dx], variance[y + dy, a + dx : b + dx])
                _steeper(here, there, scale, noise, best[a:b])
        for x in range(w):
            best[x] = np.float32(factor) * np.sqrt(best[x])
