"""Mosaics of tiles: stacks that have a place already, brought by the user or made by `master_tiles`.

A tile is an image like any other to measuring, matching, warping and combining. What is different stands here: its WCS
is trusted, an absurd one is left out by name, its weight map is believed as far as it agrees with its noise, and the
mosaic counts the frames in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected, NothingToDo
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.tables.solution import read_solution
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.corrections.correcting import Corrections, correct_frames, given_corrections
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.pipeline import Inputs, PlacedFrame, measure_and_place, open_inputs, split_by_kind
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.modes.mosaics import MadeMosaics, grid_facts, plan_sky, write_mosaics, write_tables
from zemosaic.pipelines.outputs.report import write_report, write_settings
from zemosaic.pipelines.patches.jobs import MosaicJob
from zemosaic.pipelines.patches.ledger import forget_the_old
from zemosaic.pipelines.run.context import WORK_FOLDER, Run, output_folder
from zemosaic.pipelines.tiles.blended import blend_tiles
from zemosaic.pipelines.tiles.depth import write_depth
from zemosaic.pipelines.tiles.two_pass import second_pass
from zemosaic.settings import Settings

__all__ = ["build_existing_tiles", "mosaic_of_tiles", "settings_for_tiles"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

ABSURD = 1e4
"""A tile whose sky is this many times farther from the others' than they are from zero, or each other, is wrong."""

MENTIONED = 0.005
"""Share of the sky without data from which it is told."""

NOISE_RANGE = 0.75, 1.6
"""Noise that a weight map may state, in units of what neighbouring pixels show: resampled pixels hide up to 40 %."""


ZERO_IS_EMPTY = "zero is empty"
"""As `Frame.calibration`: the tile has no map of its weight, so pixels that are 0 in all channels hold nothing."""


class TileSource:
    """An `ImageSource` of stacks: what registering has left black round a tile without a weight map gets weight 0.

    Parameters
    ----------
    source : ImageSource
        The pixels as stored; their weights are changed.
    """

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """See `ImageSource.read_window`."""
        data, weight = self._source.read_window(frame, box)
        if frame.calibration == ZERO_IS_EMPTY:
            weight *= data.any(axis=0)
        return data, weight


def build_existing_tiles(
    inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None = None
) -> dict[str, Path]:
    """Make a mosaic of stacked, solved tiles; parameters, result and errors are those of `build_direct`."""
    with output_folder(out, run) as run:
        opened = open_inputs(inputs, settings, run)
        if not isinstance(opened.source, FrameReader):
            raise NothingToDo("tiles are stacks of calibrated frames; leave darks and flats out of the inputs")
        run.log.notice("the tiles' own weights count; no alt-az mask is made of them")
        made, grid, known = mosaic_of_tiles(
            opened.frames, opened.source, out, settings_for_tiles(settings), run, solution=solution
        )
        paths = made.paths | write_tables(out, made.groups, known, run)
        write_settings(out / "settings.toml", settings)
        facts = {"mode": "existing-tiles", "grid": grid_facts(grid), **made.facts, "reading": made.reads.figures()}
        write_report(out / "report.json", facts, settings, run.log.journal)
        forget_the_old(run, opened.frames)
        return paths | {"report": out / "report.json"}


def settings_for_tiles(settings: Settings) -> Settings:
    """Settings as tiles want them: solved already, and from no one camera whose response could be found."""
    return settings.model_copy(
        update={
            "solve": settings.solve.model_copy(update={"method": "header"}),
            "match": settings.match.model_copy(update={"response_order": 0}),
        }
    )


def mosaic_of_tiles(
    frames: Sequence[Frame],
    reader: FrameReader,
    out: Path,
    settings: Settings,
    run: Run,
    *,
    grid: SkyGrid | None = None,
    solution: Path | None = None,
    matched: str = "",
) -> tuple[MadeMosaics, SkyGrid, Mapping[FrameId, MeasuredFrame]]:
    """Match tiles and coadd them.

    Parameters
    ----------
    frames : sequence of Frame
        The tiles.
    reader : FrameReader
    out : Path
    settings : Settings
        From `settings_for_tiles`.
    run : Run
    grid : SkyGrid, optional
        Default: planned from the tiles.
    solution : Path, optional
        Corrections to apply instead of matching.
    matched : str
        How the tiles were matched before, in words; they are not matched then. "" for tiles as they come.

    Returns
    -------
    (MadeMosaics, SkyGrid, mapping)
        With what was measured on the tiles, by FrameId.
    """
    given = read_solution(solution, frames) if solution else None
    reference = read_reference(settings.match)
    sky_only = settings.match.method == "none" or given is not None or matched != ""
    # Told by the frame, so that what is stored of the same file as a plain frame is not taken for a tile's.
    told = [frame if frame.weight or frame.alpha else replace(frame, calibration=ZERO_IS_EMPTY) for frame in frames]
    tiles = TileSource(reader)
    found = measure_and_place(Inputs(told, tiles, reader), settings, run, sky_only=sky_only)
    source, placed = found.source, [_believe_weights(item, reader) for item in _without_absurd(found.frames, run)]
    grid = grid or plan_sky(placed, settings, run)

    def correct(group: Sequence[PlacedFrame]) -> tuple[Corrections, Sequence[PlacedFrame]]:
        if matched:
            neutral = {str(item.frame.id): PhotoScale.neutral(item.frame.n_channels, matched) for item in group}
            return Corrections(neutral, matched, {}), group
        if solution and given is not None:
            return given_corrections(group, given, solution.name, run), group
        return correct_frames(group, grid, settings, run, reference), group

    def finish(job: MosaicJob, file: MosaicFile) -> None:
        bare = write_depth(file, job.inputs, grid, tiles, settings, run)
        if matched and bare > MENTIONED:
            run.log.notice(
                f"alt-az clean-up leaves {100 * bare:.0f} % of the sky that frames reach without data, as too few "
                "reach it; a lower tiles.altaz_nanize_threshold keeps it, or tiles.cleanup = off"
            )
        if settings.tiles.two_pass:
            second_pass(job, file, out, settings, run)

    def blend(job: MosaicJob, frames: Sequence[PlacedFrame], file: MosaicFile) -> tuple[dict[str, Any], ReadCounts]:
        return blend_tiles(job, file, out / WORK_FOLDER / "warped", run), ReadCounts()

    stack = blend if settings.tiles.blend == "pyramid" else None
    made = write_mosaics(split_by_kind(placed, run), correct, grid, source, out, settings, run, finish, stack)
    return made, grid, found.known


def _without_absurd(placed: Sequence[PlacedFrame], run: Run) -> list[PlacedFrame]:
    """Tiles whose sky has something to do with the others'; of fewer than three none can be told."""
    kept = list(placed)
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
                run.log.leave_out(
                    item.frame,
                    f"its sky of {item.measured.sky.max():.4g} has nothing to do with the other tiles' "
                    f"{middle.max():.4g}: {off:.3g} times as far from them as they are from zero",
                )
                kept.remove(item)
    if not kept:
        raise NothingToDo("no tile is left", n_tiles=len(placed))
    return kept


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
    stated = np.broadcast_to(1 / np.sqrt(typical.astype(float)), item.measured.noise.shape)
    ratio = stated / item.measured.noise
    if not np.all((NOISE_RANGE[0] < ratio) & (ratio < NOISE_RANGE[1])):
        return item
    return replace(item, measured=replace(item.measured, noise=np.array(stated)))
