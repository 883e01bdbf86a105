"""Draw stars and a diffuse field onto an image of known geometry."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel

__all__ = ["MOFFAT_CORE_PER_FWHM", "MONO", "add_field", "add_stars"]

MONO: npt.NDArray[np.int64] = np.zeros((2, 2), np.int64)
"""Colour pattern of an image with one channel."""

MOFFAT_CORE_PER_FWHM = 1.0 / (2.0 * math.sqrt(2.0 ** (1.0 / 3.0) - 1.0))
"""Core radius of a Moffat profile with exponent 3, per FWHM."""

_MAX_RADIUS_PX = 256.0
"""Where the wings of the brightest stars end at the latest: the time that a star takes grows with the square."""


@kernel
def add_stars(image, x, y, flux, core_px, floor, pattern):  # type: ignore[no-untyped-def]
    """Add stars to an image, in place.

    A star is a Moffat profile ``(1 + r^2 / core^2)^-3`` of unit integral, averaged over
    each pixel (3 x 3 points near its core, where it bends within a pixel; the centre
    point elsewhere) and cut where it falls below `floor` of its brightest channel.
    The exponent is fixed at 3: real wings, and no power function in the inner loop.

    Parameters
    ----------
    image : ndarray of float32, shape (h, w)
        Changed in place.
    x, y : ndarray of float64, shape (n,)
        Positions in pixels; stars whose stamp misses the image are skipped, so are NaN.
    flux : ndarray of float64, shape (n, c)
        Integral of each star in each channel, image units; >= 0.
    core_px : ndarray of float64, shape (n,)
        Core radius (`MOFFAT_CORE_PER_FWHM` times the FWHM).
    floor : float
        Value, in image units per pixel, below which a star's wing is left out; > 0.
    pattern : ndarray of int64, shape (2, 2)
        Channel of the pixels of each row and column parity; `MONO` for one channel.
    """
    h, w = image.shape
    for k in range(len(x)):
        brightest = 0.0
        for c in range(flux.shape[1]):
            brightest = max(brightest, flux[k, c])
        a2 = core_px[k] * core_px[k]
        norm = 2.0 / (math.pi * a2)
        reach2 = a2 * ((brightest * norm / floor) ** (1.0 / 3.0) - 1.0)
        # The comparison is false for a NaN position or flux too.
        if not (reach2 > 0.0 and abs(x[k]) < 1e9 and abs(y[k]) < 1e9):
            continue
        radius = min(math.sqrt(reach2), _MAX_RADIUS_PX)
        reach2 = radius * radius
        for j in range(max(0, math.ceil(y[k] - radius)), min(h, math.floor(y[k] + radius) + 1)):
            dy = j - y[k]
            for i in range(max(0, math.ceil(x[k] - radius)), min(w, math.floor(x[k] + radius) + 1)):
                dx = i - x[k]
                r2 = dx * dx + dy * dy
                if r2 > reach2:
                    continue
                if r2 < 16.0 * a2:
                    value = 0.0
                    for s in range(-1, 2):
                        ys = dy + s / 3.0
                        for t in range(-1, 2):
                            xs = dx + t / 3.0
                            q = 1.0 + (xs * xs + ys * ys) / a2
                            value += 1.0 / (q * q * q)
                    value /= 9.0
                else:
                    q = 1.0 + r2 / a2
                    value = 1.0 / (q * q * q)
                image[j, i] += value * norm * flux[k, pattern[j & 1, i & 1]]


@kernel
def add_field(image, field, field_x, field_y, step, amplitude, pattern):  # type: ignore[no-untyped-def]
    """Add a field sampled bilinearly from another grid, in place.

    Parameters
    ----------
    image : ndarray of float32, shape (h, w)
        Changed in place.
    field : ndarray of float32, shape (fh, fw)
        Values on their own grid; outside it its edge value continues.
    field_x, field_y : ndarray of float64, shape (>= (h - 1) // step + 2, >= (w - 1) // step + 2)
        Field coordinates of the image pixels ``(j * step, i * step)``; linear in between.
    step : int
        Spacing of that lattice in image pixels.
    amplitude : ndarray of float64, shape (c,)
        Factor of each channel.
    pattern : ndarray of int64, shape (2, 2)
        As in `add_stars`.
    """
    h, w = image.shape
    fh, fw = field.shape
    for j in range(h):
        gj = j // step
        tj = (j - gj * step) / step
        for i in range(w):
            gi = i // step
            ti = (i - gi * step) / step
            w00, w01 = (1.0 - tj) * (1.0 - ti), (1.0 - tj) * ti
            w10, w11 = tj * (1.0 - ti), tj * ti
            fx = (
                w00 * field_x[gj, gi]
                + w01 * field_x[gj, gi + 1]
                + w10 * field_x[gj + 1, gi]
                + w11 * field_x[gj + 1, gi + 1]
            )
            fy = (
                w00 * field_y[gj, gi]
                + w01 * field_y[gj, gi + 1]
                + w10 * field_y[gj + 1, gi]
                + w11 * field_y[gj + 1, gi + 1]
            )
            fx = min(max(fx, 0.0), fw - 1.0)
            fy = min(max(fy, 0.0), fh - 1.0)
            ix, iy = min(int(fx), fw - 2), min(int(fy), fh - 2)
            tx, ty = fx - ix, fy - iy
            low = field[iy, ix] * (1.0 - tx) + field[iy, ix + 1] * tx
            high = field[iy + 1, ix] * (1.0 - tx) + field[iy + 1, ix + 1] * tx
            image[j, i] += (low * (1.0 - ty) + high * ty) * amplitude[pattern[j & 1, i & 1]]
