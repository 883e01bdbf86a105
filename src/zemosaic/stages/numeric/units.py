"""Values of any unit, brought near the size that single precision and absolute limits are made for."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zemosaic.stages.numeric.quantile import quantile_of

__all__ = ["noise_unit", "sample_noise"]

F4 = npt.NDArray[np.float32]

_ROW_STEP = 16
"""Rows between rows that tell the unit of an image, which a factor of a thousand either way does not change."""

_PLAIN = 1e-6, 1e6
"""Noise that needs no other unit: its square, and that of a block's mean, lie far from where single precision ends and
from the smallest numbers that keep a division from failing."""


def noise_unit(noise: float) -> float:
    """What to divide values of some noise by: a power of two near it, so that nothing is rounded; 1 for usual units.

    Fluxes in erg, janskys or counts over a million have a noise of 1e-19 or 1e7, whose variance single precision
    cannot hold. Noise that is 0 or not finite gives 1.

    Parameters
    ----------
    noise : float
        Typical noise of a sample.
    """
    if not 0 < noise < math.inf or _PLAIN[0] <= noise <= _PLAIN[1]:
        return 1.0
    return 2.0 ** round(math.log2(noise))


def sample_noise(data: F4, weight: F4) -> float:
    """About the noise of a sample, from samples two columns apart, which in a Bayer plane have one colour.

    Parameters
    ----------
    data : ndarray, shape (c, h, w), float32
        In any unit.
    weight : ndarray, shape (1 or c, h, w), float32
        0 where there is no data.

    Returns
    -------
    float
        0 where no two samples can be compared or most are equal.
    """
    rows = slice(None, None, _ROW_STEP)
    some, good = data[:, rows], np.broadcast_to(weight[:, rows] > 0, data[:, rows].shape)
    apart = np.abs(some[..., 2:] - some[..., :-2])[good[..., 2:] & good[..., :-2]]
    return 1.4826 * quantile_of(apart, 0.5) / math.sqrt(2) if len(apart) else 0.0
