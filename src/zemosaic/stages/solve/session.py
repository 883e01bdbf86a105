"""A frame solved like one of its camera that is solved already: the search is narrow, and few hypotheses are tried."""

from __future__ import annotations

from dataclasses import replace

from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.star_field import StarField
from zemosaic.settings import SolveSettings
from zemosaic.stages.solve.field import Solution, solve_field

__all__ = ["narrow_search", "solve_like"]

_SAME_SCALE = 0.01
"""Scales of one camera and telescope are this near to each other: focus and refraction change them by less."""

_LEAST_RADIUS_DEG = 0.2
"""Mounts point this well at best; a hint is never searched nearer."""

_TIMES_THE_OFFSET = 5.0
"""A pointing may be off by this many times as much as those that are known."""


def narrow_search(settings: SolveSettings, offset_deg: float) -> SolveSettings:
    """Settings for a frame of a camera whose scale is known, and whose pointings are off by some `offset_deg`."""
    radius_deg = max(_LEAST_RADIUS_DEG, _TIMES_THE_OFFSET * offset_deg)
    return settings.model_copy(
        update={
            "scale_tolerance": min(_SAME_SCALE, settings.scale_tolerance),
            "radius_deg": min(radius_deg, settings.radius_deg),
        }
    )


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
    narrow = narrow_search(settings, offset_deg)
    like = replace(hint, scale_arcsec=known.plate.scale_arcsec, aspect=known.plate.aspect)
    return solve_field(field.xy, field.flux, field.shape, like, catalogue, narrow, epoch_year=field.epoch_year)
