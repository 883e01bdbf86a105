"""What kept headers are off by in common: the stars of frames that lie on each other, held against a catalogue.

Stars that frames share say how frames lie on each other, and nothing of where the whole is. The catalogue's stars in
one frame are few and their errors large; those in all frames together tell a fraction of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs, ra_dec_of, unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.stages.numeric.robust import cauchy_weight
from zemosaic.stages.refine.headers import fit_move, lattice_of
from zemosaic.stages.solve.check_header import hint_from_wcs
from zemosaic.stages.solve.coincide import TOLERANCE_PX, neighbours
from zemosaic.stages.solve.verify import match_nearest

__all__ = ["CommonOffset", "find_common_offsets"]

Array = npt.NDArray[np.float64]

_FEWEST_STARS, _LEAST_SHARE = 10, 0.5
"""Fewer stars, or a smaller share of those that the catalogue has there, may be others by chance."""

_LEAST_OFFSET_PX = 0.3
"""What is less does no harm: the mosaic lies on the sky to a third of a pixel."""

_SIGNIFICANT = 5.0
"""Headers are moved where their offset is this many times its error."""

_CATALOGUE_YEARS = 25.0, 2000.0
"""Years after which the catalogue's stated error holds, and the year that it starts from: motions grow with time."""

_ROUNDS, _LOSS = 10, 2.4
"""Rounds of robust weights, and errors at which a star counts half: it holds 95 % of what a Gaussian tells."""

_MEDIAN_DISTANCE = 1.1774
"""Median of a distance whose two coordinates scatter by 1 (Rayleigh)."""

_REACH_ERRORS = 4.0
"""A star is looked for within so many errors of the catalogue, and at least 3 px, of its place."""


@dataclass(frozen=True, slots=True, eq=False)
class CommonOffset:
    """How far the stars of frames that lie on each other are from where the catalogue has them, all alike.

    Attributes
    ----------
    members : tuple of int
        The frames, as positions in the list.
    middle : ndarray, shape (3,)
        Unit vector of their middle.
    terms : ndarray, shape (4,)
        Rotation about the three axes and growth round the middle, radians, that bring the catalogue's stars onto the
        headers' sky: a rotation about an axis far from the middle is a shift, one about the middle a turn.
    size_arcsec, error_arcsec : float
        Offset where it is most certain, among the frames' middles and corners, and its error there.
    scale_arcsec : float
        Of a pixel of the finest frame.
    n_stars : int
        Stars of the catalogue that were found.
    """

    members: tuple[int, ...]
    middle: Array
    terms: Array
    size_arcsec: float
    error_arcsec: float
    scale_arcsec: float
    n_stars: int

    @property
    def is_sure(self) -> bool:
        """Whether it is more than chance and the catalogue's own errors make, and enough to be seen."""
        return self.size_arcsec >= max(_SIGNIFICANT * self.error_arcsec, _LEAST_OFFSET_PX * self.scale_arcsec)

    def move(self, place: CelestialWcs) -> tuple[Array, Array]:
        """What mends a frame's header: see `HeaderMove.matrix` and `HeaderMove.shift_px`."""
        points = lattice_of(place)
        seen = unit_vectors(*place.pixel_to_sky(*points.T))
        true = ra_dec_of(seen - _design(seen, self.middle) @ self.terms)
        return fit_move(points, np.stack(place.sky_to_pixel(*true), axis=1))


def find_common_offsets(
    fields: Sequence[StarField], places: Sequence[CelestialWcs], catalogue: Catalogue
) -> list[CommonOffset]:
    """How far the headers of each group of overlapping frames are off in common; `is_sure` tells what is no chance.

    Parameters
    ----------
    fields : sequence of StarField
    places : sequence of CelestialWcs
        Of frames that lie on each other where they overlap.
    catalogue : Catalogue

    Returns
    -------
    list of CommonOffset
        One a group of frames that overlap, directly or through others, where enough stars of the catalogue were found.
        Headers that were solved with a better catalogue are right although they differ from this one by the motions
        of its stars: the error holds them.
    """
    found = [_offset_of(group, fields, places, catalogue) for group in _groups(places)]
    return [offset for offset in found if offset is not None]


def _groups(places: Sequence[CelestialWcs]) -> list[tuple[int, ...]]:
    """Frames that overlap, directly or through others."""
    first, second = np.array(neighbours(places), dtype=int).reshape(-1, 2).T
    graph = scipy.sparse.coo_matrix((np.ones(len(first)), (first, second)), (len(places), len(places)))
    n_groups, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return [tuple(int(k) for k in np.flatnonzero(label == group)) for group in range(n_groups)]


