"""Sky level, noise and block means of one channel, robust on skies cut off at zero."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.measure import mesh
from zemosaic.kernels.measure.block_means import MeanRule, Means, block_means
from zemosaic.model.measurements import Blocks
from zemosaic.model.photo_scale import surface_terms
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["ChannelSky", "block_edges", "measure_blocks", "sky_and_noise", "sky_of_blocks"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]

_NORMAL = NormalDist()

_CLIP_KAPPA = 3.0
"""Of what no mask has found, in sigma: cuts one good pixel in 370, on both sides alike."""

_MIN_SHARE = 0.35
"""Least share of a block's pixels that must be free of stars."""

_FLOOR_SHARE = 0.002
"""Share of pixels at the lowest value above which the data count as cut off there."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelSky:
    """Background of one channel on a mesh.

    Attributes
    ----------
    level, noise : float
        Medians over the mesh, input units.
    mesh : ndarray, shape (ny, nx), float32
        Local level; holes filled from their neighbours.
    noise_mesh : ndarray, shape (ny, nx), float32
        Local noise, at least `noise`.
    y_centres, x_centres : ndarray, float64
        Pixel positions of the mesh.
    floor : float
        Value at which the data are cut off below; -inf when they are not.
    quantile : float
        Quantile of a block's pixels that the floor leaves untouched; 0.5 unless half the sky is cut off.
    """

    level: float
    noise: float
    mesh: F4
    noise_mesh: F4
    y_centres: F8
    x_centres: F8
    floor: float
    quantile: float


def block_edges(length: int, size: int) -> npt.NDArray[np.int64]:
    """Boundaries of near-equal blocks of about `size` that fill `length` pixels."""
    n = max(round(length / size), 1)
    return np.array([i * length // n for i in range(n + 1)], np.int64)


def find_floor(data: F4, bad: Mask) -> float:
    """Value at which the pixels are cut off below, -inf when they are not.

    A sky clipped at zero has many pixels at exactly its lowest value, more than at the next one: noise has a thin tail
    there, also where counts are coarse.
    """
    some = data[::7][bad[::7] == 0]
    if some.size == 0:
        return -np.inf
    low = float(some.min())
    n_lowest = np.count_nonzero(some == low)
    if n_lowest <= _FLOOR_SHARE * some.size:
        return -np.inf
    above = some[some > low]
    n_next = np.count_nonzero(above == above.min()) if above.size else 0
    return low if n_lowest > n_next else -np.inf


@dataclass(frozen=True, slots=True, eq=False)
class _Levels:
    """Level and noise of each block, which blocks have enough pixels, and what the channel's sky is by them."""

    level: F4
    sigma: F4
    full: npt.NDArray[np.bool_]
    noise: float
    floor: float
    quantile: float
    edges: mesh.BlockEdges

    @property
    def sky(self) -> float:
        return float(np.median(self.level[self.full]))


def sky_and_noise(data: F4, bad: Mask, size: int, row_step: int) -> tuple[float, float]:
    """Typical level and noise of a channel: medians over blocks. Parameters are those of `sky_of_blocks`."""
    found = _measure_levels(data, bad, size, row_step)
    return found.sky, found.noise


def sky_of_blocks(data: F4, bad: Mask, size: int, row_step: int) -> ChannelSky:
    """Local level and noise on a mesh of blocks, from every `row_step`-th row.

    Parameters
    ----------
    data : ndarray, shape (h, w), float32
    bad : ndarray, shape (h, w), uint8
        0 where a pixel counts.
    size : int
        Side of a block in pixels.
    row_step : int
        Rows between rows that are looked at.
    """
    found = _measure_levels(data, bad, size, row_step)
    y_edges, x_edges = found.edges
    return ChannelSky(
        found.sky,
        found.noise,
        _fill_holes(found.level, found.full),
        np.where(found.full & (found.sigma > found.noise), found.sigma, found.noise).astype(np.float32),
        (y_edges[:-1] + y_edges[1:] - 1) / 2,
        (x_edges[:-1] + x_edges[1:] - 1) / 2,
        found.floor,
        found.quantile,
    )


