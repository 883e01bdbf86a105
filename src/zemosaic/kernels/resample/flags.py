"""Why a position in a window needs more than the plain sum of a kernel: bits of a plane, one byte a position."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import leaf, part
from zemosaic.kernels.resample.lanczos import WIDTH
from zemosaic.kernels.resample.lattice import FLAG_SATURATED

__all__ = ["HOLE", "SPIKE", "UNEVEN", "flag_window"]

HOLE, UNEVEN, SPIKE, SATURATED = np.uint8(1), np.uint8(2), np.uint8(4), np.uint8(FLAG_SATURATED)
"""Bits; the last is that of the alpha plane."""

PAD = 8
"""Pixels round the window that count as holes; at least WIDTH - 1 and half a kernel."""


@part
def flag_window(data, weight, spikes, saturation, n_taps):  # type: ignore[no-untyped-def]
    """What lies under the kernel, for each whole position: element (y + 1, x + 1) is for floor (y, x).

    HOLE: a hole under the kernel (for Lanczos under all WIDTH columns that its vectors touch, so that padding
    taps never meet a NaN); UNEVEN: one of the four nearest pixels has a weight other than 1; SATURATED, SPIKE:
    one of them is saturated, or a spike. Outside the window all is hole.
    """
    _, h, w = data.shape
    here = np.full(w + 2 * PAD, HOLE | UNEVEN, np.uint8)
    across, found = np.zeros((h + 1, w + 1), np.uint8), np.empty(h, np.bool_)
    flags = np.empty((h + 1, w + 1), np.uint8)
    _fill_flags((data, weight, spikes), saturation, n_taps, (here, across, found), flags)
    return flags


@leaf
def _fill_flags(window, saturation, n_taps, scratch, flags):  # type: ignore[no-untyped-def]
    """`flag_window`; `scratch` holds a row's own flags, what is gathered of each row, and whether that is any."""
    here, across, found = scratch
    h, w = found.size, here.size - 2 * PAD
    before, width = max(n_taps // 2 - 1, 0), WIDTH if n_taps > 2 else 2
    line, ends = here[PAD : PAD + w], across[h]
    for x in range(w):
        line[x] = 0
    _gather_or(here, before, width, ends)
    for y in range(h):
        found[y] = _flag_row(window, y, saturation, line)
        if found[y]:
            _gather_or(here, before, width, across[y])
    for y in range(h + 1):
        out = flags[y]
        for x in range(w + 1):
            out[x] = ends[x]
        for t in range(max(n_taps, 2)):
            near = t == before or t == before + 1
            mask = np.uint8(255) if near else HOLE
            row = y - 1 - before + t
            if row < 0 or row >= h:
                for x in range(w + 1):
                    out[x] |= (HOLE | UNEVEN) & mask
            elif found[row]:
                source = across[row]
                for x in range(w + 1):
                    out[x] |= source[x] & mask


@leaf
def _flag_row(window, y, saturation, line):  # type: ignore[no-untyped-def]
    """Row `y` of `flag_window`, each pixel by itself; False, and nothing written, where it is all plain."""
    # Rows are taken of whole planes: of a slice across channels the compiler does not know that pixels are neighbours.
    data, weight, spikes = window
    n = np.int64(0)
    for k in range(data.shape[0]):
        n += _count_unlike(weight[min(k, weight.shape[0] - 1), y], data[k, y], saturation)
        if spikes.size:
            n += _count_spikes(spikes[k, y])
    if n == 0:
        return False
    for x in range(line.size):
        line[x] = 0
    for k in range(data.shape[0]):
        m, d = weight[min(k, weight.shape[0] - 1), y], data[k, y]
        for x in range(line.size):
            plain = np.uint8(m[x] != 1) << 1
            line[x] |= plain if m[x] > 0 else HOLE | UNEVEN
            line[x] |= np.uint8((m[x] > 0) & (d[x] >= saturation)) << 7
        if spikes.size:
            _flag_spikes(spikes[k, y], line)
    return True


@leaf
def _count_unlike(weight, data, saturation):  # type: ignore[no-untyped-def]
    """Pixels of a row that are saturated, or whose weight is not 1."""
    n = np.int32(0)
    for x in range(data.size):
        n += np.int32((weight[x] != 1) | (data[x] >= saturation))
    return n


@leaf
def _count_spikes(spikes):  # type: ignore[no-untyped-def]
    n = np.int32(0)
    for x in range(spikes.size):
        n += np.int32(spikes[x] > 0)
    return n


@leaf
def _flag_spikes(spikes, line):  # type: ignore[no-untyped-def]
    """One row of `flag_window`: where there are spikes."""
    for x in range(line.size):
        line[x] |= np.uint8(spikes[x] > 0) << 2


@leaf
def _gather_or(here, before, width, out):  # type: ignore[no-untyped-def]
    """One row of `flag_window`: holes over `width` columns, the other bits over the two nearest."""
    for t in range(width):
        near = t == before or t == before + 1
        mask = np.uint8(255) if near else HOLE
        source = here[PAD - 1 - before + t :]
        for x in range(out.size):
            out[x] |= source[x] & mask
