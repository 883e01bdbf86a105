"""Hot and cold pixels of a raw plane, Bayer or mono: a pixel alone is a defect, one among bright neighbours a star.

Everything compares a pixel with the eight at distance 2 (of its own colour on any Bayer sensor) and asks the four
at distance 1 (of other colours) whether they see the same. Beyond the array's edge pixels are mirrored about the
edge pixel, which keeps their colour. Frames are looked at whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf

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

_STRIDE = 64
"""Marks of a row that are looked at together: as many bytes as the widest vector holds."""

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@leaf
def mirror_index(i, n):
    """Index mirrored about the first and the last pixel; keeps its parity on an even-sized or any inner edge."""
    if i < 0:
        return -i
    return 2 * (n - 1) - i if i >= n else i


@leaf
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


@leaf
def _median_of_neighbours(image, weight, y, x, values):
    """Median of the valid pixels at distance 2, NaN for fewer than three; `values` has room for them."""
    h, w = image.shape
    if 2 <= y < h - 2 and 2 <= x < w - 2:
        has_all = (
            (weight[y - 2, x - 2] > 0) & (weight[y - 2, x] > 0) & (weight[y - 2, x + 2] > 0) & (weight[y, x - 2] > 0)
            & (weight[y, x + 2] > 0) & (weight[y + 2, x - 2] > 0) & (weight[y + 2, x] > 0) & (weight[y + 2, x + 2] > 0)
        )  # fmt: skip
        if has_all:  # as nearly everywhere: without a branch they are in order
            low, high = _middle_two(
                (image[y - 2, x - 2], image[y - 2, x], image[y - 2, x + 2], image[y, x - 2]),
                (image[y, x + 2], image[y + 2, x - 2], image[y + 2, x], image[y + 2, x + 2]),
            )
            return np.float32(0.5) * (low + high)
    n = _sorted_neighbours(image, weight, y, x, values)
    return np.float32(0.5) * (values[(n - 1) // 2] + values[n // 2]) if n >= 3 else np.float32(np.nan)


@leaf
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
        median = _median_of_neighbours(image, weight, j, i, values)
        if np.isnan(median):
            continue
        value = image[j, i] - median
        lowest, highest = min(lowest, value), max(highest, value)
        total += value
        n += 1
    if n < 3:
        nothing = np.float32(np.nan)
        return nothing, nothing, nothing
    return total / n, (total - highest) / (n - 1), (total - lowest) / (n - 1)


@leaf
def _is_alone(excess, mean, mean_of_rest, sigma):
    """Whether the adjacent pixels' excess is too small for a star (or NaN: then nobody says so)."""
    faint = _STAR_SHARE * excess - 3 * _BESIDE_SIGMA * sigma
    bright = _RED_SHARE * excess + 2.2 * _BESIDE_SIGMA * sigma
    if mean < min(faint, bright):
        return True
    # Two hot pixels side by side: only where the other three can be told from a star's by far.
    return excess > 40 * sigma and mean_of_rest < _RED_SHARE * excess


@leaf
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
    values, limits = np.empty(8, np.float32), np.empty((2, w), np.float32)
    low, high = np.empty(w, np.float32), np.empty(w, np.float32)
    for x in range(w):
        limits[0, x], limits[1, x] = np.float32(n_sigma) * sigma[0, x & 1], np.float32(n_sigma) * sigma[1, x & 1]
    for y in range(h):
        if w < 5 or h < 5:
            out[y] = 0
            continue
        _find_ends(image[mirror_index(y - 2, h)], image[y], image[mirror_index(y + 2, h)], low, high)
        _mark_far(image[y], low, high, limits[y & 1], out[y])
        for first in range(0, w, _STRIDE):
            if not _has_any(out[y, first : first + _STRIDE]):
                continue
            for x in range(first, min(first + _STRIDE, w)):
                if out[y, x] == 0:
                    continue
                if weight[y, x] > 0 and _is_beyond_three(image, y, x, limits[y & 1, x]):
                    out[y, x] = _judge(image, weight, y, x, sigma[y & 1, x & 1], np.float32(n_sigma), values)
                else:
                    out[y, x] = 0


@leaf
def _has_any(marks):
    found = np.uint8(0)
    for x in range(marks.size):
        found |= marks[x]
    return found != 0


@leaf
def _find_ends(up, row, down, low, high):
    """The lowest and the highest of three rows' pixels in each column."""
    for x in range(row.size):
        # By comparisons that a missing value, NaN, fails.
        lowest, highest = np.float32(np.inf), np.float32(-np.inf)
        for v in (up[x], row[x], down[x]):
            lowest = v if v < lowest else lowest
            highest = v if v > highest else highest
        low[x], high[x] = lowest, highest


