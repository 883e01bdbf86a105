"""What the measuring aperture misses of a star's light: growth curves of all images, fitted together.

Each image has one number, shrunk towards its camera's mean as far as images of one camera agree; how the loss changes
over the field (a PSF that widens towards the corners) is a quadratic that all images of a camera share. One image's
stars alone would give either at ten times the error. The field's odd and even part are each taken only where they
are real (`camera_field`): what a growth curve invents the camera's response takes back, and sky is left with it.

A star's neighbours, and nebulosity behind it, add to its wide aperture the same in all images. So each star has an
offset of its own, which is small for most stars: on smooth sky a star tells the loss itself, on bright structure it
tells only how images differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match.gains import Detections
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import surface_basis
from zemosaic.stages.match.camera_field import real_parts
from zemosaic.stages.match.sightings import Sightings
from zemosaic.stages.match.star_equations import StarEquations, StarNormals
from zemosaic.stages.numeric.robust import MEDIAN_CHI2_1, cauchy_weight, excess_scatter

__all__ = ["WIDE_NOISE", "Growth", "fit_growth"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_LEAST_SNR = 40.0
"""A star's signal to noise from which its wide aperture tells more than noise (1.8 / 40 is 4.5 %)."""

WIDE_NOISE = 1.8
"""Noise of the wide aperture over that of the measuring one (ratio of radii, a little more for the ring)."""

_FLOOR = 0.003
"""Scatter of ln(wide / measured) that no detection is better than: rings of sky differ by as much."""

_OFFSET_START = 0.01
"""Scatter of the stars' own offsets to start from."""

_OFFSET_RANGE = 1e-3, 0.1
"""Bounds of that scatter: rings differ by the lower, and beyond the upper no star tells the loss itself."""

_LEAST_STARS = 10
"""Fewer do not tell their own scatter."""

_FREE_SD = 0.3
"""Scatter that leaves offsets free, so that only differences between images count."""

_OWN_SD = 0.03
"""Scatter of the images' numbers to start from: seeing and focus change what is missed by as much."""

_LEAST_OWN_SD = 1e-4
"""Least scatter of the images' numbers: below all errors, and wide enough for the solve to find their mean."""

_FIELD_SD = 0.02
"""Width of the prior on each term of the field: a PSF wider by a tenth in the corners moves it by as much."""

_HELD = 1e10
"""Precision that holds a term at 0: far above that of any number of stars."""

_LEAST_CURVATURE = 0.2
"""Least mean curvature of the Cauchy loss over its weight; with most residuals far out it could turn negative."""

_LEAST_SHARE = 0.1
"""A detection that is nearly all of its star's weight has nearly no residual: its pull is not blown up by more."""

_CAUCHY = 2.0
"""Errors at which a star's weight is halved; narrow, since neighbours lie on one side alone."""

_REAL_CURVE = 3.0
"""Errors by which the even part must stand out. It looks like no trend of the gains, and where one of two cameras lost
it, their gains would be a few thousandths apart."""

_PAIR_ROUNDS = 3
"""Reweighted solves by images' differences alone."""

_ROUNDS = 4
"""Further ones, which decide which parts are real. More change nothing above the errors."""

_LAST_ROUNDS = 2
"""Solves once that is decided, and how far images differ."""

_DOUBT = 0.03
"""Share of the correction itself that seeing and focus change without the measured width showing it."""


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """ln of total over measured flux of all images.

    Attributes
    ----------
    coefficients : ndarray, shape (n, c, 6)
        Of a quadratic over each image; zeros for images of cameras without bright stars.
    error : ndarray, shape (n, c)
        Error of each image's own number; 0 where there is no bright star to tell.
    field_covariance : ndarray, shape (cameras, c, 5, 5)
        Of the terms beyond the constant, which images of a camera share; 0 for those taken as 0.
    field_doubt : ndarray, shape (cameras, c, 5, 5)
        The same before any part was taken as 0: how well the stars tell the field.
    """

    coefficients: F8
    error: F8
    field_covariance: F8
    field_doubt: F8


@dataclass(frozen=True, slots=True, eq=False)
class GrowthState:
    """Where the reweighting of one camera stands.

    Attributes
    ----------
    unknowns : ndarray, shape (images + 5,)
        Numbers of the images, then terms of the field.
    normals : StarNormals
        With which they were found.
    residual : ndarray, shape (detections,)
    robust : ndarray, shape (detections,)
        Factors of the next weights.
    near : ndarray, shape (stars,)
        Factors of the precisions of the stars' offsets in the next solve: small for a star that stands out.
    scatter : float
        Of the offsets.
    curvature : float
        Second derivative of the Cauchy loss over its weight.
    """

    unknowns: F8
    normals: StarNormals
    residual: F8
    robust: F8
    near: F8
    scatter: float
    curvature: float

    @property
    def own(self) -> F8:
        """Numbers of the images."""
        return self.unknowns[: self.normals.equations.n_images]

    @property
    def field(self) -> F8:
        """Terms of the field, shape (5,)."""
        return self.unknowns[self.normals.equations.n_images :]


