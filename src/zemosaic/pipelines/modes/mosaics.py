"""One mosaic a kind of frames from placed frames: what all modes do once they know how frames are corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.errors import NothingToDo
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.box import Box
from zemosaic.model.frame import FrameId
from zemosaic.model.kind import Kind
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.correcting import Corrections
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.modes.session import Corrected, Session
from zemosaic.pipelines.outputs.cards import mosaic_cards, settings_card
from zemosaic.pipelines.outputs.depth_facts import MosaicView, describe_depth
from zemosaic.pipelines.outputs.frame_facts import describe_frames
from zemosaic.pipelines.outputs.preview import write_preview
from zemosaic.pipelines.outputs.zero_point import zero_point_cards
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchInput
from zemosaic.pipelines.patches.ledger import open_ledger
from zemosaic.pipelines.patches.plan import plan_inputs, stellar_width_px, unit_of
from zemosaic.pipelines.patches.planes import file_planes
from zemosaic.pipelines.patches.stacking import Filled, stack_onto_grid
from zemosaic.pipelines.patches.warps import keep_warps
from zemosaic.pipelines.run.context import WORK_FOLDER, Run
from zemosaic.pipelines.run.kept import Kept
from zemosaic.pipelines.run.need import Placing
from zemosaic.settings import Settings
from zemosaic.text import message

__all__ = [
    "Correct",
    "Fill",
    "MadeMosaics",
    "MosaicGroup",
    "fill_by_patches",
    "make_job",
    "plan_group",
    "write_mosaics",
]

Correct = Callable[[Sequence[PlacedFrame]], Corrected]
"""Corrects the frames of one kind."""

Fill = Callable[[MosaicJob, Sequence[PlacedFrame], MosaicFile], Filled]
"""Fills the planes of a mosaic, before its preview is made and it gets its name; the frames are those that the job's
inputs were made of."""


@dataclass(frozen=True, slots=True, eq=False)
class MosaicGroup:
    """The frames of one mosaic, their corrections, which of them the mosaic holds, and how much of each was clipped.

    `clipped` is that of `Filled`.
    """

    frames: Sequence[PlacedFrame]
    corrections: Corrections
    used: frozenset[str]
    clipped: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class MadeMosaics:
    """What has been made.

    Attributes
    ----------
    groups : sequence of MosaicGroup
        One a mosaic.
    paths : mapping
        Output files by name.
    facts : mapping
        Figures of each mosaic, for the report.
    reads : ReadCounts
        What was read of files while frames were stacked.
    left_out : tuple of LeftOut
        Frames that corrections, or the grid, ruled out.
    known : mapping
        FrameId -> what was measured on tiles that were made on the way.
    """

    groups: Sequence[MosaicGroup]
    paths: Mapping[str, Path]
    facts: Mapping[str, Any]
    reads: ReadCounts
    left_out: tuple[LeftOut, ...]
    known: Mapping[FrameId, MeasuredFrame]


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """A mosaic to be made: its job, how its frames were corrected and placed, what tells its files from others'."""

    job: MosaicJob
    corrected: Corrected
    place: Placing
    tag: str


def write_mosaics(
    session: Session, correct: Correct, fill: Fill, out: Path, settings: Settings, run: Run
) -> MadeMosaics:
    """Correct and stack the frames of each kind onto one grid.

    Raises
    ------
    NothingToDo
        When no kind's frames make a mosaic.
    """
    groups: list[MosaicGroup] = []
    paths: dict[str, Path] = {}
    facts: dict[str, Any] = {}
    reads = ReadCounts()
    left_out: list[LeftOut] = []
    for group in session.groups:
        tag, name = session.tag(group), group.label or message("mosaic.without-filter")
        if tag:
            run.log.notice(message("mosaic.begun", name=name))
        corrected = correct(group.frames)
        planned = plan_group(corrected, session, settings, run)
        left_out += planned.left_out
        if not planned.frames:
            if len(session.groups) == 1:
                raise NothingToDo("grid.no-frame-reaches")
            run.log.notice(message("mosaic.none", name=name), "warning")
            continue
        corrections = corrected.corrections
        job = make_job(group.kind, planned.frames, corrected, session, settings)
        wanted = _Wanted(job, corrected, session.need.place, tag)
        files, filled = _write_mosaic(wanted, fill, out, settings, run)
        used = frozenset(item.frame.id for item in planned.frames)
        groups.append(MosaicGroup(group.frames, corrections, used, filled.clipped))
        reads.update(filled.reads)
        paths.update({f"{name}{tag}": path for name, path in files.items()})
        chosen = [item for item in group.frames if item.frame.id in used]
        facts[f"mosaic{tag}"] = {
            "match": corrections.method, **corrections.facts, **describe_frames(chosen), **filled.figures
        }  # fmt: skip
    if not groups:
        raise NothingToDo("mosaic.none-of-kinds")
    return MadeMosaics(groups, paths, facts, reads, tuple(left_out), {})


