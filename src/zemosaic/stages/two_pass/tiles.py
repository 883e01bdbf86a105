"""Tiles as the second coverage pass takes them: prepared, placed, and seen on the cells of a coarse grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS, NoConvergence

from zemosaic.errors import FrameRejected
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.settings import WarpSettings
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.two_pass.gains import CoarseTile
from zemosaic.stages.warp.warp import WarpPlan, plan_lattice, warp_window

__all__ = [
    "COARSE_PX",
    "FINE",
    "PreparedTile",
    "as_celestial",
    "cell_means",
    "coarse_grid",
    "find_levels",
    "mosaic_luminance",
    "on_cells",
    "place_tile",
    "plan_tile",
    "prepare_tiles",
    "warp_buffers",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

FINE = WarpSettings(taper_px=0)
"""How tiles reach the mosaic."""

COARSE_PX = 4
"""Mosaic pixels in a cell on which tiles are compared for their gains."""

COARSE = WarpSettings(kernel="area", taper_px=0, coordinate_error_px=0.1)
"""How tiles reach a coarse grid."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedTile:
    """A tile as the warp takes it.

    Attributes
    ----------
    data, weight : ndarray, float32, shape (c, h, w)
        Finite; weight 1 or 0.
    wcs : CelestialWcs
    """

    data: F4
    weight: F4
    wcs: CelestialWcs

    def read(self, box: Box) -> tuple[F4, F4]:
        """A window of data and weight."""
        part = (slice(None), *box.slices)
        return np.ascontiguousarray(self.data[part]), np.ascontiguousarray(self.weight[part])


def prepare_tiles(
    tiles: Sequence[AnyArray],
    tiles_wcs: Sequence[WCS | CelestialWcs],
    tiles_coverage: Sequence[AnyArray | None] | None,
    log: logging.Logger,
) -> list[PreparedTile]:
    """Tiles channels first, with weight 0 where there is no data."""
    if not len(tiles) or len(tiles_wcs) != len(tiles):
        raise ValueError(f"{len(tiles)} tiles and {len(tiles_wcs)} WCS are not one set")
    given = tiles_coverage is not None and len(tiles_coverage) > 0
    maps: Sequence[AnyArray | None] = tiles_coverage if tiles_coverage and given else [None] * len(tiles)
    if len(maps) != len(tiles):
        raise ValueError(f"{len(tiles)} tiles and {len(maps)} coverage maps are not one set")
    prepared = []
    for k, (tile, wcs, cover) in enumerate(zip(tiles, tiles_wcs, maps, strict=True)):
        planes = tile[None] if tile.ndim == 2 else np.moveaxis(tile, -1, 0)
        if planes.ndim != 3:
            raise ValueError(f"tile {k} has shape {tile.shape}, not (h, w) or (h, w, c)")
        finite = np.isfinite(planes)
        weight = finite.astype(np.float32)
        binary = _binary_weight(k, cover, planes.shape[1:], given, log)
        if binary is not None:
            weight *= binary
        data = np.where(weight > 0, planes, 0).astype(np.float32)
        prepared.append(PreparedTile(data, weight, as_celestial(wcs, (planes.shape[1], planes.shape[2]))))
    n_channels = sorted({len(tile.data) for tile in prepared})
    if len(n_channels) > 1:
        raise ValueError(f"the tiles have {n_channels} channels")
    return prepared


def _binary_weight(
    k: int, cover: AnyArray | None, shape: tuple[int, ...], given: bool, log: logging.Logger
) -> F4 | None:
    if cover is None:
        if given:
            log.debug("[TwoPass] no tiles_coverage for tile %d: no extra weight for this tile", k)
        return None
    plane = cover[..., 0] if cover.ndim == 3 else cover
    if plane.shape != shape:
        log.debug(
            "[TwoPass] tiles_coverage shape mismatch for tile %d: cov=%s tile=%s -> ignoring coverage for this tile",
            k, plane.shape, shape,
        )  # fmt: skip
        return None
    return np.asarray(plane > 0, np.float32)


def as_celestial(wcs: WCS | CelestialWcs, shape: tuple[int, int]) -> CelestialWcs:
    """A WCS of either kind as the house's own."""
    return wcs if isinstance(wcs, CelestialWcs) else CelestialWcs(wcs, (int(shape[0]), int(shape[1])))


