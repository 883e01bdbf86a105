"""Blocks of all images on one grid of sky nodes: the geometry of the background solve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match import background as kernel
from zemosaic.kernels.match import images
from zemosaic.kernels.match.values import PlacedBlocks
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import n_terms, surface_basis
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid

__all__ = ["BlockTable", "SkyNodes", "affordable_spacing", "make_block_table", "with_alike_blocks"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Int4 = npt.NDArray[np.int32]

_CROSS_BYTES = 470e6
"""Most memory for what couples images to sky nodes, should surfaces come to have the third degree: two thirds of it
without. More images than that get wider nodes."""

_NODE_OF_BLOCK = 1.15
"""Spacing of the nodes over the side of a typical block. What lies between nodes is noise to the solve; nodes nearer
than blocks would each hang on one image, and tell nothing of their differences."""

_MOST_BLOCKS = 6_000_000
"""Blocks used in all: of more, every image gives an even selection, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class SkyNodes:
    """A square lattice of points on the output grid, anchored to multiples of its spacing.

    Attributes
    ----------
    x0, y0 : float
        Grid pixel of the first node.
    spacing_px : float
    shape : tuple of int
        ``(ny, nx)`` nodes.
    """

    x0: float
    y0: float
    spacing_px: float
    shape: tuple[int, int]

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.shape[0] * self.shape[1]

    def positions(self) -> tuple[F8, F8]:
        """Grid x and y of all nodes, each of `shape`."""
        y, x = np.mgrid[: self.shape[0], : self.shape[1]].astype(float)
        return self.x0 + x * self.spacing_px, self.y0 + y * self.spacing_px


@dataclass(frozen=True, slots=True, eq=False)
class BlockTable:
    """Blocks of all images, image after image, placed between sky nodes.

    Attributes
    ----------
    nodes : SkyNodes
    start : ndarray, shape (images + 1,), int64
        Blocks of image i are ``start[i]:start[i + 1]``.
    cell : ndarray, shape (blocks,), int32
        Flat index of the node at the lower left.
    fx, fy : ndarray, shape (blocks,), float32
        Place between that node and the next, 0 to 1.
    u, v : ndarray, shape (blocks,), float32
        Place in the image, -1 to 1.
    mean, error : ndarray, shape (c, blocks), float32
        Block means times A_ref over the pixel's area: gain x response x (sky + surface); error 0 marks a channel
        without a value.
    """

    nodes: SkyNodes
    start: Ints
    cell: Int4
    fx: F4
    fy: F4
    u: F4
    v: F4
    mean: F4
    error: F4

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.start) - 1

    @property
    def image(self) -> Int4:
        """Index of the image of every block."""
        return np.repeat(np.arange(self.n_images, dtype=np.int32), np.diff(self.start))

    def times(self, factor: float) -> BlockTable:
        """The same blocks in another unit."""
        by = np.float32(factor)
        return self if factor == 1 else replace(self, mean=self.mean * by, error=self.error * by)

    def components(self) -> Int4:
        """Number of the connected group of every image: images that share a node with a value are tied.

        Groups are numbered by their first image.
        """
        start, nodes = self.local_nodes()
        group = np.empty(self.n_images, np.int64)
        images.group_images(start, nodes, self.nodes.n, group)
        return group.astype(np.int32)

    def placed(self, order: int, extra: F4 | None = None) -> PlacedBlocks:
        """The blocks as kernels take them, for surfaces of an order and one more column, shape (blocks,), or None."""
        column = np.empty(0, np.float32) if extra is None else extra
        nx = self.nodes.shape[1]
        return PlacedBlocks(self.start, self.cell, self.fx, self.fy, self.u, self.v, column, order, nx)

    def medians(self, values: F4, most: int = _MOST_BLOCKS) -> F8:
        """Median of each image's values, (blocks,), from about `most` of them; NaN are left out, and what has none."""
        out = np.empty(self.n_images)
        images.image_medians(self.start, values, most, out)
        return out

    def local_nodes(self) -> tuple[Ints, Int4]:
        """Start of each image's list of touched nodes, and the lists."""
        local_start = np.zeros(self.n_images + 1, np.int64)
        nx, n = self.nodes.shape[1], self.nodes.n
        total = kernel.list_local_nodes(self.start, self.cell, nx, n, local_start, np.empty(0, np.int32))
        listed = np.empty(total, np.int32)
        kernel.list_local_nodes(self.start, self.cell, nx, n, local_start, listed)
        return local_start, listed


def with_alike_blocks(measurements: Sequence[Measurements]) -> Sequence[Measurements]:
    """Images with their fine blocks in place of the usual ones, where all have them.

    A mean over a larger block holds less of the sky's structure: beside those of smaller blocks an image would look as
    if its gain were lower.
    """
    if any(m.fine is None for m in measurements):
        return measurements
    return [replace(m, blocks=m.fine or m.blocks) for m in measurements]


