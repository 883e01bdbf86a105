"""Tiles of a survey into one mosaic: masks, overlaps, one solve, one blend (SPEC R-56)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zemosaic.errors import Cancelled, EnvironmentProblem
from zemosaic.model.box import Box
from zemosaic.model.photometry import PhotoScale
from zemosaic.model.sky import Patch, SkyGrid
from zemosaic.pipelines.context import Run
from zemosaic.pipelines.grid.tiles import PLANES, GridTile, corrected
from zemosaic.pipelines.output import PlaneSink, write_patch
from zemosaic.settings import Settings
from zemosaic.stages.blend import blend_border_px, blend_feather, blend_pyramid, normalise_weights
from zemosaic.stages.stack import StackedPatch
from zemosaic.stages.tile_overlaps import OverlapGraph, build_tile_overlap_graph
from zemosaic.stages.tile_photometry import TilePhotometryInfo, choose_reference_tile, estimate_tile_background
from zemosaic.stages.tile_solve import TileSolution, measure_steps, shift_levels, solve_tiles, tiles_agree

__all__ = ["assemble_tiles", "blend_patch", "say"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
T = TypeVar("T")

_LOG = logging.getLogger(__name__)

BLEND_PX = 256
"""Side of the boxes that are blended at a time: a multiple of the coarsest pixel of every pyramid."""

_SAMPLE_STEP = 8
"""Every so many rows and columns tell a tile's level."""


def say(run: Run, message: str, level: str = "info") -> None:
    """Log a line, and tell it to whoever watches the run."""
    _LOG.log(logging.WARNING if level == "warning" else logging.INFO, message)
    run.notice(message, level)


def _or_simpler(step: Callable[[], T], simpler: Callable[[], T], tell: Callable[[str], None]) -> T:
    """The result of a step; if it fails, `tell` hears why and a simpler one's result is taken.

    The one place of the survey that catches everything: whatever goes wrong in making a picture finer, it can be made.
    """
    try:
        return step()
    except (Cancelled, EnvironmentProblem, MemoryError):
        raise
    except Exception as problem:  # noqa: BLE001
        tell(f"{type(problem).__name__}: {problem}")
        return simpler()


def _warn(run: Run, what: str) -> Callable[[str], None]:
    """Says in a warning that a step failed, and why."""
    return lambda why: say(run, f"[GRID] {what} failed ({why}); a simpler way is taken", "warning")


def assemble_tiles(
    tiles: Sequence[GridTile],
    grid: SkyGrid,
    settings: Settings,
    sink: PlaneSink,
    names: Sequence[str],
    levels: int,
    run: Run,
) -> dict[str, Any]:
    """Match the tiles over their overlaps and blend them into the mosaic.

    Parameters
    ----------
    tiles : sequence of GridTile
        Stacked and, where asked for, with equalised colours; only windows of them are read.
    grid : SkyGrid
    settings : Settings
    sink : PlaneSink
        Takes the planes `names` of the mosaic.
    names : sequence of str
    levels : int
        Octaves of the pyramid blend; 0 feathers.
    run : Run

    Returns
    -------
    dict
        Figures for the report.

    Notes
    -----
    A step that fails is replaced by the next simpler one with a warning: the solve over all tiles by a shift of levels
    in the overlaps, that by nothing; the pyramid blend by feathering.
    """
    run.clock.start("match tiles", len(tiles))
    infos = [
        TilePhotometryInfo(
            tile.number, tile.box, tile.planes.view("data"), tile.planes.view("mask"), background=tile.background
        )
        for tile in tiles
    ]
    n_channels = infos[0].data.shape[0]
    nothing = OverlapGraph(tuple(info.tile_id for info in infos), (), 0)
    graph = _or_simpler(
        lambda: build_tile_overlap_graph(infos), lambda: nothing, _warn(run, "Photometry: overlap graph")
    )
    run.notice(f"[GRID] Photometry: built overlap graph with {len(graph.edges)} edges, {graph.n_dropped} dropped")
    solution = _solve(infos, tiles, graph, grid, settings, run, n_channels)
    facts = _tell(infos, graph, solution, n_channels, run)
    run.clock.end("match tiles", f"{len(graph.edges)} overlaps; {solution.method}")
    _blend(tiles, solution.scales, grid, sink, names, levels, len(graph.edges), run)
    return {"tile_match": solution.method, "n_overlaps": len(graph.edges), **facts}


