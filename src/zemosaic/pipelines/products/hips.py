"""The mosaic as a HiPS, the tiles of the whole sky that Aladin and other atlases show: ``hips/``."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.time import Time

from zemosaic.engine.values import digest_of
from zemosaic.io.write.hips_file import (
    HipsView,
    find_cells,
    tile_path,
    write_allsky,
    write_fits,
    write_hips_page,
    write_properties,
    write_tile_picture,
)
from zemosaic.io.write.moc_file import write_moc
from zemosaic.model.box import Box
from zemosaic.pipelines.outputs.preview import reduce_rows, reduction
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.products.viewer_before import channel_tags
from zemosaic.pipelines.run.context import WORK_FOLDER, Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.stages.picture.stretch import Stretch, find_stretch, star_white
from zemosaic.stages.warp.healpix import TILE_PX, Tile, cut_tile, find_tiles, join, order_for

__all__ = ["write_hips"]

STRETCH_PX = 2400
"""Longest side of the reduced copy that the stretch is found on: that of the preview by default."""

PREVIEW_PX = 256
"""Side of ``preview.jpg``, by the standard."""

ALLSKY_ORDER = 3
"""Deepest order with an overview of all tiles, by the standard."""

TASK_ORDERS = 3
"""Orders of tiles that one task makes: at most 64 of the deepest and their parents."""

TILE_COPIES = 8
"""What a task holds beside its branch of tiles: the window, weights and samples of one, as copies of a tile."""

JPEG = ".jpg"

_STEMS = {JPEG: "hips", ".png": "hips_png"}
"""Folders of pictures by their suffix."""

VIEW_ROOM = 1.1
"""What the page shows at first, over the mosaic's size."""

NO_DATE = "2000-01-01T00:00Z"
"""Date of a mosaic whose frames tell none."""


@dataclass(frozen=True, slots=True, eq=False)
class _Hips:
    """What all tiles of a mosaic share: `made` receives the folders, the pictures are files ending in `suffix`."""

    mosaic: FolderMosaic
    stretch: Stretch
    factor: int
    made: Path
    suffix: str
    order: int
    run: Run

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """Folder and channel of what has FITS tiles: the science values know no colour."""
        if self.suffix != JPEG:
            return ()
        tags = channel_tags(self.mosaic.n_channels)
        return tuple((f"hips{self.mosaic.tag}{tag}", k) for k, tag in enumerate(tags))

    @property
    def pictures(self) -> Path:
        """Folder of the pictures."""
        return self.made / f"{_STEMS[self.suffix]}{self.mosaic.tag}"

    def paint(self, tile: Tile) -> npt.NDArray[np.uint8]:
        """8 bits ``(n, n, c)`` with the stretch of the preview; of PNG the last of them is opacity."""
        picture = self.stretch.apply(np.nan_to_num(tile.values), tile.islands)
        if self.suffix == JPEG:
            return picture
        return np.append(picture, np.where(tile.islands > 0, 255, 0).astype(np.uint8)[..., None], axis=-1)


def write_hips(folder: FinishedFolder, run: Run, suffix: str = JPEG) -> dict[str, Path]:
    """Write ``hips`` for each mosaic, of colour also ``hips_r`` and so on; older ones give way when all are whole.

    Parameters
    ----------
    folder : FinishedFolder
    run : Run
        Its store keeps branches of the tree, so that a stopped run goes on.
    suffix : {".jpg", ".png"}
        PNG: pictures alone, transparent where there is nothing, in ``hips_png``.
    """
    stem = _STEMS[suffix]
    made = folder.out / WORK_FOLDER / f"{stem}.{digest_of(*map(_identity, folder.mosaics))}.new"
    for other in folder.out.glob(f"{WORK_FOLDER}/{stem}.*.new"):
        if other != made:
            shutil.rmtree(other)
    paths, keys = {}, []
    for mosaic in folder.mosaics:
        factor = reduction(mosaic.shape, STRETCH_PX)
        data, covered = reduce_rows(partial(_read_rows, mosaic, run), mosaic.shape, factor)
        if not covered.any():
            continue
        stretch = find_stretch(data, covered, star_white(data, covered))
        order = order_for(mosaic.wcs.pixel_scale_arcsec())
        hips = _Hips(mosaic, stretch, factor, made, suffix, order, run)
        keys += _write_tiles(hips)
        _write_overviews(hips)
        _describe(hips, folder.out.resolve().name)
    for path in sorted(made.iterdir()) if made.exists() else ():
        final = folder.out / path.name
        shutil.rmtree(final, ignore_errors=True)
        path.rename(final)
        paths[path.name] = final / "index.html"
    shutil.rmtree(made, ignore_errors=True)
    if run.store is not None:
        for key in keys:
            run.store.discard(key)
    return paths


