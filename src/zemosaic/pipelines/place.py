"""From paths to frames that have a place on the sky, sorted by filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zemosaic.engine.events import LeftOut
from zemosaic.errors import NothingToDo
from zemosaic.io.scan import scan
from zemosaic.model.celestial import CelestialWcs
from zemosaic.model.frame import Frame
from zemosaic.model.measurements import Measurements
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.clean_source import CleanSource
from zemosaic.pipelines.context import Run
from zemosaic.pipelines.defects import DefectWatch
from zemosaic.pipelines.grading import grade_measured, obey_table
from zemosaic.pipelines.measuring import MeasuredFrame, measure_frames
from zemosaic.pipelines.solving import solve_frames, trust_headers
from zemosaic.settings import InputSettings, Settings
from zemosaic.stages.grid import find_strays

__all__ = ["PlacedFrame", "measure_and_place", "place_frames", "scan_inputs", "split_by_filter"]


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFrame:
    """A frame, what was measured on it, and where it is on the sky."""

    frame: Frame
    measured: Measurements
    wcs: CelestialWcs


def scan_inputs(inputs: Sequence[Path], settings: InputSettings, run: Run) -> list[Frame]:
    """Read all headers; bad files, and frames that a table of frames rules out, are announced and left out.

    Raises
    ------
    NothingToDo
        When no usable image is found.
    SettingError
        When the table of frames cannot be read.
    """
    advance = run.clock.start("scan")
    found = scan(inputs, settings, on_progress=advance, check=run.cancel.check)
    for rejected in found.rejected:
        run.emit(LeftOut(rejected.path, rejected.reason, rejected.path))
    for notice in found.notices:
        run.notice(notice)
    run.clock.end("scan", f"{len(found.frames)} frames, {len(found.rejected)} files left out")
    if not found.frames:
        where = ", ".join(str(path) for path in inputs)
        raise NothingToDo(f"no usable FITS image in {where}", n_rejected=len(found.rejected))
    return obey_table(found.frames, Path(settings.frames), run) if settings.frames else list(found.frames)


def measure_and_place(
    frames: Sequence[Frame], reader: ImageSource, settings: Settings, run: Run, *, sky_only: bool = False
) -> tuple[list[PlacedFrame], CleanSource]:
    """Measure all frames, leave out poor ones, find where they are, and say how pixels are read from now on.

    Parameters
    ----------
    frames : sequence of Frame
    reader : ImageSource
        Pixels as stored.
    settings : Settings
    run : Run
    sky_only : bool
        Only weigh the frames (no stars, no blocks); quality is then not judged, header WCSs are taken as they are.

    Returns
    -------
    (list of PlacedFrame, CleanSource)
        Frames with a place, and a source that gives raw frames' defective pixels weight 0.
    """
    watch = DefectWatch(frames, settings, run)
    measured = measure_frames(frames, reader, settings, run, watch=watch, sky_only=sky_only)
    known = watch.maps()
    if not sky_only:
        measured = grade_measured(measured, settings, run)
    placed = place_frames(measured, settings, run, by_stars=not sky_only)
    noise = {item.frame.id: item.measured for item in placed}
    return placed, CleanSource(reader, noise, settings.input.defect_sigma, known)


def place_frames(
    frames: Sequence[MeasuredFrame], settings: Settings, run: Run, *, by_stars: bool = True
) -> list[PlacedFrame]:
    """Give every frame its WCS; frames that cannot be placed, or lie far from all others, are left out.

    Raises
    ------
    NothingToDo
        When no frame is left.
    """
    find = solve_frames if by_stars and settings.solve.method == "auto" else trust_headers
    found = find(frames, settings, run)
    placed = [PlacedFrame(m.frame, m.measured, w) for m, w in zip(frames, found, strict=True) if w is not None]
    strays = find_strays([p.wcs for p in placed])
    for index, distance_deg in strays.items():
        reason = f"its WCS lies {distance_deg:.1f} deg from the other frames: a wrong header?"
        run.leave_out(placed[index].frame, reason)
    placed = [p for i, p in enumerate(placed) if i not in strays]
    if not placed:
        raise NothingToDo("no frame has a place on the sky; nothing can be made of them", n_frames=len(frames))
    return placed


def split_by_filter(placed: Sequence[PlacedFrame], run: Run) -> dict[str, list[PlacedFrame]]:
    """Frames by filter and colour, each group one mosaic. Keys are safe in file names."""
    kinds = sorted({(p.frame.filter, p.frame.n_channels) for p in placed})
    mixed = len({name for name, _ in kinds}) < len(kinds)
    groups: dict[str, list[PlacedFrame]] = {}
    for name, n_channels in kinds:
        label = "".join(ch if ch.isalnum() or ch in "-+_" else "_" for ch in name)
        if mixed:
            label = f"{label}_{'mono' if n_channels == 1 else 'colour'}".lstrip("_")
        # Two names may differ in what a file name cannot hold, or in case, which some file systems ignore.
        while label.casefold() in (taken.casefold() for taken in groups):
            label += "_"
        groups[label] = [p for p in placed if (p.frame.filter, p.frame.n_channels) == (name, n_channels)]
    if len(groups) > 1:
        parts = ", ".join(f"{label or 'no filter'}: {len(group)}" for label, group in sorted(groups.items()))
        run.notice(f"the frames are of {len(groups)} kinds, each gets its own mosaic on one grid ({parts})")
    return dict(sorted(groups.items()))
