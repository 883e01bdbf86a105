"""Star by star: Gaussian-weighted moments and aperture fluxes. Serial, nogil."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part
from zemosaic.kernels.measure.holes import fill_hole
from zemosaic.kernels.select import select_with

__all__ = ["BETA_OF_HOLES", "Circles", "Fluxes", "Holes", "aperture_fluxes", "weighted_moments"]


F8 = npt.NDArray[np.float64]

BETA_OF_HOLES = 4.0
"""Of the Moffat profile that filled pixels are set right by: between the stars of a steady and of a restless sky."""


_HALF_RASTER = 0.57
"""Beyond this from its middle none of a pixel's raster of points lies: they reach out to ``0.4 sqrt(2)``."""


class Circles(NamedTuple):
    """Circles round a star, in pixels.

    Attributes
    ----------
    radii : ndarray, float64, shape (m,)
        Of the apertures, ascending.
    inner, outer : float
        Of the ring that the background is taken from.
    """

    radii: F8
    inner: float
    outer: float


class Fluxes(NamedTuple):
    """What `aperture_fluxes` finds at n stars in m apertures of c channels.

    Attributes
    ----------
    flux : ndarray, float64, shape (c, n, m)
    area : ndarray, float64, shape (n, m)
    ring_n : ndarray, float64, shape (n,)
        Pixels that the ring's mean stands on.
    peak : ndarray, float64, shape (c, n)
        Highest raw pixel in the smallest circle.
    n_bad : ndarray, int64, shape (n, m)
        Bad or missing pixels in each circle.
    filled_error : ndarray, float64, shape (c, n)
        Error of the smallest circle's flux by the pixels that were filled.
    n_filled : ndarray, float64, shape (n,)
        How many these are.
    """

    flux: npt.NDArray[np.float64]
    area: F8
    ring_n: F8
    peak: F8
    n_bad: npt.NDArray[np.int64]
    filled_error: F8
    n_filled: F8

    @classmethod
    def empty(cls, c: int, n: int, m: int) -> Fluxes:
        """Room for n stars in m apertures of c channels."""
        whole = np.empty((n, m), np.int64)
        return cls(
            np.empty((c, n, m)), np.empty((n, m)), np.empty(n), np.empty((c, n)), whole, np.empty((c, n)), np.empty(n)
        )


class Holes(NamedTuple):
    """Pixels that were filled, and what stars look like there.

    Attributes
    ----------
    code, bad : ndarray, uint8, shape (h, w)
        As `zemosaic.kernels.measure.holes.find_holes` left and had them.
    core_px : float
        Stars are taken for ``(1 + (r / core_px)^2) ** -4``.
    error : float
        Error of what is set right by that, as a share of it.
    floor : float
        Least error of the light in a filled pixel, as a share of it.
    """

    code: npt.NDArray[np.uint8]
    bad: npt.NDArray[np.uint8]
    core_px: float
    error: float
    floor: float


@kernel
def weighted_moments(data, x, y, sigma0, out):
    """Adaptive Gaussian-weighted centroid and second moments of stars on background-free data.

    The weight is a Gaussian with the star's own moments (Bernstein & Jarvis 2002), so faint and bright stars give
    the same width. Rows of `out` that did not converge are NaN.

    Parameters
    ----------
    data : float32 (h, w)
    x, y : float64 (n,), start positions
    sigma0 : float, width to start from, pixels
    out : float64 (n, 5), output
        x, y and the moments xx, xy, yy of the star itself (weight taken out).
    """
    h, w = data.shape
    for k in range(len(x)):
        cx, cy, xx, xy, yy = x[k], y[k], sigma0 * sigma0, 0.0, sigma0 * sigma0
        converged = False
        for _ in range(20):
            reach = int(math.ceil(3.5 * math.sqrt(max(xx, yy))))
            ix, iy = int(math.floor(cx + 0.5)), int(math.floor(cy + 0.5))
            if reach > 25 or ix < reach or iy < reach or ix >= w - reach or iy >= h - reach:
                break
            det = xx * yy - xy * xy
            if det <= 1e-3:
                break
            s, sx, sy, sxx, sxy, syy = _moments_under(data, cx, cy, (yy / det, -xy / det, xx / det), (iy, ix, reach))
            if s <= 0.0:
                break
            mx, my = sx / s, sy / s
            # A Gaussian seen through a weight of its own shape has half its moments.
            nxx, nxy, nyy = 2 * (sxx / s - mx * mx), 2 * (sxy / s - mx * my), 2 * (syy / s - my * my)
            if nxx <= 0.05 or nyy <= 0.05:
                break
            cx, cy = cx + 2 * mx, cy + 2 * my
            change = abs(nxx - xx) + abs(nyy - yy)
            xx, xy, yy = nxx, nxy, nyy
            if abs(cx - x[k]) + abs(cy - y[k]) > 6.0:
                break
            if change < 0.003 * (xx + yy) and abs(mx) + abs(my) < 0.02:
                converged = True
                break
        if converged:
            out[k, 0], out[k, 1], out[k, 2], out[k, 3], out[k, 4] = cx, cy, xx, xy, yy
        else:
            out[k, :] = np.nan


