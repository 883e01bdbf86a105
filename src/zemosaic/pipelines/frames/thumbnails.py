"""Small pictures of the frames, for a program that lets people choose among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from zemosaic.io.write.picture_file import write_picture
from zemosaic.model.box import Box
from zemosaic.model.frame import FrameId
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.picture.stretch import reduce_blocks, stretch_by_noise

__all__ = ["draw_thumbnails"]

LONGEST_PX = 400
"""Longest side: stars that are trailed and clouds are seen, and 20,000 pictures take some 500 MB."""

BYTES_PER_VALUE = 20
"""A frame's data and weights, the file's own bytes, and data with its holes marked."""


def draw_thumbnails(frames: Mapping[FrameId, MeasuredFrame], source: ImageSource, run: Run) -> None:
    """Write a JPEG file of each frame that has none yet, named by its FrameId; only where another program watches.

    Parameters
    ----------
    frames : mapping
        FrameId -> frame and what was measured on it.
    source : ImageSource
    run : Run
        The pictures lie in ``.zemosaic/preview/frames`` of its output folder.
    """
    if not run.options.watched or run.store is None:
        return
    folder = run.store.root.parent / "preview" / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.stem for path in folder.glob("*.jpg")}
    wanted = [item for frame_id, item in sorted(frames.items()) if frame_id not in there]
    if wanted:
        _draw_all(wanted, source, folder, run)


def _draw_all(wanted: list[MeasuredFrame], source: ImageSource, folder: Path, run: Run) -> None:
    def draw(item: MeasuredFrame) -> None:
        run.cancel.check()
        _draw(item, source, folder / f"{item.frame.id}.jpg")

    advance = run.log.start("thumbnails", len(wanted))
    task_bytes = BYTES_PER_VALUE * max(item.frame.n_values for item in wanted)
    done: Iterable[object] = run.machine.executor_within(task_bytes).run(draw, wanted)
    for count, _ in enumerate(done, 1):
        advance(count)
    run.log.end("thumbnails")


def _draw(item: MeasuredFrame, source: ImageSource, path: Path) -> None:
    frame = item.frame
    data, weight = source.read_window(frame, Box.of_shape(frame.shape))
    holed = np.where(weight > 0, data, np.float32(np.nan))
    # Of a colour pattern whole cells are taken together: their mean is grey.
    cell = 2 if frame.storage.bayer is not None else 1
    means, covered = reduce_blocks(holed, cell * max(-(-max(frame.shape) // (cell * LONGEST_PX)), 1))
    picture = stretch_by_noise(means, covered)
    write_picture(path, picture if len(means) > 1 else picture[..., 0])
