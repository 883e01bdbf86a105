"""A pixel grid on the sky: any astropy WCS, spoken to in ICRS degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from astropy.coordinates import ICRS, BarycentricMeanEcliptic, BaseCoordinateFrame, SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS, NoConvergence
from astropy.wcs.utils import wcs_to_celestial_frame

from zemosaic.model.box import Box

__all__ = ["SQUARE", "CelestialWcs", "HeaderCards", "WcsSource", "aspect_of", "ra_dec_of", "unit_vectors"]

Array = npt.NDArray[np.float64]

SQUARE = 0.02
"""Sides of a pixel that differ by less (relative) are equal: refraction and a tilted sensor squeeze a field by less."""


def unit_vectors(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Array:
    """Unit vectors ``(..., 3)`` of positions in degrees."""
    ra, dec = np.deg2rad(np.asarray(ra_deg, float)), np.deg2rad(np.asarray(dec_deg, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def ra_dec_of(vectors: Array) -> tuple[Array, Array]:
    """Positions in degrees of vectors ``(..., 3)`` of any length: the inverse of `unit_vectors`."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.rad2deg(np.arctan2(y, x)) % 360, np.rad2deg(np.arctan2(z, np.hypot(x, y)))


def aspect_of(matrix: Array) -> float:
    """Height of a pixel over its width, by a matrix (2, 2) from pixels to the sky; 1 within `SQUARE`."""
    width, height = np.hypot(*matrix)
    return 1.0 if abs(height / width - 1) < SQUARE else float(height / width)


class WcsSource(Protocol):
    """What the WCS of an image of some shape is made of, always the same one."""

    def header(self, shape: tuple[int, int]) -> Header:
        """FITS cards that tell it."""
        ...

    def celestial(self, shape: tuple[int, int]) -> CelestialWcs:
        """The WCS, which knows its source."""
        ...


@dataclass(frozen=True, slots=True)
class HeaderCards:
    """The cards of a header, as keywords and values.

    Attributes
    ----------
    cards : tuple of (str, value)
    """

    cards: tuple[tuple[str, Any], ...]

    def header(self, shape: tuple[int, int]) -> Header:
        """The header, whatever the shape."""
        return Header(list(self.cards))

    def celestial(self, shape: tuple[int, int]) -> CelestialWcs:
        """The WCS of the header."""
        return CelestialWcs(WCS(self.header(shape), naxis=2), shape, self)


