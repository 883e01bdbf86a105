"""Parts of maps: solid ones, those at the border, rings about them. Serial, nogil.

Loops run along rows without branches, on bytes: so they are vectorised. Most rows of most maps are as those beside
them, empty or with the same ends: what was found for a row of many alike is found for the next.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = ["grow_squares", "hold_border_parts", "keep_squares", "king_steps"]

_STRIDE = 64
"""Marks of a row that are looked at together: as many bytes as the widest vector holds."""


@kernel
def keep_squares(marked, half, out):
    """Centres of the squares that are marked throughout; what lies beyond the border counts as marked.

    Parameters
    ----------
    marked : uint8 (h, w), 0 or 1
    half : int
        Squares have a side of ``2 half + 1`` < 256.
    out : uint8 (h, w), output

    Returns
    -------
    bool
        Whether there is any.
    """
    h, w = marked.shape
    side = np.uint8(2 * half + 1)
    above = np.full(w, side, np.uint8)  # marked rows in succession, counted up to a side
    line, any_left = np.ones(w + 2 * half, np.uint8), np.uint8(0)
    n_alike = 0
    for y in range(h + half):
        n_alike = n_alike + 1 if 0 < y < h and _is_same(marked[y], marked[y - 1]) else 0
        if n_alike >= side:
            _copy(out[y - half - 1], out[y - half])
            continue
        if y < h:
            for x in range(w):
                n = np.uint8(above[x] + np.uint8(above[x] < side))
                above[x] = n if marked[y, x] else np.uint8(0)
        else:
            for x in range(w):
                n = np.uint8(above[x] + np.uint8(above[x] < side))
                above[x] = n
        if y < half:
            continue
        row = out[y - half]
        for x in range(w):
            line[x + half] = np.uint8(above[x] == side)
        for x in range(w):
            row[x] = line[x]
        for k in range(1, 2 * half + 1):
            for x in range(w):
                row[x] = row[x] & line[x + k]
        for x in range(w):
            any_left |= row[x]
    return any_left != 0


@kernel
def grow_squares(marked, reach, out):
    """Whether anything is marked within `reach` rows and columns of each pixel.

    Parameters
    ----------
    marked : uint8 (h, w), 0 or 1
    reach : int
        Below 127.
    out : uint8 (h, w), output
    """
    h, w = marked.shape
    since = np.full(w, 255, np.uint8)  # rows since the last marked one
    line = np.zeros(w + 2 * reach, np.uint8)
    n_alike = 0
    for y in range(h + reach):
        n_alike = n_alike + 1 if 0 < y < h and _is_same(marked[y], marked[y - 1]) else 0
        if n_alike > 2 * reach:
            _copy(out[y - reach - 1], out[y - reach])
            continue
        if y < h:
            for x in range(w):
                n = np.uint8(since[x] + np.uint8(since[x] < 255))
                since[x] = np.uint8(0) if marked[y, x] else n
        else:
            for x in range(w):
                since[x] = np.uint8(since[x] + np.uint8(since[x] < 255))
        if y < reach:
            continue
        row = out[y - reach]
        for x in range(w):
            line[x + reach] = np.uint8(since[x] <= 2 * reach)
        for x in range(w):
            row[x] = line[x]
        for k in range(1, 2 * reach + 1):
            for x in range(w):
                row[x] = row[x] | line[x + k]


@kernel
def hold_border_parts(marked):
    """Clear what of a map is not connected with its border, by edges of pixels.

    Swept down and up until nothing changes: twice or three times for parts that are not wound.

    Parameters
    ----------
    marked : uint8 (h, w), 0 or 1; changed
    """
    h, w = marked.shape
    held = np.zeros((h + 2, w + 2), np.uint8)
    for x in range(w + 2):
        held[0, x] = held[h + 1, x] = 1
    for y in range(h + 2):
        held[y, 0] = held[y, w + 1] = 1
    has_any = np.zeros((h, -(-w // _STRIDE)), np.uint8)  # by strips of rows, of which most are empty
    for y in range(h):
        for strip in range(has_any.shape[1]):
            has_any[y, strip] = _has_any(marked[y, strip * _STRIDE : (strip + 1) * _STRIDE])
    changed = True
    while changed:
        changed = _sweep(marked, has_any, held, 1)
        changed |= _sweep(marked, has_any, held, -1)
    for y in range(h):
        for x in range(w):
            marked[y, x] = held[y + 1, x + 1]


@part
def _sweep(marked, has_any, held, step):
    """Hold marked pixels after and below held ones, or before and above them with a step of -1.

    The first and last rows and columns of `held` lie beyond the map.
    """
    changed = False
    (h, w), n_strips = marked.shape, has_any.shape[1]
    for row in range(h):
        y = row if step > 0 else h - 1 - row
        line, own, other = marked[y], held[y + 1], held[y + 1 - step]
        for k in range(n_strips):
            strip = k if step > 0 else n_strips - 1 - k
            if has_any[y, strip] == 0:
                continue
            first, last = strip * _STRIDE, min((strip + 1) * _STRIDE, w)
            for column in range(last - first):
                x = first + column if step > 0 else last - 1 - column
                if line[x] and not own[x + 1] and (other[x + 1] or own[x + 1 - step]):
                    own[x + 1] = 1
                    changed = True
    return changed


@kernel
def king_steps(marked, most, out):
    """Distance to the nearest marked pixel in steps of a king, 0 on it, ``most + 1`` from there on.

    Parameters
    ----------
    marked : uint8 (h, w), 0 or 1
    most : int
        Below 127.
    out : uint8 (h, w), output
    """
    h, w = marked.shape
    far = np.uint8(most + 1)
    away, line = np.full(w, far, np.uint8), np.full(w + 2 * most, far, np.uint8)
    n_alike = np.zeros(h + 1, np.int64)  # rows in succession that are as the one before, up to each
    for y in range(h):
        if y > 0 and _is_same(marked[y], marked[y - 1]):
            n_alike[y] = n_alike[y - 1] + 1
        if n_alike[y] > most:
            _copy(out[y - 1], out[y])
            continue
        for x in range(w):
            n = np.uint8(away[x] + np.uint8(away[x] < far))
            away[x] = np.uint8(0) if marked[y, x] else n
        for x in range(w):
            out[y, x] = away[x]
    n_below = 0
    for y in range(h - 1, -1, -1):
        n_below = n_below + 1 if n_alike[y + 1] > 0 else 0
        if n_below > most and n_alike[y + 1] > most:
            _copy(out[y + 1], out[y])
            continue
        row, nearest = out[y], far
        for x in range(w):
            n = np.uint8(away[x] + np.uint8(away[x] < far))
            away[x] = n if n < row[x] else row[x]
            nearest = away[x] if away[x] < nearest else nearest
        for x in range(w):
            row[x] = line[most + x] = away[x]
        if nearest == far:
            continue
        for k in range(1, most + 1):
            beside, left, right = np.uint8(k), line[most - k :], line[most + k :]
            for x in range(w):
                n = left[x] if left[x] < right[x] else right[x]
                n = beside if n < beside else n
                row[x] = n if n < row[x] else row[x]


@leaf
def _is_same(one, other):
    """Whether two rows hold the same marks."""
    differ = np.uint8(0)
    for x in range(one.size):
        differ |= one[x] ^ other[x]
    return differ == 0


@leaf
def _has_any(marks):
    found = np.uint8(0)
    for x in range(marks.size):
        found |= marks[x]
    return found != 0


@leaf
def _copy(row, out):
    for x in range(out.size):  # to give one array to another compiles the text of an error: two seconds
        out[x] = row[x]
