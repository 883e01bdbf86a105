"""The preview picture of a mosaic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.avm_tags import avm_packet
from zemosaic.io.write.picture_file import write_picture
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.picture.stretch import reduce_blocks, star_white, stretch_rgba

__all__ = ["STRIP_PX", "reduce_rows", "reduction", "stretch_mosaic", "write_preview"]

STRIP_PX = 500_000
"""Pixels that are reduced at a time."""


def write_preview(
    path: Path, read_rows: Callable[[int, int], npt.NDArray[Any]], wcs: CelestialWcs, max_px: int
) -> None:
    """Make the preview from a mosaic read a strip of rows at a time: the sky grey, the typical star white.

    Tags in both files place them on the sky.

    Parameters
    ----------
    path : Path
        PNG file; a JPEG file is written beside it.
    read_rows : callable
        ``read_rows(y0, y1)`` gives DATA rows as ``(c, y1 - y0, w)``, NaN where there are none.
    wcs : CelestialWcs
        Of the mosaic; its ``shape`` is the mosaic's.
    max_px : int
        Longest side of the picture.
    """
    rgba, tags = stretch_mosaic(read_rows, wcs.shape, max_px), avm_packet(wcs, reduction(wcs.shape, max_px))
    write_picture(path, rgba, tags)
    write_picture(path.with_suffix(".jpg"), rgba, tags)


def stretch_mosaic(
    read_rows: Callable[[int, int], npt.NDArray[Any]], shape: tuple[int, int], max_px: int
) -> npt.NDArray[np.uint8]:
    """The picture of `write_preview`, ``(h, w, 4)``, for a mosaic of a shape."""
    data, covered = reduce_rows(read_rows, shape, reduction(shape, max_px))
    return stretch_rgba(data, covered, star_white(data, covered))


def reduction(shape: tuple[int, int], max_px: int) -> int:
    """Side of the blocks whose means are a picture of at most `max_px`."""
    return max(1, -(-max(shape) // max_px))


def reduce_rows(
    read_rows: Callable[[int, int], npt.NDArray[Any]], shape: tuple[int, int], factor: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Means of blocks of `factor` pixels, and where every channel has data, read as for `write_preview`."""
    n_rows = factor * max(STRIP_PX // (factor * shape[1]), 1)
    strips = [reduce_blocks(read_rows(y0, min(y0 + n_rows, shape[0])), factor) for y0 in range(0, shape[0], n_rows)]
    return np.concatenate([d for d, _ in strips], axis=1), np.concatenate([m for _, m in strips], axis=0)
