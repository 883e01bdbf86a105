"""What the measuring aperture misses of a star's light: growth curves of all images, fitted together.

Each image has one number, shrunk towards its camera's mean as far as images of one camera agree; how the loss changes
over the field (a PSF that widens towards the corners) is a quadratic that all images of a camera share. One image's
stars alone would give either at ten times the error. The field's odd and even part are each taken only where they
are real (`camera_field`): what a growth curve invents the camera's response takes back, and sky is left with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import surface_basis
from zemosaic.stages.match.camera_field import real_parts
from zemosaic.stages.numeric.robust import MEDIAN_CHI2_1, cauchy_weight

__all__ = ["Growth", "fit_growth"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST_SNR = 40.0
"""A star's signal to noise from which its wide aperture tells more than noise (1.8 / 40 is 4.5 %)."""

_WIDE_NOISE = 1.8
"""Noise of the wide aperture over that of the measuring one (ratio of radii, a little more for the ring)."""

_FLOOR = 0.003
"""Scatter of ln(wide / measured) that no star is better than: rings of sky differ by as much."""

_FIELD_SD = 0.02
"""Width of the prior on each term of the field: a PSF wider by a tenth in the corners moves it by as much."""

_HELD = 1e12
"""Precision that holds a term at 0: far above that of any number of stars."""

_LEAST_CURVATURE = 0.2
"""Least mean curvature of the Cauchy loss over its weight; with most residuals far out it could turn negative."""

_CAUCHY = 2.0
"""Errors at which a star's weight is halved; narrow, since neighbours lie on one side alone."""

_REAL_CURVE = 3.0
"""Errors by which the even part must stand out. It looks like no trend of the gains, and where one of two cameras lost
it, their gains would be a few thousandths apart."""

_ROUNDS = 6
"""Reweighted solves; the last but one decides which parts are real. More change nothing above the errors."""

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


def fit_growth(measurements: Sequence[Measurements], camera: Ints, stars: Sequence[Ints]) -> Growth:
    """Growth curves of all images.

    Parameters
    ----------
    measurements : sequence of length n
    camera : ndarray, shape (n,), int64
        Numbers from 0 on.
    stars : sequence of length n of ndarray, int64
        For each detection of an image the number of its star, the same in all images; -1 where it does not count.
    """
    n, channels = len(measurements), measurements[0].n_channels if len(measurements) else 1
    cameras = int(camera.max()) + 1 if n else 0
    out, error = np.zeros((n, channels, 6)), np.zeros((n, channels))
    covariance, doubt = np.zeros((2, cameras, channels, 5, 5))
    for number in np.unique(camera):
        members = np.flatnonzero(camera == number)
        for c in range(channels):
            own, error[members, c], field, covariance[number, c], doubt[number, c] = _fit_camera(
                [measurements[int(i)] for i in members], [stars[int(i)] for i in members], c
            )
            out[members, c] = np.column_stack([own, np.tile(field, (len(own), 1))])
    return Growth(out, error, covariance, doubt)


