"""Clipping by the noise that frames are known to have, never by the scatter of the samples (IRAF's ``ccdclip``).

The noise is that measured on each frame's sky, with the light above it where electrons per ADU are known. Two wild
values among five samples widen no threshold, so it suits stacks of few frames; it asks that weights are true.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.stack.clip import KAPPA_SIGMA, clip_rows
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.method import Method, clip_rule, tell_kappa
from zemosaic.stages.stack.passes import Channel

__all__ = ["METHOD"]


def _clip(channel: Channel, settings: StackSettings, y0: int, y1: int) -> None:
    """Clip with a scatter of 0: what is known of the noise remains."""
    channel.maps.spread[y0:y1] = 0
    no_scatter = np.zeros_like(channel.table)
    clip_rows(clip_rule(KAPPA_SIGMA, settings), channel.samples, channel.maps, y0, y1, no_scatter)


METHOD = Method(tell=tell_kappa, clip=_clip, wide_guard=True, grows=True, by_kappa=True)
