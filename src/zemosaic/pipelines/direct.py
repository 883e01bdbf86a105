"""The direct mosaic: frames -> one sky solve -> straight onto the grid, resampled once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zemosaic.errors import NothingToDo, SettingError
from zemosaic.io.fits import FrameReader
from zemosaic.io.grid_header import read_grid_header
from zemosaic.io.mosaic_file import MosaicFile
from zemosaic.io.solution import read_solution, write_solution
from zemosaic.model.box import Box
from zemosaic.model.sky import SkyGrid
from zemosaic.pipelines.clean_source import CleanSource
from zemosaic.pipelines.context import WORK_FOLDER, Run, output_folder
from zemosaic.pipelines.correcting import Corrections, correct_frames, given_corrections
from zemosaic.pipelines.grading import grade_matched
from zemosaic.pipelines.output import file_planes, mosaic_cards, write_preview
from zemosaic.pipelines.place import PlacedFrame, measure_and_place, scan_inputs, split_by_filter
from zemosaic.pipelines.prepare import plan_inputs, stellar_width_px
from zemosaic.pipelines.reference import read_reference
from zemosaic.pipelines.report import write_frames_table, write_report, write_settings
from zemosaic.pipelines.resume import forget_the_old, open_ledger
from zemosaic.pipelines.stacking import stack_onto_grid
from zemosaic.pipelines.warps import keep_warps
from zemosaic.settings import Settings
from zemosaic.stages.grid import plan_grid

__all__ = ["build_direct", "match_only", "plan_sky"]


def build_direct(
    inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None = None
) -> dict[str, Path]:
    """Make a mosaic of all frames in files and folders, one per filter.

    Parameters
    ----------
    inputs : sequence of Path
        Files and folders.
    out : Path
        Output folder.
    settings : Settings
    run : Run
        Options, events, cancel token.
    solution : Path, optional
        A table of gains and surfaces to apply instead of matching.

    Returns
    -------
    dict
        Output files by name.

    Raises
    ------
    ZeMosaicError
        With its exit code, for everything that ends the run.
    """
    with output_folder(out, run):
        return _build(inputs, out, settings, run, solution)


def _build(inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None) -> dict[str, Path]:
    frames = scan_inputs(inputs, settings.input, run)
    given = read_solution(solution, frames) if solution else None
    reference = read_reference(settings.match)
    sky_only = settings.match.method == "none" or given is not None
    placed, source = measure_and_place(frames, FrameReader(run.cap_bytes // 8), settings, run, sky_only=sky_only)
    grid = plan_sky(placed, settings, run)
    groups = split_by_filter(placed, run)
    paths: dict[str, Path] = {}
    facts: dict[str, Any] = {}
    made: list[_Group] = []
    for label, group in groups.items():
        tag = f"_{label}" if len(groups) > 1 else ""
        try:
            if solution and given is not None:
                corrections = given_corrections(group, given, solution.name, run)
            else:
                corrections = correct_frames(group, grid, settings, run, reference)
            clear = _clear(group, corrections, settings, run) if not sky_only else group
            files, used, figures = _write_mosaic(out, tag, clear, corrections, grid, settings, source, run)
        except NothingToDo as problem:
            if len(groups) == 1:
                raise
            run.notice(f"no mosaic of {label or 'the frames without a filter'}: {problem}", "warning")
            continue
        made.append(_Group(group, corrections, used))
        paths |= {f"{name}{tag}": path for name, path in files.items()}
        facts[f"mosaic{tag}"] = {"match": corrections.method, **corrections.facts, **figures}
    if not made:
        raise NothingToDo("no filter's frames make a mosaic; see the reasons above")
    paths |= _write_tables(out, made, run)
    write_settings(out / "settings.toml", settings)
    write_report(out / "report.json", {"mode": "direct", "grid": _grid_facts(grid), **facts}, settings, run)
    forget_the_old(run, frames)
    return paths | {"report": out / "report.json"}


def _clear(group: Sequence[PlacedFrame], corrections: Corrections, settings: Settings, run: Run) -> list[PlacedFrame]:
    """The frames that gains and places do not rule out."""
    frames, measured, places = zip(*((p.frame, p.measured, p.wcs) for p in group), strict=True)
    bad = grade_matched(frames, measured, places, corrections.scales, settings, run)
    return [item for item in group if item.frame.id not in bad]


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """The frames of one filter, their corrections, and which of them the mosaic holds."""

    frames: Sequence[PlacedFrame]
    corrections: Corrections
    used: frozenset[str]


def _write_tables(out: Path, groups: Sequence[_Group], run: Run) -> dict[str, Path]:
    """One table of frames and one of corrections for all filters, in the order of the files' names."""
    placed = [item for group in groups for item in group.frames]
    placed.sort(key=lambda item: (item.frame.path, item.frame.hdu))
    scales = {frame_id: scale for group in groups for frame_id, scale in group.corrections.scales.items()}
    frames = [item.frame for item in placed]
    paths = {"match": out / "match.ecsv", "frames": out / "frames.ecsv"}
    write_solution(paths["match"], frames, [scales[frame.id] for frame in frames])
    write_frames_table(paths["frames"], placed, scales, {i for group in groups for i in group.used}, run)
    return paths


