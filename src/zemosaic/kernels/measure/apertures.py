"""Star by star: Gaussian-weighted moments and aperture fluxes. Serial, nogil."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part
from zemosaic.kernels.measure.holes import fill_hole
from zemosaic.kernels.select import select_nth

__all__ = ["BETA_OF_HOLES", "Circles", "Fluxes", "Holes", "aperture_fluxes", "weighted_moments"]


F8 = npt.NDArray[np.float64]

BETA_OF_HOLES = 4.0
"""Of the Moffat profile that filled pixels are set right by: between the stars of a steady and of a restless sky."""


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
    """What `aperture_fluxes` finds at n stars in m apertures.

    Attributes
    ----------
    flux, area : ndarray, float64, shape (n, m)
    ring_n, peak : ndarray, float64, shape (n,)
        Pixels that the ring's mean stands on; highest raw pixel in the smallest circle.
    n_bad : ndarray, int64, shape (n,)
        Bad or missing pixels in the largest circle.
    filled_error, n_filled : ndarray, float64, shape (n,)
        Error of the smallest circle's flux by the pixels that were filled, and how many these are.
    """

    flux: F8
    area: F8
    ring_n: F8
    peak: F8
    n_bad: npt.NDArray[np.int64]
    filled_error: F8
    n_filled: F8

    @classmethod
    def empty(cls, n: int, m: int) -> Fluxes:
        """Room for n stars in m apertures."""
        whole = np.empty(n, np.int64)
        return cls(np.empty((n, m)), np.empty((n, m)), np.empty(n), np.empty(n), whole, np.empty(n), np.empty(n))


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


@kernel
def aperture_fluxes(data, bad, holes, x, y, circles, out):
    """Fluxes in concentric circles over the clipped mean of a ring around each star.

    Every pixel of the ring counts but for the clipping: a mask of what is brighter than a threshold holds other parts
    of a nebula in every frame, and the ring's mean would be another. Where a rim or a hole cuts it, the pixels opposite
    do not count either: a slope of the sky then still falls out of the mean.

    Pixels cut by a circle count with the share of a 5 x 5 raster of points that lies inside.

    Parameters
    ----------
    data : float32 (h, w); bad : uint8 (h, w)
    holes : Holes
    x, y : float64 (n,)
    circles : Circles
    out : Fluxes, output
    """
    radii, inner, outer = circles
    flux, area, ring_n, peak, n_bad, filled_error, n_filled = out
    code, gone, core, hole_error, floor = holes
    profile = np.zeros((3, 3))
    h, w = data.shape
    m = len(radii)
    reach = int(math.ceil(max(outer, radii[m - 1]))) + 1
    ring = np.empty((2 * reach + 1) ** 2, np.float32)
    for k in range(len(x)):
        ix, iy = int(math.floor(x[k] + 0.5)), int(math.floor(y[k] + 0.5))
        n, missing, top = 0, 0, -1e30
        filled, squares, levels, weights = 0.0, 0.0, 0.0, 0.0
        for q in range(m):
            flux[k, q] = 0.0
            area[k, q] = 0.0
        for j in range(iy - reach, iy + reach + 1):
            dy = j - y[k]
            for i in range(ix - reach, ix + reach + 1):
                dx = i - x[k]
                r = math.sqrt(dx * dx + dy * dy)
                if r > outer and r > radii[m - 1] + 0.8:
                    continue
                outside = j < 0 or i < 0 or j >= h or i >= w
                if outside or bad[j, i] != 0:
                    if r < radii[m - 1] + 0.8:
                        missing += 1
                    continue
                v, light = data[j, i], 1.0
                if code[j, i] != 0:
                    # What was filled in misses what the star curves: by as much as with a star of this width.
                    for b in range(3):
                        for a in range(3):
                            profile[b, a] = (1 + ((dx + a - 1) ** 2 + (dy + b - 1) ** 2) / core**2) ** -BETA_OF_HOLES
                    seen = fill_hole(profile, 1, 1, code[j, i], gone[j - 1 : j + 2, i - 1 : i + 2])
                    light = min(max(profile[1, 1] / max(seen, 1e-9), 0.5), 2.0)
                if inner < r < outer and _is_given(bad, 2 * iy - j, 2 * ix - i):
                    ring[n] = v
                    n += 1
                for q in range(m):
                    share = _share_inside(dx, dy, r, radii[q])
                    flux[k, q] += share * light * v
                    area[k, q] += share * light
                    if q == 0 and share > 0:
                        top = max(top, v)
                        if code[j, i] != 0:
                            part = share**2 * ((hole_error * (light - 1)) ** 2 + floor**2)
                            filled += share
                            weights += part
                            levels += part * v
                            squares += part * v * v
        background = _ring_mean(ring, n)
        for q in range(m):
            flux[k, q] -= background * area[k, q]
        ring_n[k], peak[k], n_bad[k] = n, top, missing
        light = max(squares - 2 * background * levels + background * background * weights, 0.0)
        filled_error[k], n_filled[k] = math.sqrt(light), filled


@part
def _is_given(bad, j, i):
    """Whether a pixel lies in the image and is not bad."""
    return 0 <= j < bad.shape[0] and 0 <= i < bad.shape[1] and bad[j, i] == 0


@part
def _share_inside(dx, dy, r, radius):
    """Share of a unit pixel centred at (dx, dy) that lies within a circle about the origin."""
    if r < radius - 0.75:
        return 1.0
    if r > radius + 0.75:
        return 0.0
    n = 0
    for b in range(5):
        for a in range(5):
            u, v = dx + (a - 2) * 0.2, dy + (b - 2) * 0.2
            if u * u + v * v < radius * radius:
                n += 1
    return n / 25.0


@part
def _ring_mean(ring, n):
    """Mean of the ring within 2.5 robust sigma of its median; 0 for fewer than 8 pixels."""
    if n < 8:
        return 0.0
    centre = float(select_nth(ring, n, n // 2))
    # 16th percentile: neighbours' light lifts the upper side only.
    spread = centre - float(select_nth(ring, n, int(0.16 * n)))
    total, count = 0.0, 0
    for k in range(n):
        if abs(ring[k] - centre) <= 2.5 * spread:
            total += ring[k]
            count += 1
    return total / count if count > 0 else centre
