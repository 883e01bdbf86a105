"""Mosaics of tiles: stacks that have a place already, brought by the user or made by `master_tiles`.

A tile is an image like any other to measuring, matching, warping and combining. What is different stands here: its WCS
is trusted, an absurd one is left out by name, its weight map is believed as far as it agrees with its noise, and the
mosaic counts the frames in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected, NothingToDo
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.frame import Frame
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.correcting import correct_frames
from zemosaic.pipelines.frames.pipeline import Inputs, PlacedFrame, measure_and_place
from zemosaic.pipelines.modes.finish import Outputs, finish_outputs
from zemosaic.pipelines.modes.mosaics import Fill, fill_by_patches, write_mosaics
from zemosaic.pipelines.modes.session import (
    Corrected,
    Guide,
    Session,
    correct_group,
    lay_out,
    open_frames,
    plan_sky,
    read_guide,
)
from zemosaic.pipelines.patches.jobs import MosaicJob
from zemosaic.pipelines.patches.plan import stellar_widths_px
from zemosaic.pipelines.patches.stacking import Filled
from zemosaic.pipelines.run.context import WORK_FOLDER, Run, output_folder
from zemosaic.pipelines.run.kept import Kept
from zemosaic.pipelines.run.need import need_of_tiles
from zemosaic.pipelines.tiles.blended import blend_tiles
from zemosaic.pipelines.tiles.depth import write_depth
from zemosaic.pipelines.tiles.two_pass import second_pass
from zemosaic.settings import Settings
from zemosaic.stages.tiles.rim import RIM_ALPHA
from zemosaic.text import message

__all__ = ["build_existing_tiles", "correct_tiles", "fill_with_tiles", "open_tiles"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

ABSURD = 1e4
"""A tile whose sky is this many times farther from the others' than they are from zero, or each other, is wrong."""

MENTIONED = 0.005
"""Share of the sky without data from which it is told."""

NOISE_RANGE = 0.75, 1.6
"""Noise that a weight map may state, in units of what neighbouring pixels show: resampled pixels hide up to 40 %."""


def build_existing_tiles(
    inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None = None
) -> Outputs:
    """Make a mosaic of stacked, solved tiles; parameters, result and errors are those of `build_direct`."""
    with output_folder(out, run) as run:
        opened = open_frames(inputs, settings, run, stacks=True)
        if opened.files is None or opened.source is not opened.files:
            raise NothingToDo("tiles.calibration-frames")
        run.log.notice(message("tiles.own-weights"))
        guide = read_guide(settings, opened.frames, solution)
        session = open_tiles(opened, guide, settings, run)

        def correct(frames: Sequence[PlacedFrame]) -> Corrected:
            return correct_tiles(frames, session, settings, run)

        made = write_mosaics(session, correct, fill_with_tiles(session, out, settings, run), out, settings, run)
        return finish_outputs("existing-tiles", inputs, session, made, out, settings, run)


def open_tiles(opened: Inputs, guide: Guide, settings: Settings, run: Run, grid: SkyGrid | None = None) -> Session:
    """Measure tiles, leave out absurd ones, and believe the weight maps that agree with their noise.

    Parameters
    ----------
    opened : Inputs
        The tiles, and what reads their files.
    guide : Guide
    settings : Settings
    run : Run
    grid : SkyGrid, optional
        Default: planned from the tiles.

    Raises
    ------
    NothingToDo
        When no tile is left.
    """
    need, reader = need_of_tiles(solved=guide.solved), opened.files
    opened = replace(opened, frames=[_as_tile(frame) for frame in opened.frames])
    found = measure_and_place(opened, need, settings, run)
    sane = _without_absurd(found.frames, run)
    tiles = [_believe_weights(item, reader) for item in sane.frames] if reader else sane.frames
    placed = replace(found, frames=tiles, left_out=found.left_out + sane.left_out)
    return lay_out(opened, guide, need, placed, grid or plan_sky(tiles, guide, settings, run), run)


