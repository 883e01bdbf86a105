"""Which frames a task reads; what tasks side by side read is kept in memory from the first of them to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, TypeVar

from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.pipelines.patches.jobs import FrameVisit
from zemosaic.settings import WarpSettings
from zemosaic.stages.warp.warp import source_box

__all__ = ["Reading", "keep_frames"]

T = TypeVar("T")

MOST_READ = 1.4
"""How often pixels may be read by bands, each of which reads what it needs once."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a task reads.

    Attributes
    ----------
    band : Box
        The box of the grid that the task and those beside it need.
    visits : sequence of FrameVisit
        The frames, each as often as windows of it are read.
    """

    band: Box
    visits: Sequence[FrameVisit]


@contextmanager
def keep_frames(
    reader: FrameReader | None,
    readings: Mapping[T, Reading],
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
    readings : mapping
        The tasks to come and what each reads.
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
    items = {(v.item.frame.id, told.band): v.item for told in readings.values() for v in told.visits}
    boxes = {key: source_box(item.plan, key[1], warp) for key, item in items.items()}
    plans = {item.frame.id: item.plan for item in items.values()}
    whole = {frame_id: source_box(plan, plan.lattice.box, warp) for frame_id, plan in plans.items()}
    if _sum_pixels(boxes) > MOST_READ * _sum_pixels(whole):
        n_bytes = {item.frame.id: reader.bytes_kept(item.frame, whole[item.frame.id]) for item in items.values()}
        if _largest_pair(boxes, n_bytes) <= spare_bytes:
            boxes = {key: whole[key[0]] for key in boxes}

    def parts(task: T) -> list[tuple[Frame, Box]]:
        told = readings[task]
        return [(v.item.frame, boxes[v.item.frame.id, told.band]) for v in told.visits]

    with reader.expecting(chain.from_iterable(map(parts, readings)), spare_bytes) as counts:
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