def _solve(
    infos: Sequence[TilePhotometryInfo],
    tiles: Sequence[GridTile],
    graph: OverlapGraph,
    grid: SkyGrid,
    settings: Settings,
    run: Run,
    n_channels: int,
) -> TileSolution:
    def neutral(why: str = "none") -> TileSolution:
        scale = PhotoScale.neutral(n_channels, why)
        return TileSolution((scale,) * len(infos), why, len(infos), ())

    def all_at_once() -> TileSolution:
        reference = choose_reference_tile(infos, graph.n_overlaps)
        return solve_tiles(
            [tile.measured for tile in tiles],
            [tile.box for tile in tiles],
            grid.shape,
            settings.match,
            graph,
            reference,
        )

    def by_levels() -> TileSolution:
        return _or_simpler(lambda: shift_levels(graph, n_channels), neutral, _warn(run, "Photometry: shift of levels"))

    if len(infos) == 1:
        return neutral("one tile: nothing to match")
    if tiles_agree(graph, [tile.measured for tile in tiles]):
        say(run, "[GRID] Photometry: no overlap shows a step or a gain; the tiles are one picture already")
        return neutral("tiles agree already")
    found = _or_simpler(all_at_once, by_levels, _warn(run, "Photometry: solve over all tiles"))
    for notice in found.notices:
        run.notice(f"[GRID] tiles: {notice}")
    n_solved = len(infos) - found.n_neutral
    run.notice(f"[GRID] Photometry: solved global gain/offset for {n_solved} tiles")
    if n_solved == 0:
        say(run, "[GRID] Photometry did not act: every tile keeps gain 1 and offset 0", "warning")
    return found


def _tell(
    infos: Sequence[TilePhotometryInfo], graph: OverlapGraph, solution: TileSolution, n_channels: int, run: Run
) -> dict[str, Any]:
    """Announce what the photometry found, before and after; the figures for the report."""
    before = np.array([_level(info, PhotoScale.neutral(n_channels)) for info in infos])
    after = np.array([_level(info, scale) for info, scale in zip(infos, solution.scales, strict=True)])
    steps = [measure_steps(infos, graph), measure_steps(infos, graph, solution.scales)]
    facts: dict[str, Any] = {"tile_gains": [scale.gain for scale in solution.scales]}
    facts["tile_photometry_acted"] = solution.n_neutral < len(infos)
    for c in range(n_channels):
        channel = "RGB"[c] if n_channels == 3 else "L"
        for when, levels, step in (("before", before[:, c], steps[0]), ("after", after[:, c], steps[1])):
            known = levels[np.isfinite(levels)]
            spread = float(np.std(known)) if len(known) else 0.0
            rms = float(np.sqrt(np.mean(step[:, c] ** 2))) if len(step) else 0.0
            say(run, f"[GRID][METRICS] Inter-tile median stddev (channel {channel}): {spread:.4g} ADU ({when})")
            say(run, f"[GRID][METRICS] Overlap steps rms (channel {channel}): {rms:.4g} ADU ({when})")
            facts |= {f"tile_median_stddev_{channel}_{when}": spread, f"overlap_step_rms_{channel}_{when}": rms}
            if len(known):
                _LOG.info(
                    "[GRID] Photometry: tile levels min/median/max %.6g/%.6g/%.6g (channel %s, %s)",
                    known.min(), np.median(known), known.max(), channel, when,
                )  # fmt: skip
    for edge in graph.edges:
        _LOG.debug(
            "[GRID] Photometry: overlap of tiles %d and %d: mask of %d px, gain %s",
            infos[edge.first].tile_id, infos[edge.second].tile_id, edge.n_samples,
            ", ".join(f"{r.slope:.4f} +- {r.slope_error:.4f}" for r in edge.relations),
        )  # fmt: skip
    return facts


def _level(info: TilePhotometryInfo, scale: PhotoScale) -> F8:
    """Sigma-clipped median of a tile under a correction, from a sparse sample."""
    step = slice(None, None, _SAMPLE_STEP)
    mask = np.asarray(info.mask[step, step])
    y, x = np.mgrid[: info.bbox.height : _SAMPLE_STEP, : info.bbox.width : _SAMPLE_STEP]
    data = np.asarray(info.data[:, step, step], float) / scale.gain[:, None, None]
    return estimate_tile_background(data - scale.surface_at(x, y, info.bbox.shape), mask)


