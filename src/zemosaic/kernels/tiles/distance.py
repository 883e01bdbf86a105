"""Exact Euclidean distances to the nearest pixel of a kind (Felzenszwalb & Huttenlocher 2012, ToC 8, 415)."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part

__all__ = ["border_distance"]


@part
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


@kernel
def border_distance(valid, top, bottom, left, right, out):  # type: ignore[no-untyped-def]
    """Distance in pixels from each valid pixel to the nearest that is invalid or lies beyond a side of the array.

    Parameters
    ----------
    valid : ndarray, bool, shape (h, w)
    top, bottom, left, right : bool
        Whether what lies beyond the first row, the last row, the first column, the last column is invalid.
    out : ndarray, float32, shape (h, w)
        Filled; 0 at invalid pixels, ``h + w`` where there is neither an invalid pixel nor a side that counts.
    """
    h, w = valid.shape
    far = float(h + w)
    squares = np.empty((h, w + 2))
    # One column more on either side: what lies beyond the array.
    squares[:, 0] = 0.0 if left else far * far
    squares[:, w + 1] = 0.0 if right else far * far
    for x in range(w):
        run = 0.0 if top else far
        for y in range(h):
            run = run + 1.0 if valid[y, x] else 0.0
            squares[y, x + 1] = run
        run = 0.0 if bottom else far
        for y in range(h - 1, -1, -1):
            run = run + 1.0 if valid[y, x] else 0.0
            nearest = min(squares[y, x + 1], run, far)
            squares[y, x + 1] = nearest * nearest
    vertex, bound, best = np.empty(w + 2, np.int64), np.empty(w + 3), np.empty(w + 2)
    for y in range(h):
        _lower_envelope(squares[y], w + 2, vertex, bound, best)
        for x in range(w):
            out[y, x] = np.sqrt(best[x + 1])
