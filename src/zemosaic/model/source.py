"""Where pixels come from: files, or arrays in memory, behind one protocol."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.model.frame import Frame

__all__ = ["ImageSource"]


class ImageSource(Protocol):
    """Gives the pixels of frames, a window at a time. Safe to call from several threads."""

    def read_window(self, frame: Frame, box: Box) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Pixels of a window of a frame.

        Parameters
        ----------
        frame : Frame
            The frame; a Bayer frame gives its raw plane, one channel.
        box : Box
            A box of the frame's own pixels, not empty, inside ``(0, 0) .. frame.shape``.

        Returns
        -------
        data : ndarray, shape (c, height, width), float32
            Physical values in the machine's byte order, finite everywhere, 0 where the weight is 0.
        weight : ndarray, same shape, float32
            Relative inverse variance, >= 0: 1 for an ordinary pixel, 0 where there is no data.

        Raises
        ------
        FrameRejected
            When the pixels cannot be read, with the reason in one line.
        """
        ...
