"""A frame's coordinates on the output grid: exact at the nodes of a lattice, bilinear between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid, footprint_box

__all__ = ["MIN_CELLS", "Lattice", "plan_lattice"]

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MIN_CELLS = 32
"""Cells across a frame at least. Bilinear interpolation then misses a surface's quadratic terms by at most
``(2 / 32)^2 / 8 x 2`` = 0.1 % of their coefficients."""


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Frame coordinates on a coarse lattice of output pixels.

    Attributes
    ----------
    box : Box
        Output pixels that the frame may reach (empty: none).
    step : int
        Output pixels between nodes.
    y0, x0 : int
        Output pixel of node (0, 0): multiples of `step`, so that a pixel lies in the same place of the same cell
        however the output is cut.
    xy : ndarray, shape (2, ny, nx)
        Frame coordinates (x, y) at the nodes, which reach beyond the box's last pixels; NaN where the frame's
        projection shows nothing.
    error_px : float
        Largest distance found between interpolated and exact frame coordinates, frame pixels.
    touched : ndarray, bool, shape (ny - 1, nx - 1)
        Cells in which some pixel may see the frame: all of its pixels lie in them.
    """

    box: Box
    step: int
    y0: int
    x0: int
    xy: Array
    error_px: float
    touched: Flags

    def cut(self, box: Box) -> Lattice:
        """The part of the lattice that serves `box`, which must lie inside its own box."""
        cells = self._cells(box)
        xy = np.ascontiguousarray(self.xy[:, cells.y0 : cells.y1 + 1, cells.x0 : cells.x1 + 1])
        y0, x0 = self.y0 + cells.y0 * self.step, self.x0 + cells.x0 * self.step
        return Lattice(box, self.step, y0, x0, xy, self.error_px, self.touched[cells.slices])

    def part(self, box: Box) -> Box:
        """The part of `box` beyond which no pixel sees the frame; empty where none does.

        The corners of a turned frame's own box are empty: this is smaller than the two boxes' intersection.
        """
        part = self.box.intersect(box)
        if part.is_empty:
            return part
        cells = self._cells(part)
        j, i = np.nonzero(self.touched[cells.slices])
        if not len(j):
            return Box(part.y0, part.y0, part.x0, part.x0)
        y0, x0 = self.y0 + cells.y0 * self.step, self.x0 + cells.x0 * self.step
        ends = y0 + j.min() * self.step, y0 + (j.max() + 1) * self.step
        sides = x0 + i.min() * self.step, x0 + (i.max() + 1) * self.step
        return Box(*map(int, (*ends, *sides))).intersect(part)

    def _cells(self, box: Box) -> Box:
        """Cells that hold pixels of `box`, counted from node (0, 0)."""
        step = self.step
        return Box(
            (box.y0 - self.y0) // step,
            -((self.y0 - box.y1) // step),
            (box.x0 - self.x0) // step,
            -((self.x0 - box.x1) // step),
        )


def plan_lattice(image: CelestialWcs, grid: SkyGrid, max_error_px: float, step: int = 32) -> Lattice:
    """Coordinates of a frame on the output grid, to a proven precision.

    Parameters
    ----------
    image : CelestialWcs
        The frame.
    grid : SkyGrid
        The output grid.
    max_error_px : float
        Largest error allowed to interpolated coordinates, frame pixels.
    step : int
        Largest spacing of nodes, a power of two; less is used for small frames and where the error asks for it.

    Returns
    -------
    Lattice
        With an empty box when the frame does not reach the grid.

    Raises
    ------
    FrameRejected
        When even nodes on every pixel do not reach the precision.

    Notes
    -----
    The error is measured against the exact WCS at the centres and edge middles of cells, where bilinear
    interpolation is worst: in all cells that the frame's edge crosses, where distortion polynomials bend
    most, and in every fourth cell each way inside.
    """
    box = footprint_box(image, grid)
    if box.is_empty:
        return Lattice(box, step, 0, 0, np.zeros((2, 0, 0)), 0.0, np.zeros((0, 0), bool))
    across = min(image.shape) * image.pixel_scale_arcsec() / grid.scale_arcsec
    while step > 1 and step * MIN_CELLS > across:
        step //= 2
    while True:
        y0, x0 = box.y0 // step * step, box.x0 // step * step
        y, x = np.mgrid[y0 : box.y1 + step : step, x0 : box.x1 + step : step]
        xy = _fill_edges(_to_frame(image, grid, x, y))
        error = _interpolation_error(image, grid, xy, y, x, step)
        if error <= max_error_px:
            return Lattice(box, step, y0, x0, xy, error, _touched_cells(xy, image.shape))
        if step == 1:
            raise FrameRejected("warp.no-interpolation", error_px=error, max_error_px=max_error_px)
        step //= 2


def _to_frame(image: CelestialWcs, grid: SkyGrid, x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Exact frame coordinates (x, y) of output pixels."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    ra, dec = grid.wcs.pixel_to_sky(x.ravel(), y.ravel())
    seen = np.isfinite(ra) & np.isfinite(dec)
    xy = np.full((2, x.size), np.nan)
    if seen.any():
        xy[:, seen] = image.sky_to_pixel(ra[seen], dec[seen])
    return xy.reshape(2, *x.shape)


def _fill_edges(xy: Array) -> Array:
    """Continue the lattice by one node, in a straight line, where the grid's projection ends (an all-sky map's rim)."""
    for axis in (1, 2):
        for nodes in (np.moveaxis(xy, axis, 0), np.moveaxis(xy, axis, 0)[::-1]):
            if len(nodes) >= 3:
                missing = np.isnan(nodes[:-2]) & np.isfinite(nodes[1:-1]) & np.isfinite(nodes[2:])
                nodes[:-2][missing] = (2 * nodes[1:-1] - nodes[2:])[missing]
    return xy


def _touched_cells(xy: Array, shape: tuple[int, int]) -> Flags:
    """Cells whose corners surround pixels of a frame, and those that no corner tells about."""
    corners = np.stack([xy[:, :-1, :-1], xy[:, :-1, 1:], xy[:, 1:, :-1], xy[:, 1:, 1:]])
    # A pixel to spare for the rounding of interpolated positions.
    last = np.array([shape[1], shape[0]])[:, None, None] + 0.5
    with np.errstate(invalid="ignore"):
        return np.asarray(~((corners.max(axis=0) < -1.5) | (corners.min(axis=0) > last)).any(axis=0))


def _interpolation_error(image: CelestialWcs, grid: SkyGrid, xy: Array, y: Array, x: Array, step: int) -> float:
    """Largest error of bilinear interpolation where the frame has pixels; inf where it is not to be had."""
    corners = np.stack([xy[:, :-1, :-1], xy[:, :-1, 1:], xy[:, 1:, :-1], xy[:, 1:, 1:]])
    height, width = image.shape
    last = np.array([width - 0.5, height - 0.5])[:, None, None]
    with np.errstate(invalid="ignore"):
        inside = ((corners >= -0.5) & (corners <= last)).all(axis=1)
        touched = ((corners.min(axis=0) <= last) & (corners.max(axis=0) >= -0.5)).all(axis=0)
    touched |= np.isnan(corners).any(axis=(0, 1)) & inside.any(axis=0)
    checked = touched & ~inside.all(axis=0)
    checked[::4, ::4] |= touched[::4, ::4]
    j, i = np.nonzero(checked)
    if not len(j):
        return 0.0
    a, b, c, d = corners[:, :, j, i]
    found = np.concatenate([(a + b + c + d) / 4, (a + b) / 2, (a + c) / 2], axis=1)
    cell_y, cell_x, half = y[j, i], x[j, i], step / 2
    exact = _to_frame(
        image,
        grid,
        np.concatenate([cell_x + half, cell_x + half, cell_x]),
        np.concatenate([cell_y + half, cell_y, cell_y + half]),
    )
    with np.errstate(invalid="ignore"):
        counts = ((exact >= -0.5) & (exact <= last[:, 0])).all(axis=0)
    if not counts.any():
        return 0.0
    error = np.hypot(*(found - exact)[:, counts]).max()
    return float(error) if np.isfinite(error) else math.inf
