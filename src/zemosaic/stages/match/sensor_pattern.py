"""What a sensor adds to the sky: a pattern that stays with it and scales with the sky.

Sky through a missing flat, light inside, what a response of second degree cannot follow. Images' own surfaces end at
second degree, so a pattern has terms of third to sixth degree, which no surface can mimic. It is found from the
residuals of the background solve, round by round, since the sky has taken a part of it each time. Dithers and panels
tell fourth and higher degrees from the sky; third degree is nearly a trend of the sky and of second degree in each
image, and only rotation tells it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy
from numpy.polynomial.legendre import leg2poly

from zemosaic.kernels.match import images as kernel
from zemosaic.model.each import Each
from zemosaic.model.photo_scale import PATTERN_ORDER, n_terms, surface_terms
from zemosaic.stages.match.background import BackgroundSystem
from zemosaic.stages.match.camera_field import REAL_ERRORS
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.robust import MEDIAN_CHI2_1

__all__ = ["PatternBasis", "SensorPattern", "beside_surfaces", "own_gradients"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_LOW_TERMS = n_terms(2)

_HIGH_TERMS = n_terms(PATTERN_ORDER)
"""Coefficients of a surface with a pattern on it."""

_OWN_ORDER = 4
"""Order of images' own gradients, and of patterns where images have few blocks."""

_BLOCKS_PER_TERM = 4
"""Fewer blocks of an image for each coefficient do not tell them from noise."""

_LEAST_IMAGES = 8
"""Fewer images of a camera do not tell what they share from what each has of its own."""

_STEP = 1.5
"""How much further a pattern goes than residuals say: the sky has taken about half of what is left of it."""

_SAMPLE = 400
"""Blocks of an image that are looked at: more change nothing where images are many."""

_AT_ONCE = 500
"""Images whose sums of products are taken at once: those of many, and what is made of them, would be the peak of
memory; fewer take no less time each."""

_TAME = 9.0
"""Squares count up to so many variances: one cloud's gradients are not those of all images."""


def _legendre_products() -> F8:
    """Products of Legendre polynomials of degree 3 to 6 over the terms of `surface_terms`, shape (22, 28).

    They are orthogonal over an image to all that its surface can be, so that neither takes from the other.
    """
    out = np.zeros((_HIGH_TERMS - _LOW_TERMS, _HIGH_TERMS))
    for degree in range(3, PATTERN_ORDER + 1):
        for j in range(degree + 1):
            row = n_terms(degree - 1) - _LOW_TERMS + j
            for p, a in enumerate(leg2poly([0] * (degree - j) + [1])):
                for q, b in enumerate(leg2poly([0] * j + [1])):
                    if a * b:
                        out[row, n_terms(p + q - 1) + q] += a * b
    return out


_PRODUCTS = _legendre_products()


def _degrees_and_squares() -> tuple[Ints, F8]:
    """Degree of each of the products, and the mean of its square over an image: ``1 / ((2 p + 1) (2 q + 1))``."""
    powers = np.array([(d - j, j) for d in range(3, PATTERN_ORDER + 1) for j in range(d + 1)])
    return powers.sum(axis=1), 1 / np.prod(2 * powers + 1, axis=1)


_DEGREES_AND_SQUARES = _degrees_and_squares()


@dataclass(frozen=True, slots=True, eq=False)
class SensorPattern:
    """What stays with the sensors, in ADU at the typical sky.

    Attributes
    ----------
    group : ndarray, shape (n,), int64
        Which pattern each image has: its camera's, or that of its night where this departs from the camera's.
    coefficients : ndarray, shape (groups, 9 or 22)
        Over products of Legendre polynomials of degree 3 to the pattern's; 0 where none was found.
    real : ndarray, shape (groups, 9 or 22), bool
        Terms that are sought.
    changed : float
        Last change over a block's error.
    """

    group: Ints
    coefficients: F8
    real: Flags
    changed: float


