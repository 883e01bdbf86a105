"""What one frame shows of the stars of another: which of them, and with how much light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.measurements import Measurements, Stars
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.solve.coincide import TOLERANCE_PX, neighbours

__all__ = [
    "EXPECTED",
    "FEWEST",
    "Sight",
    "View",
    "find_nearest",
    "look_at",
    "look_at_each_other",
    "pool_places",
    "typical_noise",
    "whole_light",
]

F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SHOWN = 30.0
"""Signal to noise of stars that a frame shows beyond doubt: what is looked for in the others."""

EXPECTED = 15.0
"""Signal to noise that such a star must have in the other frame, by its depth, to be missed: three times the limit."""

_EDGE_PX = 12
"""Stars nearer to a frame's edge may lie outside of it by a small error of its place."""

_NEAR_BLOCK = 1.2
"""Sides of a block from the nearest one within which a frame has pixels: a bright star hides its own block."""

_CROWDED = 0.4
"""Stars within three widths of each star from which a field is crowded: in worse seeing they merge, and none is missing
that is not seen. A bulge field of 300 stars in 512 x 512 px with stars 4.3 px wide has 0.6."""

FEWEST = 8
"""Expected stars from which a frame is judged by those it shows."""

_FEWEST_ALIKE = 5
"""Stars that two frames must both show to compare their light."""

_CHANCE = 0.2
"""Share of the stars that must be met for them to tell the light: detections of noise meet fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one frame shows of the stars of another.

    Attributes
    ----------
    other : int
        The frame whose stars are looked for.
    xy : ndarray, shape (n, 2)
        Places of those that should be seen, in the frame's own pixels.
    other_xy : ndarray, shape (n, 2)
        Their places in pixels of the other one.
    seen : ndarray, shape (n,), bool
    log_light : ndarray, shape (n,)
        ln of the frame's flux of a star over the other's; NaN of those that are not seen.
    light : float
        The typical ratio of these fluxes; NaN where too few are shown by both.
    """

    other: int
    xy: F8
    other_xy: F8
    seen: Flags
    log_light: F8
    light: float

    @property
    def share(self) -> float:
        """Of the expected stars, those that are seen; NaN for too few."""
        return float(np.mean(self.seen)) if len(self.seen) >= FEWEST else math.nan


