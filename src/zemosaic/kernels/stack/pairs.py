"""Clipping where two frames meet: the higher of two samples goes where it exceeds the lower by more than noise can.

Two samples alone do not tell which is wrong, but most of what is wrong adds light: trails, cosmic rays, hot pixels.
The higher gives way when it exceeds the lower by more than

    n_sigma * sqrt(sum of the variances of both) + PAIR_GUARD * guard

with variances as in `zemosaic.kernels.stack.clip`, at the level of the lower, and the guard of a template that is the
lower of the two as well, so that a trail does not defend itself by its own steepness.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.stack.samples import noise_of, weighted_variance

__all__ = ["clip_pairs"]

PAIR_GUARD = np.float32(3.0)
"""The guard is made for a sample against the middle of many; two samples of unlike seeing are twice as far apart, and
more where the lower is the flatter. The guard of methods without scatter is widened up to as much."""


@leaf
def _find_far(maps, y, far):
    """Excess of the higher sample over the lower beyond the guard, where a pixel has two; returns how many have any."""
    zero = np.float32(0)
    n = 0
    for x in range(far.size):
        d = maps.high[y, x] - maps.low[y, x] - PAIR_GUARD * maps.guard[y, x]
        far[x] = d if maps.kept[y, x] == 2 and d > zero else zero
        n += np.int32(far[x] > zero)
    return n


@kernel
def clip_pairs(samples, maps, y0, y1, n_sigma):
    """Clip the higher of two samples that are too far apart, rows `y0` to `y1`.

    Parameters
    ----------
    samples : Samples
        Nothing is clipped yet but what is saturated. Weights of clipped samples become negative.
    maps : Maps
        Where a sample is clipped both middle values become the other one.
    y0, y1 : int
        Rows to do.
    n_sigma : float32
        By how many sigma of their difference.
    """
    n, _, w = samples.values.shape
    zero = np.float32(0)
    far, variance = np.empty(w, np.float32), np.empty(w, np.float32)
    for y in range(y0, y1):
        if _find_far(maps, y, far) == 0:
            continue
        variance[:] = zero
        for i in range(n):
            noise = noise_of(samples.noise, i)
            for x in range(samples.span[i, y, 0], samples.span[i, y, 1]):
                if far[x] > zero and samples.weights[i, y, x] > zero:
                    own = weighted_variance(samples.alpha[i, y, x], maps.low[y, x], noise)
                    variance[x] += own / samples.weights[i, y, x]
        for i in range(n):
            weight = samples.weights[i, y]
            for x in range(samples.span[i, y, 0], samples.span[i, y, 1]):
                if not far[x] * far[x] > n_sigma * n_sigma * variance[x]:
                    continue
                if weight[x] > zero and samples.values[i, y, x] == maps.high[y, x]:
                    weight[x] = -weight[x]
                    maps.kept[y, x] = 1
                    maps.high[y, x] = maps.low[y, x]
                    far[x] = zero
