"""Clipping by kappa sigma, the scatter from the range of the inner three fifths of the sorted values."""

from __future__ import annotations

from zemosaic.kernels.stack.clip import KAPPA_SIGMA, clip_rows
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.method import Method, clip_rule, tell_kappa
from zemosaic.stages.stack.passes import Channel

__all__ = ["METHOD"]


def _clip(channel: Channel, settings: StackSettings, y0: int, y1: int) -> None:
    clip_rows(clip_rule(KAPPA_SIGMA, settings), channel.samples, channel.maps, y0, y1, channel.table)


METHOD = Method(tell=tell_kappa, clip=_clip, grows=True, by_kappa=True)
