"""Dark, bias and flat: making masters, and choosing them; `window` applies them.

Darks are chosen by exposure, gain and temperature, flats by filter, session and rotation; what does not fit is told.

All functions work on arrays, whole frames or the same window of each, so a master is made and applied a band at a
time. Bayer frames are calibrated before anything else, as raw planes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.filters import filter_key
from zemosaic.model.frame import Frame, FrameKind
from zemosaic.stages.numeric.robust import MAD_TO_SIGMA
from zemosaic.stages.raw.window import FLAT_LEAST
from zemosaic.text import Message, message

__all__ = [
    "EXPOSURE_TOLERANCE",
    "Choice",
    "choose_master",
    "combine_flats",
    "combine_frames",
    "find_bad_pixels",
    "flat_levels",
    "group_for_masters",
    "noise_variance",
    "scale_dark",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CLIP_SIGMA = 4.0
"""From the median: cuts cosmic rays, and of good samples one in 16,000."""

_FEW = 6
"""Of fewer frames no scatter can be told: a plain median is taken."""

EXPOSURE_TOLERANCE = 0.05
"""Relative difference up to which two exposure times are the same."""

TEMPERATURE_TOLERANCE_C = 3.0
"""Dark current doubles every six degrees: this far off it is wrong by up to 40 %."""

ROTATION_TOLERANCE_DEG = 2.0
"""At 2500 pixels from the middle of a frame the shadow of dust then moves by 87 pixels at most."""

SESSION_DAYS = 1.0
"""Flats of one evening or the morning after: dust stays where it is."""

_BAD_RESPONSE = 0.5
"""A pixel with half the response of its neighbours, or twice, is no pixel of this flat."""

_BAD_DARK_SIGMA = 12.0
"""What a pixel that glows so far above its neighbours leaves, once that is taken off, is its noise."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The master chosen for a frame.

    Attributes
    ----------
    index : int or None
        Which of the masters; None when none has the frame's shape.
    notes : tuple of Message
        What does not agree, one line each; empty for a perfect match.
    """

    index: int | None
    notes: tuple[Message, ...] = ()


def combine_frames(frames: F4) -> F4:
    """Robust mean of dark or bias frames.

    Parameters
    ----------
    frames : ndarray, float32, shape (n, h, w)
        Whole frames or the same window of each.

    Returns
    -------
    ndarray, float32, shape (h, w)
        Mean of the values within 4 sigma of their median, sigma being 1.4826 times the median absolute deviation of
        the pixel, or 1.51 times the rms of the smallest four fifths where that is larger (whole numbers, most of them
        equal). Fewer than six frames are too few to judge: the median of three to five, the mean of two.

    Raises
    ------
    ValueError
        Without frames.
    """
    if frames.ndim != 3 or not len(frames):
        raise ValueError(f"frames must have shape (n, h, w) with n > 0, got {frames.shape}")
    if len(frames) <= 2:
        return np.asarray(frames.mean(axis=0, dtype=np.float64), np.float32)
    median = np.median(frames, axis=0)
    if len(frames) < _FEW:
        return np.asarray(median, np.float32)
    deviation = np.abs(frames - median)
    ordered = np.sort(deviation, axis=0)
    sigma = MAD_TO_SIGMA * np.median(ordered, axis=0)
    inner = ordered[: len(frames) * 4 // 5]
    sigma = np.maximum(sigma, 1.51 * np.sqrt(np.mean(inner * inner, axis=0)))
    keep = deviation <= CLIP_SIGMA * sigma
    total = np.sum(frames, axis=0, where=keep, dtype=np.float64)
    return np.asarray(total / np.count_nonzero(keep, axis=0), np.float32)


def flat_levels(frame: F4, pedestal: F4 | None, is_bayer: bool) -> F8:
    """The level of a whole raw flat over its bias or flat-dark, by colour.

    Parameters
    ----------
    frame, pedestal : ndarray, float32, shape (h, w)
        Whole frames; no pedestal when the flat was calibrated before.
    is_bayer : bool
        Whether each place of the 2 x 2 cell has a level of its own: a lamp's colour is then no part of the flat.

    Returns
    -------
    ndarray, float64, shape (2, 2)
        Medians by parity of row and column; four times the same for mono.

    Raises
    ------
    ValueError
        When a level is not positive: the pedestal is too high, or the frame is no flat.
    """
    light = frame if pedestal is None else frame - pedestal
    if is_bayer:
        levels = np.array([[np.median(light[j::2, i::2]) for i in (0, 1)] for j in (0, 1)], float)
    else:
        levels = np.full((2, 2), float(np.median(light)))
    if not np.all(levels > 0):
        raise ValueError(message("calibrate.flat-dark", level=levels.min()))
    return levels


def combine_flats(frames: F4, levels: F8, pedestal: F4 | None = None, origin: tuple[int, int] = (0, 0)) -> F4:
    """Master flat, 1 on average in every colour.

    Parameters
    ----------
    frames : ndarray, float32, shape (n, h, w)
        Raw flats, whole or the same window of each.
    levels : ndarray, float64, shape (n, 2, 2)
        `flat_levels` of each.
    pedestal : ndarray, float32, shape (h, w), optional
        Master bias or flat-dark, in the same window.
    origin : tuple of int
        (y, x) of the window's first pixel in the frame.

    Returns
    -------
    ndarray, float32, shape (h, w)
    """
    scaled = frames.astype(np.float32) if pedestal is None else frames - pedestal
    for j, i in np.ndindex(2, 2):
        level = levels[:, (j + origin[0]) % 2, (i + origin[1]) % 2].astype(np.float32)
        scaled[:, j::2, i::2] /= level[:, None, None]
    return combine_frames(scaled)


def scale_dark(dark: F4, bias: F4, exposure_s: float, dark_exposure_s: float) -> F4:
    """A dark of another exposure time: ``bias + (dark - bias) exposure_s / dark_exposure_s``.

    Raises
    ------
    ValueError
        When a time is not positive.
    """
    if not (exposure_s > 0 and dark_exposure_s > 0):
        raise ValueError(f"exposure times must be positive, got {exposure_s} and {dark_exposure_s}")
    return np.asarray(bias + (dark - bias) * np.float32(exposure_s / dark_exposure_s), np.float32)


def find_bad_pixels(dark: F4 | None = None, flat: F4 | None = None) -> Mask:
    """Pixels that no calibration makes good.

    Parameters
    ----------
    dark, flat : ndarray, float32, shape (h, w), optional
        Whole masters, at least one of them.

    Returns
    -------
    ndarray, bool, shape (h, w)
        True where the dark stands out by more than 12 sigma once the medians of rows and columns are taken off, or
        the flat is `FLAT_LEAST` or less, or below half or above twice the median of the eight pixels at distance 2.

    Raises
    ------
    ValueError
        When neither is given.
    """
    if dark is None and flat is None:
        raise ValueError("a bad-pixel map needs a master dark or a master flat")
    shape = dark.shape if dark is not None else flat.shape if flat is not None else (0, 0)
    bad = np.zeros(shape, bool)
    if dark is not None:
        # Rows and columns have levels of their own on many sensors; amplifier glow is smooth along both.
        flatter = dark - np.median(dark, axis=1, keepdims=True)
        flatter = flatter - np.median(flatter, axis=0, keepdims=True)
        low, high = np.percentile(flatter, [15.865, 84.135])
        bad |= np.abs(flatter) > _BAD_DARK_SIGMA * max((high - low) / 2, 1e-3)
    if flat is not None:
        near = _median_of_eight(flat)
        bad |= ~(flat > FLAT_LEAST) | (flat < _BAD_RESPONSE * near) | (flat > near / _BAD_RESPONSE)
    return bad


def _median_of_eight(image: F4) -> F4:
    """Median of the pixels at distance 2: the same colour of a Bayer sensor."""
    padded = np.pad(image, 2, mode="reflect")
    h, w = image.shape
    around = [padded[j : j + h, i : i + w] for j in (0, 2, 4) for i in (0, 2, 4) if (j, i) != (2, 2)]
    return np.asarray(np.median(np.stack(around), axis=0), np.float32)


def noise_variance(difference: F4) -> float:
    """Variance of one sample, from the differences of many like pairs of them.

    Parameters
    ----------
    difference : ndarray, float32
        Of two darks, or of neighbours of one colour on the sky.

    Returns
    -------
    float
        Half the variance of the differences within 4 sigma of 0; whole numbers need no correction for rounding.
    """
    square = difference.astype(float).ravel() ** 2
    variance = float(square.mean())
    for _ in range(5):
        variance = float(square[square <= CLIP_SIGMA**2 * variance].mean())
    return variance / 2


def group_for_masters(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one kind, put together that make one master; what is a master already stands alone.

    Parameters
    ----------
    frames : sequence of Frame
        Darks, biases or flats.

    Returns
    -------
    list of list of Frame
        Frames of one group have the size, camera and gain setting in common; darks also the exposure time and, within
        3 degrees, the temperature; flats the filter, the night and, within 2 degrees, the camera's rotation. In
        the order of FrameIds, whatever the order given.
    """
    groups: dict[tuple[object, ...], list[Frame]] = {}
    for frame in sorted(frames, key=lambda f: f.id):
        key: tuple[object, ...] = (frame.id,)
        if not frame.decided.is_master:
            by_kind = _GROUPED_BY[frame.decided.kind](frame)
            key = (frame.shape, frame.header.instrument, frame.header.gain_setting, *by_kind)
        groups.setdefault(key, []).append(frame)
    return list(groups.values())


