"""Whether a stated saturation level can be true."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["is_sky_above"]

SHARE_ABOVE = 0.9
"""Share of the samples of one channel above a level from which their sky is above it."""


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
        if np.any(known > 0):
            low, high = np.percentile(samples[known > 0], [100 * (1 - SHARE_ABOVE), 100 * SHARE_ABOVE])
            if high > low > level:
                return True
    return False