@dataclass(frozen=True, slots=True, eq=False)
class PatternBasis:
    """What patterns of a channel are fitted with.

    Attributes
    ----------
    table : BlockTable
    camera, night : ndarray, shape (n,), int64
        Numbers from 0 on; nights of different cameras are apart.
    share : ndarray, shape (n,)
        Each image's sky over that of most: patterns scale with it.
    order : int
        Of the images' own surfaces.
    """

    table: BlockTable
    camera: Ints
    night: Ints
    share: F8
    order: int

    @classmethod
    def of(cls, table: BlockTable, value: F4, camera: Ints, night: Ints, order: int) -> PatternBasis:
        """For block means over gain and response."""
        level = np.nan_to_num(table.medians(value))
        typical = float(np.median(level)) if len(level) else 0.0
        # Calibrated images may have no sky left to scale with.
        share = np.maximum(level, 0) / typical if typical > 0 else np.ones(len(level))
        nights = np.unique(np.stack([camera, night]), axis=1, return_inverse=True)[1].ravel()
        return cls(table, camera, nights, share, order)

    @property
    def degree(self) -> int:
        """Highest of the patterns: that which glow in a corner needs where images have blocks enough to tell it."""
        enough = np.median(np.diff(self.table.start)) >= _BLOCKS_PER_TERM * _HIGH_TERMS
        return PATTERN_ORDER if enough else _OWN_ORDER

    @property
    def none(self) -> SensorPattern:
        """No pattern."""
        zero = np.zeros((self._n_cameras + int(self.night.max(initial=0)) + 1, len(_products_to(self.degree))))
        return SensorPattern(self.camera, zero, zero.astype(bool), 0.0)

    @property
    def _n_cameras(self) -> int:
        return int(self.camera.max(initial=0)) + 1

    def at_blocks(self, pattern: SensorPattern) -> F4:
        """Patterns at all blocks, shape (blocks,)."""
        out = np.zeros(len(self.table.image), np.float32)
        for i, surface in enumerate(self.surfaces(pattern)):
            if surface.any():
                part = slice(self.table.start[i], self.table.start[i + 1])
                terms = surface_terms(self.table.u[part], self.table.v[part], PATTERN_ORDER)
                out[part] = np.sum(surface[:, None] * terms, axis=0)
        return out

    def surfaces(self, pattern: SensorPattern) -> F8:
        """Each image's pattern over the terms of `surface_basis` of order `PATTERN_ORDER`, shape (n, 28)."""
        return np.asarray(
            self.share[:, None] * (pattern.coefficients @ _products_to(self.degree))[pattern.group], float
        )

    def follow(self, pattern: SensorPattern, residual: F4, weight: F4, decides: bool) -> SensorPattern:
        """The pattern with what the residuals of a round still show of it; whether it is sought one round decides."""
        if not (decides or pattern.real.any()) or np.bincount(self.camera).max(initial=0) < _LEAST_IMAGES:
            return pattern
        normals = self._normals(residual, weight)
        group = self._tell_nights(normals) if decides else pattern.group
        found, covariance = self._fit(group, normals)
        real = _real_terms(found, covariance) if decides else pattern.real
        step = np.where(real, _STEP * found, 0)
        changed = float(np.max(np.abs(step)) * np.sqrt(np.median(weight[weight > 0]))) if real.any() else 0.0
        return SensorPattern(group, pattern.coefficients + step, real, changed)

    def _tell_nights(self, normals: tuple[F8, F8]) -> Ints:
        """Group of each image: its night where what this has in common departs from what its camera has."""
        of_night = self._n_cameras + self.night
        camera, _ = self._fit(self.camera, normals)
        night, covariance = self._fit(of_night, normals)
        away = np.zeros_like(night)
        away[of_night] = night[of_night] - camera[self.camera]
        apart = np.asarray(_real_terms(away, covariance).any(axis=1))
        return np.where(apart[of_night], of_night, self.camera)

    def _normals(self, residual: F4, weight: F4) -> tuple[F8, F8]:
        """Normal matrix, (n, k, k), and right-hand side, (n, k), of each image's pattern, its own surface taken out."""
        rest = beside_surfaces(self.table, (self.order, self.degree), weight, residual, np.arange(self.table.n_images))
        high, share = slice(0, rest.shape[1] - 2), self.share[:, None]
        return rest[:, high, high] * share[..., None] ** 2, rest[:, high, -1] * share

    def _fit(self, group: Ints, normals: tuple[F8, F8]) -> tuple[F8, F8]:
        """What the residuals of each group's images have in common, (groups, k), and its covariance.

        An image is one witness, since its own gradients of third degree go through all of its blocks (a cluster-robust
        variance, Liang & Zeger 1986). Groups of few images get none, and an infinite one.
        """
        found = np.zeros_like(self.none.coefficients)
        covariance = np.full((*found.shape, found.shape[1]), np.inf)
        for c in range(len(found)):
            members = np.flatnonzero(group == c)
            if len(members) < _LEAST_IMAGES:
                continue
            normal, pulls = (q[members] for q in normals)
            if not normal.any():
                continue
            inverse = np.linalg.pinv(np.sum(normal, axis=0))
            found[c] = np.sum(inverse * np.sum(pulls, axis=0), axis=1)
            own = pulls - np.mean(pulls, axis=0)
            scatter = np.sum(own[:, :, None] * own[:, None], axis=0) * (len(own) / (len(own) - 1))
            covariance[c] = inverse @ scatter @ inverse
        return found, covariance


def _products_to(degree: int) -> F8:
    """Products of Legendre polynomials of degree 3 to `degree`, over the terms of `surface_terms`, shape (k, 28)."""
    return _PRODUCTS[: n_terms(degree) - _LOW_TERMS]


