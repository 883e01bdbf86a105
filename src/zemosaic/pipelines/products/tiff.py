"""The mosaic as a 16-bit TIFF picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.tiff_file import MAX_U16, STRIP_ROWS, write_tiff
from zemosaic.model.box import Box
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.products.scale import UnitScale, find_scale
from zemosaic.pipelines.run.context import Run

__all__ = ["write_tiff_files"]


def write_tiff_files(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write ``mosaic.tif`` for each mosaic: 16 bits, one linear scale for all channels, north up."""
    paths = {}
    for mosaic in folder.mosaics:
        path = folder.out / f"mosaic{mosaic.tag}.tif"
        scale = find_scale(mosaic, run)
        told = f"value of {mosaic.path.name} = {scale.span!r} * pixel / {MAX_U16} + {scale.zero!r}; 0: no data"
        write_tiff(path, _strips(mosaic, scale, run), (*mosaic.shape, mosaic.n_channels), told)
        paths[f"tiff{mosaic.tag}"] = path
    return paths


def _strips(mosaic: FolderMosaic, scale: UnitScale, run: Run) -> Iterator[npt.NDArray[np.uint16]]:
    """Rows top down, as pictures hold them: ``(rows, width, channels)``."""
    height, width = mosaic.shape
    for y1 in range(height, 0, -STRIP_ROWS):
        run.cancel.check()
        values = mosaic.read("DATA", Box(max(y1 - STRIP_ROWS, 0), y1, 0, width))
        unit = scale.apply(values[:, ::-1])
        yield np.moveaxis(np.rint(MAX_U16 * unit), 0, -1).astype(np.uint16)
