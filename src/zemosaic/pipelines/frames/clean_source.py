"""Pixels as the patches want them: raw planes without their defective pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from zemosaic.errors import EnvironmentProblem, FrameRejected
from zemosaic.kernels.hot_pixels import BORDER
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Measurements
from zemosaic.model.source import ImageSource
from zemosaic.stages.hot_pixels import mask_defects
from zemosaic.stages.measure_raw import phase_noise

__all__ = ["CleanSource"]

F4 = npt.NDArray[np.float32]


class CleanSource:
    """An `ImageSource` that gives hot and cold pixels of raw frames weight 0.

    They are those that stand out in the frame itself, and those that its camera is known for.

    Parameters
    ----------
    source : ImageSource
        The pixels as stored.
    measured : mapping
        FrameId -> Measurements: whose noise decides what stands out.
    defect_sigma : float
        Threshold in sigma; 0 leaves all pixels.
    known : mapping
        Camera -> defects of its sensor, bool, shape of a frame.
    """

    def __init__(
        self,
        source: ImageSource,
        measured: Mapping[FrameId, Measurements],
        defect_sigma: float,
        known: Mapping[str, npt.NDArray[np.bool_]],
    ) -> None:
        self._source = source
        self._measured = measured
        self._sigma = defect_sigma
        self._known = known

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides which pixels get no weight, beside the frames and their noise."""
        return self._sigma, dict(sorted(self._known.items()))

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """See `ImageSource.read_window`. A pixel's weight is the same in any window that holds it.

        Raises
        ------
        EnvironmentProblem
            When a frame that has been measured cannot be read any more.
        """
        if frame.bayer is None or self._sigma == 0:
            return self._read(frame, box)
        wide = box.expand(BORDER).intersect(Box.of_shape(frame.shape))
        data, weight = self._read(frame, wide)
        noise = phase_noise(self._measured[frame.id].noise, frame.bayer)
        defects = self._known.get(frame.camera)
        known = None if defects is None else defects[wide.slices]
        clean, _ = mask_defects(data[0], weight[0], noise, origin=(wide.y0, wide.x0), known=known, n_sigma=self._sigma)
        inner = box.relative_to(wide).slices
        return np.ascontiguousarray(data[:, *inner]), np.ascontiguousarray(clean[inner][None])

    def _read(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        try:
            return self._source.read_window(frame, box)
        except FrameRejected as problem:
            raise EnvironmentProblem(
                f"{frame.path} was measured, but now {problem}; bring it back, or run the same command again to go on "
                "without it",
                path=frame.path,
            ) from problem
