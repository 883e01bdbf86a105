"""Where a frame's header says that it lies, before anything is measured."""

from __future__ import annotations

import numpy as np

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.model.frame import Frame

__all__ = ["header_corners"]

_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


def header_corners(frame: Frame) -> list[list[float]] | None:
    """The outer corners of the corner pixels by the header's WCS, else by where the telescope pointed.

    Parameters
    ----------
    frame : Frame

    Returns
    -------
    list of [ra, dec], or None
        In degrees, from the first pixel along its row, and round. A header without WCS tells no angle: its frame is
        drawn with north up. None where the header tells no place or no pixel scale.
    """
    height, width = frame.shape
    if frame.header.wcs_cards:
        try:
            ra, dec = frame_wcs(frame).pixel_to_sky(*(_CORNERS * [width, height] - 0.5).T)
        except FrameRejected:
            return None
        return np.stack([ra, dec], axis=1).tolist()
    hint = frame.header.hint
    if hint is None or not hint.scale_arcsec:
        return None
    x, y = ((_CORNERS - 0.5) * [width, height] * hint.scale_arcsec / 3600).T
    dec = np.clip(hint.dec_deg + y, -90, 90)
    ra = (hint.ra_deg - x / np.maximum(np.cos(np.deg2rad(dec)), 1e-3)) % 360
    return np.stack([ra, dec], axis=1).tolist()
