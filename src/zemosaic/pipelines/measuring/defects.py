"""Hot and cold pixels that all raw frames of a camera have in common, found while the frames are measured."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from zemosaic.model.frame import Frame, FrameId
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.settings import Settings
from zemosaic.stages.measure.hot_pixels import LEAST_FRAMES, DefectCounter, Residuals

__all__ = ["DefectWatch"]

Map = npt.NDArray[np.bool_]

MOST_FRAMES = 100
"""More frames of a camera find no fainter defect that matters: these, evenly spread, show 0.7 sigma of a frame."""


class DefectWatch:
    """Defect maps of all cameras: from the store, or counted as raw frames are measured, in any order.

    Holds four bytes a pixel for each camera whose map is not stored. Safe to feed from several workers.

    Parameters
    ----------
    frames : sequence of Frame
        All frames of the run.
    settings : Settings
    run : Run
    """

    def __init__(self, frames: Sequence[Frame], settings: Settings, run: Run) -> None:
        self._store = run.store
        self._sigma = settings.input.defect_sigma
        self._lock = threading.Lock()
        self._maps: dict[str, Map] = {}
        self._keys: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._counters: dict[str, DefectCounter] = {}
        self._asked: set[FrameId] = set()
        raw = [frame for frame in frames if frame.storage.bayer is not None and self._sigma > 0]
        for camera in sorted({frame.header.camera for frame in raw}):
            group = [frame for frame in raw if frame.header.camera == camera]
            if len(group) < LEAST_FRAMES:
                continue
            asked = sorted(group, key=lambda frame: frame.id)[:: -(-len(group) // MOST_FRAMES)]
            key = make_key("defects", asked, self._sigma, settings.measure)
            self._last[camera] = make_key("defects", camera, group[0].shape, self._sigma, settings.measure)
            stored = None
            if run.store is not None:
                # Where frames are added that shall leave others as they are, the sensor is what it was.
                kept = run.store.get(self._last[camera]) if run.options.tolerance else None
                stored = run.store.get(key) if kept is None else kept
            if stored is not None:
                self._maps[camera] = stored
            else:
                self._keys[camera], self._counters[camera] = key, DefectCounter(group[0].shape)
                self._asked |= {frame.id for frame in asked}

    def wants(self, frame: Frame) -> bool:
        """Whether a frame's residuals are still to be counted."""
        return frame.id in self._asked

    def add(self, frame: Frame, residuals: Residuals) -> None:
        """Count the residuals of a frame that is wanted."""
        with self._lock:
            self._counters[frame.header.camera].add(residuals)
            self._asked.discard(frame.id)

    def maps(self) -> Mapping[str, Map]:
        """Defects by camera, each the shape of its sensor; what was counted is stored."""
        for camera, counter in self._counters.items():
            self._maps[camera] = counter.defects(self._sigma)
            if self._store is not None:
                self._store.put(self._keys[camera], self._maps[camera])
        self._counters.clear()
        if self._store is not None:
            for camera, key in self._last.items():
                noted = self._store.get(key)
                if noted is None or not np.array_equal(noted, self._maps[camera]):
                    self._store.put(key, self._maps[camera])
        return self._maps
