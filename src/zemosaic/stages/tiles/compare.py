"""One tile's values against another's on the same sky: gain and level, whatever the seeing of either.

The model is that of image subtraction (Alard & Lupton 1998, ApJ 503, 325): one image is the other, convolved with a
narrow kernel that seeing makes, times a gain, plus a plane. The gain is the *sum* of the kernel, so a softer star is no
fainter one. Both images are smoothed first, and the kernel is a sum of three Gaussians that differ little in width.

Noise in the first image would draw the gain to 0 (as in any least-squares slope); its share is taken off the normal
equations (errors in variables, Fuller 1987, section 2.2), with as much noise as the residuals show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.photo_scale import surface_basis
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["BIN_PX", "Relation", "relate_images"]

F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]

BIN_PX = 4
"""Pixels are averaged 4 x 4: fine enough for stars once smoothed, and a sixteenth of the work."""

_WIDTHS = 1.25, 1.4, 1.6
"""Sigma of the Gaussians, bins. The first smooths both images; the others differ from it by what seeing changes: with
stars of sigma 1.7 and 2.6 px the gain is then off by 0.1 %, at 1, 1.3, 1.8 by 0.6 % (stars without noise)."""

_RIM_BINS = 4
"""Bins at the rim of an overlap that are not used, three sigma of the smoothing: light comes and goes across it."""

_LEAST_BINS = 12
"""Fewer tell not even a level ..."""

_LEAST_INNER = 60
"""... and fewer inside the rim tell no gain: six unknowns are solved for."""

_LEAST_FILLED = 0.5
"""Share of a bin's pixels that both tiles fill: a mean of fewer lies beside the bin's middle."""

_GROUPS_A_SIDE = 4
"""The overlap is parted 4 x 4 for the jackknife."""

_SIGNIFICANT = 7.0
"""Errors above zero that the common structure of two tiles must stand out by to tell a gain."""

_BRIGHT = 20.0
"""Structure counts up to so many times its median size for that: one trail in one image hides no stars in both."""

_GAIN_RANGE = 0.05, 20.0
"""A gain beyond it is no gain: exposures and filters of one mosaic do not differ by so much."""

_ROUNDS, _CLIP = 5, 4.0
"""Of the fit, and the differences, in their own spread, that it leaves out."""

_FIRST_SHAPE, _SHAPE = 0.5, 0.02
"""Share of a star's light by which its shape may differ: before the kernel is known, and once it is (the PSF varies
over a tile). Bright stars count no more than this allows."""

_SEEING_SD = 0.6, 0.15
"""What the kernel's second and third term are expected to be, one sigma: seeing of 1.7 px against 2.6 px makes 0.73 and
-0.15, 2.5 px against 3.75 makes 1.08 and 0.10. Where structure is too faint or too smooth to tell them, they stay near
0; held so, they add a sixth less noise to a gain told by stars than free ones do."""

_TRAIL = 8.0
"""Structure of so many times its median size is left out where one image alone shows it."""

_FIRST_GAINS, _FIRST_CAUCHY = (0.2, 5.0), 3.0
"""Gains that are looked through for a start, and the size from which on a difference counts less, in noise."""

_NOISE_DOUBT = 0.1
"""Relative doubt of the noise that is taken off the normal equations, which enters the gain's error."""


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
    """

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    n_samples: int


def relate_images(x: AnyArray, y: AnyArray, mask: Flags, bin_px: int = BIN_PX) -> Relation | None:
    """Relate two images of the same sky.

    Parameters
    ----------
    x, y : ndarray, shape (h, w)
    mask : ndarray, bool, shape (h, w)
        Pixels valid in both.
    bin_px : int
        Pixels along the side of a bin; 1 for images of such bins.

    Returns
    -------
    Relation or None
        None when fewer than a dozen bins, or values that are not finite or all one, are there.

    Notes
    -----
    A gain needs common structure that stands seven errors out of the noise on its own, beyond a plane; else the slope
    is 1 with error inf. The error is that of white noise in both images, carried through the smoothing and the solve,
    or a jackknife over 16 parts of the overlap where that is larger.
    """
    n_samples = int(np.count_nonzero(mask))
    bx, by, seen = _binned(np.asarray(x), np.asarray(y), mask, bin_px)
    vx, vy = bx[seen], by[seen]
    if len(vx) < _LEAST_BINS or not (np.isfinite(vx).all() and np.isfinite(vy).all()):
        return None
    if np.ptp(vx) == 0 or np.ptp(vy) == 0:
        return None
    slope, error = _gain(bx - np.median(vx), by - np.median(vy), seen)
    if not (_GAIN_RANGE[0] < slope < _GAIN_RANGE[1] and slope > _SIGNIFICANT * error):
        slope, error = 1.0, np.inf
    level = vy - slope * vx
    middle = float(np.median(level))
    spread = mad_sigma(level, middle)
    return Relation(slope, error, middle, spread / len(vx) ** 0.5, n_samples)


def _binned(x: AnyArray, y: AnyArray, mask: Flags, bin_px: int) -> tuple[F8, F8, Flags]:
    """Means over bins of the mask's box, 0 where less than half of a bin is valid; which bins are."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1), bool)
    part = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    valid = mask[part]
    side = min(bin_px, *valid.shape)
    ny, nx = valid.shape[0] // side, valid.shape[1] // side

    def sums(image: AnyArray) -> F8:
        block = np.where(valid, image, 0)[: ny * side, : nx * side].astype(float)
        return np.asarray(block.reshape(ny, side, nx, side).sum(axis=(1, 3)))

    count = sums(np.ones(valid.shape))
    seen = count >= _LEAST_FILLED * side * side
    filled = np.where(seen, np.maximum(count, 1), np.inf)
    return sums(x[part]) / filled, sums(y[part]) / filled, seen


