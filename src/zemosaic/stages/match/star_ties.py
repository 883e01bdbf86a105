"""Which detections of many images are one star: found on the sky, never image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.solve.cluster import group_detections
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import PhotoScale, order_of, surface_basis, surface_terms
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.stages.figures.stars import Detections
from zemosaic.stages.match.growth import WIDE_NOISE, Growth, fit_growth
from zemosaic.stages.match.own_widths import lost_over_typical
from zemosaic.stages.match.sightings import Sightings

__all__ = ["StarTies", "find_star_ties"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST_SNR = 10.0
"""In the colour that shows a star best: its error is then 10 %, and ties are weighted by their errors. Where overlaps
are thin some hold no brighter star."""

_MOST_STARS = 250
"""Brightest stars of an image that are used."""

_RADIUS_FWHM = 0.75
"""Detections of different images within it, in the typical FWHM, are one star; closer pairs would be blended."""

_GROWS = 4.0
"""Change of ln flux with ln aperture over what the wide aperture adds, on structure: flux over a curved sky grows with
the fourth power of the radius."""

_CLEAR = 2.0
"""Errors by which what the wide aperture adds must stand out to count as structure."""

_MOST_ADDED = 0.4
"""What a wide aperture adds at most, in ln: beyond, the measuring one holds no star."""


@dataclass(frozen=True, slots=True, eq=False)
class StarTies(Detections):
    """The same before anything is corrected, sorted by image.

    Attributes
    ----------
    flux, flux_error : ndarray, shape (c, n)
        Input units; non-positive fluxes are possible in single channels.
    growth : Growth
        What the fluxes were brought to totals with.
    """

    growth: Growth

    def __len__(self) -> int:
        return len(self.image)

    def without(self, field: F8, camera: Ints) -> StarTies:
        """The same with a known part of the responses taken out of the fluxes.

        Parameters
        ----------
        field : ndarray, shape (cameras, k)
            Of ln F, over `surface_basis` without the constant; k may be 0.
        camera : ndarray, shape (images,), int64
        """
        if not field.any():
            return self
        terms = surface_terms(self.u, self.v, order_of(field.shape[1]))[1:]
        factor = np.exp(-np.sum(field[camera[self.image]].T * terms, axis=0))
        return replace(self, flux=self.flux * factor, flux_error=self.flux_error * factor)

    def corrected(self, scales: Sequence[PhotoScale]) -> Detections:
        """The same with fluxes in mosaic units: over gain and response of their image."""
        factor = np.empty_like(self.flux)
        start = np.searchsorted(self.image, np.arange(len(scales) + 1))
        for scale, first, end in zip(scales, start, start[1:], strict=False):
            part = slice(first, end)
            factor[:, part] = 1 / (scale.gain[:, None] * scale.response_in(self.u[part], self.v[part]))
        return Detections(
            self.image, self.star, self.u, self.v, self.x, self.y, self.flux * factor, self.flux_error * factor,
            self.n_stars,
        )  # fmt: skip


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
    used, x, y = _place_stars(measurements, wcs, grid)
    image = np.repeat(np.arange(len(used)), [len(own) for own in used])
    star = np.empty(len(image), np.int64)
    radius = _RADIUS_FWHM * _typical_fwhm(measurements, wcs, grid)
    best_first = np.argsort(-np.concatenate(list(map(_snr, measurements, used))), kind="stable")
    n_stars = group_detections(x, y, best_first, radius, star)
    away = _log_width(measurements, wcs)
    sightings = Sightings(measurements, camera, _numbers(measurements, used, star))
    lost = lost_over_typical(sightings)
    growth = fit_growth(sightings, lost)
    key = star * np.int64(len(used)) + image
    _, where, count = np.unique(key, return_inverse=True, return_counts=True)
    keep = count[where] == 1
    shared = np.bincount(star[keep], minlength=n_stars) >= 2
    keep &= shared[star]
    number = np.cumsum(shared) - 1
    totals = [
        _total_fluxes(m, own, g, share[own], a)
        for m, own, g, share, a in zip(measurements, used, growth.coefficients, lost, away, strict=True)
    ]
    u, v, flux, error = (np.concatenate([t[q] for t in totals], axis=-1) for q in range(4))
    growth = replace(growth, error=np.hypot(growth.error, np.array([t[4] for t in totals])))
    return StarTies(
        image[keep], number[star[keep]], u[keep], v[keep], x[keep], y[keep], flux[:, keep], error[:, keep],
        int(shared.sum()), growth,
    )  # fmt: skip


def _clean_stars(measured: Measurements) -> npt.NDArray[np.bool_]:
    """Stars fit for photometry: neither saturated nor blended nor of another shape than the image's stars."""
    stars = measured.stars
    good = ~(stars.saturated | stars.blended)
    if np.isfinite(measured.fwhm_px):
        # Cosmic hits are too sharp, galaxies and pairs too wide.
        good &= np.abs(stars.fwhm_px / measured.fwhm_px - 1) < 0.35
    return good


