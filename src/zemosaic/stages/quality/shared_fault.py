"""Parts of a camera's frames where all of them show less of the stars than a catalogue knows.

An obstacle that every frame has in its light, a shutter that always lags, rows that are shifted in every read-out: no
frame lacks what another shows, so they agree with each other. A catalogue tells: stars of a part are missing, or are
fainter than their magnitudes, beside those of the rest. Where the sky of the frames falls too, it tells the part, and
few stars are enough to tell that it is the light that falls there (`fallen_sky`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.measurements import Measurements, Stars
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.quality.fallen_sky import (
    CLEAR,
    DIM,
    LEAST_SHARE,
    DimPart,
    box_round,
    even_fall,
    find_fallen_sky,
)
from zemosaic.stages.quality.views import Sight, View, find_nearest, look_at, whole_light
from zemosaic.stages.solve.coincide import TOLERANCE_PX

__all__ = ["find_shared_fault"]

F8 = npt.NDArray[np.float64]

_NEAREST = 8
"""Stars, itself with them, whose median light is the light round a star: catalogues err by 0.2 mag, and one star in ten
is a double, variable, or hidden by a brighter one."""

_FEWEST_NEAREST = 3
"""So many at least, and a third of the stars where these are few."""

_DRAWS = 999
"""Times that the stars are dealt anew over the places: as many as tell a chance of a thousandth."""

_SAMPLES_A_SIDE = 4
"""A star tells once for each part of this size in which frames show it: one wrong magnitude must count once."""

_FEWEST_SEEN = 5
"""Stars of the catalogue that a frame must show before it is asked."""

_REFERENCE = 75.0
"""Percentile of the light of a frame's stars that is its zero: where half of a frame is dim it is that of the rest."""

_DEPTH = 80.0
"""Percentile of the magnitudes of the stars that a frame shows, down to which it should show all: what is found of
fainter ones hangs on blends and on the sky. Behind an obstacle fewer are shown, but those beside it tell the depth."""

_UNSEEN = float(np.log(0.1))
"""ln of the light of a star that is expected and not seen."""

_MOST_SCATTER = 0.5
"""Scatter of ln light in the clear part from which magnitudes say nothing of it: another sky, or another band."""

_MOST_FRAMES = 60
"""Frames of a camera that are asked, spread evenly: what all share, these share."""


@dataclass(frozen=True, slots=True, eq=False)
class _PooledStars:
    """Stars in parts of the field, of all frames: number of the star, place over the sides, shape (n, 2), ln light."""

    star: npt.NDArray[np.int64]
    place: F8
    light: F8


