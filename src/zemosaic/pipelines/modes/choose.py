"""Which pipeline makes the mosaic: the one asked for, or the one that the inputs call for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zemosaic.errors import NothingToDo, SettingError
from zemosaic.io.read.find_files import find_files
from zemosaic.io.read.scan import scan
from zemosaic.io.tables.stack_plan import PLAN_NAME
from zemosaic.pipelines.modes.direct import build_direct
from zemosaic.pipelines.modes.finish import Outputs
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.timetable import FRAMES
from zemosaic.settings import InputSettings, Settings
from zemosaic.text import message

__all__ = ["MODES", "build_mosaic"]

MODES = ("auto", "direct", "master-tiles", "grid", "existing-tiles")

_STAGES = {
    "direct": FRAMES,
    "master-tiles": FRAMES,
    "grid": ("scan", "measure", "solve", "stack tiles", "match tiles", "blend", "preview", "checksums"),
    "existing-tiles": ("scan", "measure", "match", "warp tiles", "stack", "preview", "checksums"),
}
"""What a run of a mode goes through, as far as it takes long: the time left is guessed from it."""

LOOKED_AT = 25
"""Files, evenly among all, whose headers tell what the inputs are."""


def build_mosaic(
    inputs: Sequence[Path], out: Path, settings: Settings, run: Run, mode: str = "auto", solution: Path | None = None
) -> Outputs:
    """Make a mosaic in a mode; parameters, result and errors are otherwise those of `build_direct`.

    Parameters
    ----------
    mode : str
        Of `MODES`. "auto" takes existing-tiles where most inputs are stacks, grid where a folder holds a
        stack_plan.csv, else direct, and says which and why.

    Raises
    ------
    SettingError
        For an unknown mode, a solution that the mode has no use for, or a grid that cannot be.
    """
    if mode not in MODES:
        raise SettingError("mode.unknown", mode=mode, known=MODES)
    if mode == "auto":
        mode = _choose(inputs, settings.input, run)
    run.log.plan_run(_STAGES[mode], settings.output.also)
    if mode == "direct":
        return build_direct(inputs, out, settings, run, solution)
    # Each where it is called for: a run of one mode does not wait for the others to load.
    if mode == "existing-tiles":
        from zemosaic.pipelines.modes.existing_tiles import build_existing_tiles

        return build_existing_tiles(inputs, out, settings, run, solution)
    if mode == "grid":
        from zemosaic.pipelines.modes.survey import build_grid

        return build_grid(inputs, out, settings, run, solution)
    from zemosaic.pipelines.modes.master_tiles import build_master_tiles

    if solution is not None:
        raise SettingError("mode.no-solution")
    return build_master_tiles(inputs, out, settings, run)


def _choose(inputs: Sequence[Path], settings: InputSettings, run: Run) -> str:
    """The mode that the inputs call for; what is wrong with them is told when they are read in earnest."""
    paths = [Path(file.path) for file in find_files(inputs, settings).files]
    some = paths[:: max(-(-len(paths) // LOOKED_AT), 1)]
    try:
        frames = scan(some, settings, check=run.cancel.check).frames if some else ()
    except NothingToDo:
        frames = ()
    if not frames:
        return "direct"  # where it is said that there is nothing
    n_stacks = sum(frame.header.n_stacked > 1 for frame in frames)
    if 2 * n_stacks > len(frames):
        run.log.notice(message("mode.existing-tiles", n_stacks=n_stacks, n_frames=len(frames)))
        return "existing-tiles"
    # A plan of its own marks a folder of frames as a survey.
    plan = next((path / PLAN_NAME for path in inputs if (path / PLAN_NAME).is_file()), None)
    if plan is not None:
        run.log.notice(message("mode.grid", path=plan))
        return "grid"
    run.log.notice(message("mode.direct"))
    return "direct"
