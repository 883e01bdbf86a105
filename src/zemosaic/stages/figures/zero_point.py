"""The magnitude of one unit of a mosaic, from stars whose magnitudes are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["ZeroPoint", "find_zero_point"]

F8 = npt.NDArray[np.float64]

FEWEST_STARS = 8
"""Fewer stars may be chance neighbours, and their scatter is not known."""

MOST_SCATTER_MAG = 0.6
"""Stars seen through one filter against the magnitudes of another scatter by their colours, some 0.3 mag; pairs that
are no pairs scatter by more than a magnitude."""

MEDIAN_ERROR = 1.2533
"""Error of a median over that of a mean, for Gaussian scatter: the root of pi / 2."""


@dataclass(frozen=True, slots=True)
class ZeroPoint:
    """``magnitude = mag - 2.5 log10(flux)``, `flux` in units of the mosaic.

    Attributes
    ----------
    mag : float
    error_mag : float
        Of `mag`, from the scatter of the stars; what their colours have in common is not in it.
    n_stars : int
    """

    mag: float
    error_mag: float
    n_stars: int


def find_zero_point(star: npt.NDArray[np.int64], mag: F8, flux: F8) -> ZeroPoint | None:
    """The zero point that stars of known magnitudes show; None where they are too few, or do not agree.

    Parameters
    ----------
    star : ndarray of int, shape (n,)
        Which star each detection is of. A star counts once, by the median of its detections.
    mag : ndarray, shape (n,)
        Its magnitude.
    flux : ndarray, shape (n,)
        Flux in mosaic units; detections without a positive flux do not count.
    """
    good = flux > 0
    star, each = star[good], mag[good] + 2.5 * np.log10(flux[good])
    order = np.lexsort((each, star))
    star, each = star[order], each[order]
    _, first, count = np.unique(star, return_index=True, return_counts=True)
    if len(first) < FEWEST_STARS:
        return None
    # The middle of each star's detections, which are sorted.
    of_stars = (each[first + (count - 1) // 2] + each[first + count // 2]) / 2
    scatter = float(mad_sigma(of_stars))
    if scatter > MOST_SCATTER_MAG:
        return None
    return ZeroPoint(float(np.median(of_stars)), MEDIAN_ERROR * scatter / len(first) ** 0.5, len(first))
