"""Where a frame's header says that it lies, before anything is measured."""

from __future__ import annotations

import numpy as np

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.model.frame import Frame
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.grid.plan import make_wcs

__all__ = ["header_corners", "wcs_by_header"]

_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


def wcs_by_header(frame: Frame) -> CelestialWcs | None:
    """A frame's place by the header's WCS, else by where the telescope pointed: then north is up, as no angle is told.

    None where the header tells no place or no pixel scale.
    """
    if frame.header.wcs_cards:
        try:
            return frame_wcs(frame)
        except FrameRejected:
            return None
    hint = frame.header.hint
    if hint is None or not hint.scale_arcsec:
        return None
    return make_wcs((hint.ra_deg, hint.dec_deg), hint.scale_arcsec, frame.shape)


def header_corners(frame: Frame) -> list[list[float]] | None:
    """The outer corners of the corner pixels by the header.

    Parameters
    ----------
    frame : Frame

    Returns
    -------
    list of [ra, dec], or None
        In degrees, from the first pixel along its row, and round; None as from `wcs_by_header`.
    """
    wcs = wcs_by_header(frame)
    if wcs is None:
        return None
    height, width = frame.shape
    ra, dec = wcs.pixel_to_sky(*(_CORNERS * [width, height] - 0.5).T)
    return np.stack([ra, dec], axis=1).tolist()
