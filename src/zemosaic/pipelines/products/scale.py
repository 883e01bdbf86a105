"""One scale for all values of a mosaic, for files whose values go from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.pipelines.products.folder import FolderMosaic
from zemosaic.pipelines.run.context import Run

__all__ = ["UnitScale", "find_scale"]


@dataclass(frozen=True, slots=True)
class UnitScale:
    """A linear scale common to all channels: ``value = span * unit + zero``, with `unit` from 0 to 1.

    Attributes
    ----------
    zero : float
        The least value.
    span : float
        By how much the greatest is above it.
    """

    zero: float
    span: float

    def apply(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Values from 0 to 1; 0 where they are NaN. In float64, for `zero` may be much larger than `span`."""
        return np.nan_to_num((values.astype(np.float64) - self.zero) / self.span, nan=0.0)


def find_scale(mosaic: FolderMosaic, run: Run) -> UnitScale:
    """From the least to the greatest value of the science image; ``(0, 1)`` where it has none."""
    least, greatest = np.inf, -np.inf
    for box in mosaic.bands():
        run.cancel.check()
        values = mosaic.read("DATA", box)
        known = np.isfinite(values)
        least = min(least, float(values.min(initial=np.inf, where=known)))
        greatest = max(greatest, float(values.max(initial=-np.inf, where=known)))
    if least > greatest:
        return UnitScale(0.0, 1.0)
    return UnitScale(least, greatest - least or 1.0)