def beside_surfaces(
    table: BlockTable,
    orders: tuple[int, int],
    weight: F4,
    residual: F4,
    images: Ints,
    extra: F4 | None = None,
    each: Each = map,
) -> F8:
    """What blocks of each image tell of patterns, an extra column and the residual, its own surface taken out of all.

    Parameters
    ----------
    table : BlockTable
    orders : tuple of int
        Of the images' own surfaces, and of the patterns.
    weight, residual : ndarray, shape (blocks,), float32
    images : ndarray, shape (m,), int64
    extra : ndarray, shape (blocks,), float32, optional
        The column; 0 where None.
    each : callable
        Some images may be done beside others.

    Returns
    -------
    ndarray, shape (m, k + 2, k + 2)
        Weighted sums of products of the k patterns, the column and the residual; 0 for images of too few blocks, and
        for patterns that a surface can be.
    """
    parts = [images[first : first + _AT_ONCE] for first in range(0, len(images), _AT_ONCE)] or [images]
    return np.concatenate(list(each(lambda part: _of_some_images(table, orders, weight, residual, part, extra), parts)))


def _of_some_images(
    table: BlockTable, orders: tuple[int, int], weight: F4, residual: F4, images: Ints, extra: F4 | None
) -> F8:
    """The same for images of which all products are in memory at once."""
    order, degree = orders
    n_high = n_terms(degree)
    # From terms, the column and the residual to patterns and the same two.
    turn = scipy.linalg.block_diag(_products_to(degree)[:, :n_high], np.eye(2))
    n = n_high + 2
    sums, n_used = np.empty((len(images), n, n)), np.empty(len(images), np.int64)
    kernel.sum_products(table.placed(degree, extra), weight, residual, images, _SAMPLE, sums, n_used)
    few = n_used < _BLOCKS_PER_TERM * n_high
    sums[few] = np.eye(n)
    k = n_terms(order)
    across = sums[:, :k] @ turn.T
    out = turn @ sums @ turn.T - across.swapaxes(1, 2) @ np.linalg.solve(sums[:, :k, :k], across)
    out[few] = 0
    own = slice(0, k - _LOW_TERMS)
    out[:, own] = 0
    out[:, :, own] = 0
    return out


def own_gradients(system: BackgroundSystem, residual: F4, images: Ints) -> F8:
    """Variance that images' own gradients of third and fourth degree give their extra coefficients.

    Surfaces end at second degree. What lies above, the residuals of all images show; an image's extra column takes of
    it what looks alike.

    Parameters
    ----------
    system : BackgroundSystem
        As it was solved, with an extra column.
    residual : ndarray, shape (blocks,), float32
        Of that solution.
    images : ndarray, shape (m,), int64
        Images whose column is not 0.

    Returns
    -------
    ndarray, shape (n,)
        Over the variance that independent blocks would give; 0 for other images.
    """
    table, order, column = system.layout.table, system.layout.order, system.data.extra
    out, high = np.zeros(table.n_images), slice(0, len(_products_to(_OWN_ORDER)))
    if column is None:
        return out
    rest = beside_surfaces(table, (order, _OWN_ORDER), system.data.weight, residual, images, column, system.each)
    known = rest[:, -2, -2] > 0
    images, rest = images[known], rest[known]
    if len(images) == 0:
        return out
    inverse = np.linalg.pinv(rest[:, high, high], hermitian=True)
    squares = np.sum(inverse * rest[:, None, high, -1], axis=2) ** 2
    noise = np.diagonal(inverse, axis1=1, axis2=2)
    tame = np.minimum(squares, _TAME * np.median(squares, axis=0) / MEDIAN_CHI2_1)
    size = np.maximum(np.mean(tame, axis=0) - np.mean(noise, axis=0), 0)
    # The more blocks, the smaller their variance; gradients do not average out.
    n_blocks = table.start[images + 1] - table.start[images]
    share = 1 / np.maximum(n_blocks // _SAMPLE, 1)
    out[images] = np.sum(rest[:, high, -2] ** 2 * size, axis=1) / (rest[:, -2, -2] * share)
    return out


def _real_terms(found: F8, covariance: F8) -> Flags:
    """Terms of patterns that are real: those of each degree as a whole, by their rms over an image; as `found`."""
    degree, square = (q[: found.shape[1]] for q in _DEGREES_AND_SQUARES)
    out = np.zeros(found.shape, bool)
    for c in np.flatnonzero(np.isfinite(covariance).all(axis=(1, 2))):
        size2, error2 = square * found[c] ** 2, square * np.diagonal(covariance[c])
        for d in np.unique(degree):
            out[c, degree == d] = np.sum(size2[degree == d]) > REAL_ERRORS**2 * np.sum(error2[degree == d])
    return out
