"""Master darks, biases and flats: stacked of groups of frames, each once, and kept in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.engine.store import remember
from zemosaic.errors import FrameRejected, SettingError
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameKind
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.stages.raw.calibrate import (
    EXPOSURE_TOLERANCE,
    choose_master,
    combine_flats,
    combine_frames,
    flat_levels,
    group_for_masters,
    noise_variance,
)

__all__ = ["Master", "Masters", "exposure_ratio"]

F4 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CUBE_BYTES_PER_VALUE = 24
"""Stacking to a master: a value, its distance from the median, both sorted, and masks."""

BAND_ROWS = 256
"""Rows of a master that are made at a time, at most: there are bands enough for all workers."""


@dataclass(frozen=True, slots=True, eq=False)
class Master:
    """What a group of calibration frames comes to.

    Attributes
    ----------
    key : str
        All that it is made of.
    data : ndarray, float32, shape (h, w)
    holes : ndarray, bool, shape (h, w)
        Pixels that a frame of the group does not have.
    variance : float
        Of the noise of one of the frames, from the difference of two; 0 where unknown, and for flats.
    """

    key: str
    data: F4
    holes: Mask
    variance: float = 0.0


class Masters:
    """The masters of a run, each made when it is first asked for. What it is does not depend on who asks, or when.

    Parameters
    ----------
    found : mapping
        Kind -> calibration frames of that kind, of any camera, exposure and filter.
    source : ImageSource
        The pixels as stored.
    run : Run
        Its store keeps the masters.

    Attributes
    ----------
    heads : dict
        Kind -> a frame of each group that makes one master, which speaks for the group.
    left_out : list of LeftOut
        Frames of the groups asked for that cannot be read.
    bare_flats : set of FrameId
        Raw flats with nothing to take their pedestal off.
    """

    def __init__(self, found: Mapping[FrameKind, Sequence[Frame]], source: ImageSource, run: Run) -> None:
        self._groups = {kind: group_for_masters(frames) for kind, frames in found.items()}
        self._source = source
        self._run = run
        self._readable: dict[tuple[FrameKind, int], list[Frame]] = {}
        self._made: dict[tuple[FrameKind, int, bool], Master] = {}
        self.heads = {kind: [group[0] for group in groups] for kind, groups in self._groups.items()}
        self.left_out: list[LeftOut] = []
        self.bare_flats: set[str] = set()

    def count(self) -> Counter[FrameKind]:
        """How many masters were made, by kind."""
        return Counter(kind for kind, _, _ in self._made)

    def master(self, kind: FrameKind, k: int, *, of_colours: bool = False) -> Master:
        """The master of a group.

        Parameters
        ----------
        kind : {"dark", "bias", "flat"}
        k : int
            Number of the group in `heads`.
        of_colours : bool
            Whether it is for raw frames of a colour sensor, which a flat's own header may not tell. A flat for them is
            1 in every colour; of darks and biases there is one for all frames.

        Raises
        ------
        SettingError
            When no frame of the group can be read, or the flats are darker than their pedestal.
        """
        name = kind, k, of_colours and kind == "flat"
        if name not in self._made:
            self._made[name] = self._make_flat(k, of_colours) if kind == "flat" else self._make_pedestal(kind, k)
        return self._made[name]

    def _make_pedestal(self, kind: FrameKind, k: int) -> Master:
        """A master dark or bias."""
        group = self._read_group(kind, k)
        key = make_key("master", group)

        def make() -> Master:
            data, holes = self._stack(group, lambda cube, _: combine_frames(cube))
            variance = noise_variance(self._whole(group[0]) - self._whole(group[1])) if len(group) > 1 else 0.0
            return Master(key, data, holes, variance)

        return remember(self._run.store, key, make, Master)

    def _make_flat(self, k: int, of_colours: bool) -> Master:
        group = self._read_group("flat", k)
        pedestal = None if group[0].decided.is_master else self._pedestal_of(group)
        key = make_key("master", group, pedestal.key if pedestal else "", of_colours)
        dark = None if pedestal is None else pedestal.data

        def make() -> Master:
            levels = np.stack([flat_levels(self._whole(frame), dark, of_colours) for frame in group])

            def combine(cube: F4, box: Box) -> F4:
                return combine_flats(cube, levels, None if dark is None else dark[box.slices], (box.y0, box.x0))

            return Master(key, *self._stack(group, combine))

        try:
            return remember(self._run.store, key, make, Master)
        except ValueError as problem:
            raise SettingError("calibrate.flats-unusable", file=group[0].name, problem=problem) from problem

    def _pedestal_of(self, flats: Sequence[Frame]) -> Master | None:
        """What raw flats hold without light: a dark of their exposure time, else the bias."""
        darks = self.heads["dark"]
        dark = choose_master(flats[0], darks).index
        if dark is not None and all(exposure_ratio(flat, darks[dark]) == 1 for flat in flats):
            return self.master("dark", dark)
        bias = choose_master(flats[0], self.heads["bias"]).index
        if bias is not None:
            return self.master("bias", bias)
        self.bare_flats.update(flat.id for flat in flats)
        return None

    def _read_group(self, kind: FrameKind, k: int) -> list[Frame]:
        """The frames of a group that can be decoded; the others are announced, once."""
        if (kind, k) not in self._readable:
            self._readable[kind, k] = self._leave_out_unreadable(self._groups[kind][k])
        return self._readable[kind, k]

    def _leave_out_unreadable(self, group: Sequence[Frame]) -> list[Frame]:
        good = []
        for frame in group:
            try:
                self._source.read_window(frame, Box(0, 1, 0, frame.shape[1]))
                good.append(frame)
            except FrameRejected as problem:
                self.left_out.append(self._run.log.leave_out(frame, problem.told))
        if not good:
            raise SettingError(
                "calibrate.none-readable", n_frames=len(group), kind=group[0].decided.kind, file=group[0].name
            )
        return good

    def _whole(self, frame: Frame) -> F4:
        data, _ = self._source.read_window(frame, Box.of_shape(frame.shape))
        return data[0]

    def _stack(self, group: Sequence[Frame], combine: Callable[[F4, Box], F4]) -> tuple[F4, Mask]:
        """Combine whole frames, a band of rows at a time."""
        height, width = group[0].shape
        row_bytes = CUBE_BYTES_PER_VALUE * len(group) * width
        n_rows = int(np.clip(self._run.machine.cache_bytes // row_bytes, 1, min(BAND_ROWS, height)))
        bands = [Box(y, min(y + n_rows, height), 0, width) for y in range(0, height, n_rows)]
        data, holes = np.empty((height, width), np.float32), np.empty((height, width), bool)

        def task(box: Box) -> None:
            self._run.cancel.check()
            cube, hole = np.empty((len(group), *box.shape), np.float32), np.zeros(box.shape, bool)
            for k, frame in enumerate(group):
                values, weight = self._source.read_window(frame, box)
                cube[k] = values[0]
                hole |= weight[0] == 0
            data[box.slices], holes[box.slices] = combine(cube, box), hole

        for _ in self._run.machine.executor_for(row_bytes * n_rows).run(task, bands):
            pass
        return data, holes


def exposure_ratio(frame: Frame, dark: Frame) -> float:
    """How much longer the frame was exposed than the dark; 1 where that is within tolerance or not known."""
    if not frame.decided.exposure_s or not dark.decided.exposure_s:
        return 1.0
    ratio = frame.decided.exposure_s / dark.decided.exposure_s
    return 1.0 if abs(ratio - 1) <= EXPOSURE_TOLERANCE else ratio
