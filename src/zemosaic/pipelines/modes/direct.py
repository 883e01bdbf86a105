"""The direct mosaic: frames -> one sky solve -> straight onto the grid, resampled once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zemosaic.io.tables.solution import read_solution
from zemosaic.pipelines.corrections.adding import keep_steady, record_inputs
from zemosaic.pipelines.corrections.correcting import Corrections, correct_frames, given_corrections
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.grading import leave_out_stacks
from zemosaic.pipelines.frames.pipeline import PlacedFrame, measure_and_place, open_inputs, split_by_kind
from zemosaic.pipelines.modes.mosaics import (
    MosaicGroup,
    check_grid,
    clear_frames,
    grid_facts,
    plan_sky,
    write_mosaics,
    write_tables,
)
from zemosaic.pipelines.outputs.report import write_report, write_settings
from zemosaic.pipelines.patches.ledger import forget_the_old
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.settings import Settings

__all__ = ["build_direct", "match_only"]


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
    with output_folder(out, run) as run:
        return _build(inputs, out, settings, run, solution)


def _build(inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None) -> dict[str, Path]:
    opened = open_inputs(inputs, settings, run)
    opened = replace(opened, frames=leave_out_stacks(opened.frames, run))
    given = read_solution(solution, opened.frames) if solution else None
    reference = read_reference(settings.match)
    sky_only = settings.match.method == "none" or given is not None
    placed = measure_and_place(opened, settings, run, sky_only=sky_only)
    grid = plan_sky(placed.frames, settings, run)

    def correct(group: Sequence[PlacedFrame]) -> tuple[Corrections, Sequence[PlacedFrame]]:
        if solution and given is not None:
            return given_corrections(group, given, solution.name, run), group
        corrections = correct_frames(group, grid, settings, run, reference)
        chosen = group if sky_only else clear_frames(group, corrections, settings, run)
        return keep_steady(chosen, corrections, grid, settings, run)

    made = write_mosaics(split_by_kind(placed.frames, run), correct, grid, placed.source, out, settings, run)
    paths = made.paths | write_tables(out, made.groups, placed.known, run)
    write_settings(out / "settings.toml", settings)
    facts = {"mode": "direct", "grid": grid_facts(grid), **made.facts, "reading": made.reads.figures()}
    write_report(out / "report.json", facts, settings, run.log.journal)
    record_inputs(out, inputs)
    forget_the_old(run, opened.frames)
    return paths | {"report": out / "report.json"}


def match_only(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    """Solve gains and surfaces of all frames and write them as a table, without a mosaic."""
    check_grid(settings.grid)
    with output_folder(out, run) as run:
        return _match(inputs, out, settings, run)


def _match(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    opened = open_inputs(inputs, settings, run)
    opened = replace(opened, frames=leave_out_stacks(opened.frames, run))
    reference = read_reference(settings.match)
    placed = measure_and_place(opened, settings, run)
    grid = plan_sky(placed.frames, settings, run)
    groups = [group.frames for group in split_by_kind(placed.frames, run)]
    made = [
        MosaicGroup(group, correct_frames(group, grid, settings, run, reference), frozenset(p.frame.id for p in group))
        for group in groups
    ]
    return write_tables(out, made, placed.known, run)
