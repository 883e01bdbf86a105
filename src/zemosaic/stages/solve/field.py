"""Where a frame points: a plate from its stars, a hint and a star catalogue.

Method: two stars of the frame laid on two stars of the catalogue give a complete
hypothesis (shift, rotation, scale; both parities). All catalogue pairs of fitting
length within the hint's reach are tried for one pair of the frame after another;
each hypothesis is tested by how many of the frame's other stars fall on catalogue stars
(`solve_patterns`). What survives is fitted on the tangent plane and kept when its match by
chance, all hypotheses counted, is less likely than a stated bound (`solve_verify`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import SQUARE, ra_dec_of, unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip, plane_to_sky, sky_to_plane
from zemosaic.settings import SolveSettings
from zemosaic.stages.solve.patterns import Search, find_plates, prepare_search
from zemosaic.stages.solve.verify import PlateFit, SkyPlane, fit_plate
from zemosaic.text import message

__all__ = [
    "Equinox",
    "Solution",
    "guess_scales",
    "offsets_from",
    "precess_to_j2000",
    "read_hint",
    "solve_by_hints",
    "solve_field",
]

Array = npt.NDArray[np.float64]

_SAME_SCALE = 0.02
"""Scales and shapes of pixels this near to each other (relative) are searched at once: the solver tolerates more."""

_SAME_PLACE_DEG = 0.05
"""Positions this near to each other are searched at once: the solver's radius is far larger."""

_GUESSED_SCALES = 0.6, 15.0
"""Arcsec a pixel: below, fields hold too few stars of the packaged catalogue; above are wide-angle lenses."""

_COMMON_SCALE = 2.5
"""Arcsec a pixel of smart telescopes and small refractors: guesses begin here."""

Equinox = Literal["J2000", "of date", "stated"]
"""How a header's RA and Dec were read: "stated" where the header itself gives the equinox."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A frame's place on the sky.

    Attributes
    ----------
    plate : TanSip
        The WCS; reference pixel at the frame's centre, no distortion.
    star : ndarray of int, shape (n_matched,)
        Rows of the star list that matched.
    ra_deg, dec_deg : ndarray, shape (n_matched,)
        Catalogue positions of those stars.
    log_chance : float
        Log10 of the chance that a wrong pointing matches as many stars.
    rms_arcsec : float
        Root mean square distance of matched stars.
    hint_used : {"J2000", "of date", "stated"} or None
        Reading of the header position that lies nearest to the truth; None without a header position.
    offset_deg : dict
        Distance from the true centre for each reading.
    """

    plate: TanSip
    star: npt.NDArray[np.intp]
    ra_deg: Array
    dec_deg: Array
    log_chance: float
    rms_arcsec: float
    hint_used: Equinox | None
    offset_deg: dict[Equinox, float]

    @property
    def n_matched(self) -> int:
        """Number of matched stars."""
        return len(self.star)

    @property
    def parity(self) -> int:
        """-1 for the sky as seen, +1 mirrored, in array order."""
        return self.plate.parity


def precess_to_j2000(ra_deg: float, dec_deg: float, year: float) -> tuple[float, float]:
    """Mean position of the equinox of Julian `year` -> J2000, in degrees.

    Precession angles of IAU 1976 (Lieske et al. 1977, A&A 58, 1) without nutation and
    aberration: within half an arcminute of the apparent place, which is ample for a hint.
    """
    t = (year - 2000) / 100
    zeta = np.deg2rad((2306.2181 + (0.30188 + 0.017998 * t) * t) * t / 3600)
    z = np.deg2rad((2306.2181 + (1.09468 + 0.018203 * t) * t) * t / 3600)
    theta = np.deg2rad((2004.3109 - (0.42665 + 0.041833 * t) * t) * t / 3600)
    to_date = _turn_z(-z) @ _turn_y(theta) @ _turn_z(-zeta)
    ra, dec = ra_dec_of(unit_vectors(ra_deg, dec_deg) @ to_date)
    return float(ra), float(dec)


