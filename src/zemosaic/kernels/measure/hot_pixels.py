"""Hot and cold pixels of a raw plane, Bayer or mono: a pixel alone is a defect, one among bright neighbours a star.

Everything compares a pixel with the eight at distance 2 (of its own colour on any Bayer sensor) and asks the four
at distance 1 (of other colours) whether they see the same. Beyond the array's edge pixels are mirrored about the
edge pixel, which keeps their colour. Frames are looked at whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part

__all__ = ["COLD", "HOT", "RESIDUAL_CLIP", "RESIDUAL_UNIT", "find_defects", "find_residuals", "mirror_index"]

HOT, COLD = 1, 2
"""Codes of a pixel that stands above or below its neighbours."""

RESIDUAL_UNIT = 64
"""Steps to one sigma in what `find_residuals` finds."""

RESIDUAL_CLIP = 8
"""Sigmas at which one frame's residual is cut, so that no single frame decides."""

_DY = (-2, -2, -2, 0, 0, 2, 2, 2)
_DX = (-2, 0, 2, -2, 2, -2, 0, 2)
"""Where the eight nearest pixels of the same colour lie, on any Bayer sensor."""

_SLOPE_SHARE = 0.5
"""Share of the neighbours' own range (6th minus 3rd of eight) that counts as scatter: 0.5 sigma on flat sky, more
than that only on slopes."""

_STAR_SHARE, _RED_SHARE = 0.25, 0.04
"""Of a pixel's excess: what the four beside it show of a star at least, where it is faint and where it is bright; the
figures are under `find_defects`."""

_BESIDE_SIGMA = 0.58
"""Noise of the mean excess of four pixels, each over the median of its own eight neighbours, in sigma."""