def make_block_table(
    measurements: Sequence[Measurements],
    wcs: Sequence[CelestialWcs],
    grid: SkyGrid,
    node_px: float,
    pixel_values: str = "counts",
) -> BlockTable:
    """Place the blocks of all images on sky nodes that cover them.

    Parameters
    ----------
    measurements, wcs : sequences of one length
    grid : SkyGrid
    node_px : float
        Spacing of the nodes in grid pixels.
    pixel_values : {"counts", "surface"}
        Whether a pixel's value follows its own area or the image's area at its centre.
    """
    nodes = _nodes_over(wcs, grid, node_px)
    step = max(-(-sum(len(m.blocks) for m in measurements) // _MOST_BLOCKS), 1)
    start = np.zeros(len(measurements) + 1, np.int64)
    room, channels = sum(-(-len(m.blocks) // step) for m in measurements), len(measurements[0].noise)
    columns = [np.empty(room, np.int32), *np.empty((4, room), np.float32), *np.empty((2, channels, room), np.float32)]
    for k, (m, w) in enumerate(zip(measurements, wcs, strict=True)):
        placed = _place_blocks(m, w, grid, nodes, pixel_values, slice(k % step, None, step))
        start[k + 1] = start[k] + len(placed[0])
        for column, own in zip(columns, placed, strict=True):
            column[..., start[k] : start[k + 1]] = own
    # No block lies beside the nodes but where an image has no place on the grid.
    cell, fx, fy, u, v, mean, error = (np.ascontiguousarray(column[..., : start[-1]]) for column in columns)
    return BlockTable(nodes, start, cell, fx, fy, u, v, mean, error)


def _nodes_over(wcs: Sequence[CelestialWcs], grid: SkyGrid, node_px: float) -> SkyNodes:
    """Nodes that cover all images, anchored to multiples of their spacing on the grid."""
    # All at once: a call takes as long as many points.
    ra, dec = np.concatenate([w.outline(4) for w in wcs], axis=1)
    low_high = []
    for at in grid.wcs.sky_to_pixel(ra, dec):
        at = at[np.isfinite(at)]
        low, high = (at.min(), at.max()) if len(at) else (0.0, 1.0)
        # One node to spare for what the outline's straight segments cut off.
        low_high.append((int(np.floor(low / node_px)) - 1, int(np.floor(high / node_px)) + 1))
    (ix0, ix1), (iy0, iy1) = low_high
    return SkyNodes(ix0 * node_px, iy0 * node_px, node_px, (iy1 - iy0 + 2, ix1 - ix0 + 2))


def _place_blocks(
    measured: Measurements, wcs: CelestialWcs, grid: SkyGrid, nodes: SkyNodes, pixel_values: str, which: slice
) -> list[npt.NDArray[Any]]:
    """Columns of the table for one image: cell, fx, fy, u, v, mean, error."""
    blocks = measured.blocks
    x, y = blocks.x[which], blocks.y[which]
    gx, gy = grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
    sx, sy = (gx - nodes.x0) / nodes.spacing_px, (gy - nodes.y0) / nodes.spacing_px
    good = (sx >= 0) & (sy >= 0) & (sx < nodes.shape[1] - 1) & (sy < nodes.shape[0] - 1)
    x, y, sx, sy = x[good], y[good], sx[good], sy[good]
    ix, iy = np.floor(sx), np.floor(sy)
    factor = (grid.area_ref_deg2 / _areas(wcs, x, y, pixel_values)).astype(np.float32)
    height, width = measured.shape
    # Channel after channel, as kernels take them.
    mean, error = (np.compress(good, q[:, which], axis=1) for q in (blocks.mean, blocks.error))
    return [
        (iy * nodes.shape[1] + ix).astype(np.int32),
        (sx - ix).astype(np.float32),
        (sy - iy).astype(np.float32),
        ((2 * x + 1) / width - 1).astype(np.float32),
        ((2 * y + 1) / height - 1).astype(np.float32),
        mean * factor,
        np.where(np.isfinite(error), error, 0).astype(np.float32) * factor,
    ]


def _areas(wcs: CelestialWcs, x: F4, y: F4, pixel_values: str) -> F8:
    """Pixel areas at blocks: smooth, so a quadratic through a 5 x 5 lattice serves (exact to < 1e-5)."""
    if pixel_values == "surface":
        return np.full(len(x), wcs.pixel_area_deg2())
    lattice_x, lattice_y, fit = _quadratic_on_lattice(wcs.shape)
    terms = np.sum(fit * wcs.pixel_area_deg2(lattice_x, lattice_y), axis=1)
    return np.asarray(np.einsum("k,kb->b", terms, surface_basis(x, y, wcs.shape)))


@cache
def _quadratic_on_lattice(shape: tuple[int, int]) -> tuple[F8, F8, F8]:
    """Pixel x and y of 5 x 5 points of an image, (25,), and what makes the terms of a quadratic of values there."""
    height, width = shape
    x, y = (q.ravel() for q in np.meshgrid(np.linspace(0, width - 1, 5), np.linspace(0, height - 1, 5)))
    return x, y, np.asarray(np.linalg.pinv(surface_basis(x, y, shape).T))


def affordable_spacing(
    measurements: Sequence[Measurements], wcs: Sequence[CelestialWcs], grid: SkyGrid, node_px: int, order: int
) -> int:
    """Spacing of the nodes, px: at most `node_px`, but wider where surfaces of an order would take too much memory."""
    area_px = sum(m.shape[0] * m.shape[1] * w.pixel_area_deg2() for m, w in zip(measurements, wcs, strict=True))
    area_px /= grid.area_ref_deg2
    columns = n_terms(order) + 1
    least = np.sqrt(8 * columns * 1.15 * area_px / _CROSS_BYTES)
    blocks = [m.blocks.size_px * w.pixel_scale_arcsec() for m, w in zip(measurements, wcs, strict=True)]
    wanted = min(node_px, round(_NODE_OF_BLOCK * float(np.median(blocks)) / grid.scale_arcsec))
    return int(max(wanted, np.ceil(least), 1))
