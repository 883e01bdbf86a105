"""Pixels less their dark, over their flat, in every window that is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.source import ImageSource
from zemosaic.stages.raw.calibrate import noise_variance
from zemosaic.stages.raw.window import calibrate_window

__all__ = ["CalibratedSource", "Correction"]

F4 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SAMPLE_ROWS = 64
"""Rows of a frame's middle that tell the noise of its sky."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What is done to the pixels of a frame; each array of the frame's shape, or None.

    Attributes
    ----------
    dark, flat : ndarray, float32, or None
        Subtracted; divided by.
    bad : ndarray, bool, or None
        Pixels that get weight 0.
    read_variance : float
        Variance of read and dark noise; 0 where unknown.
    """

    dark: F4 | None = None
    flat: F4 | None = None
    bad: Mask | None = None
    read_variance: float = 0.0


class CalibratedSource:
    """An `ImageSource` that gives ``(raw - dark) / flat`` with the weight that follows.

    Parameters
    ----------
    source : ImageSource
        The pixels as stored.
    corrections : mapping
        `Decided.calibration` -> `Correction`; frames without one pass as they are.
    """

    def __init__(self, source: ImageSource, corrections: Mapping[str, Correction]) -> None:
        self._source = source
        self._corrections = corrections
        self._shares: dict[FrameId, float] = {}

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """See `ImageSource.read_window`."""
        data, weight = self._source.read_window(frame, box)
        window = box, data, weight
        correction = self._corrections.get(frame.decided.calibration)
        if correction is None:
            return data, weight
        part = box.slices
        clean, clean_weight = calibrate_window(
            data[0],
            weight[0],
            dark=None if correction.dark is None else correction.dark[part],
            flat=None if correction.flat is None else correction.flat[part],
            bad=None if correction.bad is None else correction.bad[part],
            read_share=0.0 if correction.flat is None else self._read_share(frame, correction.read_variance, window),
            saturation_adu=np.inf if frame.decided.saturation_adu is None else frame.decided.saturation_adu,
        )
        return clean[None], clean_weight[None]

    def _read_share(self, frame: Frame, read_variance: float, window: tuple[Box, F4, F4]) -> float:
        """Share of read and dark noise in the noise of the frame's sky, from the rows in its middle.

        They are read where the window at hand does not hold them.
        """
        if read_variance == 0:
            return 0.0
        share = self._shares.get(frame.id)
        if share is None:
            middle = Box.of_shape(frame.shape)
            y0 = max((middle.height - SAMPLE_ROWS) // 2, 0)
            rows = Box(y0, min(y0 + SAMPLE_ROWS, middle.y1), 0, middle.x1)
            box, data, weight = window
            if box.contains(rows):
                at = rows.relative_to(box).slices
                data, weight = data[:, *at], weight[:, *at]
            else:
                data, weight = self._source.read_window(frame, rows)
            both = (weight[0, :, 2:] > 0) & (weight[0, :, :-2] > 0)
            difference = (data[0, :, 2:] - data[0, :, :-2])[both]
            sky = noise_variance(difference) if difference.size else 0.0
            # Two threads may both come here; they find the same.
            share = self._shares[frame.id] = min(read_variance / sky, 1.0) if sky > 0 else 1.0
        return share
