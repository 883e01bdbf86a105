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

from zemosaic.kernels.match import background
from zemosaic.kernels.match import images as kernel
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import PhotoScale, order_of
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.robust import MAD_TO_SIGMA

__all__ = ["SeamFigure", "Squares", "measure_seams", "noise_in_mosaic"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BORDER = 0.9
"""Distance from the image's centre, in half widths, where its border begins."""

_LEAST_SQUARES = 3
"""Squares of a border cell from which their median is a figure and not one block's noise."""

_FEW = np.array([1.0, 1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107])
"""By what the median deviation of so many values from their own median tells too little of their spread: by a half for
three, where it is the smaller of two gaps; beyond nine n / (n - 0.8) (Croux and Rousseeuw 1992, "Time-efficient
algorithms for two highly robust estimators of scale")."""

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
    count : ndarray, shape (s,), int64
        Squares that the step and its error come from.
    """

    image: Ints
    other: Ints
    u: F8
    v: F8
    step: F8
    error: F8
    noise: F8
    count: Ints

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
    squares: Squares, channel: int, sky: F8, scales: Sequence[PhotoScale], *, n_cells: int = 8
) -> SeamFigure:
    """Steps at all borders, from the block means.

    Parameters
    ----------
    squares : Squares
        Of the same channel.
    channel : int
    sky : ndarray, shape of the table's nodes
        A smooth model of the sky, taken off all images alike, so that blocks at neighbouring places compare.
    scales : sequence of PhotoScale
        One for each image of the table; neutral ones give the figure before matching.
    n_cells : int
        Cells along each border.

    Notes
    -----
    An image's blocks in its outermost tenth are compared with the weighted mean of all other images' blocks in the
    same square of the sky (one node spacing). Blocks lie at other places of the square in each image, so what
    structure `sky` does not follow enters as scatter, not as a step.
    """
    mean = squares.means(_corrected(squares.table, channel, scales, np.nan_to_num(sky)))
    summed = squares.total(squares.weight * mean)
    others = squares.all_weight - squares.weight
    border = (np.maximum(np.abs(squares.u), np.abs(squares.v)) > _BORDER) & (others > 1e-6 * squares.all_weight)
    own, mean, others = squares.weight[border], mean[border], others[border]
    step = own / (own + others) * (mean - (summed[border] - own * mean) / others)
    image, other, u, v = squares.image[border], squares.other[border], squares.u[border], squares.v[border]
    return _border_cells(image, other, u, v, step, 1 / np.sqrt(own + others), n_cells)


@dataclass(frozen=True, slots=True, eq=False)
class Squares:
    """Squares between the nodes in which images have blocks of a channel, image after image.

    Attributes
    ----------
    table : BlockTable
    block : ndarray, shape (used,), int64
        Blocks that have a value.
    square : ndarray, shape (used,), int64
        Which of the squares each of them is in.
    image, cell, count : ndarray, shape (squares,), int64
        The image, the square's place among the nodes, and how many blocks it has there.
    weight, all_weight : ndarray, shape (squares,)
        Of the image there, and of all images.
    other : ndarray, shape (squares,), int64
        The heaviest of the other images there; -1 where there is none.
    u, v : ndarray, shape (squares,)
        Mean place of the blocks in the image.
    """

    table: BlockTable
    block: Ints
    square: Ints
    image: Ints
    cell: Ints
    count: Ints
    weight: F8
    all_weight: F8
    other: Ints
    u: F8
    v: F8

    @classmethod
    def of(cls, table: BlockTable, channel: int, noise: F8) -> Squares:
        """For images of a noise in mosaic units, shape (n,): their weight in the mosaic is ``1 / noise**2``."""
        start, square = np.empty(table.n_images + 1, np.int64), np.empty(len(table.cell), np.int64)
        n = kernel.list_squares(table.start, table.cell, table.error[channel], table.nodes.n, start, square)
        block = np.flatnonzero(square >= 0)
        square = square[block]
        image, cell = np.repeat(np.arange(table.n_images), np.diff(start)), np.empty(n, np.int64)
        cell[square] = table.cell[block]
        count = np.bincount(square, minlength=n)
        weight = count / noise[image] ** 2
        all_weight = np.asarray(np.bincount(cell, weight, table.nodes.n)[cell], float)
        u, v = (np.bincount(square, q[block], n) / count for q in (table.u, table.v))
        other = _heaviest_other(cell, weight, image)
        return cls(table, block, square, image, cell, count, weight, all_weight, other, u, v)

    def means(self, values: npt.NDArray[np.float32]) -> F8:
        """Mean of the blocks' values, (blocks,), in each square."""
        return np.asarray(np.bincount(self.square, values[self.block], len(self.cell)) / self.count)

    def total(self, values: F8) -> F8:
        """Sum of the squares' values, (squares,), over all images that share a place, shape (squares,)."""
        return np.asarray(np.bincount(self.cell, values, self.table.nodes.n)[self.cell])


def _heaviest_other(cell: Ints, weight: F8, image: Ints) -> Ints:
    """The heaviest of the other images in each square, the first of equals; -1 where there is none."""
    order = np.lexsort((image, -weight, cell))
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    shared = np.diff(first, append=len(order)) > 1
    best, second = image[order[first]], np.full(len(first), -1)
    second[shared] = image[order[first[shared] + 1]]
    at = np.empty(len(cell), np.int64)
    at[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    return np.where(best[at] == image, second[at], best[at])


def _corrected(table: BlockTable, channel: int, scales: Sequence[PhotoScale], sky: F8) -> npt.NDArray[np.float32]:
    """Block means in mosaic units, corrected, minus the bilinear sky (nodes without a value count as 0, for all)."""
    surfaces = np.stack([scale.surface[channel] for scale in scales])
    value = table.mean[channel] / np.array([scale.gain[channel] for scale in scales], np.float32)[table.image]
    for i, scale in enumerate(scales):
        if scale.response is not None:
            part = slice(table.start[i], table.start[i + 1])
            value[part] /= scale.response_in(table.u[part], table.v[part])[channel]
    out = np.empty(len(value), np.float32)
    blocks = table.placed(order_of(surfaces.shape[1] - 1))
    background.block_residuals(blocks, value, sky.ravel(), surfaces, out)
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
        return SeamFigure(none, none, nothing, nothing, nothing, nothing, nothing, none)
    other, step = other[enough], step[enough]
    middle = _medians(step, cell, count)
    spread = MAD_TO_SIGMA * _medians(np.abs(step - middle[cell]), cell, count)
    mean_u, mean_v, mean_noise = (np.bincount(cell, q[enough]) / count for q in (u, v, noise))
    against = _most_frequent(other, cell, len(cells))
    few = np.where(count < len(_FEW), _FEW[np.minimum(count, len(_FEW) - 1)], count / (count - 0.8))
    error = 1.2533 * few * spread / np.sqrt(count)
    return SeamFigure(cells // (4 * n_cells), against, mean_u, mean_v, middle, error, mean_noise, count)


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
