"""Parts of a frame as runs of pixels: what of many frames is kept for long, and cut to a window when it is needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box

__all__ = ["Runs", "drop_runs", "map_of", "runs_of"]

F4 = npt.NDArray[np.float32]
Map = npt.NDArray[np.bool_]
Runs = npt.NDArray[np.int32]
"""Row, first column and column past the last of each run, shape (n, 3); rows ascend."""


def runs_of(part: Map) -> Runs:
    """The rows of a map as runs: row, first column and column past the last of each, shape (n, 3)."""
    edges = np.diff(np.pad(part, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, first = np.nonzero(edges == 1)
    last = np.nonzero(edges == -1)[1]
    return np.column_stack([rows, first, last]).astype(np.int32)


def drop_runs(weight: F4, runs: Runs, box: Box) -> None:
    """Give weight 0 to runs of pixels of a frame in a window of it.

    Parameters
    ----------
    weight : ndarray, float32, shape (c, h, w) of the box
        Changed.
    runs : ndarray, int32, shape (n, 3)
        See `Runs`.
    box : Box
        Where the window lies in the frame.
    """
    if (part := map_of(runs, box)).any():
        weight[:, part] = 0


def map_of(runs: Runs, box: Box) -> Map:
    """Runs of pixels of a frame as a map of a window of it; rows ascend."""
    first, last = np.searchsorted(runs[:, 0], (box.y0, box.y1))
    rows, x0, x1 = runs[first:last].T
    steps = np.zeros((box.y1 - box.y0, box.x1 - box.x0 + 1), np.int32)
    for columns, step in ((x0, 1), (x1, -1)):
        np.add.at(steps, (rows - box.y0, np.clip(columns, box.x0, box.x1) - box.x0), step)
    return np.asarray(np.cumsum(steps, axis=1)[:, :-1] > 0)