def _turn_z(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def _turn_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def read_hint(hint: PointingHint, epoch_year: float | None) -> dict[Equinox, tuple[float, float]]:
    """Every J2000 position that a header's RA and Dec may mean.

    Parameters
    ----------
    hint : PointingHint
        With an equinox there is one reading, precessed from it.
    epoch_year : float or None
        Julian year of the exposure; without it "of date" cannot be read.
    """
    if hint.equinox is not None:
        return {"stated": precess_to_j2000(hint.ra_deg, hint.dec_deg, hint.equinox)}
    readings: dict[Equinox, tuple[float, float]] = {"J2000": (hint.ra_deg % 360, hint.dec_deg)}
    if epoch_year is not None:
        readings["of date"] = precess_to_j2000(hint.ra_deg, hint.dec_deg, epoch_year)
    return readings


def solve_field(
    stars_xy: npt.ArrayLike,
    flux: npt.ArrayLike,
    shape: tuple[int, int],
    hint: PointingHint | None,
    catalogue: Catalogue,
    settings: SolveSettings,
    *,
    epoch_year: float | None = None,
) -> Solution:
    """Find a frame's place on the sky near a hint.

    Parameters
    ----------
    stars_xy : array_like, shape (n, 2)
        Star positions ``(x, y)``, zero-based pixels.
    flux : array_like, shape (n,)
        Only its order matters.
    shape : tuple of int
        ``(height, width)`` of the frame.
    hint : PointingHint or None
        Header position and nominal scale. Without an equinox both readings are searched.
    catalogue : Catalogue
        Reference stars.
    settings : SolveSettings
        Limits of the search and of acceptance.
    epoch_year : float, optional
        Julian year of the exposure, for positions of date.

    Returns
    -------
    Solution
        A tangent-plane plate without distortion: `refine` adds that.

    Raises
    ------
    FrameRejected
        With the reason and the numbers: no hint, no scale, too few stars, a field too small for
        the catalogue, or no match.

    Notes
    -----
    Deterministic. Rotation is free, both parities are tried, and the cost is bounded by a fixed
    number of hypotheses. Fields from about 0.2 to 15 degrees suit the packaged catalogue.
    """
    if hint is None:
        raise FrameRejected("solve.no-position")
    if hint.scale_arcsec is None:
        raise FrameRejected("solve.no-scale")
    stars, flux = np.asarray(stars_xy, float).reshape(-1, 2), np.asarray(flux, float)
    if len(stars) < settings.min_matches:
        raise FrameRejected("solve.few-stars", n_stars=len(stars), min_matches=settings.min_matches)
    order = np.argsort(-flux, kind="stable")
    # Patterns of stars are compared in pixels made square, of the same area.
    stretch = np.array([hint.aspect**-0.5, hint.aspect**0.5])
    centred = (stars[order] - _centre(shape)) * stretch
    readings = read_hint(hint, epoch_year)
    square = round(shape[0] * stretch[1]), round(shape[1] * stretch[0])
    search = _search_near(readings, hint.scale_arcsec, square, catalogue, settings)
    n_tested, best = 0, 0.0
    for fit, n_tested in find_plates(centred, search):
        # As many chances to be fooled as hypotheses were tested.
        log_chance = fit.log_chance + float(np.log10(n_tested))
        best = min(best, log_chance)
        if log_chance <= settings.max_log_chance and _plausible(fit, hint.scale_arcsec, settings):
            solution = _finish(fit, log_chance, centred, order, search, readings)
            centre_x, centre_y = _centre(shape)
            plate = replace(solution.plate, crpix=(float(centre_x), float(centre_y)), cd=solution.plate.cd * stretch)
            return replace(solution, plate=plate)
    raise FrameRejected(
        "solve.no-match",
        n_stars=len(stars),
        catalogue=catalogue.name,
        reach_deg=search.reach_deg,
        scale_arcsec=hint.scale_arcsec,
        tolerance=settings.scale_tolerance,
        best_log_chance=best,
        max_log_chance=settings.max_log_chance,
        n_expected=search.n_expected,
    )


def solve_by_hints(
    field: StarField, hints: Sequence[PointingHint], catalogue: Catalogue, settings: SolveSettings
) -> tuple[Solution, PointingHint]:
    """Try one hint after the other until the stars agree with one.

    Parameters
    ----------
    field : StarField
        Its own hint is not used.
    hints : sequence of PointingHint
        The likeliest first; those alike are tried once.
    catalogue : Catalogue
    settings : SolveSettings

    Returns
    -------
    (Solution, PointingHint)
        The solution, and the hint that led to it.

    Raises
    ------
    FrameRejected
        With what was wrong with the first hint, and how many others were tried in vain.
    """
    tried: list[PointingHint] = []
    first = message("solve.no-position")
    for hint in hints:
        if any(_is_alike(hint, other) for other in tried):
            continue
        tried.append(hint)
        try:
            solution = solve_field(
                field.xy, field.flux, field.shape, hint, catalogue, settings, epoch_year=field.epoch_year
            )
        except FrameRejected as problem:
            first = problem.told if len(tried) == 1 else first
        else:
            return solution, hint
    if len(tried) > 1:
        raise FrameRejected("solve.no-reading", first=first, n=len(tried) - 1)
    raise FrameRejected(first.code, **first.facts)


def _is_alike(one: PointingHint, other: PointingHint) -> bool:
    """Whether two hints lead to the same search."""
    if one.equinox != other.equinox or (one.scale_arcsec is None) != (other.scale_arcsec is None):
        return False
    if abs(one.aspect / other.aspect - 1) > _SAME_SCALE:
        return False
    if one.scale_arcsec and other.scale_arcsec and abs(one.scale_arcsec / other.scale_arcsec - 1) > _SAME_SCALE:
        return False
    apart = unit_vectors(one.ra_deg, one.dec_deg) - unit_vectors(other.ra_deg, other.dec_deg)
    return bool(np.linalg.norm(apart) < np.deg2rad(_SAME_PLACE_DEG))


def guess_scales(hint: PointingHint, settings: SolveSettings) -> list[PointingHint]:
    """A hint with every scale that the packaged catalogue can serve, for headers that tell none or a wrong one.

    The scales overlap by the solver's tolerance; those near what telescopes of amateurs have come first.
    """
    step = 1 + 1.6 * settings.scale_tolerance
    n_steps = math.ceil(math.log(_GUESSED_SCALES[1] / _GUESSED_SCALES[0]) / math.log(step))
    scales = [_GUESSED_SCALES[0] * step**k for k in range(n_steps + 1)]
    scales.sort(key=lambda scale: abs(math.log(scale / _COMMON_SCALE)))
    return [replace(hint, scale_arcsec=scale, source="a guess of the pixel scale") for scale in scales]


def _centre(shape: tuple[int, int]) -> Array:
    return np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])


