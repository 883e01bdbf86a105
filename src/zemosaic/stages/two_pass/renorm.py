"""The second coverage pass: tiles brought to their common mean by gain, then coadded again (SPEC R-60 to R-64).

The names and signatures are those by which users of the classic pipeline know the pass. Gains are photometric: in a
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
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.stack.stack import MeanStack
from zemosaic.stages.two_pass.gains import TileGains, find_gains
from zemosaic.stages.two_pass.tiles import (
    FINE,
    PreparedTile,
    as_celestial,
    cell_means,
    coarse_grid,
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
    "TileStats",
    "TwoPassDiagnostics",
    "compute_per_tile_gains_from_coverage",
    "run_second_pass_coverage_renorm",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

COARSE_PX = 4
"""Mosaic pixels in a cell on which tiles are compared for their gains."""

DELTA_PX = 8
"""Mosaic pixels in a cell of the delta map."""

BAND_ROWS = 512
"""Rows of the mosaic that are made at a time."""

_log = logging.getLogger(__name__)


class ExecutorPlan(Protocol):
    """Runs independent tasks; `zemosaic.engine.executor.Executor` is one."""

    def run(self, function: Callable[[Any], Any], tasks: Iterable[Any], /) -> Iterator[tuple[Any, Any]]:
        """Yield ``(task, function(task))`` in any order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TileStats:
    """What a tile holds: per channel, over finite pixels.

    Attributes
    ----------
    low, mean, median : ndarray, shape (c,)
        NaN for a channel without finite pixels.
    valid_fraction : float
        Share of pixels that are finite in all channels.
    """

    low: F8
    mean: F8
    median: F8
    valid_fraction: float


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
        corrected = {
            k: PreparedTile(_divided(tile, float(gains.gain[k])), tile.weight, tile.wcs) for k, tile in usable.items()
        }
        if log.isEnabledFor(logging.DEBUG):
            for k, tile in usable.items():
                _log_stats(log, "pre_gain", k, gains.gain[k], _tile_stats(tile))
                _log_stats(log, "post_gain", k, gains.gain[k], _tile_stats(corrected[k]))
        if debug_diag is not None:
            debug_diag.gains = gains
            if debug_diag.want_delta_map:
                debug_diag.delta_map = _delta_map(list(usable.values()), list(corrected.values()), grid, mosaic_p1)
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


def _divided(tile: PreparedTile, gain: float) -> F4:
    """The tile's structure divided by its gain, about the background of each channel."""
    if gain == 1:
        return tile.data
    out = tile.data.copy()
    for plane, weight in zip(out, tile.weight, strict=True):
        seen = weight > 0
        if seen.any():
            level = np.float32(_background(plane[seen]))
            plane[seen] = level + (plane[seen] - level) / np.float32(gain)
    return out


def _background(values: F4) -> float:
    """Sigma-clipped median: stars and nebula on one side pull less."""
    for _ in range(5):
        middle = float(np.median(values))
        sigma = mad_sigma(values, middle)
        kept = values[np.abs(values - middle) <= 3 * sigma]
        if len(kept) in {0, len(values)}:
            break
        values = kept
    return float(np.median(values))


def _tile_stats(tile: PreparedTile) -> TileStats:
    seen = tile.weight > 0
    parts = [plane[mask].astype(float) for plane, mask in zip(tile.data, seen, strict=True)]
    low, mean, median = (
        np.array([float(reduce(part)) if part.size else np.nan for part in parts])
        for reduce in (np.min, np.mean, np.median)
    )
    return TileStats(low, mean, median, float(seen.all(axis=0).mean()))


def _log_stats(log: logging.Logger, when: str, index: int, gain: float, stats: TileStats) -> None:
    def shown(values: F8) -> str:
        return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"

    log.debug(
        "[TwoPassTile] %s tile=%d gain=%.6f min=%s mean=%s median=%s valid_frac=%.6f",
        when, index, gain, shown(stats.low), shown(stats.mean), shown(stats.median), stats.valid_fraction,
    )  # fmt: skip


def _delta_map(
    before: Sequence[PreparedTile], after: Sequence[PreparedTile], grid: SkyGrid, mosaic_p1: AnyArray | None
) -> F4:
    """Mean over tiles of the difference to the first pass; see `TwoPassDiagnostics`."""
    coarse = coarse_grid(grid, DELTA_PX)
    first = None if mosaic_p1 is None else cell_means(mosaic_luminance(mosaic_p1), DELTA_PX)
    if first is None:
        total, count = np.zeros((2, *coarse.shape))
        for cell in (on_cells(tile, coarse, grid.area_ref_deg2) for tile in before):
            total[cell.box.slices] += np.where(cell.seen, cell.values, 0)
            count[cell.box.slices] += cell.seen
        first = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    summed, number = np.zeros((2, *coarse.shape))
    for cell in (on_cells(tile, coarse, grid.area_ref_deg2) for tile in after):
        both = cell.seen & np.isfinite(first[cell.box.slices])
        summed[cell.box.slices] += np.where(both, np.abs(cell.values - np.where(both, first[cell.box.slices], 0)), 0)
        number[cell.box.slices] += both
    return np.where(number > 0, summed / np.maximum(number, 1), np.nan).astype(np.float32)


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
        _compare_coverage(coverage_p1, weight, log)
    return mosaic, weight.min(axis=0)


def _compare_coverage(coverage_p1: AnyArray, weight: F4, log: logging.Logger) -> None:
    for c, plane in enumerate(weight, 1):
        if coverage_p1.shape == plane.shape:
            n_lost = np.count_nonzero((coverage_p1 > 0) & (plane <= 0))
            log.debug("[TwoPass] channel %d coverage mismatch: cov1>0 & cov2==0 -> %d pixels", c, n_lost)
        else:
            log.debug(
                "[TwoPass] channel %d coverage shape mismatch for debug: cov1=%s cov2=%s",
                c, coverage_p1.shape, plane.shape,
            )  # fmt: skip
