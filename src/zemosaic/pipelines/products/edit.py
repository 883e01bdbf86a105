"""The mosaic as a file that editors of pictures open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.mosaic_file import Card, MosaicFile, Plane
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.run.context import Run

__all__ = ["find_range", "write_edit_files"]

_KEPT_CARDS = ("NCOMBINE", "EXPTIME", "DATE-OBS", "DATE-END", "FILTER", "INSTRUME", "SOFTWARE")
"""Cards of the mosaic that hold for any of its scales."""


def write_edit_files(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write ``mosaic_edit.fits`` for each mosaic: one image, 0 to 1, finite everywhere.

    Editors take a file of several images of one shape for a sequence (Siril 1.0 to 1.5), NaN spoils their statistics,
    and floats outside 0 to 1 they clip or rescale, each in its own way.
    """
    paths = {}
    for mosaic in folder.mosaics:
        path = folder.out / f"mosaic_edit{mosaic.tag}.fits"
        _write_edit_file(path, mosaic, run)
        paths[f"edit{mosaic.tag}"] = path
    return paths


def _write_edit_file(path: Path, mosaic: FolderMosaic, run: Run) -> None:
    zero, scale = find_range(mosaic, run)
    plane = Plane("DATA", "f4", mosaic.n_channels)
    with MosaicFile(path, mosaic.wcs, [plane], _cards(mosaic, zero, scale), ["mosaic.fits for editors"]) as file:
        for box in mosaic.bands():
            run.cancel.check()
            file.write("DATA", box, _rescale(mosaic.read("DATA", box), zero, scale))
        file.finish()


def find_range(mosaic: FolderMosaic, run: Run) -> tuple[float, float]:
    """The least value of all channels, and by how much the greatest is above it; ``(0, 1)`` where there are none."""
    least, greatest = np.inf, -np.inf
    for box in mosaic.bands():
        run.cancel.check()
        values = mosaic.read("DATA", box)
        known = np.isfinite(values)
        least = min(least, float(values.min(initial=np.inf, where=known)))
        greatest = max(greatest, float(values.max(initial=-np.inf, where=known)))
    if least > greatest:
        return 0.0, 1.0
    return least, greatest - least or 1.0


def _rescale(values: npt.NDArray[np.float32], zero: float, scale: float) -> npt.NDArray[np.float32]:
    """Values from 0 to 1; 0 where there are none. In float64: the offset may be much larger than the range."""
    scaled = (values.astype(np.float64) - zero) / scale
    return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


def _cards(mosaic: FolderMosaic, zero: float, scale: float) -> Sequence[Card]:
    kept = [(key, mosaic.header[key], mosaic.header.comments[key]) for key in _KEPT_CARDS if key in mosaic.header]
    return [
        *kept,
        ("ROWORDER", "BOTTOM-UP", "the first row is the lowest"),
        ("ED_SCALE", scale, "value of the mosaic ="),
        ("ED_ZERO", zero, "  ED_SCALE x value here + ED_ZERO"),
    ]
