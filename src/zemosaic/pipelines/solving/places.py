"""Where a frame is, as far as its own header tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zemosaic.engine.events import LeftOut
from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings

__all__ = ["Place", "trust_headers"]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a frame is.

    Attributes
    ----------
    wcs : CelestialWcs
        TAN-SIP unless it is that of the frame's own header.
    how : str
        "header" (kept), "header, unchecked", "solved", "tied" (to solved frames), "registered" (to each other, by
        stars) or "registered by pixels".
    n_stars : int
        Stars that hold the frame: shared with other frames or the catalogue; 0 where none was asked.
    rms_px : float
        Distance per coordinate of its stars from their common places; NaN where it shares none.
    """

    wcs: CelestialWcs
    how: str
    n_stars: int = 0
    rms_px: float = float("nan")


def trust_headers(frames: Sequence[MeasuredFrame], settings: Settings, run: Run) -> list[Place | LeftOut]:
    """The WCS of each header, unchecked; frames without one are announced."""
    found: list[Place | LeftOut] = []
    for item in frames:
        run.cancel.check()
        try:
            found.append(Place(frame_wcs(item.frame), "header, unchecked"))
        except FrameRejected as problem:
            found.append(run.log.leave_out(item.frame, problem.told))
    return found
