"""A frame solved like one of its camera that is solved already: the search is narrow, and few hypotheses are tried."""

from __future__ import annotations

from dataclasses import replace

from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.star_field import StarField
from zemosaic.settings import SolveSettings
from zemosaic.stages.solve.field import Solution, solve_field

__all__ = ["SAME_SCALE", "solve_like"]

SAME_SCALE = 0.01
"""Scales of one camera and telescope are this near to each other: focus and refraction change them by less."""

_LEAST_RADIUS_DEG = 0.2
"""Mounts point this well at best; a hint is never searched nearer."""

_TIMES_THE_OFFSET = 5.0
"""A pointing may be off by this many times as much as that of the first solved frame."""


def solve_like(
    known: Solution, field: StarField, hint: PointingHint, catalogue: Catalogue, settings: SolveSettings
) -> Solution:
    """Solve a frame with the scale of a solved one, and no farther from its header than that one allows.

    Parameters
    ----------
    known : Solution
        Of a frame of the same camera.
    field : StarField
        Its own hint is not used.
    hint : PointingHint
        The likeliest; its scale gives way to the known one.
    catalogue : Catalogue
    settings : SolveSettings
        Bounds of acceptance; scale and radius are narrowed.

    Returns
    -------
    Solution

    Raises
    ------
    FrameRejected
        See `solve_field`.
    """
    offset_deg = min(known.offset_deg.values(), default=settings.radius_deg)
    narrow = settings.model_copy(
        update={
            "scale_tolerance": min(SAME_SCALE, settings.scale_tolerance),
            "radius_deg": min(max(_LEAST_RADIUS_DEG, _TIMES_THE_OFFSET * offset_deg), settings.radius_deg),
        }
    )
    like = replace(hint, scale_arcsec=known.plate.scale_arcsec, aspect=known.plate.aspect)
    return solve_field(field.xy, field.flux, field.shape, like, catalogue, narrow, epoch_year=field.epoch_year)
