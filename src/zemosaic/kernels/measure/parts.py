"""Parts of maps: solid ones, those at the border, rings about them. Serial, nogil.

Loops run along rows without branches, on bytes: so they are vectorised.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part

__all__ = ["grow_squares", "hold_border_parts", "keep_squares", "king_steps"]


_COLUMNS = 256
"""Pixels of a row that are skipped together where nothing is marked: most maps are bare but for a rim."""


@part
def _holds_any(line):
    """Whether anything of a row is marked: most rows of most maps are bare, and are not looked at again."""
    found = np.uint8(0)
    for x in range(len(line)):
        found = np.uint8(found | line[x])
    return found != 0


@part
def _count_on(line, most, counts):
    """Count rows in succession in which a column is marked, up to `most`; 0 where it is not."""
    for x in range(len(counts)):
        n = np.uint8(counts[x] + np.uint8(counts[x] < most))
        counts[x] = n if line[x] else np.uint8(0)


@part
def _count_from(line, most, counts):
    """Count rows since a column was marked, up to `most`; 0 where it is."""
    for x in range(len(counts)):
        n = np.uint8(counts[x] + np.uint8(counts[x] < most))
        counts[x] = np.uint8(0) if line[x] else n


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
    line, any_left = np.ones(w + 2 * half, np.uint8), False
    n_bare = 0  # rows without a mark in succession
    for y in range(h + half):
        if y < h and not _holds_any(marked[y]):
            n_bare += 1
            if n_bare == 1:
                above[:] = 0
        elif y < h:
            n_bare = 0
            _count_on(marked[y], side, above)
        else:
            n_bare = 0
            for x in range(w):
                n = np.uint8(above[x] + np.uint8(above[x] < side))
                above[x] = n
        if y < half:
            continue
        row = out[y - half]
        if n_bare > 0:
            row[:] = 0
            continue
        for x in range(w):
            line[x + half] = np.uint8(above[x] == side)
        row[:] = line[half : half + w]
        for first in range(0, w, _COLUMNS):
            last = min(first + _COLUMNS, w)
            some = row[first:last]
            if not _holds_any(some):
                continue
            for k in range(2 * half + 1):
                beside = line[first + k : last + k]
                for x in range(len(some)):
                    some[x] = some[x] & beside[x]
            any_left |= _holds_any(some)
    return any_left


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
    n_bare = 2 * reach + 1  # rows without a mark in succession
    for y in range(h + reach):
        if y < h and _holds_any(marked[y]):
            n_bare = 0
            _count_from(marked[y], np.uint8(255), since)
        else:
            n_bare += 1
            if n_bare <= 2 * reach:  # beyond, nothing is near
                for x in range(w):
                    since[x] = np.uint8(since[x] + np.uint8(since[x] < 255))
        if y < reach:
            continue
        row = out[y - reach]
        if n_bare > 2 * reach:
            row[:] = 0
            continue
        for x in range(w):
            line[x + reach] = np.uint8(since[x] <= 2 * reach)
        row[:] = 0
        for first in range(0, w, _COLUMNS):
            last = min(first + _COLUMNS, w)
            if not _holds_any(line[first : last + 2 * reach]):
                continue
            some = row[first:last]
            for k in range(2 * reach + 1):
                beside = line[first + k : last + k]
                for x in range(len(some)):
                    some[x] = some[x] | beside[x]


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
    held[0, :] = held[h + 1, :] = held[:, 0] = held[:, w + 1] = 1
    changed = True
    while changed:
        changed = _sweep(marked, held, 1)
        changed |= _sweep(marked, held, -1)
    marked[:] = held[1:-1, 1:-1]


@part
def _sweep(marked, held, step):
    """Hold marked pixels after and below held ones, or before and above them with a step of -1.

    The first and last rows and columns of `held` lie beyond the map.
    """
    changed = False
    h, w = marked.shape
    for row in range(h):
        y = row if step > 0 else h - 1 - row
        if not _holds_any(marked[y]):
            continue
        line, own, other = marked[y], held[y + 1], held[y + 1 - step]
        for first in range(0, w, _COLUMNS):
            last = min(first + _COLUMNS, w)
            begin, end = (first, last) if step > 0 else (w - last, w - first)
            if not _holds_any(line[begin:end]):
                continue
            for column in range(end - begin):
                x = begin + column if step > 0 else end - 1 - column
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
    n_bare = most + 1  # rows without a mark in succession
    for y in range(h):
        n_bare = 0 if _holds_any(marked[y]) else n_bare + 1
        if n_bare <= most + 1:
            _count_from(marked[y], far, away)
        out[y] = away
    n_bare = most + 1
    for y in range(h - 1, -1, -1):
        row, nearest = out[y], far
        for x in range(w):
            nearest = row[x] if row[x] < nearest else nearest
        n_bare = n_bare + 1 if nearest == far else 0
        if n_bare > most + 1:
            continue
        nearest = far
        for x in range(w):
            n = np.uint8(away[x] + np.uint8(away[x] < far))
            away[x] = n if n < row[x] else row[x]
            nearest = away[x] if away[x] < nearest else nearest
        row[:] = away
        if nearest == far:
            continue
        line[most : most + w] = away
        for first in range(0, w, _COLUMNS):
            last = min(first + _COLUMNS, w)
            some, about = row[first:last], line[first : last + 2 * most]
            if not _is_near(about, far):
                continue
            for k in range(1, most + 1):
                beside, left, right = np.uint8(k), about[most - k :], about[most + k :]
                for x in range(len(some)):
                    n = left[x] if left[x] < right[x] else right[x]
                    n = beside if n < beside else n
                    some[x] = n if n < some[x] else some[x]


@part
def _is_near(line, far):
    """Whether any of some distances is less than `far`."""
    found = np.uint8(0)
    for x in range(len(line)):
        found = np.uint8(found | np.uint8(line[x] < far))
    return found != 0
