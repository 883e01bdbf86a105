"""Numbers as files store them, turned into pixels and weights in one pass."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part

__all__ = ["unpack_floats"]


@kernel
def unpack_floats(stored, data, weight):
    """Turn big-endian float32 into the machine's (little-endian) order, and weigh them.

    All is done on bit patterns, so every finite value comes out as it went in.

    Parameters
    ----------
    stored : ndarray, uint32, shape (h, w)
        Bit patterns as they lie in the file.
    data : ndarray, uint32, shape (h, w)
        Written: bit patterns of the values, 0 for NaN and infinite ones.
    weight : ndarray, float32, shape (h, w)
        Written: 1, and 0 for NaN and infinite values.
    """
    for y in range(stored.shape[0]):
        _unpack_row(stored[y], data[y], weight[y])


@part
def _unpack_row(stored, data, weight):
    exponent = np.uint32(0x7F800000)
    for x in range(data.size):
        v = stored[x]
        v = (
            (v << np.uint32(24))
            | ((v & np.uint32(0xFF00)) << np.uint32(8))
            | ((v >> np.uint32(8)) & np.uint32(0xFF00))
            | (v >> np.uint32(24))
        )
        finite = (v & exponent) != exponent
        data[x] = v if finite else np.uint32(0)
        weight[x] = np.float32(1) if finite else np.float32(0)
