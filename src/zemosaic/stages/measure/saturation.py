"""Whether a stated saturation level can be true, and which level the pixels show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Top", "find_plateau", "is_sky_above", "look_at_top", "shared_plateau"]

SHARE_ABOVE = 0.9
"""Share of the samples of one channel above a level from which their sky is above it."""


_PLATEAU_PIXELS = 4
"""Pixels that share the highest value of a frame exactly, from which it is where the camera saturates."""

_LEAST_FRAMES = 2
"""Frames that must pile up at one value before it is their camera's: one may have been cut by a program."""

_OUT_OF_SKY = 3.0
"""Times the range from the 5th to the 95th percentile by which a plateau must lie above the median, ten sigma of noise:
the highest whole numbers of a dark sky are shared by some pixels too."""

_SAMPLES = 50_000
"""Samples that tell the range of a sky."""


def find_plateau(samples: npt.NDArray[np.float32]) -> float:
    """The highest value where several samples share it exactly (saturation), else inf; samples have weight."""
    if not samples.size:
        return float("inf")
    top = float(samples.max())
    return top if np.count_nonzero(samples == top) >= _PLATEAU_PIXELS else float("inf")


@dataclass(frozen=True, slots=True)
class Top:
    """The highest samples of one frame.

    Attributes
    ----------
    level : float
        The highest one; -inf where there is none.
    is_pile : bool
        Whether several share it, far above the sky.
    """

    level: float
    is_pile: bool


def look_at_top(channels: npt.NDArray[np.float32], weight: npt.NDArray[np.float32]) -> Top:
    """The highest of a frame's samples; `channels` and `weight` as in `is_sky_above`."""
    samples = channels[weight > 0]
    level = find_plateau(samples)
    if level == np.inf:
        return Top(float(samples.max(initial=-np.inf)), is_pile=False)
    for channel, known in zip(channels, weight, strict=True):
        sky = channel[known > 0]
        if np.any(sky == level):
            low, middle, high = np.percentile(sky[:: max(len(sky) // _SAMPLES, 1)], [5, 50, 95])
            if level > middle + _OUT_OF_SKY * (high - low):
                return Top(level, is_pile=True)
    return Top(level, is_pile=False)


def shared_plateau(tops: Sequence[Top]) -> float:
    """The level at which frames of one camera pile up and that no sample of any exceeds; inf where there is none."""
    highest = max((top.level for top in tops), default=np.inf)
    n_shown = sum(top.is_pile and top.level == highest for top in tops)
    return highest if n_shown >= _LEAST_FRAMES else float("inf")


def is_sky_above(channels: npt.NDArray[np.float32], weight: npt.NDArray[np.float32], level: float) -> bool:
    """Whether the sky of a channel lies above a level of saturation, and so contradicts it.

    An overexposed channel does not: its samples pile up at one value, or scatter about the level where a flat field
    has been divided out.

    Parameters
    ----------
    channels, weight : ndarray, float32, shape (c, n)
        Samples by channel, or by their place in the cells of a raw plane; 0 weight where there is no data.
    level : float
        Input units; inf where none is stated.
    """
    if level == np.inf:
        return False
    for samples, known in zip(channels, weight, strict=True):
        sky = samples[known > 0]
        if len(sky) and np.count_nonzero(sky > level) >= SHARE_ABOVE * (len(sky) - 1):  # counted first: seldom so many
            low, high = np.percentile(sky, [100 * (1 - SHARE_ABOVE), 100 * SHARE_ABOVE])
            if high > low > level:
                return True
    return False
