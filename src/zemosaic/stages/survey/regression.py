"""One tile's values against another's: a straight line with errors in both, robust, blind to smooth differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms, surface_terms
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["Relation", "regress"]

F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]

_BIN_PX = 4
"""Pixels are averaged 4 x 4: seeing and sampling that differ between tiles hardly matter to such means."""

_LEAST_BINS = 12
_LEAST_FILLED = 0.5
_SURFACE_ORDER = 1
"""Smooth differences up to this order between the tiles say nothing of their gains."""

_SIGNIFICANT = 7.0
"""Errors above zero that the common structure of two tiles must stand out by to tell a gain."""

_NOISE_ROWS = 200
_GAIN_RANGE = 0.05, 20.0
_ROUNDS = 12
_CAUCHY = 2.5


@dataclass(frozen=True, slots=True)
class Relation:
    """``y = slope * x + intercept`` over an overlap.

    Attributes
    ----------
    slope, slope_error : float
        Slope 1 with error inf where no structure tells it.
    intercept, intercept_error : float
        At ``x = 0``; the error is that of the level at the overlap's own mean.
    n_samples : int
        Pixels compared.
    scatter : float
        Robust rms of what is left, per mean of 4 x 4 pixels, in units of y.
    """

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    n_samples: int
    scatter: float


def regress(x: AnyArray, y: AnyArray, mask: Flags) -> Relation | None:
    """Relate two images of the same sky.

    Parameters
    ----------
    x, y : ndarray, shape (h, w)
    mask : ndarray, bool, shape (h, w)
        Pixels valid in both.

    Returns
    -------
    Relation or None
        None when fewer than a dozen means of 4 x 4 pixels, or values that are not finite or all one, are there.

    Notes
    -----
    Deming regression (errors in both variables, from each image's own small-scale noise) on what a plane over the
    overlap leaves of either image, reweighted with Cauchy's function. A least-squares slope would be drawn to 0 by the
    noise of x; a ratio of medians would measure the pedestals.
    """
    n_samples = int(np.count_nonzero(mask))
    vx, vy, u, v, small = _binned(np.asarray(x), np.asarray(y), mask)
    if len(vx) < _LEAST_BINS or not (np.isfinite(vx).all() and np.isfinite(vy).all()):
        return None
    if np.ptp(vx) == 0 or np.ptp(vy) == 0:
        return None
    basis = surface_terms(u - 1, v - 1, _SURFACE_ORDER).T
    noise = _noise(x, mask), _noise(y, mask)
    weight = _near_median(vx) * _near_median(vy)
    rx, ry = _without_surface(vx, basis, weight), _without_surface(vy, basis, weight)
    slope, error, known, scatter = _first_slope(rx, ry, max(noise) / small), np.inf, False, 0.0
    for turn in range(_ROUNDS):
        before = slope
        if turn > 0:
            rx, ry = _without_surface(vx, basis, weight), _without_surface(vy, basis, weight)
            slope, error, known = _deming(rx, ry, weight, noise)
        left = ry - slope * rx
        scatter = mad_sigma(left) + 1e-9 * float(np.abs(vy).max())
        weight = 1 / (1 + (left / (_CAUCHY * scatter)) ** 2)
        if turn > 0 and abs(slope - before) < 1e-7:
            break
    if not known:
        slope, error = 1.0, np.inf
    level = vy - slope * vx
    middle = float(np.median(level)) if not known else float(np.average(level, weights=weight))
    spread = mad_sigma(level, middle)
    return Relation(slope, error, middle, spread / len(vx) ** 0.5, n_samples, scatter)


def _binned(x: AnyArray, y: AnyArray, mask: Flags) -> tuple[F8, F8, F8, F8, int]:
    """Means of 4 x 4 valid pixels of both images, their places on 0..2 over the overlap's box, and the 4."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    empty = np.zeros(0)
    if len(rows) == 0:
        return empty, empty, empty, empty, _BIN_PX
    part = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    seen = mask[part]
    small = min(_BIN_PX, *seen.shape)
    ny, nx = seen.shape[0] // small, seen.shape[1] // small

    def means(image: AnyArray) -> F8:
        block = np.where(seen, image, 0)[: ny * small, : nx * small].astype(float)
        return np.asarray(block.reshape(ny, small, nx, small).sum(axis=(1, 3)))

    count = means(np.ones(seen.shape))
    full = count >= _LEAST_FILLED * small * small
    v, u = np.nonzero(full)
    n = count[full]
    return (
        means(x[part])[full] / n, means(y[part])[full] / n,
        (2 * u + 1) / nx, (2 * v + 1) / ny, small,
    )  # fmt: skip


def _without_surface(values: F8, basis: F8, weight: F8) -> F8:
    root = np.sqrt(weight)
    terms = np.linalg.lstsq(basis * root[:, None], values * root, rcond=1e-9)[0]
    return np.asarray(values - basis @ terms)


def _near_median(values: F8) -> F8:
    away = values - np.median(values)
    return np.asarray(1 / (1 + (away / (5 * np.median(np.abs(away)) + 1e-300)) ** 2))


def _first_slope(rx: F8, ry: F8, noise: float) -> float:
    """A slope near which the reweighting converges: most samples agree with it, whatever a trail in one image says."""
    slopes = np.geomspace(0.2, 5, 65)
    scale = max(_CAUCHY * 2 * noise, 1e-9 * float(np.abs(ry).max()), 1e-300)
    cost = [float(np.sum(np.log1p(((ry - slope * rx) / scale) ** 2))) for slope in slopes]
    return float(slopes[int(np.argmin(cost))])


def _noise(image: AnyArray, mask: Flags) -> float:
    """Noise of a pixel, from differences of neighbours in a row: the sky hardly changes from pixel to pixel."""
    rows = slice(None, None, max(mask.shape[0] // _NOISE_ROWS, 1))
    both = mask[rows, 1:] & mask[rows, :-1]
    steps = np.diff(np.asarray(image[rows], float), axis=1)[both]
    return float(mad_sigma(steps, 0) / np.sqrt(2)) if len(steps) else 0.0


def _deming(rx: F8, ry: F8, weight: F8, noise: tuple[float, float]) -> tuple[float, float, bool]:
    """Slope, its error, and whether the common structure stands out of the noise."""
    total = float(weight.sum())
    sxx, syy, sxy = (float(np.sum(weight * p * q)) / total for p, q in ((rx, rx), (ry, ry), (rx, ry)))
    if sxx <= 0 or syy <= 0 or sxy <= 0:
        return 1.0, np.inf, False
    ratio = (noise[1] / noise[0]) ** 2 if min(noise) > 0 else syy / sxx
    half = (syy - ratio * sxx) / 2
    slope = (half + np.sqrt(half**2 + ratio * sxy**2)) / sxy
    n = total**2 / float(np.sum(weight**2)) - n_terms(_SURFACE_ORDER)
    left = float(np.sum(weight * (ry - slope * rx) ** 2)) / total
    structure = sxy / slope
    # Of a line through noise alone, sxy scatters by sqrt(sxx syy / n).
    significance = sxy / np.sqrt(sxx * syy / max(n, 1))
    error = float(np.sqrt(left / (structure * max(n, 1))))
    known = significance > _SIGNIFICANT and _GAIN_RANGE[0] < slope < _GAIN_RANGE[1]
    return float(slope), error, bool(known)
