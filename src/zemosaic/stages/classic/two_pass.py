"""The second coverage pass by the names and signatures that users of the classic pipeline know.

Tiles come as arrays, are brought to their common mean by gain and coadded, all weighing alike. A run of the program
finds its gains by the same functions and stacks its tiles again by their own weights
(`zemosaic.pipelines.tiles.two_pass`). Gains are photometric: in a
mean the level does not depend on the number of tiles, so a gain from counts alone would put steps between equal tiles.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

from zemosaic.errors import Cancelled, EnvironmentProblem
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.stages.stack.stack import MeanStack
from zemosaic.stages.two_pass.gains import TileGains, find_gains
from zemosaic.stages.two_pass.tell import (
    DELTA_PX,
    compare_coverage,
    log_gain,
    make_delta_map,
    mean_of_cells,
    tile_stats,
)
from zemosaic.stages.two_pass.tiles import (
    COARSE_PX,
    FINE,
    PreparedTile,
    as_celestial,
    cell_means,
    coarse_grid,
    find_levels,
    mosaic_luminance,
    on_cells,
    place_tile,
    plan_tile,
    prepare_tiles,
    warp_buffers,
)
from zemosaic.stages.warp.warp import warp_window

__all__ = [
    "ExecutorPlan",
    "TwoPassDiagnostics",
    "compute_per_tile_gains_from_coverage",
    "run_second_pass_coverage_renorm",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

BAND_ROWS = 512
"""Rows of the mosaic that are made at a time."""

_log = logging.getLogger(__name__)


class ExecutorPlan(Protocol):
    """Runs independent tasks; `zemosaic.engine.executor.Executor` is one."""

    def run(self, function: Callable[[Any], Any], tasks: Iterable[Any], /) -> Iterator[tuple[Any, Any]]:
        """Yield ``(task, function(task))`` in any order."""
        ...


@dataclass(slots=True, eq=False)
class TwoPassDiagnostics:
    """Collects what the second pass did; asking for it changes no output.

    Attributes
    ----------
    want_delta_map : bool
        Whether to make the map.
    gains : TileGains or None
        Of all tiles given; those that do not take part have gain 1 with error inf.
    delta_map : ndarray, float32, shape (H // 8, W // 8), or None
        Mean over tiles of ``|tile after gain - first pass|``, luminance; NaN where no tile reaches.
    """

    want_delta_map: bool = False
    gains: TileGains | None = None
    delta_map: F4 | None = None


def run_second_pass_coverage_renorm(
    tiles: Sequence[AnyArray],
    tiles_wcs: Sequence[WCS | CelestialWcs],
    final_wcs_p1: WCS | CelestialWcs,
    coverage_p1: AnyArray,
    shape_out: tuple[int, int],
    *,
    sigma_px: int,
    gain_clip: tuple[float, float],
    logger: logging.Logger | None = None,
    use_gpu_two_pass: bool | None = None,
    tiles_coverage: Sequence[AnyArray | None] | None = None,
    parallel_plan: ExecutorPlan | None = None,
    telemetry_ctrl: Callable[[str, Mapping[str, object]], None] | None = None,
    debug_diag: TwoPassDiagnostics | None = None,
    mosaic_p1: AnyArray | None = None,
) -> tuple[F4, F4] | None:
    """Correct the gains of tiles by their common mean and coadd them again.

    Parameters
    ----------
    tiles : sequence of ndarray, shape (h, w) or (h, w, c)
        NaN where there are no data; not modified. Values as after the match: only a gain is left to correct.
    tiles_wcs : sequence of WCS
    final_wcs_p1 : WCS
        Of the mosaic.
    coverage_p1 : ndarray, shape `shape_out`
        Summed weights of the first pass; where it is 0 no gain is measured.
    shape_out : (height, width)
    sigma_px : int
        Width, in mosaic pixels, over which the others' coverage is smoothed before it counts as an overlap.
    gain_clip : (low, high)
        Bounds of a gain.
    logger : Logger, optional
        Default: this module's.
    use_gpu_two_pass : bool, optional
        There is no GPU twin of the warp: the pass runs on the CPU and says so when a GPU is asked for.
    tiles_coverage : sequence of ndarray or None, optional
        The tiles' own coverage, ``(h, w)`` or ``(h, w, c)``: > 0 weighs 1, else 0. None, or a map of another shape: no
        extra weight for that tile.
    parallel_plan : ExecutorPlan, optional
        Runs bands of the mosaic; the result is the same to the byte.
    telemetry_ctrl : callable, optional
        Receives ``("two_pass", facts)`` when gains are known.
    debug_diag : TwoPassDiagnostics, optional
    mosaic_p1 : ndarray, shape (H, W) or (H, W, c), optional
        The first-pass mosaic, which saves making its mean again.

    Returns
    -------
    (mosaic, coverage) or None
        Float32, ``(H, W, c)`` and ``(H, W)``: the mean of the tiles, 0 where no tile reaches, and the summed weights.
        None where the pass is not possible, with a warning: the first pass holds then.
    """
    log = logger or _log
    if use_gpu_two_pass:
        log.warning("[TwoPass] there is no GPU path of the warp; the pass runs on the CPU")
    try:
        prepared = prepare_tiles(tiles, tiles_wcs, tiles_coverage, log)
        grid = SkyGrid(as_celestial(final_wcs_p1, shape_out))
        usable = _usable(prepared, grid, log)
        if not usable:
            log.warning("[TwoPass] no tile of %d reaches the mosaic: the first pass is kept", len(tiles))
            return None
        gains = _gains(prepared, usable, grid, coverage_p1, sigma_px, gain_clip)
        log.info("[TwoPass] %s", gains)
        if telemetry_ctrl is not None:
            telemetry_ctrl("two_pass", {"gains": gains.gain.tolist(), "n_used": len(usable)})
        levels = {k: find_levels(tile) for k, tile in usable.items()}
        if log.isEnabledFor(logging.DEBUG):
            for k, tile in usable.items():
                log_gain(log, str(k), float(gains.gain[k]), levels[k], tile_stats(tile))
        if debug_diag is not None:
            debug_diag.gains = gains
            if debug_diag.want_delta_map:
                debug_diag.delta_map = _delta_map(usable, gains, levels, grid, mosaic_p1)
        corrected = {k: _divided(tile, float(gains.gain[k]), levels[k]) for k, tile in usable.items()}
        return _coadd(corrected, grid, coverage_p1, parallel_plan, log)
    except (Cancelled, EnvironmentProblem, MemoryError):
        raise
    except Exception as problem:  # noqa: BLE001
        # The pass only refines: whatever goes wrong in it, there is a mosaic.
        log.warning("[TwoPass] not possible, the first pass is kept: %s: %s", type(problem).__name__, problem)
        return None


def compute_per_tile_gains_from_coverage(
    tiles: Sequence[AnyArray],
    tiles_wcs: Sequence[WCS | CelestialWcs],
    final_wcs: WCS | CelestialWcs,
    coverage: AnyArray,
    shape_out: tuple[int, int],
    sigma_px: int,
    gain_clip: tuple[float, float],
    *,
    tiles_coverage: Sequence[AnyArray | None] | None = None,
) -> F4:
    """Gain of each tile relative to the mean of all, from where others contribute too.

    Parameters are those of `run_second_pass_coverage_renorm`.

    Returns
    -------
    ndarray, float32, shape (n,)
        Responses: a tile of gain 1.1 shows structure 1.1 times as strongly as the mean and is *divided* by it, about
        its background. 1 where the gain lies within two of its errors of 1, and for a tile without overlap.

    Raises
    ------
    ValueError
        When tiles, WCS and shapes do not belong together.
    """
    prepared = prepare_tiles(tiles, tiles_wcs, tiles_coverage, _log)
    grid = SkyGrid(as_celestial(final_wcs, shape_out))
    usable = _usable(prepared, grid, _log)
    return _gains(prepared, usable, grid, coverage, sigma_px, gain_clip).gain


def _usable(tiles: Sequence[PreparedTile], grid: SkyGrid, log: logging.Logger) -> dict[int, PreparedTile]:
    """Tiles that reach the grid and whose coordinates can be had, if need be without their distortion."""
    usable = {}
    for k, tile in enumerate(tiles):
        placed = place_tile(k, tile, grid, log)
        if placed is not None and placed.weight.any():
            usable[k] = placed
    return usable


def _gains(
    tiles: Sequence[PreparedTile],
    usable: Mapping[int, PreparedTile],
    grid: SkyGrid,
    coverage: AnyArray,
    sigma_px: float,
    gain_clip: tuple[float, float],
) -> TileGains:
    coarse = coarse_grid(grid, COARSE_PX)
    cells = [on_cells(tile, coarse, grid.area_ref_deg2) for tile in usable.values()]
    seen = None
    if coverage.shape == grid.shape:
        seen = cell_means(coverage.astype(float), COARSE_PX) > 0
    found = find_gains(cells, coarse.shape, sigma_px / COARSE_PX, gain_clip, seen)
    here = list(usable)
    gain, measured, error = np.ones(len(tiles), np.float32), np.ones(len(tiles)), np.full(len(tiles), np.inf)
    gain[here], measured[here], error[here] = found.gain, found.measured, found.error
    return TileGains(gain, measured, error)


def _divided(tile: PreparedTile, gain: float, level: F8) -> PreparedTile:
    """The tile with its structure divided by its gain, about the background of each channel."""
    if gain == 1:
        return tile
    away = tile.data - level[:, None, None].astype(np.float32)
    data = np.where(tile.weight > 0, level[:, None, None] + away / np.float32(gain), 0)
    return PreparedTile(data.astype(np.float32), tile.weight, tile.wcs)


def _delta_map(
    tiles: Mapping[int, PreparedTile],
    gains: TileGains,
    levels: Mapping[int, F8],
    grid: SkyGrid,
    mosaic_p1: AnyArray | None,
) -> F4:
    """See `TwoPassDiagnostics`."""
    coarse = coarse_grid(grid, DELTA_PX)
    cells = [on_cells(tile, coarse, grid.area_ref_deg2) for tile in tiles.values()]
    if mosaic_p1 is None:
        first = mean_of_cells(cells, coarse.shape)
    else:
        first = cell_means(mosaic_luminance(mosaic_p1), DELTA_PX)
    per_ref = [grid.area_ref_deg2 / float(tile.wcs.pixel_area_deg2()) for tile in tiles.values()]
    middle = [float(levels[k].mean()) * scale for k, scale in zip(tiles, per_ref, strict=True)]
    return make_delta_map(cells, [float(gains.gain[k]) for k in tiles], middle, first)


def _coadd(
    tiles: Mapping[int, PreparedTile],
    grid: SkyGrid,
    coverage_p1: AnyArray,
    parallel_plan: ExecutorPlan | None,
    log: logging.Logger,
) -> tuple[F4, F4]:
    """The mean of tiles on the grid and the summed weights, band by band."""
    plans = [(tile, plan_tile(tile, grid, grid.area_ref_deg2, FINE)) for tile in tiles.values()]
    n_channels = len(plans[0][0].data)
    mosaic = np.zeros((*grid.shape, n_channels), np.float32)
    weight = np.zeros((n_channels, *grid.shape), np.float32)

    def make(y0: int) -> None:
        band = Box(y0, min(y0 + BAND_ROWS, grid.shape[0]), 0, grid.shape[1])
        mean = MeanStack((n_channels, *band.shape))
        for tile, plan in plans:
            part = plan.lattice.box.intersect(band)
            if part.is_empty:
                continue
            values, weights, alpha = warp_buffers(n_channels, part.shape)
            warp_window(plan, part, tile.read, FINE, values, weights, alpha)
            place = part.relative_to(band)
            mean.add(values, weights, alpha, 0.0, place.y0, place.x0)
        made = mean.finish()
        mosaic[band.slices] = np.moveaxis(made.data, 0, -1)
        weight[:, *band.slices] = made.weight

    bands = range(0, grid.shape[0], BAND_ROWS)
    if parallel_plan is None:
        for y0 in bands:
            make(y0)
    else:
        for _ in parallel_plan.run(make, bands):
            pass
    if log.isEnabledFor(logging.DEBUG):
        compare_coverage([coverage_p1] * n_channels, weight, log)
    return mosaic, weight.min(axis=0)
