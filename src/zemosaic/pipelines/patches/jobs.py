"""The work of making a mosaic, as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.frame import Frame
from zemosaic.stages.warp.warp import WarpPlan

__all__ = ["PatchInput"]

F4 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PatchInput:
    """One frame as the patch task needs it.

    Attributes
    ----------
    frame : Frame
    plan : WarpPlan
        Coordinates, correction, noise.
    sky : ndarray, shape (c,)
        Sky level of the frame in mosaic units, for the noise model.
    light : ndarray, shape (c,)
        By how much of itself the noise's variance grows per mosaic unit above the sky; 0 where unknown.
    own_share : ndarray, shape (c,)
        Variance of a single sample over what its weight states; 1 but for raw frames.
    """

    frame: Frame
    plan: WarpPlan
    sky: F4
    light: F4
    own_share: F4