def correct_tiles(frames: Sequence[PlacedFrame], session: Session, settings: Settings, run: Run) -> Corrected:
    """Correct tiles of one kind; they come from no one camera, whose response could be found, and none is ruled out."""
    guide = session.guide
    if not guide.solved:
        return correct_group(frames, session, settings, run)
    return Corrected(correct_frames(frames, session.grid, settings, run, guide.reference, of_cameras=False), frames)


def fill_with_tiles(session: Session, out: Path, settings: Settings, run: Run, *, cleaned: bool = False) -> Fill:
    """Fill a mosaic with tiles: blended or stacked, then the frames and seconds in them counted, then a second pass.

    Parameters
    ----------
    session : Session
        Of the tiles.
    out : Path
        The output folder.
    settings : Settings
    run : Run
    cleaned : bool
        Whether the rims of the tiles were cleaned by this run, which then tells what that costs.
    """

    def fill(job: MosaicJob, frames: Sequence[PlacedFrame], file: MosaicFile) -> Filled:
        if settings.tiles.blend == "pyramid":
            widths = stellar_widths_px(frames, job.grid)
            made = Filled(blend_tiles(job, widths, file, out / WORK_FOLDER / "warped", run), ReadCounts())
        else:
            made = fill_by_patches(run)(job, frames, file)
        bare = write_depth(file, job.inputs, job.grid, session.inputs.source, settings, run)
        if cleaned and settings.tiles.altaz_nanize_threshold >= RIM_ALPHA and bare > MENTIONED:
            run.log.notice(message("tiles.bare-sky", share=bare))
        if settings.tiles.two_pass:
            made.reads.update(second_pass(job, file, out, settings, run))
        return made

    return fill


def _as_tile(frame: Frame) -> Frame:
    """A frame as stacks are read: without a map of its weight it holds nothing where it is black."""
    storage = frame.storage
    return replace(frame, storage=replace(storage, zero_is_empty=storage.weight is None and storage.alpha is None))


def _without_absurd(placed: Sequence[PlacedFrame], run: Run) -> Kept[PlacedFrame]:
    """Tiles whose sky has something to do with the others'; of fewer than three none can be told."""
    kept, left_out = list(placed), []
    for n_channels in sorted({p.frame.n_channels for p in placed}):
        group = [p for p in placed if p.frame.n_channels == n_channels]
        if len(group) < 3:
            continue
        sky = np.array([p.measured.sky for p in group])
        noise = np.median([p.measured.noise for p in group], axis=0)
        middle = np.median(sky, axis=0)
        usual = np.maximum.reduce([np.abs(middle), np.median(np.abs(sky - middle), axis=0), noise])
        for item, off in zip(group, (np.abs(sky - middle) / usual).max(axis=1), strict=True):
            if off > ABSURD:
                sky_here, usual_sky = item.measured.sky.max(), middle.max()
                why = message("tiles.absurd-sky", sky=sky_here, usual=usual_sky, n_times=off)
                left_out.append(run.log.leave_out(item.frame, why))
                kept.remove(item)
    if not kept:
        raise NothingToDo("tiles.none-left", n_tiles=len(placed))
    return Kept(kept, tuple(left_out))


def _believe_weights(item: PlacedFrame, reader: FrameReader) -> PlacedFrame:
    """The tile with the noise that its weight map states, where the map's unit is that of an inverse variance.

    Pixels of a stack have been resampled: neighbours share noise, and differences between them show less than there is.
    """
    try:
        typical = reader.typical_weight(item.frame)
    except FrameRejected:
        return item
    if typical is None:
        return item
    measured = item.measured
    stated = np.broadcast_to(1 / np.sqrt(typical.astype(float)), measured.noise.shape)
    ratio = stated / measured.area_noise
    if not np.all((NOISE_RANGE[0] < ratio) & (ratio < NOISE_RANGE[1])):
        return item
    return replace(item, measured=replace(measured, noise=ratio * measured.noise, area_noise=np.array(stated)))
