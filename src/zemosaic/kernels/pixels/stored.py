"""Numbers as files store them, turned into pixels and weights in one pass."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = ["unpack_floats", "unpack_shorts"]


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


@kernel
def unpack_shorts(stored, zero, data, weight):
    """Turn big-endian int16 into pixels, and weigh them: with 32768 for zero, what cameras write.

    Parameters
    ----------
    stored : ndarray, uint16, shape (h, w)
        Bit patterns as they lie in the file.
    zero : float32
        Added to each.
    data, weight : ndarray, float32, shape (h, w)
        Written: the values, and 1.
    """
    for y in range(stored.shape[0]):
        _unpack_short_row(stored[y], zero, data[y], weight[y])


@leaf
def _unpack_short_row(stored, zero, data, weight):
    for x in range(data.size):
        v = np.uint32(stored[x])
        v = ((v << np.uint32(8)) | (v >> np.uint32(8))) & np.uint32(0xFFFF)
        data[x] = np.float32(np.int16(v)) + zero
        weight[x] = np.float32(1)
