"""What the measuring aperture misses of a star's light: growth curves of all images, fitted together.

Each image has one number, shrunk towards its camera's mean as far as images of one camera agree; how the loss changes
over the field (a PSF that widens towards the corners) is a quadratic that all images of a camera share. One image's
stars alone would give either at ten times the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zemosaic.model.measurements import Measurements
from zemosaic.model.photometry import surface_basis

__all__ = ["clean_stars", "fit_growth"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST_SNR = 40.0
_WIDE_NOISE = 1.8
"""Noise of the wide aperture over that of the measuring one (ratio of radii, a little more for the ring)."""

_FLOOR = 0.003
_FIELD_SD = 0.02
_ROUNDS = 6
_DOUBT = 0.03
"""Share of the correction itself that seeing and focus change without the measured width showing it."""


def clean_stars(measured: Measurements) -> npt.NDArray[np.bool_]:
    """Stars fit for photometry: neither saturated nor blended nor of another shape than the image's stars."""
    stars = measured.stars
    good = ~(stars.saturated | stars.blended)
    if np.isfinite(measured.fwhm_px):
        # Cosmic hits are too sharp, galaxies and pairs too wide.
        good &= np.abs(stars.fwhm_px / measured.fwhm_px - 1) < 0.35
    return good


def fit_growth(measurements: Sequence[Measurements], camera: Ints) -> tuple[F8, F8]:
    """ln of total over measured flux as coefficients of a quadratic over each image.

    Parameters
    ----------
    measurements : sequence of length n
    camera : ndarray, shape (n,), int64

    Returns
    -------
    growth : ndarray, shape (n, c, 6)
        Zeros for images of cameras without bright stars.
    error : ndarray, shape (n, c)
        Error of each image's own number; 0 where there is no bright star to tell.
    """
    channels = measurements[0].n_channels if len(measurements) else 1
    out, error = np.zeros((len(measurements), channels, 6)), np.zeros((len(measurements), channels))
    for number in np.unique(camera):
        members = np.flatnonzero(camera == number)
        for c in range(channels):
            out[members, c], error[members, c] = _fit_camera([measurements[int(i)] for i in members], c)
    return out, error


def _fit_camera(measurements: list[Measurements], channel: int) -> tuple[F8, F8]:
    """Growth of the images of one camera, shape (images, 6), and errors, shape (images,)."""
    n = len(measurements)
    image, basis, ratio, error = _bright_ratios(measurements, channel)
    if len(ratio) == 0:
        return np.zeros((n, 6)), np.zeros(n)
    weight = 1 / (error**2 + _FLOOR**2)
    own: F8 = np.zeros(n)
    field: F8 = np.zeros(5)
    robust = np.ones(len(ratio))
    ridge = np.eye(5) / _FIELD_SD**2
    own += np.median(ratio)
    for _ in range(_ROUNDS):
        w = weight * robust
        total = np.maximum(np.bincount(image, w, n), 1e-9)
        # The images' own numbers are eliminated before the common field is solved for.
        centred = basis - (np.stack([np.bincount(image, w * q, n) for q in basis.T]) / total).T[image]
        normal = centred.T @ (w[:, None] * basis) + ridge
        field = np.asarray(np.linalg.solve(normal, centred.T @ (w * ratio)), float)
        own, error = _shrink(np.bincount(image, w * (ratio - basis @ field), n) / total, total)
        pull = (ratio - basis @ field - own[image]) * np.sqrt(weight)
        robust = 1 / (1 + (pull / 2) ** 2)
    return np.column_stack([own, np.broadcast_to(field, (n, 5))]), np.hypot(error, _DOUBT * own)


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
