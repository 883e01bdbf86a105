"""Sky on a mesh of blocks of pixels, and masks. Serial, nogil."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part
from zemosaic.kernels.select import select_with

__all__ = [
    "BlockEdges",
    "Levels",
    "add_above_mesh",
    "block_levels",
    "grow_mask",
    "largest_block",
    "paint_discs",
    "valid_bounds",
]


F4 = npt.NDArray[np.float32]
I4 = npt.NDArray[np.int32]


class BlockEdges(NamedTuple):
    """Where blocks of pixels begin and end.

    Attributes
    ----------
    y, x : ndarray, int64, shape (ny + 1,) and (nx + 1,)
        Ascending; the last is behind the last pixel.
    """

    y: npt.NDArray[np.int64]
    x: npt.NDArray[np.int64]


class Levels(NamedTuple):
    """What `block_levels` finds in each block, shape (ny, nx).

    Attributes
    ----------
    level, sigma : ndarray, float32
        Median; noise of a pixel from differences of horizontal neighbours (clipped at 3 sigma and corrected for
        it), so neither gradients nor most of a star's light enter.
    n_used, n_floor : ndarray, int32
        Pixels used and pixels at or below the floor.
    """

    level: F4
    sigma: F4
    n_used: I4
    n_floor: I4


@leaf
def largest_block(edges):
    """Pixels of the largest block."""
    largest = 0
    for j in range(edges.y.size - 1):
        for i in range(edges.x.size - 1):
            largest = max(largest, (edges.y[j + 1] - edges.y[j]) * (edges.x[i + 1] - edges.x[i]))
    return largest


@kernel
def block_levels(data, bad, edges, step, floor, out):
    """Median, pixel noise and counts of each block, from every `step`-th row.

    Parameters
    ----------
    data : float32 (h, w)
    bad : uint8 (h, w), 0 where a pixel counts
    edges : BlockEdges
    step : int, take every step-th row
    floor : float32, value at which the data are cut off below; pixels at it are counted
    out : Levels, output
    """
    y_edges, x_edges = edges
    level, sigma, n_used, n_floor = out
    ny, nx = level.shape
    largest = largest_block(edges)
    values = np.empty(largest, np.float32)
    # Three more, where four are looked at at once.
    steps, keys, squares = np.empty(largest + 3, np.float32), np.empty(largest, np.int32), np.empty(largest)
    for j in range(ny):
        for i in range(nx):
            n, m, at_floor = 0, 0, 0
            for y in range(y_edges[j], y_edges[j + 1], step):
                previous_good = False
                for x in range(x_edges[i], x_edges[i + 1]):
                    if bad[y, x] != 0:
                        previous_good = False
                        continue
                    v = data[y, x]
                    values[n] = v
                    n += 1
                    if v <= floor:
                        at_floor += 1
                        previous_good = False
                        continue
                    if previous_good:
                        steps[m] = abs(v - data[y, x - 1])
                        m += 1
                    previous_good = True
            n_used[j, i] = n
            n_floor[j, i] = at_floor
            level[j, i] = select_with(keys, values, n, n // 2) if n > 0 else 0.0
            sigma[j, i] = _clipped_rms(steps, m, keys, squares) / math.sqrt(2.0)


@leaf
def _clipped_rms(magnitudes, n, keys, squares):
    """Gaussian sigma of values given their magnitudes, outliers beyond 3 sigma left out."""
    if n < 8:
        return np.nan
    # The median magnitude may be quantised (integer data); it only starts the clipping.
    limit = 3.0 * 1.4826 * max(float(select_with(keys, magnitudes, n, n // 2)), 0.0) + 1e-30
    rms = 0.0
    for _ in range(4):
        total, count = _sum_squares(magnitudes, n, limit, squares)
        if count == 0:
            return np.nan
        rms = math.sqrt(total / count) * 1.01352  # a Gaussian cut at 3 sigma has an rms of 0.98666
        if rms == 0.0:
            # More than half of the differences vanish: coarse quantisation. Take all of them.
            limit = 3.0e38
            continue
        limit = 3.0 * rms
    return rms


@leaf
def _sum_squares(magnitudes, n, limit, squares):
    """Sum of the squares of the first n magnitudes up to a limit, and how many these are."""
    quarter, count = (n + 3) // 4, np.int32(0)
    for k in range(n, 4 * quarter):
        magnitudes[k] = np.inf
    # Four to a place, then one half of the places onto the other: sums in an order that vectors keep.
    for k in range(quarter):
        total = 0.0
        for part_of in range(4):
            value = magnitudes[k + part_of * quarter]
            is_within = value <= limit
            total += value * value if is_within else np.float32(0)
            count = np.int32(count + np.int32(is_within))
        squares[k] = total
    m = quarter
    while m > 1:
        half = (m + 1) // 2
        for k in range(m - half):
            squares[k] += squares[half + k]
        m = half
    return squares[0], count


@kernel
def add_above_mesh(data, bad, mesh, y_centres, x_centres, factor, out):
    """``out += (data - mesh) * factor`` with the mesh interpolated bilinearly between block centres; nothing where bad.

    Beyond the outermost centres the mesh is held constant.

    Parameters
    ----------
    data : float32 (h, w); bad : uint8 (h, w), 0 where a pixel counts
    mesh : float32 (ny, nx)
    y_centres, x_centres : float64 (ny,) and (nx,)
    factor : float32
    out : float32 (h, w), input and output
    """
    h, w = data.shape
    ny, nx = mesh.shape
    # Pixels from the first one of a piece to that of the next lie between the same two centres.
    firsts, share = np.zeros(max(nx - 1, 1) + 1, np.int64), np.zeros(w, np.float32)
    firsts[firsts.size - 1] = w
    for i in range(1, nx - 1):
        firsts[i] = min(max(math.ceil(x_centres[i]), 0), w)
    for i in range(nx - 1):
        for x in range(firsts[i], firsts[i + 1]):
            share[x] = min(max((x - x_centres[i]) / (x_centres[i + 1] - x_centres[i]), 0.0), 1.0)
    line = np.empty(nx, np.float32)
    j = 0
    for y in range(h):
        while j < ny - 2 and y_centres[j + 1] <= y:
            j += 1
        f = 0.0
        if ny > 1:
            f = min(max((y - y_centres[j]) / (y_centres[j + 1] - y_centres[j]), 0.0), 1.0)
        below = min(j + 1, ny - 1)
        for k in range(nx):
            line[k] = mesh[j, k] * (1 - f) + mesh[below, k] * f
        for i in range(firsts.size - 1):
            of = slice(firsts[i], firsts[i + 1])
            ends = line[i], line[min(i + 1, nx - 1)]
            _add_above(data[y, of], bad[y, of], ends, share[of], factor, out[y, of])


@leaf
def _add_above(line, bad, ends, share, factor, out):
    """Add what a piece of a row lies above a slope from one level to another."""
    first, rise = ends[0], ends[1] - ends[0]
    for x in range(out.size):
        above = (line[x] - (first + rise * share[x])) * factor
        out[x] += above if bad[x] == 0 else np.float32(0)


@kernel
def paint_discs(mask, x, y, radius):
    """Set ``mask`` to 1 inside discs; parts outside the image are cut off."""
    h, w = mask.shape
    for k in range(len(x)):
        r = radius[k]
        for yy in range(max(int(math.ceil(y[k] - r)), 0), min(int(math.floor(y[k] + r)) + 1, h)):
            half = math.sqrt(max(r * r - (yy - y[k]) ** 2, 0.0))
            for xx in range(max(int(math.ceil(x[k] - half)), 0), min(int(math.floor(x[k] + half)) + 1, w)):
                mask[yy, xx] = 1


@kernel
def grow_mask(objects, radius, mask):
    """Set ``mask`` to 1 within `radius` (a square) of pixels of any pixel of `objects` that is not 0."""
    h, w = mask.shape
    line = np.empty(w + 2 * radius, np.uint8)
    for y in range(h):
        line[:] = 0
        for near in range(max(y - radius, 0), min(y + radius + 1, h)):
            _add_marks(objects[near], line[radius : radius + w])
        for shift in range(2 * radius + 1):
            _add_marks(line[shift : shift + w], mask[y])


@leaf
def _add_marks(line, out):
    """Set `out` to 1 where a line is not 0."""
    for x in range(out.size):
        out[x] |= np.uint8(line[x] != 0)


@kernel
def valid_bounds(weight, bad):
    """Mark pixels where any channel has no weight in `bad`; bounds (y0, y1, x0, x1) of the others."""
    c, h, w = weight.shape
    y0, y1, x0, x1 = h, 0, w, 0
    for y in range(h):
        row = bad[y]
        _mark_missing(weight[0, y], row)
        for k in range(1, c):
            _mark_also_missing(weight[k, y], row)
        # From both ends: most rows end the search at once, and the loops above stay free of branches.
        first, last = 0, w - 1
        while first < w and row[first] != 0:
            first += 1
        if first == w:
            continue
        while row[last] != 0:
            last -= 1
        y0, y1 = min(y0, y), y + 1
        x0, x1 = min(x0, first), max(x1, last + 1)
    return y0, y1, x0, x1


@part
def _mark_missing(weight, bad):
    for x in range(bad.size):
        bad[x] = np.uint8(not weight[x] > 0)


@part
def _mark_also_missing(weight, bad):
    for x in range(bad.size):
        bad[x] |= np.uint8(not weight[x] > 0)
