"""Which frames a task reads; what tasks side by side read is kept in memory from the first of them to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from typing import Any, TypeVar

import numpy as np

from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.settings import WarpSettings
from zemosaic.stages.warp.warp import source_box

__all__ = ["Reach", "frames_kept"]

T = TypeVar("T")

MOST_READ = 1.4
"""How often pixels may be read by bands, each of which reads what it needs once."""


class Reach:
    """Finds the frames that reach a box of the grid.

    Parameters
    ----------
    inputs : sequence of PatchInput
    """

    def __init__(self, inputs: Sequence[PatchInput]) -> None:
        self._inputs = inputs
        boxes = [item.plan.lattice.box for item in inputs]
        self._edges = np.array([[b.y0, b.y1, b.x0, b.x1] for b in boxes]).reshape(-1, 4).T

    def __call__(self, box: Box) -> list[PatchInput]:
        """Those that some pixel of it may see, in order."""
        return [item for item in self._near(box) if not item.plan.lattice.part(box).is_empty]

    def deepest(self, boxes: Iterable[Box]) -> int:
        """The largest number of frames that reach one of the boxes."""
        deepest = 0
        for box in boxes:
            if len(self._near(box)) > deepest:
                deepest = max(deepest, len(self(box)))
        return deepest

    def _near(self, box: Box) -> list[PatchInput]:
        y0, y1, x0, x1 = self._edges
        meets = (y0 < box.y1) & (y1 > box.y0) & (x0 < box.x1) & (x1 > box.x0)
        return [self._inputs[k] for k in np.flatnonzero(meets).tolist()]


@contextmanager
def frames_kept(
    reader: FrameReader | None,
    read_by: Mapping[T, Sequence[PatchInput]],
    band_of: Callable[[T], Box],
    warp: WarpSettings,
    spare_bytes: int,
) -> Iterator[tuple[Callable[[T], None], ReadCounts]]:
    """Read what several tasks want once, as far as memory allows, while the context lasts.

    Of a frame in a plain file only what the tasks of a band read is kept, for as long as the band lasts: fresh memory
    for the rest of it would cost more than to read it with the next band. Where bands have much of the frames in common
    (they are narrow, or the frames are turned), whole frames are kept if those of two bands fit.

    Parameters
    ----------
    reader : FrameReader or None
        Reads the files, where there are any.
    read_by : mapping
        The tasks to come and the frames that each reads, as often as it reads windows of them.
    band_of : callable
        The box of the grid that a task and those beside it need.
    warp : WarpSettings
        Decide how much of a frame is read.
    spare_bytes : int
        What the tasks leave of the memory cap.

    Yields
    ------
    release : callable
        To be called with each task that has ended.
    counts : ReadCounts
        What has been read.
    """
    if reader is None:
        yield lambda task: None, ReadCounts()
        return
    bands = {task: band_of(task) for task in read_by}
    items = {(item.frame.id, bands[task]): item for task, reaching in read_by.items() for item in reaching}
    boxes = {key: source_box(item.plan, key[1], warp) for key, item in items.items()}
    plans = {item.frame.id: item.plan for item in items.values()}
    whole = {frame_id: source_box(plan, plan.lattice.box, warp) for frame_id, plan in plans.items()}
    if _sum_pixels(boxes) > MOST_READ * _sum_pixels(whole):
        n_bytes = {item.frame.id: reader.bytes_kept(item.frame, whole[item.frame.id]) for item in items.values()}
        if _largest_pair(boxes, n_bytes) <= spare_bytes:
            boxes = {key: whole[key[0]] for key in boxes}

    def parts(task: T) -> list[tuple[Frame, Box]]:
        return [(item.frame, boxes[item.frame.id, bands[task]]) for item in read_by[task]]

    with reader.expecting(chain.from_iterable(map(parts, read_by)), spare_bytes) as counts:
        yield lambda task: reader.release(parts(task)), counts


def _sum_pixels(boxes: Mapping[Any, Box]) -> int:
    return sum(box.n_pixels for box in boxes.values())


def _largest_pair(parts: Iterable[tuple[FrameId, Box]], n_bytes: Mapping[FrameId, int]) -> int:
    """The most that the frames of a band and of the next one take; parts are frames and their bands, in order."""
    bands: dict[Box, set[FrameId]] = {}
    for frame_id, band in parts:
        bands.setdefault(band, set()).add(frame_id)
    pairs = pairwise([*bands.values(), set()])
    return max((sum(n_bytes[frame_id] for frame_id in here | there) for here, there in pairs), default=0)
