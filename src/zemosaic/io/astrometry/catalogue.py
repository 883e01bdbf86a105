"""The star list that ships with the package, and any other list packed the same way.

Stars are stored cell by cell: the sky is cut into 360 bands of half a degree of
declination, each band into cells of about half a degree. Within a cell a
position takes two 16-bit numbers (steps of at most 27 mas). The file is mapped
into memory, so opening it costs nothing and a cone touches only its own pages,
which all processes of a machine share.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.errors import EnvironmentProblem
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.celestial import unit_vectors

__all__ = ["PackedCatalogue", "pack_stars", "tycho2"]

Array = npt.NDArray[np.float64]

_BANDS_PER_DEG = 2
"""Cells of half a degree: a cone of a degree then reads few stars beside its own."""

_N_BANDS = 180 * _BANDS_PER_DEG

_STEPS = 65536
"""Places of a star within its cell, by two bytes: 0.03 arcsec."""

_STAR = np.dtype([("ra", "<u2"), ("dec", "<u2"), ("mag_mmag", "<i2")])


@cache
def _cells_of_bands() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Number of cells of each band and the number of its first cell; bands run from south to north."""
    edge = np.abs(np.arange(_N_BANDS + 1) / _BANDS_PER_DEG - 90)
    widest = np.cos(np.deg2rad(np.minimum(edge[:-1], edge[1:])))
    n_cells = np.ceil(360 * _BANDS_PER_DEG * widest).astype(np.int64)
    return n_cells, np.concatenate([[0], np.cumsum(n_cells)])


def pack_stars(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, mag: npt.ArrayLike
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]:
    """Pack a star list into cells.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        ICRS positions, degrees; right ascension may have any branch.
    mag : array_like, shape (n,)
        Magnitudes, -32 to 32.

    Returns
    -------
    stars : ndarray, shape (n,), dtype (ra u2, dec u2, mag_mmag i2)
        Positions in steps from the cell's western and southern edge; cell by cell, brightest first.
    starts : ndarray of uint32, shape (n_cells + 1,)
        Where each cell's stars begin.
    """
    ra, dec = np.asarray(ra_deg, float) % 360, np.asarray(dec_deg, float)
    n_cells, first = _cells_of_bands()
    north = (dec + 90) * _BANDS_PER_DEG
    band = np.clip(north.astype(np.int64), 0, _N_BANDS - 1)
    east = ra / 360 * n_cells[band]
    column = np.minimum(east.astype(np.int64), n_cells[band] - 1)
    stars = np.empty(len(ra), _STAR)
    # A value stands for the middle of its step, so truncation is unbiased.
    stars["ra"] = np.minimum((east - column) * _STEPS, _STEPS - 1)
    stars["dec"] = np.minimum((north - band) * _STEPS, _STEPS - 1)
    stars["mag_mmag"] = np.round(np.asarray(mag, float) * 1000)
    cell = first[band] + column
    order = np.lexsort((stars["ra"], stars["mag_mmag"], cell))
    starts = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=int(first[-1])))])
    return stars[order], starts.astype(np.uint32)


