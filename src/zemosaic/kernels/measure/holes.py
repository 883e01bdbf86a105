"""Single missing pixels filled from their neighbours. Serial, nogil."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = ["FILLED_ALONG", "FILLED_ROUND", "fill_hole", "fill_holes", "find_holes"]

FILLED_ROUND = np.uint8(1)
"""Code of a pixel filled from all eight about it: exact to third order in the distance."""

FILLED_ALONG = np.uint8(2)
"""Code of a pixel filled from one or two pairs of neighbours on either side of it: exact to first order."""

_STRIDE = 64
"""Codes of a row that are looked at together: as many bytes as the widest vector holds."""


@kernel
def find_holes(bad, code):
    """How missing pixels can be filled: of each a code, 0 for those that count and those that cannot.

    A pixel is filled where a neighbour on either side of it, in its row or its column, is there. So wide holes stay.

    Parameters
    ----------
    bad : uint8 (h, w), 0 where a pixel counts
    code : uint8 (h, w), output

    Returns
    -------
    int
        Number of pixels that can be filled.
    """
    h, w = bad.shape
    code[:] = 0
    n = 0
    for y in range(1, h - 1):
        for x in range(1, w - 1):
            if bad[y, x] == 0:
                continue
            row = bad[y, x - 1] == 0 and bad[y, x + 1] == 0
            column = bad[y - 1, x] == 0 and bad[y + 1, x] == 0
            if not (row or column):
                continue
            down = bad[y - 1, x - 1] == 0 and bad[y + 1, x + 1] == 0
            up = bad[y - 1, x + 1] == 0 and bad[y + 1, x - 1] == 0
            code[y, x] = FILLED_ROUND if row and column and down and up else FILLED_ALONG
            n += 1
    return n


@kernel
def fill_holes(data, code, bad):
    """Fill missing pixels as `find_holes` found that they can be.

    Twice the mean of the nearest four less that of the diagonal ones: exact on a surface without fourth derivatives in
    both directions. With any of the eight missing, the mean of the nearest pairs that are there.

    Parameters
    ----------
    data : float32 (h, w)
        Changed at the pixels that are filled.
    code : uint8 (h, w)
    bad : uint8 (h, w)
        As `find_holes` had it.
    """
    h, w = data.shape
    for y in range(1, h - 1):
        for first in range(1, w - 1, _STRIDE):
            last = min(first + _STRIDE, w - 1)
            if not _has_any(code[y, first:last]):
                continue
            for x in range(first, last):
                if code[y, x] != 0:
                    data[y, x] = fill_hole(data, y, x, code[y, x], bad[y - 1 : y + 2, x - 1 : x + 2])


@leaf
def _has_any(codes):
    found = np.uint8(0)
    for x in range(codes.size):
        found |= codes[x]
    return found != 0


@part
def fill_hole(data, y, x, code, bad):
    """What one missing pixel is filled with, `bad` being the 3 x 3 pixels about it; see `fill_holes`."""
    near, n = 0.0, 0
    if bad[1, 0] == 0 and bad[1, 2] == 0:
        near += data[y, x - 1] + data[y, x + 1]
        n += 2
    if bad[0, 1] == 0 and bad[2, 1] == 0:
        near += data[y - 1, x] + data[y + 1, x]
        n += 2
    near /= n
    if code != FILLED_ROUND:
        return near
    far = data[y - 1, x - 1] + data[y - 1, x + 1] + data[y + 1, x - 1] + data[y + 1, x + 1]
    return 2 * near - far / 4
