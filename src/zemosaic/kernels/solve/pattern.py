"""Finding a star pattern on the sky: every hypothesis that one pair of stars allows, tested at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part

__all__ = ["mark_stars", "search_pair"]

Array = npt.NDArray[np.float64]
Place = tuple[float, float, float, float, float]
"""(a_re, a_im, b_re, b_im, parity) of a hypothesis; see `search_pair`."""


@kernel
def mark_stars(x: Array, y: Array, n_cells: int) -> npt.NDArray[np.uint8]:
    """A map of bits, 1 in the 3 x 3 cells round every star, so that "is a star near?" is one look-up.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Star positions in units of a cell, from the map's corner; stars outside are ignored.
    n_cells : int
        Cells a side.

    Returns
    -------
    ndarray of uint8, shape (n_cells, ceil(n_cells / 8))
        Bit ``i & 7`` of byte ``i >> 3`` is cell i of a row: packed eight times, the map stays in
        the processor's cache.
    """
    marks = np.zeros((n_cells, (n_cells + 7) >> 3), np.uint8)
    for k in range(len(x)):
        i, j = int(np.floor(x[k])), int(np.floor(y[k]))
        for jj in range(max(j - 1, 0), min(j + 2, n_cells)):
            for ii in range(max(i - 1, 0), min(i + 2, n_cells)):
                marks[jj, ii >> 3] |= np.uint8(1 << (ii & 7))
    return marks


@kernel
def search_pair(
    stars: Array,
    pair: tuple[int, int],
    ref: Array,
    marks: npt.NDArray[np.uint8],
    scale_range: tuple[float, float],
    reach: float,
    min_hits: int,
    found: Array,
) -> tuple[int, int]:
    """Lay one pair of a frame's stars on every reference pair of fitting length, and test the other stars.

    All lengths are in units of a cell of `marks`.

    Parameters
    ----------
    stars : ndarray, shape (m, 2)
        The frame's stars at the nominal scale, from the frame's centre.
    pair : tuple of int
        Two of them.
    ref : ndarray, shape (2, n)
        x and y of the reference stars from the corner of the map, sorted by x.
    marks : ndarray of uint8
        From `mark_stars`.
    scale_range : tuple of float
        Smallest and largest true scale over nominal scale.
    reach : float
        Largest distance of the frame's centre from the middle of the map.
    min_hits : int
        Stars, beside the pair, that must fall on marked cells.
    found : ndarray, shape (n_max, 6)
        Filled with (hits, a_re, a_im, b_re, b_im, parity): ``ref = a z + b`` with ``z = x + i parity y``.

    Returns
    -------
    n_found, n_tested : int
        Rows filled (the best `n_max` where there are more), and hypotheses tested.
    """
    (first, second), (ref_x, ref_y) = pair, (ref[0], ref[1])
    n = len(ref_x)
    middle = 0.5 * len(marks)
    dx, dy = stars[second, 0] - stars[first, 0], stars[second, 1] - stars[first, 1]
    length2 = dx * dx + dy * dy
    low2, high2 = length2 * scale_range[0] ** 2, length2 * scale_range[1] ** 2
    high = np.sqrt(high2)
    n_found = n_tested = 0
    window = 0
    for p in range(n):
        while ref_x[p] - ref_x[window] > high:
            window += 1
        for q in range(window, n):
            rx, ry = ref_x[q] - ref_x[p], ref_y[q] - ref_y[p]
            if rx > high:
                break
            r2 = rx * rx + ry * ry
            if r2 < low2 or r2 > high2:
                continue
            for mirror in range(2):
                # a = (ref pair) / (frame pair) as complex numbers, the frame mirrored for parity -1.
                parity = 1.0 - 2.0 * mirror
                a_re, a_im = (rx * dx + ry * parity * dy) / length2, (ry * dx - rx * parity * dy) / length2
                fx, fy = stars[first, 0], parity * stars[first, 1]
                b_re, b_im = ref_x[p] - (a_re * fx - a_im * fy), ref_y[p] - (a_re * fy + a_im * fx)
                if (b_re - middle) ** 2 + (b_im - middle) ** 2 > reach * reach:
                    continue
                n_tested += 1
                place = (a_re, a_im, b_re, b_im, parity)
                hits = _count_hits(stars, pair, place, marks)
                if hits >= min_hits:
                    n_found = _keep_place(found, n_found, hits, place)
    return n_found, n_tested


@part
def _keep_place(found: Array, n_found: int, hits: int, place: Place) -> int:
    """Put a place into the table, where it is full in the row of fewest hits if it has more; the rows filled."""
    row = n_found
    if n_found == len(found):
        row = 0
        for k in range(1, len(found)):
            row = k if found[k, 0] < found[row, 0] else row
        if found[row, 0] >= hits:
            return n_found
    found[row, 0] = hits
    for k in range(5):
        found[row, 1 + k] = place[k]
    return max(n_found, row + 1)


@part
def _count_hits(stars: Array, pair: tuple[int, int], place: Place, marks: npt.NDArray[np.uint8]) -> int:
    """Stars beside the pair that fall on a marked cell; gives up early where the first ones all miss."""
    (first, second), (a_re, a_im, b_re, b_im, parity) = pair, place
    m, n_cells = len(stars), len(marks)
    hits = tried = 0
    # Every pair begins with other stars, so that a run of false ones can stop some pairs but not all.
    k = (first + second) % m
    for _ in range(m):
        k = k + 1 if k + 1 < m else 0
        if k in (first, second):
            continue
        zx, zy = stars[k, 0], parity * stars[k, 1]
        x, y = a_re * zx - a_im * zy + b_re, a_re * zy + a_im * zx + b_im
        if 0 <= x < n_cells and 0 <= y < n_cells:
            i = int(x)
            hits += (marks[int(y), i >> 3] >> (i & 7)) & 1
        tried += 1
        # A true hypothesis that misses seven stars in a row is left to another pair.
        if (tried == 7 and hits == 0) or (tried == 14 and hits < 2):
            return 0
    return hits
