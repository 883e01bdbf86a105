"""What headers say of pixels, held against the pixels themselves before anything is measured.

Some frames of each camera are looked at: which colour pattern they have, and whether their sky is below the level at
which they are said to saturate. What is wrong is mended for all frames of the camera, and told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zemosaic.engine.store import remember
from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import with_bayer
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.settings import InputSettings
from zemosaic.stages.measure.saturation import Top, is_sky_above, look_at_top, shared_plateau
from zemosaic.stages.raw.phases import (
    PhaseLook,
    PlaneKind,
    cells_of,
    fit_pattern,
    judge_phases,
    kind_of,
    look_at_phases,
    shows_pattern,
    sky_colours,
)
from zemosaic.text import Message, message

__all__ = ["check_pixels"]

LOOKS = 8
"""Frames of a camera that are looked at, spread over its session: ten-second ones of a small telescope hold a thousand
blocks with stars then, which tell shares of light to 2 %."""

WINDOW_PX = 1024
"""Side of the part in a frame's middle that is looked at, even: a part of a larger frame has stars enough."""

LEAST_WITNESSES = 3
"""Frames whose names and skies agree, from which others of their camera are judged by them."""

BYTES_PER_SAMPLE = 40
"""Looking: data and weight, 8, cells and their weights likewise, their light, and what is sorted for a median."""

