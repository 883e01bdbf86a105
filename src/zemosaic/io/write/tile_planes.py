"""The planes of a tile on the disk while a mosaic is put together: one array file a plane, read by windows."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.errors import EnvironmentProblem
from zemosaic.model.box import Box

__all__ = ["PlaneView", "TilePlanes"]

AnyArray = npt.NDArray[Any]


class TilePlanes:
    """Planes of one tile in a folder of their own.

    Parameters
    ----------
    folder : Path
        Made when the first plane is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._views: dict[str, PlaneView] = {}

    def write(self, name: str, plane: AnyArray) -> int:
        """Store a plane ``(h, w)`` or ``(c, h, w)``; the CRC-32 of its values, for `is_whole`.

        Raises
        ------
        EnvironmentProblem
            When the disk is full or cannot be written.
        """
        plane = np.ascontiguousarray(plane)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(self._path(name), plane, allow_pickle=False)
        except OSError as problem:
            raise EnvironmentProblem(
                "output.cannot-write-tile", folder=self.folder, problem=problem.strerror
            ) from problem
        return zlib.crc32(plane.data)

    def is_whole(self, checksums: Mapping[str, int]) -> bool:
        """Whether all planes named are there with the values that they were written with."""
        try:
            return all(
                zlib.crc32(np.load(self._path(name), mmap_mode="r", allow_pickle=False).data) == checksum
                for name, checksum in checksums.items()
            )
        except (OSError, ValueError, EOFError):
            return False

    def view(self, name: str) -> PlaneView:
        """A plane whose windows are read when they are asked for."""
        if name not in self._views:
            self._views[name] = PlaneView(self._path(name))
        return self._views[name]

    def read(self, name: str, box: Box) -> AnyArray:
        """A window of a plane."""
        return self.view(name)[..., *box.slices]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


class PlaneView:
    """A stored plane that looks like an array; no file stays open, however many tiles there are.

    Parameters
    ----------
    path : Path
        Array file.
    """

    def __init__(self, path: Path) -> None:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        self._path, self._dtype, self._offset = path, stored.dtype, int(stored.offset)
        self.shape: tuple[int, ...] = stored.shape

    def __getitem__(self, key: Any, /) -> AnyArray:
        """A window, in memory."""
        return np.array(np.memmap(self._path, self._dtype, "r", self._offset, self.shape)[key])