def _usable_stars(measured: Measurements) -> Ints:
    """Which stars of an image are used."""
    stars = measured.stars
    good = _clean_stars(measured) & (stars.flux > _LEAST_SNR * stars.flux_error).any(axis=0)
    good &= np.cumsum(good) <= _MOST_STARS
    return np.flatnonzero(good)


def _place_stars(
    measurements: Sequence[Measurements], wcs: Sequence[CelestialWcs], grid: SkyGrid
) -> tuple[list[Ints], F8, F8]:
    """Used stars of every image that have a place on the grid, and the grid x and y of all."""
    used = [_usable_stars(m) for m in measurements]
    on_sky = [w.pixel_to_sky(m.stars.x[own], m.stars.y[own]) for m, w, own in zip(measurements, wcs, used, strict=True)]
    # All at once: a call takes as long as many stars.
    x, y = grid.wcs.sky_to_pixel(*np.concatenate(on_sky, axis=1))
    seen = np.isfinite(x) & np.isfinite(y)
    ends = np.cumsum([len(own) for own in used])[:-1]
    placed = [own[some] for own, some in zip(used, np.split(seen, ends), strict=True)]
    return placed, x[seen], y[seen]


def _snr(measured: Measurements, used: Ints) -> F8:
    """Signal to noise of an image's used stars in the colour that shows each best."""
    stars = measured.stars
    return np.asarray((stars.flux[:, used] / stars.flux_error[:, used]).max(axis=0), float)


def _numbers(measurements: Sequence[Measurements], used: list[Ints], star: Ints) -> list[Ints]:
    """The star of every detection of every image, -1 for those that are not used."""
    out = [np.full(len(m.stars), -1, np.int64) for m in measurements]
    ends = np.cumsum([len(index) for index in used])[:-1]
    for number, index, own in zip(out, used, np.split(star, ends), strict=True):
        number[index] = own
    return out


def _total_fluxes(measured: Measurements, used: Ints, growth: F8, lost: F8, away: float) -> tuple[F8, F8, F8, F8, F8]:
    """Image u and v, total flux and its error of an image's used stars, and the error of ln flux that they share, (c,).

    Apertures scale with the width; `away` is its ln over that of most images. That suits the star, but not the
    structure that it lies on: where the wide aperture shows such, another width shows another share of it, of all
    stars alike.
    """
    stars = measured.stars
    x, y = stars.x[used], stars.y[used]
    height, width = measured.shape
    total = np.exp(growth @ surface_basis(x, y, measured.shape) * lost)
    flux, error = stars.flux[:, used].astype(float), stars.flux_error[:, used].astype(float)
    ratio = stars.flux_wide[:, used] / np.where(flux > 0, flux * total, np.inf)
    known = np.isfinite(ratio)
    added = np.log(np.clip(np.where(known, ratio, 1.0), np.exp(-_MOST_ADDED), np.exp(_MOST_ADDED)))
    noise = error / np.maximum(np.abs(flux), 1e-30)
    structure = np.sqrt(np.maximum(added**2 - (_CLEAR * WIDE_NOISE * noise) ** 2, 0)) * np.sign(added) * _GROWS * away
    # Near a rim the wide aperture is cut: such stars are taken to lie on what the others lie on.
    typical = structure.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    structure = np.where(known, structure, typical)
    weight = 1 / (noise**2 + structure**2 + 1e-12)
    shared = np.abs(np.sum(weight * structure, axis=1)) / np.maximum(np.sum(weight, axis=1), 1e-300)
    error = np.hypot(error, structure * flux) * total
    flux = flux * total
    return 2 * (x + 0.5) / width - 1, 2 * (y + 0.5) / height - 1, flux, error, shared


def _log_width(measurements: Sequence[Measurements], wcs: Sequence[CelestialWcs]) -> F8:
    """ln of each image's stars' width on the sky over the median of all; 0 where it has none."""
    widths = np.array([m.fwhm_px * w.pixel_scale_arcsec() for m, w in zip(measurements, wcs, strict=True)])
    known = np.isfinite(widths)
    typical = float(np.median(widths[known])) if known.any() else 1.0
    return np.log(np.where(known, widths, typical) / typical)


def _typical_fwhm(measurements: Sequence[Measurements], wcs: Sequence[CelestialWcs], grid: SkyGrid) -> float:
    """Median FWHM of the images in pixels of the grid."""
    widths = [
        m.fwhm_px * w.pixel_scale_arcsec() / grid.scale_arcsec
        for m, w in zip(measurements, wcs, strict=True)
        if np.isfinite(m.fwhm_px)
    ]
    return float(np.median(widths)) if widths else 3.0
