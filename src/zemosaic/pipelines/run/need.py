"""What a mode needs to know of frames before it can stack them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zemosaic.settings import Settings

__all__ = ["Measuring", "Need", "Placing", "need_of_frames", "need_of_tiles"]

Measuring = Literal["weigh", "match"]
"""How much of a frame is measured: see `Need`."""

Placing = Literal["auto", "header", "register"]
"""Where places come from: see ``solve.method``."""


@dataclass(frozen=True, slots=True)
class Need:
    """What is measured on frames, and where their places come from.

    Attributes
    ----------
    measure : {"weigh", "match"}
        "match": stars and block means, by which frames are matched, placed and graded. "weigh": sky and noise alone,
        enough to weigh a frame; quality is then not judged.
    place : {"auto", "header", "register"}
        As ``solve.method``. "header" takes the WCS of each header as it is, so it needs no stars.
    """

    measure: Measuring
    place: Placing


def need_of_frames(settings: Settings, *, solved: bool) -> Need:
    """What frames of the sky need.

    Where nothing is solved for all frames together (``match.method = none``, or corrections are given), headers are
    taken as they are, and quickly. Frames without a WCS that are registered to each other need stars in any case.

    Parameters
    ----------
    settings : Settings
    solved : bool
        Whether gains and surfaces of all frames are solved together.
    """
    if settings.solve.method == "register":
        return Need("match", "register")
    return Need("match", settings.solve.method) if solved else Need("weigh", "header")


def need_of_tiles(*, solved: bool) -> Need:
    """What stacks need: they have their place already, and their headers tell it."""
    return Need("match" if solved else "weigh", "header")
