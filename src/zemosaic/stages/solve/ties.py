"""Frames that the catalogue could not place, tied to placed ones by the stars they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.errors import FrameRejected
from zemosaic.kernels.solve.cluster import group_detections
from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.celestial import CelestialWcs, ra_dec_of, unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip, fit_tan_sip, plane_to_sky, sky_to_plane
from zemosaic.settings import SolveSettings
from zemosaic.stages.solve.field import Equinox, Solution, offsets_from, read_hint, solve_field
from zemosaic.stages.solve.session import narrow_search
from zemosaic.stages.solve.sky_stars import group_on_sky

__all__ = [
    "ObservedCatalogue",
    "plate_of_reference",
    "register_frames",
    "session_reading",
    "solution_of_header",
    "tie_frames",
]

Array = npt.NDArray[np.float64]

_HOT_RADIUS_PX = 1.0
"""What lies so near to the same pixel in frames that point elsewhere is of the sensor, not of the sky."""

_WIDEST_DEG = 6.0
"""A frame without a hint is looked for this far from the middle of all placed ones; the solver's plane ends at 45."""


class ObservedCatalogue:
    """The stars of placed frames as a catalogue: deeper than any that ships with a package.

    Stars seen in several frames come first, then those seen once, each by flux.

    Parameters
    ----------
    fields : sequence of StarField
        Star lists.
    plates : sequence of TanSip
        Their places.
    match_px : float
        Detections within so many pixels of each other are one star.
    """

    name = "the solved frames"

    def __init__(self, fields: Sequence[StarField], plates: Sequence[TanSip], match_px: float = 2.5) -> None:
        scale = float(np.median([plate.scale_arcsec for plate in plates]))
        vectors = np.concatenate([
            unit_vectors(*plate.pixel_to_sky(field.xy)) for field, plate in zip(fields, plates, strict=True)
        ])
        frame = np.repeat(np.arange(len(fields)), [len(field.xy) for field in fields])
        star = group_on_sky(vectors, frame, match_px * scale)
        kept = star >= 0
        vectors, star = vectors[kept], star[kept]
        flux = np.concatenate([field.flux for field in fields])
        n_seen = np.bincount(star)
        flux = np.bincount(star, flux[kept]) / n_seen.astype(float)
        total = np.stack([np.bincount(star, vectors[:, axis]) for axis in range(3)], axis=1)
        mean: Array = total / np.linalg.norm(total, axis=1, keepdims=True)
        order = np.lexsort((-flux, n_seen < 2))
        self._vectors = mean[order]
        self._tree = scipy.spatial.cKDTree(self._vectors)
        self._error_arcsec = 0.3 * scale

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> CatalogueStars:
        """All stars within `radius_deg` of an ICRS position; `mag` holds their order only."""
        chord = 2 * np.sin(np.deg2rad(radius_deg) / 2)
        rows = np.sort(self._tree.query_ball_point(unit_vectors(ra_deg, dec_deg), chord)).astype(np.intp)
        ra, dec = ra_dec_of(self._vectors[rows])
        return CatalogueStars(ra, dec, np.arange(len(rows), dtype=float), self._error_arcsec)


def session_reading(solutions: Sequence[Solution | None]) -> Equinox | None:
    """The reading of header positions that a session's solved frames agree on.

    Returns
    -------
    {"J2000", "of date", "stated"} or None
        The reading with the smaller median distance from the truth; None where nothing is solved.
    """
    distances: dict[Equinox, list[float]] = {}
    for solution in solutions:
        if solution is not None:
            for name, distance in solution.offset_deg.items():
                distances.setdefault(name, []).append(distance)
    return min(distances, key=lambda name: float(np.median(distances[name])), default=None)


