"""The planes of a tile on the disk while a survey is put together: one array file a plane, read by windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.errors import EnvironmentProblem
from zemosaic.model.box import Box

__all__ = ["TilePlanes"]

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

    def open(self, name: str) -> AnyArray:
        """A plane as an array mapped from its file, read only."""
        mapped: AnyArray = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return mapped

    def read(self, name: str, box: Box) -> AnyArray:
        """A window of a plane, in memory."""
        return np.array(self.open(name)[..., *box.slices])
