"""Combining the samples of all frames that reach a patch: mean, median, and clipping outliers first.

A stack is made channel by channel in up to seven passes over rows of the patch:

0. saturated samples, which are lower limits, give way where those that are not say more;
1. the median of all samples of a pixel (the template), their scatter and their noise;
2. the template's steepness within half a FWHM, less its noise: the guard that lets star cores and wings survive
   changing seeing;
3. of two samples alone, the higher goes where it is too far above the other;
4. clipping by the method (`zemosaic.stages.stack.methods`), with one noise model for all;
5. rejecting regions of a frame that deviate as a whole, though no pixel does (`region_sigma`);
6. growing clipped regions into their rims, frame by frame;
7. the weighted mean of what is left, summed in double precision in the order of the frames, and what the method
   makes of it.

Every result is a function of the samples within `border_px` of its pixel, so it does not depend on how the sky was
cut into patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.stack import combine
from zemosaic.kernels.stack.regions import REACH_PX
from zemosaic.kernels.stack.samples import FrameNoise, Planes, noise_of
from zemosaic.kernels.stack.saturated import RIM_PX
from zemosaic.model.box import Box
from zemosaic.model.each import Each
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.passes import (
    Channel,
    clip_pairs,
    find_spans,
    grow_regions,
    make_template,
    mark_regions,
    yield_saturated,
)

__all__ = [
    "Cube",
    "FrameNoise",
    "MeanStack",
    "StackedPatch",
    "border_px",
    "bytes_per_pixel",
    "bytes_per_sample",
    "stack_cube",
]

F4 = npt.NDArray[np.float32]
I2 = npt.NDArray[np.int16]
U1 = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Check = Callable[[], None]
Watch = Callable[[str, Channel], None]
_Sums = TypeVar("_Sums", combine.MeanSums, combine.SideSums, combine.PhotonSums)

MAX_FRAMES = 32767
"""Counts are 16-bit integers."""

STAND_IN = np.float32(1e-4)
"""Share of their weight with which witnesses stand in where all other samples are clipped: the value is theirs, so that
no kernel finds a hole there, and it weighs next to nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class StackedPatch:
    """The stack of a patch; arrays have shape ``(c, h, w)`` where no other is told.

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
    saturated : ndarray, int16
        Samples kept that are saturated.
    by_frame : tuple of (int, int)
        Samples of each frame of the cube, and how many of them were clipped; empty for means made with no cube.
    """

    data: F4
    weight: F4
    variance: F4
    coverage: I2
    rejected: I2
    exposure: F4
    saturated: I2
    by_frame: tuple[tuple[int, int], ...] = ()

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
            saturated=np.zeros(shape, np.int16),
        )

    def times(self, factor: float) -> StackedPatch:
        """The same stack, every value `factor` times as large; nothing is rounded where that is a power of two."""
        if factor == 1:
            return self
        by = np.float32(factor)
        # Step by step: the square of a factor alone may be more than single precision holds.
        return replace(self, data=self.data * by, weight=self.weight / by / by, variance=self.variance * by * by)

    def planes(self, c: int) -> Planes:
        """One channel, as the kernels fill it."""
        return Planes(
            self.data[c], self.weight[c], self.variance[c], self.coverage[c], self.rejected[c], self.exposure[c],
            self.saturated[c],
        )  # fmt: skip

    @classmethod
    def without_sides(cls, shape: tuple[int, int, int]) -> StackedPatch:
        """As `empty`, with no pixels in variance, exposure time and saturation: runs that write none spare them."""
        none = (shape[0], 0, 0)
        return replace(
            cls.empty(shape),
            variance=np.zeros(none, np.float32),
            exposure=np.zeros(none, np.float32),
            saturated=np.zeros(none, np.int16),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Cube:
    """The samples of a patch: those of n frames, in the order of their ids.

    Attributes
    ----------
    values, weights : ndarray, float32, shape (c, n, h, w)
        Those of weight 0 are not there, whatever their value.
    alpha : ndarray, uint8, shape (c, n, h, w) or (n, h, w)
        Low 7 bits 1..127 for alpha 0..1: ``alpha / 127 / weight`` is the variance that the weight states. Bit 128 marks
        saturated samples. Channels may share one.
    noise : FrameNoise
        Of arrays of shape (c, n).
    exposure : ndarray, float32, shape (n,)
        Exposure time of each frame.
    witness : ndarray, bool, shape (n,)
        Frames that only help to judge the samples of the others and count nowhere.
    reach : sequence of Box, optional
        Outside of its box, in pixels of the cube, a frame has no weight anywhere. Default: all, of each.

    Raises
    ------
    ValueError
        For shapes or types that do not fit together, or more than 32767 frames.
    """

    values: F4
    weights: F4
    alpha: U1
    noise: FrameNoise
    exposure: F4
    witness: Flags
    reach: Sequence[Box] | None = None

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 4 or self.weights.shape != shape or self.alpha.shape not in {shape, shape[1:]}:
            shapes = f"{shape}, {self.weights.shape}, {self.alpha.shape}"
            raise ValueError(f"values, weights and alpha must share one shape (c, n, h, w), got {shapes}")
        c, n = shape[:2]
        if any(a.shape != (c, n) for a in self.noise) or {self.exposure.shape, self.witness.shape} != {(n,)}:
            shapes = f"{', '.join(str(a.shape) for a in self.noise)}, {self.exposure.shape} and {self.witness.shape}"
            raise ValueError(f"noise must have shape {(c, n)}, exposure and witness {(n,)}, got {shapes}")
        arrays = (self.values, self.weights, *self.noise, self.exposure, self.alpha)
        types = [a.dtype for a in arrays]
        if types != [*[np.float32] * 6, np.uint8]:
            raise ValueError(f"samples must be float32 and alpha uint8, got {', '.join(map(str, types))}")
        if not all(a.flags.c_contiguous for a in arrays):
            raise ValueError("arrays must be in C order")
        whole = Box.of_shape(shape[2:])
        if len(self.boxes) != n or not all(box.is_empty or whole.contains(box) for box in self.boxes):
            raise ValueError(f"reach must be {n} boxes within {whole}, got {list(self.boxes)}")
        if n > MAX_FRAMES:
            raise ValueError(f"at most {MAX_FRAMES} frames can be stacked at once, got {n}")

    @property
    def boxes(self) -> Sequence[Box]:
        """`reach`, or all of the cube for each frame."""
        return [Box.of_shape(self.values.shape[2:])] * self.values.shape[1] if self.reach is None else self.reach

    def channel(self, c: int) -> Channel:
        """One channel as the passes take it; its weights are this cube's own."""
        alpha = self.alpha[c] if self.alpha.ndim == 4 else self.alpha
        return Channel.of(self.values[c], self.weights[c], alpha, FrameNoise(*(a[c] for a in self.noise)))


def border_px(settings: StackSettings, fwhm_px: float) -> int:
    """How far from a pixel the samples lie that can change its stack.

    Rims of saturation reach 2 px, the guard half a FWHM (rounded to the nearest pixel); growing reaches its passes and
    the local mean 1 px more, and needs centres, hence the guard, and regions there.

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
    return int(fwhm_px / 2 + 0.5) + region + grown + RIM_PX


def bytes_per_pixel(method: str) -> float:
    """Memory for each pixel and channel of a patch besides its samples: result and scratch."""
    result = 4 * 4 + 3 * 2
    if not METHODS[method].guarded:
        return result + 6 * 8.0
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
        self._mean = combine.MeanSums(np.zeros(shape), np.zeros(shape), self._out.coverage)
        self._sides = combine.SideSums(np.zeros(shape), np.zeros(shape), self._out.saturated) if sides else None
        self._photons: combine.PhotonSums | None = None

    def add(
        self,
        values: F4,
        weights: F4,
        alpha: U1,
        exposure: float,
        y0: int = 0,
        x0: int = 0,
        noise: FrameNoise | None = None,
    ) -> None:
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
        noise : FrameNoise, optional
            Of arrays of shape (c,). Default: it does not grow with the signal.
        """
        for c in range(values.shape[0]):
            mean = self._channel_of(self._mean, c)
            if self._sides is None:
                combine.add_frame(values[c], weights[c], (y0, x0), mean)
                continue
            one_alpha = alpha if alpha.ndim == 2 else alpha[c]
            sides = self._channel_of(self._sides, c)
            combine.add_samples(values[c], weights[c], one_alpha, np.float32(exposure), (y0, x0), mean, sides)
            if noise is not None and noise.slope[c] > 0:
                if self._photons is None:
                    self._photons = combine.PhotonSums(*np.zeros((2, *self._out.data.shape)))
                photons = self._channel_of(self._photons, c)
                combine.add_photons(weights[c], one_alpha, noise_of(noise, c), (y0, x0), photons)

    def finish(self) -> StackedPatch:
        """The mean of all frames added so far; nothing can be added any more."""
        out = self._out
        photons = self._photons or combine.PhotonSums(*np.zeros((2, len(out.data), 0, 0)))
        for c in range(len(out.data)):
            mean = self._channel_of(self._mean, c)
            combine.finish_mean(mean, out.data[c], out.weight[c])
            if self._sides is not None:
                sides, light = self._channel_of(self._sides, c), self._channel_of(photons, c)
                combine.finish_sides(mean, sides, light, out.variance[c], out.exposure[c])
        return out

    @staticmethod
    def _channel_of(sums: _Sums, c: int) -> _Sums:
        return type(sums)(*(a[c] for a in sums))


def stack_cube(
    cube: Cube,
    fwhm_px: float,
    settings: StackSettings,
    inner: Box | None = None,
    check: Check = lambda: None,
    each: Each = map,
    watch: Watch = lambda judged, channel: None,
) -> StackedPatch:
    """Stack the samples of a patch.

    Parameters
    ----------
    cube : Cube
        **The weights of clipped samples are made negative in place, those of witnesses 0.**
    fwhm_px : float
        FWHM of stars on the output grid, one value for the whole run.
    settings : StackSettings
        Method and thresholds.
    inner : Box, optional
        What to return, in pixels of the cube; the rest is border (`border_px`). Default: all.
    check : callable
        Called between slices of work below half a second; it may raise to stop.
    each : callable
        Ranges of rows may be worked on at once.
    watch : callable
        Shown each channel after each pass that may clip its samples, with the word for what the pass judged:
        "saturated", "pair", "sample", "region", "rim". It must change nothing.

    Returns
    -------
    StackedPatch
        Of the shape of `inner`.
    """
    inner = Box.of_shape(cube.values.shape[2:]) if inner is None else inner
    method, corner = METHODS[settings.method], (inner.y0, inner.x0)
    out = StackedPatch.empty((cube.values.shape[0], *inner.shape))
    counts = np.empty((inner.height, cube.values.shape[1], 2), np.int32)
    by_frame = np.zeros(counts.shape[1:], np.int64)
    for c in range(cube.values.shape[0]):
        channel, planes = cube.channel(c), out.planes(c)
        find_spans(channel, cube.boxes, check, each)
        for judged in _mark_outliers(channel, fwhm_px, settings, check, each):
            watch(judged, channel)

        def finish(y0: int, y1: int, channel: Channel = channel, planes: Planes = planes) -> None:
            combine.combine_rows(channel.samples, cube.exposure, y0, y1, corner, planes, counts)
            if method.finish is not None:
                method.finish(channel, settings, y0, y1, corner, planes)

        if cube.witness.any():
            everyone = StackedPatch.empty((1, *inner.shape)).planes(0)
            channel.by_rows(partial(finish, planes=everyone), inner.height, check, each)
            channel.samples.weights[cube.witness] = 0
            channel.by_rows(finish, inner.height, check, each)
            _stand_in(everyone, planes)
        else:
            channel.by_rows(finish, inner.height, check, each)
        by_frame += counts.sum(axis=0)
    return replace(out, by_frame=tuple((int(n), int(n_clipped)) for n, n_clipped in by_frame))


def _mark_outliers(
    channel: Channel, fwhm_px: float, settings: StackSettings, check: Check, each: Each
) -> Iterator[str]:
    """Passes 0 to 6 over one channel; after each that may clip samples, what it judged."""
    method = METHODS[settings.method]
    if method.guarded:
        yield_saturated(channel, check, each)
        yield "saturated"
        make_template(channel, fwhm_px, settings, method.wide_guard, check, each)
    if method.grows:
        clip_pairs(channel, settings, check, each)
        yield "pair"
    if (clip := method.clip) is not None:
        channel.by_rows(partial(clip, channel, settings), channel.samples.values.shape[1], check, each)
        yield "sample"
    if method.grows and settings.region_sigma > 0:
        mark_regions(channel, settings, check)
        yield "region"
    if method.grows and settings.grow_px > 0:
        grow_regions(channel, settings, check)
        yield "rim"


def _stand_in(everyone: Planes, planes: Planes) -> None:
    """Where all samples but those of witnesses are clipped: what the witnesses show."""
    empty = (planes.weight == 0) & (planes.coverage > 0)
    planes.data[empty] = everyone.data[empty]
    planes.weight[empty] = STAND_IN * everyone.weight[empty]
    planes.variance[empty] = everyone.variance[empty] / STAND_IN
