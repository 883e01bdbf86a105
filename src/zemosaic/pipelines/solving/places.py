"""Where a frame is, as far as its own header tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from astropy.io import fits

from zemosaic.engine.events import LeftOut
from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.model.frame import Frame
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings

__all__ = ["Place", "kept_place", "trust_headers"]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a frame is.

    Attributes
    ----------
    header : astropy.io.fits.Header
        WCS cards; TAN-SIP unless they are those of the frame's own header.
    wcs : CelestialWcs
        The same.
    how : str
        "header" (kept), "header, unchecked", "solved", "tied" (to solved frames), "registered" (to each other, by
        stars) or "registered by pixels".
    n_stars : int
        Stars that hold the frame: shared with other frames or the catalogue; 0 where none was asked.
    rms_px : float
        Distance per coordinate of its stars from their common places; NaN where it shares none.
    """

    header: fits.Header
    wcs: CelestialWcs
    how: str
    n_stars: int = 0
    rms_px: float = float("nan")


def kept_place(frame: Frame, wcs: CelestialWcs, how: str) -> Place:
    """The place that a frame's own header gives."""
    return Place(fits.Header.fromstring(frame.header.wcs_cards or ""), wcs, how)


def trust_headers(frames: Sequence[MeasuredFrame], settings: Settings, run: Run) -> list[Place | LeftOut]:
    """The WCS of each header, unchecked; frames without one are announced."""
    found: list[Place | LeftOut] = []
    for item in frames:
        run.cancel.check()
        try:
            found.append(kept_place(item.frame, frame_wcs(item.frame), "header, unchecked"))
        except FrameRejected as problem:
            found.append(run.log.leave_out(item.frame, problem.told))
    return found
