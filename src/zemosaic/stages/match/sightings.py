"""Which star each detection of each image is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.measurements import Measurements

__all__ = ["Sightings"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Stars of many images, before anything is told of their fluxes.

    Attributes
    ----------
    measurements : sequence of length n
    camera : ndarray, shape (n,), int64
        Numbers from 0 on.
    stars : sequence of length n of ndarray, int64
        For each detection of an image the number of its star, the same in all images; -1 where it does not count.
    """

    measurements: Sequence[Measurements]
    camera: Ints
    stars: Sequence[Ints]
