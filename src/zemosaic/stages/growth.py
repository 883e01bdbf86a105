"""What the measuring aperture misses of a star's light: growth curves of all images, fitted together.

Each image has one number, shrunk towards its camera's mean as far as images of one camera agree; how the loss changes
over the field (a PSF that widens towards the corners) is a quadratic that all images of a camera share. One image's
stars alone would give either at ten times the error. The field's slopes are taken only
where they are real (`camera_field`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.measurements import Measurements
from zemosaic.model.photometry import surface_basis
from zemosaic.stages.camera_field import odd_terms, real_parts

__all__ = ["Growth", "clean_stars", "fit_growth"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST_SNR = 40.0
_WIDE_NOISE = 1.8
"""Noise of the wide aperture over that of the measuring one (ratio of radii, a little more for the ring)."""

_FLOOR = 0.003
_FIELD_SD = 0.02
_HELD = 1e12
_ROUNDS = 6
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
    """

    coefficients: F8
    error: F8
    field_covariance: F8


def clean_stars(measured: Measurements) -> npt.NDArray[np.bool_]:
    """Stars fit for photometry: neither saturated nor blended nor of another shape than the image's stars."""
    stars = measured.stars
    good = ~(stars.saturated | stars.blended)
    if np.isfinite(measured.fwhm_px):
        # Cosmic hits are too sharp, galaxies and pairs too wide.
        good &= np.abs(stars.fwhm_px / measured.fwhm_px - 1) < 0.35
    return good


def fit_growth(measurements: Sequence[Measurements], camera: Ints) -> Growth:
    """Growth curves of all images.

    Parameters
    ----------
    measurements : sequence of length n
    camera : ndarray, shape (n,), int64
        Numbers from 0 on.
    """
    n, channels = len(measurements), measurements[0].n_channels if len(measurements) else 1
    cameras = int(camera.max()) + 1 if n else 0
    out, error, covariance = np.zeros((n, channels, 6)), np.zeros((n, channels)), np.zeros((cameras, channels, 5, 5))
    for number in np.unique(camera):
        members = np.flatnonzero(camera == number)
        for c in range(channels):
            own, own_error, field, field_covariance = _fit_camera([measurements[int(i)] for i in members], c)
            out[members, c], error[members, c] = np.column_stack([own, np.tile(field, (len(own), 1))]), own_error
            covariance[number, c] = field_covariance
    return Growth(out, error, covariance)


def _fit_camera(measurements: list[Measurements], channel: int) -> tuple[F8, F8, F8, F8]:
    """Numbers of one camera's images with their errors, (images,), their common field (5,) and its covariance."""
    n = len(measurements)
    image, basis, ratio, error = _bright_ratios(measurements, channel)
    if len(ratio) == 0:
        return np.zeros(n), np.zeros(n), np.zeros(5), np.zeros((5, 5))
    weight = 1 / (error**2 + _FLOOR**2)
    own: F8 = np.full(n, np.median(ratio))
    robust, ridge = np.ones(len(ratio)), np.eye(5) / _FIELD_SD**2
    for turn in range(_ROUNDS + 1):
        w = weight * robust
        total = np.maximum(np.bincount(image, w, n), 1e-9)
        # The images' own numbers are eliminated before the common field is solved for.
        centred = basis - (np.stack([np.bincount(image, w * q, n) for q in basis.T]) / total).T[image]
        covariance = np.asarray(np.linalg.inv(centred.T @ (w[:, None] * basis) + ridge), float)
        field = np.asarray(covariance @ (centred.T @ (w * ratio)), float)
        if turn == _ROUNDS - 1:
            # Slopes that are not real are held at 0, and the rest found once more without them.
            ridge += np.diag(np.where(odd_terms(2) & ~real_parts(field, covariance, 2), _HELD, 0.0))
        own, own_error = _shrink(np.bincount(image, w * (ratio - basis @ field), n) / total, total)
        pull = (ratio - basis @ field - own[image]) * np.sqrt(weight)
        robust = 1 / (1 + (pull / 2) ** 2)
    return own, np.hypot(own_error, _DOUBT * own), field, covariance


def _bright_ratios(measurements: list[Measurements], channel: int) -> tuple[Ints, F8, F8, F8]:
    """Image, field terms (without the constant), ln(wide / measured) and its error, of all bright clean stars."""
    image, basis, ratio, error = [], [], [], []
    for i, m in enumerate(measurements):
        flux, wide = m.stars.flux[channel].astype(float), m.stars.flux_wide[channel].astype(float)
        flux_error = m.stars.flux_error[channel].astype(float)
        good = clean_stars(m) & (flux > _LEAST_SNR * flux_error) & (wide > 0.7 * flux) & (wide < 1.5 * flux)
        image.append(np.full(np.count_nonzero(good), i))
        basis.append(surface_basis(m.stars.x[good], m.stars.y[good], m.shape)[1:].T)
        ratio.append(np.log(wide[good] / flux[good]))
        error.append(_WIDE_NOISE * flux_error[good] / flux[good])
    return np.concatenate(image), np.concatenate(basis), np.concatenate(ratio), np.concatenate(error)


def _shrink(own: F8, precision: F8) -> tuple[F8, F8]:
    """Each image's number drawn to the mean of all, by its error against the true scatter; what error is left."""
    known = precision > 1e-6
    mean = float(np.sum(own[known] * precision[known]) / np.sum(precision[known]))
    squares = (own[known] - mean) ** 2
    # Excess of the scatter over the errors, from medians: one wild image must not free all others.
    scatter2 = max(float(np.median(squares) / 0.455 - np.median(1 / precision[known])), 0.0)
    trust = scatter2 / (scatter2 + 1 / precision)
    return mean + (own - mean) * trust, np.sqrt(trust / precision)