def find_shared_fault(
    measured: Sequence[Measurements], places: Sequence[CelestialWcs], catalogue: Catalogue
) -> DimPart | None:
    """The part of the frames of one camera, all of one shape, where stars of the catalogue are missing or too faint.

    Parameters
    ----------
    measured : sequence of Measurements
    places : sequence of CelestialWcs
        Where each frame is.
    catalogue : Catalogue

    Returns
    -------
    DimPart or None
        None where there is no such part, or chance would make one in a thousand sets.

    Notes
    -----
    Light that falls off evenly to all sides is a lens's vignetting, and no fault.
    """
    every = max(-(-len(measured) // _MOST_FRAMES), 1)
    measured, places = measured[::every], places[::every]
    told = [_ask(own, place, catalogue) for own, place in zip(measured, places, strict=True)]
    asked = [samples for samples in told if samples is not None]
    part = find_fallen_sky(measured, places, catalogue)
    if part is None and asked:
        part = _find_among_stars(_pool(asked), measured[0].shape)
    return part


def _find_among_stars(stars: _PooledStars, shape: tuple[int, int]) -> DimPart | None:
    """Where stars have less light than elsewhere, whatever the sky shows."""
    n_nearest = min(len(stars.light) // 3, _NEAREST)
    if n_nearest < _FEWEST_NEAREST:
        return None
    light = stars.light - _vignetting(stars.place, stars.light)
    around = np.asarray(scipy.spatial.cKDTree(stars.place).query(stars.place, k=n_nearest)[1], np.int64)
    near, dim, clear = _find_dim(light, around)
    n_dim = int(np.count_nonzero(dim))
    if n_dim < n_nearest or mad_sigma((light - near)[~dim]) > _MOST_SCATTER:
        return None
    if _is_chance(replace(stars, light=light), around):
        return None
    box = box_round(stars.place[dim], shape)
    share = float(np.exp(np.median(near[dim]) - clear))
    return DimPart(box, share, n_dim, len(light))


def _find_dim(light: F8, around: npt.NDArray[np.int64]) -> tuple[F8, npt.NDArray[np.bool_], float]:
    """Light round each star, which of them are dim (none where these are too few), and the light of the clear part."""
    near = np.median(light[around], axis=1)
    clear = float(np.percentile(near, CLEAR))
    dim = near < clear + np.log(DIM)
    return near, dim & (np.mean(dim) >= LEAST_SHARE), clear


def _is_chance(stars: _PooledStars, around: npt.NDArray[np.int64]) -> bool:
    """Whether stars are as like those round them when their light hangs on the star, not on the place.

    A test by permutation: each star keeps its light, a wrong magnitude or a double with it, and the stars are dealt
    over the places anew. What is compared is the mean distance of a star's light from the median round it.
    """

    def unlikeness(light: F8) -> float:
        return float(np.mean(np.abs(light - np.median(light[around], axis=1))))

    own = np.bincount(stars.star, stars.light) / np.bincount(stars.star)
    rng = np.random.default_rng(_DRAWS)
    found = unlikeness(own[stars.star])
    return any(unlikeness(rng.permutation(own)[stars.star]) <= found for _ in range(_DRAWS))


def _ask(measured: Measurements, place: CelestialWcs, catalogue: Catalogue) -> tuple[F8, F8, F8] | None:
    """Sky places, places over the frame's sides and ln light of the catalogue's stars that a frame should show."""
    view = _look_at_catalogue(measured, place, catalogue)
    with_light = np.isfinite(view.log_light)
    if np.count_nonzero(with_light) < _FEWEST_SEEN:
        return None
    zero = np.percentile(view.log_light[with_light], _REFERENCE)
    light = np.maximum(np.where(with_light, view.log_light - zero, _UNSEEN), _UNSEEN)
    height, width = measured.shape
    return np.column_stack(place.pixel_to_sky(*view.xy.T)), view.xy / [width, height], light


def _look_at_catalogue(measured: Measurements, place: CelestialWcs, catalogue: Catalogue) -> View:
    """What a frame shows of the catalogue's stars, from its brightest unsaturated one down to its depth."""
    height, width = place.shape
    ra, dec = place.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
    radius_deg = float(np.hypot(height, width)) / 2 * place.pixel_scale_arcsec() / 3600
    known = catalogue.cone(float(ra), float(dec), radius_deg)
    x, y = place.sky_to_pixel(known.ra_deg, known.dec_deg)
    own = measured.stars
    nearest, distance = find_nearest(np.column_stack([own.x, own.y]), np.column_stack([x, y]))
    met = np.flatnonzero(distance < TOLERANCE_PX)
    clean = met[~own.saturated[nearest[met]] & (whole_light(own)[0][nearest[met]] > 0)]
    brightest, faintest = np.percentile(known.mag[clean], [0, _DEPTH]) if len(clean) else (np.inf, -np.inf)
    used = (known.mag >= brightest) & (known.mag <= faintest)
    used[np.setdiff1d(met, clean)] = False
    n = int(np.count_nonzero(used))
    flux = np.power(10, -0.4 * known.mag[used])[None].astype(np.float32)
    flags = np.zeros(n, bool)
    stars = replace(
        Stars.empty(1), x=x[used], y=y[used], flux=flux, flux_error=np.zeros_like(flux), saturated=flags, blended=flags
    )
    return look_at(Sight.of(measured, place), -1, Sight.of(replace(measured, stars=stars), place), 1.0)


def _pool(told: Sequence[tuple[F8, F8, F8]]) -> _PooledStars:
    """Each star once in each part of the field, of all frames: the middle of its light there."""
    sky, place, light = (np.concatenate(column) for column in zip(*told, strict=True))
    key = np.column_stack([np.round(sky * 1200), np.floor(place * _SAMPLES_A_SIDE)])
    cells, which = np.unique(key, axis=0, return_inverse=True)
    which, count = which.ravel(), np.bincount(which.ravel())
    order = np.lexsort((light, which))
    middle = light[order][np.cumsum(count) - count + count // 2]
    where = np.column_stack([np.bincount(which, coordinate) / count for coordinate in place.T])
    return _PooledStars(np.unique(cells[:, :2], axis=0, return_inverse=True)[1].ravel(), where, middle)


def _vignetting(place: F8, light: F8) -> F8:
    """What falls off evenly from the middle, by the stars that are seen."""
    terms = even_fall(place)
    used = light > _UNSEEN
    for _ in range(4):
        if np.count_nonzero(used) < _NEAREST:
            return np.zeros(len(place))
        found = np.linalg.lstsq(terms[used], light[used], rcond=None)[0]
        rest = light - terms @ found
        used = (light > _UNSEEN) & (np.abs(rest - np.median(rest[used])) < 2.5 * mad_sigma(rest[used]) + 0.05)
    return np.asarray(terms[:, 1:] @ found[1:], float)