def look_at_each_other(
    measured: Sequence[Measurements], places: Sequence[CelestialWcs], log_prior: F8
) -> list[list[View]]:
    """What every frame shows of the stars of those round it.

    Parameters
    ----------
    measured : sequence of Measurements
    places : sequence of CelestialWcs
        Where each frame is.
    log_prior : ndarray, shape (n,)
        ln of the gain that each header lets expect: it tells how faint a star may be where no star of two frames does.
    """
    sights = [Sight.of(m, place) for m, place in zip(measured, places, strict=True)]
    out: list[list[View]] = [[] for _ in measured]
    for pair in neighbours(places):
        for i, j in (pair, pair[::-1]):
            prior = float(np.exp(log_prior[i] - log_prior[j]))
            out[i].append(look_at(sights[i], j, sights[j], prior))
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What is asked of a frame by each of those round it, found once.

    Attributes
    ----------
    measured : Measurements
    place : CelestialWcs
    flux, error : ndarray, shape (n,)
        Of its stars, all colours together.
    shown : ndarray, shape (k,), int64
        Stars that it shows beyond doubt; none in a crowded field.
    sky : tuple of ndarray, shape (k,)
        Where these are, ICRS degrees.
    stars, blocks : KD trees of the places of its stars and blocks
    """

    measured: Measurements
    place: CelestialWcs
    flux: F8
    error: F8
    shown: npt.NDArray[np.int64]
    sky: tuple[F8, F8]
    stars: scipy.spatial.cKDTree
    blocks: scipy.spatial.cKDTree

    @classmethod
    def of(cls, measured: Measurements, place: CelestialWcs) -> Sight:
        """What is asked of a frame at a place."""
        stars, blocks, (flux, error) = measured.stars, measured.blocks, whole_light(measured.stars)
        is_shown = ~(stars.saturated | stars.blended) & (flux > _SHOWN * error)
        shown = np.flatnonzero(is_shown & (not _is_crowded(measured)))
        sky = place.pixel_to_sky(stars.x[shown], stars.y[shown])
        trees = (scipy.spatial.cKDTree(np.column_stack([of.x, of.y]).astype(float)) for of in (stars, blocks))
        return cls(measured, place, flux, error, shown, sky, *trees)


def look_at(own: Sight, j: int, other: Sight, prior: float) -> View:
    """What `own` shows of the stars of `other`, frame `j`, that it should show."""
    x, y = own.place.sky_to_pixel(*other.sky)
    box = own.measured.valid_box
    inside = (
        (x > box.x0 + _EDGE_PX) & (x < box.x1 - 1 - _EDGE_PX) & (y > box.y0 + _EDGE_PX) & (y < box.y1 - 1 - _EDGE_PX)
    )
    which, xy = other.shown[inside], np.column_stack([x, y])[inside]
    nearest, distance = _ask(own.stars, xy)
    # Of two telescopes the coarser one says how well a place is known.
    seen = distance < TOLERANCE_PX * max(other.place.pixel_scale_arcsec() / own.place.pixel_scale_arcsec(), 1)
    # A detection without light, of whatever is left at an edge, is no star.
    seen[seen] = own.flux[nearest[seen]] > 0
    # Where pixels have no weight there is no block: nothing can be seen there. A star that is seen may hide its blocks.
    there = seen.copy()
    there[~seen] = _ask(own.blocks, xy[~seen])[1] < _NEAR_BLOCK * own.measured.blocks.size_px
    flux, error = other.flux[which], other.error[which]
    log_light, light = np.full(len(xy), np.nan), math.nan
    ratio = own.flux[nearest[seen]] / flux[seen]
    log_light[seen] = np.log(ratio)
    if np.count_nonzero(seen) >= max(_FEWEST_ALIKE, _CHANCE * np.count_nonzero(there)):
        light = float(np.median(ratio))
    if len(own.flux) >= _FEWEST_ALIKE or not there.any():
        noise = float(np.median(own.error)) if len(own.error) else 0.0
    else:
        noise = float(np.median(error[there])) * typical_noise(own.measured) / typical_noise(other.measured)
    expected = there & (flux * (light if light > 0 else prior) > EXPECTED * noise)
    stars = other.measured.stars
    other_xy = np.column_stack([stars.x, stars.y])[which]
    return View(j, xy[expected], other_xy[expected], seen[expected], log_light[expected], light)


def _is_crowded(measured: Measurements) -> bool:
    """Whether stars stand so near to each other that worse seeing merges them."""
    box = measured.valid_box
    area_px = (box.y1 - box.y0) * (box.x1 - box.x0)
    return len(measured.stars) * np.pi * (3 * measured.fwhm_px) ** 2 > _CROWDED * area_px


def find_nearest(places: F8, xy: F8) -> tuple[npt.NDArray[np.int64], F8]:
    """For each of `xy`, shape (n, 2), the number of the nearest of some places and its distance; inf where none is."""
    return _ask(scipy.spatial.cKDTree(places), xy)


def _ask(tree: scipy.spatial.cKDTree, xy: F8) -> tuple[npt.NDArray[np.int64], F8]:
    """As `find_nearest`, of a tree of places."""
    if tree.n == 0 or len(xy) == 0:
        return np.zeros(len(xy), np.int64), np.full(len(xy), np.inf)
    distance, nearest = tree.query(xy)
    return np.asarray(nearest, np.int64), np.asarray(distance, float)


def whole_light(stars: Stars) -> tuple[F8, F8]:
    """Flux of all colours together, and its error."""
    error = np.sqrt(np.sum(np.square(stars.flux_error, dtype=np.float64), axis=0))
    return np.sum(stars.flux, axis=0, dtype=np.float64), error


def typical_noise(measured: Measurements) -> float:
    """Noise of a sample, all colours together."""
    return float(np.sqrt(np.mean(measured.noise**2)))


def pool_places(views: Sequence[View]) -> F8:
    """Places of all stars that some views expect, each once, shape (n, 2)."""
    xy = np.zeros((0, 2))
    for view in sorted(views, key=lambda view: -len(view.seen)):
        xy = np.concatenate([xy, view.xy[find_nearest(xy, view.xy)[1] > TOLERANCE_PX]])
    return xy
