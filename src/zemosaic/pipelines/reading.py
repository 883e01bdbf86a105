"""Which frames a task reads; frames kept in memory from the first task that reads them to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TypeVar

import numpy as np

from zemosaic.io.read_counts import ReadCounts
from zemosaic.model.box import Box
from zemosaic.pipelines.context import Run
from zemosaic.pipelines.tasks import PatchInput
from zemosaic.settings import WarpSettings
from zemosaic.stages.warp import source_box

__all__ = ["Reach", "frames_kept"]

T = TypeVar("T")


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
    run: Run, read_by: Mapping[T, Sequence[PatchInput]], warp: WarpSettings, spare_bytes: int
) -> Iterator[tuple[Callable[[T], None], ReadCounts]]:
    """Read frames that several tasks want once, as far as memory allows, while the context lasts.

    Parameters
    ----------
    run : Run
        Its `reads` take in what was read.
    read_by : mapping
        The tasks to come and the frames that each reads, as often as it reads windows of them.
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
    reader = run.reader
    if reader is None:
        yield lambda task: None, ReadCounts()
        return
    items = list(chain.from_iterable(read_by.values()))
    plans = {item.frame.id: item.plan for item in items}
    boxes = {frame_id: source_box(plan, plan.lattice.box, warp) for frame_id, plan in plans.items()}
    with reader.expecting([(item.frame, boxes[item.frame.id]) for item in items], spare_bytes) as counts:
        yield lambda task: reader.release(item.frame for item in read_by[task]), counts
    run.reads.update(counts)