class PackedCatalogue:
    """A star list packed by `pack_stars`, read from two ``.npy`` files.

    Thread-safe, and cheap to make again in every process.

    Parameters
    ----------
    stars_path : Path
        ``NAME.npy``; the cell index is ``NAME_cells.npy`` beside it.
    name : str
        Name for reports.
    error_arcsec : float
        See `CatalogueStars.error_arcsec`.

    Raises
    ------
    EnvironmentProblem
        When the files are missing or are not a packed list.
    """

    def __init__(self, stars_path: Path, name: str, error_arcsec: float) -> None:
        self.name = name
        self.error_arcsec = error_arcsec
        cells_path = stars_path.with_name(f"{stars_path.stem}_cells.npy")
        try:
            self._stars = np.load(stars_path, mmap_mode="r", allow_pickle=False)
            self._starts = np.load(cells_path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as problem:
            raise EnvironmentProblem("catalogue.unreadable", path=stars_path, problem=problem) from problem
        n_expected = int(_cells_of_bands()[1][-1]) + 1
        if self._stars.dtype != _STAR or len(self._starts) != n_expected or self._starts[-1] != len(self._stars):
            raise EnvironmentProblem("catalogue.no-star-list", path=stars_path)

    def __len__(self) -> int:
        return len(self._stars)

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> CatalogueStars:
        """All stars within `radius_deg` of an ICRS position, brightest first.

        Parameters
        ----------
        ra_deg, dec_deg : float
            Centre, degrees; declination within +-90.
        radius_deg : float
            Radius, degrees, 0 to 180.
        """
        band, column = _cells_in_cone(ra_deg % 360, dec_deg, radius_deg)
        n_cells, first = _cells_of_bands()
        cell = first[band] + column
        start = self._starts[cell].astype(np.int64)
        n_stars = self._starts[cell + 1] - start
        ends = np.cumsum(n_stars)
        n_total = int(ends[-1]) if len(ends) else 0
        rows = np.arange(n_total) + np.repeat(start - (ends - n_stars), n_stars)
        stars = self._stars[rows]
        band, column = np.repeat(band, n_stars), np.repeat(column, n_stars)
        ra = (column + (stars["ra"] + 0.5) / _STEPS) / n_cells[band] * 360
        dec = (band + (stars["dec"] + 0.5) / _STEPS) / _BANDS_PER_DEG - 90
        chord = 2 * np.sin(np.deg2rad(min(radius_deg, 180.0)) / 2)
        away = unit_vectors(ra, dec) - unit_vectors(ra_deg, dec_deg)
        inside = np.einsum("ij,ij->i", away, away) <= chord**2
        order = np.flatnonzero(inside)[np.argsort(stars["mag_mmag"][inside], kind="stable")]
        return CatalogueStars(ra[order], dec[order], stars["mag_mmag"][order] / 1000, self.error_arcsec)


def _cells_in_cone(
    ra_deg: float, dec_deg: float, radius_deg: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Band and column of every cell that a cone may touch."""
    south, north = dec_deg - radius_deg, dec_deg + radius_deg
    first_band = int(np.clip((south + 90) * _BANDS_PER_DEG, 0, _N_BANDS - 1))
    last_band = int(np.clip((north + 90) * _BANDS_PER_DEG, 0, _N_BANDS - 1))
    bands = np.arange(first_band, last_band + 1)
    n_cells = _cells_of_bands()[0][bands]
    if south <= -90 or north >= 90:
        half_width = np.full(len(bands), 180.0)
    else:
        # The widest meridian-to-meridian extent of a small circle that holds no pole.
        sine = np.sin(np.deg2rad(radius_deg)) / np.cos(np.deg2rad(dec_deg))
        half_width = np.full(len(bands), np.rad2deg(np.arcsin(min(sine, 1.0))))
    west = np.floor((ra_deg - half_width) / 360 * n_cells).astype(np.int64)
    east = np.floor((ra_deg + half_width) / 360 * n_cells).astype(np.int64)
    n_wide = np.minimum(east - west + 1, n_cells)
    ends = np.cumsum(n_wide)
    column = np.arange(int(ends[-1])) - np.repeat(ends - n_wide, n_wide) + np.repeat(west, n_wide)
    return np.repeat(bands, n_wide), column % np.repeat(n_cells, n_wide)


@cache
def tycho2() -> PackedCatalogue:
    """The packaged Tycho-2 list: 1.87 million stars to V about 11.5, J2000 positions, VT magnitudes.

    Its error is dominated by the proper motions it does not carry: a quarter of an arcsecond
    per coordinate is typical of its stars after 25 years.
    """
    path = Path(__file__).resolve().parents[2] / "data" / "tycho2.npy"
    return PackedCatalogue(path, "Tycho-2", 0.3)
