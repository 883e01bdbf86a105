"""A mosaic that an earlier run has finished, read a box at a time."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import open_fits, walk_hdus
from zemosaic.model.box import Box

__all__ = ["FinishedMosaic"]

_DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", -32: ">f4"}


@dataclass(frozen=True, slots=True)
class FinishedMosaic:
    """Where the planes of a mosaic file lie.

    Attributes
    ----------
    path : Path
    planes : dict of str to (offset, dtype, shape)
        By EXTNAME; shapes are ``(c, height, width)``.
    """

    path: Path
    planes: dict[str, tuple[int, np.dtype[Any], tuple[int, int, int]]]

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """The mosaic of a path; None when there is no such file, or it is none."""
        planes: dict[str, tuple[int, np.dtype[Any], tuple[int, int, int]]] = {}
        try:
            with open_fits(str(path)) as source:
                for hdu in walk_hdus(source):
                    n_channels, height, width = (1, *hdu.axes) if len(hdu.axes) == 2 else hdu.axes
                    dtype = np.dtype(_DTYPES[hdu.bitpix])
                    planes[hdu.cards.text("EXTNAME")] = (hdu.data_offset, dtype, (n_channels, height, width))
        except (OSError, EOFError, zlib.error, KeyError, ValueError, FrameRejected):
            return None
        return cls(path, planes)

    def read(self, name: str, box: Box) -> npt.NDArray[np.generic] | None:
        """A box of a plane ``(c, h, w)`` in native byte order; None where the file does not hold it."""
        if name not in self.planes:
            return None
        offset, dtype, shape = self.planes[name]
        if not Box.of_shape(shape[1:]).contains(box):
            return None
        try:
            stored = np.memmap(self.path, dtype, "r", offset, shape)
        except (OSError, ValueError):
            return None
        return np.array(stored[:, *box.slices], dtype.newbyteorder("="))
