"""The planes of a tile on the disk while a survey is put together: one array file a plane, read by windows."""

from __future__ import annotations

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

    def write(self, name: str, plane: AnyArray) -> None:
        """Store a plane ``(h, w)`` or ``(c, h, w)``.

        Raises
        ------
        EnvironmentProblem
            When the disk is full or cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(self.folder / f"{name}.npy", plane, allow_pickle=False)
        except OSError as problem:
            raise EnvironmentProblem(f"cannot write a tile to {self.folder}: {problem.strerror}") from problem

    def view(self, name: str) -> PlaneView:
        """A plane whose windows are read when they are asked for."""
        return PlaneView(self.folder / f"{name}.npy")

    def read(self, name: str, box: Box) -> AnyArray:
        """A window of a plane."""
        return self.view(name)[..., *box.slices]


class PlaneView:
    """A stored plane that looks like an array; no file stays open, however many tiles there are.

    Parameters
    ----------
    path : Path
        Array file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shape: tuple[int, ...] = self._map().shape

    def _map(self) -> AnyArray:
        mapped: AnyArray = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return mapped

    def __getitem__(self, key: Any, /) -> AnyArray:
        """A window, in memory."""
        return np.array(self._map()[key])
