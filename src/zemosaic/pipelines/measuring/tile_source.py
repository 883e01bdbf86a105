"""Pixels of stacks that registering has left black at the rim."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.source import ImageSource

__all__ = ["ZERO_IS_EMPTY", "TileSource"]

F4 = npt.NDArray[np.float32]

ZERO_IS_EMPTY = "zero is empty"
"""As `Frame.calibration`: the tile has no map of its weight, so pixels that are 0 in all channels hold nothing."""


class TileSource:
    """An `ImageSource` of stacks: what registering has left black round a tile without a weight map gets weight 0.

    Parameters
    ----------
    source : ImageSource
        The pixels as stored; their weights are changed.
    """

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """See `ImageSource.read_window`."""
        data, weight = self._source.read_window(frame, box)
        if frame.calibration == ZERO_IS_EMPTY:
            weight *= data.any(axis=0)
        return data, weight
