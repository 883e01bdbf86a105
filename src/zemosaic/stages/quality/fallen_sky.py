"""Parts of a camera's frames where the sky of all of them falls, and the light of a catalogue's stars with it.

A shutter that lags and an obstacle dim sky and stars alike. The sky is seen at every place of the sensor, so it tells
the part; but moonlight, a nebula and a pedestal shape it too. A few stars tell which it is: their light is compared
with one known pattern, not sought in the dark, so that one slope is all that they have to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.model.measurements import Blocks, Measurements
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.numeric.robust import cauchy_weight, mad_sigma
from zemosaic.stages.quality.views import find_nearest, whole_light
from zemosaic.stages.solve.coincide import TOLERANCE_PX

__all__ = ["CLEAR", "DIM", "LEAST_SHARE", "DimPart", "box_round", "even_fall", "find_fallen_sky"]

F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

DIM = 0.6
"""Light over that of the clear part below which a part is dim, vignetting taken away: lenses that are not centred on
their sensor, and what headers' scales leave, stay above 0.75."""

CLEAR = 85.0
"""Percentile of the light that is that of the clear part: a seventh of the field is never dim."""

LEAST_SHARE = 0.08
"""Share of the field that a dim part holds."""

_LEAST_SLOPE = 0.5
"""ln light of stars over ln light of the sky: 1 where both fall together, more over a pedestal, 0 where the sky alone
is shaped."""

_SURE = 4.0
"""Errors by which the slope is above 0: with eight stars chance does so in one of 200 fields that have such a sky."""

_FEWEST_STARS = 8
"""Stars of the catalogue that the errors of a slope can be told from."""

_LEAST_SCATTER = 0.1
"""Scatter of ln light that magnitudes of a catalogue have at least."""

_SIDE_BY_SIDE = 1.2
"""Sides of a block from one block's middle to that of the next."""

_DARKEST = 0.01
"""Sky over that of the clear part below which its logarithm says no more."""

_EVEN_ROUNDS = 5
"""Rounds in which what falls evenly is told from the part that is not dim, and that part from what falls evenly."""

_ROUNDS, _OUTLIER = 20, 2.0
"""Rounds of weighing stars anew, and the scatters at which one counts half."""


@dataclass(frozen=True, slots=True)
class DimPart:
    """Where all frames of a camera show less than there is.

    Attributes
    ----------
    box : Box
        Round the part, pixels of a frame.
    share : float
        Its light over that of the rest; a star that is not seen counts as a tenth.
    n_dim, n_stars : int
        Stars there, and all that were asked.
    """

    box: Box
    share: float
    n_dim: int
    n_stars: int


@dataclass(frozen=True, slots=True, eq=False)
class _SkyPattern:
    """The sky that frames share: places over the sides, ln light that falls evenly from the middle, and the rest."""

    place: F8
    even: F8
    rest: F8

    @property
    def clear(self) -> float:
        return float(np.percentile(self.rest, CLEAR))

    @property
    def dim(self) -> Flags:
        return np.asarray(self.rest < self.clear + np.log(DIM))


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """Stars of the catalogue on frames: frame and star by number, place over the sides, ln light over magnitude."""

    frame: npt.NDArray[np.int64]
    star: npt.NDArray[np.int64]
    place: F8
    light: F8


def find_fallen_sky(
    measured: Sequence[Measurements], places: Sequence[CelestialWcs], catalogue: Catalogue
) -> DimPart | None:
    """The part of the frames of one camera, all of one shape, where sky and stars fall together.

    Parameters
    ----------
    measured : sequence of Measurements
    places : sequence of CelestialWcs
        Where each frame is.
    catalogue : Catalogue

    Returns
    -------
    DimPart or None
        None where the sky has no such part, where fewer than eight stars of the catalogue are seen, and where the slope
        of their light over the sky's is less than a half or less than four of its errors.

    Notes
    -----
    ln flux + 0.4 ln(10) mag = zero of the frame + a * even fall of the sky + slope * rest of the sky, by least squares
    with weights that forget outliers. Samples of one star share the error of its magnitude: the error counts stars.
    """
    pattern = _find_pattern([m.blocks for m in measured], measured[0].shape) if measured else None
    if pattern is None:
        return None
    part = _largest_part(pattern.place * measured[0].shape[::-1], pattern.dim, measured[0].blocks.size_px)
    if np.mean(part) < LEAST_SHARE:
        return None
    samples = _find_stars(measured, places, catalogue)
    n_stars = len(np.unique(samples.star))
    if n_stars < _FEWEST_STARS:
        return None
    block = find_nearest(pattern.place, samples.place)[0]
    slope, error = _fit_slope(samples, np.column_stack([pattern.even[block], pattern.rest[block]]))
    if slope < _LEAST_SLOPE or slope < _SURE * error:
        return None
    share = float(np.exp(np.median(pattern.rest[part]) - pattern.clear))
    n_dim = len(np.unique(samples.star[part[block]]))
    return DimPart(box_round(pattern.place[part], measured[0].shape), share, n_dim, n_stars)


def box_round(place: F8, shape: tuple[int, int]) -> Box:
    """The box round places over the sides of a frame, shape (n, 2)."""
    (x0, y0), (x1, y1) = place.min(axis=0), place.max(axis=0)
    height, width = shape
    return Box(int(y0 * height), int(np.ceil(y1 * height)), int(x0 * width), int(np.ceil(x1 * width)))