def _bin(value: float | None, width: float) -> int | None:
    return None if value is None else round(value / width)


_GROUPED_BY: Mapping[FrameKind, Callable[[Frame], tuple[object, ...]]] = {
    "bias": lambda f: (),
    "dark": lambda f: (f.decided.exposure_s, _bin(f.header.temperature_c, TEMPERATURE_TOLERANCE_C)),
    "flat": lambda f: (
        filter_key(f.decided.filter),
        _bin(_days(f), SESSION_DAYS),
        _bin(f.header.rotation_deg, ROTATION_TOLERANCE_DEG),
    ),
}


def choose_master(frame: Frame, masters: Sequence[Frame]) -> Choice:
    """The master that fits a frame best.

    Parameters
    ----------
    frame : Frame
        A picture of the sky, or a flat that wants its pedestal taken off.
    masters : sequence of Frame
        The header facts of masters of one kind.

    Returns
    -------
    Choice
        Of those of the frame's size, by camera first; then darks by gain setting, exposure and temperature, biases by
        gain setting, flats by filter, rotation and nearness in time. Notes name what is off: gain at all, exposure by
        more than 5 %, temperature by 3 degrees, rotation by 2 degrees (dust and vignetting turn with the camera), a
        flat of another day.
    """
    fitting = [k for k, master in enumerate(masters) if master.shape == frame.shape]
    if not fitting:
        return Choice(None)
    criteria = [_compare(frame, masters[k]) for k in fitting]
    best = min(range(len(fitting)), key=lambda i: ([cost for cost, _ in criteria[i]], fitting[i]))
    return Choice(fitting[best], tuple(note for _, note in criteria[best] if note))