@part
def _moments_under(data, cx, cy, shape, square):
    """Sum and moments about (cx, cy) of the light under the Gaussian ``exp(-(a x^2 + 2 b x y + c y^2) / 2)``.

    It ends at the exponent 6. Along a row its ratio from pixel to pixel changes by a constant factor, so each row takes
    two exponentials.
    """
    (a, b, c), (iy, ix, reach) = shape, square
    bend = math.exp(-a)
    s, sx, sy, sxx, sxy, syy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(iy - reach, iy + reach + 1):
        dy = j - cy
        left = 12.0 - (c - b * b / a) * dy * dy
        if left <= 0.0:
            continue
        middle, half = cx - b * dy / a, math.sqrt(left / a)
        first = max(int(math.ceil(middle - half)), ix - reach)
        last = min(int(math.floor(middle + half)), ix + reach)
        dx = first - cx
        bell = math.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
        ratio = math.exp(-0.5 * (a * (2 * dx + 1) + 2 * b * dy))
        row, row_x, row_xx = 0.0, 0.0, 0.0
        for i in range(first, last + 1):
            dx = i - cx
            v = data[j, i] * bell
            row += v
            row_x += v * dx
            row_xx += v * dx * dx
            bell *= ratio
            ratio *= bend
        s, sx, sy = s + row, sx + row_x, sy + row * dy
        sxx, sxy, syy = sxx + row_xx, sxy + row_x * dy, syy + row * dy * dy
    return s, sx, sy, sxx, sxy, syy


class _Round(NamedTuple):
    """Room for the pixels round a star: where they are, and how much of each counts; the same in all channels.

    Attributes
    ----------
    y, x : ndarray, int32, shape (size,)
        Those that a circle holds or cuts.
    weights : ndarray, float64, shape (m, size)
        Of each in each circle.
    parts : ndarray, float64, shape (size,)
        Variance of what was filled, as a share of the square of its light; 0 for all others.
    ring_y, ring_x : ndarray, int32, shape (size,)
    ring : ndarray, float32, shape (size,)
        Values of the ring in one channel.
    keys : ndarray, int32, shape (size,)
    """

    y: npt.NDArray[np.int32]
    x: npt.NDArray[np.int32]
    weights: F8
    parts: F8
    ring_y: npt.NDArray[np.int32]
    ring_x: npt.NDArray[np.int32]
    ring: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int32]


@kernel
def aperture_fluxes(data, bad, holes, x, y, circles, out):
    """Fluxes in concentric circles over the clipped mean of a ring around each star.

    Every pixel of the ring counts but for the clipping: a mask of what is brighter than a threshold holds other parts
    of a nebula in every frame, and the ring's mean would be another. Where a rim or a hole cuts it, the pixels opposite
    do not count either: a slope of the sky then still falls out of the mean.

    Pixels cut by a circle count with the share of a 5 x 5 raster of points that lies inside.

    Parameters
    ----------
    data : float32 (c, h, w); bad : uint8 (h, w)
    holes : Holes
    x, y : float64 (n,)
    circles : Circles
    out : Fluxes, output
    """
    m = len(circles.radii)
    size = (2 * _reach(circles) + 1) ** 2
    y_in, x_in, y_ring, x_ring = np.empty((4, size), np.int32)
    weights, parts = np.empty((m, size)), np.empty(size)
    pixels = _Round(y_in, x_in, weights, parts, y_ring, x_ring, np.empty(size, np.float32), np.empty(size, np.int32))
    profile = np.zeros((3, 3))
    for k in range(len(x)):
        n, n_ring = _look_round(bad, holes, (y[k], x[k]), circles, pixels, profile, k, out)
        out.ring_n[k] = n_ring
        for c in range(data.shape[0]):
            _sum_up(data[c], pixels, n, n_ring, (c, k), out)


@leaf
def _reach(circles):
    """Pixels from a star's own to the farthest that may count."""
    return int(math.ceil(max(circles.outer, circles.radii[len(circles.radii) - 1]))) + 1


