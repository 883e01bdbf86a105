"""Sky and surfaces of one channel as they were solved, before their gauge is fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.stages.match.sensor_pattern import SensorPattern

__all__ = ["SurfaceSolution"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceSolution:
    """Sky and surfaces of one channel.

    Attributes
    ----------
    sky : ndarray, shape (ny, nx)
        At the nodes, mosaic units; meaningful where `depth` > 0.
    depth : ndarray, shape (ny, nx)
        Summed weight of the blocks round each node.
    surfaces : ndarray, shape (n, k)
        Coefficients of `surface_basis`.
    log_gain, log_gain_error : ndarray, shape (n,)
        Change of ln gain found from the sky's structure, and its error (the given spread where nothing was found, 0
        where the gain was held).
    from_structure : ndarray, shape (n,), bool
        Images whose gain was found so.
    disagree : float
        By how much stars and structure differ beyond the stars' errors, which were raised by as much; 1 where they do
        not.
    pattern : SensorPattern
    field : ndarray, shape (cameras, 44)
        What the sky adds to ln of the cameras' responses (`solve_shared_field`); none where it was not asked for.
    prior_sd : ndarray, shape (order + 1,)
        Scatter of the coefficients of each degree, found from the data, in a typical night.
    image_sd : ndarray, shape (n, k)
        Width of each coefficient's prior: `prior_sd`, more for images of a night whose surfaces are larger.
    weight : ndarray, shape (blocks,), float32
        Final weights as surfaces have them: inverse variance of what images do not share, times the robust factor.
    draws, misfits : list of (ndarray (ny, nx), ndarray (n, k))
        Draws from the error distribution of sky and surfaces: as priors and blocks of independent errors have it, and
        as the residuals have it, each image a witness.
    """

    sky: F8
    depth: F8
    surfaces: F8
    log_gain: F8
    log_gain_error: F8
    from_structure: Flags
    disagree: float
    pattern: SensorPattern
    field: F8
    prior_sd: F8
    image_sd: F8
    weight: F4
    draws: list[tuple[F8, F8]]
    misfits: list[tuple[F8, F8]]
