"""Fields that all images of a camera share (its response, its growth curve): which of their terms to believe.

A slope that a camera's images share acts on their gains like a trend along the mosaic: in a chain of twenty images an
error of 0.3 mmag a half-width adds up to 8 mmag. So such a part is taken only where it stands clear of its error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import surface_terms

__all__ = ["real_parts"]

F8 = npt.NDArray[np.float64]

_REAL = 4.0
"""Errors by which a part of a shared field must stand out to be taken."""


def _odd_terms(order: int) -> npt.NDArray[np.bool_]:
    """Which terms of `surface_basis` without the constant are odd: those that can look like a trend of the gains."""
    return np.asarray(np.repeat(np.arange(1, order + 1), np.arange(2, order + 2)) % 2 == 1)


def real_parts(
    coefficients: F8, covariance: F8, order: int, least: float = 0.0, even_errors: float = _REAL
) -> npt.NDArray[np.bool_]:
    """Which terms of a field shared by a camera's images are real: its odd and its even part, each as a whole.

    Parameters
    ----------
    coefficients : ndarray, shape (k,)
        Over `surface_basis` of `order`, without the constant.
    covariance : ndarray, shape (k, k)
    order : int
    least : float
        Rms over the field that a part must have at least.
    even_errors : float
        Errors by which the even part must stand out; the odd part always needs four.

    Returns
    -------
    ndarray, shape (k,), bool
        True for the terms of parts whose rms over the field exceeds `least` and so many times its error.
    """
    u, v = np.meshgrid(*[np.linspace(-1, 1, 9)] * 2)
    basis = surface_terms(u.ravel(), v.ravel(), order)[1:]
    basis -= basis.mean(axis=1, keepdims=True)
    product = basis @ basis.T / basis.shape[1]
    odd = _odd_terms(order)
    out = np.zeros(len(coefficients), bool)
    for part, errors in ((np.flatnonzero(odd), _REAL), (np.flatnonzero(~odd), even_errors)):
        inner = np.ix_(part, part)
        size2 = float(coefficients[part] @ product[inner] @ coefficients[part])
        error2 = float(np.sum(product[inner] * covariance[inner]))
        out[part] = size2 > max(least**2, errors**2 * error2)
    return out
