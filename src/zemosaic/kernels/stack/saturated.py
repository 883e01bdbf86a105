"""Saturated samples are lower limits: they give way to samples that are not, where those say more."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.stack.samples import FLAG_SATURATED

__all__ = ["RIM_PX", "yield_rims", "yield_rows"]

RIM_PX = 2
"""How far beyond the samples that are flagged as saturated the widest kernel has mixed them with others: it reaches
3 px, and the four nearest pixels are flagged."""


@leaf
def _has_saturated(alpha):
    flags = np.uint8(0)
    for x in range(alpha.size):
        flags = np.uint8(flags | alpha[x])
    return flags >= FLAG_SATURATED


@leaf
def _add_unsaturated(value, weight, alpha, products, total):
    zero = np.float64(0)
    for x in range(value.size):
        counts = (weight[x] > 0) & (alpha[x] < FLAG_SATURATED)
        w = np.float64(weight[x]) if counts else zero
        products[x] += w * np.float64(value[x]) if counts else zero
        total[x] += w


@kernel
def yield_rows(samples, y0, y1, yielded):
    """Clip the saturated samples that lie below the mean of the others at their pixel, rows `y0` to `y1`.

    One that lies above stays: frames of one exposure saturate by turns where a star is about as bright as they bear,
    and those that do not are the ones that saw less of it. Where all are saturated all stay.

    Parameters
    ----------
    samples : Samples
        Weights of samples that give way become negative.
    y0, y1 : int
        Rows to do.
    yielded : ndarray, bool, shape (h,)
        Written: rows in which a sample gave way.
    """
    n, _, w = samples.values.shape
    sums = np.empty((2, w), np.float64)
    products, total = sums[0], sums[1]
    for y in range(y0, y1):
        yielded[y] = False
        found = False
        for i in range(n):
            found |= _has_saturated(samples.alpha[i, y, samples.span[i, y, 0] : samples.span[i, y, 1]])
        if not found:
            continue
        sums[:] = 0.0
        for i in range(n):
            a, b = samples.span[i, y, 0], samples.span[i, y, 1]
            value, weight, alpha = samples.values[i, y, a:b], samples.weights[i, y, a:b], samples.alpha[i, y, a:b]
            _add_unsaturated(value, weight, alpha, products[a:b], total[a:b])
        for i in range(n):
            value, weight, alpha = samples.values[i, y], samples.weights[i, y], samples.alpha[i, y]
            for x in range(samples.span[i, y, 0], samples.span[i, y, 1]):
                is_limit = (weight[x] > 0) & (alpha[x] >= FLAG_SATURATED)
                if is_limit and total[x] > 0 and np.float64(value[x]) * total[x] < products[x]:
                    weight[x] = -weight[x]
                    yielded[y] = True


@leaf
def _is_in_rim(weight, alpha, y, x):
    """Whether a saturated sample of the frame gave way within `RIM_PX`."""
    h, w = weight.shape
    for yy in range(max(y - RIM_PX, 0), min(y + RIM_PX + 1, h)):
        for xx in range(max(x - RIM_PX, 0), min(x + RIM_PX + 1, w)):
            if weight[yy, xx] < 0 and alpha[yy, xx] >= FLAG_SATURATED:
                return True
    return False


@kernel
def yield_rims(samples, y0, y1, yielded):
    """Clip the samples beside those that gave way, of the same frame, where a pixel has others, rows `y0` to `y1`.

    A resampling kernel has mixed them with saturated pixels, whichever way its lobes go.

    Parameters
    ----------
    samples : Samples
        Weights of samples that give way become negative.
    y0, y1 : int
        Rows to do.
    yielded : ndarray, bool, shape (h,)
        From `yield_rows`, all rows.
    """
    n, h, w = samples.values.shape
    clean, rims = np.empty(w, np.int32), np.empty((n, w), np.bool_)
    for y in range(y0, y1):
        if not yielded[max(y - RIM_PX, 0) : min(y + RIM_PX + 1, h)].any():
            continue
        clean[:] = 0
        rims[:] = False
        for i in range(n):
            weight, alpha = samples.weights[i], samples.alpha[i]
            for x in range(samples.span[i, y, 0], samples.span[i, y, 1]):
                if weight[y, x] > 0 and alpha[y, x] < FLAG_SATURATED:
                    rims[i, x] = _is_in_rim(weight, alpha, y, x)
                    clean[x] += np.int32(not rims[i, x])
        for i in range(n):
            for x in range(samples.span[i, y, 0], samples.span[i, y, 1]):
                if rims[i, x] and clean[x] > 0:
                    samples.weights[i, y, x] = -samples.weights[i, y, x]
