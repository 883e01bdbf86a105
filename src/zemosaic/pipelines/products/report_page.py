"""The page that tells what a mosaic is worth: ``report.html`` of a finished folder."""

from __future__ import annotations

import csv
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from zemosaic.model.box import Box
from zemosaic.pipelines.outputs.preview import STRIP_PX, reduction, stretch_mosaic
from zemosaic.pipelines.outputs.report import write_text
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings

if TYPE_CHECKING:
    from zemosaic.report.values import MosaicView

__all__ = ["write_report_page"]

_AS_NUMBER = {"True": "1", "False": "0", "": "nan"}

PICTURE_PX, MAP_PX = 900, 600
"""Longest sides of the picture and of maps in the page: as wide as a column of it is on a sharp screen."""


def write_report_page(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write ``report.html``: figures and sentences of what report.json, the table of frames and the planes tell."""
    # Here, so that runs without a report do not wait for matplotlib.
    from zemosaic.report.page import COLUMNS, make_page
    from zemosaic.report.values import ReportData

    data = ReportData(
        report=folder.report,
        frames=_read_columns(folder.out / "frames.csv", COLUMNS),
        mosaics=[_view(mosaic, folder, run) for mosaic in folder.mosaics],
        defaults=Settings().model_dump(mode="json"),
        title=folder.out.absolute().name,
    )
    path = folder.out / "report.html"
    write_text(path, make_page(data, run.options.language))
    return {"page": path}


def _read_columns(path: Path, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Those of the wanted columns that the table of frames has: numbers where all cells are such or empty, and `use` as
    1 and 0; else text.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        names = next(rows)
        kept = [k for k, name in enumerate(names) if name in wanted]
        table = [[row[k] for k in kept] for row in rows]
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, cells in zip((names[k] for k in kept), zip(*table, strict=True), strict=True):
        try:
            columns[name] = np.array([float(_AS_NUMBER.get(cell) or cell) for cell in cells])
        except ValueError:
            columns[name] = np.array(cells, dtype=object)
    return columns


def _view(mosaic: FolderMosaic, folder: FinishedFolder, run: Run) -> MosaicView:
    from zemosaic.report.values import MosaicView

    coverage = _reduce_counts(mosaic, "COV", run)[0] if "COV" in mosaic.planes else None
    clipped = None
    if coverage is not None and "REJ" in mosaic.planes:
        with np.errstate(invalid="ignore", divide="ignore"):
            rejected = _reduce_counts(mosaic, "REJ", run).mean(axis=0)
            clipped = np.where(coverage > 0, rejected / coverage, np.nan).astype(np.float32)
    return MosaicView(
        key=f"mosaic{mosaic.tag}",
        label=mosaic.tag.removeprefix("_"),
        wcs=mosaic.wcs,
        picture=_picture(mosaic, folder, run),
        coverage=coverage,
        clipped=clipped,
        unit=str(mosaic.header.get("BUNIT", "")),
    )


def _picture(mosaic: FolderMosaic, folder: FinishedFolder, run: Run) -> npt.NDArray[np.uint8]:
    """The preview, made smaller; the mosaic as its preview would show it where there is none."""
    try:
        with Image.open(folder.out / f"preview{mosaic.tag}.jpg") as image:
            image.thumbnail((PICTURE_PX, PICTURE_PX))
            return np.asarray(image.convert("RGB"))[::-1]
    except OSError:
        rgba = stretch_mosaic(partial(_read_rows, mosaic, "DATA", run), mosaic.shape, PICTURE_PX)
        return np.where(rgba[:, :, 3:] > 0, rgba[:, :, :3], 0).astype(np.uint8)


def _reduce_counts(mosaic: FolderMosaic, name: str, run: Run) -> npt.NDArray[np.float32]:
    """Means of a plane of whole numbers over blocks, ``(c, h, w)``; by numpy, so that none waits for a compiler."""
    (height, width), factor = mosaic.shape, reduction(mosaic.shape, MAP_PX)
    n_rows = factor * max(STRIP_PX // (factor * width), 1)
    x = np.arange(0, width, factor)
    sums = []
    for y0 in range(0, height, n_rows):
        rows = _read_rows(mosaic, name, run, y0, min(y0 + n_rows, height))
        y = np.arange(0, rows.shape[1], factor)
        # Sums down the columns first: they are many additions at once.
        sums.append(np.add.reduceat(np.add.reduceat(rows, y, axis=1, dtype=np.float64), x, axis=2))
    sides = [np.diff(np.append(np.arange(0, side, factor), side)) for side in (height, width)]
    return (np.concatenate(sums, axis=1) / np.outer(*sides)).astype(np.float32)


def _read_rows(mosaic: FolderMosaic, name: str, run: Run, y0: int, y1: int) -> npt.NDArray[Any]:
    run.cancel.check()
    return mosaic.read(name, Box(y0, y1, 0, mosaic.shape[1]))
