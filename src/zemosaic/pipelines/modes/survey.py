"""The survey grid: geometric tiles, stacked, matched over their overlaps, blended into one mosaic (SPEC R-33)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zemosaic.engine.store import make_key
from zemosaic.engine.values import digest_of
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.tables.solution import read_solution
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.correcting import Corrections, correct_frames, given_corrections
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.grading import leave_out_stacks
from zemosaic.pipelines.frames.pipeline import PlacedFrame, measure_and_place, open_inputs, split_by_kind
from zemosaic.pipelines.modes.mosaics import clear_frames, grid_facts, plan_sky, write_mosaics, write_tables
from zemosaic.pipelines.outputs.report import write_report, write_settings
from zemosaic.pipelines.patches.jobs import MosaicJob
from zemosaic.pipelines.patches.ledger import PatchLedger, forget_the_old
from zemosaic.pipelines.run.context import WORK_FOLDER, Run, output_folder
from zemosaic.pipelines.survey.assembly import assemble_tiles
from zemosaic.pipelines.survey.blending import blend_patches, say
from zemosaic.pipelines.survey.tiles import TileRecipe, make_tiles
from zemosaic.settings import Settings
from zemosaic.stages.survey.cut import cut_tiles

__all__ = ["build_grid", "stack_by_tiles"]


def build_grid(
    inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None = None
) -> dict[str, Path]:
    """Make a mosaic by way of overlapping tiles, one per filter.

    Parameters and errors are those of `build_direct`. With ``match.method = none`` (and no solution) frames are matched
    only among those of their tile; then all agreement between tiles is found in the tiles' overlaps.

    Returns
    -------
    dict
        Output files by name.
    """
    with output_folder(out, run) as run:
        return _build(inputs, out, settings, run, solution)


def _build(inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None) -> dict[str, Path]:
    opened = open_inputs(inputs, settings, run)
    opened = replace(opened, frames=leave_out_stacks(opened.frames, run))
    given = read_solution(solution, opened.frames) if solution else None
    reference = read_reference(settings.match)
    matched = settings.match.method != "none" or given is not None
    placed = measure_and_place(opened, settings, run)
    source, grid = placed.source, plan_sky(placed.frames, settings, run)

    def correct(group: Sequence[PlacedFrame]) -> tuple[Corrections, Sequence[PlacedFrame]]:
        if solution and given is not None:
            return given_corrections(group, given, solution.name, run), group
        corrections = correct_frames(group, grid, settings, run, reference)
        return corrections, clear_frames(group, corrections, settings, run) if matched else group

    def stack(job: MosaicJob, frames: Sequence[PlacedFrame], file: MosaicFile) -> tuple[dict[str, Any], ReadCounts]:
        cut = cut_tiles(grid.shape, _field_px(frames, grid), settings.survey.tile_fields, settings.survey.overlap)
        recipe = TileRecipe(cut, frames, job, settings, matched)
        return stack_by_tiles(recipe, file, out / WORK_FOLDER / "tiles", run)

    made = write_mosaics(split_by_kind(placed.frames, run), correct, grid, source, out, settings, run, stack=stack)
    paths = made.paths | write_tables(out, made.groups, placed.known, run)
    write_settings(out / "settings.toml", settings)
    facts = {"mode": "grid", "grid": grid_facts(grid), **made.facts, "reading": made.reads.figures()}
    write_report(out / "report.json", facts, settings, run.log.journal)
    forget_the_old(run, opened.frames)
    return paths | {"report": out / "report.json"}


def stack_by_tiles(recipe: TileRecipe, file: MosaicFile, folder: Path, run: Run) -> tuple[dict[str, Any], ReadCounts]:
    """Make a mosaic by way of tiles and write its planes; takes the place of `stack_onto_grid`.

    Parameters
    ----------
    recipe : TileRecipe
    file : MosaicFile
    folder : Path
        For the tiles while they are needed. A run that is stopped leaves them for the next one.
    run : Run

    Returns
    -------
    (dict, ReadCounts)
        Figures for the report; what was read of files.
    """
    cut = recipe.cut
    whole = digest_of([key for _, _, key in recipe.wanted], recipe.settings.survey, recipe.settings.match)
    # Every pixel of the blended mosaic depends on all tiles, through their solve.
    ledger = PatchLedger(recipe.job, file, run.store, whole) if run.store else None
    figures_key = make_key("survey", whole)
    figures: dict[str, Any] | None = run.store.get(figures_key) if run.store else None
    if figures is not None and ledger and all(map(ledger.recall, blend_patches(recipe.job.grid, recipe.levels))):
        return figures, ReadCounts()
    say(
        run,
        f"[GRID] {len(recipe.wanted)} tiles of {cut.boxes[0].width} x {cut.boxes[0].height} px, "
        f"{cut.overlap_px} px shared",
        f"{len(recipe.wanted)} survey tiles of {cut.boxes[0].width} x {cut.boxes[0].height} pixels, "
        f"{cut.overlap_px} px shared",
    )
    tiles, reads = make_tiles(recipe, folder, run)
    figures = {
        "n_samples": sum(tile.n_samples for tile in tiles),
        "n_rejected": sum(tile.n_rejected for tile in tiles),
        "n_tiles": len(tiles),
        **assemble_tiles(tiles, recipe, ledger or file, run),
    }
    if run.store:
        run.store.put(figures_key, figures)
    shutil.rmtree(folder, ignore_errors=True)
    return figures, reads


def _field_px(frames: Sequence[PlacedFrame], grid: SkyGrid) -> float:
    """Side of a square as large as a typical frame, mosaic pixels."""
    sides = [np.sqrt(f.wcs.shape[0] * f.wcs.shape[1]) * f.wcs.pixel_scale_arcsec() for f in frames]
    return float(np.median(sides)) / grid.scale_arcsec