def even_fall(place: F8) -> F8:
    """Terms of what falls off evenly from the middle, shape (n, 3), the first a constant."""
    radius2 = np.sum((2 * place - 1) ** 2, axis=1)
    return np.column_stack([np.ones(len(radius2)), radius2, radius2**2])


def _find_pattern(blocks: Sequence[Blocks], shape: tuple[int, int]) -> _SkyPattern | None:
    """The median over the frames of each block's sky over that of the frame's clear part; None without a sky."""
    xy = [np.zeros(0, complex)]  # numpy sorts these as numbers, and pairs of numbers as if they were text
    ratios: list[F8] = [np.zeros(0)]
    for own in blocks:
        sky: F8 = np.sum(own.mean, axis=0, dtype=np.float64)
        clear = float(np.percentile(sky, CLEAR)) if len(own) else 0.0
        if clear > 0:
            xy.append(own.x + 1j * own.y)
            ratios.append(sky / clear)
    places, which = np.unique(np.concatenate(xy), return_inverse=True)
    where = np.column_stack([places.real, places.imag])
    if len(where) < _FEWEST_STARS:
        return None
    ratio = np.asarray(scipy.ndimage.median(np.concatenate(ratios), which.ravel(), np.arange(len(where))), float)
    place = (where + 0.5) / shape[::-1]
    log_sky = np.log(np.maximum(ratio, _DARKEST))
    terms, is_clear = even_fall(place), np.ones(len(place), bool)
    for _ in range(_EVEN_ROUNDS):
        even = np.asarray(terms @ np.linalg.lstsq(terms[is_clear], log_sky[is_clear], rcond=None)[0], float)
        pattern = _SkyPattern(place, even, log_sky - even)
        is_clear = ~pattern.dim
    return pattern


def _largest_part(xy: F8, dim: Flags, size_px: float) -> Flags:
    """Of blocks that are dim, the most that stand side by side."""
    at = np.flatnonzero(dim)
    pairs = scipy.spatial.cKDTree(xy[at]).query_pairs(_SIDE_BY_SIDE * size_px, output_type="ndarray")
    links = scipy.sparse.coo_array((np.ones(len(pairs)), pairs.T), (len(at), len(at)))
    which = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    part = np.zeros(len(xy), bool)
    if len(at):
        part[at[which == np.argmax(np.bincount(which))]] = True
    return part


def _find_stars(measured: Sequence[Measurements], places: Sequence[CelestialWcs], catalogue: Catalogue) -> _Samples:
    """What frames show of the catalogue's stars, unsaturated and with light."""
    frames, skies, xys = [np.zeros(0, np.int64)], [np.zeros((0, 2))], [np.zeros((0, 2))]
    lights: list[F8] = [np.zeros(0)]
    for k, (own, place) in enumerate(zip(measured, places, strict=True)):
        height, width = own.shape
        ra, dec = place.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
        known = catalogue.cone(
            float(ra), float(dec), float(np.hypot(height, width)) / 2 * place.pixel_scale_arcsec() / 3600
        )
        xy = np.column_stack(place.sky_to_pixel(known.ra_deg, known.dec_deg))
        nearest, distance = find_nearest(np.column_stack([own.stars.x, own.stars.y]), xy)
        met = np.flatnonzero(distance < TOLERANCE_PX)
        flux = whole_light(own.stars)[0][nearest[met]]
        clean = ~own.stars.saturated[nearest[met]] & (flux > 0)
        met, flux = met[clean], flux[clean]
        frames.append(np.full(len(met), k))
        skies.append(np.column_stack([known.ra_deg, known.dec_deg])[met])
        xys.append((xy[met] + 0.5) / [width, height])
        light: F8 = np.log(flux) + 0.4 * np.log(10) * known.mag[met]
        lights.append(light)
    star = np.unique(np.concatenate(skies), axis=0, return_inverse=True)[1].ravel()
    return _Samples(np.concatenate(frames), star, np.concatenate(xys), np.concatenate(lights))


def _fit_slope(samples: _Samples, terms: F8) -> tuple[float, float]:
    """Factor of the last term and its error, zeros of the frames being free; an infinite error where nothing tells."""
    weight = np.ones(len(samples.light))
    for _ in range(_ROUNDS):
        columns = np.column_stack([terms, samples.light])
        total = np.bincount(samples.frame, weight)[samples.frame]
        for column in columns.T:
            column -= np.bincount(samples.frame, weight * column)[samples.frame] / total
        within, light = columns[:, :-1], columns[:, -1]
        normal = (within.T * weight) @ within
        if np.linalg.matrix_rank(normal) < len(normal):
            return 0.0, np.inf
        found = np.linalg.solve(normal, (within.T * weight) @ light)
        rest = light - within @ found
        scatter = max(mad_sigma(rest), _LEAST_SCATTER)
        weight = cauchy_weight((rest / scatter) ** 2, _OUTLIER)
    samples_a_star = len(samples.light) / len(np.unique(samples.star))
    return float(found[-1]), float(scatter * np.sqrt(np.linalg.inv(normal)[-1, -1] * samples_a_star))
