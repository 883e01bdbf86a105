"""Star catalogues as values: a table of stars, and what a solver may ask of a catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Catalogue", "CatalogueStars"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CatalogueStars:
    """Stars with known positions, brightest first.

    Attributes
    ----------
    ra_deg, dec_deg : ndarray, shape (n,)
        ICRS position, degrees.
    mag : ndarray, shape (n,)
        Magnitude in the catalogue's own band; only its order matters to a solver.
    error_arcsec : float
        One-sigma error of one coordinate at the epoch of today's frames: the catalogue's own error
        and, where it knows no proper motions, what those have added since.
    """

    ra_deg: Array
    dec_deg: Array
    mag: Array
    error_arcsec: float = 0.3

    def __post_init__(self) -> None:
        if not len(self.ra_deg) == len(self.dec_deg) == len(self.mag):
            raise ValueError(f"columns of different lengths: {len(self.ra_deg)}, {len(self.dec_deg)}, {len(self.mag)}")

    def __len__(self) -> int:
        return len(self.ra_deg)


class Catalogue(Protocol):
    """Whatever can list the stars round a place on the sky.

    The packaged list, a deeper file or an online service all fit behind it.
    """

    @property
    def name(self) -> str:
        """Name for reports."""
        ...

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> CatalogueStars:
        """All stars within `radius_deg` of an ICRS position, brightest first."""
        ...
