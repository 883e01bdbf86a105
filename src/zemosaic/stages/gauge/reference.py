"""An external picture of the same sky, of any resolution, as gauge: it decides the slow modes only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.stages.gauge.slow_modes import SlowModes
from zemosaic.stages.match.sky_nodes import SkyNodes
from zemosaic.stages.numeric.robust import cauchy_weight, mad_sigma

__all__ = ["ReferenceFit", "ReferenceSky", "fit_reference", "reference_on_nodes"]

F8 = npt.NDArray[np.float64]

_SIGMA_OF_FWHM = 1 / 2.3548
"""Of a Gaussian."""

_LEAST_TILES = 25
"""Fewer do not tell scale, offset and fifteen slow modes from each other."""

_LEAST_FILLED = 0.5
"""Share of a tile's nodes that must be usable: below, its mean is that of another place."""

_ROUNDS = 8
"""Reweighted fits: the scatter changes by less than 1 % after about five."""

_CAUCHY = 2.5
"""Errors at which a tile's weight is halved: tiles that differ (a comet, a halo) fall away, noise hardly does."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSky:
    """A picture of the sky whose slow trends are trusted.

    Attributes
    ----------
    data : ndarray, shape (h, w) or (c, h, w)
        Any unit; NaN where there is nothing.
    wcs : CelestialWcs
    resolution_arcsec : float
        FWHM of its smallest trusted detail; it acts only on scales above.
    """

    data: F8
    wcs: CelestialWcs
    resolution_arcsec: float


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceFit:
    """What a reference says of one component.

    Attributes
    ----------
    amplitudes : ndarray, shape (m,)
        Slow modes to take out of the sky.
    precision : ndarray, shape (m, m)
        What the reference adds to their precision.
    scale : float
        Mosaic units per unit of the reference.
    scatter : float
        Relative scatter of the reference's tiles about the fit.
    """

    amplitudes: F8
    precision: F8
    scale: float
    scatter: float


def reference_on_nodes(reference: ReferenceSky, grid: SkyGrid, nodes: SkyNodes, channel: int) -> F8:
    """Values of the reference at the sky nodes, NaN where it has none; shape of the nodes."""
    data = reference.data if reference.data.ndim == 2 else reference.data[min(channel, len(reference.data) - 1)]
    x, y = reference.wcs.sky_to_pixel(*grid.wcs.pixel_to_sky(*nodes.positions()))
    seen = np.isfinite(x) & np.isfinite(y)
    at = [np.where(seen, y, -10), np.where(seen, x, -10)]
    return np.asarray(scipy.ndimage.map_coordinates(np.asarray(data, float), at, order=1, cval=np.nan))


def fit_reference(sky: F8, depth: F8, reference: F8, modes: SlowModes, resolution_nodes: float) -> ReferenceFit | None:
    """Fit ``sky = offset + scale x reference + slow modes`` on tiles as large as the reference's resolution.

    Scale and offset are free; each slow mode is held by what data and priors know of it, so that only what images
    cannot tell moves. Tiles err in proportion to the reference's value, by an amount found from their scatter.

    Parameters
    ----------
    sky, depth, reference : ndarray, shape (ny, nx)
    modes : SlowModes
    resolution_nodes : float
        The reference's resolution in node spacings.

    Returns
    -------
    ReferenceFit or None
        None where fewer than 25 tiles have a value.
    """
    usable = modes.covered & np.isfinite(reference) & (depth > 0)
    blurred = _blur(np.where(usable, sky, 0), usable, resolution_nodes * _SIGMA_OF_FWHM)
    quantities = np.stack([blurred, np.where(usable, reference, 0), *modes.on_nodes[1:]])
    tiles = _tile_means(quantities, usable, max(round(resolution_nodes), 2))
    if tiles.shape[1] < _LEAST_TILES:
        return None
    value, model, shapes = tiles[0], tiles[1], tiles[2:]
    design = np.column_stack([np.ones(len(value)), model, shapes.T])
    prior = np.zeros((design.shape[1],) * 2)
    prior[2:, 2:] = modes.precision[1:, 1:]
    spread = np.abs(model - np.median(model)) + np.median(np.abs(model - np.median(model))) + 1e-30
    sigma, robust = spread * np.std(value) / np.std(model), np.ones(len(value))
    for _ in range(_ROUNDS):
        weight = robust / sigma**2
        normal = design.T @ (weight[:, None] * design)
        solution = np.linalg.pinv(normal + prior, hermitian=True) @ (design.T @ (weight * value))
        residual = value - design @ solution
        level = np.abs(solution[1]) * (np.abs(model) + 1e-3 * np.median(np.abs(model)))
        scatter = mad_sigma(residual / level, 0)
        sigma = scatter * level + 1e-9 * np.std(value)
        robust = cauchy_weight((residual / sigma) ** 2, _CAUCHY)
    inner, mixed = normal[2:, 2:], normal[2:, :2]
    added = np.zeros_like(modes.precision)
    added[1:, 1:] = inner - mixed @ np.linalg.pinv(normal[:2, :2], hermitian=True) @ mixed.T
    return ReferenceFit(np.concatenate([[0.0], solution[2:]]), added, float(solution[1]), scatter)


def _blur(values: F8, usable: npt.NDArray[np.bool_], sigma: float) -> F8:
    share = scipy.ndimage.gaussian_filter(usable.astype(float), sigma, mode="constant")
    return np.asarray(scipy.ndimage.gaussian_filter(values, sigma, mode="constant") / np.maximum(share, 1e-9))


def _tile_means(quantities: F8, usable: npt.NDArray[np.bool_], size: int) -> F8:
    """Means over square tiles of at least half usable nodes, shape (quantities, tiles)."""
    ny, nx = (n // size * size for n in usable.shape)
    cut = (slice(0, ny), slice(0, nx))
    shape = (ny // size, size, nx // size, size)
    count = usable[cut].reshape(shape).sum(axis=(1, 3))
    filled = count >= _LEAST_FILLED * size * size
    sums = np.where(usable[cut], quantities[:, *cut], 0).reshape(len(quantities), *shape).sum(axis=(2, 4))
    return np.asarray(sums[:, filled] / count[filled])
