"""Where an image holds no data although its pixels have values: fill values, strips that were never read out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.measure.parts import grow_squares, hold_border_parts, keep_squares, king_steps
from zemosaic.kernels.measure.repeats import find_lowest
from zemosaic.model.box import Box
from zemosaic.model.runs import Runs, runs_of
from zemosaic.stages.measure.no_signal import find_no_signal
from zemosaic.stages.numeric.maps import grow_map_squarely

__all__ = ["find_no_data", "find_outside"]

F4 = npt.NDArray[np.float32]
Map = npt.NDArray[np.bool_]

SOLID_PX = 7
"""Side of a square that must hold one value throughout: chance fills none where up to `MOST_ELSEWHERE` share it."""

MOST_ELSEWHERE = 0.6
"""Share of the other pixels up to which a value may also be sky: 0.6 ** 49 is 1e-11, less than one in any frame."""

MOST_SHARE = 0.98
"""Where one value holds more of an image than this, there is no sky left to tell it from."""

RIM_PX = 2
"""Pixels round a part without data that an interpolation may have mixed with it."""

MOST_MIXED_PX = 4
"""Rings round a part that is empty in the file that are looked at one by one: as far as Lanczos kernels mix."""

REFERENCE_PX = 6, 9
"""Rings whose level they are compared with: they count as mixed where they are off by more than a sample's noise."""

LEAST_MIXED = 0.05
"""And by more than this share of the level: a nebula at the border differs by 2 %."""

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
    what `find_no_signal` finds; the rim of empty parts, as far as it is mixed with what they held. All but the first
    and the last are grown by `RIM_PX`. Zeros inside a noisy sky stay data.

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
    have = _in_all(weight > 0)
    lost, overscan = np.zeros(have.shape, bool), np.zeros(have.shape, bool)
    # Where no pixel is empty in the file, what is found to be so may have been interpolated over.
    empty = lost if have.all() else _solid_at_border(~have, SOLID_PX)
    if data_box is not None:
        overscan[:] = True
        overscan[data_box.slices] = False
        have &= ~overscan
    left = have
    for channel in data:
        for find, of_all in ((_beyond, True), (_constant_border, True), (_marked, False), (find_no_signal, False)):
            part = find(channel, have if of_all else left)
            if part is not None and part.any():
                lost |= part
                left = have & ~lost
    if not left.any():
        return runs_of(overscan)
    if empty.any():
        overscan |= _mixed_rim(data, left, empty)
    if lost.any():
        overscan |= grow_map_squarely(lost, RIM_PX)
    return runs_of(overscan)


def find_outside(weight: F4, box: Box) -> Runs:
    """Parts of a frame's box that lie beyond its footprint: without weight up to the border, as round turned frames.

    Parameters
    ----------
    weight : ndarray, float32, shape (1 or c, h, w)
    box : Box
        Bounding box of the pixels with weight.
    """
    if weight.min() > 0:  # as of most frames: told much sooner than a map is made
        return runs_of(np.zeros((0, 0), bool))
    empty = _in_all(weight == 0)
    within = np.zeros(empty.shape, bool)
    if empty[box.slices].any():
        within[box.slices] = _solid_at_border(empty, SOLID_PX)[box.slices]
    return runs_of(within)


def _in_all(channels: Map) -> Map:
    """Where a map of channels is true in all; of one it is that one, which numpy would copy slowly."""
    return np.asarray(channels[0] if len(channels) == 1 else np.all(channels, axis=0))


def _beyond(channel: F4, have: Map) -> Map | None:
    """Pixels that have a value no detector gives; None for none."""
    if max(channel.max(), -channel.min()) <= MOST_ADU:
        return None
    return np.asarray(have & (np.abs(channel) > MOST_ADU))


def _constant_border(channel: F4, have: Map) -> Map | None:
    """Parts of one value that reach the border; None for none."""
    lost: Map | None = None
    # Pixels without weight make no border here: what was masked says nothing of its neighbours.
    for value in _border_values(channel):
        same = have & (channel == value)
        part = _solid_at_border(same)
        if not part.any():
            continue
        others = have & ~part
        n_others = np.count_nonzero(others)
        if n_others < (1 - MOST_SHARE) * have.size or np.count_nonzero(same & others) > MOST_ELSEWHERE * n_others:
            continue
        lost = part if lost is None else lost | part
    return lost