def _is_common(bx: F8, by: F8, seen: Flags) -> bool:
    """Whether structure that both images show stands out of what noise alone would make.

    No weight here may follow from how well the two agree: among bins chosen so, noise agrees with noise.
    """
    plane = _plane(seen)
    rx, ry = (_bright(_without(image[seen], plane, np.ones(len(plane[0])))) for image in (bx, by))
    # Of noise alone the sum of products scatters by sqrt(sxx syy / n).
    size = np.sqrt(np.sum(rx * rx) * np.sum(ry * ry) / len(rx))
    return bool(np.sum(rx * ry) > _SIGNIFICANT * size)


def _bright(values: F8) -> F8:
    """Deviations from the median, cut off far outside."""
    away = values - np.median(values)
    most = _BRIGHT * mad_sigma(away, 0)
    return np.clip(away, -most, most) if most > 0 else away


def _plane(seen: Flags) -> F8:
    """Terms 1, u, v at the bins seen, -1..1 over the box."""
    y, x = np.nonzero(seen)
    return surface_basis(x, y, (seen.shape[0], seen.shape[1]), 1)


def _products(terms: F8, other: F8, weight: F8) -> F8:
    """Weighted sums of products of rows; numpy's own sums, whose bits no number of threads changes."""
    return np.array([[np.sum(weight * a * b) for b in other] for a in terms])


def _without(values: F8, plane: F8, weight: F8) -> F8:
    terms = np.linalg.solve(
        _products(plane, plane, weight) + 1e-12 * np.eye(3), _products(plane, values[None], weight)[:, 0]
    )
    return np.asarray(values - sum(t * p for t, p in zip(terms, plane, strict=True)))


