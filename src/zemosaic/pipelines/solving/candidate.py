"""A measured frame on its way to a place on the sky."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.model.frame import Frame, PointingHint
from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.star_field import StarField
from zemosaic.stages.solve.check_header import WcsCheck, check_wcs, hint_from_wcs
from zemosaic.stages.solve.field import Solution
from zemosaic.text import Message, message

__all__ = ["Candidate", "check_header", "star_field"]

STARS_TO_SOLVE = 200
"""Brightest stars of a frame that places are found with: the solver asks for far fewer, ties for no more."""

_KEEP = {"right", "unknown"}


@dataclass(slots=True, eq=False)
class Candidate:
    """A frame on its way to a place: the header's WCS while it holds, else a solution.

    Attributes
    ----------
    frame : Frame
    field : StarField
        Its brightest stars; the hint is the one that was found true, else the likeliest.
    hints : tuple of PointingHint
        All that the header allows, the likeliest first.
    wcs : CelestialWcs or None
        The header's, as it is or moved.
    verdict : str
        What the catalogue says of it: see `WcsCheck.verdict`; "none" without one; "unconfirmed" where the catalogue
        shows no star of any frame, so that the frames' own stars must tell.
    solution : Solution or None
    how : str
        How it was placed.
    reasons : tuple of Message
        Why not, one after the other.
    is_moved : bool
        Whether the header's WCS was moved, onto other frames or the catalogue.
    """

    frame: Frame
    field: StarField
    hints: tuple[PointingHint, ...] = ()
    wcs: CelestialWcs | None = None
    verdict: str = "none"
    solution: Solution | None = None
    how: str = "solved"
    reasons: tuple[Message, ...] = ()
    is_moved: bool = False

    @property
    def header(self) -> CelestialWcs | None:
        """The header's WCS, where it is kept."""
        return self.wcs if self.verdict in _KEEP else None

    @property
    def is_placed(self) -> bool:
        """Whether it has a place of any kind."""
        return self.header is not None or self.solution is not None


def star_field(frame: Frame, found: Measurements, hint: PointingHint | None) -> StarField:
    """A frame's brightest stars."""
    stars = found.stars
    total = stars.flux.sum(axis=0).astype(float)
    order = np.argsort(-total, kind="stable")[:STARS_TO_SOLVE]
    xy = np.stack([stars.x, stars.y], axis=1)[order]
    return StarField(xy, total[order], frame.shape, hint, frame.header.epoch_year, frame.header.camera)


def check_header(frame: Frame, found: Measurements, catalogue: Catalogue) -> Candidate:
    """What the stars say of a frame's header WCS, if it has one, and where else its header says that it points."""
    field = star_field(frame, found, frame.header.hint)
    try:
        wcs = frame_wcs(frame)
    except FrameRejected as problem:
        return Candidate(frame, field, frame.header.hints, reasons=(problem.told,))
    check = check_wcs(wcs, field.xy, field.flux, catalogue)
    hint = hint_from_wcs(wcs)
    other_scales = [
        replace(hint, scale_arcsec=h.scale_arcsec, source=h.source) for h in frame.header.hints if h.scale_arcsec
    ]
    hints = (hint, *frame.header.hints, *other_scales)
    return Candidate(
        frame, replace(field, hint=hint), hints, wcs, verdict=check.verdict, reasons=(_tell_check(check, catalogue),)
    )


def _tell_check(check: WcsCheck, catalogue: Catalogue) -> Message:
    """What the stars say of a header WCS, in words."""
    if check.verdict == "shifted":
        return message("solve.header-shifted", shift_arcsec=np.hypot(*check.shift_arcsec))
    if check.verdict == "wrong":
        figures = {"n_matched": check.n_matched, "n_expected": check.n_expected, "catalogue": catalogue.name}
        return message("solve.header-wrong", **figures)
    return message("solve.header-is", verdict=check.verdict)
