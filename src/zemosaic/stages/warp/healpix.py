"""Tiles of HEALPix cut from a mosaic: their places, their pixels, and their parents.

Tiles are arrays ``[..., y, x]`` as pictures run, first row on top: y along the cell's first axis (to the north-east), x
along its second (to the north-west), so that child ``2 x + y`` fills quarter (y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy_healpix import HEALPix

from zemosaic.kernels.pixels.blocks import sum_blocks
from zemosaic.kernels.resample.points import resample
from zemosaic.kernels.resample.window import Output, Window
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["TILE_PX", "Tile", "cut_tile", "find_tiles", "halve", "join", "order_for", "place_tile"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
ReadBox = Callable[[Box], F4]

TILE_PX = 512
"""Side of a tile: what HiPS clients expect."""

TILE_ORDERS = 9
"""log2 of `TILE_PX`."""

LATTICE_PX = 16
"""Tile pixels between two exact places; those between are interpolated."""

MAX_ERROR_PX = 0.002
"""Largest error of an interpolated place, in mosaic pixels; a tile that exceeds it has all its places exact. Between
two neighbours that differ by five times the noise it is 0.01 of the noise. Cells bend so much only near the poles, and
where pixels are wider than about 12 arcsec."""

LEAST_ORDER = 3
"""Clients expect tiles down to it."""

SEARCH_PX = 64
"""Mosaic pixels between the places that tell which tiles it touches: a quarter of the smallest tile's side."""


class Tile(NamedTuple):
    """Pixels of a tile.

    Attributes
    ----------
    values : ndarray, float32, shape (c, n, n)
        NaN where there are none.
    islands : ndarray, int32, shape (n, n)
        Number of the island that each pixel belongs to; 0 where there is none.
    """

    values: F4
    islands: npt.NDArray[np.int32]


def order_for(scale_arcsec: float) -> int:
    """The first order of tiles whose pixels are not larger than the mosaic's."""
    cell_arcsec = np.degrees(np.sqrt(np.pi / 3)) * 3600
    return max(int(np.ceil(np.log2(cell_arcsec / scale_arcsec))) - TILE_ORDERS, LEAST_ORDER)


def find_tiles(wcs: CelestialWcs, order: int) -> I8:
    """Numbers of the tiles that may show something of a grid, ascending: those it touches, and their neighbours."""
    height, width = wcs.shape
    y, x = (np.append(np.arange(0, n - 1, SEARCH_PX), n - 1.0) for n in (height, width))
    healpix = _healpix(order)
    touched = []
    for row in y:
        ra, dec = wcs.pixel_to_sky(x, np.full_like(x, row))
        known = np.isfinite(ra) & np.isfinite(dec)
        touched.append(np.unique(healpix.lonlat_to_healpix(ra[known] * u.deg, dec[known] * u.deg)))
    cells = np.unique(np.concatenate(touched)).astype(np.int64)
    all_cells = np.unique(np.append(cells, healpix.neighbours(cells)))
    return np.asarray(all_cells[all_cells >= 0].astype(np.int64))


def place_tile(wcs: CelestialWcs, order: int, cell: int) -> tuple[F8, int]:
    """Mosaic places (x, y) of a tile's lattice, ``(2, n, n)``, NaN where there are none; its step in tile pixels."""
    edges = np.append(np.arange(0, TILE_PX, LATTICE_PX), TILE_PX - 1.0)
    nodes = _places(wcs, order, cell, edges)
    middles = np.arange(LATTICE_PX / 2, TILE_PX, LATTICE_PX)
    lattice = _beyond(nodes, LATTICE_PX)
    between = (lattice[:, 1:, 1:] + lattice[:, :-1, 1:] + lattice[:, 1:, :-1] + lattice[:, :-1, :-1]) / 4
    error = np.abs(between - _places(wcs, order, cell, middles))
    if not np.nanmax(error, initial=0.0) > MAX_ERROR_PX:
        return lattice, LATTICE_PX
    exact = _places(wcs, order, cell, np.arange(float(TILE_PX)))
    # The kernel reads one node beyond the last pixel, and gives it no weight.
    return np.pad(exact, ((0, 0), (0, 1), (0, 1)), mode="edge"), 1


