"""Figures of samples of a normal distribution that clipping needs, by the number of samples."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy

__all__ = ["MIN_SPREAD_COUNT", "esd_critical", "spread_table", "trimmed_variance"]

MIN_SPREAD_COUNT = 5
"""With fewer values than this their scatter says nothing: it is taken as 0."""

_Array = TypeVar("_Array", npt.NDArray[np.float32], npt.NDArray[np.float64])


def _frozen(array: _Array) -> _Array:
    array.setflags(write=False)
    return array


@lru_cache(maxsize=8)
def spread_table(n_max: int) -> npt.NDArray[np.float32]:
    """Factors that turn the range of the inner values into a standard deviation.

    The robust scatter of k sorted values is ``table[k] * (x[k-1-t] - x[t])`` with ``t = k // 5``: one value
    in five may be wild on each side. Expected normal order statistics after Blom (1958),
    ``Phi^-1((i - 3/8) / (k + 1/4))``, good to 0.5 % from k = 5.

    Parameters
    ----------
    n_max : int
        Largest number of values.

    Returns
    -------
    ndarray, float32, shape (n_max + 1,)
        0 below `MIN_SPREAD_COUNT` values.
    """
    k = np.arange(MIN_SPREAD_COUNT, n_max + 1)
    table = np.zeros(n_max + 1, np.float32)
    table[MIN_SPREAD_COUNT:] = -0.5 / scipy.special.ndtri((k // 5 + 1 - 0.375) / (k + 0.25))
    return _frozen(table)


@lru_cache(maxsize=8)
def esd_critical(n_max: int, significance: float) -> npt.NDArray[np.float64]:
    """Critical values of the generalised ESD test for m values left, and of the normal distribution.

    ``lambda = (m - 1) t / sqrt((m - 2 + t^2) m)`` with t the ``1 - significance / (2 m)`` quantile of Student's
    distribution with m - 2 degrees of freedom (Rosner, Technometrics 25, 165, 1983).

    Parameters
    ----------
    n_max : int
        Largest number of values.
    significance : float
        Chance that a pixel without outliers loses a value.

    Returns
    -------
    ndarray, float64, shape (2, n_max + 1)
        Of the test, and the normal quantiles of the same chance; infinite below 3 values.
    """
    m = np.arange(n_max + 1, dtype=float)
    critical = np.full((2, n_max + 1), np.inf)
    left = m[3:]
    tail = significance / (2 * left)
    t = -scipy.special.stdtrit(left - 2, tail)
    critical[0, 3:] = (left - 1) * t / np.sqrt((left - 2 + t * t) * left)
    critical[1, 3:] = -scipy.special.ndtri(tail)
    return _frozen(critical)


@lru_cache(maxsize=8)
def trimmed_variance(n_max: int, n_low: int, n_high: int) -> npt.NDArray[np.float32]:
    """Variance of a mean without its lowest and highest values, over that of a mean of as many random values.

    Asymptotic variance of a trimmed mean of normal samples: that of the values pulled in to the cuts, over the
    square of the share kept; for a given number of samples, within 5 % from 3 on.

    Parameters
    ----------
    n_max : int
        Largest number of values.
    n_low, n_high : int
        How many are dropped.

    Returns
    -------
    ndarray, float32, shape (n_max + 1,)
        By the number of values before dropping; 1 where nothing is dropped.
    """
    k = np.arange(n_low + n_high + 1, n_max + 1, dtype=float)
    a, b = n_low / k, n_high / k
    za, zb = scipy.special.ndtri(a), -scipy.special.ndtri(b)
    pa, pb = (np.exp(-z * z / 2) / np.sqrt(2 * np.pi) for z in (za, zb))
    cut_a, cut_b = (np.where(np.isfinite(z), z, 0.0) for z in (za, zb))
    mean = a * cut_a + pa - pb + b * cut_b
    square = (1 - a - b) + cut_a * pa - cut_b * pb + a * cut_a**2 + b * cut_b**2
    factor = np.ones(n_max + 1, np.float32)
    factor[n_low + n_high + 1 :] = (square - mean**2) / (1 - a - b)
    return _frozen(factor)