def place_tile(k: int, tile: PreparedTile, grid: SkyGrid, log: logging.Logger) -> PreparedTile | None:
    """A tile whose coordinates on the grid can be had, if need be without its distortion; None where it stays away."""
    for wcs in (tile.wcs, _without_distortion(tile.wcs)):
        try:
            lattice = plan_lattice(wcs, grid, FINE.coordinate_error_px)
        except (FrameRejected, NoConvergence) as problem:
            reason = problem
            continue
        if wcs is not tile.wcs:
            log.warning("[TwoPass] tile %d: its WCS does not converge (%s); its distortion is left out", k, reason)
        return None if lattice.box.is_empty else PreparedTile(tile.data, tile.weight, wcs)
    log.warning("[TwoPass] tile %d is left out: its WCS does not converge (%s)", k, reason)
    return None


def _without_distortion(wcs: CelestialWcs) -> CelestialWcs:
    plain = wcs.wcs.deepcopy()
    plain.sip, plain.cpdis1, plain.cpdis2 = None, None, None
    plain.wcs.ctype = [name.removesuffix("-SIP") for name in plain.wcs.ctype]
    return CelestialWcs(plain, wcs.shape)


def coarse_grid(grid: SkyGrid, factor: int) -> SkyGrid:
    """The grid of cells of ``factor x factor`` pixels; incomplete cells at the far edges are left out."""
    shape = max(grid.shape[0] // factor, 1), max(grid.shape[1] // factor, 1)
    wcs = grid.wcs.wcs.deepcopy()
    wcs.wcs.crpix = (np.asarray(wcs.wcs.crpix) - 0.5) / factor + 0.5
    if wcs.wcs.has_cd():
        wcs.wcs.cd = wcs.wcs.cd * factor
    else:
        wcs.wcs.cdelt = np.asarray(wcs.wcs.cdelt) * factor
    wcs.array_shape = shape
    wcs.wcs.set()
    return SkyGrid(CelestialWcs(wcs, shape))


def on_cells(tile: PreparedTile, coarse: SkyGrid, area_ref_deg2: float) -> CoarseTile:
    """A tile's luminance on the cells of a coarse grid; a cell counts where it is filled."""
    plan = plan_tile(tile, coarse, area_ref_deg2, COARSE)
    box = plan.lattice.box
    values, weights, alpha = warp_buffers(len(tile.data), box.shape)
    if not box.is_empty:
        warp_window(plan, box, tile.read, COARSE, values, weights, alpha)
    return CoarseTile(box, values.mean(axis=0), np.asarray((weights > 0).all(axis=0)))


def find_levels(tile: PreparedTile) -> F8:
    """Background of each channel, shape (c,): a sigma-clipped median, which stars and nebula on one side pull less."""
    return np.array([_background(plane[seen]) for plane, seen in zip(tile.data, tile.weight > 0, strict=True)])


def _background(values: F4) -> float:
    if not values.size:
        return 0.0
    for _ in range(5):
        middle = float(np.median(values))
        kept = values[np.abs(values - middle) <= 3 * mad_sigma(values, middle)]
        if len(kept) in {0, len(values)}:
            break
        values = kept
    return float(np.median(values))


def plan_tile(tile: PreparedTile, grid: SkyGrid, area_ref_deg2: float, settings: WarpSettings) -> WarpPlan:
    """How to warp a tile onto a grid without any correction."""
    n_channels = len(tile.data)
    return WarpPlan(
        lattice=plan_lattice(tile.wcs, grid, settings.coordinate_error_px),
        wcs=tile.wcs,
        scale=PhotoScale.neutral(n_channels),
        sigma=np.ones(n_channels),
        valid_box=Box.of_shape(tile.wcs.shape),
        saturation_adu=None,
        area_ref_deg2=area_ref_deg2,
        pixel_values="surface",
    )


def warp_buffers(n_channels: int, shape: tuple[int, int]) -> tuple[F4, F4, npt.NDArray[np.uint8]]:
    """Empty values, weights and alpha for a warp."""
    values, weights = np.zeros((2, n_channels, *shape), np.float32)
    return values, weights, np.zeros(shape, np.uint8)


def mosaic_luminance(mosaic: AnyArray) -> F8:
    """Mean over the channels of a mosaic ``(h, w)`` or ``(h, w, c)``."""
    return np.asarray(mosaic.astype(float).mean(axis=-1) if mosaic.ndim == 3 else mosaic, float)


def cell_means(plane: F8, factor: int) -> F8:
    """Means of whole cells; NaN where a pixel is not finite."""
    h, w = max(plane.shape[0] // factor, 1), max(plane.shape[1] // factor, 1)
    return np.asarray(
        plane[: h * factor, : w * factor].reshape(h, -1, w, min(factor, plane.shape[1])).mean(axis=(1, 3))
    )