class CelestialWcs:
    """A two-dimensional celestial WCS whose sky side is always ICRS degrees.

    Pixel coordinates are zero-based with pixel centres at integers, in ``(x, y)``
    order (the one place where x comes first, as in every WCS library).

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Any celestial WCS; FK4, FK5 of any equinox, galactic and ecliptic systems
        are transformed to ICRS by astropy.
    shape : tuple of int
        ``(height, width)`` of the image it belongs to.
    source : WcsSource, optional
        What `wcs` was made of: copies in other processes are made of the same, for astropy's own lose the last digits.

    Raises
    ------
    ValueError
        When `wcs` is not celestial, not invertible or not two-dimensional.
    """

    def __init__(self, wcs: WCS, shape: tuple[int, int], source: WcsSource | None = None) -> None:
        if not wcs.has_celestial:
            raise ValueError("the WCS has no celestial axes")
        if wcs.naxis != 2:
            wcs = wcs.celestial
        self.wcs = wcs
        self.shape = shape
        self.source = source
        # SIP inversion starts from the linear solution; frames with distortions need the iterative inverse.
        self._is_linear = wcs.sip is None and wcs.cpdis1 is None and wcs.cpdis2 is None
        self._frame = _frame_unless_icrs(wcs)
        self._to_icrs = None if self._frame is None else _rotation_to_icrs(self._frame)
        # Asked for again and again: it takes a call of the WCS to know.
        self._area_deg2 = self._area_at((shape[1] - 1) / 2, (shape[0] - 1) / 2)
        if not np.isfinite(self._area_deg2) or self._area_deg2 <= 0:
            raise ValueError("the WCS has no finite pixel scale")

    @property
    def identity(self) -> tuple[tuple[int, int], Array]:
        """What tells it from another WCS, however both are written: its shape, and where 9 x 9 of its pixels lie."""
        height, width = self.shape
        x, y = np.meshgrid(np.linspace(-0.5, width - 0.5, 9), np.linspace(-0.5, height - 0.5, 9))
        return self.shape, np.stack(self.pixel_to_sky(x.ravel(), y.ravel()))

    @property
    def cards(self) -> Header | None:
        """The header that tells it; None where it was made of a WCS object alone."""
        return None if self.source is None else self.source.header(self.shape)

    @classmethod
    def from_header(cls, header: Header, shape: tuple[int, int]) -> CelestialWcs:
        """Read the WCS cards of a FITS header."""
        return cls(WCS(header, naxis=2), shape, HeaderCards(tuple(header.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        """See `source`."""
        return (CelestialWcs, (self.wcs, self.shape)) if self.source is None else (_made_of, (self.source, self.shape))

    def pixel_to_sky(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, Array]:
        """ICRS ``(ra_deg, dec_deg)`` of pixel positions; NaN where the projection has none."""
        lon, lat = self.wcs.all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
        if self._frame is None:
            return np.asarray(lon), np.asarray(lat)
        if self._to_icrs is not None:
            return ra_dec_of(unit_vectors(lon, lat) @ self._to_icrs.T)
        sky = SkyCoord(lon, lat, unit="deg", frame=self._frame).transform_to(ICRS())
        return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)

    def sky_to_pixel(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[Array, Array]:
        """Pixel ``(x, y)`` of ICRS positions; NaN for positions the projection cannot show."""
        lon, lat = np.asarray(ra_deg, float), np.asarray(dec_deg, float)
        if self._to_icrs is not None:
            lon, lat = ra_dec_of(unit_vectors(lon, lat) @ self._to_icrs)
        elif self._frame is not None:
            sky = SkyCoord(lon, lat, unit="deg", frame=ICRS()).transform_to(self._frame)
            lon, lat = np.asarray(sky.spherical.lon.deg), np.asarray(sky.spherical.lat.deg)
        if self._is_linear:
            x, y = self.wcs.wcs_world2pix(lon, lat, 0)
        else:
            try:
                x, y = self.wcs.all_world2pix(lon, lat, 0, tolerance=1e-5, maxiter=30, detect_divergence=True)
            except NoConvergence as problem:
                # Points far outside the frame, where a polynomial means nothing, are the ones that diverge.
                solution = np.array(problem.best_solution, float)
                for bad in (problem.divergent, problem.slow_conv):
                    if bad is not None:
                        solution[bad] = np.nan
                x, y = solution[:, 0].reshape(lon.shape), solution[:, 1].reshape(lon.shape)
        return np.asarray(x), np.asarray(y)

    def pixel_area_deg2(self, x: npt.ArrayLike | None = None, y: npt.ArrayLike | None = None) -> Any:
        """Area of a pixel on the sky, in square degrees, at pixel positions (default: the image centre).

        From the cross product of central differences over one pixel, so every
        projection and distortion is included.
        """
        return self._area_deg2 if x is None or y is None else self._area_at(x, y)

    def _area_at(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Any:
        x, y = np.asarray(x, float), np.asarray(y, float)
        h = 0.5
        px, py = np.stack([x - h, x + h, x, x]), np.stack([y, y, y - h, y + h])
        v = unit_vectors(*self.pixel_to_sky(px, py))
        area = np.linalg.norm(np.cross(v[1] - v[0], v[3] - v[2]), axis=-1) * (180 / np.pi) ** 2
        return area if area.ndim else float(area)

    def pixel_scale_arcsec(self) -> float:
        """Square root of the pixel area at the image centre."""
        return float(np.sqrt(self.pixel_area_deg2()) * 3600)

    def pixel_aspect(self) -> float:
        """Height of a pixel over its width, by the WCS' matrix; 1 within `SQUARE`."""
        return aspect_of(self.wcs.pixel_scale_matrix)

    def cut(self, box: Box) -> CelestialWcs:
        """The WCS of a box of the image's pixels: the same sky at the same pixels, counted from another corner."""
        wcs = self.wcs.slice((slice(box.y0, box.y1), slice(box.x0, box.x1)))  # a distortion's own origin moves, too
        wcs.array_shape = box.shape
        return CelestialWcs(wcs, box.shape)

    def outline(self, n_per_side: int = 8) -> tuple[Array, Array]:
        """ICRS ``(ra_deg, dec_deg)`` of a closed walk round the outer edge of the image."""
        height, width = self.shape
        t = np.linspace(0, 1, n_per_side, endpoint=False)
        x = np.concatenate([t, np.ones_like(t), 1 - t, np.zeros_like(t)]) * width - 0.5
        y = np.concatenate([np.zeros_like(t), t, np.ones_like(t), 1 - t]) * height - 0.5
        return self.pixel_to_sky(x, y)


def _frame_unless_icrs(wcs: WCS) -> BaseCoordinateFrame | None:
    if wcs.wcs.lngtyp == "ELON":
        # astropy knows no frame for ecliptic axes; the standard means the mean ecliptic of EQUINOX.
        equinox = wcs.wcs.equinox if np.isfinite(wcs.wcs.equinox) else 2000.0
        return BarycentricMeanEcliptic(equinox=f"J{equinox}")
    frame = wcs_to_celestial_frame(wcs)
    return None if isinstance(frame, ICRS) else frame


def _rotation_to_icrs(frame: BaseCoordinateFrame) -> Array | None:
    """The matrix from a frame's unit vectors to ICRS; None where that is no rotation (FK4 has aberration terms)."""
    lon, lat = np.array([0.0, 90.0, 0.0, 37.0]), np.array([0.0, 0.0, 90.0, -23.0])
    sky = SkyCoord(lon, lat, unit="deg", frame=frame).transform_to(ICRS())
    found = unit_vectors(sky.ra.deg, sky.dec.deg)
    matrix: Array = found[:3].T
    predicted = unit_vectors(lon[3], lat[3]) @ matrix.T
    # 1e-9 rad is 0.2 mas; the aberration terms of FK4 are 0.3 arcsec.
    return matrix if np.abs(predicted - found[3]).max() < 1e-9 else None


def _made_of(source: WcsSource, shape: tuple[int, int]) -> CelestialWcs:
    return source.celestial(shape)
