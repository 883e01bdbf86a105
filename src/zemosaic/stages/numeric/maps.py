"""Maps of booleans."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.measure.parts import grow_squares

__all__ = ["grow_map", "grow_map_squarely"]

Map = npt.NDArray[np.bool_]


def grow_map(part: Map, n_steps: int) -> Map:
    """What lies within so many steps along rows and columns of a part: shifts are faster than scipy's loop.

    Parameters
    ----------
    part : ndarray, bool, shape (h, w)
    n_steps : int
        0 gives the part itself.
    """
    for _ in range(n_steps):
        near, part = part, part.copy()
        part[1:] |= near[:-1]
        part[:-1] |= near[1:]
        part[:, 1:] |= near[:, :-1]
        part[:, :-1] |= near[:, 1:]
    return part


def grow_map_squarely(part: Map, reach_px: int) -> Map:
    """What lies within so many rows and within so many columns of a part: along diagonals, it grows as far.

    Parameters
    ----------
    part : ndarray, bool, shape (h, w)
    reach_px : int
        Below 127.
    """
    grown = np.empty(part.shape, np.uint8)
    grow_squares(np.ascontiguousarray(part).view(np.uint8), reach_px, grown)
    return grown.view(np.bool_)
