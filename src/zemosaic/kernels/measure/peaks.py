"""Find the peaks of stars on a background-free image. Serial, nogil."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = ["SMOOTHED_NOISE", "Peaks", "find_peaks", "light_in_line", "mark_objects", "smooth", "take_off_wide"]

SMOOTHED_NOISE = 0.375
"""Noise of `smooth`'s output over that of its input, for white noise: (6 / 16)."""

_DIRECTIONS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]], np.int64)

_SIXTEEN = np.arange(16) * np.pi / 16
_LINES = np.rint(np.arange(4, 13)[:, None] * np.stack([np.sin(_SIXTEEN), np.cos(_SIXTEEN)])[:, None]).astype(np.int64)
"""Pixels, (y, x), from four to twelve away along one side of sixteen lines: beyond a star, its width apart at most."""


class Peaks(NamedTuple):
    """Peaks as `find_peaks` lists them; shape (n,).

    Attributes
    ----------
    x, y : ndarray, int64
        Pixels.
    height : ndarray, float32
    """

    x: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    height: npt.NDArray[np.float32]

    def pick(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Peaks:
        """Some of them, by a mask or by their numbers."""
        return Peaks(self.x[which], self.y[which], self.height[which])


@kernel
def smooth(image, out):
    """3 x 3 binomial smoothing (1 2 1 times 1 2 1 over 16), float32; the border is copied."""
    h, w = image.shape
    line = np.empty(w, np.float32)
    for x in range(w):
        out[0, x], out[h - 1, x] = image[0, x], image[h - 1, x]
    for y in range(1, h - 1):
        for x in range(w):
            line[x] = image[y - 1, x] + 2 * image[y, x] + image[y + 1, x]
        out[y, 0], out[y, w - 1] = image[y, 0], image[y, w - 1]
        for x in range(1, w - 1):
            out[y, x] = (line[x - 1] + 2 * line[x] + line[x + 1]) * np.float32(0.0625)


@kernel
def take_off_wide(image, reach, most):
    """Take off of an image, in place, its mean within `reach` pixels, of values cut off at plus and minus `most`.

    Parameters
    ----------
    image : float32 (h, w), input and output
    reach : int
    most : float32
    """
    h, w = image.shape
    size = 2 * reach + 1
    rows, column = np.zeros((size, w), np.float32), np.zeros(w, np.float32)
    padded, total, of_row = np.zeros(w + 2 * reach, np.float32), np.empty(w, np.float32), np.empty(w, np.float32)
    for x in range(w):
        of_row[x] = min(x + reach, w - 1) - max(x - reach, 0) + 1
    for last in range(h + reach):
        # The row that leaves lies where the next comes: the image's own is changed by then.
        row = rows[last % size]
        for x in range(w):
            new = min(max(image[last, x], -most), most) if last < h else np.float32(0)
            column[x] += new - row[x]
            row[x] = new
        y = last - reach
        if y < 0:
            continue
        for x in range(w):  # to give one array to another compiles the text of an error: two seconds
            padded[reach + x] = column[x]
            total[x] = 0
        for k in range(size):
            for x in range(w):
                total[x] += padded[x + k]
        n_rows = np.float32(min(last, h - 1) - max(y - reach, 0) + 1)
        for x in range(w):
            image[y, x] -= total[x] / (n_rows * of_row[x])


@kernel
def find_peaks(smoothed, threshold, edges, reach, drop, peaks):
    """Local maxima that stand clear of everything round them; returns their number.

    A peak is higher than its eight neighbours and than the threshold of its block, and higher, by the threshold and
    by `drop` of its height, than the image at `reach` pixels in each of eight directions: a bump on the flank of a
    brighter star has a higher side and is none.

    Parameters
    ----------
    smoothed : float32 (h, w)
    threshold : float32 (ny, nx), by block
    edges : BlockEdges
    reach : int
    drop : float
    peaks : Peaks, output; when it is full the search ends
    """
    y_edges, x_edges = edges
    xs, ys, heights = peaks
    h, w = smoothed.shape
    ny, nx = threshold.shape
    n = 0
    for j in range(ny):
        for i in range(nx):
            limit = threshold[j, i]
            x0, x1 = max(x_edges[i], 1), min(x_edges[i + 1], w - 1)
            for y in range(max(y_edges[j], 1), min(y_edges[j + 1], h - 1)):
                if not _has_above(smoothed[y, x0:x1], limit):
                    continue
                for x in range(x0, x1):
                    v = smoothed[y, x]
                    if v <= limit or not _is_top(smoothed, y, x, v):
                        continue
                    if _stands_clear(smoothed, y, x, v - max(limit, drop * v), reach):
                        if n == len(xs):
                            return n
                        xs[n], ys[n], heights[n] = x, y, v
                        n += 1
    return n


@leaf
def _has_above(line, limit):
    """Whether any value is above a limit: most pieces of rows hold none, which a loop without branches tells."""
    n = np.int32(0)
    for x in range(line.size):
        n += np.int32(line[x] > limit)
    return n > 0


@part
def _is_top(image, y, x, v):
    # Ties (saturated plateaus) go to the first pixel in reading order.
    return (
        v > image[y - 1, x - 1] and v > image[y - 1, x] and v > image[y - 1, x + 1] and v > image[y, x - 1]
        and v >= image[y, x + 1] and v >= image[y + 1, x - 1] and v >= image[y + 1, x] and v >= image[y + 1, x + 1]
    )  # fmt: skip


@part
def _stands_clear(image, y, x, ceiling, reach):
    h, w = image.shape
    for d in range(8):
        yy, xx = y + reach * _DIRECTIONS[d, 0], x + reach * _DIRECTIONS[d, 1]
        if 0 <= yy < h and 0 <= xx < w and image[yy, xx] > ceiling:
            return False
    return True


@kernel
def light_in_line(image, xs, ys, out):
    """How much of each peak goes on along a line: of a star little, of a trail all.

    Along the line that has most, the mean of pixels beyond the star counts, on the side that has less: a neighbouring
    star is on one side. It and the peak's height are taken over the mean of all lines, which a nebula lifts.

    Parameters
    ----------
    image : float32 (h, w)
    xs, ys : int64 (n,)
    out : float32 (n,), output; a share of the height, not positive where the image holds no line on both sides
    """
    n_lines = _LINES.shape[2]
    for k in range(len(xs)):
        most, total, n = -np.inf, 0.0, 0
        for line in range(n_lines):
            ahead, behind = _mean_along(image, ys[k], xs[k], line, 1), _mean_along(image, ys[k], xs[k], line, -1)
            for one in (ahead, behind):
                if one > -np.inf:
                    total += one
                    n += 1
            most = max(most, min(ahead, behind))
        level = total / max(n, 1)
        out[k] = (most - level) / max(image[ys[k], xs[k]] - level, np.float32(1e-30))


@part
def _mean_along(image, y, x, line, side):
    h, w = image.shape
    total, n = 0.0, 0
    for r in range(_LINES.shape[1]):
        yy, xx = y + side * _LINES[0, r, line], x + side * _LINES[1, r, line]
        if 0 <= yy < h and 0 <= xx < w:
            total += image[yy, xx]
            n += 1
    return total / n if n > 0 else -np.inf


@kernel
def mark_objects(smoothed, threshold, edges, most, objects):
    """``objects = 1`` where the image is above its block's threshold, else 0.

    Blocks of which more than the share `most` is so are nebulosity and marked nowhere.

    Parameters
    ----------
    smoothed : float32 (h, w); threshold : float32 (ny, nx)
    edges : BlockEdges
    most : float
    objects : uint8 (h, w), output
    """
    y_edges, x_edges = edges
    ny, nx = threshold.shape
    for j in range(ny):
        for i in range(nx):
            n = 0
            for y in range(y_edges[j], y_edges[j + 1]):
                n += _mark_above(smoothed, y, x_edges[i], x_edges[i + 1], threshold[j, i], objects)
            if n > most * (y_edges[j + 1] - y_edges[j]) * (x_edges[i + 1] - x_edges[i]):
                objects[y_edges[j] : y_edges[j + 1], x_edges[i] : x_edges[i + 1]] = 0


@leaf
def _mark_above(image, y, x0, x1, limit, objects):
    """Mark the values of a piece of a row that are above a limit; returns how many they are."""
    line, marked, n = image[y, x0:x1], objects[y, x0:x1], np.int32(0)
    for x in range(line.size):
        marked[x] = np.uint8(line[x] > limit)
        n += np.int32(line[x] > limit)
    return n
