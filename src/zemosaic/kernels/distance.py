"""Exact Euclidean distances to the nearest pixel of a kind (Felzenszwalb & Huttenlocher 2012, ToC 8, 415)."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["border_distance"]


@njit(nogil=True, cache=True)
def _lower_envelope(height, n, vertex, bound, out):  # type: ignore[no-untyped-def]
    """``out[q] = min over p of (q - p)^2 + height[p]`` for ``n`` values."""
    last = 0
    vertex[0] = 0
    bound[0], bound[1] = -np.inf, np.inf
    for q in range(1, n):
        while True:
            p = vertex[last]
            meet = ((height[q] + q * q) - (height[p] + p * p)) / (2.0 * (q - p))
            if meet > bound[last]:
                break
            last -= 1
        last += 1
        vertex[last] = q
        bound[last], bound[last + 1] = meet, np.inf
    k = 0
    for q in range(n):
        while bound[k + 1] < q:
            k += 1
        p = vertex[k]
        out[q] = (q - p) * (q - p) + height[p]


@njit(nogil=True, cache=True)
def border_distance(valid, out):  # type: ignore[no-untyped-def]
    """Distance in pixels from each valid pixel to the nearest that is invalid or lies outside the array.

    Parameters
    ----------
    valid : ndarray, bool, shape (h, w)
    out : ndarray, float32, shape (h, w)
        Filled; 0 at invalid pixels.
    """
    h, w = valid.shape
    n = max(h, w) + 2
    # One ring of invalid pixels: what lies outside the array.
    squares = np.zeros((h + 2, w + 2))
    for x in range(w):
        run = 0.0
        for y in range(h):
            run = run + 1.0 if valid[y, x] else 0.0
            squares[y + 1, x + 1] = run
        run = 0.0
        for y in range(h - 1, -1, -1):
            run = run + 1.0 if valid[y, x] else 0.0
            nearest = min(squares[y + 1, x + 1], run)
            squares[y + 1, x + 1] = nearest * nearest
    vertex, bound, best = np.empty(n, np.int64), np.empty(n + 1), np.empty(n)
    for y in range(h):
        _lower_envelope(squares[y + 1], w + 2, vertex, bound, best)
        for x in range(w):
            out[y, x] = np.sqrt(best[x + 1])
