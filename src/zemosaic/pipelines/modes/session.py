"""The skeleton of all modes, as values: frames are opened, measured, placed, laid out on one grid, and corrected.

A mode opens its inputs, says what it needs of them, and begins a `Session`; it corrects the frames of each kind, fills
the planes of their mosaics in its own way, and hands all of it to `finish_outputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zemosaic.engine.events import LeftOut
from zemosaic.errors import SettingError
from zemosaic.io.headers.grid_header import read_grid_header
from zemosaic.io.tables.solution import read_solution
from zemosaic.model.frame import Frame
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.correcting import (
    Corrections,
    correct_frames,
    given_corrections,
    header_corrections,
)
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.grading import grade_matched, leave_out_stacks
from zemosaic.pipelines.frames.pipeline import (
    Inputs,
    KindGroup,
    Placed,
    PlacedFrame,
    measure_and_place,
    open_inputs,
    split_by_kind,
)
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.kept import Kept
from zemosaic.pipelines.run.need import Need
from zemosaic.settings import GridSettings, MatchSettings, Settings
from zemosaic.stages.grid.plan import grow_grid, plan_grid

if TYPE_CHECKING:
    from zemosaic.stages.gauge.reference import ReferenceSky

__all__ = [
    "Corrected",
    "Guide",
    "Session",
    "begin_session",
    "check_grid",
    "correct_group",
    "lay_out",
    "open_frames",
    "plan_sky",
    "read_guide",
]


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """Where corrections come from, beside the frames themselves.

    Attributes
    ----------
    solved : bool
        Whether gains and surfaces of all frames are solved together; otherwise they are given, or headers tell gains.
    given : mapping or None
        FrameId -> correction, from the table `name`.
    name : str
    reference : ReferenceSky or None
        A picture that fixes the slow background of what is solved.
    """

    solved: bool
    given: Mapping[str, PhotoScale] | None = None
    name: str = ""
    reference: ReferenceSky | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """The corrections of one kind's frames, those frames that the mosaic shall hold, and what they ruled out."""

    corrections: Corrections
    frames: Sequence[PlacedFrame]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """Frames that are ready to be corrected and stacked.

    Attributes
    ----------
    inputs : Inputs
        What was opened.
    need : Need
        What was asked of it.
    guide : Guide
        Where corrections come from.
    placed : Placed
        What was measured and found, and where pixels are read from.
    grid : SkyGrid
        The one of all mosaics.
    groups : tuple of KindGroup
        The frames of each mosaic.
    """

    inputs: Inputs
    need: Need
    guide: Guide
    placed: Placed
    grid: SkyGrid
    groups: tuple[KindGroup, ...]

    def tag(self, group: KindGroup) -> str:
        """What tells a mosaic's files from those of the other mosaics; "" where there is one alone."""
        return f"_{group.label}" if len(self.groups) > 1 else ""


def open_frames(inputs: Sequence[Path], settings: Settings, run: Run) -> Inputs:
    """Single frames in files and folders; stacks that lie beside their own raw frames are left out.

    Raises
    ------
    NothingToDo
        When no usable image is found.
    SettingError
        When a table of frames, calibration frames, or the header that fixes the grid cannot be used.
    """
    check_grid(settings.grid)
    opened = open_inputs(inputs, settings, run)
    single = leave_out_stacks(opened.frames, run)
    return replace(opened, frames=single.frames, left_out=opened.left_out + single.left_out)


def read_guide(settings: MatchSettings, frames: Sequence[Frame], solution: Path | None = None) -> Guide:
    """What corrections shall be made by; a reference is read only where something is solved.

    Parameters
    ----------
    settings : MatchSettings
    frames : sequence of Frame
        A solution must be of some of them.
    solution : Path, optional
        A table of gains and surfaces to apply instead of matching.

    Raises
    ------
    SettingError
        When the solution or the reference cannot be read.
    """
    if solution is not None:
        return Guide(solved=False, given=read_solution(solution, frames), name=solution.name)
    if settings.method == "none":
        return Guide(solved=False)
    return Guide(solved=True, reference=read_reference(settings))


def begin_session(inputs: Inputs, guide: Guide, need: Need, settings: Settings, run: Run) -> Session:
    """Measure and place frames, and plan the grid of their mosaics.

    Raises
    ------
    NothingToDo
        When no frame is left.
    SettingError
        When the grid is larger than ``grid.max_mpix`` and nobody said yes.
    """
    placed = measure_and_place(inputs, need, settings, run)
    return lay_out(inputs, guide, need, placed, plan_sky(placed.frames, settings, run), run)


def lay_out(inputs: Inputs, guide: Guide, need: Need, placed: Placed, grid: SkyGrid, run: Run) -> Session:
    """Sort placed frames by kind, for one mosaic each on a grid."""
    return Session(inputs, need, guide, placed, grid, tuple(split_by_kind(placed.frames, run)))


def correct_group(frames: Sequence[PlacedFrame], session: Session, settings: Settings, run: Run) -> Corrected:
    """Correct the frames of one kind; those that clouds or a wrong field rule out are left out where gains tell."""
    guide = session.guide
    if guide.given is not None:
        return Corrected(given_corrections(frames, guide.given, guide.name, run), frames)
    if not guide.solved:
        return Corrected(header_corrections(frames), frames)
    corrections = correct_frames(frames, session.grid, settings, run, guide.reference)
    clear = _clear_frames(frames, corrections, settings, run)
    return Corrected(corrections, clear.frames, clear.left_out)


def _clear_frames(
    group: Sequence[PlacedFrame], corrections: Corrections, settings: Settings, run: Run
) -> Kept[PlacedFrame]:
    """The frames that gains and places do not rule out."""
    frames, measured, places = zip(*((p.frame, p.measured, p.wcs) for p in group), strict=True)
    bad = grade_matched(frames, measured, places, corrections.scales, settings, run)
    gone = {item.frame_id for item in bad}
    return Kept([item for item in group if item.frame.id not in gone], bad)


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
