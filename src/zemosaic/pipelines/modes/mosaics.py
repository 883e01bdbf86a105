"""One mosaic a kind of frames from placed frames: what all modes do once they know how frames are corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.io.headers.grid_header import read_grid_header
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.tables.solution import write_solution
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.box import Box
from zemosaic.model.frame import FrameId
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.correcting import Corrections
from zemosaic.pipelines.frames.grading import grade_matched
from zemosaic.pipelines.frames.pipeline import KindGroup, PlacedFrame
from zemosaic.pipelines.measuring.clean_source import CleanSource
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.outputs.cards import mosaic_cards
from zemosaic.pipelines.outputs.preview import write_preview
from zemosaic.pipelines.outputs.report import write_frames_table
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.pipelines.patches.ledger import open_ledger
from zemosaic.pipelines.patches.plan import plan_inputs, stellar_width_px
from zemosaic.pipelines.patches.planes import file_planes
from zemosaic.pipelines.patches.stacking import stack_onto_grid
from zemosaic.pipelines.patches.warps import keep_warps
from zemosaic.pipelines.run.context import WORK_FOLDER, Run
from zemosaic.settings import GridSettings, Settings
from zemosaic.stages.grid.plan import grow_grid, plan_grid

__all__ = [
    "Correct",
    "Finish",
    "MadeMosaics",
    "MosaicGroup",
    "Stack",
    "check_grid",
    "clear_frames",
    "grid_facts",
    "plan_sky",
    "write_mosaics",
    "write_tables",
]

@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """The corrections of one kind's frames, those frames that the mosaic shall hold, and what they ruled out."""

    corrections: Corrections
    frames: Sequence[PlacedFrame]
    left_out: tuple[LeftOut, ...] = ()


Correct = Callable[[Sequence[PlacedFrame]], Corrected]
"""Corrects the frames of one kind."""

Finish = Callable[[MosaicFile, Sequence[PatchInput], float], None]
"""Changes planes of a mosaic that has been stacked, before its preview is made and it gets its name; the number is the
FWHM of stars, mosaic pixels."""

Stack = Callable[
    [Sequence[PlacedFrame], Sequence[PatchInput], float, MosaicFile, Sequence[str]],
    tuple[dict[str, Any], ReadCounts],
]
"""Fills the named planes of a mosaic in another way than `stack_onto_grid`: frames, the same as the patch task needs
them, and the width of their stars come in, figures for the report, and what was read of files, go out."""


@dataclass(frozen=True, slots=True, eq=False)
class MosaicGroup:
    """The frames of one filter, their corrections, and which of them the mosaic holds."""

    frames: Sequence[PlacedFrame]
    corrections: Corrections
    used: frozenset[str]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class MadeMosaics:
    """What has been made.

    Attributes
    ----------
    groups : list of MosaicGroup
        One a mosaic.
    paths : dict
        Output files by name.
    facts : dict
        Figures of each mosaic, for the report.
    reads : ReadCounts
        What was read of files while frames were stacked.
    left_out : list of LeftOut
        Frames that corrections, or the grid, ruled out.
    """

    groups: list[MosaicGroup]
    paths: dict[str, Path]
    facts: dict[str, Any]
    reads: ReadCounts
    left_out: list[LeftOut]


def write_mosaics(
    groups: Sequence[KindGroup],
    correct: Correct,
    grid: SkyGrid,
    source: CleanSource,
    out: Path,
    settings: Settings,
    run: Run,
    finish: Finish | None = None,
    stack: Stack | None = None,
) -> MadeMosaics:
    """Correct and stack the frames of each kind onto one grid.

    Parameters
    ----------
    groups : sequence of KindGroup
        From `split_by_kind`.
    correct : callable
        See `Correct`.
    grid, source, out, settings, run
        Where to, from where, with what.
    finish : callable, optional
        See `Finish`.
    stack : callable, optional
        See `Stack`.

    Raises
    ------
    NothingToDo
        When no kind's frames make a mosaic.
    """
    made = MadeMosaics([], {}, {}, ReadCounts(), [])
    for group in groups:
        tag = f"_{group.label}" if len(groups) > 1 else ""
        if tag:
            run.log.notice(f"mosaic of {group.label or 'the frames without a filter'}:")
        try:
            corrected = correct(group.frames)
            made.left_out.extend(corrected.left_out)
            corrections = corrected.corrections
            planned = plan_inputs(corrected.frames, corrections.scales, grid, settings, run)
            made.left_out.extend(planned.left_out)
            if not planned.frames:
                raise NothingToDo("no frame reaches the output grid")
            files, used, figures, reads = _write_mosaic(
                out, tag, corrected.frames, planned.frames, corrections, grid, settings, source, run, finish, stack
            )
        except NothingToDo as problem:
            if len(groups) == 1:
                raise
            run.log.notice(f"no mosaic of {group.label or 'the frames without a filter'}: {problem}", "warning")
            continue
        made.groups.append(MosaicGroup(group.frames, corrections, used))
        made.reads.update(reads)
        made.paths.update({f"{name}{tag}": path for name, path in files.items()})
        made.facts[f"mosaic{tag}"] = {"match": corrections.method, **corrections.facts, **figures}
    if not made.groups:
        raise NothingToDo("no kind's frames make a mosaic; see the reasons above")
    return made


