"""The pedestal of a set of images: what all their values hold beside sky that their gains scale.

A bias, a stacking program's offset or lamplight is added to values and follows no gain. On the mosaic's scale it is
``p / g``, which differs from image to image as gains do, and a prior that holds levels near 0 would take these
differences for signs of a slope. So it is taken off before surfaces are solved, and given back after. Whatever one
adds to all values is then given back as it was: the mosaic is the same but for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.stages.gauge.ungauged import SurfaceSolution
from zemosaic.stages.numeric.robust import cauchy_weight, mad_sigma

__all__ = ["find_pedestal", "give_back"]

F8 = npt.NDArray[np.float64]

_ROUNDS = 20
"""Of robust weights: levels of two kinds of images have settled by then."""

_FAR = 2.4
"""Scatters at which an image's say is halved: a cloud's level is none of the pedestal."""

_SKY_PRECISION = 1.0
"""What holds the sky above the pedestal at 0, in images: where gains are about equal nothing else would."""


def find_pedestal(level: F8, log_gain: F8) -> float:
    """What is common to the levels of all images before their gains are divided out.

    The levels over their gains shall differ least: ``level / g = p / g + s + rest``, robustly. With `s` held near 0 all
    of the typical level is pedestal where gains do not tell.

    Parameters
    ----------
    level, log_gain : ndarray, shape (n,)
        Median of each image, NaN without any, in units of a typical noise, and ln of its gain.

    Returns
    -------
    float
        Of `level` plus a constant it is more by that constant; 0 without any image.
    """
    known = np.isfinite(level)
    if not known.any():
        return 0.0
    inverse, middle = np.exp(-log_gain[known]), float(np.median(level[known]))
    value, weight = (level[known] - middle) * inverse, np.ones(np.count_nonzero(known))
    above = 0.0
    for _ in range(_ROUNDS):
        cross, total = np.sum(weight * inverse), np.sum(weight) + _SKY_PRECISION
        normal = [[np.sum(weight * inverse**2), cross], [cross, total]]
        above, sky = np.linalg.solve(normal, [np.sum(weight * inverse * value), np.sum(weight * value)])
        rest = value - above * inverse - sky
        # Levels that agree to less than the noise are equal.
        weight = cauchy_weight((rest / np.hypot(mad_sigma(rest, 0.0), 1.0)) ** 2, _FAR)
    return middle + float(above)


def give_back(found: SurfaceSolution, pedestal: float, log_gain: F8) -> SurfaceSolution:
    """The solution of values from which a pedestal was taken off, for those values with it.

    Parameters
    ----------
    found : SurfaceSolution
    pedestal : float
        In the unit of the values, gains not divided out.
    log_gain : ndarray, shape (n,)
        With what the sky's structure added.
    """
    surfaces = found.surfaces.copy()
    surfaces[:, 0] += pedestal * np.expm1(-log_gain)
    return replace(found, sky=found.sky + pedestal, surfaces=surfaces)
