"""Small holes of a picture, closed by what surrounds them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

__all__ = ["HOLE_REACH_PX", "close_holes"]

F4 = npt.NDArray[np.float32]

SIGMA_PX = 4.0
"""Width of the Gaussian by which surroundings count: holes of some 8 px are closed."""

HOLE_REACH_PX = 16
"""How far surroundings count: four sigma."""

INSIDE_SHARE = 0.55
"""Share of the surroundings that has data, from which a pixel lies in a hole: beyond a straight rim it is a half."""


def close_holes(data: F4) -> tuple[F4, npt.NDArray[np.bool_]]:
    """Pixels without data that lie among pixels with data get their mean, which a Gaussian weighs.

    Parameters
    ----------
    data : ndarray, shape (c, h, w)
        NaN where there are no data. Within `HOLE_REACH_PX` of its edges a result may be another than of a larger piece.

    Returns
    -------
    (ndarray (c, h, w), ndarray (h, w) bool)
        Finite, 0 where there is nothing; where all channels have a value.
    """
    known = np.isfinite(data)
    out = np.where(known, data, np.float32(0))
    if known.all():
        return out, np.asarray(known.all(axis=0))
    for channel, seen in zip(out, known, strict=True):
        share = scipy.ndimage.gaussian_filter(seen.astype(np.float32), SIGMA_PX, mode="constant", truncate=4.0)
        hole = ~seen & (share > INSIDE_SHARE)
        if hole.any():
            light = scipy.ndimage.gaussian_filter(channel, SIGMA_PX, mode="constant", truncate=4.0)
            channel[hole] = light[hole] / share[hole]
            seen |= hole
    return out, np.asarray(known.all(axis=0))
