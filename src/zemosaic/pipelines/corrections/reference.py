"""The picture that fixes a mosaic's slow background, read from its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zemosaic.errors import FrameRejected, NothingToDo, SettingError
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.settings import InputSettings, MatchSettings
from zemosaic.text import message

if TYPE_CHECKING:
    from zemosaic.stages.gauge.reference import ReferenceSky

__all__ = ["read_reference"]

TRUSTED_PX = 3.0
"""Where nothing else is known, details of this many pixels of the reference are trusted."""


def read_reference(settings: MatchSettings) -> ReferenceSky | None:
    """The reference that the settings name; None when they name none.

    Raises
    ------
    SettingError
        When the file holds no picture with a WCS.
    """
    if not settings.reference:
        return None
    from zemosaic.stages.gauge.reference import ReferenceSky

    path = Path(settings.reference)
    try:
        found = scan([path], InputSettings())
        if not found.frames:
            why = found.rejected[0].told if found.rejected else message("file.no-fits-image")
            raise FrameRejected(why.code, **why.facts)
        frame = min(found.frames, key=lambda frame: frame.storage.hdu)
        wcs = frame_wcs(frame)
        data, weight = FrameReader(0).read_window(frame, Box.of_shape(frame.shape))
    except (FrameRejected, NothingToDo) as problem:
        raise SettingError("gauge.reference-unusable", path=path, problem=problem) from problem
    resolution = settings.reference_arcsec or TRUSTED_PX * wcs.pixel_scale_arcsec()
    return ReferenceSky(np.where(weight > 0, data, np.nan).astype(float), wcs, resolution)
