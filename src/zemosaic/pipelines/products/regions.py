"""Where frames and mosaic lie on the sky, in the forms that sky atlases read: DS9 regions and MOCs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.moc_file import write_moc
from zemosaic.io.write.regions_file import Outline, write_regions
from zemosaic.model.sky.celestial import unit_vectors
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.run.context import Run

__all__ = ["find_covered_cells", "write_region_files"]

MOST_CELLS = 200_000
"""Cells of a MOC's deepest order on a mosaic's grid at most. A cell counts by its centre, so the area is not biased."""

CELL_REACH = 1.6
"""Radians, more than any cell of order 0 reaches from its centre (0.84); cells of order n reach 2^n times less far."""

DEEPEST_ORDER = 29
"""Of the standard."""

I8 = npt.NDArray[np.int64]
F8 = npt.NDArray[np.float64]

_SKY_DEG2 = 4 * np.pi * (180 / np.pi) ** 2


def write_region_files(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write ``footprints.reg`` of all frames and mosaics, and ``coverage_moc.fits`` for each mosaic."""
    paths = {"footprints": folder.out / "footprints.reg"}
    write_regions(paths["footprints"], _outlines(folder))
    for mosaic in folder.mosaics:
        run.cancel.check()
        path = folder.out / f"coverage_moc{mosaic.tag}.fits"
        write_moc(path, *find_covered_cells(mosaic))
        paths[f"moc{mosaic.tag}"] = path
    return paths


def _outlines(folder: FinishedFolder) -> Iterator[Outline]:
    """Frames that are used are green, those left out red, mosaics yellow; frames without a place have none."""
    for row in folder.read_frames():
        corners = [(row[f"ra{k}_deg"], row[f"dec{k}_deg"]) for k in range(1, 5)] if "ra1_deg" in row.colnames else []
        if corners and not any(value is np.ma.masked for corner in corners for value in corner):
            yield Outline(corners, str(row["name"]), "green" if row["use"] else "red")
    for mosaic in folder.mosaics:
        ra, dec = mosaic.wcs.outline(1)
        yield Outline(list(zip(ra.tolist(), dec.tolist(), strict=True)), mosaic.path.name, "yellow")


def find_covered_cells(mosaic: FolderMosaic) -> tuple[I8, int]:
    """HEALPix cells whose centre lies on a pixel with data.

    Returns
    -------
    (ndarray of int64, int)
        Nested numbers, and their order: the deepest of which the grid holds at most `MOST_CELLS`.
    """
    height, width = mosaic.shape
    grid_deg2 = height * width * mosaic.wcs.pixel_area_deg2()
    deepest = int(np.floor(np.log(MOST_CELLS * _SKY_DEG2 / grid_deg2 / 12) / np.log(4)))
    order = min(max(deepest, 0), DEEPEST_ORDER)
    cells, ra, dec = _cells_near(mosaic, order)
    x, y = (np.rint(np.nan_to_num(place, nan=-1.0)) for place in mosaic.wcs.sky_to_pixel(ra, dec))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    cells, x, y = cells[inside], x[inside].astype(int), y[inside].astype(int)
    has_data = np.zeros(len(cells), bool)
    for box in mosaic.bands():
        here = (y >= box.y0) & (y < box.y1)
        if "COV" in mosaic.planes:
            covered = mosaic.read("COV", box)[0] > 0
        else:
            covered = np.isfinite(mosaic.read("DATA", box)).all(axis=0)
        has_data[here] = covered[y[here] - box.y0, x[here]]
    return cells[has_data], order


def _cells_near(mosaic: FolderMosaic, order: int) -> tuple[I8, F8, F8]:
    """Cells that may have their centre on the grid, with its ICRS degrees: the sky's 12, cut in four over and over.

    A search of cells in a cone takes time with the square of their number; here what lies too far is dropped early.
    """
    height, width = mosaic.shape
    center = unit_vectors(*mosaic.wcs.pixel_to_sky((width - 1) / 2, (height - 1) / 2))
    cosine = unit_vectors(*mosaic.wcs.outline()) @ center
    # The corners of a grid of the whole sky lie on none of it.
    radius = float(np.arccos(np.clip(cosine.min(), -1, 1))) if np.isfinite(cosine).all() else np.pi
    cells = np.arange(12, dtype=np.int64)
    for level in range(order + 1):
        if level:
            cells = (4 * cells[:, None] + np.arange(4)).ravel()
        ra, dec = _centers(cells, level)
        reach = radius + CELL_REACH / 2**level
        near = np.ones(len(cells), bool) if reach >= np.pi else unit_vectors(ra, dec) @ center > np.cos(reach)
        cells = cells[near]
    return cells, ra[near], dec[near]


def _centers(cells: I8, order: int) -> tuple[F8, F8]:
    """ICRS degrees of nested cells."""
    from astropy_healpix import healpix_to_lonlat

    ra, dec = healpix_to_lonlat(cells, 1 << order, order="nested")
    return np.rad2deg(ra.to_value("rad")), np.rad2deg(dec.to_value("rad"))