def _identity(mosaic: FolderMosaic) -> tuple[object, ...]:
    """What tells a mosaic from one that another run made: its file's size and time, and its header."""
    facts = mosaic.path.stat()
    return mosaic.tag, facts.st_size, facts.st_mtime_ns, mosaic.header.tostring()


def _read_rows(mosaic: FolderMosaic, run: Run, y0: int, y1: int) -> npt.NDArray[np.float32]:
    run.cancel.check()
    return mosaic.read("DATA", Box(y0, y1, 0, mosaic.shape[1]))


def _write_tiles(hips: _Hips) -> list[str]:
    """Write the tiles of all orders: branches of the tree as tasks, then what lies above; keys of stored branches."""
    cells = find_tiles(hips.mosaic.wcs, hips.order)
    depth = min(TASK_ORDERS, hips.order)
    roots = np.unique(cells >> (2 * depth)).tolist()
    identity = _identity(hips.mosaic)
    keys = [make_key("hips", identity, hips.suffix, hips.order - depth, root) for root in roots]
    take = partial(_take_branch, hips, hips.order - depth, set(cells.tolist()))
    tile_bytes = 4 * (hips.mosaic.n_channels + 1) * TILE_PX**2
    executor = hips.run.machine.executor_within(tile_bytes * (4 * depth + TILE_COPIES))
    tiles = dict(zip(roots, executor.map(take, list(zip(roots, keys, strict=True))), strict=True))
    for order in range(hips.order - depth - 1, -1, -1):
        parents = sorted({cell >> 2 for cell in tiles})
        tiles = {cell: _keep(hips, order, cell, join([tiles.get(4 * cell + k) for k in range(4)])) for cell in parents}
    return keys


def _take_branch(hips: _Hips, order: int, wanted: set[int], task: tuple[int, str]) -> Tile | None:
    """The tile at a branch's root, from an earlier run if its files are still there, or made with all below it."""
    (cell, key), store = task, hips.run.store
    if store is not None and tile_path(hips.pictures, order, cell, hips.suffix).exists():
        found = store.get(key)
        if found is not None:
            return Tile(*found)
    tile = _make_branch(hips, order, wanted, cell)
    if store is not None and tile is not None:
        store.put(key, tuple(tile))
    return tile


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
    """Write a tile, if there is one."""
    if tile is None:
        return None
    for name, channel in hips.layers:
        path = tile_path(hips.made / name, order, cell, ".fits")
        write_fits(path, tile.values[channel], {"ORDER": order, "NPIX": cell})
    write_tile_picture(tile_path(hips.pictures, order, cell, hips.suffix), hips.paint(tile))
    return tile


def _write_overviews(hips: _Hips) -> None:
    """Write all tiles of an order in one file, small, as means of the tiles on disk."""
    for order in range(min(ALLSKY_ORDER, hips.order) + 1):
        for folder, suffix in ((hips.pictures, hips.suffix), *((hips.made / name, ".fits") for name, _ in hips.layers)):
            write_allsky(folder, order, suffix)


def _describe(hips: _Hips, title: str) -> None:
    """Write what lies beside the tiles of each folder."""
    cells = np.array(find_cells(hips.pictures, hips.order), np.int64)
    formats = {name: "fits" for name, _ in hips.layers}
    pictures = "jpeg" if hips.suffix == JPEG else "png"
    formats[hips.pictures.name] = f"{pictures} fits" if hips.pictures.name in formats else pictures
    for name, tile_format in formats.items():
        folder = hips.made / name
        write_moc(folder / "Moc.fits", cells, hips.order)
        write_tile_picture(folder / "preview.jpg", _preview(hips))
        write_hips_page(folder, f"{title} {name}", _view(hips) if folder == hips.pictures else None)
        write_properties(folder / "properties", _properties(hips, f"{title} {name}", tile_format, len(cells)))


def _view(hips: _Hips) -> HipsView:
    """The whole mosaic, with a little sky round it."""
    height, width = hips.mosaic.shape
    ra, dec = hips.mosaic.wcs.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
    scale_deg = VIEW_ROOM * hips.mosaic.wcs.pixel_scale_arcsec() / 3600
    return HipsView(hips.order, hips.suffix, (float(ra), float(dec)), (width * scale_deg, height * scale_deg))


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
    colour = {"dataproduct_subtype": "color"} if hips.mosaic.n_channels > 1 and "fits" not in tile_format else {}
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
