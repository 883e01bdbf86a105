"""The seam figure: how well corrected images agree at their borders, without any truth.

For an image i in a cell of its border: step = (w_i / sum w) x robust mean of (image i - mean of the others) within a
band along the border: what the eye sees where the image begins or ends. Taken from the block means of the match, so
it costs no look at pixels; stars and whatever else blocks leave out do not enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.robust import MAD_TO_SIGMA

__all__ = ["SeamFigure", "measure_seams", "noise_in_mosaic"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BORDER = 0.9
"""Distance from the image's centre, in half widths, where its border begins."""

_LEAST_SQUARES = 3
"""Squares of a border cell from which their median is a figure and not one block's noise."""


_LEAST_NOISE = 1e-30
"""Noise of an image without any, so that its weight is finite."""


@dataclass(frozen=True, slots=True, eq=False)
class SeamFigure:
    """Steps at the borders of all images of one channel.

    Attributes
    ----------
    image, other : ndarray, shape (s,), int64
        Image whose border it is, and the heaviest of the others there.
    u, v : ndarray, shape (s,)
        Place of the border cell in that image, -1 to 1.
    step, error : ndarray, shape (s,)
        Step in the mosaic and its error, mosaic units.
    noise : ndarray, shape (s,)
        Noise of one pixel of the mosaic there, mosaic units.
    """

    image: Ints
    other: Ints
    u: F8
    v: F8
    step: F8
    error: F8
    noise: F8

    @property
    def rms(self) -> float:
        """Root mean square of the steps; NaN without any."""
        return float(np.sqrt(np.mean(self.step**2))) if len(self.step) else float("nan")

    def quantile(self, share: float) -> float:
        """Size that this share of the steps does not exceed; NaN without any."""
        return float(np.quantile(np.abs(self.step), share)) if len(self.step) else float("nan")

    def worst(self, n: int) -> Ints:
        """Indices of the `n` largest steps, largest first."""
        return np.argsort(-np.abs(self.step), kind="stable")[:n]


def measure_seams(
    table: BlockTable, channel: int, sky: F8, scales: Sequence[PhotoScale], noise: F8, *, n_cells: int = 8
) -> SeamFigure:
    """Steps at all borders, from the block means.

    Parameters
    ----------
    table : BlockTable
    channel : int
    sky : ndarray, shape of the table's nodes
        A smooth model of the sky, taken off all images alike, so that blocks at neighbouring places compare.
    scales : sequence of PhotoScale
        One for each image of the table; neutral ones give the figure before matching.
    noise : ndarray, shape (n,)
        Noise of each image in mosaic units: its weight in the mosaic is ``1 / noise**2``.
    n_cells : int
        Cells along each border.

    Notes
    -----
    An image's blocks in its outermost tenth are compared with the weighted mean of all other images' blocks in the
    same square of the sky (one node spacing). Blocks lie at other places of the square in each image, so what
    structure `sky` does not follow enters as scatter, not as a step.
    """
    squares = _Squares(table, channel, sky, scales, noise)
    borders = [squares.of_border(i) for i in range(table.n_images)]
    image = np.repeat(np.arange(table.n_images), [len(border[0]) for border in borders])
    other, u, v, step, noise = (np.concatenate(column) for column in zip(*borders, strict=True))
    return _border_cells(image, other, u, v, step, noise, n_cells)


class _Squares:
    """Sums of all images' blocks over the squares between the nodes."""

    def __init__(self, table: BlockTable, channel: int, sky: F8, scales: Sequence[PhotoScale], noise: F8) -> None:
        self.table, self.weight = table, 1 / noise**2
        self.used = table.error[channel] > 0
        self.value = _corrected(table, channel, scales, np.nan_to_num(sky))
        weight = np.where(self.used, np.repeat(self.weight, np.diff(table.start)), 0).astype(np.float32)
        self.total = np.bincount(table.cell, weight, table.nodes.n)
        self.summed = np.bincount(table.cell, weight * self.value, table.nodes.n)
        # The two heaviest images of every square, to name whom a border is seen against.
        self.heaviest = np.full((2, table.nodes.n), -1, np.int64)
        most = np.zeros((2, table.nodes.n))
        for i in range(table.n_images):
            cell, own = self._own(i)[:2]
            first, second = own > most[0, cell], own > most[1, cell]
            most[1, cell] = np.where(first, most[0, cell], np.where(second, own, most[1, cell]))
            self.heaviest[1, cell] = np.where(
                first, self.heaviest[0, cell], np.where(second, i, self.heaviest[1, cell])
            )
            most[0, cell] = np.where(first, own, most[0, cell])
            self.heaviest[0, cell] = np.where(first, i, self.heaviest[0, cell])

    def _own(self, i: int) -> tuple[Ints, F8, Ints, slice]:
        """Squares that image `i` reaches, its weight in each, the square of each used block, and its blocks."""
        part = slice(self.table.start[i], self.table.start[i + 1])
        cell, where = np.unique(self.table.cell[part][self.used[part]], return_inverse=True)
        return cell.astype(np.int64), self.weight[i] * np.bincount(where, minlength=len(cell)), where, part

    def of_border(self, i: int) -> tuple[Ints, F8, F8, F8, F8]:
        """Heaviest other image, place, step and noise of the squares at the border of image `i` that others share."""
        cell, own, where, part = self._own(i)
        used = self.used[part]
        count = np.maximum(np.bincount(where, minlength=len(cell)), 1)
        u, v, mean = (
            np.bincount(where, q[part][used], len(cell)) / count for q in (self.table.u, self.table.v, self.value)
        )
        others = self.total[cell] - own
        border = (np.maximum(np.abs(u), np.abs(v)) > _BORDER) & (others > 1e-6 * self.total[cell])
        cell, own, others, mean = cell[border], own[border], others[border], mean[border]
        step = own / self.total[cell] * (mean - (self.summed[cell] - own * mean) / others)
        other = np.where(self.heaviest[0, cell] == i, self.heaviest[1, cell], self.heaviest[0, cell])
        return other, u[border], v[border], step, 1 / np.sqrt(self.total[cell])


