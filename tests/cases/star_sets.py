"""Small sets of frames of one star field whose fluxes are known, and what a mosaic of them makes of the stars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS

from mosaic_cases import tan_wcs

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

SHAPE = (200, 260)
SCALE_ARCSEC = 4.0
FWHM_PX = 2.8
N_FRAMES = 8
Spoil = Callable[[int, F4, fits.Header], F4 | fits.HDUList]
"""Changes the image and header of a frame by its number."""


@dataclass(frozen=True, slots=True, eq=False)
class StarSet:
    """A folder of frames, the grid of a mosaic, and where on it which stars are."""

    folder: Path
    grid: WCS
    x: F8
    y: F8
    flux: F8
    gain: F8

    def star_ratios(self, data: F4) -> F8:
        """Fluxes in a mosaic over the true ones; NaN where a pixel is missing."""
        y, x = np.mgrid[-12:13, -12:13]
        ratios = []
        for xs, ys, flux in zip(self.x, self.y, self.flux, strict=True):
            i, j = round(xs), round(ys)
            piece = data[j - 12 : j + 13, i - 12 : i + 13].astype(float)
            r = np.hypot(x - (xs - i), y - (ys - j))
            ratios.append((piece - np.median(piece[(r > 8) & (r < 12)]))[r < 2.2 * FWHM_PX].sum() / flux)
        return np.array(ratios)


def make_star_set(folder: Path, spoil: Spoil | None = None, *, gain_spread: float = 0.0) -> StarSet:
    """Eight frames, shifted by up to 20 px, of 35 stars on a sky of 1000 ADU with a noise of 19."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    grid = tan_wcs((240, 300), scale_arcsec=SCALE_ARCSEC)
    x, y = rng.uniform(45, 255, 400), rng.uniform(45, 195, 400)
    alone: list[int] = []
    for k in range(400):
        if all(np.hypot(x[k] - x[j], y[k] - y[j]) > 20 for j in alone):
            alone.append(k)
    x, y = x[alone], y[alone]
    flux, gain = rng.uniform(2e4, 1e5, len(x)), rng.uniform(1 - gain_spread, 1 + gain_spread, N_FRAMES)
    ra, dec = grid.all_pix2world(x, y, 0)
    for k in range(N_FRAMES):
        dx, dy = rng.uniform(-20, 20, 2)
        here = tan_wcs(SHAPE, 150.0 + dx / 900 / np.cos(np.deg2rad(30)), 30.0 + dy / 900, SCALE_ARCSEC)
        image = np.full(SHAPE, 1000.0)
        rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
        sigma = FWHM_PX / 2.3548
        for xs, ys, f in zip(*here.all_world2pix(ra, dec, 0), flux, strict=True):
            image += f / (2 * np.pi * sigma**2) * np.exp(-((columns - xs) ** 2 + (rows - ys) ** 2) / (2 * sigma**2))
        image = (gain[k] * image + rng.normal(0, 19, SHAPE)).astype(np.float32)
        header = here.to_header()
        header["EXPTIME"], header["DATE-OBS"] = 60.0, f"2025-01-10T20:{k:02d}:00"
        made = image if spoil is None else spoil(k, image, header)
        hdus = made if isinstance(made, fits.HDUList) else fits.HDUList([fits.PrimaryHDU(made, header)])
        hdus.writeto(folder / f"f{k}.fits")
    return StarSet(folder, grid, x, y, flux, gain)