def _blend(
    tiles: Sequence[GridTile],
    scales: Sequence[PhotoScale],
    grid: SkyGrid,
    sink: PlaneSink,
    names: Sequence[str],
    levels: int,
    n_overlaps: int,
    run: Run,
) -> None:
    """Blend all tiles, a box of the mosaic at a time."""
    border = blend_border_px(levels)
    patches = list(grid.patches(BLEND_PX, border))
    advance = run.clock.start("blend", len(patches))
    n_channels = len(scales[0].gain)
    # Up to four tiles meet: their planes, weights and pyramids.
    task_bytes = (BLEND_PX + 2 * border) ** 2 * (4 * (21 * n_channels + 40) + 30 * n_channels)
    failed: list[str] = []

    def task(patch: Patch) -> None:
        run.cancel.check()
        write_patch(sink, patch.inner, blend_patch(patch, tiles, scales, levels, failed), names)

    for done, _ in enumerate(run.executor_for(task_bytes).run(task, patches), 1):
        advance(done)
    if failed:
        say(run, f"[GRID] Blending: the pyramid failed ({failed[0]}); {len(failed)} boxes are feathered", "warning")
    if levels:
        say(run, f"[GRID] Blending: applied pyramidal blending on {n_overlaps} overlaps")
    else:
        say(run, f"[GRID] Blending: feathered {n_overlaps} overlaps")
    run.clock.end("blend", f"{n_overlaps} overlaps, {levels} octaves")


def blend_patch(
    patch: Patch, tiles: Sequence[GridTile], scales: Sequence[PhotoScale], levels: int, failed: list[str]
) -> StackedPatch:
    """All planes of a box of the mosaic.

    Tiles that overlap hold the same frames: their noise is one and the same, so variances are added as if fully
    correlated, and coverage, exposure and counts are those of one tile, not sums.
    """
    meeting = [(tile, scale) for tile, scale in zip(tiles, scales, strict=True) if tile.box.overlaps(patch.outer)]
    n_channels = len(scales[0].gain)
    if not meeting:
        return StackedPatch.empty((n_channels, *patch.inner.shape))
    if len(meeting) == 1:
        return _window(*meeting[0], patch.inner)[0]
    parts, weights = zip(*(_window(tile, scale, patch.outer) for tile, scale in meeting), strict=True)
    share = normalise_weights(np.stack(weights))
    images = np.stack([part.data for part in parts])
    inner = patch.inner.relative_to(patch.outer).slices
    data = _or_simpler(
        lambda: blend_pyramid(images, share, levels), lambda: blend_feather(images, share), failed.append
    )
    covered = share.sum(axis=0) > 0
    sigma = sum(w * np.sqrt(part.variance) for w, part in zip(share, parts, strict=True))
    spread = sum(w / np.sqrt(np.maximum(part.weight, 1e-30)) for w, part in zip(share, parts, strict=True))
    out = StackedPatch(
        data=data,
        weight=np.where(covered, 1 / np.square(np.where(spread > 0, spread, 1)), 0).astype(np.float32),
        variance=np.square(sigma).astype(np.float32),
        coverage=np.max([part.coverage for part in parts], axis=0),
        rejected=np.max([part.rejected for part in parts], axis=0),
        exposure=np.max([part.exposure for part in parts], axis=0),
        saturated=np.max([part.saturated for part in parts], axis=0),
    )
    return StackedPatch(*(np.ascontiguousarray(getattr(out, name)[:, *inner]) for name in PLANES))


def _window(tile: GridTile, scale: PhotoScale, box: Box) -> tuple[StackedPatch, F4]:
    """A tile's corrected planes on a box of the mosaic, and its blending weight there; 0 beyond the tile."""
    part = tile.box.intersect(box)
    inside = part.relative_to(tile.box)
    read = StackedPatch(*(tile.planes.read(name, inside) for name in PLANES))
    made = corrected(scale, read, inside, tile.box.shape)
    border = tile.planes.read("border", inside)
    out = StackedPatch.empty((len(scale.gain), *box.shape))
    place = part.relative_to(box).slices
    for name in PLANES:
        getattr(out, name)[:, *place] = getattr(made, name)
    weight = np.zeros(box.shape, np.float32)
    weight[place] = border * made.weight.mean(axis=0)
    return out, weight
