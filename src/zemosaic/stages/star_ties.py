"""Which detections of many images are one star: found on the sky, never image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.cluster import group_detections
from zemosaic.model.celestial import CelestialWcs
from zemosaic.model.measurements import Measurements
from zemosaic.model.photometry import surface_basis
from zemosaic.model.sky import SkyGrid
from zemosaic.stages.growth import Growth, clean_stars, fit_growth

__all__ = ["StarTies", "find_star_ties"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST_SNR = 20.0
_MOST_STARS = 250
"""Brightest stars of an image that are used."""

_RADIUS_FWHM = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class StarTies:
    """Detections of stars that at least two images share, sorted by image.

    Attributes
    ----------
    image, star : ndarray, shape (n,), int64
        Index of the image and of the star.
    u, v : ndarray, shape (n,)
        Position in the image, -1 to 1 over its width and height.
    flux, flux_error : ndarray, shape (c, n)
        Input units; non-positive fluxes are possible in single channels.
    n_stars : int
    growth : Growth
        What the fluxes were brought to totals with.
    """

    image: Ints
    star: Ints
    u: F8
    v: F8
    flux: F8
    flux_error: F8
    n_stars: int
    growth: Growth

    def __len__(self) -> int:
        return len(self.image)


def find_star_ties(
    measurements: Sequence[Measurements], wcs: Sequence[CelestialWcs], grid: SkyGrid, camera: Ints
) -> StarTies:
    """Match clean stars of all images by their place on the sky.

    Saturated and blended stars are left out. Detections within 0.75 of the median FWHM of the best measured
    one are one star; a star with two detections in one image is ambiguous there and loses both.

    Parameters
    ----------
    measurements, wcs : sequences of one length
    grid : SkyGrid
        Gives the plane on which positions are compared.
    camera : ndarray, shape (images,), int64
        Images of one camera share the shape of their growth curve.
    """
    growth = fit_growth(measurements, camera)
    parts = [_place_stars(m, w, grid, g) for m, w, g in zip(measurements, wcs, growth.coefficients, strict=True)]
    image = np.concatenate([np.full(len(p[0]), k) for k, p in enumerate(parts)])
    x, y, u, v, flux, error = (np.concatenate([p[q] for p in parts], axis=-1) for q in range(6))
    radius = _RADIUS_FWHM * _typical_fwhm(measurements, wcs, grid)
    star = np.empty(len(image), np.int64)
    snr = (flux / error).max(axis=0) if len(image) else np.zeros(0)
    n_stars = group_detections(x, y, np.argsort(-snr, kind="stable"), radius, star)
    key = star * np.int64(len(parts)) + image
    _, where, count = np.unique(key, return_inverse=True, return_counts=True)
    keep = count[where] == 1
    shared = np.bincount(star[keep], minlength=n_stars) >= 2
    keep &= shared[star]
    number = np.cumsum(shared) - 1
    return StarTies(
        image[keep], number[star[keep]], u[keep], v[keep], flux[:, keep], error[:, keep], int(shared.sum()),
        growth,
    )  # fmt: skip


def _place_stars(measured: Measurements, wcs: CelestialWcs, grid: SkyGrid, growth: F8) -> tuple[F8, F8, F8, F8, F8, F8]:
    """Grid x, y, image u, v, total flux and error of an image's usable stars."""
    stars = measured.stars
    good = clean_stars(measured) & (stars.flux > _LEAST_SNR * stars.flux_error).any(axis=0)
    good &= np.cumsum(good) <= _MOST_STARS
    x, y = stars.x[good], stars.y[good]
    gx, gy = grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
    seen = np.isfinite(gx) & np.isfinite(gy)
    height, width = measured.shape
    u, v = 2 * (x[seen] + 0.5) / width - 1, 2 * (y[seen] + 0.5) / height - 1
    flux, error = stars.flux[:, good].astype(float), stars.flux_error[:, good].astype(float)
    total = np.exp(growth @ surface_basis(x[seen], y[seen], measured.shape))
    return gx[seen], gy[seen], u, v, flux[:, seen] * total, error[:, seen] * total


def _typical_fwhm(measurements: Sequence[Measurements], wcs: Sequence[CelestialWcs], grid: SkyGrid) -> float:
    """Median FWHM of the images in pixels of the grid."""
    widths = [
        m.fwhm_px * w.pixel_scale_arcsec() / grid.scale_arcsec
        for m, w in zip(measurements, wcs, strict=True)
        if np.isfinite(m.fwhm_px)
    ]
    return float(np.median(widths)) if widths else 3.0
