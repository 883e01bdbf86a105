"""The page that tells what a mosaic is worth: ``report.html`` of a finished folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.pipelines.outputs.preview import reduce_rows, reduction
from zemosaic.pipelines.outputs.report import write_text
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings
from zemosaic.stages.picture.stretch import star_white, stretch_rgba

if TYPE_CHECKING:
    from zemosaic.report.values import MosaicView

__all__ = ["write_report_page"]

PICTURE_PX, MAP_PX = 900, 600
"""Longest sides of the picture and of maps in the page: as wide as a column of it is on a sharp screen."""


def write_report_page(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write ``report.html``: figures and sentences of what report.json, the table of frames and the planes tell."""
    # Here, so that runs without a report do not wait for matplotlib.
    from zemosaic.report.page import make_page
    from zemosaic.report.values import ReportData

    data = ReportData(
        report=folder.report,
        frames=_read_columns(folder.out / "frames.csv"),
        mosaics=[_view(mosaic, folder, run) for mosaic in folder.mosaics],
        defaults=Settings().model_dump(mode="json"),
        title=folder.out.absolute().name,
    )
    path = folder.out / "report.html"
    write_text(path, make_page(data, run.options.language))
    return {"page": path}


def _read_columns(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Columns of the table of frames: numbers where all cells are such or empty, and `use` as 1 and 0; else text."""
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        try:
            columns[name] = np.array([float({"True": "1", "False": "0", "": "nan"}.get(cell, cell)) for cell in cells])
        except ValueError:
            columns[name] = np.array(cells, dtype=object)
    return columns


def _view(mosaic: FolderMosaic, folder: FinishedFolder, run: Run) -> MosaicView:
    from zemosaic.report.values import MosaicView

    coverage = _reduce(mosaic, "COV", MAP_PX, run)[0][0] if "COV" in mosaic.planes else None
    clipped = None
    if coverage is not None and "REJ" in mosaic.planes:
        with np.errstate(invalid="ignore"):
            rejected = _reduce(mosaic, "REJ", MAP_PX, run)[0].mean(axis=0)
            clipped = np.where(coverage > 0, rejected / coverage, np.nan).astype(np.float32)
    return MosaicView(
        key=f"mosaic{mosaic.tag}",
        label=mosaic.tag.removeprefix("_"),
        wcs=mosaic.wcs,
        picture=_picture(mosaic, run),
        coverage=coverage,
        clipped=clipped,
        unit=str(mosaic.header.get("BUNIT", "")),
    )


def _picture(mosaic: FolderMosaic, run: Run) -> npt.NDArray[np.uint8]:
    """The mosaic as its preview shows it, black where there are no data."""
    data, covered = _reduce(mosaic, "DATA", PICTURE_PX, run)
    rgba = stretch_rgba(data, covered, star_white(data, covered))
    return np.where(rgba[:, :, 3:] > 0, rgba[:, :, :3], 0).astype(np.uint8)


def _reduce(
    mosaic: FolderMosaic, name: str, most_px: int, run: Run
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Means of a plane over blocks, ``(c, h, w)``, and where every channel has data."""

    def read_rows(y0: int, y1: int) -> npt.NDArray[np.float32]:
        run.cancel.check()
        return mosaic.read(name, Box(y0, y1, 0, mosaic.shape[1])).astype(np.float32)

    return reduce_rows(read_rows, mosaic.shape, reduction(mosaic.shape, most_px))
