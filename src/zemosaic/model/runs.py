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
    if not part.any():  # most frames have none
        return np.zeros((0, 3), np.int32)
    # One row behind the other with a pixel outside of the part between them: so edges come by twos.
    height, width = part.shape
    line = np.zeros(height * (width + 1) + 1, bool)
    line[1:].reshape(height, width + 1)[:, :width] = part
    edges = np.flatnonzero(line[1:] != line[:-1])
    rows, first = np.divmod(edges[::2], width + 1)
    return np.column_stack([rows, first, edges[1::2] % (width + 1)]).astype(np.int32)


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
    for row, first, last in _runs_within(runs, box):
        weight[:, row, first:last] = 0


def map_of(runs: Runs, box: Box) -> Map:
    """Runs of pixels of a frame as a map of a window of it; rows ascend."""
    part = np.zeros(box.shape, bool)
    for row, first, last in _runs_within(runs, box):
        part[row, first:last] = True
    return part


def _runs_within(runs: Runs, box: Box) -> list[tuple[int, int, int]]:
    """What of runs lies in a window, in its pixels."""
    first, last = np.searchsorted(runs[:, 0], (box.y0, box.y1))
    if first == last:  # as in most windows
        return []
    rows, x0, x1 = runs[first:last].T
    x0, x1 = np.maximum(x0, box.x0) - box.x0, np.minimum(x1, box.x1) - box.x0
    inside = x0 < x1
    columns = (each[inside].tolist() for each in (rows - box.y0, x0, x1))
    return list(zip(*columns, strict=True))