def _fit_camera(measurements: list[Measurements], stars: list[Ints], channel: int) -> tuple[F8, F8, F8, F8, F8]:
    """Numbers of one camera's images with their errors, (images,), and their field (5,), its covariance and doubt."""
    n = len(measurements)
    image, star, basis, ratio, error = _bright_ratios(measurements, stars, channel)
    doubt = np.eye(5) * _FIELD_SD**2
    if len(ratio) == 0:
        return np.zeros(n), np.zeros(n), np.zeros(5), np.zeros((5, 5)), doubt
    weight = 1 / (error**2 + _FLOOR**2)
    own: F8 = np.full(n, np.median(ratio))
    robust, ridge, held = np.ones(len(ratio)), np.full(5, _FIELD_SD**-2), np.zeros(5, bool)
    for turn in range(_ROUNDS + 1):
        w = weight * robust
        total = np.maximum(np.bincount(image, w, n), 1e-9)
        # The images' own numbers are eliminated before the common field is solved for.
        centred = basis - (np.stack([np.bincount(image, w * q, n) for q in basis.T]) / total).T[image]
        inverse = np.asarray(np.linalg.inv(centred.T @ (w[:, None] * basis) + np.diag(ridge)), float)
        field = np.where(held, 0.0, inverse @ (centred.T @ (w * ratio)))
        own, own_error = _shrink(np.bincount(image, w * (ratio - basis @ field), n) / total, total)
        residual = ratio - basis @ field - own[image]
        # Of a Cauchy loss: its second derivative over the weight.
        curvature = max(float(np.sum(w * (2 * robust - 1)) / np.sum(w)), _LEAST_CURVATURE)
        covariance = _star_covariance(inverse / curvature, (w * residual)[:, None] * centred, star)
        # Where stars are few the prior holds the field, and its width is what is known.
        covariance += (inverse * ridge) @ inverse
        if turn == _ROUNDS - 1:
            # Parts that are not real are held at 0, and the rest found once more without them.
            held, doubt = ~real_parts(field, covariance, 2, even_errors=_REAL_CURVE), covariance
            ridge[held] = _HELD
        robust = cauchy_weight((residual * np.sqrt(weight)) ** 2, _CAUCHY)
    known = np.where(held | held[:, None], 0.0, covariance)
    return own, np.hypot(own_error, _DOUBT * own), field, known, doubt


def _star_covariance(inverse: F8, pulls: F8, star: Ints) -> F8:
    """Covariance of a field's terms when the residuals of a star go together in all images that see it.

    Neighbours and nebulosity change a star's ratio by far more than noise does, and by the same in every image. So
    what counts is the number of stars, not of detections (a cluster-robust variance, Liang & Zeger 1986).

    Parameters
    ----------
    inverse : ndarray, shape (k, k)
        Of the second derivatives of the loss.
    pulls : ndarray, shape (detections, k)
        What each detection adds to the loss's gradient.
    star : ndarray, shape (detections,), int64
    """
    number = np.unique(star, return_inverse=True)[1]
    sums = np.stack([np.bincount(number, q) for q in pulls.T])
    n_stars, k = sums.shape[1], len(inverse)
    # The fit has bent towards as many stars as it has terms.
    return np.asarray(inverse @ (sums @ sums.T) @ inverse * (n_stars / max(n_stars - k, 0.5)), float)


def _bright_ratios(measurements: list[Measurements], stars: list[Ints], channel: int) -> tuple[Ints, Ints, F8, F8, F8]:
    """Image, star, field terms (without the constant), ln(wide / measured) and its error, of all bright stars."""
    image, number, basis, ratio, error = [], [], [], [], []
    for i, (m, star) in enumerate(zip(measurements, stars, strict=True)):
        flux, wide = m.stars.flux[channel].astype(float), m.stars.flux_wide[channel].astype(float)
        flux_error = m.stars.flux_error[channel].astype(float)
        good = (star >= 0) & (flux > _LEAST_SNR * flux_error) & (wide > 0.7 * flux) & (wide < 1.5 * flux)
        image.append(np.full(np.count_nonzero(good), i))
        number.append(star[good])
        basis.append(surface_basis(m.stars.x[good], m.stars.y[good], m.shape)[1:].T)
        ratio.append(np.log(wide[good] / flux[good]))
        error.append(_WIDE_NOISE * flux_error[good] / flux[good])
    return (
        np.concatenate(image),
        np.concatenate(number),
        np.concatenate(basis),
        np.concatenate(ratio),
        np.concatenate(error),
    )


def _shrink(own: F8, precision: F8) -> tuple[F8, F8]:
    """Each image's number drawn to the mean of all, by its error against the true scatter; what error is left."""
    known = precision > 1e-6
    mean = float(np.sum(own[known] * precision[known]) / np.sum(precision[known]))
    squares = (own[known] - mean) ** 2
    # Excess of the scatter over the errors, from medians: one wild image must not free all others.
    scatter2 = max(float(np.median(squares) / MEDIAN_CHI2_1 - np.median(1 / precision[known])), 0.0)
    trust = scatter2 / (scatter2 + 1 / precision)
    return mean + (own - mean) * trust, np.sqrt(trust / precision)
