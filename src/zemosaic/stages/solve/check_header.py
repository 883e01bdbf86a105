"""Whether a header's WCS is true: checked against the frame's own stars before it is trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.tan_sip import sky_to_plane
from zemosaic.stages.solve.verify import log_chance_of, match_nearest

__all__ = ["WcsCheck", "check_wcs", "hint_from_wcs"]

Array = npt.NDArray[np.float64]

Verdict = Literal["right", "shifted", "wrong", "unknown"]

_RIGHT: Verdict = "right"
_SHIFTED: Verdict = "shifted"

_MAX_SHIFT_ARCSEC = 400.0
"""How far a header may be off as a whole and still be mended by a shift; beyond, the frame is solved."""

_SURE_LOG_CHANCE = -5.0
"""log10 of the chance, all shifts counted, below which an agreement is believed."""

_MIN_STARS_TO_DOUBT = 6
"""With fewer stars that none agrees may be chance, and the header is let stand as unknown."""


@dataclass(frozen=True, slots=True)
class WcsCheck:
    """What the stars say of a WCS.

    Attributes
    ----------
    verdict : {"right", "shifted", "wrong", "unknown"}
        right: keep it; shifted: the stars lie elsewhere by `shift_arcsec`; wrong: they fit nowhere
        near; unknown: too few catalogue stars in the frame to tell.
    n_expected : int
        Catalogue stars inside the frame as the WCS has it.
    n_matched : int
        Stars that fall on them, after the shift.
    log_chance : float
        Log10 of the chance of so many, all shifts counted.
    shift_arcsec : tuple of float
        True minus WCS position (east, north); NaN unless stars matched.
    """

    verdict: Verdict
    n_expected: int
    n_matched: int
    log_chance: float
    shift_arcsec: tuple[float, float]


def hint_from_wcs(wcs: CelestialWcs) -> PointingHint:
    """The centre, scale and shape of pixels of a WCS, as a place to begin a search."""
    ra, dec = wcs.pixel_to_sky((wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2)
    return PointingHint(float(ra), float(dec), 2000.0, wcs.pixel_scale_arcsec(), aspect=wcs.pixel_aspect())


def check_wcs(
    wcs: CelestialWcs, stars_xy: npt.ArrayLike, flux: npt.ArrayLike, catalogue: Catalogue, tolerance_px: float = 2.0
) -> WcsCheck:
    """Compare a WCS with the frame's stars.

    Parameters
    ----------
    wcs : CelestialWcs
        What the header says.
    stars_xy : array_like, shape (n, 2)
        Star positions, zero-based pixels.
    flux : array_like, shape (n,)
        Only its order matters.
    catalogue : Catalogue
        Reference stars.
    tolerance_px : float
        A WCS is right when its mean error is at most so many pixels, or 3 arcsec.

    Notes
    -----
    As it stands first; then differences of all near pairs of star and catalogue star are put to a vote: a WCS that
    is merely shifted by up to 400 arcsec gives one clump. Rotation and scale errors spread the clump: where
    stars miss by more than the tolerance but not by four times, the WCS is not right.
    """
    hint = hint_from_wcs(wcs)
    sky = catalogue.cone(hint.ra_deg, hint.dec_deg, _radius_deg(wcs, hint) + _MAX_SHIFT_ARCSEC / 3600)
    x, y = wcs.sky_to_pixel(sky.ra_deg, sky.dec_deg)
    height, width = wcs.shape
    n_expected = int(np.sum((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)))
    stars = np.asarray(stars_xy, float).reshape(-1, 2)
    brightest = stars[np.argsort(-np.asarray(flux, float), kind="stable")[: max(3 * n_expected, 30)]]
    tolerance = max(tolerance_px * wcs.pixel_scale_arcsec(), 3.0)
    unsure: Verdict = "wrong" if min(n_expected, len(stars)) >= _MIN_STARS_TO_DOUBT else "unknown"
    best = WcsCheck(unsure, n_expected, 0, 0.0, (np.nan, np.nan))
    if len(sky) == 0 or len(brightest) < 3:
        return best
    seen = sky_to_plane(*wcs.pixel_to_sky(*brightest.T), hint.ra_deg, hint.dec_deg) * 3600
    tree = scipy.spatial.cKDTree(sky_to_plane(sky.ra_deg, sky.dec_deg, hint.ra_deg, hint.dec_deg) * 3600)
    area = height * width * wcs.pixel_scale_arcsec() ** 2
    # A WCS as it stands has one chance to look right; the best of all shifts has many.
    n_shifts = max((_MAX_SHIFT_ARCSEC / tolerance) ** 2, 1.0)
    for verdict, shift, n_used, n_trials in (
        (_RIGHT, np.zeros(2), 0, 1.0),
        (_SHIFTED, _vote(seen, tree, tolerance), 1, n_shifts),
    ):
        point, ref, distance = match_nearest(seen + shift, tree, tolerance)
        n_near = len(match_nearest(seen + shift, tree, 4 * tolerance)[0])
        log_chance = log_chance_of(distance, len(seen), max(n_expected, 1), area, tolerance / 4, n_used)
        log_chance = min(log_chance + float(np.log10(n_trials)), 0.0)
        if len(point) >= max(3, 0.6 * n_near) and log_chance <= _SURE_LOG_CHANCE:
            east, north = np.median(tree.data[ref] - seen[point], axis=0)
            return WcsCheck(verdict, n_expected, len(point), log_chance, (float(east), float(north)))
        if log_chance <= best.log_chance:
            best = replace(best, n_matched=len(point), log_chance=log_chance)
    return best


def _radius_deg(wcs: CelestialWcs, hint: PointingHint) -> float:
    """Distance of the farthest point of the outline from the centre."""
    ra, dec = wcs.outline()
    return float(np.nanmax(np.hypot(*sky_to_plane(ra, dec, hint.ra_deg, hint.dec_deg).T)))


def _vote(seen: Array, tree: scipy.spatial.cKDTree, tolerance: float) -> Array:
    """The shift, at most 400 arcsec, that brings most stars onto catalogue stars."""
    near = scipy.spatial.cKDTree(seen).sparse_distance_matrix(tree, _MAX_SHIFT_ARCSEC, output_type="coo_matrix")
    shifts = tree.data[near.col] - seen[near.row]
    if not len(shifts):
        return np.zeros(2)
    votes = scipy.spatial.cKDTree(shifts).query_ball_point(shifts, tolerance, return_length=True)
    clump = shifts[np.hypot(*(shifts - shifts[np.argmax(votes)]).T) <= tolerance]
    return np.asarray(np.median(clump, axis=0))
