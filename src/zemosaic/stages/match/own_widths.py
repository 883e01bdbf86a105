"""How wide stars are over what their image's apertures follow, as far as it repeats from image to image.

Apertures follow the typical width of an image's stars. Where the PSF changes over the sky, as between the nights and
cameras that a finished panel was stacked of, that is another width in the next image, and stars that both show stand in
apertures that do not suit them. A star's width in one image does not tell: what a mesh leaves of a steep background
makes it wider or narrower by its place in the image, and by more than the PSF ever does. So widths are taken apart like
fluxes, ``ln width = image + field + star``. Where there is a field, widths tell of the camera and nothing is taken from
them; else an image is off from its typical width only where the stars that it shares say so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match.gains import Detections
from zemosaic.model.photo_scale import surface_basis
from zemosaic.stages.match.camera_field import real_parts
from zemosaic.stages.match.sightings import Sightings
from zemosaic.stages.match.star_equations import StarEquations, StarNormals
from zemosaic.stages.numeric.robust import cauchy_weight, excess_scatter

__all__ = ["lost_over_typical"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NOISE = 0.5
"""Error of ln width times the signal to noise of a star's flux."""

_FLOOR_START = 0.02
"""Scatter of ln width beyond it to start from: where a star lies between pixels, and what its neighbours add."""

_FLOOR_RANGE = 1e-3, 0.2
"""Bounds of that scatter."""

_LEAST_DETECTIONS = 10
"""Fewer do not tell their own scatter."""

_LEAST_SHARE = 0.1
"""A detection that is nearly all of its star's weight has nearly no residual: its pull is not blown up by more."""

_CAUCHY = 2.0
"""Errors at which a detection's weight is halved: blends and cosmic hits are common."""

_ROUNDS = 6
"""Reweighted solves: weights of outliers have settled to a percent by then."""

_ORDER = 2
"""Of a camera's field of widths: a PSF that widens towards the corners."""

_WORTH = 0.005
"""Rms of ln width by which images differ from others that show the same stars, below which nothing is sought: apertures
miss some 5 % of a star, and by that width .1 % more. Medians of a hundred stars are off by as much."""

_ENOUGH = 0.01
"""Chi squared that is left to gain where a solve ends: a tenth of an error bar."""

_PRIOR_SD = 0.1
"""Width of the prior on an image's number and on each term of a camera's field: PSFs change by less."""

_REAL = 3.0
"""Errors by which the mean square of the images' numbers must exceed what chance leaves."""

_WINGS = 3.0
"""Power of its width with which a star's light beyond an aperture grows: wings of Moffat's beta 2.5 fall so."""

_SHARES = 0.5, 2.0
"""Bounds of what a star loses over what its image's typical one does: beyond, its width is no star's."""


def lost_over_typical(sightings: Sightings) -> list[F8]:
    """What each star of each image loses over what a star of the image's typical width does.

    Returns
    -------
    list of ndarray, each of shape (detections,)
        1 in images whose typical width is that of their shared stars.
    """
    lost = [np.ones(len(m.stars)) for m in sightings.measurements]
    equations, names = _widths(sightings)
    if len(equations.value) < _LEAST_DETECTIONS or not _may_differ(equations):
        return lost
    own, of_star = _take_apart(equations)
    if not own.any():
        return lost
    for share, star, wider in zip(lost, sightings.stars, own, strict=True):
        at = np.minimum(np.searchsorted(names, star), len(names) - 1)
        of_its_star = np.where(names[at] == star, of_star[at], 0.0)
        share[:] = np.clip(np.exp(_WINGS * (wider + of_its_star)), *_SHARES)
    return lost


