"""Steps at frames' borders as an eye meets them: over the noise of one pixel of the mosaic at that place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

__all__ = ["SHARES", "BorderFigure", "figure_borders"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHARES = np.r_[np.linspace(0, 0.9, 19), 0.95, 0.98, 0.99, 1.0]
"""Shares of the places at which the curve of sizes is kept: closer at its end, where the worst are."""

PULL_EDGES = np.linspace(-5, 5, 42)
"""Bins of step over error; 5 errors happen by chance once in two million places."""

SURE_ERRORS = 4.0
"""A step counts with what is left of it after so many errors: of 2,000 places of a perfect mosaic, chance lifts one in
eight above it. Where few squares tell the error it may be small by chance, and as many more count as Student's
distribution gives to what two errors hold of a Gaussian: 2.3 times as many for three squares, 1.2 times for ten."""

_TWO_SIGMA = 0.97725
"""Share of a Gaussian below two standard deviations."""

LEAST_CELLS = 4
"""Border cells from which the mean step of a frame is a figure."""


@dataclass(frozen=True, slots=True, eq=False)
class BorderFigure:
    """The steps of one channel, all over the noise of a pixel of the mosaic.

    Attributes
    ----------
    rms : float
        Root mean square of all steps; NaN without any.
    sure_rms : float
        The same without what the errors of the steps add; NaN without any.
    curve : ndarray, shape (len(SHARES),)
        Sizes that these shares of the steps do not exceed; empty without any.
    pulls : ndarray, shape (len(PULL_EDGES) - 1,), int64
        Steps by step over error; those beyond lie in the last bins.
    step, sure : ndarray, shape (s,)
        Each step, and its size less `SURE_ERRORS` of its errors, 0 at least.
    frame_step, frame_sure : ndarray, shape (n,)
        Mean step along the border of each frame, and its size less its errors; NaN where few places tell.
    """

    rms: float
    sure_rms: float
    curve: F8
    pulls: Ints
    step: F8
    sure: F8
    frame_step: F8
    frame_sure: F8


def figure_borders(image: Ints, step: F8, error: F8, noise: F8, count: Ints, n_images: int) -> BorderFigure:
    """Steps over the noise, place by place and frame by frame.

    Parameters
    ----------
    image : ndarray, shape (s,), int64
        Whose border each place is.
    step, error, noise, count : ndarray, shape (s,)
        Of `zemosaic.stages.match.seams.SeamFigure`, mosaic units.
    n_images : int

    Notes
    -----
    The error of a place comes from a few squares and may be 0 by chance, so it counts as the typical one at least. A
    frame that is too bright as a whole shows a step of one sign all along its border: its mean tells that far below
    what single places can. The error of that mean is the scatter of its places over the root of their number.
    """
    nothing = np.zeros(0)
    unknown = np.full(n_images, np.nan)
    if not len(step):
        pulls = np.zeros(len(PULL_EDGES) - 1, np.int64)
        return BorderFigure(np.nan, np.nan, nothing, pulls, nothing, nothing, unknown, unknown.copy())
    size = step / noise
    own = np.maximum(error / noise, float(np.median(error / noise)))
    pulls = np.histogram(np.clip(size / np.maximum(own, 1e-30), PULL_EDGES[0], PULL_EDGES[-1]), PULL_EDGES)[0]
    n_places = np.bincount(image, minlength=n_images)
    told = n_places >= LEAST_CELLS
    n = np.maximum(n_places, 1)
    mean = np.bincount(image, size, n_images) / n
    scatter = np.bincount(image, (size - mean[image]) ** 2, n_images) / np.maximum(n - 1, 1)
    least = np.bincount(image, own**2, n_images) / n
    mean_error = np.sqrt(np.maximum(scatter, least) / n)
    few = scipy.special.stdtrit(np.maximum(count - 1, 1), _TWO_SIGMA) / 2
    return BorderFigure(
        rms=float(np.sqrt(np.mean(size**2))),
        sure_rms=float(np.sqrt(max(np.mean(size**2) - np.mean(own**2), 0.0))),
        curve=np.quantile(np.abs(size), SHARES),
        pulls=pulls.astype(np.int64),
        step=size,
        sure=np.maximum(np.abs(size) - SURE_ERRORS * few * own, 0),
        frame_step=np.where(told, mean, np.nan),
        frame_sure=np.where(told, np.maximum(np.abs(mean) - SURE_ERRORS * mean_error, 0), np.nan),
    )