def _search_near(
    readings: dict[Equinox, tuple[float, float]],
    scale_arcsec: float,
    shape: tuple[int, int],
    catalogue: Catalogue,
    settings: SolveSettings,
) -> Search:
    """One cone that holds the frame wherever each reading of the hint allows it."""
    vectors = unit_vectors(*np.array(list(readings.values())).T)
    middle = vectors.mean(axis=0)
    middle /= np.linalg.norm(middle)
    spread = float(np.rad2deg(np.linalg.norm(vectors - middle, axis=1).max()))
    ra0 = float(np.rad2deg(np.arctan2(middle[1], middle[0])) % 360)
    dec0 = float(np.rad2deg(np.arcsin(np.clip(middle[2], -1, 1))))
    diagonal_deg = float(np.hypot(*shape)) * scale_arcsec / 3600
    reach = settings.radius_deg + spread
    radius = reach + 0.5 * diagonal_deg * (1 + settings.scale_tolerance)
    if radius > 45:
        raise FrameRejected("solve.field-too-large", diagonal_deg=diagonal_deg)
    plane = SkyPlane(catalogue.cone(ra0, dec0, radius), ra0, dec0)
    search = prepare_search(plane, shape, scale_arcsec, settings.scale_tolerance, reach, radius)
    if search.n_expected < settings.min_matches / 3:
        raise FrameRejected(
            "solve.field-too-poor",
            width_arcmin=shape[1] * scale_arcsec / 60,
            height_arcmin=shape[0] * scale_arcsec / 60,
            n_expected=search.n_expected,
            catalogue=catalogue.name,
            min_matches=settings.min_matches,
        )
    return search