def fit_growth(sightings: Sightings, lost: Sequence[F8]) -> Growth:
    """Growth curves of all images.

    Parameters
    ----------
    sightings : Sightings
    lost : sequence of length n of ndarray
        What each detection loses over what a star of its image's typical width does.
    """
    measurements, camera, stars = sightings.measurements, sightings.camera, sightings.stars
    n, channels = len(measurements), measurements[0].n_channels if len(measurements) else 1
    cameras = int(camera.max()) + 1 if n else 0
    out, error = np.zeros((n, channels, 6)), np.zeros((n, channels))
    covariance, doubt = np.zeros((2, cameras, channels, 5, 5))
    for number in np.unique(camera):
        members = np.flatnonzero(camera == number)
        for c in range(channels):
            images = [(measurements[i], stars[i], lost[i]) for i in members.tolist()]
            equations = _bright_ratios(images, c)
            own, error[members, c], field, covariance[number, c], doubt[number, c] = _fit_camera(equations)
            out[members, c] = np.column_stack([own, np.tile(field, (len(own), 1))])
    return Growth(out, error, covariance, doubt)


def _fit_camera(equations: StarEquations) -> tuple[F8, F8, F8, F8, F8]:
    """Numbers of one camera's images with their errors, (images,), and their field (5,), its covariance and doubt."""
    n = equations.n_images
    if len(equations.value) == 0:
        return np.zeros(n), np.zeros(n), np.zeros(5), np.zeros((5, 5)), np.eye(5) * _FIELD_SD**2
    precision = np.concatenate([np.full(n, _OWN_SD**-2), np.full(5, _FIELD_SD**-2)])
    ones = np.ones(len(equations.value))
    near, free = np.ones(equations.n_stars), np.full(equations.n_stars, _FREE_SD**2)
    normals = StarNormals.of(equations, ones, precision, 1 / free)
    state = GrowthState(np.zeros(n + 5), normals, np.zeros_like(ones), ones, near, _OFFSET_START, 1.0)
    for _ in range(_PAIR_ROUNDS):
        state = step(precision, state, free)
    shared = _shared_offsets(state)
    for _ in range(_ROUNDS):
        state = step(precision, state, shared)
    doubt, error = _field_covariance(state), _own_errors(state)
    # Parts that are not real are held at 0, and the rest found once more without them.
    held = ~real_parts(state.field, doubt, 2, even_errors=_REAL_CURVE)
    own_variance = _true_variance(state.own, error)
    precision[:n], precision[n:][held] = 1 / own_variance, _HELD
    for _ in range(_LAST_ROUNDS):
        state = step(precision, state, shared)
    covariance = np.where(held | held[:, None], 0.0, _field_covariance(state))
    error = 1 / np.sqrt(1 / own_variance + 1 / error**2)
    return state.own, np.hypot(error, _DOUBT * state.own), np.where(held, 0.0, state.field), covariance, doubt


def step(precision: F8, state: GrowthState, shared: F8) -> GrowthState:
    """One solve with the weights so far; what it leaves tells the scatter of the offsets and the next weights.

    `shared` (stars,) is the variance that each star's offset has beyond the scatter.
    """
    equations = state.normals.equations
    variance = equations.error**2 + _FLOOR**2
    normals = StarNormals.of(equations, state.robust / variance, precision, state.near / (state.scatter**2 + shared))
    unknowns = normals.solve(normals.project(equations.value), state.unknowns)
    residual = normals.residual(unknowns)
    pull2 = residual**2 / (variance * np.maximum(normals.share_left(), _LEAST_SHARE))
    robust = cauchy_weight(pull2, _CAUCHY)
    offset, error = normals.star_means(unknowns)
    squares = offset**2
    scatter = _OFFSET_START
    if len(squares) >= _LEAST_STARS:
        scatter = excess_scatter(squares, error, *_OFFSET_RANGE, n_halvings=12)
    near = cauchy_weight(squares / (error**2 + scatter**2), _CAUCHY)
    curvature = min(_curvature(near, near), _curvature(robust, normals.weight))
    return GrowthState(unknowns, normals, residual, robust, near, scatter, curvature)


