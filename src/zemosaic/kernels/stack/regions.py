"""Faint trails and other regions of one frame that deviate from the stack, though no pixel of them stands out.

The deviations of a frame's samples are averaged over boxes of `SIDE` pixels. A region is where a box deviates from its
surroundings and so do two of the eight boxes round it: a line, an edge or a patch, not a star or a hot pixel.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf, part
from zemosaic.kernels.stack.samples import noise_of, weighted_variance

__all__ = ["REACH_PX", "mark_regions"]

HALF, SIDE = 4, 9
"""Pixels from the middle of a box to its side, and along it: about twice the width of a trail, so that its middle fills
the box along and half across."""

RIM_PX = 2
"""Pixels round a box's middle that are rejected with it."""

REACH_PX = SIDE + HALF + RIM_PX
"""How far from a pixel the samples lie that decide whether it belongs to a region."""

LEAST_PIXELS = SIDE * SIDE // 2
"""Fewer samples in a box say nothing."""

LEAST_NEIGHBOURS = 5
"""Of fewer no local mean is taken: its own noise would decide."""

LEAST_KEPT = 5
"""A pixel keeps this many samples at least: regions are for deep stacks."""

CAP = np.float32(4.0)
"""Deviations count up to this many sigma: a hot pixel makes no region."""

LOOK_SIGMA = np.float32(3.0)
"""Boxes that deviate by less are not looked at."""


@leaf
def _deviate_row(row, middle, guard, noise, out, there):
    """Deviations of a row from the middle values beyond the guard, in sigma of a sample, capped; 0 for none."""
    value, weight, alpha = row
    low, high = middle
    zero, half = np.float32(0), np.float32(0.5)
    for x in range(value.size):
        there[x] = weight[x] != zero
    for x in range(value.size):
        centre = half * low[x] + half * high[x]
        d = value[x] - centre
        size = abs(d) - guard[x]
        variance = weighted_variance(alpha[x], centre, noise)
        q = abs(weight[x]) * size * size / (variance if variance > zero else np.float32(1))
        q = np.sqrt(q if q < CAP * CAP else CAP * CAP)
        q = q if (size > zero) & (weight[x] != zero) else zero
        out[x] = q if d > zero else -q


@part
def _sum_boxes(z, there, total, number):
    """Sums over `SIDE` x `SIDE` pixels round each pixel; what lies outside counts for nothing.

    Each sum is taken in the same order wherever the array was cut.
    """
    h, w = z.shape
    line, count = np.zeros(w + 2 * HALF, np.float32), np.zeros(w + 2 * HALF, np.uint8)
    middle, inside = line[HALF : HALF + w], count[HALF : HALF + w]
    for y in range(h):
        middle[:], inside[:] = 0, 0
        for yy in range(max(y - HALF, 0), min(y + HALF + 1, h)):
            row, seen = z[yy], there[yy]
            for x in range(w):
                middle[x] += row[x]
            for x in range(w):
                inside[x] += seen[x]
        out, n = total[y], number[y]
        out[:], n[:] = 0, 0
        for k in range(SIDE):
            part, few = line[k : k + w], count[k : k + w]
            for x in range(w):
                out[x] += part[x]
            for x in range(w):
                n[x] += few[x]


@leaf
def _sort(values, n):
    """Sort the first n of a few values, ascending."""
    for i in range(1, n):
        value = values[i]
        k = i
        while k > 0 and values[k - 1] > value:
            values[k] = values[k - 1]
            k -= 1
        values[k] = value


@leaf
def _stands_out(total, number, y, x, share, threshold, around):
    """Whether a box and two of its eight neighbours deviate, the same way, from the calmer half of those."""
    h, w = total.shape
    sign = np.float32(1) if total[y, x] > 0 else np.float32(-1)
    n = 0
    for yy in (y - SIDE, y, y + SIDE):
        for xx in (x - SIDE, x, x + SIDE):
            inside = 0 <= yy < h and 0 <= xx < w and not (yy == y and xx == x)
            if inside and number[yy, xx] >= LEAST_PIXELS:
                around[n] = sign * total[yy, xx] / np.float32(number[yy, xx])
                n += 1
    if n < LEAST_NEIGHBOURS:
        return False
    _sort(around, n)
    calm = np.float32(0)
    for k in range(n // 2):
        calm += around[k]
    calm /= np.float32(n // 2)
    error = np.sqrt(np.float32(1) / (share * np.float32(number[y, x])))
    own = sign * total[y, x] / np.float32(number[y, x])
    return own - calm > threshold * error and around[n - 2] - calm > (threshold - np.float32(1)) * error


@leaf
def _reject_round(weight, kept, y, x):
    h, w = weight.shape
    for yy in range(max(y - RIM_PX, 0), min(y + RIM_PX + 1, h)):
        for xx in range(max(x - RIM_PX, 0), min(x + RIM_PX + 1, w)):
            if weight[yy, xx] > 0 and kept[yy, xx] > LEAST_KEPT:
                weight[yy, xx] = -weight[yy, xx]
                kept[yy, xx] -= 1


@part
def _reject_frame(weight, kept, total, number, share, threshold):
    """Reject the regions of one frame, from the sums over boxes."""
    h, w = total.shape
    around = np.empty(8, np.float32)
    look = LOOK_SIGMA * LOOK_SIGMA / share
    for y in range(h):
        out, n = total[y], number[y]
        n_found = 0
        for x in range(w):
            n_found += np.int32(out[x] * out[x] > look * np.float32(n[x]))
        if n_found == 0:
            continue
        for x in range(w):
            seen = out[x] * out[x] > look * np.float32(n[x]) and n[x] >= LEAST_PIXELS
            if seen and _stands_out(total, number, y, x, share, threshold, around):
                _reject_round(weight, kept, y, x)


@kernel
def mark_regions(samples, maps, i0, i1, threshold):
    """Reject the deviating regions of frames `i0` to `i1`.

    Parameters
    ----------
    samples : Samples
        Weights of samples in a region become negative.
    maps : Maps
    i0, i1 : int
        Frames to do.
    threshold : float
        In sigma of a box's mean.
    """
    _, h, w = samples.values.shape
    z, total = np.zeros((h, w), np.float32), np.empty((h, w), np.float32)
    there, number = np.zeros((h, w), np.uint8), np.empty((h, w), np.uint8)
    for i in range(i0, i1):
        n_there = 0
        noise = noise_of(samples.noise, i)
        for y in range(h):
            z[y], there[y] = 0, 0
            a, b = samples.span[i, y, 0], samples.span[i, y, 1]
            if b > a:
                row = (samples.values[i, y, a:b], samples.weights[i, y, a:b], samples.alpha[i, y, a:b])
                middle = (maps.low[y, a:b], maps.high[y, a:b])
                _deviate_row(row, middle, maps.guard[y, a:b], noise, z[y, a:b], there[y, a:b])
                n_there += b - a
        if n_there > 0:
            _sum_boxes(z, there, total, number)
            _reject_frame(samples.weights[i], maps.kept, total, number, samples.noise.share[i], threshold)
