"""What is the same for all planes of a mosaic that is held against the truth: where on its grid the truth lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate.truth import ExposureTruth, SetTruth

__all__ = ["POINTS_PER_SEGMENT", "Ground", "Pixels", "filled_share", "mosaic_fwhm"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_BORDER_OFFSET_PX = 6.0
"""Distance of the compared means of 7 x 7 pixels from an exposure's border: none reaches over it."""

_SEGMENT_PX = 96.0
"""Length of border that makes one value."""

POINTS_PER_SEGMENT = 16
"""Means along a segment: one every six pixels, so that those of 7 x 7 pixels meet."""

_FIRST, _EVERY = 4, 8
"""Of the mosaic's rows and columns, those whose pixels tell what is filled."""

Pixels = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Mask]
"""Rows and columns of the mosaic's pixels nearest to some points, and which points lie within it."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What is the same for all planes of a mosaic: truth and grid, and where on it the truth lies.

    Attributes
    ----------
    truth : SetTruth
    wcs : CelestialWcs
    x, y : ndarray
        Pixels of the sky's stars.
    fwhm_px : float
        Of stars.
    borders : list of (Pixels, Pixels)
        Points ``(n_segments, 16)`` just inside and just outside the border of each exposure.
    covered : ndarray of bool
        Of every eighth row and column, what lies well within an exposure.
    """

    truth: SetTruth
    wcs: CelestialWcs
    x: Array
    y: Array
    fwhm_px: float
    borders: list[tuple[Pixels, Pixels]]
    covered: Mask

    @classmethod
    def of(cls, truth: SetTruth, wcs: CelestialWcs) -> Ground:
        """The ground of mosaics on a grid."""
        x, y = wcs.sky_to_pixel(truth.sky.star_ra, truth.sky.star_dec)
        exposures = _good(truth)
        borders = [_find_border(exposure, wcs) for exposure in exposures]
        return cls(truth, wcs, x, y, mosaic_fwhm(truth, wcs), borders, _find_covered(wcs, exposures))


def mosaic_fwhm(truth: SetTruth, wcs: CelestialWcs) -> float:
    """Width of stars in pixels of a mosaic: the mean of the good exposures."""
    arcsec = [e.fwhm_px * np.sqrt(e.area) * truth.sky.pixel_arcsec for e in _good(truth)]
    return float(np.mean(arcsec)) / wcs.pixel_scale_arcsec()


def _good(truth: SetTruth) -> list[ExposureTruth]:
    return [e for e in truth.exposures if e.condition == "good"]


def _find_border(exposure: ExposureTruth, wcs: CelestialWcs) -> tuple[Pixels, Pixels]:
    """Pixels of a mosaic just inside and just outside the border of an exposure's data."""
    image_wcs = exposure.celestial
    offset = _BORDER_OFFSET_PX * wcs.pixel_scale_arcsec() / image_wcs.pixel_scale_arcsec()
    inside, outside = _border_points(exposure, offset)
    return _find_pixels(wcs, image_wcs, inside), _find_pixels(wcs, image_wcs, outside)


def _find_pixels(wcs: CelestialWcs, image_wcs: CelestialWcs, points: Array) -> Pixels:
    """Pixels of a mosaic at points of an exposure."""
    x, y = wcs.sky_to_pixel(*image_wcs.pixel_to_sky(*points))
    i, j = np.rint(x).astype(int), np.rint(y).astype(int)
    return j, i, (i >= 0) & (j >= 0) & (i < wcs.shape[1]) & (j < wcs.shape[0])


def _border_points(exposure: ExposureTruth, offset: float) -> tuple[Array, Array]:
    """Points ``(2, n_segments, 16)`` just inside and just outside the border of the data."""
    height, width = exposure.shape
    left, right, low, high = -0.5, width - exposure.border_px - 0.5, exposure.border_px - 0.5, height - 0.5
    sides = [
        ((left, low), (right, low), (0, 1)),
        ((left, high), (right, high), (0, -1)),
        ((left, low), (left, high), (1, 0)),
        ((right, low), (right, high), (-1, 0)),
    ]
    inside, outside = [], []
    for start, end, inwards in sides:
        start_px, end_px, normal = np.array(start), np.array(end), np.array(inwards, float)
        n_segments = max(round(float(np.abs(end_px - start_px).max()) / _SEGMENT_PX), 1)
        n_points = n_segments * POINTS_PER_SEGMENT
        t = ((np.arange(n_points) + 0.5) / n_points).reshape(n_segments, POINTS_PER_SEGMENT)
        points = start_px[:, None, None] + (end_px - start_px)[:, None, None] * t
        inside.append(points + offset * normal[:, None, None])
        outside.append(points - offset * normal[:, None, None])
    return np.concatenate(inside, axis=1), np.concatenate(outside, axis=1)


def filled_share(valid: Mask, covered: Mask) -> float:
    """Share of what is `covered` on the ground where a plane is `valid`: where it holds data, shape (h, w)."""
    return float(valid[_FIRST::_EVERY, _FIRST::_EVERY][covered].mean()) if covered.any() else 0.0


def _find_covered(wcs: CelestialWcs, exposures: list[ExposureTruth]) -> Mask:
    """The union of footprints of exposures, 8 pixels in from their borders, on rows and columns `_EVERY` apart."""
    height, width = wcs.shape
    rows, columns = np.mgrid[_FIRST:height:_EVERY, _FIRST:width:_EVERY]
    ra, dec = wcs.pixel_to_sky(columns, rows)
    covered = np.zeros(rows.shape, bool)
    for e in exposures:
        x, y = e.celestial.sky_to_pixel(ra, dec)
        covered |= (x > 8) & (y > e.border_px + 8) & (x < e.shape[1] - e.border_px - 9) & (y < e.shape[0] - 9)
    return covered