def plan_group(corrected: Corrected, session: Session, settings: Settings, run: Run) -> Kept[PatchInput]:
    """The inputs of one mosaic, and all that was ruled out; their warps are written where that is asked for."""
    grid, source = session.grid, session.placed.source
    planned = plan_inputs(corrected.frames, corrected.corrections.scales, grid, settings, run)
    left_out = corrected.left_out + planned.left_out
    if planned.frames and run.options.keep_warps:
        left_out += keep_warps(planned.frames, grid, settings, source, run.options.keep_warps, run)
    return Kept(planned.frames, left_out)


def make_job(
    kind: Kind, inputs: Sequence[PatchInput], corrected: Corrected, session: Session, settings: Settings
) -> MosaicJob:
    """The mosaic of frames of one kind, as the patch task wants it."""
    return MosaicJob(
        inputs=inputs,
        grid=session.grid,
        fwhm_px=corrected.corrections.fwhm_px or stellar_width_px(corrected.frames, session.grid),
        kind=kind,
        planes=file_planes(settings.output, kind.n_channels),
        warp=settings.warp,
        stack=settings.stack,
        source=session.placed.source,
        unit=unit_of(inputs),
    )


def _write_mosaic(
    wanted: _Wanted, fill: Fill, out: Path, settings: Settings, run: Run
) -> tuple[dict[str, Path], Filled]:
    """One mosaic with its picture."""
    job, tag, grid = wanted.job, wanted.tag, wanted.job.grid
    cards, history = mosaic_cards(job.inputs, grid, settings, wanted.place, wanted.corrected.corrections.method)
    cards += [*zero_point_cards(wanted.corrected.frames, wanted.corrected.corrections.scales, grid), settings_card()]
    paths = {"mosaic": out / f"mosaic{tag}.fits"}
    partial = out / WORK_FOLDER / f"mosaic{tag}.fits.partial"
    with MosaicFile(paths["mosaic"], grid.wcs, job.planes, cards, history, partial=partial, resume=True) as file:
        filled = fill(job, wanted.corrected.frames, file)
        names = tuple(plane.name for plane in job.planes)
        view = MosaicView(grid, names, job.kind.n_channels, job.fwhm_px, file.read)
        looks: list[Callable[[], Any]] = [lambda: describe_depth(view)]
        if settings.output.preview:
            paths["preview"] = preview = out / f"preview{tag}.png"
            looks.append(lambda: _write_preview(preview, file, grid, settings, run))
        # Each keeps one processor busy.
        filled.figures["depth"], *_ = run.machine.make_executor().map(lambda look: look(), looks)
        file.finish([settings_card(settings)])
    return paths, filled


def fill_by_patches(run: Run) -> Fill:
    """The way of all frames that go straight onto the mosaic: patch by patch, each as soon as it is stacked."""

    def fill(job: MosaicJob, frames: Sequence[PlacedFrame], file: MosaicFile) -> Filled:
        return stack_onto_grid(job, file, run, open_ledger(job, file, run))

    return fill


def _write_preview(path: Path, file: MosaicFile, grid: SkyGrid, settings: Settings, run: Run) -> None:
    advance = run.log.start("preview", grid.shape[0])

    def read_rows(y0: int, y1: int) -> npt.NDArray[Any]:
        run.cancel.check()
        advance(y1)
        return file.read("DATA", Box(y0, y1, 0, grid.shape[1]))

    write_preview(path, read_rows, grid.wcs, settings.output.preview_max_px)
    run.log.end("preview", message("done.files", names=[path.name, path.with_suffix(".jpg").name]))
