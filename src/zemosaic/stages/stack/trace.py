"""What a stack did with each sample of one pixel: the passes are those of any stack, watched."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.stack.samples import noise_of, weighted_variance
from zemosaic.model.box import Box
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.passes import Channel
from zemosaic.stages.stack.stack import Cube, StackedPatch, stack_cube

__all__ = ["PixelTrace", "trace_pixel"]

F4 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PixelTrace:
    """The samples of one pixel in one channel, and what became of them; arrays of shape (n,), one a frame.

    Attributes
    ----------
    values, weights : ndarray, float32
        Weight 0: the frame has no sample there, whatever the value.
    clipped_by : tuple of str
        "" for a sample that was kept; else which pass clipped it, by the words of `stack_cube`.
    sigma : ndarray, float32
        Noise of each sample at the level of the stack, mosaic units.
    centre : float
        Mean of the two middle values in the last round of clipping; NaN where the method looks at none.
    lowest, highest : ndarray, float32
        Between them a sample is not clipped for itself; NaN where the method has no such limits.
    """

    values: F4
    weights: F4
    clipped_by: tuple[str, ...]
    sigma: F4
    centre: float
    lowest: F4
    highest: F4

    def times(self, factor: float) -> PixelTrace:
        """The same in another unit, as `StackedPatch.times`."""
        by = np.float32(factor)
        return replace(
            self,
            values=self.values * by,
            weights=self.weights / by / by,
            sigma=self.sigma * by,
            centre=self.centre * factor,
            lowest=self.lowest * by,
            highest=self.highest * by,
        )


def trace_pixel(
    cube: Cube, pixel: tuple[int, int], fwhm_px: float, settings: StackSettings
) -> tuple[StackedPatch, list[PixelTrace]]:
    """Stack one pixel and tell what became of each of its samples.

    Parameters
    ----------
    cube : Cube
        With all samples within `border_px` of the pixel; changed as by `stack_cube`.
    pixel : (y, x)
        In the cube.
    fwhm_px : float
        As for `stack_cube`.
    settings : StackSettings

    Returns
    -------
    (StackedPatch, list of PixelTrace)
        The pixel as any stack has it, of shape ``(c, 1, 1)``, and a trace a channel.
    """
    y, x = pixel
    ends: list[Channel] = []
    clipped_by: list[list[str]] = []

    def note(judged: str, channel: Channel) -> None:
        weights = channel.samples.weights
        if not ends or ends[-1] is not channel:
            ends.append(channel)
            clipped_by.append([""] * len(weights))
        words = clipped_by[-1]
        for i in np.flatnonzero(weights[:, y, x] < 0):
            words[i] = words[i] or judged

    stacked = stack_cube(cube, fwhm_px, settings, Box(y, y + 1, x, x + 1), watch=note)
    if not ends:  # the method clips nothing, so that it was never shown
        ends = [cube.channel(c) for c in range(len(cube.values))]
        clipped_by = [[""] * cube.values.shape[1] for _ in ends]
    return stacked, [_trace(ends[c], pixel, tuple(clipped_by[c]), settings) for c in range(len(ends))]


def _trace(
    channel: Channel, pixel: tuple[int, int], clipped_by: tuple[str, ...], settings: StackSettings
) -> PixelTrace:
    """What the maps of a stacked channel tell of the samples of a pixel."""
    method, maps, samples = METHODS[settings.method], channel.maps, channel.samples
    values, weights = samples.values[:, *pixel].copy(), np.abs(samples.weights[:, *pixel])
    low, high, spread, guard = (float(plane[pixel]) for plane in (maps.low, maps.high, maps.spread, maps.guard))
    centre = (low + high) / 2
    variance = [
        weighted_variance(samples.alpha[i, *pixel], np.float32(centre), noise_of(samples.noise, i)) / weights[i]
        for i in np.flatnonzero(weights)
    ]
    sigma = np.full(len(values), np.nan, np.float32)
    sigma[weights > 0] = np.sqrt(variance)
    lowest = highest = np.full(len(values), np.nan, np.float32)
    if method.by_kappa:
        scatter = np.maximum(sigma, spread)
        lowest = (low - guard - settings.kappa_low * scatter).astype(np.float32)
        highest = (high + guard + settings.kappa_high * scatter).astype(np.float32)
    return PixelTrace(values, weights, clipped_by, sigma, centre if method.guarded else np.nan, lowest, highest)
