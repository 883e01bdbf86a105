"""What all kept headers are off by in common: the stars of frames that lie on each other, held against a catalogue.

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
from zemosaic.model.sky.celestial import CelestialWcs, unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.stages.numeric.robust import mad_sigma
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

_ERROR_OF_MEDIAN = 1.2533
"""Error of a median over that of a mean, of values with a normal distribution."""

_REACH_ERRORS = 4.0
"""A star is looked for within so many errors of the catalogue, and at least 3 px, of its place."""


@dataclass(frozen=True, slots=True, eq=False)
class CommonOffset:
    """Frames whose stars lie beside the catalogue's, all by the same.

    Attributes
    ----------
    members : tuple of int
        Frames that lie on each other, as positions in the list.
    vector : ndarray, shape (3,)
        What to add to the unit vectors of the catalogue's stars to have those of the headers; of a few arcsec.
    error_arcsec : float
        Of one coordinate: of the median, and of what the stars of a field may have moved in common.
    scale_arcsec : float
        Of a pixel of the finest frame.
    n_stars : int
        Stars of the catalogue that were found.
    """

    members: tuple[int, ...]
    vector: Array
    error_arcsec: float
    scale_arcsec: float
    n_stars: int

    @property
    def size_arcsec(self) -> float:
        """Length of the offset."""
        return float(np.rad2deg(np.linalg.norm(self.vector)) * 3600)

    @property
    def is_sure(self) -> bool:
        """Whether it is more than chance and the catalogue's own errors make, and enough to be seen."""
        return self.size_arcsec >= max(_SIGNIFICANT * self.error_arcsec, _LEAST_OFFSET_PX * self.scale_arcsec)

    def shift_px(self, place: CelestialWcs) -> Array:
        """``(x, y)`` from a frame's middle to the pixel whose sky, by its header, is that of the middle in truth."""
        middle = np.array(_middle(place))
        x, y, z = unit_vectors(*place.pixel_to_sky(*middle)) - self.vector
        true = np.rad2deg(np.arctan2(y, x)) % 360, np.rad2deg(np.arctan2(z, np.hypot(x, y)))
        return np.asarray(np.ravel(place.sky_to_pixel(*true)) - middle)


def find_common_offsets(
    fields: Sequence[StarField], places: Sequence[CelestialWcs], catalogue: Catalogue
) -> list[CommonOffset]:
    """Groups of overlapping frames whose headers are all off by the same, and by more than may be chance.

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
    each = _by_star(known, away)
    n_known, each = len(each), each[np.isfinite(each[:, 0])]
    if len(each) < max(_FEWEST_STARS, _LEAST_SHARE * n_known):
        return None
    scatter = max(mad_sigma(column) for column in each.T)
    chance = np.rad2deg(scatter * _ERROR_OF_MEDIAN / np.sqrt(len(each))) * 3600
    error = float(np.hypot(chance, max(error for _, _, error in held)))
    finest = min(places[k].pixel_scale_arcsec() for k in members)
    return CommonOffset(members, np.median(each, axis=0), error, finest, len(each))


def _by_star(known: Array, away: Array) -> Array:
    """One row a star: the median of what frames show of it, NaN where none does."""
    order = np.lexsort(known.T)
    ends = np.flatnonzero((np.diff(known[order], axis=0) != 0).any(axis=1)) + 1
    rows = [part[np.isfinite(part[:, 0])] for part in np.split(away[order], ends)]
    return np.array([np.median(part, axis=0) if len(part) else np.full(3, np.nan) for part in rows])


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


def _middle(place: CelestialWcs) -> tuple[float, float]:
    return (place.shape[1] - 1) / 2, (place.shape[0] - 1) / 2
