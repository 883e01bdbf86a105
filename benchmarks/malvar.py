"""Demosaicing of a raw Bayer plane by the linear filters of Malvar, He & Cutler (2004): the rival in `colour.py`.

Linear filters keep the flux of every colour exactly, which edge-directed methods do not: on stars of FWHM 2.8 px they
are wrong by several per cent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from zemosaic.kernels.resample.bayer import colour_phases

__all__ = ["demosaic"]

Floats = npt.NDArray[np.float32]


def demosaic(raw: Floats, weight: Floats, pattern: str) -> tuple[Floats, Floats]:
    """Three colours at every pixel of a raw plane.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
        The plane; 0 weight where there is no sample.
    pattern : str
        Colours of the first four pixels.

    Returns
    -------
    data : ndarray, float32, shape (3, h, w)
        The samples themselves where a pixel has the colour; at the edges samples are mirrored about the edge pixel.
    weight : ndarray, float32, shape (h, w)
        The weight given, but 0 where the pixel's own sample, or more than one of the four beside it, is missing.

    Notes
    -----
    Source: H. S. Malvar, L. He, R. Cutler, ICASSP 2004, 485, figure 2. A colour is interpolated bilinearly and
    sharpened by the Laplacian of the colour that was sampled there: where the colours' ratio is not that of white
    light, star cores are wrong by up to 20 %, though sums over whole stars are right.

    A missing sample is replaced by the mean of the valid ones of its colour at distance 2 before the filters see it;
    the noise of neighbouring pixels is correlated.
    """
    red, _, _ = colour_phases(pattern)
    data, out_weight = np.empty((3, *raw.shape), np.float32), np.empty_like(weight)
    _demosaic(raw, weight, red, data, out_weight)
    return data, out_weight


@njit(nogil=True, cache=True)
def _mirrored(i, n):
    """Index mirrored about the first and the last pixel; keeps its parity."""
    if i < 0:
        return -i
    return 2 * (n - 1) - i if i >= n else i


@njit(nogil=True, cache=True)
def _padded_row(raw, weight, y, row):
    """Row `y` (mirrored) with two mirrored pixels at each end, missing samples filled in."""
    h, w = raw.shape
    y = _mirrored(y, h)
    row[2 : w + 2] = raw[y]
    for x in range(w):
        if not weight[y, x] > 0:
            row[x + 2] = _filled(raw, weight, y, x)
    row[0], row[1], row[w + 2], row[w + 3] = row[4], row[3], row[w], row[w - 1]


@njit(nogil=True, cache=True)
def _filled(raw, weight, y, x):
    """Mean of the valid samples of the same colour at distance 2; 0 without any."""
    h, w = raw.shape
    total, n = np.float32(0), 0
    for dy in (-2, 0, 2):
        for dx in (-2, 0, 2):
            j, i = _mirrored(y + dy, h), _mirrored(x + dx, w)
            if weight[j, i] > 0:
                total += raw[j, i]
                n += 1
    return total / n if n else np.float32(0)


@njit(nogil=True, cache=True)
def _demosaic(raw, weight, red, data, out_weight):
    h, w = raw.shape
    rows = np.empty((5, w + 4), np.float32)
    green, along, across, diagonal = np.empty((4, w), np.float32)
    for k in range(4):
        _padded_row(raw, weight, k - 2, rows[k])
    for y in range(h):
        _padded_row(raw, weight, y + 2, rows[(y + 4) % 5])
        a, b, c, d, e = rows[y % 5], rows[(y + 1) % 5], rows[(y + 2) % 5], rows[(y + 3) % 5], rows[(y + 4) % 5]
        _filter_row(a, b, c, d, e, green, along, across, diagonal)
        own, other = (0, 2) if (y - red[0]) & 1 == 0 else (2, 0)
        at_colour = red[1] if own == 0 else 1 - red[1]
        p = at_colour & 1
        here = c[2 : w + 2]
        data[own, y, p::2], data[1, y, p::2], data[other, y, p::2] = here[p::2], green[p::2], diagonal[p::2]
        p = 1 - p
        data[own, y, p::2], data[1, y, p::2], data[other, y, p::2] = along[p::2], here[p::2], across[p::2]
        _weigh_row(weight[_mirrored(y - 1, h)], weight[y], weight[_mirrored(y + 1, h)], out_weight[y])


@njit(nogil=True, cache=True)
def _weigh_row(above, here, below, out):
    """The weight of a row, 0 where two of the four neighbours have none."""
    w = out.size
    for x in range(1, w - 1):
        seen = np.int32(above[x] > 0) + np.int32(below[x] > 0) + np.int32(here[x - 1] > 0) + np.int32(here[x + 1] > 0)
        out[x] = here[x] if (here[x] > 0) & (seen >= 3) else np.float32(0)
    for x in (0, w - 1):
        seen = np.int32(above[x] > 0) + np.int32(below[x] > 0)
        seen += np.int32(here[_mirrored(x - 1, w)] > 0) + np.int32(here[_mirrored(x + 1, w)] > 0)
        out[x] = here[x] if (here[x] > 0) & (seen >= 3) else np.float32(0)


@njit(nogil=True, cache=True)
def _filter_row(a, b, c, d, e, green, along, across, diagonal):
    """The four filters on five rows: green at a colour, colours along the row and across it at green, the other
    colour at a colour."""
    eighth, half, threehalf = np.float32(0.125), np.float32(0.5), np.float32(1.5)
    two, four, five, six = np.float32(2), np.float32(4), np.float32(5), np.float32(6)
    for x in range(green.size):
        here = c[x + 2]
        near_v, near_h = b[x + 2] + d[x + 2], c[x + 1] + c[x + 3]
        far_v, far_h = a[x + 2] + e[x + 2], c[x] + c[x + 4]
        corners = b[x + 1] + b[x + 3] + d[x + 1] + d[x + 3]
        green[x] = eighth * (four * here + two * (near_v + near_h) - far_v - far_h)
        along[x] = eighth * (five * here + four * near_h - far_h - corners + half * far_v)
        across[x] = eighth * (five * here + four * near_v - far_v - corners + half * far_h)
        diagonal[x] = eighth * (six * here + two * corners - threehalf * (far_v + far_h))
