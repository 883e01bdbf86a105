"""What the kernels of a stack take: samples with their noise, the maps that clipping works with, the planes made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel

__all__ = ["FLAG_SATURATED", "FrameNoise", "Maps", "Planes", "Samples", "noise_of", "weighted_variance"]

F4 = npt.NDArray[np.float32]
I2 = npt.NDArray[np.int16]
I4 = npt.NDArray[np.int32]
U1 = npt.NDArray[np.uint8]

UNIT = np.float32(1 / 127)
"""Alpha is stored in 127ths."""

FLAG_SATURATED = 128
"""Bit of the alpha that marks a saturated sample."""


class FrameNoise(NamedTuple):
    """How the samples of each frame scatter, besides what their weights state.

    The variance of one sample is ``share * (alpha / 127 / weight) * (1 + slope * max(c - sky, 0))``, c the level of the
    stack at its pixel.

    Attributes
    ----------
    share : ndarray, float32, shape (n,)
        Variance of a single sample over that of means over large areas, which the weight states; 1 where samples do
        not hang together.
    sky : ndarray, float32, shape (n,)
        The frame's sky level: the weight states the noise there.
    slope : ndarray, float32, shape (n,)
        By how much of itself the variance grows for a unit of signal above the sky; 0 where that is not known.
    """

    share: F4
    sky: F4
    slope: F4

    @classmethod
    def of_sky(cls, shape: tuple[int, ...]) -> FrameNoise:
        """Samples that do not hang together, of noise that does not grow with the signal."""
        return cls(np.ones(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32))


class Samples(NamedTuple):
    """The samples of one channel.

    Attributes
    ----------
    values, weights : ndarray, float32, shape (n, h, w)
        Samples of n frames in the order of their ids. Weight 0: there is none, whatever its value; negative: clipped.
    alpha : ndarray, uint8, shape (n, h, w)
        Low 7 bits 1..127 for alpha 0..1; bit 128 marks saturated samples.
    noise : FrameNoise
    span : ndarray, int32, shape (n, h, 2)
        Where each frame has samples in each row, as `find_spans` makes it.
    """

    values: F4
    weights: F4
    alpha: U1
    noise: FrameNoise
    span: I4


class Maps(NamedTuple):
    """What is known of every pixel of a channel.

    Attributes
    ----------
    low, high : ndarray, float32, shape (h, w)
        The two middle values of its samples, equal for an odd number; 0 where there is none.
    spread : ndarray, float32, shape (h, w)
        Robust scatter of its samples; 0 below `MIN_SPREAD_COUNT`.
    guard : ndarray, float32, shape (h, w)
        How far beyond the middle values a sample may lie for the image's own steepness.
    kept : ndarray, int32, shape (h, w)
        Samples not clipped.
    """

    low: F4
    high: F4
    spread: F4
    guard: F4
    kept: I4


class Planes(NamedTuple):
    """One channel of a stack; every array has shape (H, W).

    Attributes
    ----------
    data, weight, variance : ndarray, float32
        Combined value, sum of the weights kept, variance of the value as it adds up over areas; 0 without samples.
    coverage, rejected : ndarray, int16
        Samples before clipping, samples clipped.
    exposure : ndarray, float32
        Sum of the exposure times of the samples kept.
    saturated : ndarray, int16
        Samples kept that are saturated.
    """

    data: F4
    weight: F4
    variance: F4
    coverage: I2
    rejected: I2
    exposure: F4
    saturated: I2


@kernel
def noise_of(noise, i):
    """The noise of frame `i`: three numbers as `weighted_variance` takes them."""
    return UNIT * noise.share[i], noise.sky[i], noise.slope[i]


@kernel
def weighted_variance(alpha, centre, noise):
    """Variance of one sample (`FrameNoise`) times its weight, for the stack's level `centre` at its pixel."""
    share, sky, slope = noise
    zero = np.float32(0)
    signal = centre - sky
    return share * np.float32(alpha & 127) * (np.float32(1) + slope * (signal if signal > zero else zero))
