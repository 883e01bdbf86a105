"""Gains of tiles against their common mean, on cells of a coarse grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["CoarseTile", "gains_of_tiles", "slope_with_error"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LEAST_CELLS = 100
"""Fewer common cells tell no gain."""

OVERLAP_SHARE = 0.05
"""Smoothed coverage of the others from which a cell counts as shared."""

N_ERRORS = 2.0
"""A gain nearer to 1 than this many of its errors is 1."""

ROUNDS = 20
CONVERGED = 1e-4

CLIP_SIGMA = 4.0
GROUPS_A_SIDE = 4


@dataclass(frozen=True, slots=True, eq=False)
class CoarseTile:
    """A tile on cells of a coarse grid.

    Attributes
    ----------
    box : Box
        Cells of the grid.
    values : ndarray, shape of box
        Luminance.
    seen : ndarray of bool, shape of box
        Whether the cell is filled.
    """

    box: Box
    values: F4
    seen: Flags


def gains_of_tiles(
    tiles: Sequence[CoarseTile],
    shape: tuple[int, int],
    sigma_cells: float,
    gain_clip: tuple[float, float],
    seen: Flags | None = None,
    mean: F8 | None = None,
) -> F4:
    """Gain of each tile relative to the mean of all.

    Parameters
    ----------
    tiles : sequence of CoarseTile
    shape : (height, width)
        Of the coarse grid.
    sigma_cells : float
        Smoothing of the others' coverage.
    gain_clip : (low, high)
    seen : ndarray of bool, shape `shape`, optional
        Cells that the first pass covers.
    mean : ndarray, shape `shape`, optional
        The first pass on cells, NaN where it has none; made here without it.

    Returns
    -------
    ndarray, float32, shape (n,)

    Notes
    -----
    A tile is regressed on the mean of the *others*, whose noise is their own; the slope is then turned into one against
    the mean of all, ``b / (f b + 1 - f)`` with f the tile's own share. Tiles are divided by these slopes and the mean
    is made again, until the slopes are 1: a tile that stands out pulls the mean of its neighbours only at first. The
    geometric mean of all gains that are determined is held at 1.
    """
    total, number = np.zeros((2, *shape))
    for tile in tiles:
        total[tile.box.slices] += np.where(tile.seen, tile.values, 0)
        number[tile.box.slices] += tile.seen
    if mean is not None:
        total = np.where(np.isfinite(mean), mean * number, 0)
        number = np.where(np.isfinite(mean), number, 0)
    shared = [_shared(tile, number, sigma_cells, seen) for tile in tiles]
    levels = [float(np.median(tile.values[tile.seen])) if tile.seen.any() else 0.0 for tile in tiles]
    values = [tile.values.astype(float) for tile in tiles]
    gains, errors = np.ones(len(tiles)), np.zeros(len(tiles))
    for _ in range(ROUNDS):
        found = np.array([
            _slope_to_mean(v, tile, s, total, number) for v, tile, s in zip(values, tiles, shared, strict=True)
        ]).reshape(-1, 2)
        known = np.isfinite(found[:, 1])
        steps = np.where(known, found[:, 0], 1.0)
        if known.any():
            steps[known] /= np.exp(np.mean(np.log(steps[known])))
        gains, errors = gains * steps, np.maximum(errors, found[:, 1])
        for k, tile in enumerate(tiles):
            better = levels[k] + (values[k] - levels[k]) / steps[k]
            total[tile.box.slices] += np.where(tile.seen, better - values[k], 0)
            values[k] = better
        if np.abs(steps - 1).max() < CONVERGED:
            break
    significant = np.abs(gains - 1) > N_ERRORS * errors
    return np.clip(np.where(significant, gains, 1.0), *gain_clip).astype(np.float32)


def _shared(tile: CoarseTile, number: F8, sigma_cells: float, seen: Flags | None) -> Flags:
    """Cells of a tile in which others contribute, too; no cell at all where they are too few."""
    part = tile.box.slices
    others = number[part] - tile.seen
    smooth = (
        scipy.ndimage.gaussian_filter(np.minimum(others, 1), sigma_cells, mode="constant")
        if sigma_cells > 0
        else others
    )
    shared = tile.seen & (others > 0) & (smooth > OVERLAP_SHARE)
    if seen is not None:
        shared &= seen[part]
    return shared & (np.count_nonzero(shared) >= LEAST_CELLS)


def _slope_to_mean(values: F8, tile: CoarseTile, shared: Flags, total: F8, number: F8) -> tuple[float, float]:
    """Slope of a tile against the mean of all, and its error; inf where nothing tells it."""
    if not shared.any():
        return 1.0, np.inf
    part = tile.box.slices
    own, n_others = values[shared], number[part][shared] - 1
    rest = (total[part][shared] - own) / n_others
    # The noise variance of one tile is that of the mean of the others times their number.
    slope, error = slope_with_error(rest, own, float(np.mean(n_others)), _groups(shared))
    share = float(np.mean(1 / (1 + n_others)))
    scale = share * slope + 1 - share
    return slope / scale, error * (1 - share) / scale**2


def _groups(shared: Flags) -> npt.NDArray[np.int64]:
    """Number of the spatial group that each shared cell lies in: quantiles of row and column."""
    y, x = np.nonzero(shared)
    edges = np.linspace(0, 1, GROUPS_A_SIDE + 1)[1:-1]
    row, column = (np.searchsorted(np.quantile(v, edges), v, side="right") for v in (y, x))
    return np.asarray(row * GROUPS_A_SIDE + column)


def slope_with_error(x: F8, y: F8, noise_ratio: float, groups: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Slope of ``y = a + b x`` where both have noise, and its error.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        With independent errors.
    noise_ratio : float
        Variance of the errors of y over that of x.
    groups : ndarray of int, shape (n,)
        Parts left out in turn for the error: residuals within one may be correlated.

    Returns
    -------
    slope, error : float
        The larger of the formal and the jackknife error; inf where x shows no structure above its noise.

    Notes
    -----
    Deming regression (Deming 1943; Fuller 1987, section 1.3.2), with residuals beyond 4 sigma left out in three rounds.
    """
    kept = np.ones(len(x), bool)
    slope = 1.0
    for _ in range(3):
        slope = _deming(x[kept], y[kept], noise_ratio)
        residual = (y - y[kept].mean()) - slope * (x - x[kept].mean())
        sigma = mad_sigma(residual[kept], 0)
        if not np.isfinite(slope) or sigma == 0:
            break
        kept = np.abs(residual) <= CLIP_SIGMA * sigma
    if not np.isfinite(slope):
        return 1.0, np.inf
    x, y, groups = x[kept], y[kept], groups[kept]
    residual = (y - y.mean()) - slope * (x - x.mean())
    noise_x = residual.var() / (noise_ratio + slope**2)
    signal = x.var() - noise_x
    if signal <= 0:
        return slope, np.inf
    formal = np.sqrt(residual.var() / (len(x) * signal))
    names = np.unique(groups)
    parts = np.array([_deming(x[groups != g], y[groups != g], noise_ratio) for g in names])
    if len(names) < 2 or not np.isfinite(parts).all():
        return slope, np.inf
    jackknife = np.sqrt((len(names) - 1) * np.mean((parts - parts.mean()) ** 2))
    return slope, float(max(formal, jackknife))


def _deming(x: F8, y: F8, noise_ratio: float) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    sxx, syy, sxy = float(np.mean(dx * dx)), float(np.mean(dy * dy)), float(np.mean(dx * dy))
    if sxy <= 0:
        return float("nan")
    lead = syy - noise_ratio * sxx
    return float((lead + np.sqrt(lead**2 + 4 * noise_ratio * sxy**2)) / (2 * sxy))