def _shared_offsets(state: GrowthState) -> F8:
    """Variance that the stars of an image have in common, times their number: what one star's would be; shape (stars,).

    Nebulosity behind a whole image adds to all of its stars, which then tell its own loss no better than one star.
    It shows where their offsets, as images' differences alone give them, have a mean that their scatter cannot explain.
    """
    normals, seen = state.normals, state.normals.equations.detections
    weight, image, n = normals.weight, seen.image, seen.n_images
    total = np.maximum(np.bincount(image, weight, n), 1e-300)
    common = np.bincount(image, weight * normals.star_means(state.unknowns)[0][seen.star], n) / total
    count = total**2 / np.maximum(np.bincount(image, weight**2, n), 1e-300)
    differences = np.maximum(np.bincount(image, weight * normals.share_left(), n), 1e-300)
    mean = float(np.sum(common * total) / np.sum(total))
    excess = np.maximum((common - mean) ** 2 - state.scatter**2 / np.maximum(count, 1) - 1 / differences, 0) * count
    return np.asarray(np.bincount(seen.star, excess[image]) / np.bincount(seen.star))


def _curvature(robust: F8, weight: F8) -> float:
    """Mean second derivative of a Cauchy loss over its weight."""
    return max(float(np.sum(weight * (2 * robust - 1)) / np.sum(weight)), _LEAST_CURVATURE)


def _own_errors(state: GrowthState) -> F8:
    """Errors of the images' own numbers against each other, shape (images,); inf of an image without a bright star."""
    normals, image = state.normals, state.normals.equations.detections.image
    n = normals.equations.n_images
    error = normals.gain_errors(np.zeros(n, np.int64))
    # Where an image's stars scatter by more than their errors, as on structure seen in other seeing, it is less known
    # (a sandwich variance, Huber 1967).
    shown = np.bincount(image, (normals.weight * state.residual) ** 2, n)
    expected = np.bincount(image, normals.weight * normals.share_left(), n)
    known = np.bincount(image, minlength=n) > 0
    error *= np.sqrt(np.maximum(shown / np.where(known, expected, 1.0), 1.0))
    # The mean is free: a camera's only image has no error against it.
    return np.where(known, np.maximum(error, _LEAST_OWN_SD), np.inf)


def _true_variance(own: F8, error: F8) -> float:
    """Variance of the images' numbers about their mean beyond their errors."""
    known = np.isfinite(error)
    precision = 1 / error[known] ** 2
    mean = float(np.sum(own[known] * precision) / np.sum(precision))
    squares = (own[known] - mean) ** 2
    # From medians: one wild image must not free all others.
    return max(float(np.median(squares) / MEDIAN_CHI2_1 - np.median(1 / precision)), _LEAST_OWN_SD**2)


def _field_covariance(state: GrowthState) -> F8:
    """Covariance of the field's terms, shape (5, 5), when what a star's offset leaves goes together in all images.

    So what counts is the number of stars, not of detections (a cluster-robust variance, Liang & Zeger 1986).
    """
    normals, equations = state.normals, state.normals.equations
    n, star = equations.n_images, equations.detections.star
    rows = normals.response_columns(np.arange(5))
    pulls = normals.weight * state.residual / state.curvature
    sums = np.stack([np.bincount(star, pulls * equations.model(row)) for row in rows])
    # Where stars are few the prior holds the field, and its width is what is known.
    held = rows[:, n:] * normals.precision[n:]
    # The fit has bent towards as many stars as it has terms.
    n_stars = equations.n_stars
    shown = np.sum(sums[:, None] * sums, axis=-1) * (n_stars / max(n_stars - 5, 0.5))
    return np.asarray(shown + held @ rows[:, n:].T, float)


def _bright_ratios(seen_by: Sequence[tuple[Measurements, Ints, F8]], channel: int) -> StarEquations:
    """ln(wide / measured) of a star of typical width and its error, of all bright stars of one camera's images."""
    image, number, places, ratio, error = [], [], [], [], []
    for i, (m, star, share) in enumerate(seen_by):
        flux, wide = m.stars.flux[channel].astype(float), m.stars.flux_wide[channel].astype(float)
        flux_error = m.stars.flux_error[channel].astype(float)
        good = (star >= 0) & (flux > _LEAST_SNR * flux_error) & (wide > 0.7 * flux) & (wide < 1.5 * flux)
        image.append(np.full(np.count_nonzero(good), i, np.int64))
        number.append(star[good])
        places.append(surface_basis(m.stars.x[good], m.stars.y[good], m.shape, 1)[1:])
        ratio.append(np.log(wide[good] / flux[good]) / share[good])
        error.append(WIDE_NOISE * flux_error[good] / flux[good] / share[good])
    images, (u, v) = np.concatenate(image), np.concatenate(places, axis=1)
    names, numbers = np.unique(np.concatenate(number), return_inverse=True)
    seen = Detections(images, np.zeros_like(images), numbers.astype(np.int64), u, v, 2, len(seen_by))
    return StarEquations(seen, np.concatenate(ratio), np.concatenate(error), len(names), 1)
