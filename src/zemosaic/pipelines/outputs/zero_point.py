"""Zero points of a mosaic, from the stars of its frames that the packaged list knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.io.write.mosaic_file import Card
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import unit_vectors
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.outputs.catalogue_facts import stars_over
from zemosaic.stages.figures.zero_point import find_zero_point

__all__ = ["zero_point_cards"]

F8 = npt.NDArray[np.float64]

NEAR_ARCSEC, NEAR_PX = 2.0, 1.0
"""A detection is a listed star where it lies so near to it: the list's own error after 25 years of proper motions, and
a pixel for frames whose places come from their headers alone."""

BRIGHTEST = 400
"""Detections of a frame that are looked at: stars of the list are among its brightest."""


def zero_point_cards(frames: Sequence[PlacedFrame], scales: Mapping[str, PhotoScale], grid: SkyGrid) -> list[Card]:
    """Cards of the zero points of a mosaic's channels, ``PHOTZP``, or ``PHOTZP_R`` and its like; none where the stars
    of the frames are too few, or are not those of the list at their places.

    The list's magnitudes are VT; colours are not corrected for, so that stars as red or blue as most come out right.
    """
    known = stars_over(grid, tycho2())
    if not len(known):
        return []
    tree = scipy.spatial.cKDTree(unit_vectors(known.ra_deg, known.dec_deg))
    stars: list[npt.NDArray[np.int64]] = []
    fluxes: list[F8] = []
    for item in frames:
        star, flux = _listed(item, scales[item.frame.id], tree)
        stars.append(star)
        fluxes.append(flux)
    star, flux = np.concatenate(stars), np.concatenate(fluxes, axis=1)
    names = ["PHOTZP"] if len(flux) == 1 else [f"PHOTZP_{colour}" for colour in "RGB"]
    cards: list[Card] = []
    for name, values in zip(names, flux, strict=True):
        found = find_zero_point(star, known.mag[star], values)
        if found is not None:
            told = f"mag of 1 unit, +-{found.error_mag:.3f}, {found.n_stars} stars"
            cards.append((name, round(found.mag, 4), told))
    return [*cards, ("PHOTSYS", "Tycho-2 VT, no colour term", "system of PHOTZP")] if cards else []


def _listed(item: PlacedFrame, scale: PhotoScale, tree: scipy.spatial.cKDTree) -> tuple[npt.NDArray[np.int64], F8]:
    """Which listed stars a frame's detections are, and their fluxes ``(c, n)`` in mosaic units."""
    stars, shape = item.measured.stars, item.frame.shape
    # Detections are sorted by brightness.
    whole = np.isfinite(stars.flux_wide).all(axis=0)
    clean = np.flatnonzero(whole & ~(stars.saturated | stars.blended))[:BRIGHTEST]
    x, y = stars.x[clean], stars.y[clean]
    near_arcsec = max(NEAR_ARCSEC, NEAR_PX * item.wcs.pixel_scale_arcsec())
    places = unit_vectors(*item.wcs.pixel_to_sky(x, y))
    distance, nearest = (
        np.atleast_1d(a) for a in tree.query(places, distance_upper_bound=np.deg2rad(near_arcsec / 3600))
    )
    found = np.isfinite(distance)
    response = scale.gain[:, None] * scale.response_at(x[found], y[found], shape)
    return nearest[found].astype(np.int64), stars.flux_wide[:, clean[found]] / response