def _grid_facts(grid: SkyGrid) -> dict[str, Any]:
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
    corrections: Corrections,
    grid: SkyGrid,
    settings: Settings,
    source: CleanSource,
    run: Run,
) -> tuple[dict[str, Path], frozenset[str], dict[str, Any]]:
    """One filter's mosaic with its picture; which frames it holds; its figures."""
    inputs = plan_inputs(frames, corrections.scales, grid, settings, run)
    if not inputs:
        raise NothingToDo("no frame reaches the output grid")
    if run.options.keep_warps:
        keep_warps(inputs, grid, settings, source, run.options.keep_warps, run)
    planes = file_planes(settings.output, inputs[0].frame)
    cards, history = mosaic_cards(inputs, grid, settings, corrections.method)
    paths = {"mosaic": out / f"mosaic{tag}.fits"}
    fwhm_px = stellar_width_px(frames, grid)
    partial = out / WORK_FOLDER / f"mosaic{tag}.fits.partial"
    with MosaicFile(paths["mosaic"], grid.wcs, planes, cards, history, partial=partial, resume=True) as file:
        names = [plane.name for plane in planes]
        ledger = open_ledger(file, planes, inputs, fwhm_px, settings, source, run)
        figures = stack_onto_grid(inputs, fwhm_px, grid, settings, source, file, names, run, ledger)
        if settings.output.preview:
            paths["preview"] = out / f"preview{tag}.png"
            _write_preview(paths["preview"], file, grid, settings, run)
        file.finish()
    return paths, frozenset(item.frame.id for item in inputs), {"n_frames": len(inputs), **figures}


def _write_preview(path: Path, file: MosaicFile, grid: SkyGrid, settings: Settings, run: Run) -> None:
    advance = run.clock.start("preview", grid.shape[0])

    def read_rows(y0: int, y1: int) -> npt.NDArray[Any]:
        run.cancel.check()
        advance(y1)
        return file.read("DATA", Box(y0, y1, 0, grid.shape[1]))

    write_preview(path, read_rows, grid.shape, settings.output.preview_max_px)
    run.clock.end("preview", path.name)


def match_only(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    """Solve gains and surfaces of all frames and write them as a table, without a mosaic."""
    with output_folder(out, run):
        return _match(inputs, out, settings, run)


def _match(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    frames = scan_inputs(inputs, settings.input, run)
    reference = read_reference(settings.match)
    placed, _ = measure_and_place(frames, FrameReader(run.cap_bytes // 8), settings, run)
    grid = plan_sky(placed, settings, run)
    groups = split_by_filter(placed, run).values()
    made = [
        _Group(group, correct_frames(group, grid, settings, run, reference), frozenset(p.frame.id for p in group))
        for group in groups
    ]
    return _write_tables(out, made, run)


def plan_sky(placed: Sequence[PlacedFrame], settings: Settings, run: Run) -> SkyGrid:
    """The output grid; a very large one needs a yes.

    Raises
    ------
    SettingError
        When the grid is larger than ``grid.max_mpix`` and nobody said yes.
    """
    given = read_grid_header(Path(settings.grid.header)) if settings.grid.header else None
    grid = plan_grid([p.wcs for p in placed], settings.grid, given)
    height, width = grid.shape
    run.notice(f"output grid {width} x {height} pixels of {grid.scale_arcsec:.3f} arcsec")
    mpix = height * width / 1e6
    if mpix > settings.grid.max_mpix and not run.options.yes:
        raise SettingError(
            f"the output grid has {mpix:.0f} Mpix, some {mpix * 24e-3:.0f} GB a channel on disk; say --yes, or choose "
            "grid.scale_arcsec, grid.size_px or grid.crop",
            mpix=mpix,
        )
    return grid
