"""How noise falls with area, beside what VAR says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from zemosaic.report.svg import COLOURS, INK, draw, explain_lines, plain_ticks, plot

__all__ = ["noise_in_boxes"]


def noise_in_boxes(mosaic: Mapping[str, Any], unit: str, say: Callable[[str], str]) -> Markup:
    """Noise of means over boxes against their side, measured and as VAR adds up."""
    figure, axes = plot(340, 240)
    depth = mosaic["depth"]
    side = np.array(depth["box_px"], float)
    for channel, colour in zip(depth["noise"], COLOURS[len(depth["noise"])], strict=True):
        axes.plot(side, np.array(channel["measured"], float), "o", color=colour, ms=4.5)
        axes.plot(side, np.array(channel["by_variance"], float), color=colour, lw=1.1)
    axes.plot([], [], "o", color=INK, ms=4.5, label=say("report.fig.measured"))
    axes.plot([], [], color=INK, lw=1.1, label=say("report.fig.by_variance"))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(side, [f"{s:g}" for s in side])
    plain_ticks(axes.yaxis)
    axes.set_xlabel(say("report.fig.box_px"))
    axes.set_ylabel(f"{say('report.fig.noise')} ({unit})" if unit else say("report.fig.noise"))
    explain_lines(axes)
    return draw(figure, say("report.fig.boxes.title"))