def _solid_at_border(marked: Map, reach_px: int = SOLID_PX // 2) -> Map:
    """Parts of a map that reach the border and are nowhere narrower than `SOLID_PX`.

    Where `reach_px` is more than half of that, the steps of their slanted edges count with them.
    """
    solid, grown = np.empty((2, *marked.shape), np.uint8)
    if not marked.any() or not keep_squares(marked.view(np.uint8), SOLID_PX // 2, solid):
        return np.zeros_like(marked)
    grow_squares(solid, reach_px, grown)
    hold_border_parts(grown)
    return np.asarray(grown.view(bool) & marked)


def _mixed_rim(data: F4, have: Map, empty: Map) -> Map:
    """Pixels beside empty parts whose level is not that of those behind them: an interpolation mixed them with 0."""
    from_empty = np.empty(empty.shape, np.uint8)
    king_steps(empty.view(np.uint8), REFERENCE_PX[1], from_empty)
    about = np.flatnonzero(have & (from_empty > 0) & (from_empty <= REFERENCE_PX[1]))
    ring = from_empty.ravel()[about]
    n_mixed = max(_count_mixed(channel.ravel()[about], ring, channel, have) for channel in data)
    return np.asarray(have & (from_empty <= n_mixed))


def _count_mixed(values: F4, ring: npt.NDArray[np.uint8], channel: F4, have: Map) -> int:
    """Rings that hold mixed pixels, from the values of those pixels of a channel that lie in rings, and their rings."""

    def level(first: int, last: int) -> float:
        """Of the rings after the first up to the last."""
        some = values[(ring > first) & (ring <= last)]
        return float(np.median(some)) if len(some) else np.nan

    reference = level(*REFERENCE_PX)
    away = {k: abs(level(k - 1, k) - reference) for k in range(1, MOST_MIXED_PX + 1)}
    off = {k: far for k, far in away.items() if far > LEAST_MIXED * abs(reference)}
    noise = _noise(channel, have) if off else 0.0
    # Of the ring behind the last one that is off, the pixels nearest to the rim are.
    return max((k + 1 for k, far in off.items() if far > noise), default=0)


def _border_values(channel: F4) -> list[float]:
    """Values that stand at least `SOLID_PX` times in a row somewhere along the border."""
    values: set[float] = set()
    for line in (channel[0], channel[-1], channel[:, 0], channel[:, -1]):
        change = np.flatnonzero(np.diff(line)) + 1
        starts = np.concatenate([[0], change])
        lengths = np.diff(np.concatenate([starts, [len(line)]]))
        values.update(float(line[start]) for start in starts[lengths >= SOLID_PX])
    return sorted(values)


def _marked(channel: F4, have: Map) -> Map | None:
    """Pixels that share a lowest value far from all others; None for none."""
    lost: Map | None = None
    left = have
    for _ in range(MOST_SENTINELS):
        lowest, next_above, n = find_lowest(channel, left)
        if n < LEAST_REPEATS or next_above == np.inf:
            break
        noise = _noise(channel, left, lowest)
        gap = float(next_above) - float(lowest)
        if noise <= 0 or gap < SENTINEL_SIGMA / 2 * noise:  # asked first: mostly it ends here
            break
        left = left & (channel > lowest)
        others = channel[left]
        sky = float(np.median(others[:: max(len(others) // 100_000, 1)]))
        if sky - lowest < SENTINEL_SIGMA * noise:
            break
        part = have & (channel == lowest)
        lost = part if lost is None else lost | part
    return lost


def _noise(channel: F4, have: Map, lowest: float = -np.inf) -> float:
    """Noise of a sample from pixels two columns apart, which one colour of a Bayer plane shares; 0 without any.

    Only pixels above the lowest value tell.
    """
    some, there = channel[::4], have[::4] & (channel[::4] > lowest)
    apart = (some[:, 2:] - some[:, :-2])[there[:, 2:] & there[:, :-2]]
    return 1.4826 * float(np.median(np.abs(apart))) / np.sqrt(2) if len(apart) else 0.0
