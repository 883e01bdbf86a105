"""The pedestal of a set of images: what all their values hold beside sky that their gains scale.

A bias, a stacking program's offset or lamplight is added to values and follows no gain. On the mosaic's scale it is
``p / g``, which differs from image to image as gains do, and a prior that holds levels near 0 would take these
differences for signs of a slope. So it is taken off before surfaces are solved, and given back after. Whatever one
adds to all values is then given back as it was: the mosaic is the same but for it.

It follows no pixel's area either, where sky does: over an image that makes a bend of some 1e-4 of it. Which of both a
constant is only gains tell. Where they are equal it is left as flat as sky.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.stages.gauge.ungauged import SurfaceSolution
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.robust import cauchy_weight, mad_sigma

__all__ = ["Pedestal", "find_pedestal"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

_ROUNDS = 20
"""Of robust weights: levels of two kinds of images have settled by then."""

_FAR = 2.4
"""Scatters at which an image's say is halved: a cloud's level is none of the pedestal."""

_SKY_PRECISION = 1.0
"""What holds the sky above the pedestal at 0, in images: where gains are about equal nothing else would."""


@dataclass(frozen=True, slots=True, eq=False)
class Pedestal:
    """What is common to the values of all images, and how each image shows it.

    Attributes
    ----------
    size : float
        In the unit of the values, gains not divided out.
    in_images : ndarray, shape (n, 6)
        Terms of a quadratic over each image for a pedestal of 1: what is left of A_ref over a pixel's area.
    """

    size: float
    in_images: F8

    @classmethod
    def of(cls, table: BlockTable, level: F8, log_gain: F8, error: F8) -> Pedestal:
        """That of the levels of images, (n,), by ln of their gains and its error."""
        in_images, centre = table.per_area.copy(), table.per_area[:, 0]
        in_images[:, 1:] *= _told_by_gains(log_gain, error)
        return cls(find_pedestal(level / centre, log_gain - np.log(centre)), in_images)

    def taken_off(self, table: BlockTable, value: F4, log_gain: F8, n_terms: int) -> F4:
        """Values of blocks over their gains without it, as far as surfaces of so many terms can hold it."""
        terms = (self.size * np.exp(-log_gain)[:, None] * self.in_images).astype(np.float32)
        u, v, image, low = table.u, table.v, table.image, value - terms[table.image, 0]
        for k, basis in enumerate((u, v, u * u, u * v, v * v)[: n_terms - 1], 1):
            low -= terms[image, k] * basis
        return np.asarray(low)

    def given_back(self, found: SurfaceSolution, log_gain: F8, n_terms: int) -> SurfaceSolution:
        """The solution of values without it for those with it; `log_gain` with what the sky's structure added."""
        surfaces, k = found.surfaces.copy(), min(n_terms, self.in_images.shape[1])
        surfaces[:, :k] += self.size * np.exp(-log_gain)[:, None] * self.in_images[:, :k]
        surfaces[:, 0] -= self.size
        return replace(found, sky=found.sky + self.size, surfaces=surfaces)


def _told_by_gains(log_gain: F8, error: F8) -> float:
    """Share of the variance of gains that is no error of theirs: as far as that they tell pedestal from sky."""
    known = np.isfinite(error)
    variance = float(np.var(log_gain[known])) if known.any() else 0.0
    return max(1 - float(np.mean(error[known] ** 2)) / variance, 0.0) if variance > 0 else 0.0


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