def _gain(bx: F8, by: F8, seen: Flags, *, either_way: bool = True) -> tuple[float, float]:
    """Sum of the kernel that makes y of x, and its error; inf where it cannot be told.

    A kernel cannot sharpen as truly as it softens: with `either_way`, where y is the sharper one, x is made of y.
    """
    depth = scipy.ndimage.distance_transform_edt(np.pad(seen, 1))[1:-1, 1:-1]
    before = _first_slope(bx[seen], by[seen])
    seen = _in_both(bx, by, seen)
    # A narrow overlap keeps at least its middle.
    inner = seen & (depth > min(_RIM_BINS, depth.max() // 3))
    if np.count_nonzero(inner) < _LEAST_INNER or not _is_common(bx, by, inner):
        return 1.0, np.inf
    share = [np.maximum(_blurred(seen.astype(float), width), 1e-3) for width in _WIDTHS]
    terms = _kernel_terms([_blurred(np.where(seen, bx, 0), width) / s for width, s in zip(_WIDTHS, share, strict=True)])
    wanted = (_blurred(np.where(seen, by, 0), _WIDTHS[0]) / share[0])[inner]
    plane = _plane(seen)[:, inner[seen]]
    fit = _Fit(np.vstack([[term[inner] for term in terms], plane]), wanted, _noise_ratio(bx, by, seen), _parts(inner))
    one = _without(terms[0][inner], plane, np.ones(len(wanted)))
    two = _without(wanted, plane, np.ones(len(wanted)))
    left, shape = two - before * one, _FIRST_SHAPE
    solution, noise, prior, weight = np.zeros(6), 0.0, 0.0, np.ones(len(wanted))
    for _ in range(_ROUNDS):
        weight = _weights(left, shape * np.minimum(np.abs(before * one), np.abs(two)), two)
        solution, noise, prior = fit.solve(weight)
        if not np.isfinite(solution).all():
            return 1.0, np.inf
        if either_way and solution[0] > 0 and solution[1] < 0:
            gain, error = _gain(by, bx, seen, either_way=False)
            return 1 / gain, error / gain**2
        left, before, shape = fit.residual(solution), float(solution[0]), _SHAPE
    return float(solution[0]), fit.error(solution, noise, prior, weight, inner)


def _in_both(x: F8, y: F8, seen: Flags) -> Flags:
    """False where one image alone shows something, as a trail; a star of other seeing is near one of its own."""
    of_x, of_y = (mad_sigma(image[seen], 0) for image in (x, y))
    out = seen.copy()
    for one, other, noise, of_other in ((x, y, of_x, of_y), (y, x, of_y, of_x)):
        # The other would show it, too, whatever its gain.
        bright = np.abs(one) > max(_TRAIL * noise, 4 * _FIRST_GAINS[1] * of_other)
        near = scipy.ndimage.maximum_filter(np.abs(other), 5)
        out &= ~(bright & (near * _FIRST_GAINS[1] < np.abs(one)))
    return out


def _weights(left: F8, shape: F8, structure: F8) -> F8:
    """Inverse variances of residuals, mean 1; 0 for those that neither noise nor the shape of stars explains."""
    noise = mad_sigma(left)
    spread = np.hypot(noise + 1e-6 * float(np.std(structure)), shape)
    weight = np.where(np.abs(left) <= _CLIP * spread, 1 / spread**2, 0)
    return np.asarray(weight / max(float(weight.mean()), 1e-300))


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """The equations of a gain.

    Attributes
    ----------
    design : ndarray, shape (6, n)
        Three terms of the kernel, three of the plane.
    wanted : ndarray, shape (n,)
    noise_ratio : float
        Variance of y's noise over that of x's.
    parts : ndarray of int, shape (n,)
        Part of the overlap that each bin lies in.
    """

    design: F8
    wanted: F8
    noise_ratio: float
    parts: Ints

    def residual(self, solution: F8) -> F8:
        """What the solution leaves of y."""
        return np.asarray(self.wanted - sum(s * d for s, d in zip(solution, self.design, strict=True)))

    def solve(self, weight: F8) -> tuple[F8, float, float]:
        """Kernel and plane, the variance of x's noise that the residuals show, and what holds the kernel narrow."""
        normal, right = _products(self.design, self.design, weight), self._right(weight)
        noise, solution, prior = 0.0, np.zeros(6), 0.0
        # Smoothing leaves few independent values, of which six go into the unknowns.
        n_independent = len(self.wanted) * _OVERLAP[0, 0]
        free = n_independent / max(n_independent - 6, 1.0)
        for _ in range(4):
            solution = _solved(normal, right, noise * weight.sum(), prior)
            kernel = solution[:3]
            variance = free * float(np.sum(weight * self.residual(solution) ** 2) / weight.sum())
            prior = variance / _OVERLAP[0, 0]
            noise = variance / (self.noise_ratio * _OVERLAP[0, 0] + float(kernel @ _OVERLAP @ kernel))
        return solution, noise, prior

    def error(self, solution: F8, noise: float, prior: float, weight: F8, inner: Flags) -> float:
        """One sigma of the gain."""
        normal, right = _products(self.design, self.design, weight), self._right(weight)
        inverse = np.linalg.pinv(_denoised(normal, noise * weight.sum(), prior))
        # How much the gain follows each bin; smoothed once more: how much it follows each bin's noise.
        pull = np.zeros(inner.shape)
        pull[inner] = weight * sum(i * d for i, d in zip(inverse[0], self.design, strict=True))
        terms = _kernel_terms([_blurred(pull, width) for width in _WIDTHS])
        of_x = sum(k * term for k, term in zip(solution[:3], terms, strict=True))
        formal = noise * float(self.noise_ratio * np.sum(terms[0] ** 2) + np.sum(np.square(of_x)))
        without = []
        for part in np.unique(self.parts):
            own = np.where(self.parts == part, weight, 0)
            rest = _products(self.design, self.design, own)
            without.append(
                _solved(normal - rest, right - self._right(own), noise * (weight.sum() - own.sum()), prior)[0]
            )
        n = len(without)
        jackknife = (n - 1) * float(np.mean((np.array(without) - np.mean(without)) ** 2)) if n > 1 else np.inf
        doubt = _NOISE_DOUBT * (float(solution[0]) - float(_solved(normal, right, 0.0, prior)[0]))
        return float(np.sqrt(max(formal, jackknife) + doubt**2))

    def _right(self, weight: F8) -> F8:
        return _products(self.design, self.wanted[None], weight)[:, 0]


def _solved(normal: F8, right: F8, noise: float, prior: float) -> F8:
    try:
        return np.asarray(np.linalg.solve(_denoised(normal, noise, prior), right))
    except np.linalg.LinAlgError:
        return np.full(6, np.nan)


def _denoised(normal: F8, noise: float, prior: float) -> F8:
    """Normal equations without what noise adds to the terms of the kernel, and with what is expected of seeing."""
    out = normal.copy()
    out[:3, :3] -= noise * _OVERLAP
    out[1, 1] += prior / _SEEING_SD[0] ** 2
    out[2, 2] += prior / _SEEING_SD[1] ** 2
    return out


def _blurred(image: F8, width: float) -> F8:
    return np.asarray(scipy.ndimage.gaussian_filter(image, width, mode="constant"))


def _kernel_terms(blurred: list[F8]) -> F8:
    """The blurred image, and its first and second change with the width: only the first term has a sum."""
    narrow, middle, wide = blurred
    return np.array([narrow, middle - narrow, wide - middle])


def _kernel_overlap() -> F8:
    """Covariance of the kernel's terms in an image of white noise, shape (3, 3)."""
    point = np.zeros((25, 25))
    point[12, 12] = 1
    terms = _kernel_terms([_blurred(point, width) for width in _WIDTHS])
    return np.array([[np.sum(a * b) for b in terms] for a in terms])


_OVERLAP = _kernel_overlap()


def _parts(inner: Flags) -> Ints:
    """Number of the part that each inner bin lies in: quantiles of row and column."""
    edges = np.linspace(0, 1, _GROUPS_A_SIDE + 1)[1:-1]
    row, column = (np.searchsorted(np.quantile(v, edges), v, side="right") for v in np.nonzero(inner))
    return np.asarray(row * _GROUPS_A_SIDE + column)


def _noise_ratio(bx: F8, by: F8, seen: Flags) -> float:
    """Variance of y's noise over that of x's, from second differences along rows: sky hardly bends between bins."""
    three = seen[:, 2:] & seen[:, 1:-1] & seen[:, :-2]
    of_x, of_y = (
        float(np.median(np.abs((image[:, 2:] - 2 * image[:, 1:-1] + image[:, :-2])[three]))) if three.any() else 0.0
        for image in (bx, by)
    )
    return float(np.clip((of_y / of_x) ** 2, 1e-4, 1e4)) if min(of_x, of_y) > 0 else 1.0


def _first_slope(vx: F8, vy: F8) -> float:
    """A slope near which the reweighting converges: most bins agree with it, whatever a trail in one image says."""
    of_x, of_y = (mad_sigma(v, 0) for v in (vx, vy))
    scale = of_y / of_x if min(of_x, of_y) > 0 else 1.0
    floor = 1e-9 * float(np.abs(vy).max()) + 1e-300
    rx, ry = vx * scale / (of_y + floor), vy / (of_y + floor)
    slopes = np.geomspace(*_FIRST_GAINS, 65) / scale
    # Distances at right angles to the line: bins of noise alone then prefer no slope.
    cost = [float(np.sum(np.log1p((ry - s * rx) ** 2 / (1 + s**2) / _FIRST_CAUCHY**2))) for s in slopes]
    return float(slopes[int(np.argmin(cost))] * scale)