def _corrected(table: BlockTable, channel: int, scales: Sequence[PhotoScale], sky: F8) -> npt.NDArray[np.float32]:
    """Block means in mosaic units, corrected, minus the bilinear sky (nodes without a value count as 0, for all)."""
    out = np.empty(len(table.cell), np.float32)
    flat, nx = sky.ravel(), table.nodes.shape[1]
    for i, scale in enumerate(scales):
        part = slice(table.start[i], table.start[i + 1])
        u, v, c, fx, fy = table.u[part], table.v[part], table.cell[part], table.fx[part], table.fy[part]
        low, high = flat[c] * (1 - fx) + flat[c + 1] * fx, flat[c + nx] * (1 - fx) + flat[c + nx + 1] * fx
        value = table.mean[channel, part] / (scale.gain[channel] * scale.response_in(u, v)[channel])
        out[part] = value - scale.surface_in(u, v)[channel] - (low * (1 - fy) + high * fy)
    return out


def _border_cells(image: Ints, other: Ints, u: F8, v: F8, step: F8, noise: F8, n_cells: int) -> SeamFigure:
    """Medians over the squares of each cell of each image's border, all images at once."""
    flat = np.abs(u) > np.abs(v)
    side = np.where(flat, np.where(u > 0, 0, 1), np.where(v > 0, 2, 3))
    slot = side * n_cells + np.clip(((np.where(flat, v, u) + 1) / 2 * n_cells).astype(np.int64), 0, n_cells - 1)
    slot += image * 4 * n_cells
    enough = np.bincount(slot)[slot] >= _LEAST_SQUARES
    cells, cell, count = np.unique(slot[enough], return_inverse=True, return_counts=True)
    if len(cells) == 0:
        nothing, none = np.zeros(0), np.zeros(0, np.int64)
        return SeamFigure(none, none, nothing, nothing, nothing, nothing, nothing)
    other, step = other[enough], step[enough]
    middle = _medians(step, cell, count)
    spread = MAD_TO_SIGMA * _medians(np.abs(step - middle[cell]), cell, count)
    mean_u, mean_v, mean_noise = (np.bincount(cell, q[enough]) / count for q in (u, v, noise))
    against = _most_frequent(other, cell, len(cells))
    error = 1.2533 * spread / np.sqrt(count)
    return SeamFigure(cells // (4 * n_cells), against, mean_u, mean_v, middle, error, mean_noise)


def _medians(values: F8, group: Ints, count: Ints) -> F8:
    """Median of each group of `count` values, groups numbered from 0."""
    ordered = values[np.lexsort((values, group))]
    first = np.cumsum(count) - count
    return np.asarray((ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2)


def _most_frequent(values: Ints, group: Ints, n_groups: int) -> Ints:
    """The value that each group holds most often, the smallest of several such."""
    size = int(values.max()) + 1
    pairs, count = np.unique(group * size + values, return_counts=True)
    out = np.empty(n_groups, np.int64)
    # Of several entries for a group the last one stays: the most frequent, the smallest first among equals.
    order = np.lexsort((-pairs, count))
    out[pairs[order] // size] = pairs[order] % size
    return out


def noise_in_mosaic(
    measurements: Sequence[Measurements], wcs: Sequence[CelestialWcs], grid: SkyGrid, scales: Sequence[PhotoScale]
) -> F8:
    """Noise of a pixel of each image in mosaic units, shape (c, n)."""
    area = np.array([grid.area_ref_deg2 / w.pixel_area_deg2() for w in wcs])
    noise = np.stack([m.noise / scale.gain for m, scale in zip(measurements, scales, strict=True)], axis=1)
    return np.asarray(np.maximum(noise * area, _LEAST_NOISE))
