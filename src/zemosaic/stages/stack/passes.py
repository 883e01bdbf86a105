"""The passes of a stack over one channel's samples that are the same whatever the method.

`zemosaic.stages.stack.stack` tells what they do and calls them in order. Each marks samples in place, in slices of work
between which it calls `check`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.stack import grow, order, pairs, regions, saturated, template
from zemosaic.kernels.stack.normal_tables import spread_table
from zemosaic.kernels.stack.samples import FrameNoise, Maps, Samples
from zemosaic.model.box import Box
from zemosaic.model.each import Each
from zemosaic.settings import StackSettings

__all__ = ["Channel", "clip_pairs", "find_spans", "grow_regions", "make_template", "mark_regions", "yield_saturated"]

F4 = npt.NDArray[np.float32]
U1 = npt.NDArray[np.uint8]
Check = Callable[[], None]

SLICE_SAMPLES = 2_000_000
"""Samples of some rows worked on between two calls of `check`: below 0.05 s for the slowest method."""

TEMPLATE_SIGMA = 5.0
"""Template noise taken out of its steepness; leaves the guard at 0 on more than 99 % of blank sky."""

GROW_SIGMA = 0.5
"""A sample beside a clipped region joins it when its 3 x 3 mean deviates by this much: 1.5 sigma of such a mean.

One in fifteen samples beside a region deviates so by noise, which takes a few of them from one frame; a trail's rim of
half a sigma, which goes on for all of its length, would stay with twice as much.
"""

PAIR_SIGMA = 5.0
"""The higher of two samples goes beyond this many sigma of their difference: noise does it once in three million."""

STAR_SIGMA = np.float32(3.0)
"""Wide guard: a sample on a star this far inside the scatter of its pixel is explained by the seeing."""


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One channel's samples and maps as the kernels take them.

    Attributes
    ----------
    samples : Samples
    maps : Maps
    table : ndarray, float32
        `spread_table` for the number of frames.
    """

    samples: Samples
    maps: Maps
    table: F4

    @classmethod
    def of(cls, values: F4, weights: F4, alpha: U1, noise: FrameNoise) -> Channel:
        """A channel whose spans and maps are yet to be found."""
        low, high, spread, guard = np.zeros((4, *values.shape[1:]), np.float32)
        kept = np.zeros(values.shape[1:], np.int32)
        span = np.zeros((*values.shape[:2], 2), np.int32)
        samples = Samples(values, weights, alpha, noise, span)
        return cls(samples, Maps(low, high, spread, guard, kept), spread_table(len(values)))

    def by_rows(self, work: Callable[[int, int], None], n_rows: int, check: Check, each: Each) -> None:
        """Do ``work(y0, y1)`` for ranges of rows with about `SLICE_SAMPLES` samples each, which share nothing."""
        n, _, w = self.samples.values.shape

        def one(rows: tuple[int, int]) -> None:
            check()
            work(*rows)

        deque(each(one, _ranges(n_rows, max(SLICE_SAMPLES // max(n * w, 1), 1))), maxlen=0)

    def by_frames(self, work: Callable[[int, int], None], check: Check) -> None:
        """Do ``work(i0, i1)`` for ranges of frames, one after the other: they share the number of samples left."""
        n, h, w = self.samples.values.shape
        # Each range begins with maps of its own: larger ones cost less.
        for i0, i1 in _ranges(n, max(4 * SLICE_SAMPLES // max(h * w, 1), 1)):
            check()
            work(i0, i1)


def _ranges(total: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, step):
        yield start, min(start + step, total)


def find_spans(channel: Channel, reach: Sequence[Box], check: Check, each: Each) -> None:
    """Where each frame has samples, all of them in its box of `reach`: what lies outside is not looked at again."""
    weights, span = channel.samples.weights, channel.samples.span
    boxes = np.array([[b.y0, b.y1, b.x0, b.x1] for b in reach], np.int32).reshape(-1, 4)
    channel.by_rows(lambda y0, y1: order.find_spans(weights, boxes, y0, y1, span), weights.shape[1], check, each)


def yield_saturated(channel: Channel, check: Check, each: Each) -> None:
    """Saturated samples, and their rims, give way where others say more."""
    samples, h = channel.samples, channel.samples.values.shape[1]
    yielded = np.zeros(h, np.bool_)
    channel.by_rows(lambda y0, y1: saturated.yield_rows(samples, y0, y1, yielded), h, check, each)
    channel.by_rows(lambda y0, y1: saturated.yield_rims(samples, y0, y1, yielded), h, check, each)


def make_template(
    channel: Channel, fwhm_px: float, settings: StackSettings, wide: bool, check: Check, each: Each
) -> None:
    """Passes 1 and 2: middle values, scatter, number and guard of every pixel; the guard wider on stars."""
    samples, maps = channel.samples, channel.maps
    h = maps.low.shape[0]
    precision, median, variance = np.empty((3, *maps.low.shape), np.float32)

    def rows(y0: int, y1: int) -> None:
        template.template_rows(samples, maps, y0, y1, channel.table, precision)

    channel.by_rows(rows, h, check, each)
    check()
    template.median_rows(maps, precision, 0, h, median, variance)
    factor = settings.structure_guard
    template.steepness_rows((median, variance), (0, h), fwhm_px / 2, TEMPLATE_SIGMA, factor, maps.guard)
    if wide:
        # Where no scatter is in the threshold it widens the guard on stars, up to 3 times.
        maps.guard[...] += np.minimum(STAR_SIGMA * maps.spread, 2 * maps.guard)


def clip_pairs(channel: Channel, settings: StackSettings, check: Check, each: Each) -> None:
    """Pass 3, where two frames meet: the higher sample goes where it is too far above the other."""
    n_sigma = np.float32(max(PAIR_SIGMA, settings.kappa_high))
    n_rows = channel.samples.values.shape[1]
    channel.by_rows(
        lambda y0, y1: pairs.clip_pairs(channel.samples, channel.maps, y0, y1, n_sigma), n_rows, check, each
    )


def mark_regions(channel: Channel, settings: StackSettings, check: Check) -> None:
    """Pass 5: reject regions that deviate as a whole, some frames at a time."""
    threshold = np.float32(settings.region_sigma)
    channel.by_frames(lambda i0, i1: regions.mark_regions(channel.samples, channel.maps, i0, i1, threshold), check)


def grow_regions(channel: Channel, settings: StackSettings, check: Check) -> None:
    """Pass 6: grow clipped regions, some frames at a time."""
    sigma, passes = np.float32(GROW_SIGMA), settings.grow_px
    channel.by_frames(lambda i0, i1: grow.grow_frames(channel.samples, channel.maps, i0, i1, sigma, passes), check)
