"""Place and shape of stars, fitted to the samples of a raw plane as they are: no colour is interpolated.

A Seestar's stars are 1.4 superpixels wide: moments on superpixels know their width to 10 %, this fit to 1 %.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = ["RawPlane", "fit_stars"]

_MAX_ROUNDS = 25
"""Of a damped fit, which ends in a few: one that is not done by then wanders."""

_N_SHAPE = 5
"""Parameters of place and shape; three heights and three backgrounds follow."""

_BELL_SQUARE, _BELL, _BELL_RESIDUAL, _RESIDUAL, _RESIDUAL_SQUARE, _NUMBER = 0, 5, 8, 11, 12, 13
_N_SUMS = 14
"""Where sums down columns lie; see `_Room`."""

_MOST_OF_DX = np.array([4, 3, 2, 1, 0, 2, 1, 0, 2, 1, 0, 0, 0, 0], np.int64)
"""Highest power of dx that each of them is wanted times."""

_LANES = 16
"""Columns that are summed side by side."""

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
    """The samples round a star that are used.

    Attributes
    ----------
    x0, y0, side : int
        First column, first row, side.
    channels : ndarray, int64, shape (2, 2)
        Channel by the parity of row and column, counted from the first.
    values, keep : ndarray, float64, shape (side, width)
        Samples, and 1 for those that are used, else 0; the width is the side and more, for whole vectors of columns.
    """

    x0: int
    y0: int
    side: int
    channels: npt.NDArray[np.int64]
    values: Doubles
    keep: Doubles


class _Room(NamedTuple):
    """Arrays to work in; columns go by `_LANES` at a time.

    Attributes
    ----------
    bell : ndarray, shape (width,)
        The Gaussian along a row.
    columns : ndarray, shape (n_strips, 2, `_N_SUMS` * `_LANES`)
        By the parity of rows, sums down each column: of the bell's square times dy^0 to dy^4, of the bell and of the
        bell times the residual, each times dy^0 to dy^2, of the residual, of its square, of 1.
    heights, backgrounds : ndarray, shape (2, width)
        By the parity of rows, of the columns' colours.
    moments : ndarray, shape (3, 5, `_N_SUMS`)
        Of each colour: what `columns` sums, times dx^0 to dx^4.
    lower : ndarray, shape (11, 11)
    """

    bell: Doubles
    columns: Doubles
    heights: Doubles
    backgrounds: Doubles
    moments: Doubles
    lower: Doubles


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
    side = 2 * radius + 1
    width, n = -(-side // _LANES) * _LANES, _N_SHAPE + 6
    values, keep = np.zeros((side, width)), np.zeros((side, width))
    room = _Room(
        np.zeros(width), np.empty((width // _LANES, 2, _N_SUMS * _LANES)), np.zeros((2, width)), np.zeros((2, width)),
        np.empty((3, 5, _N_SUMS)), np.zeros((n, n)),
    )  # fmt: skip
    channels = np.empty((2, 2), np.int64)
    for k in range(x.size):
        out[k] = np.nan
        x0, y0 = int(np.rint(x[k])) - radius, int(np.rint(y[k])) - radius
        if x0 < 0 or y0 < 0 or x0 + side > plane.samples.shape[1] or y0 + side > plane.samples.shape[0]:
            continue
        square = _Square(x0, y0, side, channels, values, keep)
        _take_samples(plane, square)
        _fit_one(square, x[k], y[k], fwhm_px, room, out[k])


@leaf
def _take_samples(plane, square):
    """Fill in the samples of a square, and their channels."""
    for j in range(2):
        for i in range(2):
            square.channels[j, i] = plane.channels[(square.y0 + j) & 1, (square.x0 + i) & 1]
    for j in range(square.side):
        y = square.y0 + j
        for i in range(square.side):
            is_given = plane.weight[y, square.x0 + i] > 0
            square.keep[j, i] = 1.0 if is_given else 0.0
            square.values[j, i] = plane.samples[y, square.x0 + i] if is_given else np.float32(0)


@part
def _fit_one(square, x, y, fwhm_px, room, out):
    n = _N_SHAPE + 6
    curvature = (_FWHM_OF_SIGMA / fwhm_px) ** 2
    p = np.zeros(n)
    p[0], p[1], p[2], p[4] = x - square.x0, y - square.y0, curvature, curvature
    matrix, right = np.zeros((n, n)), np.zeros(n)
    step, damping = np.zeros(n), 1e-3
    chi2 = _normal_equations(square, room, p, matrix, right)
    # Heights and backgrounds are linear: the first step takes them alone.
    if not _solve(matrix, right, 0.0, _N_SHAPE, room.lower, step):
        return
    for k in range(n):
        p[k] += step[k]
    chi2 = _normal_equations(square, room, p, matrix, right)
    trial, trial_matrix, trial_right = np.zeros(n), np.zeros((n, n)), np.zeros(n)
    for _ in range(_MAX_ROUNDS):
        if not _solve(matrix, right, damping, 0, room.lower, step):
            return
        for k in range(n):
            trial[k] = p[k] + step[k]
        got = _normal_equations(square, room, trial, trial_matrix, trial_right)
        if got <= chi2 and _is_sane(trial, curvature, square.side):
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


@leaf
def _is_sane(p, curvature, side):
    inside = p[0] > 0 and p[1] > 0 and p[0] < side - 1 and p[1] < side - 1
    mean, spread = (p[2] + p[4]) / 2, np.hypot((p[2] - p[4]) / 2, p[3])
    return inside and mean - spread > curvature / 16 and mean + spread < curvature * 11


@leaf
def _normal_equations(square, room, p, matrix, right):
    """Fill the lower half of the matrix and the right side at p; returns the sum of squares.

    The parameters p are x, y, a, b, c, three heights and three backgrounds.

    The model is ``height exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2) + background``. Its derivatives are the bell times
    polynomials, so all sums of their products are moments of the bell, of its square, and of it times the residual:
    columns are summed first, all side by side, then they are put together with the powers of dx.
    """
    _sum_columns(square, room, p)
    _sum_moments(square, room, p)
    return _put_in_place(room.moments, p, matrix, right)


@leaf
def _sum_columns(square, room, p):
    """Sums down the columns of a square."""
    bend = np.exp(-p[2])
    room.columns[:] = 0
    for j in range(2):
        for i in range(square.side):
            channel = square.channels[j, i & 1]
            room.heights[j, i], room.backgrounds[j, i] = p[5 + channel], p[8 + channel]
    for j in range(square.side):
        _fill_bell(p, j - p[1], bend, room.bell, square.side)
        for strip in range(room.columns.shape[0]):
            of = slice(strip * _LANES, (strip + 1) * _LANES)
            _add_row(
                square.values[j, of], square.keep[j, of], room.bell[of], room.heights[j & 1, of],
                room.backgrounds[j & 1, of], j - p[1], room.columns[strip, j & 1],
            )  # fmt: skip


@leaf
def _add_row(values, keep, bell, height, background, dy, sums):
    """Add a strip of a row to the sums of its columns."""
    dy2, dy3, dy4 = dy * dy, dy * dy * dy, dy * dy * dy * dy
    for i in range(_LANES):
        light = bell[i] * keep[i]
        residual = (values[i] - height[i] * bell[i] - background[i]) * keep[i]
        both, cross = light * light, light * residual
        sums[i] += both
        sums[_LANES + i] += both * dy
        sums[2 * _LANES + i] += both * dy2
        sums[3 * _LANES + i] += both * dy3
        sums[4 * _LANES + i] += both * dy4
        sums[5 * _LANES + i] += light
        sums[6 * _LANES + i] += light * dy
        sums[7 * _LANES + i] += light * dy2
        sums[8 * _LANES + i] += cross
        sums[9 * _LANES + i] += cross * dy
        sums[10 * _LANES + i] += cross * dy2
        sums[11 * _LANES + i] += residual
        sums[12 * _LANES + i] += residual * residual
        sums[13 * _LANES + i] += keep[i]


@leaf
def _sum_moments(square, room, p):
    """Moments of each colour, from the sums down its columns."""
    room.moments[:] = 0
    for j in range(2):
        for i in range(square.side):
            sums, lane, dx = room.columns[i // _LANES, j], i % _LANES, i - p[0]
            own = room.moments[square.channels[j, i & 1]]
            for k in range(_N_SUMS):
                value = sums[k * _LANES + lane]
                for of_x in range(_MOST_OF_DX[k] + 1):
                    own[of_x, k] += value
                    value *= dx


@leaf
def _fill_bell(p, dy, bend, bell, side):
    """The Gaussian along a row, outwards from its highest pixel: its ratio from pixel to pixel has a constant ratio."""
    a, b, c = p[2], p[3], p[4]
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


_POWERS = np.array([[1, 0], [0, 1], [2, 0], [1, 1], [0, 2]], np.int64)
"""Of dx and dy in what the derivatives of place and shape are made of."""


@leaf
def _put_in_place(moments, p, matrix, right):
    """Moments of each colour to the lower half of the matrix and to the right side; returns the sum of squares."""
    matrix[:], right[:] = 0, 0
    chi2, n = 0.0, _N_SHAPE
    for c in range(3):
        own, height, at, beyond = moments[c], p[5 + c], n + c, n + 3 + c
        chi2 += own[0, _RESIDUAL_SQUARE]
        right[at], right[beyond] = own[0, _BELL_RESIDUAL], own[0, _RESIDUAL]
        matrix[at, at], matrix[beyond, at] = own[0, _BELL_SQUARE], own[0, _BELL]
        matrix[beyond, beyond] = own[0, _NUMBER]
        for a in range(n):
            i, j = _POWERS[a]
            right[a] += height * own[i, _BELL_RESIDUAL + j]
            matrix[at, a] = height * own[i, _BELL_SQUARE + j]
            matrix[beyond, a] = height * own[i, _BELL + j]
            for b in range(n):
                matrix[a, b] += height * height * own[i + _POWERS[b, 0], _BELL_SQUARE + j + _POWERS[b, 1]]
    _turn(p, right)
    for row in range(2 * n + 1):
        _turn(p, matrix[row])
    for column in range(n):
        _turn(p, matrix[:n, column])
    return chi2


@leaf
def _turn(p, values):
    """Sums with dx, dy, dx^2, dx dy and dy^2 to those with the derivatives by x, y, a, b and c; in place."""
    values[0], values[1] = p[2] * values[0] + p[3] * values[1], p[3] * values[0] + p[4] * values[1]
    values[2], values[3], values[4] = -values[2] / 2, -values[3], -values[4] / 2


@leaf
def _solve(matrix, right, damping, first, lower, step):
    """Step of the parameters from `first` on, by Cholesky; those without data stay. Returns whether it worked."""
    n = right.size
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


@leaf
def _report(p, chi2, square, out):
    side = square.side
    mean, spread = (p[2] + p[4]) / 2, np.hypot((p[2] - p[4]) / 2, p[3])
    out[0], out[1] = square.x0 + p[0], square.y0 + p[1]
    out[2], out[3] = _FWHM_OF_SIGMA / np.sqrt(mean - spread), _FWHM_OF_SIGMA / np.sqrt(mean + spread)
    out[4] = max(p[5], p[6], p[7]) / np.sqrt(chi2 / max(side * side - 11, 1) + 1e-30)
