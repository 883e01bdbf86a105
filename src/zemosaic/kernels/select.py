"""The n-th smallest of some values, for kernels of all rooms. Serial, nogil."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part

__all__ = ["select_nth"]


@kernel
def select_nth(values, n, k):
    """The k-th smallest of ``values[:n]`` (k from 0), float32.

    Halves the range that holds it, counting the values below: a loop without branches for each bit, four times as fast
    as Hoare's selection on some hundred values. Whole numbers that are ordered as the floats are stand for them.
    """
    bits, keys = values.view(np.int32), np.empty(n, np.int32)
    for i in range(n):
        keys[i] = _ordered(bits[i])
    low, high = np.int64(keys[0]), np.int64(keys[0])
    for i in range(n):
        low, high = min(low, np.int64(keys[i])), max(high, np.int64(keys[i]))
    while low < high:
        middle = (low + high) >> 1
        limit, count = np.int32(middle), np.int32(0)
        for i in range(n):
            count = np.int32(count + np.int32(keys[i] <= limit))
        if count > k:
            high = middle
        else:
            low = middle + 1
    found = np.empty(1, np.int32)
    found[0] = _ordered(np.int32(low))
    return found.view(np.float32)[0]


@part
def _ordered(bits):
    """Bits of a float as a whole number that grows with it; its own inverse."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
