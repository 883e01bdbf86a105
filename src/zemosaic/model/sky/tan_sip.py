"""The tangent plane, and the plate that a solver hands on: TAN with SIP distortion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header
from astropy.wcs import WCS, Sip

from zemosaic.model.sky.celestial import CelestialWcs, aspect_of, ra_dec_of, unit_vectors

__all__ = ["TanSip", "fit_tan_sip", "plane_to_sky", "powers_of_degrees", "sky_to_plane"]

Array = npt.NDArray[np.float64]


def _basis(ra0_deg: float, dec0_deg: float) -> Array:
    """East, north and outward unit vectors at a point, as rows."""
    ra, dec = np.deg2rad(ra0_deg), np.deg2rad(dec0_deg)
    return np.array([
        [-np.sin(ra), np.cos(ra), 0.0],
        [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)],
        [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)],
    ])


def sky_to_plane(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, ra0_deg: float, dec0_deg: float) -> Array:
    """Gnomonic projection about ``(ra0_deg, dec0_deg)``.

    Returns
    -------
    ndarray, shape (..., 2)
        East and north on the tangent plane, degrees; NaN a right angle and more away.
    """
    v = unit_vectors(ra_deg, dec_deg) @ _basis(ra0_deg, dec0_deg).T
    outward = np.where(v[..., 2:] > 1e-9, v[..., 2:], np.nan)
    return np.asarray(np.rad2deg(v[..., :2] / outward))


def plane_to_sky(plane_deg: Array, ra0_deg: float, dec0_deg: float) -> tuple[Array, Array]:
    """Inverse of `sky_to_plane`: ``(ra_deg, dec_deg)`` of positions on the tangent plane, shape (..., 2)."""
    p = np.deg2rad(plane_deg)
    v = np.concatenate([p, np.ones((*p.shape[:-1], 1))], axis=-1) @ _basis(ra0_deg, dec0_deg)
    return ra_dec_of(v)


def powers_of_degrees(low: int, high: int) -> list[tuple[int, int]]:
    """Exponents (p, q) of all terms ``u^p v^q`` of degree `low` to `high`, by degree, then by q."""
    return [(degree - q, q) for degree in range(low, high + 1) for q in range(degree + 1)]


@dataclass(frozen=True, slots=True, eq=False)
class TanSip:
    """A plate: pixels -> SIP polynomial -> matrix -> tangent plane -> sky.

    Attributes
    ----------
    ra_deg, dec_deg : float
        ICRS position of the reference pixel, the tangent point.
    crpix : tuple of float
        Reference pixel ``(x, y)``, zero-based.
    cd : ndarray, shape (2, 2)
        Degrees (east, north) per pixel (x, y).
    sip_order : int
        Highest degree of the distortion, 0 for none.
    sip : ndarray, shape (2, n_terms)
        Coefficients of ``(A, B)`` over `powers_of_degrees` (2, sip_order), pixels.
    """

    ra_deg: float
    dec_deg: float
    crpix: tuple[float, float]
    cd: Array
    sip_order: int = 0
    sip: Array = field(default_factory=lambda: np.zeros((2, 0)))

    def __post_init__(self) -> None:
        n_terms = len(powers_of_degrees(2, self.sip_order))
        if self.cd.shape != (2, 2) or self.sip.shape != (2, n_terms):
            raise ValueError(f"cd must be (2, 2) and sip (2, {n_terms}), got {self.cd.shape}, {self.sip.shape}")

    def distortion(self, xy: npt.ArrayLike) -> Array:
        """SIP shift in pixels at pixel positions, both of shape ``(n, 2)``."""
        u, v = (np.asarray(xy, float) - self.crpix).T
        terms = [u**p * v**q for p, q in powers_of_degrees(2, self.sip_order)]
        return (self.sip @ np.array(terms)).T if terms else np.zeros((len(u), 2))

    def pixel_to_plane(self, xy: npt.ArrayLike) -> Array:
        """Tangent-plane position (east, north; degrees) of pixel positions, both of shape ``(n, 2)``."""
        xy = np.asarray(xy, float)
        return np.asarray((xy - self.crpix + self.distortion(xy)) @ self.cd.T)

    def pixel_to_sky(self, xy: npt.ArrayLike) -> tuple[Array, Array]:
        """ICRS ``(ra_deg, dec_deg)`` of pixel positions, shape ``(n, 2)``."""
        return plane_to_sky(self.pixel_to_plane(xy), self.ra_deg, self.dec_deg)

    @property
    def scale_arcsec(self) -> float:
        """Square root of the area of the reference pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.cd))) * 3600)

    @property
    def aspect(self) -> float:
        """Height of the reference pixel over its width; 1 within `SQUARE`."""
        return aspect_of(self.cd)

    @property
    def parity(self) -> int:
        """Sign of the matrix' determinant in array order: -1 for the sky as seen, +1 mirrored."""
        return 1 if np.linalg.det(self.cd) > 0 else -1

    def header(self, shape: tuple[int, int]) -> Header:
        """FITS cards of this plate for an image of `shape` (height, width), inverse polynomial included."""
        cards: list[tuple[str, str | float]] = [
            ("CTYPE1", f"RA---TAN{self._suffix}"),
            ("CTYPE2", f"DEC--TAN{self._suffix}"),
            ("RADESYS", "ICRS"),
            ("CUNIT1", "deg"),
            ("CUNIT2", "deg"),
            ("CRVAL1", float(self.ra_deg)),
            ("CRVAL2", float(self.dec_deg)),
            ("CRPIX1", self.crpix[0] + 1),
            ("CRPIX2", self.crpix[1] + 1),
        ]
        cards += [(f"CD{i + 1}_{j + 1}", float(self.cd[i, j])) for i in range(2) for j in range(2)]
        if self.sip_order:
            powers = powers_of_degrees(2, self.sip_order)
            cards += _polynomial_cards(("A", "B"), self.sip_order, powers, self.sip)
            cards += _polynomial_cards(("AP", "BP"), self.sip_order + 1, *self._inverse(shape))
        # All at once: a header that is filled card by card looks through its cards for each.
        return Header(cards)

    def celestial(self, shape: tuple[int, int]) -> CelestialWcs:
        """The plate as the WCS of an image of `shape` (height, width).

        Made of the numbers: to write cards and have them read takes seven times as long.
        """
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = [f"RA---TAN{self._suffix}", f"DEC--TAN{self._suffix}"]
        wcs.wcs.radesys, wcs.wcs.cunit = "ICRS", ["deg", "deg"]
        wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cd = [self.ra_deg, self.dec_deg], np.add(self.crpix, 1), self.cd
        if self.sip_order:
            powers = powers_of_degrees(2, self.sip_order)
            forward = _squares(self.sip_order, powers, self.sip)
            wcs.sip = Sip(*forward, *_squares(self.sip_order + 1, *self._inverse(shape)), wcs.wcs.crpix)
        wcs.wcs.set()
        return CelestialWcs(wcs, shape, self)

    @property
    def _suffix(self) -> str:
        return "-SIP" if self.sip_order else ""

    def _inverse(self, shape: tuple[int, int]) -> tuple[list[tuple[int, int]], Array]:
        """Polynomial of one degree more, fitted to undo the distortion over the image."""
        height, width = shape
        x, y = np.meshgrid(np.linspace(0, width - 1, 15), np.linspace(0, height - 1, 15))
        xy = np.stack([x.ravel(), y.ravel()], axis=1)
        shift = self.distortion(xy)
        unit = max(height, width) / 2
        u, v = ((xy - self.crpix + shift) / unit).T
        powers = powers_of_degrees(0, self.sip_order + 1)
        basis = np.array([u**p * v**q for p, q in powers]).T
        coefficients = np.linalg.lstsq(basis, -shift, rcond=None)[0].T
        return powers, coefficients / np.array([unit ** (p + q) for p, q in powers])


