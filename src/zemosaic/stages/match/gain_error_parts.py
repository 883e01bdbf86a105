"""What errors of gains are made of beside the stars' noise: scatter, responses and growth curves that images share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.stages.match.star_equations import StarNormals

__all__ = ["HELD", "response_errors", "scatter_over_stated", "shared_variance", "tilt_errors"]

F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

HELD = 1e10
"""Precision that holds a response's term at 0: a thousand times what 10 000 images tell of it."""

_OWN_WORD = 10.0
"""Detections of equal weight as which the stated errors count beside the scatter: ten tell it to a quarter."""

_LEAST_CURVATURE = 0.2
"""Least mean curvature of the Cauchy loss over its weight; with most residuals far out it could turn negative."""


def scatter_over_stated(normals: StarNormals, unknowns: F8, robust: F8) -> float:
    """By how much stars scatter more than their errors and weights state, over all detections.

    What all images share, as faint stars and grain of one sky, counts in a flux's noise, yet not in its differences. A
    sandwich of robust weights (Huber 1967), drawn to 1 where few stars hold all of the weight.

    Parameters
    ----------
    normals : StarNormals
        By the weights of the last round.
    unknowns : ndarray
        The solution.
    robust : ndarray, shape (detections,)
        Shares of the weights that a robust loss left.
    """
    residual, share = normals.residual(unknowns), normals.share_left()
    expected = float(np.sum(normals.weight * share))
    if expected <= 0:
        return 1.0
    shown = float(np.sum((normals.weight * residual) ** 2))
    bend = max(float(np.sum(normals.weight * (2 * robust - 1)) / np.sum(normals.weight)), _LEAST_CURVATURE)
    count = expected**2 / float(np.sum((normals.weight * share) ** 2))
    squares = shown / expected / bend**2
    return float(np.sqrt((_OWN_WORD + count * squares) / (_OWN_WORD + count)))


def tilt_errors(normals: StarNormals, slopes: F8, component: Ints) -> F8:
    """Error of every gain by slopes of responses that are not known: stars do not tell them from a trend of gains.

    Parameters
    ----------
    normals : StarNormals
    slopes : ndarray, shape (cameras, 2)
    component : ndarray, shape (images,)
    """
    variance = np.zeros(normals.equations.n_images)
    for c in np.flatnonzero(slopes.any(axis=1)):
        rows = _centred(normals.answers_to_growth(int(c), np.arange(2)), component)
        variance += np.sum((slopes[c][:, None] * rows) ** 2, axis=0)
    return np.sqrt(variance)


def response_errors(normals: StarNormals, flat: Flags) -> F8:
    """Errors of the responses' terms, shape (cameras, k); 0 for those held at 0."""
    out, free = np.zeros(flat.size), np.flatnonzero(~flat.ravel())
    if len(free) and len(normals.weight):
        covariance = normals.response_columns(free)[:, normals.equations.n_images + free]
        out[free] = np.sqrt(np.diag(covariance))
    return out.reshape(flat.shape)


def shared_variance(normals: StarNormals, flat: Flags, growth: F8, component: Ints) -> F8:
    """Variance that each gain has from fields which images of a camera share: response and growth curve.

    Parameters
    ----------
    normals : StarNormals
    flat : ndarray, shape (cameras, k), bool
        Terms of the responses that are held at 0.
    growth : ndarray, shape (cameras, 5, 5)
        Covariance of each camera's growth field.
    component : ndarray, shape (images,)
    """
    n = normals.equations.n_images
    out = np.zeros(n)
    if len(normals.weight) == 0:
        return out
    free = np.flatnonzero(~flat.ravel())
    if len(free):
        rows = normals.response_columns(free)
        inverse = np.asarray(np.linalg.inv(rows[:, n + free]), float)
        out += _variance_through(_centred(rows[:, :n], component), inverse)
    for c, covariance in enumerate(growth):
        terms = np.flatnonzero(np.diag(covariance) > 1 / HELD)
        if len(terms):
            rows = normals.answers_to_growth(c, terms)
            out += _variance_through(_centred(rows, component), covariance[np.ix_(terms, terms)])
    return out


def _centred(rows: F8, component: Ints) -> F8:
    """Rows (m, images) with the mean of every component taken out."""
    size = np.bincount(component)
    return np.stack([row - (np.bincount(component, row) / size)[component] for row in rows])


def _variance_through(rows: F8, matrix: F8) -> F8:
    """Diagonal of ``rows^T matrix rows``."""
    return np.asarray(np.sum(rows * (matrix @ rows), axis=0))
