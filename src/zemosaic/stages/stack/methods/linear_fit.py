"""Clipping by kappa sigma, the scatter from the distances of the inner sorted values from a line fitted to them."""

from __future__ import annotations

from zemosaic.kernels.stack.clip import LINEAR_FIT, clip_rows
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.method import Method, clip_rule, tell_kappa
from zemosaic.stages.stack.passes import Channel

__all__ = ["METHOD"]


def _clip(channel: Channel, settings: StackSettings, y0: int, y1: int) -> None:
    clip_rows(clip_rule(LINEAR_FIT, settings), channel.samples, channel.maps, y0, y1, channel.table)


METHOD = Method(tell=tell_kappa, clip=_clip, grows=True, by_kappa=True)
