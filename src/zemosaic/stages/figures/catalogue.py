"""How far the stars of a mosaic lie from where a catalogue has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["CatalogueFigure", "figure_catalogue"]

F8 = npt.NDArray[np.float64]

REACH_SIGMA, REACH_PX = 4.0, 3.0
"""A star is looked for within so many errors of the catalogue, and at least so many pixels, of its place."""

LEAST_STARS, LEAST_SHARE = 10, 0.5
"""Fewer stars, or a smaller share of those that the catalogue has there, may be others by chance: nothing is told."""


@dataclass(frozen=True, slots=True, eq=False)
class CatalogueFigure:
    """Stars of the catalogue that the frames show, and where they show them.

    Attributes
    ----------
    n_known : int
        Stars that the catalogue has on the grid.
    x, y : ndarray, shape (n,)
        Where it has those that were found, px of the grid.
    east, north : ndarray, shape (n,)
        Distance of the median detection from there, arcsec.
    """

    n_known: int
    x: F8
    y: F8
    east: F8
    north: F8

    @property
    def is_sure(self) -> bool:
        """Whether these are surely the stars of the catalogue."""
        return len(self.x) >= max(LEAST_STARS, LEAST_SHARE * self.n_known)

    @property
    def offset_arcsec(self) -> tuple[float, float]:
        """Median distance to the east and to the north."""
        return float(np.median(self.east)), float(np.median(self.north))

    @property
    def spread_arcsec(self) -> float:
        """Robust sigma a coordinate about the offset: errors of both lists."""
        return float(np.hypot(mad_sigma(self.east), mad_sigma(self.north)) / np.sqrt(2))


def figure_catalogue(x: F8, y: F8, wcs: CelestialWcs, known: CatalogueStars) -> CatalogueFigure:
    """Compare detections of all frames with a catalogue.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Where frames show stars, px of the grid; a star counts once a frame.
    wcs : CelestialWcs
        Of the grid.
    known : CatalogueStars
    """
    height, width = wcs.shape
    kx, ky = wcs.sky_to_pixel(known.ra_deg, known.dec_deg)
    with np.errstate(invalid="ignore"):
        here = np.flatnonzero((kx > 0) & (kx < width - 1) & (ky > 0) & (ky < height - 1))
    none = np.zeros(0)
    if not len(here) or not len(x):
        return CatalogueFigure(len(here), none, none, none, none)
    reach_px = max(REACH_SIGMA * known.error_arcsec / wcs.pixel_scale_arcsec(), REACH_PX)
    near = scipy.spatial.cKDTree(np.stack([x, y], axis=1)).query_ball_point(
        np.stack([kx[here], ky[here]], axis=1), reach_px, return_sorted=True
    )
    seen = [(star, rows) for star, rows in zip(here, near, strict=True) if rows]
    if not seen:
        return CatalogueFigure(len(here), none, none, none, none)
    star = np.array([star for star, _ in seen])
    at_x, at_y = (np.array([np.median(values[rows]) for _, rows in seen]) for values in (x, y))
    ra, dec = wcs.pixel_to_sky(at_x, at_y)
    away = (ra - known.ra_deg[star] + 180) % 360 - 180
    east = away * np.cos(np.deg2rad(known.dec_deg[star])) * 3600
    return CatalogueFigure(len(here), kx[star], ky[star], east, (dec - known.dec_deg[star]) * 3600)
