"""Patches side by side, gathered until they can be written in long rows: a system call a short row costs more than the
row itself, and threads wait for each other at each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.mosaic_file import Plane
from zemosaic.model.box import Box
from zemosaic.pipelines.patches.planes import PlaneSink

__all__ = ["Strips", "gather_strips", "strip_bytes"]

Note = Callable[[str, Box, npt.NDArray[Any]], None]

STRIP_BYTES = 64 << 20
"""Planes gathered at most, unless one patch has more: whole rows of most mosaics; parts of rows gain much less.
A killed run makes no more than such a strip again."""


@dataclass(slots=True)
class _Strip:
    """Neighbours in a row of patches: how many are yet to come, and those that have ended, with what follows."""

    box: Box
    n_boxes: int
    n_to_come: int
    planes: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    ended: list[tuple[Box, Callable[[], None]]] = field(default_factory=list)


class Strips:
    """Takes planes of patches and hands them on a strip at a time. Safe for disjoint boxes from several threads.

    Parameters
    ----------
    sink : PlaneSink
        Takes the strips.
    planes : sequence of Plane
        What is written of each patch.
    boxes : sequence of Box
        The patches to come, row by row: what each owns of the grid.
    note : callable, optional
        Shown each plane of a patch: its name, box and values.
    """

    def __init__(
        self, sink: PlaneSink, planes: Sequence[Plane], boxes: Sequence[Box], note: Note | None = None
    ) -> None:
        self._sink, self._note, self._planes = sink, note, {plane.name: plane for plane in planes}
        self._lock = threading.Lock()
        self._idle: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self._planes}
        self._strips: dict[Box, _Strip] = {}
        for row in _cut_rows(boxes, _bytes_a_pixel(planes)):
            whole = Box(row[0].y0, row[0].y1, row[0].x0, row[-1].x1)
            self._strips.update(dict.fromkeys(row, _Strip(whole, len(row), len(row))))

    def write(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
        """Take a plane of a patch; see `PlaneSink.write`."""
        strip, plane = self._strips[box], self._planes[name]
        with self._lock:
            if name not in strip.planes:
                strip.planes[name] = self._idle[name].pop() if self._idle[name] else self._make_array(plane)
        _shaped(strip.planes[name], strip.box)[:, *box.relative_to(strip.box).slices] = values
        if self._note is not None:
            self._note(name, box, values)

    def _make_array(self, plane: Plane) -> npt.NDArray[Any]:
        """Memory for a plane of any strip; strips take turns with it: fresh pages cost more than whole rows save."""
        most = max(strip.box.n_pixels for strip in self._strips.values())
        return np.empty((plane.n_channels, most), plane.dtype)

    def end(self, box: Box, then: Callable[[], None]) -> None:
        """Say that all planes of a patch were given; `then` is called as soon as they have been handed on."""
        self._count(box, [(box, then)])

    def skip(self, box: Box) -> None:
        """Say that a patch does not come."""
        self._count(box, [])

    def _count(self, box: Box, ended: Sequence[tuple[Box, Callable[[], None]]]) -> None:
        strip = self._strips[box]
        with self._lock:
            strip.ended += ended
            strip.n_to_come -= 1
            is_last = strip.n_to_come == 0
        if is_last:
            self._hand_on(strip)

    def hand_on_rest(self) -> None:
        """Hand on the patches that have ended of strips that no more are coming to."""
        for strip in {id(strip): strip for strip in self._strips.values()}.values():
            self._hand_on(strip)

    def _hand_on(self, strip: _Strip) -> None:
        ended, planes = strip.ended, strip.planes
        strip.ended, strip.planes = [], {}
        boxes = [strip.box] if len(ended) == strip.n_boxes else [box for box, _ in ended]
        for box in boxes:
            for name, values in planes.items():
                self._sink.write(name, box, _shaped(values, strip.box)[:, *box.relative_to(strip.box).slices])
        with self._lock:
            for name, values in planes.items():
                self._idle[name].append(values)
        for _, then in ended:
            then()


def _shaped(values: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """The first pixels of arrays ``(c, n)`` as planes of a box; a view."""
    return values[:, : box.n_pixels].reshape(len(values), *box.shape)


@contextmanager
def gather_strips(
    sink: PlaneSink, planes: Sequence[Plane], boxes: Sequence[Box], note: Note | None = None
) -> Iterator[Strips]:
    """`Strips` as long as the context lasts; when it is left early, the patches that have ended are handed on."""
    strips = Strips(sink, planes, boxes, note)
    try:
        yield strips
    finally:
        strips.hand_on_rest()


def strip_bytes(planes: Sequence[Plane], size: int, width: int) -> int:
    """Bytes of a strip of patches of `size` pixels on a grid of `width` pixels."""
    a_row = size * _bytes_a_pixel(planes)
    return a_row * min(max(STRIP_BYTES // a_row, size), width)


def _bytes_a_pixel(planes: Sequence[Plane]) -> int:
    return sum(plane.n_channels * np.dtype(plane.dtype).itemsize for plane in planes)


def _cut_rows(boxes: Sequence[Box], bytes_a_pixel: int) -> Iterator[Sequence[Box]]:
    """Rows of patches cut into as few parts, alike in number, as have at most `STRIP_BYTES`, where a patch does."""
    for _, members in groupby(boxes, lambda box: (box.y0, box.y1)):
        row = list(members)
        n_bytes = sum(box.n_pixels for box in row) * bytes_a_pixel
        n = min(-(-n_bytes // STRIP_BYTES), len(row))
        yield from (row[len(row) * i // n : len(row) * (i + 1) // n] for i in range(n))
