"""Operators of the gain solve: log fluxes of shared stars. Serial, nogil; nothing is assembled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part

__all__ = [
    "Detections",
    "apply_normal",
    "eliminate",
    "log_model",
    "project_to_unknowns",
    "remove_star_means",
]


class Detections(NamedTuple):
    """Detections of shared stars, and what they see: the gain of an image, the response of its camera.

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


@kernel
def apply_normal(theta, detections, weight, totals, work, sums, out):
    """Normal matrix, stars eliminated, times `theta`; `work` (n,) and `sums` (stars,) are scratch."""
    log_model(theta, detections, work)
    remove_star_means(work, weight, detections.star, sums, totals)
    for d in range(len(work)):
        work[d] *= weight[d]
    project_to_unknowns(work, detections, out)


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
