"""Corrections that stay while others come: a gauge as it was, and which changes are too small to matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import N_TERMS, PhotoScale, n_terms, surface_basis
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid

__all__ = ["correction_change", "freeze_gauge"]

F8 = npt.NDArray[np.float64]

_ACROSS = 5
"""Points along each side of an image at which corrections are compared."""


def freeze_gauge(
    scales: Sequence[PhotoScale],
    anchor: Sequence[PhotoScale | None],
    places: Sequence[CelestialWcs],
    grid: SkyGrid,
    order: int,
) -> list[PhotoScale]:
    """A solution moved into the gauge of an earlier one.

    What differences between images cannot tell, a common factor and a polynomial of degree `order` over the sky for
    each channel and connected component, is chosen so that the images that both solutions hold are as near as can be
    to the earlier one (least squares). A component that holds none of them stays as it is.

    Parameters
    ----------
    scales : sequence of PhotoScale, length n
    anchor : sequence of PhotoScale or None, length n
        The same images in the earlier solution.
    places : sequence of CelestialWcs, length n
    grid : SkyGrid
    order : int
        Of the surfaces, 0 to 2.

    Returns
    -------
    list of PhotoScale, length n
    """
    out = list(scales)
    terms = n_terms(order)
    for number in sorted({scale.component for scale in scales}):
        members = [i for i, scale in enumerate(scales) if scale.component == number]
        known = [(i, before) for i in members if (before := anchor[i]) is not None]
        if not known:
            continue
        factor = np.exp(np.mean([np.log(before.gain / scales[i].gain) for i, before in known], axis=0))
        for i in members:
            out[i] = replace(scales[i], gain=scales[i].gain * factor, surface=scales[i].surface / factor[:, None])
        sky = {i: _on_grid(places[i], grid, order) for i in members}
        basis = {i: surface_basis(*_points(places[i].shape), places[i].shape) for i in members}
        missing = np.concatenate([_surface_change(before, out[i], places[i].shape) for i, before in known], axis=1)
        design = np.concatenate([sky[i] for i, _ in known], axis=1)
        trend = np.linalg.lstsq(design.T, missing.T, rcond=None)[0].T
        for i in members:
            # A polynomial over the sky is one of the same degree over an image, but for what projections bend.
            moved = np.zeros((len(factor), N_TERMS))
            moved[:, :terms] = np.linalg.lstsq(basis[i][:terms].T, (trend @ sky[i]).T, rcond=None)[0].T
            out[i] = out[i].plus_surface(moved)
    return out


def correction_change(
    new: PhotoScale, old: PhotoScale, shape: tuple[int, int], sky: npt.ArrayLike, noise: npt.ArrayLike, area: float
) -> tuple[float, float]:
    """By how much another correction changes an image.

    Parameters
    ----------
    new, old : PhotoScale
    shape : tuple of int
        ``(height, width)`` of the image.
    sky, noise : array_like, shape (c,)
        Its level and the noise of a pixel, input units.
    area : float
        A / A_ref of its pixels.

    Returns
    -------
    sky_sigma : float
        Largest change of the value of a pixel of empty sky, in units of its noise.
    flux : float
        Largest relative change of a star's flux.
    """
    x, y = _points(shape)
    to_new, to_old = (1 / (s.gain[:, None] * s.response_at(x, y, shape) * area) for s in (new, old))
    level, sigma = np.asarray(sky, float)[:, None], np.asarray(noise, float)[:, None]
    values = [to_new * level - new.surface_at(x, y, shape), to_old * level - old.surface_at(x, y, shape)]
    return float(np.max(np.abs(values[0] - values[1]) / (to_old * sigma))), float(np.max(np.abs(to_new / to_old - 1)))


def _surface_change(before: PhotoScale, now: PhotoScale, shape: tuple[int, int]) -> F8:
    """What a surface lacks of an earlier one at the points of an image, shape (c, points)."""
    return np.asarray(before.surface_at(*_points(shape), shape) - now.surface_at(*_points(shape), shape))


def _points(shape: tuple[int, int]) -> tuple[F8, F8]:
    """Pixel positions ``(x, y)`` spread over an image, its borders included."""
    x, y = np.meshgrid(np.linspace(-0.5, shape[1] - 0.5, _ACROSS), np.linspace(-0.5, shape[0] - 0.5, _ACROSS))
    return x.ravel(), y.ravel()


def _on_grid(place: CelestialWcs, grid: SkyGrid, order: int) -> F8:
    """Polynomial terms over the sky at the points of an image, shape ``(terms, points)``."""
    x, y = grid.wcs.sky_to_pixel(*place.pixel_to_sky(*_points(place.shape)))
    return surface_basis(x, y, grid.shape, order)
