"""From paths to frames that have a place on the sky, sorted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.errors import NothingToDo
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import ScanResult, scan
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.kind import Kind
from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.calibration.calibrating import calibrate_frames
from zemosaic.pipelines.frames.check_pixels import check_pixels
from zemosaic.pipelines.frames.check_stars import check_stars
from zemosaic.pipelines.frames.grading import grade_measured, grade_sampling, obey_table
from zemosaic.pipelines.frames.name_filters import name_filters
from zemosaic.pipelines.frames.obey_plan import obey_plans
from zemosaic.pipelines.frames.same_exposure import use_exposures_once
from zemosaic.pipelines.frames.thumbnails import draw_thumbnails
from zemosaic.pipelines.measuring.clean_source import CleanSource
from zemosaic.pipelines.measuring.defects import DefectWatch
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame, measure_frames
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.kept import Kept
from zemosaic.pipelines.run.need import Need, Placing
from zemosaic.pipelines.run.warm import choose_groups, compile_beside
from zemosaic.pipelines.solving.places import Place, trust_headers
from zemosaic.settings import InputSettings, Settings
from zemosaic.stages.grid.plan import find_strays
from zemosaic.stages.measure.photon_noise import SkyNoise, find_photon_noise
from zemosaic.stages.quality.shifted import without_part
from zemosaic.stages.stack.methods import METHODS
from zemosaic.text import Message, message

__all__ = [
    "Inputs",
    "KindGroup",
    "Placed",
    "PlacedFrame",
    "Scanned",
    "check_found",
    "measure_and_place",
    "open_inputs",
    "open_scanned",
    "place_frames",
    "scan_inputs",
    "split_by_kind",
]


_WAYS_OUT = {
    "auto": message("solve.ways-out"),
    "header": message("solve.ways-out-of-headers"),
    "register": None,
}
"""What else can be done when no frame has a place, by where places were looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFrame:
    """A frame, what was measured on it, and where it is on the sky.

    Attributes
    ----------
    frame : Frame
    measured : Measurements
    place : Place
    photon_slope : ndarray, shape (c,), optional
        Variance that a unit of signal adds to that of the sky, input units squared per input unit; 0 or None: unknown.
    """

    frame: Frame
    measured: Measurements
    place: Place
    photon_slope: npt.NDArray[np.float64] | None = None

    @property
    def wcs(self) -> CelestialWcs:
        """Of the frame's pixels."""
        return self.place.wcs