def tie_frames(
    fields: Sequence[StarField], solutions: Sequence[Solution | None], settings: SolveSettings
) -> list[Solution | None]:
    """Place unsolved frames by the stars they share with solved ones, again and again until none is added.

    Parameters
    ----------
    fields : sequence of StarField
        Frames of one telescope and session, in the order of time.
    solutions : sequence of Solution or None
        What `solve_field` found for each.
    settings : SolveSettings
        The same bounds of acceptance as against a catalogue.

    Returns
    -------
    list of Solution or None
        `solutions` with what could be added; None where a frame shares too few stars with the others.

    Notes
    -----
    The scale, the parity and the mean pointing error of the session are known from its solved
    frames, so a hint may be good to an arcminute where the header is off by a degree. A frame
    without a hint is looked for near the solved frame before it, then wherever it may overlap any solved frame.

    A sensor's hot pixels are a pattern that all its frames share: where three solved frames show that a detection stays
    on its pixel while the sky moves, it is left out of all lists. With fewer solved frames, or
    without dithering, hot pixels must be gone before.
    """
    result = list(solutions)
    while True:
        placed = [k for k, solution in enumerate(result) if solution is not None]
        # A frame whose place is from its header may have no stars: it ties nobody.
        if not any(len(fields[k].xy) for k in placed) or len(placed) == len(result):
            return result
        known = [solution for solution in result if solution is not None]
        fields = _without_hot_pixels(fields, result)
        catalogue = ObservedCatalogue([fields[k] for k in placed], [solution.plate for solution in known])
        scale = float(np.median([solution.plate.scale_arcsec for solution in known]))
        reading = session_reading(known)
        shift, scatter = _pointing_error([fields[k] for k in placed], known, reading)
        tight = narrow_search(settings, scatter)
        for k, field in enumerate(fields):
            if result[k] is None:
                better = _better_hint(k, field, result, reading, shift, scale)
                hint = replace(better, aspect=known[-1].plate.aspect)
                searches = [(hint, tight)]
                if field.hint is None:
                    searches += _wider_searches(hint, field.shape, known, tight)
                result[k] = _tie_one(field, searches, catalogue)
        if sum(solution is not None for solution in result) == len(placed):
            return result


def _wider_searches(
    near: PointingHint, shape: tuple[int, int], known: Sequence[Solution], settings: SolveSettings
) -> list[tuple[PointingHint, SolveSettings]]:
    """Where a frame without a hint may be: anywhere that it overlaps the frame before it, then any placed frame."""
    diagonal_deg = float(np.hypot(*shape)) * (near.scale_arcsec or 0.0) / 3600
    middle = np.mean([unit_vectors(s.plate.ra_deg, s.plate.dec_deg) for s in known], axis=0)
    ra, dec = map(float, ra_dec_of(middle / np.linalg.norm(middle)))
    far = max(float(np.hypot(*sky_to_plane(s.plate.ra_deg, s.plate.dec_deg, ra, dec))) for s in known)
    return [
        (hint, settings.model_copy(update={"radius_deg": max(radius, settings.radius_deg)}))
        for hint, radius in (
            (near, diagonal_deg),
            (replace(near, ra_deg=ra, dec_deg=dec), min(far + diagonal_deg, _WIDEST_DEG)),
        )
    ]


def _tie_one(
    field: StarField, searches: Sequence[tuple[PointingHint, SolveSettings]], catalogue: ObservedCatalogue
) -> Solution | None:
    for hint, settings in searches:
        try:
            tied = solve_field(field.xy, field.flux, field.shape, hint, catalogue, settings)
        except FrameRejected:
            continue
        return _with_header_offsets(tied, field)
    return None


def solution_of_header(wcs: CelestialWcs) -> Solution:
    """A header's WCS in the form of a solution, so that its frame can tie others; it has no stars of its own."""
    nothing = np.zeros(0)

    def pixel_to_sky(xy: Array) -> tuple[Array, Array]:
        return wcs.pixel_to_sky(*xy.T)

    plate = fit_tan_sip(pixel_to_sky, wcs.shape)
    return Solution(plate, nothing.astype(np.intp), nothing, nothing, 0.0, 0.0, None, {})


def _without_hot_pixels(fields: Sequence[StarField], solutions: Sequence[Solution | None]) -> list[StarField]:
    """The lists without detections at pixels that, in solved frames, do not move with the sky."""
    result = list(fields)
    for key in {(field.camera, field.shape) for field in fields}:
        own = [k for k, field in enumerate(fields) if (field.camera, field.shape) == key]
        hot = _hot_pixels([(fields[k], solution.plate) for k in own if (solution := solutions[k]) is not None])
        for k in own if len(hot) else []:
            field = result[k]
            cold = scipy.spatial.cKDTree(hot).query(field.xy)[0] > _HOT_RADIUS_PX
            result[k] = replace(field, xy=field.xy[cold], flux=field.flux[cold])
    return result


