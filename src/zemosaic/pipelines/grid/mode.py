"""The survey grid: geometric tiles, stacked, matched over their overlaps, blended into one mosaic (SPEC R-33)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zemosaic.io.mosaic_file import MosaicFile
from zemosaic.io.solution import read_solution
from zemosaic.model.sky import SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.context import WORK_FOLDER, Run, output_folder
from zemosaic.pipelines.correcting import Corrections, correct_frames, given_corrections
from zemosaic.pipelines.frames.place import PlacedFrame, measure_and_place, open_inputs, split_by_filter
from zemosaic.pipelines.grid.assembly import assemble_tiles, say
from zemosaic.pipelines.grid.tiles import make_tiles
from zemosaic.pipelines.mosaics import clear_frames, grid_facts, plan_sky, write_mosaics, write_tables
from zemosaic.pipelines.output import PlaneSink
from zemosaic.pipelines.reference import read_reference
from zemosaic.pipelines.report import write_report, write_settings
from zemosaic.pipelines.resume import forget_the_old
from zemosaic.pipelines.tasks import PatchInput
from zemosaic.settings import Settings
from zemosaic.stages.blend import levels_for_overlap
from zemosaic.stages.geometric_tiles import cut_tiles

__all__ = ["assemble_tiles", "build_grid", "stack_by_tiles"]


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
    with output_folder(out, run):
        return _build(inputs, out, settings, run, solution)


def _build(inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None) -> dict[str, Path]:
    frames, reader = open_inputs(inputs, settings, run)
    given = read_solution(solution, frames) if solution else None
    reference = read_reference(settings.match)
    matched = settings.match.method != "none" or given is not None
    placed, source = measure_and_place(frames, reader, settings, run)
    grid = plan_sky(placed, settings, run)

    def correct(group: Sequence[PlacedFrame]) -> tuple[Corrections, Sequence[PlacedFrame]]:
        if solution and given is not None:
            return given_corrections(group, given, solution.name, run), group
        corrections = correct_frames(group, grid, settings, run, reference)
        return corrections, clear_frames(group, corrections, settings, run) if matched else group

    def stack(
        group: Sequence[PlacedFrame],
        planned: Sequence[PatchInput],
        fwhm_px: float,
        file: MosaicFile,
        names: Sequence[str],
    ) -> dict[str, Any]:
        folder = out / WORK_FOLDER / "tiles"
        return stack_by_tiles(
            group, planned, fwhm_px, grid, settings, source, file, names, run, folder, matched=matched
        )  # fmt: skip

    made = write_mosaics(split_by_filter(placed, run), correct, grid, source, out, settings, run, stack=stack)
    paths = made.paths | write_tables(out, made.groups, run)
    write_settings(out / "settings.toml", settings)
    write_report(out / "report.json", {"mode": "grid", "grid": grid_facts(grid), **made.facts}, settings, run)
    forget_the_old(run, frames)
    return paths | {"report": out / "report.json"}


def stack_by_tiles(
    frames: Sequence[PlacedFrame],
    inputs: Sequence[PatchInput],
    fwhm_px: float,
    grid: SkyGrid,
    settings: Settings,
    source: ImageSource,
    sink: PlaneSink,
    names: Sequence[str],
    run: Run,
    folder: Path,
    *,
    matched: bool,
) -> dict[str, Any]:
    """Make a mosaic by way of tiles and write its planes; takes the place of `stack_onto_grid`.

    Parameters
    ----------
    frames, inputs : sequences
        The frames, and as the patch task needs them, sorted by FrameId.
    fwhm_px, grid, settings, source, sink, names, run
        As for `stack_onto_grid`.
    folder : Path
        For the tiles while they are needed.
    matched : bool
        Whether all frames were matched in one solve; otherwise those of each tile are matched among themselves.

    Returns
    -------
    dict
        Figures for the report.
    """
    cut = cut_tiles(grid.shape, _field_px(frames, grid), settings.survey.tile_fields, settings.survey.overlap)
    try:
        tiles = make_tiles(
            cut, frames, inputs, fwhm_px, grid, settings, source, folder, run, matched=matched
        )  # fmt: skip
        say(
            run,
            f"[GRID] {len(tiles)} tiles of {cut.boxes[0].width} x {cut.boxes[0].height} px, {cut.overlap_px} px shared",
        )
        levels = levels_for_overlap(cut.overlap_px) if settings.survey.blend == "pyramid" else 0
        figures = assemble_tiles(tiles, grid, settings, sink, names, levels, run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "n_samples": sum(tile.n_samples for tile in tiles),
        "n_rejected": sum(tile.n_rejected for tile in tiles),
        "n_tiles": len(tiles),
        **figures,
    }


def _field_px(frames: Sequence[PlacedFrame], grid: SkyGrid) -> float:
    """Side of a square as large as a typical frame, mosaic pixels."""
    sides = [np.sqrt(f.wcs.shape[0] * f.wcs.shape[1]) * f.wcs.pixel_scale_arcsec() for f in frames]
    return float(np.median(sides)) / grid.scale_arcsec
