"""The n-th smallest of some values, for kernels of all rooms and for stages. Serial, nogil."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf

__all__ = ["select_nth", "select_pair", "select_with"]

_LOWEST, _HIGHEST = np.int32(-(2**31)), np.int32(2**31 - 1)


@kernel
def select_nth(values, n, k):
    """The k-th smallest of ``values[:n]`` (k from 0), float32."""
    return select_with(np.empty(n, np.int32), values, n, k)


@kernel
def select_pair(values, n, k):
    """The k-th smallest of ``values[:n]`` (k from 0), and the next one, or the same where there is none; float32."""
    keys = np.empty(n, np.int32)
    value = select_with(keys, values, n, k)
    count, _, above = _split(keys, n, _ordered(np.float32(value).view(np.int32)))
    return value, (value if count > k + 1 or count == n else _value_of(above))


@leaf
def select_with(keys, values, n, k):
    """As `select_nth`; `keys`, int32, has room for n numbers, for those who select often."""
    for i in range(n):
        keys[i] = _ordered(np.float32(values[i]).view(np.int32))
    return _value_of(_select(keys, n, k))


@leaf
def _value_of(key):
    return np.int32(_ordered(np.int32(key))).view(np.float32)


@leaf
def _select(keys, n, k):
    """The k-th smallest of whole numbers.

    Narrows the range that holds it, counting the numbers below a place in it: a loop without branches each time, of
    which some five are enough for a hundred values. The first place is their mean: most who ask want a median.
    """
    low, high, place = _range_of(keys, n)
    n_below, n_up_to = 0, n
    while low < high:
        count, below, above = _split(keys, n, np.int32(min(place, high - 1)))
        span = high - low
        if count > k:
            high, n_up_to = below, count
        else:
            low, n_below = above, count
        # Where it were if all lay evenly; where that left more than half of the range, in its middle.
        share = (high - low) * (2 * (k - n_below) + 1) // (2 * (n_up_to - n_below))
        place = low + ((high - low) >> 1 if 2 * (high - low) > span else share)
    return low


@leaf
def _range_of(keys, n):
    """The lowest and the highest of whole numbers, and their mean; n > 0."""
    low, high, total = keys[0], keys[0], np.int64(0)
    for i in range(n):
        low, high = min(low, keys[i]), max(high, keys[i])
        total += keys[i]
    return np.int64(low), np.int64(high), total // n


@leaf
def _split(keys, n, limit):
    """How many whole numbers are not above a limit, the highest of these, and the lowest of the others."""
    count, below, above = np.int32(0), _LOWEST, _HIGHEST
    for i in range(n):
        is_under = keys[i] <= limit
        count = np.int32(count + np.int32(is_under))
        below = max(below, keys[i] if is_under else _LOWEST)
        above = min(above, _HIGHEST if is_under else keys[i])
    return np.int64(count), np.int64(below), np.int64(above)


@leaf
def _ordered(bits):
    """Bits of a float as a whole number that grows with it; its own inverse."""
    return np.int32(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
