"""Write 16-bit TIFF pictures of any size, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.errors import EnvironmentProblem

__all__ = ["MAX_U16", "STRIP_ROWS", "write_tiff"]

MAX_U16 = 65535
"""White."""

STRIP_ROWS = 16
"""Rows of a strip, the piece that programs read at a time: some MB of the widest pictures."""

_CLASSIC_BYTES = 4_000_000_000
"""Classic TIFF holds 32-bit offsets; larger pictures are BigTIFF, which not every program reads."""


def write_tiff(
    path: Path, strips: Iterable[npt.NDArray[np.uint16]], shape: tuple[int, int, int], description: str
) -> None:
    """Write a picture, all or nothing.

    Parameters
    ----------
    path : Path
    strips : iterable of ndarray, uint16, shape (rows, width, channels)
        From the top; `STRIP_ROWS` rows each but the last.
    shape : (height, width, channels)
        1 or 3 channels.
    description : str
        ASCII text for the tag ImageDescription.

    Raises
    ------
    EnvironmentProblem
        When the file cannot be written.
    """
    import tifffile

    height, width, n_channels = shape
    partial = path.with_name(f".{path.name}.partial")
    try:
        with tifffile.TiffWriter(partial, bigtiff=2 * height * width * n_channels > _CLASSIC_BYTES) as file:
            file.write(
                (np.ascontiguousarray(strip, "<u2").tobytes() for strip in strips),
                shape=shape if n_channels == 3 else (height, width),
                dtype="<u2",
                photometric="rgb" if n_channels == 3 else "minisblack",
                rowsperstrip=STRIP_ROWS,
                description=description,
                metadata=None,
                software=False,
            )
        partial.replace(path)
    except OSError as problem:
        raise EnvironmentProblem(
            "output.cannot-write-file", path=path, problem=problem.strerror or problem
        ) from problem
    finally:
        partial.unlink(missing_ok=True)