def _hot_pixels(solved: Sequence[tuple[StarField, TanSip]]) -> Array:
    """Positions (n, 2) where at least three frames have a detection, each at another place of the sky."""
    if len(solved) < 3:
        return np.zeros((0, 2))
    xy = np.concatenate([field.xy for field, _ in solved])
    vectors = np.concatenate([unit_vectors(*plate.pixel_to_sky(field.xy)) for field, plate in solved])
    place = np.empty(len(xy), np.int64)
    group_detections(xy[:, 0].copy(), xy[:, 1].copy(), np.arange(len(xy)), _HOT_RADIUS_PX, place)
    count = np.bincount(place)

    def mean(values: Array) -> Array:
        return np.asarray(np.stack([np.bincount(place, column) for column in values.T], axis=1) / count[:, None])

    # The mean of unit vectors is shorter than 1 by half the mean square of their spread.
    spread = np.sqrt(np.maximum(2 - 2 * np.linalg.norm(mean(vectors), axis=1), 0))
    moved = spread > np.deg2rad(3 * solved[0][1].scale_arcsec / 3600)
    return np.asarray(mean(xy)[(count >= 3) & moved])


def _pointing_error(
    fields: Sequence[StarField], solutions: Sequence[Solution], reading: Equinox | None
) -> tuple[Array, float]:
    """Median of (true centre - header position) on the tangent plane, and its spread; degrees."""
    shifts = [
        sky_to_plane(solution.plate.ra_deg, solution.plate.dec_deg, *_read(field.hint, field.epoch_year, reading))
        for field, solution in zip(fields, solutions, strict=True)
        if field.hint is not None
    ]
    if len(shifts) < 3:
        return (np.asarray(np.median(shifts, axis=0)) if shifts else np.zeros(2)), np.inf
    middle = np.median(shifts, axis=0)
    return np.asarray(middle), float(np.median(np.hypot(*(np.array(shifts) - middle).T)))


def _read(hint: PointingHint, epoch_year: float | None, reading: Equinox | None) -> tuple[float, float]:
    """The header position in the session's reading, or in the only one there is."""
    readings = read_hint(hint, epoch_year)
    return readings[reading] if reading in readings else next(iter(readings.values()))


def _better_hint(
    k: int,
    field: StarField,
    solutions: Sequence[Solution | None],
    reading: Equinox | None,
    shift: Array,
    scale_arcsec: float,
) -> PointingHint:
    """The header position moved by the session's mean pointing error; without one, the last solved frame's."""
    if field.hint is not None:
        ra, dec = plane_to_sky(shift, *_read(field.hint, field.epoch_year, reading))
        return PointingHint(float(ra), float(dec), 2000.0, scale_arcsec)
    before = [s for s in solutions[:k] if s is not None] or [s for s in solutions if s is not None][:1]
    return PointingHint(before[-1].plate.ra_deg, before[-1].plate.dec_deg, 2000.0, scale_arcsec)


def _with_header_offsets(solution: Solution, field: StarField) -> Solution:
    """The solution with its distances from what its own header says, not from the better hint."""
    if field.hint is None:
        return replace(solution, hint_used=None, offset_deg={})
    offsets = offsets_from(solution.plate, read_hint(field.hint, field.epoch_year))
    return replace(solution, hint_used=min(offsets.items(), key=lambda item: item[1])[0], offset_deg=offsets)


def register_frames(fields: Sequence[StarField], settings: SolveSettings) -> list[TanSip | None]:
    """Register frames to each other by their stars alone, on a plane that is nowhere on the sky.

    The frame with the most stars is the reference: one arcsecond a pixel, x to the west, y to the north of
    RA 0, Dec 0. For fields that no catalogue covers.

    Parameters
    ----------
    fields : sequence of StarField
        Frames of one scale (within 1 %) that overlap directly or through others.
    settings : SolveSettings
        Bounds of acceptance; its radius is not used.

    Returns
    -------
    list of TanSip or None
        None where a frame shares too few stars with the others.
    """
    if max((len(field.xy) for field in fields), default=0) < settings.min_matches:
        return [None] * len(fields)
    reference = max(range(len(fields)), key=lambda k: len(fields[k].xy))
    height, width = fields[reference].shape
    plate = plate_of_reference(fields[reference].shape)
    nothing = np.zeros(0)
    start: list[Solution | None] = [None] * len(fields)
    start[reference] = Solution(plate, nothing.astype(np.intp), nothing, nothing, 0.0, 0.0, None, {})
    bare = [StarField(field.xy, field.flux, field.shape, None, None, field.camera) for field in fields]
    wide = settings.model_copy(update={"radius_deg": float(np.hypot(height, width)) / 3600})
    return [None if solution is None else solution.plate for solution in tie_frames(bare, start, wide)]


def plate_of_reference(shape: tuple[int, int]) -> TanSip:
    """The plate of the frame that others are registered to: RA 0, Dec 0 in its middle, one arcsecond a pixel."""
    height, width = shape
    return TanSip(0.0, 0.0, ((width - 1) / 2, (height - 1) / 2), np.diag([-1.0, 1.0]) / 3600)
