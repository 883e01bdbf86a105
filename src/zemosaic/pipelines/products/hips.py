"""The mosaic as a HiPS, the tiles of the whole sky that Aladin and other atlases show: ``hips/``."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.time import Time

from zemosaic.io.write.hips_file import (
    tile_path,
    write_allsky,
    write_fits,
    write_hips_page,
    write_jpeg,
    write_properties,
)
from zemosaic.io.write.moc_file import write_moc
from zemosaic.model.box import Box
from zemosaic.pipelines.outputs.preview import reduce_rows, reduction
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.products.viewer_before import channel_tags
from zemosaic.pipelines.run.context import WORK_FOLDER, Run
from zemosaic.stages.picture.stretch import Stretch, find_stretch, star_white
from zemosaic.stages.warp.healpix import TILE_PX, Tile, cut_tile, find_tiles, halve, join, order_for

__all__ = ["write_hips"]

STRETCH_PX = 2400
"""Longest side of the reduced copy that the stretch is found on: that of the preview by default."""

PREVIEW_PX = 256
"""Side of ``preview.jpg``, by the standard."""

ALLSKY_ORDER = 3
"""Deepest order with an overview of all tiles, by the standard."""

ALLSKY_HALVINGS = 3
"""From a tile of 512 px to the 64 px that it has there."""

TASK_ORDERS = 3
"""Orders of tiles that one task makes: at most 64 of the deepest and their parents."""

TILE_COPIES = 8
"""What a task holds beside its branch of tiles: the window, weights and samples of one, as copies of a tile."""

NO_DATE = "2000-01-01T00:00Z"
"""Date of a mosaic whose frames tell none."""


@dataclass(frozen=True, slots=True, eq=False)
class _Hips:
    """What all tiles of a mosaic share; `overviews` gathers small tiles by order and cell, `found` deepest cells."""

    mosaic: FolderMosaic
    stretch: Stretch
    factor: int
    made: Path
    order: int
    run: Run
    overviews: dict[int, dict[int, Tile]] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """Folder and channel of what has FITS tiles: the science values know no colour."""
        tags = channel_tags(self.mosaic.n_channels)
        return tuple((f"hips{self.mosaic.tag}{tag}", k) for k, tag in enumerate(tags))

    @property
    def picture(self) -> Path:
        """Folder of the JPEG tiles."""
        return self.made / f"hips{self.mosaic.tag}"

    def paint(self, tile: Tile) -> npt.NDArray[np.uint8]:
        """8 bits ``(n, n, c)`` with the stretch of the preview."""
        return self.stretch.apply(np.nan_to_num(tile.values), tile.islands)


def write_hips(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write ``hips`` for each mosaic, of colour also ``hips_r`` and so on; older ones give way when all are whole."""
    made = folder.out / WORK_FOLDER / "hips.new"
    shutil.rmtree(made, ignore_errors=True)
    paths = {}
    for mosaic in folder.mosaics:
        factor = reduction(mosaic.shape, STRETCH_PX)
        data, covered = reduce_rows(partial(_read_rows, mosaic, run), mosaic.shape, factor)
        if not covered.any():
            continue
        stretch = find_stretch(data, covered, star_white(data, covered))
        hips = _Hips(mosaic, stretch, factor, made, order_for(mosaic.wcs.pixel_scale_arcsec()), run)
        _write_tiles(hips)
        _write_overviews(hips)
        _describe(hips, folder.out.resolve().name)
    for path in sorted(made.iterdir()) if made.exists() else ():
        final = folder.out / path.name
        shutil.rmtree(final, ignore_errors=True)
        path.rename(final)
        paths[path.name] = final / "index.html"
    return paths


def _read_rows(mosaic: FolderMosaic, run: Run, y0: int, y1: int) -> npt.NDArray[np.float32]:
    run.cancel.check()
    return mosaic.read("DATA", Box(y0, y1, 0, mosaic.shape[1]))


def _write_tiles(hips: _Hips) -> None:
    """Write the tiles of all orders: branches of the tree as tasks, then what lies above them."""
    cells = find_tiles(hips.mosaic.wcs, hips.order)
    depth = min(TASK_ORDERS, hips.order)
    roots = np.unique(cells >> (2 * depth))
    wanted = set(cells.tolist())
    make = partial(_make_branch, hips, hips.order - depth, wanted)
    tile_bytes = 4 * (hips.mosaic.n_channels + 1) * TILE_PX**2
    executor = hips.run.machine.executor_within(tile_bytes * (4 * depth + TILE_COPIES))
    tiles = dict(zip(roots.tolist(), executor.map(make, roots.tolist()), strict=True))
    for order in range(hips.order - depth - 1, -1, -1):
        parents = sorted({cell >> 2 for cell in tiles})
        tiles = {cell: _keep(hips, order, cell, join([tiles.get(4 * cell + k) for k in range(4)])) for cell in parents}


def _make_branch(hips: _Hips, order: int, wanted: set[int], cell: int) -> Tile | None:
    """Write a tile and all below it; `wanted` are the deepest that may show something."""
    if order == hips.order:
        if cell not in wanted:
            return None
        hips.run.cancel.check()
        read = partial(hips.mosaic.read, "DATA")
        return _keep(hips, order, cell, cut_tile(hips.mosaic.wcs, order, cell, read, partial(_islands, hips)))
    children = [_make_branch(hips, order + 1, wanted, 4 * cell + k) for k in range(4)]
    return _keep(hips, order, cell, join(children))


