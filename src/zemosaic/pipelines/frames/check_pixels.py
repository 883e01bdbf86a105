"""What headers say of pixels, held against the pixels themselves before anything is measured.

Some frames of each camera are looked at: which colour pattern they have, and whether their sky is below the level at
which they are said to saturate. What is wrong is mended for all frames of the camera, and told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import with_bayer
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.measure.saturation import is_sky_above
from zemosaic.stages.raw.phases import PhaseLook, PlaneKind, cells_of, judge_phases, look_at_phases

__all__ = ["check_pixels"]

LOOKS = 8
"""Frames of a camera that are looked at, spread over its session: ten-second ones of a small telescope hold a thousand
blocks with stars then, which tell shares of light to 2 %."""

WINDOW_PX = 1024
"""Side of the part in a frame's middle that is looked at, even: a part of a larger frame has stars enough."""

BYTES_PER_SAMPLE = 40
"""Looking: data and weight, 8, cells and their weights likewise, their light, and what is sorted for a median."""

_LIKELY: dict[PlaneKind, str] = {"main": "GRBG", "anti": "RGGB"}
"""The commonest pattern of those whose greens lie on a diagonal: a guess between two, and told as one."""
_SWAP = str.maketrans("RB", "BR")


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What one frame shows; no phases where it has three channels or too few pixels."""

    phases: PhaseLook | None
    is_sky_saturated: bool


def check_pixels(frames: Sequence[Frame], source: ImageSource, bayer_setting: str, run: Run) -> list[Frame]:
    """Frames whose colour pattern and saturation level their pixels do not contradict.

    Parameters
    ----------
    frames : sequence of Frame
        Of the sky.
    source : ImageSource
        Their pixels as stored.
    bayer_setting : str
        ``InputSettings.bayer``: a pattern that is set by hand is only doubted, not mended.
    run : Run

    Returns
    -------
    list of Frame
        In the order given. Without a saturation level where the stated one lies below the sky; with the colour pattern
        that the pixels show, or none where they show none.
    """
    groups: dict[tuple[str, str], list[Frame]] = {}
    for frame in frames:
        groups.setdefault(_group_of(frame), []).append(frame)
    by_camera: dict[str, list[PhaseLook]] = {}
    doubted: set[tuple[str, str]] = set()
    for key, group in sorted(groups.items()):
        looks = list(_look_at(group, source, run))
        by_camera.setdefault(key[0], []).extend(look.phases for look in looks if look.phases is not None)
        if 2 * sum(look.is_sky_saturated for look in looks) > len(looks):
            doubted.add(key)
            _tell_level(group, run)
    patterns = {
        camera: _settle_pattern(
            [f for f in frames if f.header.camera == camera], judge_phases(looks), bayer_setting, run
        )
        for camera, looks in by_camera.items()
    }
    return [
        _mended(frame, patterns.get(frame.header.camera, frame.storage.bayer), _group_of(frame) in doubted)
        for frame in frames
    ]


def _group_of(frame: Frame) -> tuple[str, str]:
    """What frames share that are judged together: camera and stated level of saturation."""
    return frame.header.camera, f"{frame.decided.saturation_adu}"


def _mended(frame: Frame, bayer: str | None, is_level_wrong: bool) -> Frame:
    if is_level_wrong:
        frame = replace(frame, decided=replace(frame.decided, saturation_adu=None))
    return frame if bayer == frame.storage.bayer else with_bayer(frame, bayer)


def _look_at(group: Sequence[Frame], source: ImageSource, run: Run) -> Iterator[_Look]:
    """Looks at some frames of a group, in the order of their dates; those that cannot be read are passed over."""
    ordered = sorted(group, key=lambda frame: (frame.header.date_obs, frame.id))
    some = ordered[:: -(-len(ordered) // LOOKS)]
    height, width = (min(length, WINDOW_PX) for length in group[0].shape)
    executor = run.machine.executor_within(height * width * BYTES_PER_SAMPLE)
    for look in executor.map(partial(_look, source=source), some):
        run.cancel.check()
        if look is not None:
            yield look


def _look(frame: Frame, source: ImageSource) -> _Look | None:
    height, width = frame.shape
    y0, x0 = (max(length - WINDOW_PX, 0) // 4 * 2 for length in frame.shape)
    try:
        data, weight = source.read_window(frame, Box(y0, min(y0 + WINDOW_PX, height), x0, min(x0 + WINDOW_PX, width)))
    except FrameRejected:
        return None  # told when it is measured
    level = np.inf if frame.decided.saturation_adu is None else frame.decided.saturation_adu
    if len(data) > 1:
        flat, known = (array.reshape(len(array), -1) for array in (data, np.broadcast_to(weight, data.shape)))
        return _Look(None, is_sky_above(flat, known, level))
    cells, known = (cells_of(array[0]).reshape(4, -1) for array in (data, weight))
    is_wrong = is_sky_above(cells, known, level)
    try:
        phases = look_at_phases(data[0], weight[0], np.inf if is_wrong else level)
    except FrameRejected:  # too few pixels
        phases = None
    return _Look(phases, is_wrong)


def _tell_level(group: Sequence[Frame], run: Run) -> None:
    first = min(group, key=lambda frame: frame.name)
    run.log.notice(
        f"{len(group)} frame(s) of {first.header.instrument or 'one camera'} are said to saturate at "
        f"{first.decided.saturation_adu:g} ({first.name}), which is below their sky: the level is ignored, and "
        "saturated stars are known by their shape alone; a right SATURATE may stand in a file NAME.head",
        "warning",
    )


def _settle_pattern(group: Sequence[Frame], seen: PlaneKind | None, bayer_setting: str, run: Run) -> str | None:
    """The colour pattern of a camera's frames, told where it is another one than the header's."""
    first = min(group, key=lambda frame: frame.name)
    stated = first.storage.bayer
    if seen is None or seen == _kind_of(stated):
        return stated
    greens = {"main": "first and fourth", "anti": "second and third", "mono": ""}[seen]
    shown = f"show greens at the {greens} of each 2 x 2 pixels" if greens else "are alike at all places of 2 x 2 pixels"
    about = f"{len(group)} frame(s) of {first.header.instrument or 'one camera'} ({first.name})"
    if bayer_setting != "auto":
        if stated:
            run.log.notice(f"input.bayer is {stated}, but {about} {shown}", "warning")
        return stated
    if seen == "mono":
        told = f"name the colour pattern {stated}, but sky and stars {shown}: they are read as mono"
        run.log.notice(f"{about} {told}; input.bayer = '{stated}' would read them as colour", "warning")
        return None
    # Where a header's pattern has its greens in the wrong place, the picture was most often turned upside down.
    pattern = f"{stated[2:]}{stated[:2]}" if stated else _LIKELY[seen]
    named = f"name the colour pattern {stated}" if stated else "name no colour pattern"
    run.log.notice(
        f"{about} {named}, but {shown}: they are read as {pattern}. Pixels do not tell red from blue: if these are "
        f"exchanged, set input.bayer = '{pattern.translate(_SWAP)}'",
        "warning",
    )
    return pattern


def _kind_of(bayer: str | None) -> PlaneKind:
    if bayer is None:
        return "mono"
    return "main" if bayer[0] == "G" else "anti"
