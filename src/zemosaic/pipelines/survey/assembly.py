"""Tiles of a survey into one mosaic: masks, overlaps, one solve, one blend.

A step that fails is told and replaced by a simpler one; it never ends the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.engine.store import remember
from zemosaic.errors import FrameRejected
from zemosaic.model.box import Box
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.pipelines.patches.planes import PlaneSink
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.pipelines.survey.blending import BORDER, BlendWay, blend_onto_grid, log_and_notice, try_step
from zemosaic.pipelines.survey.tiles import GridTile, TileRecipe
from zemosaic.stages.measure.frame import measure_frame
from zemosaic.stages.survey.overlaps import OverlapGraph, build_tile_overlap_graph
from zemosaic.stages.survey.photometry import TilePhotometryInfo, choose_reference_tile, estimate_tile_background
from zemosaic.stages.survey.solve import TileSolution, measure_steps, shift_levels, solve_tiles, tiles_agree
from zemosaic.text import Message, message

__all__ = ["assemble_tiles"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

_LOG = logging.getLogger(__name__)

_SAMPLE_STEP = 8
"""Every so many rows and columns tell a tile's level and its noise."""

_MEASURE_BYTES = 60
"""Memory for each value of a tile while it is measured."""


def _warn(run: Run, what: str, told: Message) -> Callable[[str], None]:
    """Says in a warning that a step failed, and why."""
    return lambda why: log_and_notice(
        run,
        f"[GRID] {what} failed ({why}); a simpler way is taken",
        message("survey.step-failed", step=told, why=why),
        "warning",
    )


def assemble_tiles(tiles: Sequence[GridTile], recipe: TileRecipe, sink: PlaneSink, run: Run) -> dict[str, Any]:
    """Match the tiles over their overlaps and blend them into the mosaic.

    Parameters
    ----------
    tiles : sequence of GridTile
        Stacked and, where asked for, with equalised colours; only windows of them are read.
    recipe : TileRecipe
        What they were made by.
    sink : PlaneSink
        Takes the planes of the mosaic.
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
    run.log.start("match tiles", len(tiles))
    infos = [_info_of(tile) for tile in tiles]
    nothing = OverlapGraph(tuple(info.tile_id for info in infos), (), 0)
    graph = try_step(
        lambda: build_tile_overlap_graph(infos),
        lambda: nothing,
        _warn(run, "Photometry: overlap graph", message("survey.step-graph")),
    )
    solution = _solve(infos, tiles, graph, recipe, run)
    facts = _tell(infos, graph, solution, recipe.n_channels, run)
    run.log.end("match tiles", message("done.match-tiles", n_overlaps=len(graph.edges), method=solution.method))
    # Where they overlap tiles hold the same frames, so their seeing is the same.
    way = BlendWay(recipe.levels, shared_frames=True)
    told = blend_onto_grid(tiles, solution.scales, recipe.job.grid, sink, recipe.job.names, way, run)
    run.log.end("blend", message("done.blend", ways=told, n_octaves=way.levels))
    return {"tile_match": solution.method, "n_overlaps": len(graph.edges), **facts}


def _info_of(tile: GridTile) -> TilePhotometryInfo:
    """A tile as its photometry sees it."""
    info = TilePhotometryInfo(tile.number, tile.box, tile.planes.view("data"), tile.planes.view(BORDER))
    return replace(info, background=_level(info, PhotoScale.neutral(info.data.shape[0])))


def _solve(
    infos: Sequence[TilePhotometryInfo], tiles: Sequence[GridTile], graph: OverlapGraph, recipe: TileRecipe, run: Run
) -> TileSolution:
    n_channels, settings = recipe.n_channels, recipe.settings

    def neutral(why: str = "none") -> TileSolution:
        scale = PhotoScale.neutral(n_channels, why)
        return TileSolution((scale,) * len(infos), why, len(infos), ())

    def all_at_once() -> TileSolution:
        return solve_tiles(
            _measure(tiles, recipe, run),
            [tile.box for tile in tiles],
            recipe.job.grid.shape,
            settings.match,
            graph,
            choose_reference_tile(infos, graph.n_overlaps),
        )

    def by_levels() -> TileSolution:
        return try_step(
            lambda: shift_levels(graph, n_channels),
            neutral,
            _warn(run, "Photometry: shift of levels", message("survey.step-levels")),
        )

    if len(infos) == 1:
        return neutral("one tile: nothing to match")
    if tiles_agree(graph, [_noise(tile) for tile in tiles]):
        log_and_notice(
            run,
            "[GRID] Photometry: no overlap shows a step or a gain; the tiles are one picture already",
            message("survey.tiles-agree"),
        )
        return neutral("tiles agree already")
    found = try_step(
        all_at_once, by_levels, _warn(run, "Photometry: solve over all tiles", message("survey.step-solve"))
    )
    _tell_solution(found, len(infos) - found.n_neutral, len(graph.edges), run)
    return found


def _tell_solution(found: TileSolution, n_solved: int, n_overlaps: int, run: Run) -> None:
    """Announce how many tiles were matched, and what the solve has to say."""
    for notice in found.notices:
        run.log.notice(message("survey.tiles-matched", notice=notice))
    if n_solved == 0:
        log_and_notice(
            run,
            "[GRID] Photometry did not act: every tile keeps gain 1 and offset 0",
            message("survey.tiles-unmatched"),
            "warning",
        )
    else:
        run.log.notice(message("survey.matched", n_solved=n_solved, n_overlaps=n_overlaps))


def _noise(tile: GridTile) -> F8:
    """Noise of each channel by a tile's weights; NaN for an empty tile."""
    weight = tile.planes.view("weight")[:, ::_SAMPLE_STEP, ::_SAMPLE_STEP]
    return np.array([np.median(plane[plane > 0]) ** -0.5 if (plane > 0).any() else np.nan for plane in weight])


