"""The survey grid: geometric tiles, stacked, matched over their overlaps, blended into one mosaic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.modes.finish import Outputs, finish_outputs
from zemosaic.pipelines.modes.mosaics import write_mosaics
from zemosaic.pipelines.modes.session import Corrected, begin_session, correct_group, open_frames, read_guide
from zemosaic.pipelines.patches.jobs import MosaicJob
from zemosaic.pipelines.patches.stacking import Filled
from zemosaic.pipelines.run.context import WORK_FOLDER, Run, output_folder
from zemosaic.pipelines.run.need import need_of_frames
from zemosaic.pipelines.survey.stack_by_tiles import stack_by_tiles
from zemosaic.pipelines.survey.tiles import TileRecipe
from zemosaic.settings import Settings
from zemosaic.stages.survey.cut import cut_tiles

__all__ = ["build_grid"]


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


def _field_px(frames: Sequence[PlacedFrame], grid: SkyGrid) -> float:
    """Side of a square as large as a typical frame, mosaic pixels."""
    sides = [np.sqrt(f.wcs.shape[0] * f.wcs.shape[1]) * f.wcs.pixel_scale_arcsec() for f in frames]
    return float(np.median(sides)) / grid.scale_arcsec