@leaf
def _look_round(bad, holes, place, circles, pixels, profile, k, out):
    """List the pixels round the k-th star; returns how many are in its circles, and how many in the ring."""
    radii, inner, outer = circles
    (h, w), (cy, cx), m, reach = bad.shape, place, len(radii), _reach(circles)
    iy, ix = int(math.floor(cy + 0.5)), int(math.floor(cx + 0.5))
    n, n_ring, filled = 0, 0, 0.0
    for q in range(m):
        out.area[k, q], out.n_bad[k, q] = 0.0, 0
    most = max(outer, radii[m - 1] + 0.8)
    for j in range(iy - reach, iy + reach + 1):
        dy = j - cy
        half = min(int(math.sqrt(max(most * most - dy * dy, 0.0))) + 2, reach)  # what lies beyond needs no look
        for i in range(ix - half, ix + half + 1):
            dx = i - cx
            r = math.sqrt(dx * dx + dy * dy)
            if r > most:
                continue
            outside = j < 0 or i < 0 or j >= h or i >= w
            if outside or bad[j, i] != 0:
                for q in range(m):
                    out.n_bad[k, q] += np.int64(r < radii[q] + 0.8)
                continue
            if inner < r < outer and _is_given(bad, 2 * iy - j, 2 * ix - i):
                pixels.ring_y[n_ring], pixels.ring_x[n_ring] = j, i
                n_ring += 1
            if r > radii[m - 1] + 0.8:
                continue
            light = 1.0 if holes.code[j, i] == 0 else _light_in_hole(holes, j, i, dy, dx, profile)
            pixels.y[n], pixels.x[n], pixels.parts[n] = j, i, 0.0
            for q in range(m):
                share = _share_inside(dx, dy, r, radii[q])
                pixels.weights[q, n] = share * light
                out.area[k, q] += share * light
                if q == 0 and holes.code[j, i] != 0:
                    pixels.parts[n] = share**2 * ((holes.error * (light - 1)) ** 2 + holes.floor**2)
                    filled += share
            n += 1
    out.n_filled[k] = filled
    return n, n_ring


@leaf
def _light_in_hole(holes, j, i, dy, dx, profile):
    """What a filled pixel's light is to be multiplied with.

    What was filled in misses what the star curves: by as much as with a star of this width.
    """
    for b in range(3):
        for a in range(3):
            profile[b, a] = (1 + ((dx + a - 1) ** 2 + (dy + b - 1) ** 2) / holes.core_px**2) ** -BETA_OF_HOLES
    seen = fill_hole(profile, 1, 1, holes.code[j, i], holes.bad[j - 1 : j + 2, i - 1 : i + 2])
    return min(max(profile[1, 1] / max(seen, 1e-9), 0.5), 2.0)


@leaf
def _sum_up(image, pixels, n, n_ring, place, out):
    """Fluxes of a star in one channel from the pixels that were listed."""
    (c, k), ring = place, pixels.ring
    for p in range(n_ring):
        ring[p] = image[pixels.ring_y[p], pixels.ring_x[p]]
    background, m = _ring_mean(ring, n_ring, pixels.keys), pixels.weights.shape[0]
    for q in range(m):
        out.flux[c, k, q] = 0.0
    top, squares, levels, weights = -1e30, 0.0, 0.0, 0.0
    for p in range(n):
        v = image[pixels.y[p], pixels.x[p]]
        for q in range(m):
            out.flux[c, k, q] += pixels.weights[q, p] * v
        if pixels.weights[0, p] > 0:
            top = max(top, v)
        part_of = pixels.parts[p]
        if part_of > 0:
            weights += part_of
            levels += part_of * v
            squares += part_of * v * v
    for q in range(m):
        out.flux[c, k, q] -= background * out.area[k, q]
    light = max(squares - 2 * background * levels + background * background * weights, 0.0)
    out.peak[c, k], out.filled_error[c, k] = top, math.sqrt(light)


@leaf
def _is_given(bad, j, i):
    """Whether a pixel lies in the image and is not bad."""
    return 0 <= j < bad.shape[0] and 0 <= i < bad.shape[1] and bad[j, i] == 0


@leaf
def _share_inside(dx, dy, r, radius):
    """Share of a unit pixel centred at (dx, dy) that lies within a circle about the origin."""
    if r < radius - _HALF_RASTER:
        return 1.0
    if r > radius + _HALF_RASTER:
        return 0.0
    n = np.int32(0)
    for b in range(5):
        v = dy + (b - 2) * 0.2
        for a in range(5):
            u = dx + (a - 2) * 0.2
            n += np.int32(u * u + v * v < radius * radius)
    return n / 25.0


@leaf
def _ring_mean(ring, n, keys):
    """Mean of the ring within 2.5 robust sigma of its median; 0 for fewer than 8 pixels."""
    if n < 8:
        return 0.0
    centre = float(select_with(keys, ring, n, n // 2))
    # 16th percentile: neighbours' light lifts the upper side only.
    spread = centre - float(select_with(keys, ring, n, int(0.16 * n)))
    total, count = 0.0, 0
    for k in range(n):
        if abs(ring[k] - centre) <= 2.5 * spread:
            total += ring[k]
            count += 1
    return total / count if count > 0 else centre
