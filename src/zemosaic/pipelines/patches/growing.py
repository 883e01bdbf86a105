"""The picture that grows while patches are stacked, for a program that shows a run to people."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import PatchFinished
from zemosaic.io.write.picture_file import write_picture
from zemosaic.model.box import Box
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.picture.stretch import reduce_blocks, star_white, stretch_rgba

__all__ = ["GrowingPicture", "growing_picture"]

LONGEST_PX = 1000
"""Longest side of the picture: it fills a page of a screen, and is stretched in a tenth of a second."""

EVERY_S = 2.0
"""Between two pictures: a person sees it grow, and stretching takes a twentieth of one core at most."""


class GrowingPicture:
    """Means of what has been stacked, stretched again as patches come. Safe to use from several threads.

    Parameters
    ----------
    path : Path
        PNG file; its folder is made.
    shape : (height, width)
        Of the mosaic.
    n_channels : int
    """

    def __init__(self, path: Path, shape: tuple[int, int], n_channels: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._shape = shape
        self._factor = max(1, -(-max(shape) // LONGEST_PX))
        height, width = (-(-n // self._factor) for n in shape)
        self._data = np.zeros((n_channels, height, width), np.float32)
        self._covered = np.zeros((height, width), bool)
        self._lock = threading.Lock()
        self._due_s = 0.0

    def add(self, box: Box, data: npt.NDArray[Any]) -> PatchFinished:
        """Put a finished patch into the picture.

        Parameters
        ----------
        box : Box
            Where it lies in the mosaic. Blocks of pixels are counted from its corner.
        data : ndarray, shape (c, h, w) or (h, w)
            NaN where there are no data.

        Returns
        -------
        PatchFinished
            What is told of it.
        """
        means, covered = reduce_blocks(np.asarray(data, np.float32).reshape(-1, *box.shape), self._factor)
        with self._lock:
            y0, x0 = box.y0 // self._factor, box.x0 // self._factor
            height, width = np.minimum(covered.shape, (self._covered.shape[0] - y0, self._covered.shape[1] - x0))
            place = slice(y0, y0 + height), slice(x0, x0 + width)
            self._data[:, *place] = means[:, :height, :width]
            self._covered[place] = covered[:height, :width]
            if time.monotonic() >= self._due_s:
                self._write()
                self._due_s = time.monotonic() + EVERY_S
        return PatchFinished((box.y0, box.y1, box.x0, box.x1), self._shape, str(self.path))

    def finish(self) -> None:
        """Write the picture of all patches."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        write_picture(self.path, stretch_rgba(self._data, self._covered, star_white(self._data, self._covered)))


def growing_picture(run: Run, shape: tuple[int, int], n_channels: int) -> GrowingPicture | None:
    """The picture of a run that another program watches; None for all others."""
    if not run.options.watched or run.store is None:
        return None
    return GrowingPicture(run.store.root.parent / "preview" / "growing.png", shape, n_channels)
