"""The direct mosaic: frames -> one sky solve -> straight onto the grid, resampled once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zemosaic.pipelines.corrections.adding import keep_steady_frames
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.modes.finish import Outputs, finish_outputs, write_tables
from zemosaic.pipelines.modes.mosaics import MosaicGroup, fill_by_patches, write_mosaics
from zemosaic.pipelines.modes.session import Corrected, begin_session, correct_group, open_frames, read_guide
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.pipelines.run.need import Need, need_of_frames
from zemosaic.settings import Settings

__all__ = ["build_direct", "match_only"]


def build_direct(
    inputs: Sequence[Path], out: Path, settings: Settings, run: Run, solution: Path | None = None
) -> Outputs:
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
    Outputs

    Raises
    ------
    ZeMosaicError
        With its exit code, for everything that ends the run.
    """
    with output_folder(out, run) as run:
        opened = open_frames(inputs, settings, run)
        guide = read_guide(settings, opened.frames, solution)
        session = begin_session(opened, guide, need_of_frames(settings, solved=guide.solved), settings, run)

        def correct(frames: Sequence[PlacedFrame]) -> Corrected:
            corrected = correct_group(frames, session, settings, run)
            tolerance = run.options.tolerance if guide.given is None else 0.0  # what is given is applied as it is
            corrections, chosen = keep_steady_frames(
                corrected.frames, corrected.corrections, session.grid, settings, tolerance, run
            )
            return replace(corrected, corrections=corrections, frames=chosen)

        made = write_mosaics(session, correct, fill_by_patches(run), out, settings, run)
        return finish_outputs("direct", inputs, session, made, out, settings, run)


def match_only(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    """Solve gains and surfaces of all frames and write them as a table, without a mosaic."""
    with output_folder(out, run) as run:
        opened = open_frames(inputs, settings, run)
        guide = read_guide(settings, opened.frames)
        session = begin_session(opened, guide, Need("match", settings.solve.method), settings, run)
        left_out, groups = session.placed.left_out, []
        for group in session.groups:
            corrected = correct_group(group.frames, session, settings, run)
            left_out += corrected.left_out
            used = frozenset(item.frame.id for item in corrected.frames)
            groups.append(MosaicGroup(group.frames, corrected.corrections, used))
        return write_tables(out, groups, session.placed.known, left_out, session.grid)
