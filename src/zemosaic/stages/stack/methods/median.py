"""The plain, unweighted median; on stars the mean of what lies within the guard (`finish_median`)."""

from __future__ import annotations

from zemosaic.kernels.stack.combine import finish_median
from zemosaic.kernels.stack.samples import Planes
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.method import Method
from zemosaic.stages.stack.passes import Channel

__all__ = ["METHOD"]


def _finish(
    channel: Channel, settings: StackSettings, y0: int, y1: int, corner: tuple[int, int], planes: Planes
) -> None:
    finish_median(channel.samples, channel.maps, y0, y1, corner, planes)


METHOD = Method(finish=_finish, wide_guard=True)