def _plausible(fit: PlateFit, scale_arcsec: float, settings: SolveSettings) -> bool:
    if len(fit.star) < settings.min_matches:
        return False
    low, high = np.sort(np.linalg.svd(fit.linear[:, :2], compute_uv=False)) / scale_arcsec
    bound = 1 + settings.scale_tolerance
    # A fit to false matches may squeeze the field; no telescope does.
    return bool(1 / bound <= low and high <= bound and high / low < 1 + SQUARE)


def _finish(
    fit: PlateFit,
    log_chance: float,
    centred: Array,
    order: npt.NDArray[np.intp],
    search: Search,
    readings: dict[Equinox, tuple[float, float]],
) -> Solution:
    """Fit again with all stars, on the plane that touches the sky at the frame's centre."""
    middle = _centre(search.shape)
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]) * middle
    stars = search.plane.stars
    last = fit
    ra0, dec0 = search.plane.ra_deg, search.plane.dec_deg
    for _ in range(2):
        ra, dec = plane_to_sky(last.apply(corners) / 3600, ra0, dec0)
        ra0, dec0 = float(ra[-1]), float(dec[-1])
        goal = sky_to_plane(ra, dec, ra0, dec0) * 3600
        start = np.asarray(np.linalg.lstsq(np.column_stack([corners, np.ones(5)]), goal, rcond=None)[0].T, np.float64)
        radius = max(3 * fit.rms_arcsec, search.cell_arcsec)
        again = fit_plate(centred, start, SkyPlane(stars, ra0, dec0), search.shape, radius)
        if again is None or len(again.star) < len(fit.star) // 2:
            raise FrameRejected("solve.match-lost", n_matched=len(fit.star))
        last = again
    # What is left of the shift goes into the tangent point: far less than the plane's curvature feels.
    ra, dec = plane_to_sky(last.linear[None, :, 2] / 3600, ra0, dec0)
    crpix = (float(middle[0]), float(middle[1]))
    plate = TanSip(float(ra[0]), float(dec[0]), crpix, last.linear[:, :2] / 3600)
    offsets = offsets_from(plate, readings)
    return Solution(
        plate=plate,
        star=order[last.star],
        ra_deg=stars.ra_deg[last.ref],
        dec_deg=stars.dec_deg[last.ref],
        log_chance=log_chance,
        rms_arcsec=last.rms_arcsec,
        hint_used=min(offsets.items(), key=lambda item: item[1])[0],
        offset_deg=offsets,
    )


def offsets_from(plate: TanSip, readings: dict[Equinox, tuple[float, float]]) -> dict[Equinox, float]:
    """Distance (degrees) of a plate's reference point from each reading of the header position."""
    here = unit_vectors(plate.ra_deg, plate.dec_deg)
    return {
        name: float(np.rad2deg(2 * np.arcsin(min(float(np.linalg.norm(here - unit_vectors(*where))) / 2, 1.0))))
        for name, where in readings.items()
    }
