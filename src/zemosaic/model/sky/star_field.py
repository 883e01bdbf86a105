"""The stars of one frame as the astrometry sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from zemosaic.model.frame import PointingHint

__all__ = ["BlindSolver", "StarField"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StarField:
    """Star positions of a frame, with what its header says of their place on the sky.

    Attributes
    ----------
    xy : ndarray, shape (n, 2)
        Positions ``(x, y)``, zero-based pixels of the full frame.
    flux : ndarray, shape (n,)
        Any band, any unit.
    shape : tuple of int
        ``(height, width)`` of the frame.
    hint : PointingHint or None
        Header position and nominal scale.
    epoch_year : float or None
        Julian year of the exposure.
    camera : str
        Key of frames that share one optical distortion.
    """

    xy: Array
    flux: Array
    shape: tuple[int, int]
    hint: PointingHint | None = None
    epoch_year: float | None = None
    camera: str = ""

    def __post_init__(self) -> None:
        if self.xy.shape != (len(self.flux), 2):
            raise ValueError(f"xy must have shape ({len(self.flux)}, 2), got {self.xy.shape}")


class BlindSolver(Protocol):
    """Finds stars on the sky without knowing where to look."""

    name: str

    def locate(self, field: StarField) -> PointingHint | None:
        """Where a field may be.

        Parameters
        ----------
        field : StarField
            Its `hint` may have a position without a scale.

        Returns
        -------
        PointingHint or None
            J2000 position of the frame's centre, and its scale; None where nothing was found.
        """
        ...
