"""Operators of the gain solve: log fluxes of shared stars. Serial, nogil; nothing is assembled."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["apply_normal", "gain_curvature", "log_model", "project_to_unknowns"]


@njit(nogil=True, cache=True)
def _powers(x, out):
    """Fill ``out[1:]`` with x, x^2, ...; ``out[0]`` is 1."""
    for p in range(1, len(out)):
        out[p] = out[p - 1] * x


@njit(nogil=True, cache=True)
def log_model(theta, image, camera, u, v, order, n_images, out):
    """Log gain plus log response of every detection.

    Parameters
    ----------
    theta : float64 (n_images + n_cameras * k,)
        Log gains, then each camera's coefficients of degree 1..order.
    image, camera : int64 (n,); u, v : float64 (n,)
    out : float64 (n,), output
    """
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


@njit(nogil=True, cache=True)
def project_to_unknowns(values, image, camera, u, v, order, n_images, out):
    """Transpose of `log_model`: sums `values` (n,) into `out` (as theta), which is overwritten."""
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


@njit(nogil=True, cache=True)
def remove_star_means(values, weight, star, sums, totals):
    """Subtract from `values` the weighted mean over each star's detections (eliminates the stars)."""
    sums[:] = 0.0
    for d in range(len(star)):
        sums[star[d]] += weight[d] * values[d]
    for d in range(len(star)):
        if totals[star[d]] > 0:
            values[d] -= sums[star[d]] / totals[star[d]]


@njit(nogil=True, cache=True)
def apply_normal(theta, image, camera, star, u, v, weight, totals, order, n_images, work, sums, out):
    """Normal matrix, stars eliminated, times `theta`; `work` (n,) and `sums` (stars,) are scratch."""
    log_model(theta, image, camera, u, v, order, n_images, work)
    remove_star_means(work, weight, star, sums, totals)
    for d in range(len(image)):
        work[d] *= weight[d]
    project_to_unknowns(work, image, camera, u, v, order, n_images, out)


@njit(nogil=True, cache=True)
def gain_curvature(image, start, weight, totals, members, out):
    """Dense normal matrix of the gains alone, stars eliminated.

    Parameters
    ----------
    image : int64 (n,), weight : float64 (n,), totals : float64 (stars,)
    start : int64 (stars + 1,), members : int64 (n,)
        Detections of star s are ``members[start[s]:start[s + 1]]``.
    out : float64 (n_images, n_images), output
    """
    out[:] = 0.0
    for s in range(len(start) - 1):
        if totals[s] <= 0:
            continue
        for a in range(start[s], start[s + 1]):
            i = members[a]
            out[image[i], image[i]] += weight[i]
            for b in range(start[s], start[s + 1]):
                j = members[b]
                out[image[i], image[j]] -= weight[i] * weight[j] / totals[s]