_MEDIAN_OF_8 = (
    (0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (1, 2), (5, 6),
    (0, 4), (3, 7), (1, 5), (2, 6), (2, 4), (3, 5), (3, 4),
)  # fmt: skip
"""Comparisons that leave the 4th and 5th of eight values in places 3 and 4 (Batcher's odd-even merge sort,
1968, without those that only order the rest)."""

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@part
def mirror_index(i, n):
    """Index mirrored about the first and the last pixel; keeps its parity on an even-sized or any inner edge."""
    if i < 0:
        return -i
    return 2 * (n - 1) - i if i >= n else i


@part
def _sorted_neighbours(image, weight, y, x, values):
    """Fill `values` with the valid pixels at distance 2, ascending; returns how many."""
    h, w = image.shape
    n = 0
    for k in range(8):
        j, i = mirror_index(y + _DY[k], h), mirror_index(x + _DX[k], w)
        if not weight[j, i] > 0:
            continue
        value = image[j, i]
        p = n
        while p > 0 and values[p - 1] > value:
            values[p] = values[p - 1]
            p -= 1
        values[p] = value
        n += 1
    return n


@part
def _median(values, n):
    return np.float32(0.5) * (values[(n - 1) // 2] + values[n // 2])


@part
def _excess_beside(image, weight, y, x, values):
    """How far the adjacent pixels stand above the medians of their own neighbours.

    Returns the mean of the four, the mean without the highest, and the lowest of the four; NaN when fewer than
    three can say.
    """
    h, w = image.shape
    n, total, lowest, highest = 0, np.float32(0), np.float32(np.inf), np.float32(-np.inf)
    for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
        j, i = mirror_index(y + dy, h), mirror_index(x + dx, w)
        if not weight[j, i] > 0:
            continue
        found = _sorted_neighbours(image, weight, j, i, values)
        if found < 3:
            continue
        value = image[j, i] - _median(values, found)
        lowest, highest = min(lowest, value), max(highest, value)
        total += value
        n += 1
    if n < 3:
        nothing = np.float32(np.nan)
        return nothing, nothing, nothing
    return total / n, (total - highest) / (n - 1), (total - lowest) / (n - 1)


@part
def _is_alone(excess, mean, mean_of_rest, sigma):
    """Whether the adjacent pixels' excess is too small for a star (or NaN: then nobody says so)."""
    faint = _STAR_SHARE * excess - 3 * _BESIDE_SIGMA * sigma
    bright = _RED_SHARE * excess + 2.2 * _BESIDE_SIGMA * sigma
    if mean < min(faint, bright):
        return True
    # Two hot pixels side by side: only where the other three can be told from a star's by far.
    return excess > 40 * sigma and mean_of_rest < _RED_SHARE * excess


@part
def _judge(image, weight, y, x, sigma, n_sigma, values):
    n = _sorted_neighbours(image, weight, y, x, values)
    if n < 4:
        return 0
    # The third from the far side: two defects among eight neighbours hide nothing.
    low, high = values[n // 4], values[n - 1 - n // 4]
    limit = n_sigma * max(sigma, np.float32(_SLOPE_SHARE) * (high - low))
    up, down = image[y, x] - high, low - image[y, x]
    if max(up, down) <= limit:
        return 0
    mean, without_highest, without_lowest = _excess_beside(image, weight, y, x, values)
    if up > limit and _is_alone(up, mean, without_highest, sigma):
        return HOT
    if down > limit and _is_alone(down, -mean, -without_lowest, sigma):
        return COLD
    return 0


@kernel
def find_defects(
    image: Floats,
    weight: Floats,
    sigma: Floats,
    n_sigma: float,
    out: Bytes,
) -> None:
    """Mark single pixels that stand out of a raw plane and are not stars.

    A pixel is hot when its excess E over the third highest of the eight pixels at distance 2 is more than
    `n_sigma`, and the mean excess of the four adjacent pixels over their own neighbours is less than
    ``min(0.25 E - 1.7 sigma, 0.04 E + 1.3 sigma)``; cold the other way round. A star of FWHM 1.8 px centred on a
    pixel puts 0.43 of that pixel's light in each adjacent one, times the ratio of its colours: 0.25 holds for ratios
    down to 0.6 while E is so small that noise could hide the light, 0.04 for ratios down to 0.15 elsewhere.

    Parameters
    ----------
    image : ndarray, float32, shape (h, w)
        Raw samples, one plane; anything where the weight is 0.
    weight : ndarray, float32, shape (h, w)
        0 where there is no data; such pixels neither judge nor are judged.
    sigma : ndarray, float32, shape (2, 2)
        Sky noise of a sample by the parity of its row and column.
    n_sigma : float
        Threshold, in the larger of `sigma` and half the range of the middle four of the eight neighbours.
    out : ndarray, uint8, shape (h, w)
        Filled with 0, `HOT` or `COLD`.
    """
    h, w = image.shape
    values, of_columns, limits = np.empty(8, np.float32), np.empty((2, w), np.float32), np.empty(w, np.float32)
    for y in range(h):
        out[y] = 0
        if w < 5 or h < 5:
            continue
        for x in range(w):
            limits[x] = np.float32(n_sigma) * sigma[y & 1, x & 1]
        _mark_far(image, y, limits, of_columns, out[y])
        for x in range(w):
            if out[y, x] == 0:
                continue
            if weight[y, x] > 0 and _is_beyond_three(image, y, x, limits[x]):
                out[y, x] = _judge(image, weight, y, x, sigma[y & 1, x & 1], np.float32(n_sigma), values)
            else:
                out[y, x] = 0


@part
def _mark_far(image, y, limits, of_columns, far):
    """Mark the pixels of a row that lie further than their limits from any at distance 2.

    Plain loops over rows, which become vectors: all but a few pixels are settled here. The two outermost on each side
    are always marked.
    """
    h, w = image.shape
    row, up, down = image[y], image[mirror_index(y - 2, h)], image[mirror_index(y + 2, h)]
    low, high = of_columns
    for x in range(w):
        # By comparisons that a missing value, NaN, fails.
        lowest, highest = np.float32(np.inf), np.float32(-np.inf)
        for v in (up[x], row[x], down[x]):
            lowest = v if v < lowest else lowest
            highest = v if v > highest else highest
        low[x], high[x] = lowest, highest
    here, limit, marks = row[2 : w - 2], limits[: w - 4], far[2 : w - 2]
    lows, highs = (low[: w - 4], low[2 : w - 2], low[4:]), (high[: w - 4], high[2 : w - 2], high[4:])
    for x in range(here.size):
        lowest = min(lows[0][x], lows[1][x], lows[2][x])
        highest = max(highs[0][x], highs[1][x], highs[2][x])
        marks[x] = np.uint8((here[x] - lowest > limit[x]) | (highest - here[x] > limit[x]))
    for x in range(2):
        far[x] = far[w - 1 - x] = np.uint8(1)


@part
def _is_beyond_three(image, y, x, limit):
    """Whether a pixel stands above three of its eight neighbours, or below three, by a limit."""
    h, w = image.shape
    above, below = 0, 0
    for k in range(8):
        difference = image[y, x] - image[mirror_index(y + _DY[k], h), mirror_index(x + _DX[k], w)]
        above += difference > limit
        below += difference < -limit
    return above >= 3 or below >= 3


@kernel
def find_residuals(image: Floats, weight: Floats, sigma: Floats, out: npt.NDArray[np.int16]) -> None:
    """A whole frame's residuals against the median of the eight pixels at distance 2.

    Parameters
    ----------
    image, weight : ndarray, float32, shape (h, w)
        One raw frame, from its first pixel.
    sigma : ndarray, float32, shape (2, 2)
        Sky noise by parity of row and column.
    out : ndarray, int16, shape (h, w)
        Filled: residual in units of ``sigma / RESIDUAL_UNIT``, cut at `RESIDUAL_CLIP` sigma; 0 where a pixel or one of
        the eight has no weight, and in frames too small to have eight. Whole numbers, so that sums do not depend on the
        order of frames.
    """
    h, w = image.shape
    if w < 5 or h < 5:
        out[:] = 0
        return
    rows, bad, noise = np.empty((8, w), np.float32), np.empty(w, np.uint8), np.empty(w, np.float32)
    for y in range(h):
        bad[:] = 0
        for k in range(8):
            _shift_row(image, weight, y + _DY[k], _DX[k], rows[k], bad)
        for a, b in _MEDIAN_OF_8:
            _order_rows(rows[a], rows[b])
        for x in range(w):
            noise[x] = sigma[y & 1, x & 1]
        _store_residuals(image[y], weight[y], bad, (rows[3], rows[4], noise), out[y])


@part
def _store_residuals(line, weight, bad, beside, out):
    """Residuals of a row against the 4th and 5th of the eight neighbours, and the noise; in single precision: exact."""
    lower, upper, noise = beside
    for x in range(line.size):
        residual = (line[x] - np.float32(0.5) * (lower[x] + upper[x])) / noise[x]
        residual = min(max(residual, np.float32(-RESIDUAL_CLIP)), np.float32(RESIDUAL_CLIP))
        steps = np.int16(np.rint(residual * np.float32(RESIDUAL_UNIT)))
        out[x] = steps if (weight[x] > 0) & (bad[x] == 0) else np.int16(0)


@part
def _shift_row(image, weight, y, dx, row, bad):
    """Copy row `y` (mirrored), moved by `dx`, to `row`; raise `bad` where it has no weight."""
    w = row.size
    y = mirror_index(y, image.shape[0])
    first, last = max(-dx, 0), min(w - dx, w)
    source, target = image[y, first + dx : last + dx], row[first:last]
    for x in range(source.size):
        target[x] = source[x]
    seen, flags = weight[y, first + dx : last + dx], bad[first:last]
    for x in range(seen.size):
        flags[x] |= np.uint8(not seen[x] > 0)
    for k in range(abs(dx)):
        x = k if dx < 0 else w - 1 - k
        row[x] = image[y, mirror_index(x + dx, w)]
        bad[x] |= np.uint8(not weight[y, mirror_index(x + dx, w)] > 0)


@part
def _order_rows(a, b):
    """The smaller of each pair to `a`, the larger to `b`."""
    for x in range(a.size):
        first, second = a[x], b[x]
        a[x], b[x] = (first, second) if first < second else (second, first)
