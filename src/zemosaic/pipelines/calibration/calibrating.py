"""Darks, biases and flats: found, chosen for each frame, and what is done with them to its pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.errors import SettingError
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameKind
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.calibration.calibrated_source import CalibratedSource, Correction
from zemosaic.pipelines.calibration.masters import Master, Masters, exposure_ratio
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.settings import CalibrateSettings, InputSettings
from zemosaic.stages.raw.calibrate import Choice, choose_master, find_bad_pixels, scale_dark
from zemosaic.text import Message, message

__all__ = ["Calibrated", "calibrate_frames"]

Mask = npt.NDArray[np.bool_]

_OPTIONS: dict[FrameKind, str] = {"dark": "darks", "bias": "biases", "flat": "flats"}

Heads = Mapping[FrameKind, Sequence[Frame]]
"""Kind -> a frame of each group of calibration frames; see `Masters.heads`."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """Frames after calibration.

    Attributes
    ----------
    frames : list of Frame
        Those that are calibrated have `Decided.calibration` set.
    source : ImageSource
        Where to read them.
    left_out : tuple of LeftOut
        Calibration frames that cannot be read.
    """

    frames: list[Frame]
    source: ImageSource
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What a frame is calibrated with. Frames of one recipe share a correction.

    Attributes
    ----------
    groups : tuple of (FrameKind, int)
        Kind, and number of the group in `Masters.heads`, of each master.
    ratio : float
        How much longer the frame was exposed than the dark.
    of_colours : bool
        Whether the flat is one for raw frames of a colour sensor.
    with_map : bool
        Whether the user's map of bad pixels fits.
    """

    groups: tuple[tuple[FrameKind, int], ...] = ()
    ratio: float = 1.0
    of_colours: bool = False
    with_map: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.groups and not self.with_map

    @property
    def has_flat(self) -> bool:
        return "flat" in dict(self.groups)


def calibrate_frames(
    frames: Sequence[Frame], beside: Sequence[Frame], source: ImageSource, settings: CalibrateSettings, run: Run
) -> Calibrated:
    """Make the masters that frames need, and a source that applies them.

    Parameters
    ----------
    frames : sequence of Frame
        Of the sky.
    beside : sequence of Frame
        Calibration frames that were found among the inputs.
    source : ImageSource
        The pixels as stored.
    settings : CalibrateSettings
    run : Run
        Its store keeps the masters.

    Raises
    ------
    SettingError
        When a place that was given holds no calibration frame of its kind, or none that fits a frame.
    """
    masters = Masters({kind: _collect(kind, beside, settings, run) for kind in _OPTIONS}, source, run)
    bad_pixels = _read_bad_pixels(settings.bad_pixels, source) if settings.bad_pixels else None
    if not any(masters.heads.values()) and bad_pixels is None:
        return Calibrated(list(frames), source)
    run.log.start("calibrate")
    _check_sizes(frames, masters.heads, settings, run)
    chosen = [_choose_recipe(frame, masters.heads, settings, bad_pixels) for frame in frames]
    named = {
        recipe: _make_correction(recipe, masters, bad_pixels)
        for recipe in dict.fromkeys(recipe for recipe, _ in chosen)
        if not recipe.is_empty
    }
    done = [
        frame if recipe.is_empty else _as_calibrated(frame, named[recipe][0], recipe)
        for frame, (recipe, _) in zip(frames, chosen, strict=True)
    ]
    _tell_notes([note for _, notes in chosen for note in notes], masters, run)
    made = [_tell_masters(kind, n) for kind in _OPTIONS if (n := masters.count()[kind])]
    n_done = sum(not recipe.is_empty for recipe, _ in chosen)
    run.log.end(
        "calibrate",
        message("done.calibrate", n_done=n_done, n_frames=len(frames), masters=made or message("done.no-masters")),
    )
    return Calibrated(done, CalibratedSource(source, dict(named.values())), tuple(masters.left_out))


def _tell_masters(kind: FrameKind, n: int) -> Message:
    """How many masters there are of a kind."""
    if kind == "dark":
        return message("done.of-darks", n=n)
    return message("done.of-biases", n=n) if kind == "bias" else message("done.of-flats", n=n)


def _as_calibrated(frame: Frame, name: str, recipe: _Recipe) -> Frame:
    return replace(frame, decided=replace(frame.decided, calibration=name, is_flattened=recipe.has_flat))


def _tell_notes(notes: Sequence[Message], masters: Masters, run: Run) -> None:
    """Say once what frames have in common, with their number."""
    counts = Counter(notes)
    if masters.bare_flats:
        counts[message("calibrate.bare-flats")] = len(masters.bare_flats)
    for note in sorted(counts, key=str):
        run.log.notice(message("calibrate.note", note=note, n_frames=counts[note]), "warning")