def cut_tile(wcs: CelestialWcs, order: int, cell: int, read: ReadBox, read_islands: ReadBox) -> Tile | None:
    """A tile of the deepest order, bilinear between the mosaic's pixels; None where it shows nothing.

    Parameters
    ----------
    wcs : CelestialWcs
    order, cell : int
    read : callable
        Gives a box of the mosaic, ``(c, h, w)``, NaN where there is none.
    read_islands : callable
        Gives the number of the island of each pixel, ``(1, h, w)``; 0 for none.
    """
    nodes, step = place_tile(wcs, order, cell)
    box = _box_of(nodes, wcs.shape)
    if box is None:
        return None
    values = _sample(read(box), box, nodes, step, "bilinear")
    if not np.isfinite(values).any():
        return None
    islands = np.nan_to_num(_sample(read_islands(box), box, nodes, step, "nearest")[0]).astype(np.int32)
    return Tile(values, np.where(np.isfinite(values).all(axis=0), islands, 0).astype(np.int32))


def halve(tile: Tile) -> Tile:
    """Means of 2 x 2 pixels over those that have a value."""
    c, n, _ = tile.values.shape
    total, count = np.empty((c, n // 2, n // 2)), np.empty((c, n // 2, n // 2), np.int32)
    sum_blocks(tile.values, 2, total, count)
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).astype(np.float32)
    pairs = np.maximum(tile.islands[::2], tile.islands[1::2])
    return Tile(means, np.maximum(pairs[:, ::2], pairs[:, 1::2]))


def join(children: Sequence[Tile | None]) -> Tile | None:
    """The parent of four tiles, in the order of their numbers; None where there is none of them."""
    there = [child for child in children if child is not None]
    if not there:
        return None
    n = TILE_PX // 2
    values = np.full((len(there[0].values), TILE_PX, TILE_PX), np.nan, np.float32)
    islands = np.zeros((TILE_PX, TILE_PX), np.int32)
    for k, child in enumerate(children):
        if child is not None:
            y, x = n * (k & 1), n * (k >> 1)
            half = halve(child)
            values[:, y : y + n, x : x + n], islands[y : y + n, x : x + n] = half
    return Tile(values, islands)


def _healpix(order: int) -> HEALPix:
    return HEALPix(nside=1 << order, order="nested")


def _places(wcs: CelestialWcs, order: int, cell: int, pixels: F8) -> F8:
    """Mosaic places (x, y) of tile pixels at all pairs of coordinates, ``(2, n, n)``."""
    y, x = np.meshgrid((pixels + 0.5) / TILE_PX, (pixels + 0.5) / TILE_PX, indexing="ij")
    lon, lat = _healpix(order).healpix_to_lonlat(np.full(y.shape, cell), dx=y, dy=x)
    return np.stack(wcs.sky_to_pixel(lon.deg, lat.deg))


def _beyond(nodes: F8, step: int) -> F8:
    """The last row and column, which lie on the tile's last pixel, moved out to a whole step."""
    out = nodes.copy()
    out[:, -1] = out[:, -2] + (out[:, -1] - out[:, -2]) * step / (step - 1)
    out[:, :, -1] = out[:, :, -2] + (out[:, :, -1] - out[:, :, -2]) * step / (step - 1)
    return out


def _box_of(nodes: F8, shape: tuple[int, int]) -> Box | None:
    """What of the mosaic a tile needs: 2 px more than its nodes span, for the kernel and what lies between them."""
    if not np.isfinite(nodes).any():
        return None
    spans = [(int(np.nanmin(v)) - 2, int(np.nanmax(v)) + 4) for v in (nodes[1], nodes[0])]
    (y0, y1), (x0, x1) = ((max(a, 0), min(b, n)) for (a, b), n in zip(spans, shape, strict=True))
    return Box(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


def _sample(data: F4, box: Box, nodes: F8, step: int, kernel: str) -> F4:
    c = len(data)
    known = np.isfinite(data)
    ones = np.ones((c, *nodes.shape[1:]))
    window = Window(
        data=np.where(known, data, 0).astype(np.float32),
        weight=known.astype(np.float32),
        origin=(box.y0, box.x0),
        nodes_xy=nodes,
        nodes_scale=ones,
        nodes_offset=np.zeros_like(ones),
        step=step,
        start=(0, 0),
        inverse_variance=np.ones(c),
        taper_box=(box.y0, box.y1, box.x0, box.x1),
        taper_px=0.0,
    )
    shape = (c, TILE_PX, TILE_PX)
    out = Output(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape[1:], np.uint8))
    resample(window, out, kernel)
    return np.where(out.weights > 0, out.values, np.float32(np.nan))
