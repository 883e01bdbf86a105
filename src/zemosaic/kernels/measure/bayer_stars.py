"""Place and shape of stars, fitted to the samples of a raw plane as they are: no colour is interpolated.

A Seestar's stars are 1.4 superpixels wide: moments on superpixels know their width to 10 %, this fit to 1 %.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part

__all__ = ["RawPlane", "fit_stars"]

_MAX_ROUNDS = 25
"""Of a damped fit, which ends in a few: one that is not done by then wanders."""

_N_SHAPE = 5
"""Parameters of place and shape; three heights and three backgrounds follow."""

_FWHM_OF_SIGMA = 2.3548
"""Of a Gaussian: ``sqrt(8 ln 2)``."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class RawPlane(NamedTuple):
    """A raw plane, Bayer or mono.

    Attributes
    ----------
    samples, weight : ndarray, float32, shape (h, w)
        Samples of weight 0 are left out.
    channels : ndarray, int64, shape (2, 2)
        Channel, 0 to 2, by the parity of row and column; all 0 for mono.
    """

    samples: Floats
    weight: Floats
    channels: npt.NDArray[np.int64]


class _Square(NamedTuple):
    """The samples round a star that are used: first column, first row, side."""

    x0: int
    y0: int
    side: int


@kernel
def fit_stars(
    plane: RawPlane,
    x: Doubles,
    y: Doubles,
    fwhm_px: float,
    radius: int,
    out: Doubles,
) -> None:
    """Fit an elliptical Gaussian to each star, with a height and a background of its own in each colour.

    Parameters
    ----------
    plane : RawPlane
    x, y : ndarray, float64, shape (n,)
        Places to start from, in pixels of the plane.
    fwhm_px : float
        Width to start from.
    radius : int
        Samples within this of the start's pixel are used, in a square.
    out : ndarray, float64, shape (n, 5)
        Filled with x, y, FWHM of the major and of the minor axis (as the pixels show them, their own width
        included) and the height of the colour that has the highest over the noise of the residuals; NaN where
        the fit did not end within the square with a width of 0.3 to 4 times that of the start.

    Notes
    -----
    Levenberg-Marquardt with Marquardt's scaling (1963, SIAM J. 11, 431), all samples weighing the same.
    """
    for k in range(x.size):
        out[k] = np.nan
        x0, y0 = int(np.rint(x[k])) - radius, int(np.rint(y[k])) - radius
        side = 2 * radius + 1
        if x0 < 0 or y0 < 0 or x0 + side > plane.samples.shape[1] or y0 + side > plane.samples.shape[0]:
            continue
        _fit_one(plane, x[k], y[k], _Square(x0, y0, side), fwhm_px, out[k])


@part
def _fit_one(plane, x, y, square, fwhm_px, out):
    x0, y0, side = square
    n = _N_SHAPE + 6
    curvature = (_FWHM_OF_SIGMA / fwhm_px) ** 2
    p = np.zeros(n)
    p[0], p[1], p[2], p[4] = x - x0, y - y0, curvature, curvature
    matrix, right = np.zeros((n, n)), np.zeros(n)
    step, damping = np.zeros(n), 1e-3
    chi2 = _normal_equations(plane, square, p, matrix, right)
    # Heights and backgrounds are linear: the first step takes them alone.
    if not _solve(matrix, right, 0.0, _N_SHAPE, step):
        return
    for k in range(n):
        p[k] += step[k]
    chi2 = _normal_equations(plane, square, p, matrix, right)
    trial, trial_matrix, trial_right = np.zeros(n), np.zeros((n, n)), np.zeros(n)
    for _ in range(_MAX_ROUNDS):
        if not _solve(matrix, right, damping, 0, step):
            return
        for k in range(n):
            trial[k] = p[k] + step[k]
        got = _normal_equations(plane, square, trial, trial_matrix, trial_right)
        if got <= chi2 and _is_sane(trial, curvature, side):
            done = chi2 - got < 1e-6 * chi2
            p, trial, chi2, damping = trial, p, got, damping / 5
            matrix, trial_matrix, right, trial_right = trial_matrix, matrix, trial_right, right
            if done:
                _report(p, chi2, square, out)
                return
        else:
            damping *= 8
            if damping > 1e8:
                return


@part
def _is_sane(p, curvature, side):
    inside = p[0] > 0 and p[1] > 0 and p[0] < side - 1 and p[1] < side - 1
    mean, spread = (p[2] + p[4]) / 2, np.hypot((p[2] - p[4]) / 2, p[3])
    return inside and mean - spread > curvature / 16 and mean + spread < curvature * 11