def clear_frames(
    group: Sequence[PlacedFrame], corrections: Corrections, settings: Settings, run: Run
) -> Kept[PlacedFrame]:
    """The frames that gains and places do not rule out."""
    frames, measured, places = zip(*((p.frame, p.measured, p.wcs) for p in group), strict=True)
    bad = grade_matched(frames, measured, places, corrections.scales, settings, run)
    gone = {item.frame_id for item in bad}
    return Kept([item for item in group if item.frame.id not in gone], bad)


def write_tables(
    out: Path, groups: Sequence[MosaicGroup], known: Mapping[FrameId, MeasuredFrame], run: Run
) -> dict[str, Path]:
    """One table of frames and one of corrections for all filters, in the order of the files' names."""
    placed = [item for group in groups for item in group.frames]
    placed.sort(key=lambda item: (item.frame.path, item.frame.hdu))
    scales = {frame_id: scale for group in groups for frame_id, scale in group.corrections.scales.items()}
    frames = [item.frame for item in placed]
    paths = {"match": out / "match.ecsv", "frames": out / "frames.ecsv"}
    write_solution(paths["match"], frames, [scales[frame.id] for frame in frames])
    write_frames_table(
        paths["frames"], placed, scales, {i for group in groups for i in group.used}, known, run.log.journal
    )
    return paths


def grid_facts(grid: SkyGrid) -> dict[str, Any]:
    """Size, scale and centre, for the report."""
    ra, dec = grid.wcs.pixel_to_sky((grid.shape[1] - 1) / 2, (grid.shape[0] - 1) / 2)
    return {
        "height": grid.shape[0],
        "width": grid.shape[1],
        "scale_arcsec": grid.scale_arcsec,
        "center_deg": [float(ra), float(dec)],
    }


def _write_mosaic(
    out: Path,
    tag: str,
    frames: Sequence[PlacedFrame],
    inputs: Sequence[PatchInput],
    corrections: Corrections,
    grid: SkyGrid,
    settings: Settings,
    source: CleanSource,
    run: Run,
    finish: Finish | None,
    stack: Stack | None,
) -> tuple[dict[str, Path], frozenset[str], dict[str, Any], ReadCounts]:
    """One filter's mosaic with its picture; which frames it holds; its figures; what was read of files."""
    if run.options.keep_warps:
        keep_warps(inputs, grid, settings, source, run.options.keep_warps, run)
    planes = file_planes(settings.output, inputs[0].frame)
    cards, history = mosaic_cards(inputs, grid, settings, corrections.method)
    paths = {"mosaic": out / f"mosaic{tag}.fits"}
    fwhm_px = corrections.fwhm_px or stellar_width_px(frames, grid)
    partial = out / WORK_FOLDER / f"mosaic{tag}.fits.partial"
    with MosaicFile(paths["mosaic"], grid.wcs, planes, cards, history, partial=partial, resume=True) as file:
        names = [plane.name for plane in planes]
        if stack is not None:
            figures, reads = stack(frames, inputs, fwhm_px, file, names)
        else:
            ledger = open_ledger(file, planes, inputs, fwhm_px, settings, source, run)
            figures, reads = stack_onto_grid(inputs, fwhm_px, grid, settings, source, file, names, run, ledger)
        if finish is not None:
            finish(file, inputs, fwhm_px)
        if settings.output.preview:
            paths["preview"] = out / f"preview{tag}.png"
            _write_preview(paths["preview"], file, grid, settings, run)
        file.finish()
    return paths, frozenset(item.frame.id for item in inputs), {"n_frames": len(inputs), **figures}, reads


def _write_preview(path: Path, file: MosaicFile, grid: SkyGrid, settings: Settings, run: Run) -> None:
    advance = run.log.start("preview", grid.shape[0])

    def read_rows(y0: int, y1: int) -> npt.NDArray[Any]:
        run.cancel.check()
        advance(y1)
        return file.read("DATA", Box(y0, y1, 0, grid.shape[1]))

    write_preview(path, read_rows, grid.shape, settings.output.preview_max_px)
    run.log.end("preview", path.name)


def check_grid(settings: GridSettings) -> None:
    """Read the header file that fixes the output grid before the frames are measured: a slip there is told at once.

    Raises
    ------
    SettingError
        For a header file that cannot be read.
    """
    if settings.header:
        read_grid_header(Path(settings.header))


def plan_sky(placed: Sequence[PlacedFrame], settings: Settings, run: Run) -> SkyGrid:
    """The output grid; a very large one needs a yes.

    Raises
    ------
    SettingError
        When the grid is larger than ``grid.max_mpix`` and nobody said yes.
    """
    given = read_grid_header(Path(settings.grid.header)) if settings.grid.header else None
    places = [p.wcs for p in placed]
    if run.options.onto is None:
        grid = plan_grid(places, settings.grid, given)
    else:
        grid = grow_grid(SkyGrid(read_grid_header(run.options.onto)), places)
    height, width = grid.shape
    run.log.notice(f"output grid {width} x {height} pixels of {grid.scale_arcsec:.3f} arcsec")
    mpix = height * width / 1e6
    if mpix > settings.grid.max_mpix and not run.options.yes:
        raise SettingError(
            f"the output grid has {mpix:.0f} Mpix, some {mpix * 24e-3:.0f} GB a channel on disk; say --yes, or choose "
            "grid.scale_arcsec, grid.size_px or grid.crop",
            mpix=mpix,
        )
    return grid