def _offset_of(
    members: tuple[int, ...], fields: Sequence[StarField], places: Sequence[CelestialWcs], catalogue: Catalogue
) -> CommonOffset | None:
    """The offset of one group; None where too few stars tell."""
    held = [_hold_against(fields[k], places[k], catalogue) for k in members]
    known = np.concatenate([stars for stars, _, _ in held])
    away = np.concatenate([moved for _, moved, _ in held])
    if not len(known):
        return None
    known, away = _by_star(known, away)
    seen = np.isfinite(away[:, 0])
    n_stars = int(np.sum(seen))
    if n_stars < max(_FEWEST_STARS, _LEAST_SHARE * len(known)):
        return None
    points = [unit_vectors(*places[k].pixel_to_sky(*lattice_of(places[k], 3).T)) for k in members]
    middle = np.concatenate(points).mean(axis=0)
    middle /= np.linalg.norm(middle)
    terms, covariance = _fit(_design(known[seen], middle), away[seen])
    there = _design(np.concatenate(points), middle)
    offset = np.linalg.norm(there @ terms, axis=1)
    variance = np.einsum("nij,jk,nik->n", there, covariance, there) / 2  # of one of two coordinates
    common = np.deg2rad(max(error for _, _, error in held) / 3600)
    error = np.hypot(np.sqrt(variance), common)
    best = int(np.argmax(offset / error))
    size_arcsec, error_arcsec = (float(np.rad2deg(value[best]) * 3600) for value in (offset, error))
    finest = min(places[k].pixel_scale_arcsec() for k in members)
    return CommonOffset(members, middle, terms, size_arcsec, error_arcsec, finest, n_stars)


def _design(vectors: Array, middle: Array) -> Array:
    """How unit vectors move with each of `CommonOffset.terms`, shape (n, 3, 4)."""
    turned = np.cross(np.eye(3)[None], vectors[:, None])
    grown = vectors - (vectors @ middle)[:, None] * middle
    return np.concatenate([np.swapaxes(turned, 1, 2), grown[:, :, None]], axis=2)


def _fit(design: Array, away: Array) -> tuple[Array, Array]:
    """Terms that explain how far stars are away, shape (n, 3), and their covariance; stars far out count little."""
    pull = np.zeros(len(away))
    for _ in range(_ROUNDS):
        weight = cauchy_weight(pull**2, _LOSS)
        normal = np.einsum("n,nij,nik->jk", weight, design, design)
        terms = np.linalg.solve(normal, np.einsum("n,nij,ni->j", weight, design, away))
        left = away - design @ terms
        distance = np.linalg.norm(left, axis=1)
        scatter = max(float(np.median(distance)) / _MEDIAN_DISTANCE, 1e-12)
        pull = distance / scatter
    return terms, np.linalg.inv(normal) * scatter**2


def _by_star(known: Array, away: Array) -> tuple[Array, Array]:
    """Stars, each once, and the median of what frames show of it, NaN where none does."""
    order = np.lexsort(known.T)
    ends = np.flatnonzero((np.diff(known[order], axis=0) != 0).any(axis=1)) + 1
    rows = [part[np.isfinite(part[:, 0])] for part in np.split(away[order], ends)]
    middle = [np.median(part, axis=0) if len(part) else np.full(3, np.nan) for part in rows]
    return known[order][np.append(0, ends)], np.array(middle)


def _hold_against(field: StarField, place: CelestialWcs, catalogue: Catalogue) -> tuple[Array, Array, float]:
    """Unit vectors of the catalogue's stars in a frame, and how far from them the frame shows them, NaN where it does
    not; and what the stars may have moved in common, arcsec.
    """
    hint = hint_from_wcs(place)
    stars = catalogue.cone(hint.ra_deg, hint.dec_deg, place.pixel_scale_arcsec() / 3600 * np.hypot(*place.shape) / 2)
    sky = np.stack([stars.ra_deg, stars.dec_deg], axis=1)
    xy = np.stack(place.sky_to_pixel(*sky.T), axis=1)
    height, width = place.shape
    # A frame's list is cut at its brightest stars, so is the catalogue's: all of its stars can then be found.
    inside = np.flatnonzero(((xy >= 0) & (xy <= [width - 1, height - 1])).all(axis=1))[: len(field.xy)]
    known, xy = unit_vectors(*sky[inside].T), xy[inside]
    away = np.full(known.shape, np.nan)
    reach_px = max(_REACH_ERRORS * stars.error_arcsec / place.pixel_scale_arcsec(), TOLERANCE_PX)
    if len(field.xy):
        star, point, _ = match_nearest(xy, scipy.spatial.cKDTree(field.xy), reach_px)
        away[star] = unit_vectors(*place.pixel_to_sky(*field.xy[point].T)) - known[star]
    years, epoch = _CATALOGUE_YEARS
    age = abs((field.epoch_year or epoch) - epoch) / years
    return known, away, stars.error_arcsec * max(age, 1.0)
