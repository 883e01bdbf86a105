"""LZ4 blocks unpacked (the block format that its author published)."""

from __future__ import annotations

from zemosaic.kernels.compiled import kernel

__all__ = ["unpack_lz4"]


@kernel
def unpack_lz4(packed, out):
    """Unpack one block.

    A block is a row of sequences: a token, literals that are copied as they are, and a match, bytes that are repeated
    from what has been unpacked. The last sequence has no match. Lengths of 15 go on in further bytes.

    Parameters
    ----------
    packed : ndarray, uint8, shape (n,)
    out : ndarray, uint8, shape (m,)
        Filled from its start.

    Returns
    -------
    int
        Bytes that were unpacked; fewer than `out` holds, or -1, where the block is damaged.
    """
    i, j, n, m = 0, 0, len(packed), len(out)
    while i < n:
        token = int(packed[i])
        i += 1
        length = token >> 4
        more = length == 15
        while more and i < n:
            length += int(packed[i])
            more = packed[i] == 255
            i += 1
        if i + length > n or j + length > m:
            return -1
        for k in range(length):
            out[j + k] = packed[i + k]
        i += length
        j += length
        if i >= n:
            return j
        if i + 2 > n:
            return -1
        back = int(packed[i]) | int(packed[i + 1]) << 8
        i += 2
        length = token & 15
        more = length == 15
        while more and i < n:
            length += int(packed[i])
            more = packed[i] == 255
            i += 1
        length += 4
        if back == 0 or back > j or j + length > m:
            return -1
        for k in range(length):  # a match may overlap itself: one byte after the other
            out[j + k] = out[j + k - back]
        j += length
    return j