@part
def _normal_equations(plane, square, p, matrix, right):
    """Fill the lower half of the matrix and the right side at p; returns the sum of squares.

    The parameters p are x, y, a, b, c, three heights and three backgrounds.

    The model is ``height exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2) + background``.
    """
    raw, weight, channels = plane
    x0, y0, side = square
    bell, bend = np.empty(side), np.exp(-p[2])
    # Of each colour: products of the seven derivatives and, as the eighth, the residual.
    sums, g = np.zeros((3, 8, 8)), np.empty(8)
    for j in range(side):
        dy = j - p[1]
        _fill_bell(p, dy, bend, bell)
        for i in range(side):
            if not weight[y0 + j, x0 + i] > 0:
                continue
            c, dx = channels[(y0 + j) & 1, (x0 + i) & 1], i - p[0]
            light = p[5 + c] * bell[i]
            g[0], g[1] = light * (p[2] * dx + p[3] * dy), light * (p[3] * dx + p[4] * dy)
            g[2], g[3], g[4] = -light * dx * dx / 2, -light * dx * dy, -light * dy * dy / 2
            g[5], g[6], g[7] = bell[i], 1.0, raw[y0 + j, x0 + i] - light - p[8 + c]
            of_colour = sums[c]
            for a in range(8):
                for b in range(8):
                    of_colour[a, b] += g[a] * g[b]
    return _put_in_place(sums, matrix, right)


@part
def _fill_bell(p, dy, bend, bell):
    """The Gaussian along a row, outwards from its highest pixel: its ratio from pixel to pixel has a constant ratio."""
    side, (a, b, c) = bell.size, p[2:5]
    top = min(max(int(np.rint(p[0] - b * dy / a)), 0), side - 1)
    dx = top - p[0]
    bell[top] = np.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
    value, ratio = bell[top], np.exp(-0.5 * (a * (2 * dx + 1) + 2 * b * dy))
    for i in range(top + 1, side):
        value *= ratio
        ratio *= bend
        bell[i] = value
    value, ratio = bell[top], np.exp(-0.5 * (a * (1 - 2 * dx) - 2 * b * dy))
    for i in range(top - 1, -1, -1):
        value *= ratio
        ratio *= bend
        bell[i] = value


@part
def _put_in_place(sums, matrix, right):
    """Sums of each colour's products to the lower half of the matrix and to the right side; returns that of squares."""
    matrix[:], right[:] = 0, 0
    chi2, n = 0.0, _N_SHAPE
    for c in range(3):
        of_colour, at = sums[c], (n + c, n + 3 + c)
        chi2 += of_colour[7, 7]
        for a in range(n):
            right[a] += of_colour[7, a]
            for b in range(a + 1):
                matrix[a, b] += of_colour[a, b]
        for k in range(2):
            right[at[k]] = of_colour[7, n + k]
            for b in range(n):
                matrix[at[k], b] = of_colour[n + k, b]
            matrix[at[k], at[k]] = of_colour[n + k, n + k]
        matrix[at[1], at[0]] = of_colour[n + 1, n]
    return chi2


@part
def _solve(matrix, right, damping, first, step):
    """Step of the parameters from `first` on, by Cholesky; those without data stay. Returns whether it worked."""
    n = right.size
    lower = np.zeros((n, n))
    step[:] = 0
    for i in range(first, n):
        for j in range(first, i + 1):
            total = matrix[i, j]
            if i == j:
                total = total * (1 + damping) if total > 0 else 1.0
            for k in range(first, j):
                total -= lower[i, k] * lower[j, k]
            if i == j:
                if total <= 0:
                    return False
                lower[i, i] = np.sqrt(total)
            else:
                lower[i, j] = total / lower[j, j]
    for i in range(first, n):
        total = right[i]
        for k in range(first, i):
            total -= lower[i, k] * step[k]
        step[i] = total / lower[i, i]
    for i in range(n - 1, first - 1, -1):
        total = step[i]
        for k in range(i + 1, n):
            total -= lower[k, i] * step[k]
        step[i] = total / lower[i, i]
    return True


@part
def _report(p, chi2, square, out):
    x0, y0, side = square
    mean, spread = (p[2] + p[4]) / 2, np.hypot((p[2] - p[4]) / 2, p[3])
    out[0], out[1] = x0 + p[0], y0 + p[1]
    out[2], out[3] = _FWHM_OF_SIGMA / np.sqrt(mean - spread), _FWHM_OF_SIGMA / np.sqrt(mean + spread)
    out[4] = max(p[5], p[6], p[7]) / np.sqrt(chi2 / max(side * side - 11, 1) + 1e-30)