def _collect(kind: FrameKind, beside: Sequence[Frame], settings: CalibrateSettings, run: Run) -> list[Frame]:
    """The calibration frames of a kind: from where the settings say, else those among the inputs."""
    given = str(getattr(settings, _OPTIONS[kind]))
    if not given:
        return [frame for frame in beside if frame.decided.kind == kind]
    if given == "none":
        return []
    if not Path(given).exists():
        raise SettingError("calibrate.missing", option=_OPTIONS[kind], path=given)
    found = scan([Path(given)], InputSettings(), check=run.cancel.check, kind=kind)
    frames = [frame for frame in found.calibration if frame.decided.kind == kind]
    for rejected in found.rejected:
        run.log.notice(message("calibrate.file-unused", path=rejected.path, reason=rejected.told), "warning")
    if not frames:
        others = Counter(frame.decided.kind for frame in found.calibration)
        holds = [message("calibrate.holds", n=n, kind=name) for name, n in others.items()]
        raise SettingError(
            "calibrate.none-there",
            option=_OPTIONS[kind],
            kind=kind,
            path=given,
            holds=holds or message("calibrate.holds-nothing"),
        )
    return frames


def _choose_recipe(
    frame: Frame, heads: Heads, settings: CalibrateSettings, bad_pixels: Mask | None
) -> tuple[_Recipe, list[Message]]:
    """The masters that fit a frame best, and what is to be said of them."""
    if frame.storage.layout not in {"mono", "bayer"}:
        return _Recipe(), [message("calibrate.debayered")]
    choices = {kind: _choose(kind, frame, heads[kind], settings) for kind in _OPTIONS}
    notes = [note for choice in choices.values() for note in choice.notes]
    groups = {kind: choice.index for kind, choice in choices.items() if choice.index is not None}
    ratio = 1.0
    if "dark" in groups and "bias" in groups:
        ratio = exposure_ratio(frame, heads["dark"][groups["dark"]])
        if ratio == 1:
            del groups["bias"]  # which the dark holds
    if groups.keys() == {"flat"}:
        notes.append(message("calibrate.flat-alone"))
    of_colours = "flat" in groups and frame.storage.bayer is not None
    with_map = bad_pixels is not None and bad_pixels.shape == frame.shape
    return _Recipe(tuple(groups.items()), ratio, of_colours, with_map), notes


def _choose(kind: FrameKind, frame: Frame, heads: Sequence[Frame], settings: CalibrateSettings) -> Choice:
    """Which group of a kind fits a frame best; none where the frame may have been calibrated before."""
    name = _OPTIONS[kind]
    if heads and not getattr(settings, name) and not frame.is_counted:
        return Choice(None, (message("calibrate.not-on-stacks", name=name),))
    return choose_master(frame, heads)


def _check_sizes(frames: Sequence[Frame], heads: Heads, settings: CalibrateSettings, run: Run) -> None:
    """Say which calibration frames fit no frame; where the user gave them, that is an error."""
    shapes = {frame.shape for frame in frames}
    for kind, found in heads.items():
        own = {head.shape for head in found}
        if not own or own & shapes:
            continue
        given = getattr(settings, _OPTIONS[kind])
        sizes = {"sizes": _sizes(own), "frame_sizes": _sizes(shapes)}
        if given:
            raise SettingError("calibrate.given-size", kind=kind, path=given, option=_OPTIONS[kind], **sizes)
        run.log.notice(message("calibrate.other-size", kind=kind, **sizes), "warning")


def _make_correction(recipe: _Recipe, masters: Masters, bad_pixels: Mask | None) -> tuple[str, Correction]:
    """What a recipe does to pixels, under a name that tells it from all others."""
    used = {kind: masters.master(kind, k, of_colours=recipe.of_colours) for kind, k in recipe.groups}
    user_map = bad_pixels if recipe.with_map else None
    name = make_key("calibration", {kind: master.key for kind, master in used.items()}, recipe.ratio, user_map)
    return name, _correction(used, recipe.ratio, user_map)


def _correction(masters: Mapping[FrameKind, Master], ratio: float, user_map: Mask | None) -> Correction:
    dark, bias, flat = (masters.get(kind) for kind in ("dark", "bias", "flat"))
    pedestal = dark or bias
    level = None if pedestal is None else pedestal.data
    if dark is not None and bias is not None:
        level = scale_dark(dark.data, bias.data, ratio, 1.0)
    bad = None
    if dark is not None or flat is not None:
        bad = find_bad_pixels(None if dark is None else dark.data, None if flat is None else flat.data)
    for mask in (*(master.holes for master in masters.values()), user_map):
        if mask is not None:
            bad = mask.copy() if bad is None else bad | mask
    variance = next((m.variance for m in (dark, bias) if m is not None and m.variance > 0), 0.0)
    return Correction(level, None if flat is None else flat.data, bad, variance)


def _read_bad_pixels(path: str, source: ImageSource) -> Mask:
    """A map that is not 0 at bad pixels."""
    if not Path(path).exists():
        raise SettingError("calibrate.map-missing", path=path)
    found = scan([Path(path)], InputSettings(), kind="dark")
    if not found.calibration:
        reason = found.rejected[0].told if found.rejected else message("calibrate.no-image")
        raise SettingError("calibrate.map-unusable", path=path, reason=reason)
    frame = found.calibration[0]
    data, _ = source.read_window(frame, Box.of_shape(frame.shape))
    return np.asarray(data[0] != 0)


def _sizes(shapes: set[tuple[int, int]]) -> list[str]:
    return [f"{width} x {height}" for height, width in sorted(shapes)]
