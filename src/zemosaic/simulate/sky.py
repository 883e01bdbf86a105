"""The true sky: stars and a nebula, decided by a seed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import scipy
from astropy.io.fits import Header
from astropy.wcs import WCS

from zemosaic.kernels.pixels.render import MOFFAT_CORE_PER_FWHM, MONO, add_field, add_stars
from zemosaic.model.sky.celestial import CelestialWcs, unit_vectors

__all__ = ["Purpose", "SimulatedSky", "random_stream", "tangent_wcs", "wcs_cards"]

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

FLUX_OF_MAG_10 = 60000.0
"""Integral of a star of magnitude 10, ADU."""

_NEBULA_CELL_ARCSEC = 8.0
"""Finest structure of the nebula: a few pixels of any frame, so that all sample it."""

_LATTICE_STEP_PX = 32
"""Frame pixels between exact positions; in between they are interpolated."""

_FAINTEST_ADU = 150.0
"""Flux of the faintest stars that are drawn."""

_COUNTS_SLOPE = 0.85
"""Slope of the logarithm of their number over that of flux: 0.34 dex a magnitude."""


class Purpose(IntEnum):
    """What a random stream is for. Each has its own, so that changing one thing changes nothing else."""

    STARS = 1
    NEBULA = 2
    COLOUR = 3
    POINTING = 4
    GAIN = 5
    BACKGROUND = 6
    SEEING = 7
    NOISE = 8
    TRAIL = 9
    COSMICS = 10
    DEFECTS = 11
    SELECTION = 12
    WCS_ERROR = 13


def random_stream(seed: int, purpose: Purpose, k: int = 0) -> np.random.Generator:
    """The random numbers of one purpose and one exposure `k`; the same for the same three numbers."""
    return np.random.default_rng([seed, int(purpose), k])


def tangent_wcs(
    ra_deg: float,
    dec_deg: float,
    rotation_deg: float,
    shape: tuple[int, int],
    scale_arcsec: float,
    mirrored: bool = False,
) -> CelestialWcs:
    """A TAN projection centred on an image.

    Parameters
    ----------
    ra_deg, dec_deg : float
        ICRS position of the image centre.
    rotation_deg : float
        Position angle of the image's +y axis, from north through east.
    shape : tuple of int
        ``(height, width)``.
    scale_arcsec : float
        Pixel scale.
    mirrored : bool
        East to the right instead of the left when north is up.
    """
    scale = scale_arcsec / 3600
    c, s = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra_deg % 360, dec_deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    flip = -1 if mirrored else 1
    wcs.wcs.cd = scale * np.array([[-c * flip, s], [s * flip, c]])
    return CelestialWcs(wcs, shape)


def wcs_cards(wcs: CelestialWcs) -> Header:
    """Header cards of a TAN WCS with a CD matrix, the form that every program reads alike."""
    header = Header()
    w = wcs.wcs.wcs
    for i in (1, 2):
        header[f"CTYPE{i}"] = w.ctype[i - 1]
        header[f"CRVAL{i}"] = float(w.crval[i - 1])
        header[f"CRPIX{i}"] = float(w.crpix[i - 1])
        header[f"CUNIT{i}"] = "deg"
        for j in (1, 2):
            header[f"CD{i}_{j}"] = float(w.cd[i - 1, j - 1])
    header["RADESYS"] = "ICRS"
    header["EQUINOX"] = 2000.0
    return header


class SimulatedSky:
    """Stars and a nebula on a square piece of sky.

    Parameters
    ----------
    seed : int
        Decides everything; >= 0.
    ra_deg, dec_deg : float
        ICRS centre; any, poles and RA 0 included.
    size_deg : float
        Side of the square, on the tangent plane at the centre.
    stars : tuple of three array_like, optional
        ``(ra_deg, dec_deg, magnitude)`` of real stars, any number, anywhere on the sky; those
        in the square join the random ones. A star of magnitude 10 has `FLUX_OF_MAG_10` ADU.
    stars_per_deg2 : float
        Density of the random stars, whose fluxes follow a power law from 150 to 60,000 ADU.
    nebula_adu : float
        Mean of the nebula, ADU in a pixel of `pixel_arcsec`; 0 for none.
    pixel_arcsec : float
        Pixel scale that surface brightness refers to.

    Attributes
    ----------
    star_ra, star_dec : ndarray of float64, shape (n,)
        ICRS degrees; catalogue stars first.
    star_flux : ndarray of float64, shape (n,)
        Integral in a single-channel image, ADU at gain 1.
    star_colour : ndarray of float64, shape (n, 3)
        Factor of red, green and blue on the flux.
    n_catalogue : int
        How many of the stars were given.
    nebula : ndarray of float32
        Surface brightness on `nebula_wcs`, ADU in a pixel of `pixel_arcsec`, bilinear in between.
    nebula_colour : ndarray of float64, shape (3,)
        Factor of red, green and blue on the nebula.
    """

    def __init__(
        self,
        seed: int,
        ra_deg: float = 83.8,
        dec_deg: float = 22.0,
        size_deg: float = 3.0,
        stars: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
        *,
        stars_per_deg2: float = 2000.0,
        nebula_adu: float = 400.0,
        pixel_arcsec: float = 2.39,
    ) -> None:
        if not 0 < size_deg <= 60:
            raise ValueError(f"size_deg must lie in 0 to 60, got {size_deg}")
        self.seed, self.ra_deg, self.dec_deg, self.size_deg = seed, ra_deg, dec_deg, size_deg
        self.stars_per_deg2, self.nebula_adu, self.pixel_arcsec = stars_per_deg2, nebula_adu, pixel_arcsec
        n_cells = int(np.ceil(size_deg * 3600 / _NEBULA_CELL_ARCSEC)) + 2
        self.nebula_wcs = tangent_wcs(ra_deg, dec_deg, 0.0, (n_cells, n_cells), _NEBULA_CELL_ARCSEC)
        self.nebula = _draw_nebula(random_stream(seed, Purpose.NEBULA), n_cells, nebula_adu)
        self.nebula_colour = np.array([1.5, 0.8, 0.7])
        known = self._catalogue_in_square(stars)
        drawn = self._draw_stars(n_cells)
        self.n_catalogue = len(known[0])
        self.star_ra, self.star_dec, self.star_flux = (np.concatenate(pair) for pair in zip(known, drawn, strict=True))
        reddening = random_stream(seed, Purpose.COLOUR).normal(0, 0.25, len(self.star_flux))
        self.star_colour = np.clip(np.stack([1 + reddening, np.ones_like(reddening), 1 - reddening], axis=1), 0.3, None)

    def _draw_stars(self, n_cells: int) -> tuple[Array, Array, Array]:
        rng = random_stream(self.seed, Purpose.STARS)
        n = round(self.stars_per_deg2 * self.size_deg**2)
        x, y = rng.uniform(0.5, n_cells - 1.5, (2, n))
        flux = np.minimum(_FAINTEST_ADU * (rng.pareto(_COUNTS_SLOPE, n) + 1), FLUX_OF_MAG_10)
        return (*self.nebula_wcs.pixel_to_sky(x, y), flux)

    def _catalogue_in_square(
        self, stars: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None
    ) -> tuple[Array, Array, Array]:
        if stars is None:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        ra, dec, mag = (np.asarray(column, float) for column in stars)
        # A cone first: a tangent plane shows half of the sky only.
        cosine = unit_vectors(ra, dec) @ unit_vectors(self.ra_deg, self.dec_deg)
        near = np.flatnonzero(cosine > np.cos(np.deg2rad(min(self.size_deg, 80.0))))
        x, y = self.nebula_wcs.sky_to_pixel(ra[near], dec[near])
        last = self.nebula.shape[0] - 1
        near = near[(x > 0) & (x < last) & (y > 0) & (y < last)]
        return ra[near], dec[near], FLUX_OF_MAG_10 * 10 ** (-0.4 * (mag[near] - 10))

    def contains(self, wcs: CelestialWcs) -> bool:
        """Whether the square holds the whole outline of an image."""
        x, y = self.nebula_wcs.sky_to_pixel(*wcs.outline(4))
        last = self.nebula.shape[0] - 1
        return bool(np.all((x >= 0) & (x <= last) & (y >= 0) & (y <= last)))

    def star_fluxes(self, n_channels: int) -> Array:
        """Fluxes ``(n, n_channels)``: the plain ones for one channel, red, green, blue for three."""
        return self.star_flux[:, None] * (self.star_colour if n_channels == 3 else 1.0)

    def add_nebula(
        self, image: Image, wcs: CelestialWcs, amplitude: Array, pattern: npt.NDArray[np.int64] = MONO
    ) -> None:
        """Add the nebula to an image, in place; `amplitude` of each channel includes the pixel's area."""
        height, width = image.shape
        gy = np.arange(0, height + _LATTICE_STEP_PX, _LATTICE_STEP_PX)
        gx = np.arange(0, width + _LATTICE_STEP_PX, _LATTICE_STEP_PX)
        x, y = np.meshgrid(gx, gy)
        fx, fy = self.nebula_wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
        add_field(image, self.nebula, fx, fy, _LATTICE_STEP_PX, np.asarray(amplitude, float), pattern)

    def add_stars(
        self,
        image: Image,
        wcs: CelestialWcs,
        fwhm_px: float,
        flux: Array,
        floor_adu: float,
        pattern: npt.NDArray[np.int64] = MONO,
        fwhm_growth: float = 0.0,
    ) -> None:
        """Add the stars to an image, in place.

        Parameters
        ----------
        image : ndarray of float32
            Changed in place.
        wcs : CelestialWcs
            Where the image lies.
        fwhm_px : float
            Seeing at the image centre.
        flux : ndarray, shape (n, c)
            Flux of every star of the sky in each channel.
        floor_adu : float
            Where wings end, image units per pixel.
        pattern : ndarray, shape (2, 2)
            Channel of each pixel by parity.
        fwhm_growth : float
            Relative growth of the FWHM from the centre to a corner (quadratic).
        """
        x, y = wcs.sky_to_pixel(self.star_ra, self.star_dec)
        height, width = image.shape
        u, v = (x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5
        # Stars far outside would get absurd widths: growth ends just beyond the corner.
        core = MOFFAT_CORE_PER_FWHM * fwhm_px * (1 + fwhm_growth * np.minimum((u * u + v * v) / 0.5, 1.2))
        add_stars(image, x, y, np.ascontiguousarray(flux, float), core, float(floor_adu), pattern)


def _draw_nebula(rng: np.random.Generator, n: int, mean_adu: float) -> Image:
    """Log-normal field with a power spectrum of slope -3.6, smooth below two cells."""
    k2 = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n)[None] ** 2
    k2[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, n))) * k2**-0.9, s=(n, n))
    field = scipy.ndimage.gaussian_filter(field, 2.0)
    field = (field - field.mean()) / field.std()
    return np.asarray(mean_adu * np.exp(0.9 * field - 0.9**2 / 2), np.float32)
