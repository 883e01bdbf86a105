"""Errors of gains that the sky's structure tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.stages.match.background import BackgroundSystem
from zemosaic.stages.match.sensor_pattern import own_gradients

__all__ = ["PARTS", "structure_gain_errors"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

PARTS = 4
"""Parts along an image's side whose residuals tell how many blocks count as one."""


def structure_gain_errors(
    system: BackgroundSystem, residual: F4, known: Flags, correlated: F8, star_sd: F8, draws: tuple[F8, F8]
) -> F8:
    """Errors of the gains found in the sky's structure, shape (n,), from draws.

    Blocks are weighed with caution; how much their witness really scatters, their residuals tell. Both parts of
    a weighted mean have their own variance: stars `correlated` times the drawn, since their prior is weighed up by as
    much, blocks what their clusters show, parts of an image or whole images.

    Parameters
    ----------
    system : BackgroundSystem
        As it was solved, with an extra column.
    residual : ndarray, shape (blocks,), float32
        Of that solution.
    known : ndarray, shape (n,), bool
        Images whose gain structure tells.
    correlated : ndarray, shape (n,)
        How many blocks count as one witness.
    star_sd : ndarray, shape (n,)
        What stars state of ln gain; inf where they do not hold it.
    draws : tuple of ndarray, shapes (draws, n)
        Of the extra coefficients: from their errors, and from misfits.
    """
    each, whole = (system.extra_variance(some, known) for some in draws)
    found = system.clustered_variance(residual, PARTS)
    own = own_gradients(system, residual, np.flatnonzero(known))
    blocks = np.minimum(np.fmax(found, 1.0) + own, correlated)
    # Draws are about their images' mean, and so is what stars give them.
    own_share = 1 - 1 / max(int(np.count_nonzero(known)), 2)
    stars = np.clip(each * correlated / (star_sd**2 * own_share), 0, 1)
    by_stars = each * correlated * stars
    return np.asarray(np.sqrt(by_stars + np.maximum(each * blocks * (1 - stars), whole)))