def _measure_levels(data: F4, bad: Mask, size: int, row_step: int) -> _Levels:
    height, width = data.shape
    edges = mesh.BlockEdges(block_edges(height, size), block_edges(width, size))
    shape = len(edges.y) - 1, len(edges.x) - 1
    level, sigma = np.empty(shape, np.float32), np.empty(shape, np.float32)
    n_used, n_floor = np.empty(shape, np.int32), np.empty(shape, np.int32)
    floor = find_floor(data, bad)
    mesh.block_levels(data, bad, edges, row_step, np.float32(floor), mesh.Levels(level, sigma, n_used, n_floor))
    full = n_used >= max(n_used.max() // 4, 1)
    quantile = 0.5
    noise = float(np.nanmedian(sigma[full])) if np.isfinite(sigma[full]).any() else 0.0
    if floor > -np.inf:
        share = float(np.median(n_floor[full] / n_used[full]))
        quantile = 0.5 if share < 0.35 else 0.75
        noise = _noise_above_floor(data, bad, edges, full, quantile)
        if quantile > 0.5:
            level = _quantile_levels(data, bad, edges, full, quantile, noise)
    return _Levels(level, sigma, full, noise, floor, quantile, edges)


_ENOUGH_FOR_QUADRATIC = 12
"""Blocks from which a quadratic with six coefficients is laid through a mesh."""

_FITS = 3
"""Least squares, each without the blocks that the one before left far off."""

_LEAST_SPREAD = 0.3
"""Share of the channel's noise that a block's scatter is taken to be at least.

Blocks of counts coarser than the noise may hold one value throughout; no weight without limit follows from that.
"""


def measure_blocks(data: F4, mask: Mask, size: int, skies: list[ChannelSky]) -> Blocks:
    """Clipped means of the unmasked pixels of blocks of about `size` pixels, all channels.

    Parameters
    ----------
    data : ndarray, shape (c, h, w), float32
    mask : ndarray, shape (h, w), uint8
        1 on stars and where there is no data.
    size : int
    skies : list of ChannelSky
        One for each channel; tells where the data are cut off.
    """
    channels, height, width = data.shape
    edges = mesh.BlockEdges(block_edges(height, size), block_edges(width, size))
    shape = channels, len(edges.y) - 1, len(edges.x) - 1
    mean, error = np.empty(shape, np.float32), np.empty(shape, np.float32)
    xs, ys = np.empty(shape[1:], np.float32), np.empty(shape[1:], np.float32)
    least = int(_MIN_SHARE * size * size)
    for c, sky in enumerate(skies):
        quantile = sky.quantile if sky.floor > -np.inf else 0.0
        z = _NORMAL.inv_cdf(sky.quantile)
        spread = sky.noise * (sky.quantile * (1 - sky.quantile)) ** 0.5 / _NORMAL.pdf(z)
        rule = MeanRule(_CLIP_KAPPA, quantile, sky.noise * z, spread, least)
        block_means(data[c], mask, edges, rule, Means(mean[c], error[c], xs, ys))
        np.maximum(error[c], _LEAST_SPREAD * sky.noise / size, out=error[c])
    use = np.isfinite(error).any(axis=0)
    return Blocks(xs[use], ys[use], mean[:, use], error[:, use], float(size))


def _noise_above_floor(
    data: F4, bad: Mask, edges: mesh.BlockEdges, full: npt.NDArray[np.bool_],
    quantile: float,
) -> float:  # fmt: skip
    """Noise from two upper quantiles of some blocks, where the lower half is cut off."""
    upper = quantile + 0.18
    span = _NORMAL.inv_cdf(upper) - _NORMAL.inv_cdf(quantile)
    widths = []
    for j, i in np.argwhere(full)[::3]:
        cell = np.s_[edges.y[j] : edges.y[j + 1], edges.x[i] : edges.x[i + 1]]
        low, high = np.quantile(data[cell][bad[cell] == 0], [quantile, upper])
        widths.append((high - low) / span)
    return float(np.median(widths))


def _quantile_levels(
    data: F4, bad: Mask, edges: mesh.BlockEdges, full: npt.NDArray[np.bool_],
    quantile: float, noise: float,
) -> F4:  # fmt: skip
    """Block levels from a quantile above the floor: the median that the full Gaussian would have."""
    level = np.zeros(full.shape, np.float32)
    for j, i in np.argwhere(full):
        cell = np.s_[edges.y[j] : edges.y[j + 1], edges.x[i] : edges.x[i + 1]]
        level[j, i] = np.quantile(data[cell][bad[cell] == 0], quantile) - noise * _NORMAL.inv_cdf(quantile)
    return level


def _fill_holes(level: F4, full: npt.NDArray[np.bool_]) -> F4:
    """Mesh with holes filled by the mean of known neighbours, then a 3 x 3 median against bright stars.

    The median is taken beside a quadratic over the image: of a sky that falls to all sides it would cut the summit off,
    and lift the rims.
    """
    from scipy.ndimage import median_filter, uniform_filter  # a tenth of a second that weighing frames does without

    known = full.astype(np.float32)
    filled = np.where(full, level, 0).astype(np.float32)
    while not (known > 0).all():
        share = uniform_filter(known, 3, mode="nearest")
        total = uniform_filter(filled, 3, mode="nearest")
        new = (known == 0) & (share > 1e-6)
        filled[new] = total[new] / share[new]
        known[new] = 1
    bulk = _quadratic(filled)
    return np.asarray(median_filter(filled - bulk, 3, mode="nearest") + bulk)


def _quadratic(level: F4) -> F4:
    """A quadratic through a mesh, blocks far from it left out; 0 where there are few."""
    if min(level.shape) < 3 or level.size < _ENOUGH_FOR_QUADRATIC:
        return np.zeros_like(level)
    v, u = (2 * i / (n - 1) - 1 for i, n in zip(np.indices(level.shape), level.shape, strict=True))
    terms = surface_terms(u.ravel(), v.ravel())
    values, used = level.ravel().astype(float), np.ones(level.size, bool)
    for _ in range(_FITS):
        own = terms * used
        fit = np.linalg.solve(np.sum(own[:, None] * terms[None], axis=2), np.sum(own * values, axis=1))
        rest = values - np.sum(fit[:, None] * terms, axis=0)
        used = np.abs(rest) <= _CLIP_KAPPA * mad_sigma(rest)
        if np.count_nonzero(used) < level.size / 2:
            break
    return np.asarray((values - rest).reshape(level.shape), np.float32)
