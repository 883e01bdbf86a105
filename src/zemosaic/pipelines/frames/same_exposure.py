"""The same exposure in several files, as the camera wrote it and as programs processed it, counts once.

Of the files of an exposure those count whose pixels are as the camera sampled them, neither debayered nor resampled;
among these a raw colour mosaic before a grey image, and a calibrated file before an uncalibrated one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.read.find_files import stem_of
from zemosaic.model.frame import Frame
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.kept import Kept
from zemosaic.text import message

__all__ = ["find_twins", "use_exposures_once"]

_MARKS = re.compile(
    r"^((r|pp|bkg|cc|cal|calibrated|deb|debayered|reg|registered)_)+"
    r"|(_(c|cc|d|r|a|cal|calibrated|debayer(ed)?|registered|aligned|cosmetic))+$"
)
"""What Siril, PixInsight, ASTAP and others put before or behind the name of a file that they processed."""
_RESAMPLED = {"r", "reg", "registered", "aligned", "d", "a", "deb", "debayer", "debayered"}
_CALIBRATED = {"pp", "c", "cal", "calibrated"}

_MOST_APART_DEG = 2.0
"""Pointings of one exposure differ by less, as the mount had it and as it was solved."""

_TOLD = 3
"""Pairs that a notice names."""


def use_exposures_once(frames: Sequence[Frame], run: Run) -> Kept[Frame]:
    """Frames without those that hold an exposure which another one holds too; what was left out, and why, is told."""
    twins = find_twins(frames)
    if not twins:
        return Kept(list(frames))
    left_out = tuple(
        run.log.leave_out(frame, message("frame.same-exposure", file=kept.name)) for frame, kept in twins.values()
    )
    pairs = [message("frame.counts-for", file=kept.name, other=frame.name) for frame, kept in twins.values()]
    more = message("input.and-more", n=len(pairs) - _TOLD) if len(pairs) > _TOLD else None
    told = sorted(pairs, key=str)[:_TOLD]
    run.log.notice(
        message("frame.exposures-once", n_twins=len(twins), n_frames=len(frames), pairs=told, more=more), "warning"
    )
    return Kept([frame for frame in frames if frame.id not in twins], left_out)


def find_twins(frames: Iterable[Frame]) -> dict[str, tuple[Frame, Frame]]:
    """Frames whose exposure another file holds in a better form.

    Two files hold one exposure when instrument, part of the sensor, time to the millisecond, exposure time and filter
    agree, their headers point to one place, and they differ in form (raw or calibrated, debayered or not, resampled
    or not) or are of one name. Bursts within a second and the chips of a camera are of one form and several names:
    they all count. Stacks have no twins.

    Parameters
    ----------
    frames : iterable of Frame

    Returns
    -------
    dict
        Id of each frame that does not count -> that frame, and the one that counts.
    """
    exposures: dict[tuple[object, ...], list[Frame]] = {}
    for frame in frames:
        header, exposure_s = frame.header, frame.decided.exposure_s
        if header.n_stacked == 1 and ":" in header.date_obs and not math.isnan(header.time_s):
            chip = header.camera.rsplit("|", 1)[-1]
            length = None if exposure_s is None else round(exposure_s, 3)
            key = (header.instrument, round(header.time_s, 3), length, frame.decided.filter, chip)
            exposures.setdefault(key, []).append(frame)
    twins: dict[str, tuple[Frame, Frame]] = {}
    for group in exposures.values():
        kept: list[_File] = []
        for file in sorted(map(_File.of, group), key=_File.rank):
            better = next((other.frame for other in kept if _are_one(file, other)), None)
            if better is None:
                kept.append(file)
            else:
                twins[file.frame.id] = (file.frame, better)
    return twins


@dataclass(frozen=True, slots=True)
class _File:
    """A frame and what its file tells of it, found once: hundreds may share a time.

    Attributes
    ----------
    frame : Frame
    name : str
        Of the file, without what programs add to it.
    form : tuple
        How far its pixels are from those of the camera, the best form first: resampled, layout, uncalibrated.
    """

    frame: Frame
    name: str
    form: tuple[bool, str, bool]

    @classmethod
    def of(cls, frame: Frame) -> _File:
        storage = frame.storage
        name = stem_of(storage.path.replace("\\", "/").rsplit("/", 1)[-1]).lower()
        marks = {part for found in _MARKS.finditer(name) for part in found[0].split("_") if part}
        is_resampled = storage.layout in {"chw", "hwc"} or bool(marks & _RESAMPLED)
        form = is_resampled, storage.layout, storage.is_integer and not marks & _CALIBRATED
        return cls(frame, _MARKS.sub("", name), form)

    def rank(self) -> tuple[Any, ...]:
        """Order among the files of an exposure: the first counts."""
        storage = self.frame.storage
        return self.form, self.frame.header.wcs_cards is None, storage.path, storage.hdu


def _are_one(file: _File, other: _File) -> bool:
    if file.frame.storage.path == other.frame.storage.path:
        return False
    is_one_name = file.name == other.name and file.frame.shape == other.frame.shape
    return (is_one_name or file.form != other.form) and not _point_apart(file.frame, other.frame)


def _point_apart(frame: Frame, other: Frame) -> bool:
    """Whether headers place two files on different parts of the sky."""
    if frame.header.wcs_cards and other.header.wcs_cards:
        try:
            first, second = frame_wcs(frame), frame_wcs(other)
        except FrameRejected:
            return False
        height, width = frame.shape
        ra, dec = first.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
        x, y = second.sky_to_pixel(ra, dec)
        # The chips of a camera do not lie on each other: the centre of one is off the other.
        return not (0 <= x < other.shape[1] and 0 <= y < other.shape[0])
    one, two = frame.header.hint, other.header.hint
    if one is None or two is None:
        return False
    middle = math.radians((one.dec_deg + two.dec_deg) / 2)
    turned = (one.ra_deg - two.ra_deg + 180) % 360 - 180
    return math.hypot(turned * math.cos(middle), one.dec_deg - two.dec_deg) > _MOST_APART_DEG
