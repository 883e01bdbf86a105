"""The mean without the lowest and highest values of a pixel; on stars only what lies beyond the guard is dropped."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.stack.normal_tables import trimmed_variance
from zemosaic.kernels.stack.samples import Planes
from zemosaic.kernels.stack.trim import trim_minmax_rows
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.method import Method
from zemosaic.stages.stack.passes import Channel

__all__ = ["METHOD"]


def _clip(channel: Channel, settings: StackSettings, y0: int, y1: int) -> None:
    trim_minmax_rows(channel.samples, channel.maps, y0, y1, settings.minmax_low, settings.minmax_high)


def _finish(
    channel: Channel, settings: StackSettings, y0: int, y1: int, corner: tuple[int, int], planes: Planes
) -> None:
    """The variance of a mean of ordered values is not that of as many random ones."""
    factor = trimmed_variance(len(channel.samples.values), settings.minmax_low, settings.minmax_high)
    dropped = planes.rejected[y0:y1] == settings.minmax_low + settings.minmax_high
    planes.variance[y0:y1] *= np.where(dropped, factor[planes.coverage[y0:y1]], np.float32(1))


METHOD = Method(
    tell=lambda settings: f"without {settings.minmax_low} lowest and {settings.minmax_high} highest",
    clip=_clip,
    finish=_finish,
    wide_guard=True,
)