_CAMERA, _FILTER = message("calibrate.camera"), message("calibrate.filter")
_GAIN, _EXPOSURE = message("calibrate.gain"), message("calibrate.exposure")
_TEMPERATURE, _UNKNOWN = message("calibrate.temperature"), message("calibrate.unknown")
"""What is compared, in words."""

_Criterion = tuple[float, Message | None]
"""How far a master is from what is wanted, and what to say of it where that is too far."""


def _compare(frame: Frame, master: Frame) -> list[_Criterion]:
    """The criteria of the master's kind, the most important first."""
    kind = master.decided.kind
    camera = _same(kind, _CAMERA, frame.header.instrument, master.header.instrument)
    gain = _near(kind, _GAIN, frame.header.gain_setting, master.header.gain_setting, "", 0.0)
    if kind == "bias":
        return [camera, gain]
    if kind == "dark":
        wanted_s, exposure_s = frame.decided.exposure_s, master.decided.exposure_s
        _, exposure_note = _near(kind, _EXPOSURE, wanted_s, exposure_s, " s", EXPOSURE_TOLERANCE * (wanted_s or 0))
        ratio = _difference(_log(wanted_s), _log(exposure_s))
        temperature = _near(
            kind, _TEMPERATURE, frame.header.temperature_c, master.header.temperature_c, " C", TEMPERATURE_TOLERANCE_C
        )
        return [camera, gain, (ratio, exposure_note), temperature]
    wanted, found = frame.decided.filter, master.decided.filter
    through = _same(kind, _FILTER, wanted, wanted if filter_key(found) == filter_key(wanted) else found)
    return [camera, through, _turned(frame, master), _apart(frame, master)]


def _turned(frame: Frame, flat: Frame) -> _Criterion:
    if frame.header.rotation_deg is None or flat.header.rotation_deg is None:
        return math.inf, None
    angle = abs((flat.header.rotation_deg - frame.header.rotation_deg + 180) % 360 - 180)
    off = angle > ROTATION_TOLERANCE_DEG
    return angle if off else 0.0, message("calibrate.turned", turn_deg=angle) if off else None


def _apart(frame: Frame, flat: Frame) -> _Criterion:
    days = _difference(_days(frame), _days(flat))
    off = SESSION_DAYS < days < math.inf
    return days, message("calibrate.other-day", days=days) if off else None


def _days(frame: Frame) -> float | None:
    """Days from J2000; None without a readable date."""
    return None if math.isnan(frame.header.time_s) else frame.header.time_s / 86400


def _log(value: float | None) -> float | None:
    return math.log(value) if value is not None and value > 0 else None


def _difference(a: float | None, b: float | None) -> float:
    return math.inf if a is None or b is None else abs(a - b)


def _same(kind: str, what: Message, wanted: str, got: str) -> _Criterion:
    if wanted == got:
        return 0.0, None
    return 1.0, message("calibrate.unlike", kind=kind, what=what, got=got or _UNKNOWN, wanted=wanted or _UNKNOWN)


def _near(kind: str, what: Message, wanted: float | None, got: float | None, unit: str, tolerance: float) -> _Criterion:
    if wanted is None or got is None:
        only_one = (wanted is None) != (got is None)
        who = message("calibrate.frame") if wanted is None else kind
        return math.inf, message("calibrate.not-known", kind=kind, what=what, who=who) if only_one else None
    off = abs(got - wanted)
    if off <= tolerance:
        return off, None
    return off, message("calibrate.far", kind=kind, what=what, got=got, wanted=wanted, unit=unit)
