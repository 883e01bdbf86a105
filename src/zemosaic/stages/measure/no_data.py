"""Where an image holds no data although its pixels have values: fill values, strips that were never read out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.stages.measure.no_signal import find_no_signal

__all__ = ["Runs", "drop_runs", "find_no_data", "runs_of"]

F4 = npt.NDArray[np.float32]
Map = npt.NDArray[np.bool_]
Runs = npt.NDArray[np.int32]

SOLID_PX = 7
"""Side of a square that must hold one value throughout: chance fills none where up to `MOST_ELSEWHERE` share it."""

MOST_ELSEWHERE = 0.6
"""Share of the other pixels up to which a value may also be sky: 0.6 ** 49 is 1e-11, less than one in any frame."""

MOST_SHARE = 0.98
"""Where one value holds more of an image than this, there is no sky left to tell it from."""

RIM_PX = 2
"""Pixels round a part without data that an interpolation may have mixed with it."""

MOST_ADU = 1e20
"""No detector counts so far: such values mark missing pixels."""

LEAST_REPEATS = 9
"""Pixels that share a value before it is taken for a mark: single dead pixels are not one."""

SENTINEL_SIGMA = 20.0
"""How far below the sky a mark lies, and how far below all other values (half of it)."""

MOST_SENTINELS = 4
"""Marks looked for in one channel, lowest first."""


def find_no_data(data: F4, weight: F4, data_box: Box | None = None) -> Runs:
    """Parts of an image whose values are no measurement.

    They are: what lies beyond the part that the header calls data; exactly constant parts that reach the border; values
    beyond `MOST_ADU`; the lowest value, where many pixels share it, it lies far below the sky and nothing lies near it;
    what `find_no_signal` finds.
    All but the first are grown by `RIM_PX`. Zeros inside a noisy sky stay data.

    Parameters
    ----------
    data : ndarray, float32, shape (c, h, w)
    weight : ndarray, float32, shape (1 or c, h, w)
    data_box : Box, optional
        The part that is no overscan, by the header.

    Returns
    -------
    ndarray, int32, shape (n, 3)
        Row, first column and column past the last, of each run of pixels; empty where all is data, or nothing is.
    """
    have = np.all(weight > 0, axis=0)
    lost, overscan = np.zeros(have.shape, bool), np.zeros(have.shape, bool)
    if data_box is not None:
        overscan[:] = True
        overscan[data_box.slices] = False
        have &= ~overscan
    for channel in data:
        lost |= _beyond(channel, have)
        lost |= _constant_border(channel, have)
        lost |= _marked(channel, have & ~lost)
        lost |= find_no_signal(channel, have & ~lost)
    if np.all(lost[have]):
        return runs_of(overscan)
    if lost.any():
        overscan |= scipy.ndimage.binary_dilation(lost, np.ones((3, 3), bool), RIM_PX)
    return runs_of(overscan)


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
        See `find_no_data`; rows ascend.
    box : Box
        Where the window lies in the frame.
    """
    first, last = np.searchsorted(runs[:, 0], (box.y0, box.y1))
    if first == last:
        return
    rows, x0, x1 = runs[first:last].T
    steps = np.zeros((box.y1 - box.y0, box.x1 - box.x0 + 1), np.int32)
    for columns, step in ((x0, 1), (x1, -1)):
        np.add.at(steps, (rows - box.y0, np.clip(columns, box.x0, box.x1) - box.x0), step)
    weight[:, np.cumsum(steps, axis=1)[:, :-1] > 0] = 0


def _beyond(channel: F4, have: Map) -> Map:
    """Pixels that have a value no detector gives."""
    return np.asarray(have & (np.abs(channel) > MOST_ADU))


def _constant_border(channel: F4, have: Map) -> Map:
    """Parts of one value that reach the border."""
    lost = np.zeros(have.shape, bool)
    # Pixels without weight make no border here: what was masked says nothing of its neighbours.
    for value in _border_values(channel):
        same = have & (channel == value)
        solid = scipy.ndimage.binary_erosion(same, np.ones((SOLID_PX, SOLID_PX), bool), border_value=1)
        if not solid.any():
            continue
        labels, n = scipy.ndimage.label(scipy.ndimage.binary_dilation(solid, np.ones((3, 3), bool), SOLID_PX // 2))
        rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        touches = np.zeros(n + 1, bool)
        touches[rim] = True
        touches[0] = False
        part = touches[labels] & same
        others = have & ~part
        n_others = np.count_nonzero(others)
        if n_others < (1 - MOST_SHARE) * have.size or np.count_nonzero(same & others) > MOST_ELSEWHERE * n_others:
            continue
        lost |= part
    return lost


def _border_values(channel: F4) -> list[float]:
    """Values that stand at least `SOLID_PX` times in a row somewhere along the border."""
    values: set[float] = set()
    for line in (channel[0], channel[-1], channel[:, 0], channel[:, -1]):
        change = np.flatnonzero(np.diff(line)) + 1
        starts = np.concatenate([[0], change])
        lengths = np.diff(np.concatenate([starts, [len(line)]]))
        values.update(float(line[start]) for start in starts[lengths >= SOLID_PX])
    return sorted(values)


def _marked(channel: F4, have: Map) -> Map:
    """Pixels that share a lowest value far from all others."""
    lost = np.zeros(have.shape, bool)
    for _ in range(MOST_SENTINELS):
        values = channel[have & ~lost]
        if len(values) < LEAST_REPEATS:
            break
        lowest = values.min()
        others = values[values > lowest]
        if len(values) - len(others) < LEAST_REPEATS or not len(others):
            break
        sky = float(np.median(others[:: max(len(others) // 100_000, 1)]))
        noise = _noise(channel, have & ~lost & (channel > lowest))
        gap = float(others.min()) - float(lowest)
        if noise <= 0 or sky - lowest < SENTINEL_SIGMA * noise or gap < SENTINEL_SIGMA / 2 * noise:
            break
        lost |= have & (channel == lowest)
    return lost


def _noise(channel: F4, have: Map) -> float:
    """Noise of a sample from pixels two columns apart, which one colour of a Bayer plane shares; 0 without any."""
    rows = slice(None, None, 4)
    both = have[rows, 2:] & have[rows, :-2]
    apart = (channel[rows, 2:] - channel[rows, :-2])[both]
    return 1.4826 * float(np.median(np.abs(apart))) / np.sqrt(2) if len(apart) else 0.0
