"""Growing clipped regions into their weaker rims.

A trail or a cosmic ray is wider than the part of it that passes the clipping threshold. A clipped sample with at
least two clipped neighbours of the same sign in its own frame is a seed; noise alone makes almost none. From the
seeds the region spreads a pixel at a time over samples whose neighbourhood deviates on average, in the same
direction, by more than a lower threshold.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.stack.samples import noise_of, weighted_variance

__all__ = ["grow_frames"]

SEED_COUNT = 3
"""Clipped samples of one sign in 3 x 3 that make a seed; noise at 3 sigma makes one of some 7 million samples one."""

SCAN = 64
"""Samples looked through at a time for clipped ones."""

DEVIATION_CAP = np.float32(4.0)
"""Deviations count up to this many sigma in a local mean, so that a very hot pixel does not lift its surroundings."""

ROOT_TWO = np.float32(np.sqrt(2))
"""Noise of the difference of two samples over that of one."""


@leaf
def _deviation(sample, centre, guard, noise):
    """Deviation of a sample (value, weight, alpha) from the centre beyond the guard, in its sigma, capped."""
    value, weight, alpha = sample
    zero = np.float32(0)
    d = value - centre
    size = abs(d) - guard
    if not size > zero:
        return zero
    size /= np.sqrt(weighted_variance(alpha, centre, noise) / abs(weight))
    size = size if size < DEVIATION_CAP else DEVIATION_CAP
    return size if d > zero else -size


@leaf
def _is_pair(weights, y, x):
    """Whether a pixel has two samples, clipped ones with them."""
    n = 0
    for i in range(weights.shape[0]):
        n += np.int32(weights[i, y, x] != 0)
        if n > 2:
            return False
    return n == 2


@leaf
def _local_mean(samples, i, noise, maps, centre, y, x):
    """Mean deviation over the samples of frame `i` in 3 x 3, clipped ones with them.

    Of two samples each deviates from the other, by sigmas of their difference: their mean holds half of a trail.
    """
    weight = samples.weights[i]
    h, w = weight.shape
    total = np.float32(0)
    n = 0
    for yy in range(max(y - 1, 0), min(y + 2, h)):
        for xx in range(max(x - 1, 0), min(x + 2, w)):
            if weight[yy, xx] != 0:
                sample = (samples.values[i, yy, xx], weight[yy, xx], samples.alpha[i, yy, xx])
                if _is_pair(samples.weights, yy, xx):
                    # Where the pair was judged both middle values are the one that was kept.
                    other = maps.low[yy, xx] if sample[0] > maps.low[yy, xx] else maps.high[yy, xx]
                    total += _deviation(sample, other, maps.guard[yy, xx], noise) / ROOT_TWO
                else:
                    total += _deviation(sample, centre[yy, xx], maps.guard[yy, xx], noise)
                n += 1
    return total / np.float32(n)


@leaf
def _any_clipped(weight):
    """Whether any of some samples side by side was clipped: the first bit of its weight says so."""
    bits = weight.view(np.int32)
    found = np.int32(0)
    for x in range(bits.size):
        found |= bits[x]
    return found < 0


@leaf
def _count_clipped(weight, y, x):
    """Clipped samples in 3 x 3."""
    h, w = weight.shape
    n = 0
    for yy in range(max(y - 1, 0), min(y + 2, h)):
        for xx in range(max(x - 1, 0), min(x + 2, w)):
            n += np.int32(weight[yy, xx] < 0)
    return n


@leaf
def _is_seed(value, weight, centre, y, x):
    """Whether enough samples in 3 x 3 are clipped for the same sign as this one."""
    # Most stand alone: their values, which are not at hand, need not be fetched.
    if _count_clipped(weight, y, x) < SEED_COUNT:
        return False
    h, w = value.shape
    above = value[y, x] > centre[y, x]
    same = 0
    for yy in range(max(y - 1, 0), min(y + 2, h)):
        for xx in range(max(x - 1, 0), min(x + 2, w)):
            same += np.int32(weight[yy, xx] < 0 and (value[yy, xx] > centre[yy, xx]) == above)
    return same >= SEED_COUNT


@leaf
def _find_seeds(value, weight, span, centre, active, front):
    """Mark the seeds in `active` by their sign and list them; returns their number."""
    n = 0
    for y in range(value.shape[0]):
        for x0 in range(span[y, 0], span[y, 1], SCAN):
            x1 = min(x0 + SCAN, span[y, 1])
            if not _any_clipped(weight[y, x0:x1]):
                continue
            for x in range(x0, x1):
                if weight[y, x] < 0 and _is_seed(value, weight, centre, y, x):
                    active[y, x] = 1 if value[y, x] > centre[y, x] else -1
                    front[n] = y * value.shape[1] + x
                    n += 1
    return n


@leaf
def _spread_front(samples, i, noise, centre, maps, threshold, region, listed):
    """Let a region (its map, and the list of its pixels) grow by one pixel from those `listed`, from and to.

    Returns the new end of the list.
    """
    weight = samples.weights[i]
    active, front = region
    begin, end = listed
    stop = end
    h, w = weight.shape
    for f in range(begin, end):
        y = front[f] // w
        x = front[f] - y * w
        for yy in range(max(y - 1, 0), min(y + 2, h)):
            for xx in range(max(x - 1, 0), min(x + 2, w)):
                if active[yy, xx] != 0 or weight[yy, xx] == 0:
                    continue
                mean = _local_mean(samples, i, noise, maps, centre, yy, xx)
                if mean * np.float32(active[y, x]) > threshold:
                    active[yy, xx] = active[y, x]
                    front[stop] = yy * w + xx
                    stop += 1
                    if weight[yy, xx] > 0 and maps.kept[yy, xx] > 1:
                        weight[yy, xx] = -weight[yy, xx]
                        maps.kept[yy, xx] -= 1
    return stop


@kernel
def grow_frames(samples, maps, i0, i1, threshold, passes):
    """Grow the clipped regions of frames `i0` to `i1`.

    Parameters
    ----------
    samples : Samples
        Weights of samples that join a region become negative. The last sample of a pixel is never taken.
    maps : Maps
    i0, i1 : int
        Frames to do.
    threshold : float
        Local mean, in sigma, above which a sample beside a region joins it.
    passes : int
        Pixels a region may grow.
    """
    _, h, w = samples.values.shape
    centre = np.empty((h, w), np.float32)
    for y in range(h):
        for x in range(w):
            centre[y, x] = np.float32(0.5) * maps.low[y, x] + np.float32(0.5) * maps.high[y, x]
    active = np.zeros((h, w), np.int8)
    front = np.empty(h * w, np.int32)
    for i in range(i0, i1):
        noise = noise_of(samples.noise, i)
        end = _find_seeds(samples.values[i], samples.weights[i], samples.span[i], centre, active, front)
        begin = 0
        for _ in range(passes):
            stop = end
            end = _spread_front(samples, i, noise, centre, maps, threshold, (active, front), (begin, stop))
            begin = stop
        for f in range(end):
            active[front[f] // w, front[f] % w] = 0
