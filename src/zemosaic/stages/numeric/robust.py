"""Statistics that a few wild values do not decide."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["MAD_TO_SIGMA", "MEDIAN_CHI2_1", "cauchy_weight", "excess_scatter", "mad_sigma"]

F8 = npt.NDArray[np.float64]
Float = TypeVar("Float", np.float32, np.float64)

MAD_TO_SIGMA = 1.4826
"""Sigma of a Gaussian over its median absolute deviation: 1 / 0.67449."""

MEDIAN_CHI2_1 = 0.455
"""Median of chi squared with one degree of freedom: half of all squared deviations in units of sigma lie below."""


def mad_sigma(values: npt.ArrayLike, centre: npt.ArrayLike | None = None) -> float:
    """Standard deviation of the bulk of values, from their median absolute deviation.

    Parameters
    ----------
    values : array_like
        Finite, at least one; any unit and shape.
    centre : array_like, optional
        What deviations are from; the median of the values if None. 0 for residuals of a fit.

    Returns
    -------
    float
        In the unit of the values: sigma, were they Gaussian. 0 where more than half of them are equal.
    """
    values = np.asarray(values)
    away = values - (np.median(values) if centre is None else centre)
    return MAD_TO_SIGMA * float(np.median(np.abs(away)))


def cauchy_weight(pull2: npt.NDArray[Float], scale: float) -> npt.NDArray[Float]:
    """Weights of a Cauchy loss: a value far out pulls less, the farther the less.

    Parameters
    ----------
    pull2 : ndarray
        Squares of residuals over their errors.
    scale : float
        Errors at which the weight has fallen to a half; 2.4 keeps 95 % of a Gaussian's information (Holland & Welsch,
        Communications in Statistics A6, 813, 1977).

    Returns
    -------
    ndarray, shape and dtype of `pull2`
        ``1 / (1 + pull2 / scale**2)``.
    """
    return np.asarray(1 / (1 + pull2 / scale**2), pull2.dtype)


def excess_scatter(
    squares: F8, error: F8, low: float, high: float, *, limit: float = MEDIAN_CHI2_1, n_halvings: int
) -> float:
    """Scatter beyond stated errors: the s at which the median of ``squares / (error^2 + s^2)`` is `limit`.

    Parameters
    ----------
    squares, error : ndarray, shape (n,)
        Squared deviations and their errors, n > 0.
    low, high : float
        Bounds of s, both above 0.
    limit : float
    n_halvings : int
        Of ln high / low.
    """
    for _ in range(n_halvings):
        middle = np.sqrt(low * high)
        wide = float(np.median(squares / (error**2 + middle**2))) > limit
        low, high = (middle, high) if wide else (low, middle)
    return float(np.sqrt(low * high))
