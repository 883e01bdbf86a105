"""The skeleton of all modes, as values: frames are opened, measured, placed, laid out on one grid, and corrected.

A mode opens its inputs, says what it needs of them, and begins a `Session`; it corrects the frames of each kind, fills
the planes of their mosaics in its own way, and hands all of it to `finish_outputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zemosaic.engine.events import LeftOut
from zemosaic.errors import SettingError
from zemosaic.io.headers.grid_header import read_grid_header
from zemosaic.io.tables.solution import read_solution
from zemosaic.model.frame import Frame
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.correcting import (
    Corrections,
    correct_frames,
    gain_priors,
    given_corrections,
    header_corrections,
)
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.grading import grade_company, grade_matched, leave_out_stacks
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
from zemosaic.settings import GridSettings, Settings
from zemosaic.stages.grid.plan import grow_grid, plan_grid
from zemosaic.text import message

if TYPE_CHECKING:
    from zemosaic.stages.gauge.reference import ReferenceSky

__all__ = [
    "Corrected",
    "Guide",
    "Session",
    "begin_session",
    "correct_group",
    "lay_out",
    "open_frames",
    "plan_sky",
    "read_guide",
]

UNEVEN_AREA = 0.025
"""Pixels of a grid whose areas differ by more from that of its centre are told. Grids made by default stay below: 0.023
in the corners of one that frames fill in TAN over 10 degrees."""


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """What corrections and the grid follow, beside the frames themselves.

    Attributes
    ----------
    solved : bool
        Whether gains and surfaces of all frames are solved together; otherwise they are given, or headers tell gains.
    given : mapping or None
        FrameId -> correction, from the file `table`.
    table : Path or None
    reference : ReferenceSky or None
        A picture that fixes the slow background of what is solved.
    header : CelestialWcs or None
        The grid that ``grid.header`` asks for.
    """

    solved: bool
    given: Mapping[str, PhotoScale] | None = None
    table: Path | None = None
    reference: ReferenceSky | None = None
    header: CelestialWcs | None = None


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
        What else corrections and grid follow.
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


def open_frames(inputs: Sequence[Path], settings: Settings, run: Run, *, stacks: bool = False) -> Inputs:
    """Frames in files and folders; unless stacks are asked for, those beside their own raw frames are left out.

    The header that fixes the grid is read first: a slip there is told before the work.

    Raises
    ------
    NothingToDo
        When no usable image is found.
    SettingError
        When the header of the grid, a table of frames, or calibration frames cannot be used.
    """
    _read_grid(settings.grid)
    opened = open_inputs(inputs, settings, run)
    if stacks:
        return opened
    single = leave_out_stacks(opened.frames, run)
    return replace(opened, frames=single.frames, left_out=opened.left_out + single.left_out)


def read_guide(settings: Settings, frames: Sequence[Frame], solution: Path | None = None) -> Guide:
    """Read what corrections and the grid follow beside the frames, before these are measured: a slip is told at once.

    Parameters
    ----------
    settings : Settings
    frames : sequence of Frame
        A solution must be of some of them.
    solution : Path, optional
        A table of gains and surfaces to apply instead of matching.

    Raises
    ------
    SettingError
        When the solution, the reference or the header of the grid cannot be read. A reference is read only where
        something is solved.
    """
    header = _read_grid(settings.grid)
    if solution is not None:
        return Guide(solved=False, given=read_solution(solution, frames), table=solution, header=header)
    if settings.match.method == "none":
        return Guide(solved=False, header=header)
    return Guide(solved=True, reference=read_reference(settings.match), header=header)


def _read_grid(settings: GridSettings) -> CelestialWcs | None:
    """The grid that a header file fixes, if one does."""
    return read_grid_header(Path(settings.header)) if settings.header else None


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
    return lay_out(inputs, guide, need, placed, plan_sky(placed.frames, guide, settings, run), run)


def lay_out(inputs: Inputs, guide: Guide, need: Need, placed: Placed, grid: SkyGrid, run: Run) -> Session:
    """Sort placed frames by kind, for one mosaic each on a grid."""
    groups = tuple(split_by_kind(placed.frames, run))
    run.log.plan_grid(grid.shape, [group.kind.n_channels for group in groups])
    return Session(inputs, need, guide, placed, grid, groups)


def correct_group(frames: Sequence[PlacedFrame], session: Session, settings: Settings, run: Run) -> Corrected:
    """Correct the frames of one kind; those that clouds or a wrong field rule out are left out where gains tell."""
    guide = session.guide
    if guide.given is not None:
        name = guide.table.name if guide.table else ""
        return Corrected(given_corrections(frames, guide.given, name, run), frames)
    if not guide.solved:
        return Corrected(header_corrections(frames), frames)
    fit = _fitting_frames(frames, settings, run)
    corrections = correct_frames(fit.frames, session.grid, settings, run, guide.reference)
    clear = _clear_frames(fit.frames, corrections, settings, run)
    return Corrected(corrections, clear.frames, fit.left_out + clear.left_out)


def _fitting_frames(group: Sequence[PlacedFrame], settings: Settings, run: Run) -> Kept[PlacedFrame]:
    """The frames that the stars of those round them do not rule out: they must not bend what is solved."""
    frames, measured, places = zip(*((p.frame, p.measured, p.wcs) for p in group), strict=True)
    bad = grade_company(frames, measured, places, np.log(gain_priors(frames)), settings, run)
    gone = {item.frame_id for item in bad}
    return Kept([item for item in group if item.frame.id not in gone], bad)


def _clear_frames(
    group: Sequence[PlacedFrame], corrections: Corrections, settings: Settings, run: Run
) -> Kept[PlacedFrame]:
    """The frames that gains and places do not rule out."""
    frames, measured, places = zip(*((p.frame, p.measured, p.wcs) for p in group), strict=True)
    bad = grade_matched(frames, measured, places, corrections.scales, settings, run)
    gone = {item.frame_id for item in bad}
    return Kept([item for item in group if item.frame.id not in gone], bad)


def _tell_areas(grid: SkyGrid, run: Run) -> None:
    """A word on a grid whose pixels differ much in area."""
    smallest, largest = grid.area_shares
    if max(1 - smallest, largest - 1) > UNEVEN_AREA:
        run.log.notice(message("grid.areas-differ", smallest=smallest, largest=largest))


def plan_sky(placed: Sequence[PlacedFrame], guide: Guide, settings: Settings, run: Run) -> SkyGrid:
    """The output grid; a very large one needs a yes.

    Raises
    ------
    SettingError
        When the grid is larger than ``grid.max_mpix`` and nobody said yes.
    """
    places = [p.wcs for p in placed]
    if run.options.onto is None:
        grid = plan_grid(places, settings.grid, guide.header)
    else:
        grid = grow_grid(SkyGrid(read_grid_header(run.options.onto)), places)
    height, width = grid.shape
    run.log.notice(
        message(
            "grid.planned", width_px=width, height_px=height, scale_arcsec=grid.scale_arcsec, projection=grid.projection
        )
    )
    _tell_areas(grid, run)
    mpix = height * width / 1e6
    if mpix > settings.grid.max_mpix and not run.options.yes:
        raise SettingError("grid.large", megapixels=mpix, gb=mpix * 24e-3)
    return grid
