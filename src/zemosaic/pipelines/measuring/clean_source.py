"""Pixels as the patches want them: without defective pixels of raw planes and without parts that hold no data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from zemosaic.errors import EnvironmentProblem, FrameRejected
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Measurements
from zemosaic.model.runs import drop_runs
from zemosaic.model.source import ImageSource
from zemosaic.stages.measure.hot_pixels import drop_pixels

__all__ = ["CleanSource"]

F4 = npt.NDArray[np.float32]


class CleanSource:
    """An `ImageSource` that gives weight 0 to hot and cold pixels of raw frames, and to parts that hold no data.

    Hot and cold pixels are those that stood out in the frame itself when it was measured, and those that its camera is
    known for.

    Parameters
    ----------
    source : ImageSource
        The pixels as stored; their arrays are changed.
    measured : mapping
        FrameId -> Measurements: whose defects are left out.
    defect_sigma : float
        Threshold they were found with.
    known : mapping
        Camera -> defects of its sensor, bool, shape of a frame.
    files : FrameReader, optional
        What reads the files below `source`: it keeps what tasks to come want.
    parts : mapping, optional
        FrameId -> part that does not lie where the frame lies, by other frames: it gets no weight either.
    """

    def __init__(
        self,
        source: ImageSource,
        measured: Mapping[FrameId, Measurements],
        defect_sigma: float,
        known: Mapping[str, npt.NDArray[np.bool_]],
        files: FrameReader | None = None,
        parts: Mapping[FrameId, Box] | None = None,
    ) -> None:
        self.files = files
        self._source = source
        self._sigma = defect_sigma
        self._defects = {frame_id: item.defects for frame_id, item in measured.items()}
        self._no_data = {frame_id: item.no_data for frame_id, item in measured.items()}
        self._parts = dict(sorted((parts or {}).items()))
        self._known = {camera: np.flatnonzero(map_).astype(np.int32) for camera, map_ in known.items()}

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides which pixels get no weight, beside the frames themselves."""
        return self._sigma, dict(sorted(self._known.items())), self._parts

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """See `ImageSource.read_window`. A pixel's weight is the same in any window that holds it.

        Raises
        ------
        EnvironmentProblem
            When a frame that has been measured cannot be read any more.
        """
        data, weight = self._read(frame, box)
        if frame.id in self._no_data:
            drop_runs(weight, self._no_data[frame.id], box)
        if frame.id in self._parts and not (part := self._parts[frame.id].intersect(box)).is_empty:
            weight[:, *part.relative_to(box).slices] = 0
        if frame.storage.bayer is not None:
            for pixels in (self._defects[frame.id], self._known.get(frame.header.camera)):
                if pixels is not None:
                    drop_pixels(weight[0], pixels, box, frame.shape[1])
        return data, weight

    def _read(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        try:
            return self._source.read_window(frame, box)
        except FrameRejected as problem:
            raise EnvironmentProblem(
                "frame.changed-since-measured", path=frame.storage.path, problem=problem
            ) from problem
