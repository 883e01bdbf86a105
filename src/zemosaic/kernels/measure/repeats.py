"""Values that occur again: rows that repeat others, the lowest value and how often it stands. Serial, nogil."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf

__all__ = ["find_lowest", "find_repeats"]


@kernel
def find_repeats(data, have, lag, repeats):
    """Rows that hold what an earlier row holds, wherever both have data, which must be more than half of them.

    Mostly the first samples that are compared differ, and the rest of the row is not looked at.

    Parameters
    ----------
    data : float32 (h, w); have : bool (h, w)
    lag : int
        Rows between the two.
    repeats : bool (h,), output
        False in the first `lag` rows.
    """
    h, w = data.shape
    repeats[:] = False
    for y in range(lag, h):
        n, is_same = 0, True
        for x in range(w):
            if have[y, x] and have[y - lag, x]:
                n += 1
                if data[y, x] != data[y - lag, x]:
                    is_same = False
                    break
        repeats[y] = is_same and 2 * n > w


@kernel
def find_lowest(data, have):
    """The lowest value, how often it stands, and the next one above it.

    Parameters
    ----------
    data : float32 (h, w); have : bool (h, w)

    Returns
    -------
    lowest, next_above : float
        inf where there is none.
    n : int
    """
    lowest, above, n = np.float32(np.inf), np.float32(np.inf), 0
    for y in range(data.shape[0]):
        if not _reaches(data[y], have[y], above):
            continue
        for x in range(data.shape[1]):
            value = data[y, x]
            if not have[y, x] or value > above:
                continue
            if value < lowest:
                above, lowest, n = lowest, value, 1
            elif value == lowest:
                n += 1
            else:
                above = value
    return lowest, above, n


@leaf
def _reaches(line, there, limit):
    """Whether any value is not above a limit: most rows hold none, which a loop without branches tells."""
    n = np.int32(0)
    for x in range(line.size):
        n += np.int32((line[x] <= limit) & there[x])
    return n > 0
