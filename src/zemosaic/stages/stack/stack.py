"""Combining the samples of all frames that reach a patch: mean, median, and clipping outliers first.

A stack is made channel by channel in up to six passes over rows of the patch:

1. the median of all samples of a pixel (the template), their scatter and their noise;
2. the template's steepness within half a FWHM, less its noise: the guard that lets star cores and wings survive
   changing seeing;
3. clipping (`Method`), with one noise model for all methods;
4. rejecting regions of a frame that deviate as a whole, though no pixel does (`region_sigma`);
5. growing clipped regions into their rims, frame by frame;
6. the weighted mean of what is left, summed in double precision in the order of the frames.

Every result is a function of the samples within `border_px` of its pixel, so it does not depend on how the sky was
cut into patches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.stack import combine
from zemosaic.kernels.stack.normal_tables import trimmed_variance
from zemosaic.kernels.stack.regions import REACH_PX
from zemosaic.model.box import Box
from zemosaic.model.each import Each
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.passes import (
    Channel,
    clip_outliers,
    find_spans,
    grow_regions,
    make_template,
    mark_regions,
)

__all__ = [
    "METHODS",
    "MeanStack",
    "Method",
    "StackedPatch",
    "border_px",
    "bytes_per_pixel",
    "bytes_per_sample",
    "stack_cube",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
I2 = npt.NDArray[np.int16]
I4 = npt.NDArray[np.int32]
U1 = npt.NDArray[np.uint8]
Check = Callable[[], None]

MAX_FRAMES = 32767
"""Counts are 16-bit integers."""


@dataclass(frozen=True, slots=True)
class Method:
    """What a method of combining needs.

    Attributes
    ----------
    guarded : bool
        Whether it looks at the template first, so that all samples of a pixel and of its neighbours must be in
        memory at once; otherwise frames can be added one by one (`MeanStack`).
    rejects : bool
        Whether samples are left out.
    grows : bool
        Whether clipped regions grow into their rims.
    """

    guarded: bool
    rejects: bool
    grows: bool


METHODS: dict[str, Method] = {
    "mean": Method(guarded=False, rejects=False, grows=False),
    "median": Method(guarded=True, rejects=False, grows=False),
    "minmax": Method(guarded=True, rejects=True, grows=False),
    "kappa_sigma": Method(guarded=True, rejects=True, grows=True),
    "winsorized": Method(guarded=True, rejects=True, grows=True),
    "linear_fit": Method(guarded=True, rejects=True, grows=True),
    "esd": Method(guarded=True, rejects=True, grows=True),
}
"""The methods of `StackSettings.method` by name."""


@dataclass(frozen=True, slots=True, eq=False)
class StackedPatch:
    """The stack of a patch; every array has shape ``(c, h, w)``.

    Attributes
    ----------
    data : ndarray, float32
        Combined values; 0 where there is no sample.
    weight : ndarray, float32
        Sum of the weights of the samples kept; 0 where there is none.
    variance : ndarray, float32
        Variance of `data` from the samples' own variances; 0 where there is no sample.
    coverage : ndarray, int16
        Frames with weight, before clipping.
    rejected : ndarray, int16
        Samples clipped.
    exposure : ndarray, float32
        Sum of the exposure times of the frames kept.
    saturated : ndarray, uint8
        1 where a sample that was kept is saturated.
    """

    data: F4
    weight: F4
    variance: F4
    coverage: I2
    rejected: I2
    exposure: F4
    saturated: U1

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> StackedPatch:
        """A patch of `shape` that no frame reaches."""
        return cls(
            data=np.zeros(shape, np.float32),
            weight=np.zeros(shape, np.float32),
            variance=np.zeros(shape, np.float32),
            coverage=np.zeros(shape, np.int16),
            rejected=np.zeros(shape, np.int16),
            exposure=np.zeros(shape, np.float32),
            saturated=np.zeros(shape, np.uint8),
        )

    @classmethod
    def without_sides(cls, shape: tuple[int, int, int]) -> StackedPatch:
        """As `empty`, with no pixels in variance, exposure time and saturation: runs that write none spare them."""
        none = (shape[0], 0, 0)
        return replace(
            cls.empty(shape),
            variance=np.zeros(none, np.float32),
            exposure=np.zeros(none, np.float32),
            saturated=np.zeros(none, np.uint8),
        )


def border_px(settings: StackSettings, fwhm_px: float) -> int:
    """How far from a pixel the samples lie that can change its stack.

    The guard reaches half a FWHM (rounded to the nearest pixel); growing reaches its passes and the local mean 1 px
    more, and needs centres, hence the guard, and regions there.

    Parameters
    ----------
    settings : StackSettings
        Method and reach of growing.
    fwhm_px : float
        FWHM of stars on the output grid, one value for the whole run.
    """
    method = METHODS[settings.method]
    if not method.guarded:
        return 0
    grown = settings.grow_px + 1 if method.grows and settings.grow_px > 0 else 0
    region = REACH_PX if method.grows and settings.region_sigma > 0 else 0
    return int(fwhm_px / 2 + 0.5) + region + grown


def bytes_per_pixel(method: str) -> float:
    """Memory for each pixel and channel of a patch besides its samples: result and scratch."""
    result = 4 * 4 + 2 * 2 + 1
    if not METHODS[method].guarded:
        return result + 4 * 8.0
    return result + 8 * 4.0 + 4 + 1


def bytes_per_sample(n_channels: int) -> int:
    """Memory for each frame at each pixel of a patch while it is stacked: values and weights of 4 bytes, one alpha.

    The kernels add nothing that grows with the samples; methods that need not all samples at once hold those of one
    frame.
    """
    return 8 * n_channels + 1


class MeanStack:
    """Weighted mean of frames added one by one, with no cube; equals the mean of `stack_cube` to the byte.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height, width.
    sides : bool
        Whether variance, exposure time and saturation are summed too, which takes as much time as the mean itself.
        Without them these planes of the result are empty, of shape ``(c, 0, 0)``.
    """

    def __init__(self, shape: tuple[int, int, int], *, sides: bool = True) -> None:
        self._out = StackedPatch.empty(shape) if sides else StackedPatch.without_sides(shape)
        self._products: F8 = np.zeros(shape)
        self._weight: F8 = np.zeros(shape)
        self._side_sums: F8 | None = np.zeros((2, *shape)) if sides else None

    def add(self, values: F4, weights: F4, alpha: U1, exposure: float, y0: int = 0, x0: int = 0) -> None:
        """Add one frame; frames must be added in the order of their ids for results equal to the byte.

        Parameters
        ----------
        values, weights : ndarray, float32, shape (c, h, w)
            Samples; those of weight 0 are not there.
        alpha : ndarray, uint8, shape (h, w), or (c, h, w) for channels that differ
            Low 7 bits 1..127 for alpha 0..1; bit 128 marks saturated samples.
        exposure : float
            Exposure time.
        y0, x0 : int
            Where the frame's first pixel lies in the patch.
        """
        out, side_sums = self._out, self._side_sums
        for c in range(values.shape[0]):
            combine.accumulate_frame(values[c], weights[c], y0, x0, self._products[c], self._weight[c], out.coverage[c])
            if side_sums is not None:
                one_alpha = alpha if alpha.ndim == 2 else alpha[c]
                alpha_sum, exposure_sum = side_sums[:, c]
                combine.accumulate_sides(
                    weights[c], one_alpha, np.float32(exposure), y0, x0, alpha_sum, exposure_sum, out.saturated[c]
                )

    def finish(self) -> StackedPatch:
        """The mean of all frames added so far; nothing can be added any more."""
        out = self._out
        for c in range(len(out.data)):
            combine.finish_mean(self._products[c], self._weight[c], out.data[c], out.weight[c])
            if self._side_sums is not None:
                alpha_sum, exposure_sum = self._side_sums[:, c]
                combine.finish_sides(self._weight[c], alpha_sum, exposure_sum, out.variance[c], out.exposure[c])
        return out


def stack_cube(
    values: F4,
    weights: F4,
    alpha: U1,
    sky: F4,
    poisson: F4,
    exposure: F4,
    fwhm_px: float,
    settings: StackSettings,
    inner: Box | None = None,
    check: Check = lambda: None,
    pixel_share: F4 | None = None,
    each: Each = map,
) -> StackedPatch:
    """Stack the samples of a patch.

    Parameters
    ----------
    values, weights : ndarray, float32, shape (c, n, h, w)
        Samples of n frames sorted by id; those of weight 0 are not there, whatever their value. **The weights of
        clipped samples are made negative in place.**
    alpha : ndarray, uint8, shape (c, n, h, w) or (n, h, w)
        Low 7 bits 1..127 for alpha 0..1, so that a sample's variance is ``alpha / weight``; bit 128 marks saturated
        samples. Channels may share one.
    sky : ndarray, float32, shape (c, n)
        Sky level of each frame in units of `values`.
    poisson : ndarray, float32, shape (c, n)
        Variance for each unit of signal above the sky; 0 where it is not known.
    exposure : ndarray, float32, shape (n,)
        Exposure time of each frame.
    fwhm_px : float
        FWHM of stars on the output grid, one value for the whole run.
    settings : StackSettings
        Method and thresholds.
    inner : Box, optional
        What to return, in pixels of the cube; the rest is border (`border_px`). Default: all.
    check : callable
        Called between slices of work below half a second; it may raise to stop.
    pixel_share : ndarray, float32, shape (c,), optional
        Variance of a single sample over the variance of means over large areas that its weight states (default 1):
        samples are judged by their own noise, and `StackedPatch` is in the terms of the weights given.
    each : callable
        Ranges of rows may be worked on at once.

    Returns
    -------
    StackedPatch
        Of the shape of `inner`.

    Raises
    ------
    ValueError
        For shapes or types that do not fit together, or more than 32767 frames.
    """
    _validate(values, weights, alpha, sky, poisson, exposure)
    inner = Box.of_shape(values.shape[2:]) if inner is None else inner
    method = METHODS[settings.method]
    out = StackedPatch.empty((values.shape[0], *inner.shape))
    for c in range(values.shape[0]):
        if pixel_share is not None:
            weights[c] /= pixel_share[c]
        channel = Channel.of(values[c], weights[c], alpha[c] if alpha.ndim == 4 else alpha, sky[c], poisson[c])
        find_spans(channel, check, each)
        if method.guarded:
            make_template(channel, fwhm_px, settings, not method.grows, check, each)
        if method.rejects:
            clip_outliers(channel, settings, check, each)
        if method.grows and settings.region_sigma > 0:
            mark_regions(channel, 1.0 if pixel_share is None else 1 / float(pixel_share[c]), settings, check)
        if method.grows and settings.grow_px > 0:
            grow_regions(channel, settings, check)
        _combine(channel, exposure, inner, out, c, check, each)
        if settings.method == "median":
            _take_median(channel, inner, out, c, check, each)
        elif settings.method == "minmax":
            factor = trimmed_variance(len(exposure), settings.minmax_low, settings.minmax_high)
            dropped = out.rejected[c] == settings.minmax_low + settings.minmax_high
            out.variance[c] *= np.where(dropped, factor[out.coverage[c]], np.float32(1))
        if pixel_share is not None:
            out.weight[c] *= pixel_share[c]
            out.variance[c] /= pixel_share[c]
    return out


def _validate(values: F4, weights: F4, alpha: U1, sky: F4, poisson: F4, exposure: F4) -> None:
    if values.ndim != 4 or weights.shape != values.shape or alpha.shape not in {values.shape, values.shape[1:]}:
        shapes = f"{values.shape}, {weights.shape}, {alpha.shape}"
        raise ValueError(f"values, weights and alpha must share one shape (c, n, h, w), got {shapes}")
    c, n = values.shape[:2]
    if sky.shape != (c, n) or poisson.shape != (c, n) or exposure.shape != (n,):
        shapes = f"{sky.shape}, {poisson.shape}, {exposure.shape}"
        raise ValueError(f"sky and poisson must have shape {(c, n)} and exposure {(n,)}, got {shapes}")
    arrays = (values, weights, alpha, sky, poisson, exposure)
    types = [a.dtype for a in arrays]
    if types != [np.float32, np.float32, np.uint8, np.float32, np.float32, np.float32]:
        raise ValueError(f"samples must be float32 and alpha uint8, got {', '.join(map(str, types))}")
    if not all(a.flags.c_contiguous for a in arrays):
        raise ValueError("arrays must be in C order")
    if n > MAX_FRAMES:
        raise ValueError(f"at most {MAX_FRAMES} frames can be stacked at once, got {n}")


def _combine(channel: Channel, exposure: F4, inner: Box, out: StackedPatch, c: int, check: Check, each: Each) -> None:
    """Pass 6: the weighted mean of what is left, and all counts."""

    def rows(y0: int, y1: int) -> None:
        combine.combine_rows(
            channel.samples,
            exposure,
            y0,
            y1,
            inner.y0,
            inner.x0,
            out.data[c],
            out.weight[c],
            out.variance[c],
            out.coverage[c],
            out.rejected[c],
            out.exposure[c],
            out.saturated[c],
        )

    channel.by_rows(rows, inner.height, check, each)


def _take_median(channel: Channel, inner: Box, out: StackedPatch, c: int, check: Check, each: Each) -> None:
    """Replace the mean by the guarded median."""

    def rows(y0: int, y1: int) -> None:
        combine.finish_median(
            channel.samples,
            channel.maps,
            y0,
            y1,
            inner.y0,
            inner.x0,
            out.coverage[c],
            out.weight[c],
            out.data[c],
            out.variance[c],
        )

    channel.by_rows(rows, inner.height, check, each)