def fit_tan_sip(pixel_to_sky: Callable[[Array], tuple[Array, Array]], shape: tuple[int, int], order: int = 3) -> TanSip:
    """The plate that comes nearest to any other WCS, its reference pixel at the middle of the image.

    Parameters
    ----------
    pixel_to_sky : callable
        Pixel positions, shape (n, 2) -> ICRS ``(ra_deg, dec_deg)``.
    shape : tuple of int
        ``(height, width)`` of the image.
    order : int
        Degree of the SIP polynomial; below 2 there is none.

    Raises
    ------
    ValueError
        When the WCS has no position for some part of the image.
    """
    height, width = shape
    middle, half = np.array([(width - 1) / 2, (height - 1) / 2]), float(np.hypot(height, width)) / 2
    x, y = np.meshgrid(np.linspace(0, width - 1, 12), np.linspace(0, height - 1, 12))
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    ra, dec = pixel_to_sky(np.vstack([middle, xy]))
    plane = sky_to_plane(ra[1:], dec[1:], float(ra[0]), float(dec[0]))
    if not np.all(np.isfinite(plane)):
        raise ValueError("the WCS has no position for some part of the image")
    powers = powers_of_degrees(1, max(order, 1))
    u, v = ((xy - middle) / half).T
    terms = np.array([u**p * v**q for p, q in powers]).T
    coefficients = np.linalg.lstsq(terms, plane, rcond=None)[0].T / [half ** (p + q) for p, q in powers]
    cd = coefficients[:, :2]
    sip = np.linalg.solve(cd, coefficients[:, 2:])
    crpix = (float(middle[0]), float(middle[1]))
    return TanSip(float(ra[0]), float(dec[0]), crpix, cd, order if order >= 2 else 0, sip)


def _polynomial_cards(
    names: tuple[str, str], order: int, powers: list[tuple[int, int]], coefficients: Array
) -> list[tuple[str, str | float]]:
    cards: list[tuple[str, str | float]] = []
    for name, row in zip(names, coefficients, strict=True):
        cards.append((f"{name}_ORDER", order))
        cards += [(f"{name}_{p}_{q}", float(value)) for (p, q), value in zip(powers, row, strict=True)]
    return cards


def _squares(order: int, powers: list[tuple[int, int]], coefficients: Array) -> Array:
    """The coefficients of two polynomials by their powers of x and y, shape (2, order + 1, order + 1)."""
    squares = np.zeros((2, order + 1, order + 1))
    p, q = np.transpose(powers)
    squares[:, p, q] = coefficients
    return squares
