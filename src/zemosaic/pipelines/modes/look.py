"""Frames measured, placed and judged, and no mosaic: for people who want to choose frames first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zemosaic.pipelines.frames.pipeline import measure_and_place
from zemosaic.pipelines.modes.session import open_frames, read_guide
from zemosaic.pipelines.outputs.report import write_frames_table, write_settings
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.pipelines.run.need import need_of_frames
from zemosaic.pipelines.run.timetable import LOOK
from zemosaic.settings import Settings

__all__ = ["look_at_frames"]


def look_at_frames(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    """Write ``frames.ecsv`` of frames that are measured, placed and judged one by one.

    What was measured stays in the store of the output folder, so that a build measures nothing twice. What frames say
    of each other (clouds that gains tell, stars that others lack) is found by the build alone.

    Parameters
    ----------
    inputs : sequence of Path
        Files and folders.
    out : Path
        Output folder.
    settings : Settings
    run : Run

    Returns
    -------
    dict
        Files by name.

    Raises
    ------
    NothingToDo
        When no frame can be used.
    """
    run.log.plan_run(LOOK)
    with output_folder(out, run) as run:
        opened = open_frames(inputs, settings, run)
        solved = read_guide(settings, opened.frames).solved
        placed = measure_and_place(opened, need_of_frames(settings, solved=solved), settings, run)
        frames = sorted(placed.frames, key=lambda item: (item.frame.storage.path, item.frame.storage.hdu))
        used = {str(item.frame.id) for item in frames}
        write_settings(out / "settings.toml", settings)
        write_frames_table(out / "frames.ecsv", frames, {}, used, placed.known, placed.left_out)
        return {"frames": out / "frames.ecsv"}
