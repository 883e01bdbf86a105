"""Factors of the sky's own matrix, small parts left out. Serial, nogil.

Where blocks cover the sky well the matrix is much like that of a mean: what couples distant nodes is nearly nothing.
Where a rim hangs on slivers of blocks it is next to singular, and everything counts. So parts are left out by their
share of the pivots, and the diagonal is raised by what is left out before the pivots are known: no pivot can fail then
(Ajiz & Jennings, Int. J. Numer. Meth. Engng 20, 949, 1984).
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part
from zemosaic.kernels.match.values import LANES

__all__ = ["factorise_sky", "solve_sky"]

_SMALL = 3e-6
"""Parts of a column below this share of the diagonals are left out at once. Ten times as much takes twice the steps."""

_SMALL_IN_THE_END = 3e-4
"""The same by the pivots, once they are known: three times as much takes a step more, a third saves none."""

_USUAL_COLUMN = 24
"""Parts of a column to make room for: with fewer or more the room grows or is left."""


@part
def _longer(array):
    """The same with as much room again."""
    out = np.empty(2 * len(array), array.dtype)
    for a in range(len(array)):
        out[a] = array[a]
    return out


@part
def _drop_small(j, m, reached, column, diagonal):
    """Of the m rows that column j reaches keep the large ones, in their order; returns their number, and the pivot."""
    pivot, kept = diagonal[j], 0
    for q in range(m):
        i = reached[q]
        value = column[i]
        if value * value <= _SMALL**2 * diagonal[i] * diagonal[j]:
            ratio = np.sqrt(diagonal[i] / diagonal[j])
            diagonal[i] += abs(value) * ratio
            pivot += abs(value) / ratio
            continue
        at = kept
        while at > 0 and reached[at - 1] > i:
            reached[at] = reached[at - 1]
            at -= 1
        reached[at] = i
        kept += 1
    return kept, pivot


@part
def _keep_large(start, rows, values, inverse):
    """Factors without what is small by the pivots."""
    n, kept = len(inverse), 0
    out_start = np.zeros(n + 1, np.int32)
    for j in range(n):
        for a in range(start[j], start[j + 1]):
            if values[a] ** 2 * inverse[rows[a]] > _SMALL_IN_THE_END**2 * inverse[j]:
                rows[kept], values[kept] = rows[a], values[a]
                kept += 1
        out_start[j + 1] = kept
    out_rows, out_values = np.empty(kept, np.int32), np.empty(kept, np.float32)
    for a in range(kept):
        out_rows[a], out_values[a] = rows[a], values[a]
    return out_start, out_rows, out_values, inverse


@kernel
def factorise_sky(stencil, nx):
    """Columns of L and the inverse of D, ``L D L^T`` about the sky's own matrix; as `SkyFactors` has them.

    Column by column, each from those before it that reach its row.

    Parameters
    ----------
    stencil : float64 (nodes, 7), as in `NormalParts`
    nx : int
    """
    n, room = len(stencil), _USUAL_COLUMN * len(stencil)
    rows, values = np.empty(room, np.int32), np.empty(room)
    # Of each column the first row still to come; the columns that have row j next are `latest[j]`, `following` ...
    start, ahead = np.zeros(n + 1, np.int32), np.empty(n, np.int32)
    latest, following = np.full(n, -1, np.int32), np.empty(n, np.int32)
    seen, reached, column = np.full(n, -1, np.int32), np.empty(n, np.int32), np.empty(n)
    diagonal, inverse = np.empty(n), np.empty(n)
    for j in range(n):
        diagonal[j] = stencil[j, 0]
    steps = 0, 1, 2, nx - 1, nx, nx + 1, 2 * nx
    for j in range(n):
        m, k = 0, latest[j]
        for s in range(1, 7):
            i = j + steps[s]
            if i < n and stencil[j, s] != 0.0:
                column[i], seen[i], reached[m] = stencil[j, s], j, i
                m += 1
        while k >= 0:
            factor, after = values[ahead[k]] / inverse[k], following[k]
            ahead[k] += 1
            for a in range(ahead[k], start[k + 1]):
                i = rows[a]
                if seen[i] != j:
                    column[i], seen[i], reached[m] = 0.0, j, i
                    m += 1
                column[i] -= values[a] * factor
            if ahead[k] < start[k + 1]:
                i = rows[ahead[k]]
                following[k], latest[i] = latest[i], k
            k = after
        m, pivot = _drop_small(j, m, reached, column, diagonal)
        inverse[j] = 1.0 / pivot
        if start[j] + m > len(rows):
            rows, values = _longer(rows), _longer(values)
        for q in range(m):
            i, at = reached[q], start[j] + q
            rows[at], values[at] = i, column[i] / pivot
            diagonal[i] -= column[i] * values[at]
        ahead[j], start[j + 1] = start[j], start[j] + m
        if m > 0:
            following[j], latest[reached[0]] = latest[reached[0]], j
    return _keep_large(start, rows, values, inverse)


@part
def solve_sky(factors, r, out):
    """``L D L^T out = r``, all lanes; by name, which keeps them in registers."""
    start, rows, values, inverse = factors
    n = len(r)
    for j in range(n):
        for lane in range(LANES):
            out[j, lane] = r[j, lane]
    for j in range(n):
        x = out[j]
        x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
        for a in range(start[j], start[j + 1]):
            c, y = values[a], out[rows[a]]
            y0, y1, y2, y3 = y[0] - c * x0, y[1] - c * x1, y[2] - c * x2, y[3] - c * x3
            y[0], y[1], y[2], y[3] = y0, y1, y2, y3
    for j in range(n - 1, -1, -1):
        c, x = inverse[j], out[j]
        x0, x1, x2, x3 = c * x[0], c * x[1], c * x[2], c * x[3]
        for a in range(start[j], start[j + 1]):
            c, y = values[a], out[rows[a]]
            x0 -= c * y[0]
            x1 -= c * y[1]
            x2 -= c * y[2]
            x3 -= c * y[3]
        x[0], x[1], x[2], x[3] = x0, x1, x2, x3
