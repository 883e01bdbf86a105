"""Operators of the gain solve: log fluxes of shared stars. Serial, nogil; nothing is assembled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = [
    "Detections",
    "apply_normal",
    "eliminate",
    "log_model",
    "project_to_unknowns",
    "remove_star_means",
]


class Detections(NamedTuple):
    """Detections of shared stars, image after image, and what they see: the gain of an image, its camera's response.

    Attributes
    ----------
    image, camera, star : ndarray, shape (n,), int64
    u, v : ndarray, shape (n,), float64
        Place in the image, -1 to 1.
    order : int
        Of ln response; 0 for none.
    n_images : int
        Unknowns are so many log gains, then each camera's coefficients of degree 1..order.
    """

    image: npt.NDArray[np.int64]
    camera: npt.NDArray[np.int64]
    star: npt.NDArray[np.int64]
    u: npt.NDArray[np.float64]
    v: npt.NDArray[np.float64]
    order: int
    n_images: int


@part
def _powers(x, out):
    """Fill ``out[1:]`` with x, x^2, ...; ``out[0]`` is 1."""
    for p in range(1, len(out)):
        out[p] = out[p - 1] * x


@kernel
def log_model(theta, detections, out):
    """Log gain plus log response of every detection.

    Parameters
    ----------
    theta : float64 (n_images + n_cameras * k,)
        The unknowns, ordered as `Detections` says.
    detections : Detections
    out : float64 (n,), output
    """
    image, camera, _, u, v, order, n_images = detections
    k = (order + 1) * (order + 2) // 2 - 1
    pu, pv = np.ones(order + 1), np.ones(order + 1)
    for d in range(len(image)):
        total = theta[image[d]]
        q = n_images + camera[d] * k
        _powers(u[d], pu)
        _powers(v[d], pv)
        for degree in range(1, order + 1):
            for j in range(degree + 1):
                total += theta[q] * pu[degree - j] * pv[j]
                q += 1
        out[d] = total


@kernel
def project_to_unknowns(values, detections, out):
    """Transpose of `log_model`: sums `values` (n,) into `out` (as theta), which is overwritten."""
    image, camera, _, u, v, order, n_images = detections
    k = (order + 1) * (order + 2) // 2 - 1
    pu, pv = np.ones(order + 1), np.ones(order + 1)
    out[:] = 0.0
    for d in range(len(image)):
        out[image[d]] += values[d]
        _powers(u[d], pu)
        _powers(v[d], pv)
        q = n_images + camera[d] * k
        for degree in range(1, order + 1):
            for j in range(degree + 1):
                out[q] += values[d] * pu[degree - j] * pv[j]
                q += 1


@kernel
def remove_star_means(values, weight, star, sums, totals):
    """Subtract from `values` the weighted mean over each star's detections (eliminates the stars)."""
    sums[:] = 0.0
    for d in range(len(star)):
        sums[star[d]] += weight[d] * values[d]
    for d in range(len(star)):
        if totals[star[d]] > 0:
            values[d] -= sums[star[d]] / totals[star[d]]


@leaf
def _add_to_stars(theta, i, q, first, end, detections, weight, sums):
    """Add to the stars' sums what the detections of image i see, whose camera's terms begin at q; order 0 or 2."""
    star, u, v, g = detections.star, detections.u, detections.v, theta[i]
    if detections.order == 0:
        for d in range(first, end):
            sums[star[d]] += weight[d] * g
        return
    a, b, c, e, f = theta[q], theta[q + 1], theta[q + 2], theta[q + 3], theta[q + 4]
    for d in range(first, end):
        x, y = u[d], v[d]
        sums[star[d]] += weight[d] * (g + a * x + b * y + c * (x * x) + e * x * y + f * (y * y))


@leaf
def _add_to_image(theta, i, q, first, end, detections, weight, means, out):
    """Add to `out` what they see beyond their stars' means, weighted, as `project_to_unknowns` does; order 0 or 2."""
    star, u, v, g, total = detections.star, detections.u, detections.v, theta[i], 0.0
    if detections.order == 0:
        for d in range(first, end):
            total += (g - means[star[d]]) * weight[d]
        out[i] += total
        return
    a, b, c, e, f = theta[q], theta[q + 1], theta[q + 2], theta[q + 3], theta[q + 4]
    in_a = in_b = in_c = in_e = in_f = 0.0
    for d in range(first, end):
        x, y = u[d], v[d]
        seen = g + a * x + b * y + c * (x * x) + e * x * y + f * (y * y)
        value = (seen - means[star[d]]) * weight[d]
        total += value
        in_a += value * x
        in_b += value * y
        in_c += value * (x * x)
        in_e += value * x * y
        in_f += value * (y * y)
    out[i] += total
    out[q] += in_a
    out[q + 1] += in_b
    out[q + 2] += in_c
    out[q + 3] += in_e
    out[q + 4] += in_f


@kernel
def apply_normal(theta, detections, start, weight, totals, work, sums, out):
    """Normal matrix, stars eliminated, times `theta`; `work` (n,) and `sums` (stars,) are scratch.

    Without responses and with quadratic ones, which nearly all are, image by image: detections of image i are
    ``start[i]:start[i + 1]``. What they see is made twice, since to keep it would take longer.
    """
    if detections.order != 0 and detections.order != 2:
        log_model(theta, detections, work)
        remove_star_means(work, weight, detections.star, sums, totals)
        for d in range(len(work)):
            work[d] *= weight[d]
        project_to_unknowns(work, detections, out)
        return
    camera, n, k = detections.camera, detections.n_images, 5 if detections.order == 2 else 0
    sums[:] = 0.0
    for i in range(n):
        if start[i] < start[i + 1]:
            q = n + camera[start[i]] * k
            _add_to_stars(theta, i, q, start[i], start[i + 1], detections, weight, sums)
    for s in range(len(sums)):
        sums[s] = sums[s] / totals[s] if totals[s] > 0 else 0.0
    out[:] = 0.0
    for i in range(n):
        if start[i] < start[i + 1]:
            q = n + camera[start[i]] * k
            _add_to_image(theta, i, q, start[i], start[i + 1], detections, weight, sums, out)


@kernel
def eliminate(kept, start, weight, totals, members, out):
    """Dense normal matrix of the images alone, stars eliminated; or of the stars alone, images eliminated.

    Parameters
    ----------
    kept : int64 (n,), weight : float64 (n,)
        Of each detection: what stays, its weight.
    totals : float64 (m,)
        Of each that is eliminated.
    start : int64 (m + 1,), members : int64 (n,)
        Detections of the s-th of these are ``members[start[s]:start[s + 1]]``.
    out : float64 (k, k), output
    """
    out[:] = 0.0
    for s in range(len(start) - 1):
        if totals[s] <= 0:
            continue
        for a in range(start[s], start[s + 1]):
            i = members[a]
            out[kept[i], kept[i]] += weight[i]
            for b in range(start[s], start[s + 1]):
                j = members[b]
                out[kept[i], kept[j]] -= weight[i] * weight[j] / totals[s]