_LIKELY: dict[PlaneKind, str] = {"main": "GRBG", "anti": "RGGB"}
"""The commonest pattern of those whose greens lie on a diagonal: a guess between two, and told as one."""
_SWAP = str.maketrans("RB", "BR")
_SHOWN = {
    "main": message("bayer.greens-main"),
    "anti": message("bayer.greens-anti"),
    "mono": message("bayer.no-greens"),
}


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What one frame shows; no phases where it has three channels or too few pixels."""

    phases: PhaseLook | None
    is_sky_saturated: bool
    top: Top


@dataclass(frozen=True, slots=True, eq=False)
class _Looker:
    """Looks at frames: what it sees is kept.

    Attributes
    ----------
    source : ImageSource
        Pixels as stored.
    settings : InputSettings
        How frames are read.
    run : Run
    """

    source: ImageSource
    settings: InputSettings
    run: Run

    def look_at(self, some: Sequence[Frame]) -> dict[FrameId, _Look]:
        """A look at each frame that can be read."""
        if not some:
            return {}
        height, width = (min(length, WINDOW_PX) for length in some[0].shape)
        executor = self.run.machine.executor_within(height * width * BYTES_PER_SAMPLE)
        found: dict[FrameId, _Look] = {}
        for frame, look in zip(some, executor.map(self._look, some), strict=True):
            self.run.cancel.check()
            if look is not None:
                found[frame.id] = look
        return found

    def _look(self, frame: Frame) -> _Look | None:
        """From the store when it is there."""
        key = make_key("look", frame, self.settings)
        try:
            return remember(self.run.store, key, lambda: _look_at_middle(frame, self.source), _Look)
        except FrameRejected:
            return None  # told when it is measured


def check_pixels(frames: Sequence[Frame], source: ImageSource, settings: InputSettings, run: Run) -> list[Frame]:
    """Frames whose colour pattern and saturation level their pixels do not contradict.

    Parameters
    ----------
    frames : sequence of Frame
        Of the sky.
    source : ImageSource
        Their pixels as stored.
    settings : InputSettings
        A pattern that is set by hand is only doubted, not mended.
    run : Run

    Returns
    -------
    list of Frame
        In the order given. Without a saturation level where the stated one lies below the sky, with a lower one where
        pixels pile up there; with the colour pattern
        that the pixels show, or none where they show none.
    """
    looker = _Looker(source, settings, run)
    groups: dict[tuple[str, str], list[Frame]] = {}
    for frame in frames:
        groups.setdefault(_group_of(frame), []).append(frame)
    looks: dict[FrameId, PhaseLook] = {}
    levels: dict[tuple[str, str], float | None] = {}
    for key, group in sorted(groups.items()):
        seen = looker.look_at(_some_of(group))
        looks |= {frame_id: look.phases for frame_id, look in seen.items() if look.phases is not None}
        levels[key] = _settle_level(group, list(seen.values()), run)
    patterns = _find_patterns(frames, looks, looker)
    return [_mended(frame, patterns.get(frame.id, frame.storage.bayer), levels[_group_of(frame)]) for frame in frames]


def _find_patterns(
    frames: Sequence[Frame], looks: dict[FrameId, PhaseLook], looker: _Looker
) -> dict[FrameId, str | None]:
    """The colour patterns of frames whose headers are wrong: single frames by others of their camera, then the rest."""
    found: dict[FrameId, str | None] = {}
    if looker.settings.bayer == "auto":
        sessions: dict[tuple[str, str], list[Frame]] = {}
        for frame in frames:
            head, _, chip = frame.header.camera.rsplit("|", 2)  # the pattern stands between
            sessions.setdefault((head, chip), []).append(frame)
        for _, session in sorted(sessions.items()):
            found |= _fit_to_others(session, looks, looker)
    cameras: dict[str, list[Frame]] = {}
    for frame in frames:
        if frame.id not in found:
            cameras.setdefault(frame.header.camera, []).append(frame)
    coloured = {(f.header.instrument, f.shape) for f in frames if f.id in looks and shows_pattern(looks[f.id])}
    for _, group in sorted(cameras.items()):
        instrument, shape = group[0].header.instrument, group[0].shape
        is_coloured = any(name == instrument and other != shape for name, other in coloured)
        of_group = [looks[frame.id] for frame in group if frame.id in looks]
        seen = judge_phases(of_group, is_sky_coloured=is_coloured)
        found |= dict.fromkeys(
            (frame.id for frame in group), _settle_pattern(group, seen, looker.settings.bayer, looker.run)
        )
    return found


def _fit_to_others(
    session: Sequence[Frame], looks: dict[FrameId, PhaseLook], looker: _Looker
) -> dict[FrameId, str | None]:
    """Patterns of frames whose sky has the colours of most others of their camera only by another one than they name.

    All frames are looked at where one of those that were is such a frame.
    """
    named = Counter(frame.storage.bayer for frame in session if frame.id in looks and frame.storage.bayer)
    if not named:
        return {}
    usual = named.most_common(1)[0][0]
    witnesses = [
        colours
        for frame in session
        if frame.storage.bayer == usual and frame.id in looks
        for colours in [sky_colours(looks[frame.id], usual)]
        if colours is not None
    ]
    if len(witnesses) < LEAST_WITNESSES:
        return {}
    typical = np.median(witnesses, axis=0)

    def odd_ones() -> dict[FrameId, str | None]:
        fits = {f.id: (f.storage.bayer, fit_pattern(looks[f.id], typical)) for f in session if f.id in looks}
        return {frame_id: best for frame_id, (stated, best) in fits.items() if best is not None and best != stated}

    if not odd_ones():
        return {}
    seen = looker.look_at([frame for frame in session if frame.id not in looks])
    looks |= {frame_id: look.phases for frame_id, look in seen.items() if look.phases is not None}
    odd = odd_ones()
    _tell_odd([frame for frame in session if frame.id in odd], odd, len(session), looker.run)
    return odd


def _group_of(frame: Frame) -> tuple[str, str]:
    """What frames share that are judged together: camera and stated level of saturation."""
    return frame.header.camera, f"{frame.decided.saturation_adu}"


def _mended(frame: Frame, bayer: str | None, saturation_adu: float | None) -> Frame:
    if saturation_adu != frame.decided.saturation_adu:
        frame = replace(frame, decided=replace(frame.decided, saturation_adu=saturation_adu))
    return frame if bayer == frame.storage.bayer else with_bayer(frame, bayer)


def _some_of(group: Sequence[Frame]) -> list[Frame]:
    """Frames spread over the dates of a group."""
    ordered = sorted(group, key=lambda frame: (frame.header.date_obs, frame.id))
    return ordered[:: -(-len(ordered) // LOOKS)]


def _look_at_middle(frame: Frame, source: ImageSource) -> _Look:
    height, width = frame.shape
    y0, x0 = (max(length - WINDOW_PX, 0) // 4 * 2 for length in frame.shape)
    data, weight = source.read_window(frame, Box(y0, min(y0 + WINDOW_PX, height), x0, min(x0 + WINDOW_PX, width)))
    level = np.inf if frame.decided.saturation_adu is None else frame.decided.saturation_adu
    if len(data) > 1:
        flat, known = (array.reshape(len(array), -1) for array in (data, np.broadcast_to(weight, data.shape)))
        return _Look(None, is_sky_above(flat, known, level), look_at_top(flat, known))
    cells, known = (cells_of(array[0]).reshape(4, -1) for array in (data, weight))
    is_wrong = is_sky_above(cells, known, level)
    try:
        phases = look_at_phases(data[0], weight[0], np.inf if is_wrong else level)
    except FrameRejected:  # too few pixels
        phases = None
    return _Look(phases, is_wrong, look_at_top(cells, known))


def _settle_level(group: Sequence[Frame], seen: Sequence[_Look], run: Run) -> float | None:
    """The level at which a group of frames saturates: the stated one, unless pixels show a lower one or deny it."""
    stated = group[0].decided.saturation_adu
    if 2 * sum(look.is_sky_saturated for look in seen) > len(seen):
        _tell_level(group, run)
        stated = None
    shown = shared_plateau([look.top for look in seen])
    if shown >= (math.inf if stated is None else stated):
        return stated
    first = min(group, key=lambda frame: frame.name)
    told = message(
        "frame.saturation-shown", n_frames=len(group), camera=_camera_of(first), level_adu=shown, file=first.name
    )
    run.log.notice(told)
    return shown


def _tell_level(group: Sequence[Frame], run: Run) -> None:
    first = min(group, key=lambda frame: frame.name)
    told = message(
        "frame.saturation-below-sky",
        n_frames=len(group), camera=_camera_of(first), level_adu=first.decided.saturation_adu, file=first.name,
    )  # fmt: skip
    run.log.notice(told, "warning")


def _tell_odd(group: Sequence[Frame], patterns: Mapping[FrameId, str | None], n_frames: int, run: Run) -> None:
    first = min(group, key=lambda frame: frame.name)
    told = message(
        "bayer.odd-pattern",
        n_odd=len(group), n_frames=n_frames, camera=_camera_of(first), file=first.name,
        pattern=first.storage.bayer or message("bayer.none"), read_as=patterns[first.id],
    )  # fmt: skip
    run.log.notice(told, "warning")


def _settle_pattern(group: Sequence[Frame], seen: PlaneKind | None, bayer_setting: str, run: Run) -> str | None:
    """The colour pattern of a camera's frames, told where it is another one than the header's."""
    first = min(group, key=lambda frame: frame.name)
    stated = first.storage.bayer
    if seen is None or seen == kind_of(stated):
        return stated
    shown = _SHOWN[seen]
    about = {"n_frames": len(group), "camera": _camera_of(first), "file": first.name}
    if bayer_setting != "auto":
        if stated:
            run.log.notice(message("bayer.setting-doubted", stated=stated, shown=shown, **about), "warning")
        return stated
    if seen == "mono":
        run.log.notice(message("bayer.mono", stated=stated, shown=shown, **about), "warning")
        return None
    # Where a header's pattern has its greens in the wrong place, the picture was most often turned upside down.
    pattern = f"{stated[2:]}{stated[:2]}" if stated else _LIKELY[seen]
    named = message("bayer.named", pattern=stated) if stated else message("bayer.not-named")
    other = pattern.translate(_SWAP)
    told = message("bayer.other-pattern", named=named, shown=shown, read_as=pattern, other=other, **about)
    run.log.notice(told, "warning")
    return pattern


def _camera_of(frame: Frame) -> str | Message:
    return frame.header.instrument or message("frame.one-camera")
