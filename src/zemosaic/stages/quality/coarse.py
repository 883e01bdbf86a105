"""Raw colour frames whose pixels are too coarse for their stars, beside frames that show the same sky with finer ones.

A camera that bins 2 x 2 and keeps its colours has stars that fit between two red pixels: what red and blue hold of a
star then hangs on where it fell, by tens of mmag, and no noise tells. Beside frames of finer pixels such a frame makes
the mosaic worse.
"""

from __future__ import annotations

from collections.abc import Sequence

from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.quality.company import share_covered
from zemosaic.stages.quality.triage import Verdict
from zemosaic.text import message

__all__ = ["judge_sampling"]

_LEAST_FWHM_PX = 2.0
"""Width of stars in raw pixels below which red and blue miss them: the way from one red pixel to the next."""

_FINER = 1.5
"""How much smaller the pixels of other frames must be: two cameras of one kind differ by less, binning by 2."""

_COVERED = 0.8
"""Share of a frame that finer ones must cover before it is left out."""


def judge_sampling(
    measured: Sequence[Measurements], places: Sequence[CelestialWcs], is_raw: Sequence[bool]
) -> list[Verdict]:
    """Judge raw colour frames of one filter by the width of their stars in pixels.

    Parameters
    ----------
    measured : sequence of Measurements
    places : sequence of CelestialWcs
        Where each frame is.
    is_raw : sequence of bool
        Whether a frame has one colour a pixel; others are good.

    Returns
    -------
    list of Verdict
        "coarse" for a frame that finer ones cover; a good verdict with a reason for one that they cover in part.
    """
    out = [Verdict()] * len(measured)
    scales = [place.pixel_scale_arcsec() for place in places]
    for i, own in enumerate(measured):
        if not is_raw[i] or not own.fwhm_px < _LEAST_FWHM_PX:
            continue
        finer = [place for place, scale in zip(places, scales, strict=True) if _FINER * scale < scales[i]]
        share = share_covered(places[i], finer)
        if share > 0:
            why = message("quality.coarse", fwhm_px=own.fwhm_px, share=share)
            out[i] = Verdict("coarse", why) if share >= _COVERED else Verdict("good", why)
    return out
