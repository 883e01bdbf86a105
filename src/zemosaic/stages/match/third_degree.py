"""Whether a night's images have gradients of third degree, which their surfaces cannot follow.

Moonlight and twilight bend the sky of a field more than airglow does. Where one panel of a mosaic was taken under the
moon, a quadratic laid through the overlaps goes on into the panel and is far off at its other side: the solve is done
again with surfaces of third degree, whose widths the data tell, night by night.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms
from zemosaic.stages.match.background import BackgroundSystem
from zemosaic.stages.match.sensor_pattern import beside_surfaces

__all__ = ["THIRD", "highest_order", "is_a_night_beyond"]

F4 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

THIRD = 3
"""Degree of the surfaces where a night needs it."""

_SHOWN = 4.0
"""Chi squared for each coefficient of third degree, mean over a night's images, from which these have it: 1 is noise,
and what the sky has between its nodes makes 2 of it."""


def highest_order(order: int) -> int:
    """The order that surfaces may come to have where one was asked for: known before any night is looked at."""
    return THIRD if order == THIRD - 1 else order


def is_a_night_beyond(system: BackgroundSystem, residual: F4, night: Ints) -> bool:
    """Whether residuals of one night's images are of third degree, and those of most images are not.

    What most images show beyond second degree is the sky's structure, or a pattern of the sensor.

    Parameters
    ----------
    system : BackgroundSystem
        As it was solved, with surfaces of second degree.
    residual : ndarray, shape (blocks,), float32
        Of that solution.
    night : ndarray, shape (n,), int64
        Number of each image's night.
    """
    table, order = system.layout.table, system.layout.order
    n_beyond = n_terms(THIRD) - n_terms(order)
    every = np.arange(table.n_images)
    rest = beside_surfaces(table, (order, THIRD), system.data.weight, residual, every, each=system.each)
    inverse, pulls = np.linalg.pinv(rest[:, :n_beyond, :n_beyond], hermitian=True), rest[:, :n_beyond, -1]
    chi2 = np.sum(pulls * np.sum(inverse * pulls[:, None], axis=2), axis=1) / n_beyond
    typical = max(float(np.median(chi2)), 1.0)
    return any(np.mean(chi2[night == number]) > _SHOWN * typical for number in np.unique(night))
