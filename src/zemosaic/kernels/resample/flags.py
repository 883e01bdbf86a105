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
    across = np.full((h + 2 * PAD + 1, w + 1), HOLE | UNEVEN, np.uint8)
    flags = np.empty((h + 1, w + 1), np.uint8)
    _fill_flags((data, weight, spikes), saturation, n_taps, (here, across), flags)
    return flags


@leaf
def _fill_flags(window, saturation, n_taps, scratch, flags):  # type: ignore[no-untyped-def]
    """`flag_window`; `scratch` holds a row's own flags, and what is gathered along each row.

    Gathered rows begin and end with PAD that lie outside the window; one more is that of a plain row.
    """
    here, across = scratch
    h, w = flags.shape[0] - 1, flags.shape[1] - 1
    before, width = max(n_taps // 2 - 1, 0), WIDTH if n_taps > 2 else 2
    line, plain = here[PAD : PAD + w], across[h + 2 * PAD]
    for x in range(w):
        line[x] = 0
    _gather_along(here, before, width, plain)
    for y in range(h):
        if _flag_row(window, y, saturation, line):
            _gather_along(here, before, width, across[PAD + y])
        else:
            out = across[PAD + y]
            for x in range(w + 1):
                out[x] = plain[x]
    for y in range(h + 1):
        _gather_rows(across[PAD + y - 1 - before :], before, max(n_taps, 2), flags[y])


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
        # Numba adds numbers of 32 bits as such of 64, of which half as many go into a vector.
        n = np.int32(n + np.int32((weight[x] != 1) | (data[x] >= saturation)))
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
def _gather_along(here, before, width, out):  # type: ignore[no-untyped-def]
    """One row of flags: holes over `width` columns, the other bits over the two nearest."""
    at, last = PAD - 1 - before, width - 1
    lines = (
        here[at:], here[at + min(1, last) :], here[at + min(2, last) :], here[at + min(3, last) :],
        here[at + min(4, last) :], here[at + min(5, last) :], here[at + min(6, last) :], here[at + min(7, last) :],
    )  # fmt: skip
    _gather(lines, here[at + before :], here[at + before + 1 :], out)


@leaf
def _gather_rows(across, before, n, out):  # type: ignore[no-untyped-def]
    """One row of `flag_window`: holes over the first `n` rows, the other bits over the two nearest."""
    last = n - 1
    lines = (
        across[0], across[min(1, last)], across[min(2, last)], across[min(3, last)],
        across[min(4, last)], across[min(5, last)], across[min(6, last)], across[min(7, last)],
    )  # fmt: skip
    _gather(lines, across[before], across[before + 1], out)


@leaf
def _gather(lines, near, next_near, out):  # type: ignore[no-untyped-def]
    """Holes of eight lines (which may be the same ones), and all bits of two: in one pass, nothing is written twice."""
    a, b, c, d, e, f, g, h = lines
    for x in range(out.size):
        holes = a[x] | b[x] | c[x] | d[x] | e[x] | f[x] | g[x] | h[x]
        out[x] = (holes & HOLE) | near[x] | next_near[x]
