"""Peaks too sharp for a Lanczos kernel, taken out of a window so that a kernel without rings can carry them.

Round a star of FWHM 1.3 px a Lanczos kernel falls below the sky by up to 8 % of the peak. To raise those values would
add light. Instead the window is split into two, each resampled by a kernel that keeps its sum: what such a peak stands
out by (bilinear, never negative), and all else (Lanczos).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part

__all__ = ["find_spikes"]

Floats = npt.NDArray[np.float32]

STEEPEST = np.float32(0.25)
"""Least height of a pixel's lower neighbour over the pixel's own. A gaussian of FWHM 2 px has as much and more wherever
its peak falls on the pixels, one of 1.3 px 0.2 at most."""

NARROW = np.float32(0.4)
"""A pixel beside a higher one lies on the wing of a star, steep in any seeing, unless the pixel on the other side of
the peak has at most so much of it: a gaussian of FWHM 2.6 px has 0.44 and more there, one of 1.3 px less than 0.2."""

LOWEST_SIGMA = 30.0
"""A peak is left as it is up to this many sigma above what it may be: rings of 8 % then stay below the noise of three
samples, and noise makes no peak, not that of light in bright nebulae either."""

BLOCK = 64
"""Pixels that are looked through at a time; most blocks have no peak."""


def find_spikes(data: Floats, weight: Floats, inverse_variance: npt.NDArray[np.float64]) -> Floats:
    """What the peaks of a window stand out by, beyond what a Lanczos kernel can follow.

    Parameters
    ----------
    data : ndarray, float32, shape (c, h, w)
        Samples.
    weight : ndarray, float32, shape (1, h, w) or (c, h, w)
        Pixels of weight 0 are holes.
    inverse_variance : ndarray, float64, shape (c,)
        Of a sample of weight 1.

    Returns
    -------
    ndarray, float32, shape (c, h, w), or (0, 0, 0) where there is none
        Depends on the pixels within 2 px. 0 for holes, beside holes, and within 2 px of the window's edge.
    """
    none = np.zeros((0, 0, 0), np.float32)
    spikes = none
    for k in range(len(data)):
        margin = np.float32(LOWEST_SIGMA / math.sqrt(inverse_variance[k]))
        m = weight[min(k, len(weight) - 1)]
        blocks = _steep_blocks(data[k], margin)
        if not blocks.size:
            continue
        found = np.zeros(data[k].shape, np.float32)
        if _fill_spikes(data[k], m, margin, blocks, found):
            spikes = np.zeros(data.shape, np.float32) if spikes is none else spikes
            spikes[k] = found
    return spikes


@part
def _count_steep(value, beside, margin):  # type: ignore[no-untyped-def]
    """How many pixels of a part of a row exceed one of their four neighbours by the margin: all spikes do."""
    left, right, above, below = beside
    n = 0
    for x in range(value.size):
        v = value[x] - margin
        n += np.int32((v > left[x]) | (v > right[x]) | (v > above[x]) | (v > below[x]))
    return n


@kernel
def _steep_blocks(data, margin):  # type: ignore[no-untyped-def]
    """Blocks with a steep pixel, as pairs of row and first column."""
    h, w = data.shape
    blocks = np.empty((max(h - 4, 0) * (max(w - 4, 0) // BLOCK + 1), 2), np.int64)
    n_blocks = 0
    for y in range(2, h - 2):
        for a in range(2, w - 2, BLOCK):
            b = min(a + BLOCK, w - 2)
            beside = (data[y, a - 1 : b - 1], data[y, a + 1 : b + 1], data[y - 1, a:b], data[y + 1, a:b])
            if _count_steep(data[y, a:b], beside, margin) > 0:
                blocks[n_blocks, 0], blocks[n_blocks, 1] = y, a
                n_blocks += 1
    return blocks[:n_blocks]


@part
def _cap(value, left, right, m_left, m_right):  # type: ignore[no-untyped-def]
    """How high a pixel may be along one axis, by the next and second pixels on both sides and their weights."""
    if not (m_left[0] > 0 and m_left[1] > 0 and m_right[0] > 0 and m_right[1] > 0):
        return np.float32(np.inf)
    low, high = min(left[0], right[0]), max(left[0], right[0])
    beyond = left[1] if left[0] > right[0] else right[1]
    base = min(low, left[1], right[1])
    is_peak = high <= value or beyond - base <= NARROW * (high - base)
    return base + (low - base) / STEEPEST if is_peak else np.float32(np.inf)


@kernel
def _fill_spikes(data, weight, margin, blocks, spikes):  # type: ignore[no-untyped-def]
    """Write the spikes of the blocks; returns whether there is one."""
    d, m, w = data, weight, data.shape[1]
    found = False
    for i in range(len(blocks)):
        y = blocks[i, 0]
        for x in range(blocks[i, 1], min(blocks[i, 1] + BLOCK, w - 2)):
            value = d[y, x]
            lowest = min(d[y, x - 1], d[y, x + 1], d[y - 1, x], d[y + 1, x])
            if not (value - lowest > margin and m[y, x] > 0):
                continue
            across = _cap(
                value, (d[y, x - 1], d[y, x - 2]), (d[y, x + 1], d[y, x + 2]),
                (m[y, x - 1], m[y, x - 2]), (m[y, x + 1], m[y, x + 2]),
            )  # fmt: skip
            along = _cap(
                value, (d[y - 1, x], d[y - 2, x]), (d[y + 1, x], d[y + 2, x]),
                (m[y - 1, x], m[y - 2, x]), (m[y + 1, x], m[y + 2, x]),
            )  # fmt: skip
            excess = value - min(across, along) - margin
            if excess > 0:
                spikes[y, x] = excess
                found = True
    return found
