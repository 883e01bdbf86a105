"""What a way to combine samples is: what it needs, and the functions that make it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zemosaic.kernels.stack.clip import ClipRule
from zemosaic.kernels.stack.samples import Planes
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.passes import Channel

__all__ = ["Method", "clip_rule", "tell_kappa"]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to combine the samples of a pixel.

    Its module in `zemosaic.stages.stack.methods` holds it as ``METHOD``; the module's name is the value of
    ``stack.method``. Nothing else names it.

    Attributes
    ----------
    tell : callable
        What the header's HISTORY says after the name: the settings that acted.
    clip : callable, optional
        ``clip(channel, settings, y0, y1)`` marks the samples of rows of the cube that are left out.
    finish : callable, optional
        ``finish(channel, settings, y0, y1, corner, planes)`` changes rows of the planes, which hold the weighted mean
        of what was kept; `corner` is (y, x) of their first pixel in the cube.
    guarded : bool
        Whether it looks at the template first, so that all samples of a pixel and of its neighbours must be in
        memory at once; otherwise frames can be added one by one (`zemosaic.stages.stack.stack.MeanStack`).
    wide_guard : bool
        Whether the guard is widened on stars by the scatter of their samples, for it plays no part in a threshold.
    grows : bool
        Whether what is clipped grows into its rims, and regions are looked for.
    by_kappa : bool
        Whether `clip` goes by `clip_rule`: limits beyond the middle values that a pixel's maps tell.
    """

    tell: Callable[[StackSettings], str] = lambda settings: ""
    clip: Callable[[Channel, StackSettings, int, int], None] | None = None
    finish: Callable[[Channel, StackSettings, int, int, tuple[int, int], Planes], None] | None = None
    guarded: bool = True
    wide_guard: bool = False
    grows: bool = False
    by_kappa: bool = False


def clip_rule(scatter: int, settings: StackSettings) -> ClipRule:
    """How to clip by kappa sigma, with a scatter as `ClipRule` names them."""
    kappa = np.float32(settings.kappa_low), np.float32(settings.kappa_high)
    return ClipRule(scatter, *kappa, settings.max_iterations)


def tell_kappa(settings: StackSettings) -> str:
    """The thresholds of clipping, for HISTORY."""
    return f"kappa {settings.kappa_low:g} {settings.kappa_high:g}"