@dataclass(frozen=True, slots=True, eq=False)
class KindGroup:
    """The frames of one mosaic.

    Attributes
    ----------
    kind : Kind
        What they have in common.
    label : str
        Tells the group from others, in file names; "" where frames without a filter need no more.
    frames : tuple of PlacedFrame
    """

    kind: Kind
    label: str
    frames: tuple[PlacedFrame, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a run begins with.

    Attributes
    ----------
    frames : list of Frame
    source : ImageSource
        Their pixels, calibrated where darks or flats are at hand.
    files : FrameReader or None
        What reads the files below `source`; None where there are none.
    left_out : tuple of LeftOut
        Files and frames that the run does without.
    """

    frames: list[Frame]
    source: ImageSource
    files: FrameReader | None
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Frames with a place.

    Attributes
    ----------
    frames : list of PlacedFrame
    source : CleanSource
        Where their pixels are read from now on; raw frames' defective pixels have weight 0.
    known : mapping
        FrameId -> all that was measured, also on frames that were then left out.
    left_out : tuple of LeftOut
        All that was left out so far, files too.
    """

    frames: list[PlacedFrame]
    source: CleanSource
    known: Mapping[FrameId, MeasuredFrame]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """What headers tell.

    Attributes
    ----------
    frames : list of Frame
        Pictures of the sky.
    calibration : list of Frame
        Darks, flats and biases.
    left_out : tuple of LeftOut
        Bad files, and frames that a plan or a table of frames rules out.
    problem : Message or None
        Why there is no picture of the sky; None where there is one.
    """

    frames: list[Frame]
    calibration: list[Frame]
    left_out: tuple[LeftOut, ...]
    problem: Message | None = None


def open_inputs(inputs: Sequence[Path], settings: Settings, run: Run) -> Inputs:
    """The frames in files and folders, and where to read their pixels, calibrated where darks or flats are at hand.

    Raises
    ------
    NothingToDo
        When no usable image is found.
    SettingError
        When the table of frames, or calibration frames that were given, cannot be used.
    """
    return open_scanned(check_found(scan_inputs(inputs, settings.input, run)), settings, run)


def open_scanned(found: Scanned, settings: Settings, run: Run) -> Inputs:
    """As `open_inputs`, of frames whose headers have been read."""
    reader = FrameReader(run.machine.cache_bytes)
    frames = check_pixels(found.frames, reader, settings.input, run)
    ready = calibrate_frames(frames, found.calibration, reader, settings.calibrate, run)
    return Inputs(ready.frames, ready.source, reader, found.left_out + ready.left_out)


def scan_inputs(inputs: Sequence[Path], settings: InputSettings, run: Run) -> Scanned:
    """Read all headers; bad files, and frames that a table of frames rules out, are announced and left out.

    Raises
    ------
    NothingToDo
        When a plan or a table leaves no frame.
    SettingError
        When the table of frames, or a ``stack_plan.csv``, cannot be read.
    """
    advance = run.log.start("scan")
    found = scan(inputs, settings, on_progress=advance, check=run.cancel.check)
    left_out = tuple(run.log.leave_out_file(rejected.path, rejected.told) for rejected in found.rejected)
    for notice in found.notices:
        run.log.notice(notice)
    n_beside = message("done.calibration-frames", n=len(found.calibration)) if found.calibration else None
    n_frames, n_left_out = len(found.frames), len(found.rejected)
    run.log.end("scan", message("done.scan", n_frames=n_frames, beside=n_beside, n_left_out=n_left_out))
    if not found.frames:
        return Scanned([], list(found.calibration), left_out, _why_nothing(found, inputs, settings))
    lights = obey_plans(found.frames, inputs, run)
    named = name_filters([*lights.frames, *found.calibration], settings, run)
    planned, beside = named[: len(lights.frames)], named[len(lights.frames) :]
    listed = obey_table(planned, Path(settings.frames), run) if settings.frames else Kept(planned)
    once = use_exposures_once(listed.frames, run)
    run.log.found_frames(once.frames)
    return Scanned(once.frames, beside, left_out + lights.left_out + listed.left_out + once.left_out)


def check_found(found: Scanned) -> Scanned:
    """What was found, where that is anything.

    Raises
    ------
    NothingToDo
        When there is no picture of the sky.
    """
    if not found.frames:
        why = found.problem or message("input.none")
        raise NothingToDo(why.code, **why.facts)
    return found


def _why_nothing(found: ScanResult, inputs: Sequence[Path], settings: InputSettings) -> Message:
    """Why a scan found no picture of the sky."""
    paths, n_rejected = list(inputs), len(found.rejected)
    reasons = list({rejected.told for rejected in found.rejected})
    if len(reasons) == 1:
        return message("input.one-reason", paths=paths, reason=reasons[0], n_rejected=n_rejected)
    if reasons:
        return message("input.many-reasons", paths=paths, n_rejected=n_rejected)
    if found.calibration:
        return message("input.calibration-alone", paths=paths, n_frames=len(found.calibration))
    if settings.include or settings.exclude:
        given = {"include": settings.include, "exclude": settings.exclude}
        return message("input.all-excluded", paths=paths, **given)
    return message("input.no-names", paths=paths)


def measure_and_place(inputs: Inputs, need: Need, settings: Settings, run: Run) -> Placed:
    """Measure all frames, leave out poor ones, find where they are, and say how pixels are read from now on.

    Parameters
    ----------
    inputs : Inputs
    need : Need
        What is measured, and where places come from.
    settings : Settings
    run : Run

    Raises
    ------
    NothingToDo
        When no frame is left.
    """
    if not run.options.compile_ahead:
        return _measure_and_place(inputs, need, settings, run)
    raw = any(frame.storage.bayer for frame in inputs.frames)
    with compile_beside(choose_groups(settings, matched=need.measure == "match", raw=raw), run):
        return _measure_and_place(inputs, need, settings, run)


def _measure_and_place(inputs: Inputs, need: Need, settings: Settings, run: Run) -> Placed:
    watch = DefectWatch(inputs.frames, settings, run)
    seeing = METHODS[settings.stack.method].guarded
    measured = measure_frames(
        inputs.frames, inputs.source, settings, run, watch=watch, need=need.measure, seeing=seeing
    )
    known = watch.maps()
    seen = {frame_id: item.measured for frame_id, item in measured.known.items()}
    sigma = settings.input.defect_sigma
    draw_thumbnails(measured.known, CleanSource(inputs.source, seen, sigma, known, inputs.files), run)
    good = grade_measured(measured.kept, settings, run) if need.measure == "match" else Kept(measured.kept)
    noise = {item.frame.id: item.measured for item in good.frames}
    source = CleanSource(inputs.source, noise, sigma, known, inputs.files)
    placed = place_frames(good.frames, source, need.place, settings, run)
    coarse = grade_sampling(*_facts_of(placed.frames), settings, run)
    left_out = inputs.left_out + measured.left_out + good.left_out + placed.left_out + coarse
    gone = {item.frame_id for item in coarse}
    used = [item for item in placed.frames if item.frame.id not in gone]
    catalogue: Catalogue | None = None
    if need.place == "auto":
        from zemosaic.pipelines.solving.known_sky import known_sky

        catalogue = known_sky().catalogue
    parts = check_stars(*_facts_of(used), catalogue, run)
    frames = [
        replace(item, measured=without_part(item.measured, parts[item.frame.id])) if item.frame.id in parts else item
        for item in used
    ]
    clean = CleanSource(inputs.source, noise, sigma, known, inputs.files, parts)
    return Placed(_know_photon_noise(frames, run), clean, measured.known, left_out)


def _facts_of(placed: Sequence[PlacedFrame]) -> tuple[list[Frame], list[Measurements], list[CelestialWcs]]:
    """Frames, what was measured on them, and where they are."""
    return [item.frame for item in placed], [item.measured for item in placed], [item.wcs for item in placed]


def _know_photon_noise(placed: Sequence[PlacedFrame], run: Run) -> list[PlacedFrame]:
    """Find by how much light above the sky adds to each frame's noise, and say where that comes from."""
    told = [
        SkyNoise(
            # Stacks, and what other programs interpolated or scaled, follow no line of their own.
            camera=(f.header.camera, f.header.gain_setting, f.n_channels, f.is_counted),
            sky=item.measured.sky,
            noise=item.measured.noise,
            stated=f.header.electrons_per_adu if f.storage.layout in {"mono", "bayer"} else None,
            is_counted=f.is_counted,
        )
        for item in placed
        for f in [item.frame]
    ]
    found = find_photon_noise(told)
    more = message("noise.more-cameras", n=len(found.notes) - 3) if len(found.notes) > 3 else None
    run.log.notice(message("noise.cameras", cameras=found.notes[:3], more=more))
    return [replace(item, photon_slope=slope) for item, slope in zip(placed, found.slopes, strict=True)]


def _find_places(
    place: Placing, frames: Sequence[MeasuredFrame], source: ImageSource, settings: Settings, run: Run
) -> list[Place | LeftOut]:
    """Imports here, so that runs that solve nothing do not wait for what solves."""
    if place == "header":
        return trust_headers(frames, settings, run)
    if place == "register":
        from zemosaic.pipelines.solving.register_frames import register_to_each_other

        return register_to_each_other(frames, source, settings, run)
    from zemosaic.pipelines.solving.known_sky import known_sky
    from zemosaic.pipelines.solving.solve_frames import solve_frames

    return solve_frames(frames, known_sky(), settings, run)


def place_frames(
    frames: Sequence[MeasuredFrame], source: ImageSource, place: Placing, settings: Settings, run: Run
) -> Kept[PlacedFrame]:
    """Give every frame its WCS; frames that cannot be placed, or lie far from all others, are left out.

    Raises
    ------
    NothingToDo
        When no frame is left.
    """
    found = _find_places(place, frames, source, settings, run)
    placed = [PlacedFrame(m.frame, m.measured, w) for m, w in zip(frames, found, strict=True) if isinstance(w, Place)]
    lost = tuple(item for item in found if isinstance(item, LeftOut))
    if not placed:
        ((reason, n_lost),) = Counter(item.told for item in lost).most_common(1)
        ways_out = _WAYS_OUT[place]
        raise NothingToDo("solve.no-place", n_lost=n_lost, n_frames=len(frames), reason=reason, ways_out=ways_out)
    strays = find_strays([p.wcs for p in placed])
    far = tuple(
        run.log.leave_out(placed[index].frame, message("frame.far-away", distance_deg=distance_deg))
        for index, distance_deg in strays.items()
    )
    return Kept([p for i, p in enumerate(placed) if i not in strays], lost + far)


def split_by_kind(placed: Sequence[PlacedFrame], run: Run) -> list[KindGroup]:
    """Frames by what those of one mosaic must have in common, in the order of the labels."""
    members: dict[Kind, list[PlacedFrame]] = {}
    for item in placed:
        members.setdefault(Kind.of(item.frame), []).append(item)
    labels = _label_kinds(sorted(members))
    if len(members) > 1:
        parts = [
            message("mosaic.of-kind", kind=labels[kind] or message("mosaic.no-filter"), n_frames=len(members[kind]))
            for kind in sorted(members, key=lambda kind: labels[kind])
        ]
        run.log.notice(message("mosaic.kinds", n_kinds=len(members), kinds=parts))
    groups = [KindGroup(kind, labels[kind], tuple(frames)) for kind, frames in members.items()]
    return sorted(groups, key=lambda group: group.label)


def _label_kinds(kinds: Sequence[Kind]) -> dict[Kind, str]:
    """A name safe in file names for each kind: the filter, with colour and unit where that leaves doubt."""
    mixed_colours = len({kind.filter for kind in kinds}) < len({(kind.filter, kind.n_channels) for kind in kinds})
    mixed_units = len({(kind.filter, kind.n_channels) for kind in kinds}) < len(kinds)
    labels: dict[Kind, str] = {}
    for kind in kinds:
        parts = [kind.filter, kind.colour if mixed_colours else "", kind.unit if mixed_units else ""]
        label = "_".join("".join(ch if ch.isalnum() or ch in "-+_" else "_" for ch in part) for part in parts if part)
        # Two names may differ in what a file name cannot hold, or in case, which some file systems ignore.
        while label.casefold() in (taken.casefold() for taken in labels.values()):
            label += "_"
        labels[kind] = label
    return labels
