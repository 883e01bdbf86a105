"""The mosaic as a file that editors of pictures open."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zemosaic.io.write.mosaic_file import Card, MosaicFile, Plane
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.products.scale import UnitScale, find_scale
from zemosaic.pipelines.run.context import Run

__all__ = ["write_edit_files"]

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
    scale = find_scale(mosaic, run)
    plane = Plane("DATA", "f4", mosaic.n_channels)
    history = [f"{mosaic.path.name} from 0 to 1, for editors of pictures"]
    with MosaicFile(path, mosaic.wcs, [plane], _cards(mosaic, scale), history) as file:
        for box in mosaic.bands():
            run.cancel.check()
            file.write("DATA", box, scale.apply(mosaic.read("DATA", box)).astype(np.float32))
        file.finish()


def _cards(mosaic: FolderMosaic, scale: UnitScale) -> list[Card]:
    kept = [(key, mosaic.header[key], mosaic.header.comments[key]) for key in _KEPT_CARDS if key in mosaic.header]
    return [
        *kept,
        ("ROWORDER", "BOTTOM-UP", "the first row is the lowest"),
        ("ED_SCALE", scale.span, "value of the mosaic ="),
        ("ED_ZERO", scale.zero, "  ED_SCALE x value here + ED_ZERO"),
    ]