def _measure(tiles: Sequence[GridTile], recipe: TileRecipe, run: Run) -> list[Measurements | None]:
    """Stars and blocks of every tile, for the solve; None where there is nothing to measure."""
    settings = recipe.settings.measure.model_copy(update={"block_px": recipe.cut.block_px})

    def make(tile: GridTile) -> Measurements | None:
        run.cancel.check()
        whole = Box.of_shape(tile.box.shape)
        valid = tile.planes.read(BORDER, whole) > 0
        try:
            return measure_frame(tile.planes.read("data", whole), valid[None].astype(np.float32), settings)
        except FrameRejected:
            return None

    def recall(tile: GridTile) -> Measurements | None:
        key = make_key("measure_tile", tile.key, settings)
        return remember(run.store, key, lambda: make(tile), Measurements)

    n_values = max(tile.box.n_pixels for tile in tiles) * recipe.n_channels
    found = {tile.number: made for tile, made in run.machine.executor_for(n_values * _MEASURE_BYTES).run(recall, tiles)}
    return [found[tile.number] for tile in tiles]


def _tell(
    infos: Sequence[TilePhotometryInfo], graph: OverlapGraph, solution: TileSolution, n_channels: int, run: Run
) -> dict[str, Any]:
    """Announce what the photometry found, before and after; the figures for the report."""
    before = np.array([info.background for info in infos])
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
            _LOG.info(f"[GRID][METRICS] Inter-tile median stddev (channel {channel}): {spread:.4g} ADU ({when})")
            _LOG.info(f"[GRID][METRICS] Overlap steps rms (channel {channel}): {rms:.4g} ADU ({when})")
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
    mask = np.asarray(info.mask[step, step], bool)
    y, x = np.mgrid[: info.bbox.height : _SAMPLE_STEP, : info.bbox.width : _SAMPLE_STEP]
    data = np.asarray(info.data[:, step, step], float) / scale.gain[:, None, None]
    return estimate_tile_background(data - scale.surface_at(x, y, info.bbox.shape), mask)