def _islands(hips: _Hips, box: Box) -> npt.NDArray[np.float32]:
    rows, columns = np.arange(box.y0, box.y1) // hips.factor, np.arange(box.x0, box.x1) // hips.factor
    return hips.stretch.islands[rows[:, None], columns][None].astype(np.float32)


def _keep(hips: _Hips, order: int, cell: int, tile: Tile | None) -> Tile | None:
    """Write a tile, if there is one, and keep what the overviews and the MOC need of it."""
    if tile is None:
        return None
    write_jpeg(tile_path(hips.picture, order, cell, ".jpg"), hips.paint(tile))
    for name, channel in hips.layers:
        path = tile_path(hips.made / name, order, cell, ".fits")
        write_fits(path, tile.values[channel], {"ORDER": order, "NPIX": cell})
    if order <= ALLSKY_ORDER:
        small = tile
        for _ in range(ALLSKY_HALVINGS):
            small = halve(small)
        hips.overviews.setdefault(order, {})[cell] = small
    if order == hips.order:
        hips.found.append(cell)
    return tile


def _write_overviews(hips: _Hips) -> None:
    for order, tiles in hips.overviews.items():
        pictures = {cell: hips.paint(tile) for cell, tile in tiles.items()}
        write_allsky(hips.picture / f"Norder{order}" / "Allsky.jpg", order, pictures)
        for name, channel in hips.layers:
            values = {cell: tile.values[channel] for cell, tile in tiles.items()}
            write_allsky(hips.made / name / f"Norder{order}" / "Allsky.fits", order, values)


def _describe(hips: _Hips, title: str) -> None:
    """Write what lies beside the tiles of each folder."""
    cells = np.array(sorted(hips.found), np.int64)
    mono = hips.mosaic.n_channels == 1
    formats = {name: "fits" for name, _ in hips.layers}
    formats[hips.picture.name] = "jpeg fits" if mono else "jpeg"
    for name, tile_format in formats.items():
        folder = hips.made / name
        write_moc(folder / "Moc.fits", cells, hips.order)
        write_jpeg(folder / "preview.jpg", _preview(hips))
        write_hips_page(folder / "index.html", f"{title} {name}")
        write_properties(folder / "properties", _properties(hips, f"{title} {name}", tile_format, len(cells)))


def _preview(hips: _Hips) -> npt.NDArray[np.uint8]:
    """The whole mosaic in a square, north up."""
    factor = reduction(hips.mosaic.shape, PREVIEW_PX)
    data, covered = reduce_rows(partial(_read_rows, hips.mosaic, hips.run), hips.mosaic.shape, factor)
    _, height, width = data.shape
    rows, columns = (
        np.minimum(np.arange(n) * factor // hips.factor, m - 1)
        for n, m in zip((height, width), hips.stretch.islands.shape, strict=True)
    )
    picture = hips.stretch.apply(data, hips.stretch.islands[rows[:, None], columns] * covered)[::-1]
    square = np.zeros((PREVIEW_PX, PREVIEW_PX, picture.shape[-1]), np.uint8)
    y, x = (PREVIEW_PX - height) // 2, (PREVIEW_PX - width) // 2
    square[y : y + height, x : x + width] = picture
    return square


def _properties(hips: _Hips, title: str, tile_format: str, n_tiles: int) -> dict[str, object]:
    """What the standard requires and recommends. Dates are those of the data: the same mosaic makes the same bytes."""
    header, (height, width) = hips.mosaic.header, hips.mosaic.shape
    ra, dec = hips.mosaic.wcs.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
    scale_deg = hips.mosaic.wcs.pixel_scale_arcsec() / 3600
    dates = [str(header[key]) for key in ("DATE-OBS", "DATE-END") if header.get(key)]
    date = f"{Time(dates[-1]).isot[:16]}Z" if dates else NO_DATE
    colour = {} if "fits" in tile_format else {"dataproduct_subtype": "color"}
    bits = {"hips_pixel_bitpix": -32, "hips_hierarchy": "mean"} if "fits" in tile_format else {}
    times = {"t_min": Time(dates[0]).mjd, "t_max": Time(dates[-1]).mjd} if dates else {}
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", title)
    return {
        "creator_did": f"ivo://PRIVATE_USER/zemosaic/{name}",
        "obs_title": title,
        "obs_description": f"Mosaic of {header.get('NCOMBINE', 'several')} frames",
        "obs_regime": "Optical",
        "prov_progenitor": f"{hips.mosaic.path.name}, made by zemosaic",
        "dataproduct_type": "image",
        **colour,
        "hips_version": "1.4",
        "hips_builder": "zemosaic",
        "hips_creation_date": date,
        "hips_release_date": date,
        "hips_status": "private master unclonable",
        "hips_frame": "equatorial",
        "hips_order": hips.order,
        "hips_order_min": 0,
        "hips_tile_width": TILE_PX,
        "hips_tile_format": tile_format,
        **bits,
        "hips_pixel_scale": f"{np.degrees(np.sqrt(np.pi / 3)) / (TILE_PX << hips.order):.6g}",
        "s_pixel_scale": f"{scale_deg:.6g}",
        "hips_initial_ra": f"{float(ra):.6f}",
        "hips_initial_dec": f"{float(dec):.6f}",
        "hips_initial_fov": f"{min(scale_deg * max(height, width), 180):.6g}",
        "moc_sky_fraction": f"{n_tiles / (12 << (2 * hips.order)):.6g}",
        **times,
        "em_min": "4e-7",
        "em_max": "7e-7",
    }
