"""How much noise light brings: variance for a unit of signal, from headers and from the frames' own skies.

Photons are counted, so the variance of a sample grows with its light, by one ADU squared for each ADU where an ADU is
one electron (Janesick, Photon Transfer, SPIE 2007). Frames of one camera and setting under skies of different
brightness show it: ``noise^2 = read^2 + sky / (electrons per ADU)``. The noise of a frame's sky is measured; what is
found here says by how much more stars and nebulae scatter.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.text import Message, message

__all__ = ["PhotonNoise", "SkyNoise", "Transfer", "find_photon_noise", "fit_transfer"]

F8 = npt.NDArray[np.float64]

LEAST_FRAMES = 8
"""Fewer frames tell no scatter about their own line."""

LEAST_RISE = 0.25
"""The variance must rise over the frames' skies by this share of itself: less may be dark current or haze."""

LEAST_SIGNIFICANCE = 5.0
"""A slope of fewer sigma is none."""

LEAST_NOISE_ELECTRONS = 0.5
"""No camera reads with less noise: a smaller one shows that values are not counted in the units the header means."""

AGREEMENT = 1.5
"""A header that differs from the frames' own slope by more than this factor is not believed."""

STEPS_PER_DECADE = 24
"""Fitted slopes are rounded to steps of 10 %, so that a few more frames change nothing."""

ROUNDS = 12
"""Of reweighting; the line moves by less than its error after some five."""


@dataclass(frozen=True, slots=True, eq=False)
class SkyNoise:
    """What one frame tells of its noise.

    Attributes
    ----------
    camera : hashable
        Frames of equal value share camera, read-out and gain setting.
    sky, noise : ndarray, shape (c,)
        Level of the sky and noise of a sample there, input units.
    stated : float or None
        Electrons per input unit as the header states them.
    is_counted : bool
        Whether values are whole numbers as a camera writes them: what was scaled or interpolated has no such line.
    """

    camera: Hashable
    sky: F8
    noise: F8
    stated: float | None
    is_counted: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """The line of variance against level.

    Attributes
    ----------
    slope, error : float
        Variance for a unit of signal, and its one-sigma error; input units.
    rise : float
        By how much of its median the variance rises along the line over the frames' skies.
    """

    slope: float
    error: float
    rise: float

    @property
    def is_determined(self) -> bool:
        """Whether the levels span enough to tell the slope."""
        return self.rise > LEAST_RISE and self.slope > LEAST_SIGNIFICANCE * self.error


@dataclass(frozen=True, slots=True, eq=False)
class PhotonNoise:
    """The noise of light in every frame.

    Attributes
    ----------
    slopes : list of ndarray, shape (c,)
        For each frame: variance for a unit of signal (input units squared per input unit); 0 where it is not known.
    notes : list of Message
        For each camera where it comes from, or why it is not known.
    """

    slopes: list[F8]
    notes: list[Message]


def fit_transfer(sky: F8, noise: F8) -> Transfer:
    """The slope of variance against level of frames of one camera, unmoved by frames that lie off the line.

    Parameters
    ----------
    sky, noise : ndarray, shape (n,)
        Level and noise of each frame's sky, in input units.

    Returns
    -------
    Transfer
        Of slope 0 and infinite error below `LEAST_FRAMES` frames, or when all have one level.
    """
    variance = np.square(noise)
    if len(sky) < LEAST_FRAMES or not np.ptp(sky) > 0:
        return Transfer(0.0, float("inf"), 0.0)
    # Variances are known to a share of themselves.
    plain = np.square(np.median(variance) / variance)
    weight, slope = plain, 0.0
    x = y = residual = np.zeros_like(sky)
    scatter = 0.0
    for _ in range(ROUNDS):
        x = sky - np.sum(weight * sky) / np.sum(weight)
        y = variance - np.sum(weight * variance) / np.sum(weight)
        slope = float(np.sum(weight * x * y) / np.sum(weight * x * x))
        residual = np.sqrt(plain) * (y - slope * x)
        scatter = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        if scatter == 0:
            break
        weight = plain / (1 + np.square(residual / (2.385 * scatter)))
    error = scatter / float(np.sqrt(np.sum(weight * x * x)))
    low, high = np.percentile(sky, [5, 95])
    return Transfer(slope, error, float(slope * (high - low) / np.median(variance)))


def _why_not(stated: float, sky: F8, noise: F8, transfer: Transfer) -> Message | None:
    """What the frames of one camera and channel have against the electrons per ADU of their headers."""
    electrons = float(np.median(noise)) * stated
    if electrons < LEAST_NOISE_ELECTRONS:
        return message("noise.too-quiet", noise_electrons=electrons)
    if transfer.is_determined:
        ratio = transfer.slope * stated
        if not 1 / AGREEMENT < ratio < AGREEMENT:
            return message("noise.skies-show", electrons=1 / transfer.slope)
        return None
    low, high = np.percentile(sky, [5, 95])
    brightest = float(np.median(np.square(noise[sky >= high])))
    if (high - low) / stated > AGREEMENT * brightest:
        return message("noise.sky-too-quiet", variance=(high - low) / stated, shown=brightest)
    return None


def _rounded(slope: float) -> float:
    return float(10 ** (np.round(STEPS_PER_DECADE * np.log10(slope)) / STEPS_PER_DECADE))


def _of_camera(frames: Sequence[SkyNoise]) -> tuple[F8, Message]:
    """Slope of each channel of one camera's frames, and where it comes from."""
    sky, noise = (np.stack([getattr(f, name) for f in frames], axis=1) for name in ("sky", "noise"))
    counted = frames[0].is_counted
    fits = [fit_transfer(s, n) if counted else Transfer(0.0, np.inf, 0.0) for s, n in zip(sky, noise, strict=True)]
    found = np.array([_rounded(fit.slope) if fit.is_determined else 0.0 for fit in fits])
    stated = [f.stated for f in frames if f.stated is not None]
    if stated:
        value = float(np.median(stated))
        reasons = [_why_not(value, s, n, fit) for s, n, fit in zip(sky, noise, fits, strict=True)]
        reason = next(filter(None, reasons), None)
        if reason is None:
            return np.full(len(sky), 1 / value), message("noise.stated", electrons=value)
        told = message("noise.not-believed", electrons=value, reason=reason)
    else:
        told = message("noise.not-stated")
    if not np.any(found > 0):
        rise = max(0.0, *(fit.rise for fit in fits))
        why = message("noise.rise", share=rise) if counted else message("noise.not-counted")
        return found, message("noise.unknown", told=told, why=why)
    shown = [f"{1 / s:.3g}" if s > 0 else message("calibrate.unknown") for s in found]
    return found, message("noise.from-skies", electrons=shown, told=told)


def find_photon_noise(frames: Sequence[SkyNoise]) -> PhotonNoise:
    """The noise of light in every frame, for each camera from its headers, or else from its frames' skies.

    A header's value is believed where the frames have nothing against it: a noise below that of any camera, another
    slope than their skies show, or a sky that would be noisier than it is.

    Parameters
    ----------
    frames : sequence of SkyNoise
        In any order; the result does not depend on it.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.camera, []).append(index)
    slopes: list[F8] = [np.zeros(len(frame.sky)) for frame in frames]
    notes = []
    for members in groups.values():
        # Sums in one order whatever that of the frames.
        members.sort(key=lambda i: (*frames[i].sky, *frames[i].noise))
        slope, note = _of_camera([frames[i] for i in members])
        for index in members:
            slopes[index] = slope
        notes.append(message("noise.of-camera", n_frames=len(members), note=note))
    return PhotonNoise(slopes, notes)
