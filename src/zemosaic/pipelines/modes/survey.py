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
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.modes.finish import Outputs, finish_outputs
from zemosaic.pipelines.modes.mosaics import Filled, write_mosaics
from zemosaic.pipelines.modes.session import Corrected, begin_session, correct_group, open_frames, read_guide
from zemosaic.pipelines.patches.jobs import MosaicJob
from zemosaic.pipelines.patches.ledger import PatchLedger
from zemosaic.pipelines.run.context import WORK_FOLDER, Run, output_folder
from zemosaic.pipelines.run.need import need_of_frames
from zemosaic.pipelines.survey.assembly import assemble_tiles
from zemosaic.pipelines.survey.blending import blend_patches, say
from zemosaic.pipelines.survey.tiles import TileRecipe, make_tiles
from zemosaic.settings import Settings
from zemosaic.stages.survey.cut import cut_tiles

__all__ = ["build_grid", "stack_by_tiles"]


def build_grid(
    inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None = None
) -> Outputs:
    """Make a mosaic by way of overlapping tiles, one per filter.

    Parameters, result and errors are those of `build_direct`. With ``match.method = none`` (and no solution) frames are
    matched only among those of their tile; then all agreement between tiles is found in the tiles' overlaps.
    """
    with output_folder(out, run) as run:
        opened = open_frames(inputs, settings, run)
        guide = read_guide(settings, opened.frames, solution)
        matched = guide.solved or guide.given is not None
        need = need_of_frames(settings, solved=guide.solved)
        # Places are as in every mode; to match the frames of a tile among themselves takes their stars and blocks.
        need = need if matched else replace(need, measure="match")
        session = begin_session(opened, guide, need, settings, run)

        def correct(frames: Sequence[PlacedFrame]) -> Corrected:
            return correct_group(frames, session, settings, run)

        def fill(job: MosaicJob, frames: Sequence[PlacedFrame], file: MosaicFile) -> Filled:
            field_px, survey = _field_px(frames, job.grid), settings.survey
            cut = cut_tiles(job.grid.shape, field_px, survey.tile_fields, survey.overlap)
            recipe = TileRecipe(cut, frames, job, settings, matched)
            return stack_by_tiles(recipe, file, out / WORK_FOLDER / "tiles", run)

        made = write_mosaics(session, correct, fill, out, settings, run)
        return finish_outputs("grid", inputs, session, made, out, settings, run)


def stack_by_tiles(recipe: TileRecipe, file: MosaicFile, folder: Path, run: Run) -> Filled:
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