def _widths(sightings: Sightings) -> tuple[StarEquations, Ints]:
    """Equations of ln width over the image's typical one, and the stars' numbers in order."""
    image, number, places, value, error = [], [], [], [], []
    for i, (m, star) in enumerate(zip(sightings.measurements, sightings.stars, strict=True)):
        snr = m.stars.snr()
        used = np.flatnonzero((star >= 0) & np.isfinite(m.stars.fwhm_px / m.fwhm_px) & (snr > 0))
        image.append(np.full(len(used), i, np.int64))
        number.append(star[used])
        places.append(surface_basis(m.stars.x[used], m.stars.y[used], m.shape, 1)[1:])
        value.append(np.log(m.stars.fwhm_px[used].astype(float) / m.fwhm_px))
        error.append(_NOISE / snr[used])
    images, (u, v) = np.concatenate(image), np.concatenate(places, axis=1)
    names, numbers = np.unique(np.concatenate(number), return_inverse=True)
    camera = sightings.camera
    seen = Detections(images, camera[images], numbers.astype(np.int64), u, v, _ORDER, len(camera))
    equations = StarEquations(seen, np.concatenate(value), np.concatenate(error), len(names), int(camera.max()) + 1)
    return equations, names


def _may_differ(equations: StarEquations) -> bool:
    """Whether stars stand in apertures of unlike size in their images, at a first look."""
    image, n = equations.detections.image, equations.n_images
    floor = np.full(equations.n_unknowns, _PRIOR_SD**-2)
    normals = StarNormals.of(equations, 1 / (equations.error**2 + _FLOOR_START**2), floor)
    share, residual = normals.share_left(), normals.residual(np.zeros(equations.n_unknowns))
    robust = cauchy_weight(residual**2 * normals.weight / np.maximum(share, _LEAST_SHARE), _CAUCHY)
    total = np.bincount(image, robust * normals.weight * share, n)
    off = np.bincount(image, robust * normals.weight * residual, n)[total > 0] / total[total > 0]
    return float(np.mean(off**2 - 1 / total[total > 0])) > _WORTH**2 if len(off) else False


def _take_apart(equations: StarEquations) -> tuple[F8, F8]:
    """ln of each image's stars' width over its typical one, and of each star's over theirs; zeros where all suits."""
    n = equations.n_images
    normals, unknowns = _settle(equations)
    error = normals.gain_errors(equations.components())
    shared = np.bincount(equations.detections.image, normals.share_left(), n) > 1
    if _have_fields(normals, unknowns) or not _differ(unknowns[:n][shared], error[shared]):
        return np.zeros(n), np.zeros(equations.n_stars)
    # A slope that images share acts like a trend of their numbers; one that is not real would bend all of them.
    normals, own = _settle(replace(equations, detections=equations.detections._replace(order=0)))
    wider, wider_error = normals.star_means(own)
    scatter = excess_scatter(wider**2, wider_error, *_FLOOR_RANGE, n_halvings=12)
    return own, wider * scatter**2 / (scatter**2 + wider_error**2)


def _settle(equations: StarEquations) -> tuple[StarNormals, F8]:
    """Reweighted solves from equal weights on: the last one's equations, and its unknowns."""
    precision = np.full(equations.n_unknowns, _PRIOR_SD**-2)
    unknowns, robust, floor = np.zeros(equations.n_unknowns), np.ones(len(equations.value)), _FLOOR_START
    for _ in range(_ROUNDS):
        variance = equations.error**2 + floor**2
        normals = StarNormals.of(equations, robust / variance, precision)
        unknowns = normals.solve(normals.project(equations.value), unknowns, _ENOUGH)
        share = normals.share_left()
        squares = normals.residual(unknowns) ** 2 / np.maximum(share, _LEAST_SHARE)
        shared = share > _LEAST_SHARE
        if np.count_nonzero(shared) >= _LEAST_DETECTIONS:
            floor = excess_scatter(squares[shared], equations.error[shared], *_FLOOR_RANGE, n_halvings=12)
        robust = cauchy_weight(squares / variance, _CAUCHY)
    return normals, unknowns


def _differ(own: F8, error: F8) -> bool:
    """Whether images' numbers differ by more than their errors."""
    return len(own) > 1 and float(np.mean((own / error) ** 2)) - 1 > _REAL * np.sqrt(2 / len(own))


def _have_fields(normals: StarNormals, unknowns: F8) -> bool:
    """Whether widths follow the place in a camera's images."""
    equations = normals.equations
    k = equations.n_response
    for c, found in enumerate(equations.response(unknowns)):
        own = np.arange(c * k, (c + 1) * k)
        covariance = normals.response_columns(own)[:, equations.n_images + own]
        if real_parts(found, covariance, _ORDER).any():
            return True
    return False