@leaf
def _mark_far(row, low, high, limits, far):
    """Mark the pixels of a row that lie further than their limits from any at distance 2.

    Plain loops over rows, which become vectors: all but a few pixels are settled here. The two outermost on each side
    are always marked.
    """
    w = row.size
    here, limit, marks = row[2 : w - 2], limits[2 : w - 2], far[2 : w - 2]
    left, middle, right = slice(0, w - 4), slice(2, w - 2), slice(4, w)
    low_left, low_middle, low_right = low[left], low[middle], low[right]
    high_left, high_middle, high_right = high[left], high[middle], high[right]
    for x in range(here.size):
        lowest = min(min(low_left[x], low_middle[x]), low_right[x])
        highest = max(max(high_left[x], high_middle[x]), high_right[x])
        marks[x] = np.uint8((here[x] - lowest > limit[x]) | (highest - here[x] > limit[x]))
    for x in range(2):
        far[x] = far[w - 1 - x] = np.uint8(1)


@leaf
def _is_beyond_three(image, y, x, limit):
    """Whether a pixel stands above three of its eight neighbours, or below three, by a limit."""
    h, w = image.shape
    up, down, left, right = mirror_index(y - 2, h), mirror_index(y + 2, h), x - 2, x + 2
    left, right = mirror_index(left, w), mirror_index(right, w)
    value = image[y, x]
    beside = (
        image[up, left], image[up, x], image[up, right], image[y, left],
        image[y, right], image[down, left], image[down, x], image[down, right],
    )  # fmt: skip
    above, below = np.int32(0), np.int32(0)
    for k in range(8):
        above += np.int32(value - beside[k] > limit)
        below += np.int32(value - beside[k] < -limit)
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
    lower, upper, noise = np.empty(w, np.float32), np.empty(w, np.float32), np.empty(w, np.float32)
    bad, of_columns = np.empty(w, np.uint8), np.empty(w, np.uint8)
    for y in range(h):
        up, down = mirror_index(y - 2, h), mirror_index(y + 2, h)
        _find_middle(image[up], image[y], image[down], lower, upper)
        _find_missing(weight[up], weight[y], weight[down], of_columns, bad)
        for x in range(w):
            noise[x] = sigma[y & 1, x & 1]
        _store_residuals(image[y], bad, (lower, upper, noise), out[y])


@leaf
def _store_residuals(line, bad, beside, out):
    """Residuals of a row against the 4th and 5th of the eight neighbours, and the noise; in single precision: exact."""
    lower, upper, noise = beside
    for x in range(line.size):
        residual = (line[x] - np.float32(0.5) * (lower[x] + upper[x])) / noise[x]
        residual = min(max(residual, np.float32(-RESIDUAL_CLIP)), np.float32(RESIDUAL_CLIP))
        steps = np.int16(np.rint(residual * np.float32(RESIDUAL_UNIT)))
        out[x] = steps if bad[x] == 0 else np.int16(0)


@leaf
def _find_middle(up, row, down, lower, upper):
    """The 4th and the 5th of the eight neighbours of each pixel of a row, ascending."""
    w = row.size
    # Within a row all eight lie at the same distances from a pixel: loops without branches become vectors.
    left, middle, right = slice(0, w - 4), slice(2, w - 2), slice(4, w)
    up_left, up_middle, up_right = up[left], up[middle], up[right]
    row_left, row_right = row[left], row[right]
    down_left, down_middle, down_right = down[left], down[middle], down[right]
    low, high = lower[middle], upper[middle]
    for x in range(low.size):
        low[x], high[x] = _middle_two(
            (up_left[x], up_middle[x], up_right[x], row_left[x]),
            (row_right[x], down_left[x], down_middle[x], down_right[x]),
        )
    for k in range(4):
        x = k if k < 2 else w - 1 - (k - 2)
        a, b = mirror_index(x - 2, w), mirror_index(x + 2, w)
        lower[x], upper[x] = _middle_two((up[a], up[x], up[b], row[a]), (row[b], down[a], down[x], down[b]))


@leaf
def _middle_two(first, second):
    """The 4th and the 5th of two times four values: a step of Batcher's bitonic merge of two sorted fours (1968)."""
    (a, b, c, d), (e, f, g, h) = _sorted_four(first), _sorted_four(second)
    # Of the pairs from both ends the lower ones are the lowest four: the highest of them is wanted, and the lowest of
    # the others.
    low = max(max(min(a, h), min(b, g)), max(min(c, f), min(d, e)))
    high = min(min(max(a, h), max(b, g)), min(max(c, f), max(d, e)))
    return low, high


@leaf
def _sorted_four(values):
    a, b = min(values[0], values[1]), max(values[0], values[1])
    c, d = min(values[2], values[3]), max(values[2], values[3])
    a, c = min(a, c), max(a, c)
    b, d = min(b, d), max(b, d)
    return a, min(b, c), max(b, c), d


@leaf
def _find_missing(up, row, down, of_columns, bad):
    """Raise `bad` where a pixel of a row or one of its eight neighbours has no weight."""
    w = row.size
    for x in range(w):
        of_columns[x] = np.uint8(1) - np.uint8((up[x] > 0) & (row[x] > 0) & (down[x] > 0))
    here, left, right = of_columns[2 : w - 2], of_columns[: w - 4], of_columns[4:]
    flags = bad[2 : w - 2]
    for x in range(flags.size):
        flags[x] = here[x] | left[x] | right[x]
    for k in range(4):
        x = k if k < 2 else w - 1 - (k - 2)
        bad[x] = of_columns[x] | of_columns[mirror_index(x - 2, w)] | of_columns[mirror_index(x + 2, w)]
