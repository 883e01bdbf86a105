"""What of a picture's background is a gradient: a smooth surface under its dark places, which nebulae do not lift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms, surface_terms
from zemosaic.stages.numeric.robust import MAD_TO_SIGMA, mad_sigma

__all__ = ["Gradient", "find_gradient"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

ORDER = 2
"""Degree of the surface: gradients of lamps and of the Moon are as smooth, and what bends more may be a nebula."""

CELL_PX = 8
"""Side of a cell, in pixels of the reduced copy, whose median tells its sky: stars have no say in a median."""

LOW_SHARE = 0.1
"""The surface first has so small a share of the cells below it: nebulae may fill all but that."""

HIGH_SIGMA, LOW_SIGMA = 1.5, 4.0
"""Cells that lie higher above the surface are nebulae, and lower ones no sky; what is left has little of either."""

MAX_ROUNDS = 30
"""Of fitting and leaving out; it settles in some ten."""

FEWEST_CELLS = 30
"""Fewer cells tell no surface: none is taken off."""

LEAST_SHARE, MOST_NOISE = 0.45, 1.0
"""A surface that is sky has so many of the cells near it, and these scatter by at most so many times their noise:
one that lies under the flanks of a wide nebula has not, or they do not (`tests/stages/test_gradient.py`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Gradient:
    """A surface for each channel, 0 on average over the cells that it was found on.

    Attributes
    ----------
    terms : ndarray, shape (c, k)
        Coefficients of `surface_terms` of degree 2 over the picture's width and height.
    shape : (height, width)
        Of the picture that it was found on.
    share : float
        Share of the picture's cells that lie near the surface; the least of the channels.
    scatter : float
        By how much these scatter, over their noise; the most of the channels.
    """

    terms: F8
    shape: tuple[int, int]
    share: float
    scatter: float

    @property
    def is_sky(self) -> bool:
        """Whether the surface can be told from nebulae; otherwise it should stay."""
        return self.share >= LEAST_SHARE and self.scatter <= MOST_NOISE

    def at(self, y: F8, x: F8) -> F4:
        """Values ``(c, len(y), len(x))`` at rows and columns of the picture; they may lie between pixels."""
        u, v = 2 * (x + 0.5) / self.shape[1] - 1, 2 * (y + 0.5) / self.shape[0] - 1
        terms = surface_terms(*np.meshgrid(u, v), order=ORDER)
        return np.tensordot(self.terms, terms, 1).astype(np.float32)

    @property
    def spans(self) -> F8:
        """By how much the surface varies over the picture, of each channel."""
        grid = self.at(np.linspace(0, self.shape[0] - 1, 33), np.linspace(0, self.shape[1] - 1, 33))
        return np.asarray(np.ptp(grid, axis=(1, 2)), float)


def find_gradient(data: F4, islands: npt.NDArray[np.int32]) -> Gradient:
    """The gradient of a reduced picture.

    A surface of degree 2 with a level for each island is laid under the medians of cells, then fitted to those near it,
    again and again: what lies above stays out, so a nebula keeps its light as long as some sky is seen on all sides.

    Parameters
    ----------
    data : ndarray, shape (c, h, w)
    islands : ndarray of int, shape (h, w)
        Which of the parts that touch no other each pixel belongs to, from 1; 0: no data.
    """
    cells = _measure_cells(data, islands)
    flat = np.zeros((len(data), n_terms(ORDER)))
    if len(cells.island) < FEWEST_CELLS:
        return Gradient(flat, islands.shape, 0.0, 0.0)
    of_islands = (cells.island[:, None] == np.unique(cells.island)).astype(float)
    n_levels = of_islands.shape[1]
    design = np.hstack([of_islands, surface_terms(cells.u, cells.v, ORDER)[1:].T])
    shares, scatters = [], []
    for c, values in enumerate(cells.medians):
        solution, near, sigma = _fit(design, values)
        flat[c, 1:] = solution[n_levels:]
        flat[c, 0] = -float(np.mean(design[near, n_levels:] @ flat[c, 1:]))
        shares.append(float(np.mean(near)))
        scatters.append(sigma / cells.noise[c] if cells.noise[c] > 0 else 0.0)
    return Gradient(flat, islands.shape, min(shares), max(scatters))


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells that lie in one island whole.

    Attributes
    ----------
    medians : ndarray, shape (c, n)
    island : ndarray of int, shape (n,)
    u, v : ndarray, shape (n,)
        Place, -1 to 1 over the picture.
    noise : list of float
        Of a median, from the differences of cells beside each other: no gradient and hardly a nebula is in them.
    """

    medians: F8
    island: npt.NDArray[np.int32]
    u: F8
    v: F8
    noise: list[float]


def _measure_cells(data: F4, islands: npt.NDArray[np.int32]) -> _Cells:
    height, width = islands.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    cut = np.s_[..., : rows * CELL_PX, : columns * CELL_PX]
    blocks = rows, CELL_PX, columns, CELL_PX
    split = islands[cut].reshape(blocks)
    whole = (split.min(axis=(1, 3)) == split.max(axis=(1, 3))) & (split.min(axis=(1, 3)) > 0)
    medians = np.median(data[cut].reshape(len(data), *blocks), axis=(2, 4)).astype(np.float64)
    beside = whole[:, 1:] & whole[:, :-1]
    steps = [np.diff(plane, axis=1)[beside] for plane in medians]
    noise = [mad_sigma(step) / 2**0.5 if step.size else 0.0 for step in steps]
    row, column = np.nonzero(whole)
    u, v = 2 * (column + 0.5) * CELL_PX / width - 1, 2 * (row + 0.5) * CELL_PX / height - 1
    return _Cells(medians[:, whole], split[:, 0, :, 0][whole], u, v, noise)


def _lie_under(design: F8, values: F8) -> F8:
    """Coefficients of the surface that has `LOW_SHARE` of the values below it (quantile regression, by reweighting)."""
    solution = _solve(design, values)
    floor = 1e-3 * float(np.std(values)) or 1.0
    for _ in range(MAX_ROUNDS):
        off = values - design @ solution
        root = np.sqrt(np.where(off > 0, LOW_SHARE, 1 - LOW_SHARE) / np.maximum(np.abs(off), floor))
        solution = _solve(root[:, None] * design, root * values)
    return solution


def _solve(design: F8, values: F8) -> F8:
    return np.asarray(np.linalg.lstsq(design, values, rcond=None)[0], float)


def _fit(design: F8, values: F8) -> tuple[F8, npt.NDArray[np.bool_], float]:
    """Least squares over the cells near the surface, which they are, and how far they scatter."""
    solution, used, sigma = _lie_under(design, values), np.ones(len(values), bool), 0.0
    for _ in range(MAX_ROUNDS):
        off = values - design @ solution
        below = off[off < 0]
        # What lies below the surface is noise alone.
        sigma = MAD_TO_SIGMA * float(np.median(-below)) if len(below) else 0.0
        near = (off < HIGH_SIGMA * sigma) & (off > -LOW_SIGMA * sigma)
        if np.count_nonzero(near) < FEWEST_CELLS or np.array_equal(near, used):
            break
        used = near
        solution = _solve(design[used], values[used])
    return solution, used, sigma
