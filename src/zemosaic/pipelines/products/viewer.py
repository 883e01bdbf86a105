"""A page that shows the whole mosaic, from disk and without a network: ``viewer/index.html``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zemosaic.io.write.picture_file import write_picture
from zemosaic.io.write.pyramid import TILE_PX, TilePyramid
from zemosaic.model.box import Box
from zemosaic.model.each import Each
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.outputs.preview import reduce_rows, reduction
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.products.viewer_before import channel_tags, undo_match
from zemosaic.pipelines.products.viewer_maps import RAMP, make_maps
from zemosaic.pipelines.run.context import WORK_FOLDER, Run
from zemosaic.stages.picture.stretch import Stretch, find_stretch, reduce_blocks, star_white
from zemosaic.text import message

__all__ = ["describe_wcs", "frames_of", "write_viewer"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

PROJECTIONS = ("TAN", "SIN", "ARC", "STG", "ZEA")
"""Those that the page's ``coordinates.js`` knows."""

STRETCH_PX = 2400
"""Longest side of the reduced copy that the stretch is found on: that of the preview by default."""

BEFORE_PX = 1200
"""Longest side of the picture without the match: each frame is painted into it."""

WORK_COPIES, STRIP_COPIES = 6, 8
"""What tiles, maps, or the picture before the match take at most: so many times the reduced copy, and so many times a
strip of tiles (measured on 2000 x 2000 pixels). Little memory makes them one after the other."""

SLICE_ROWS = 64
"""Rows that are stretched at a time, so that a wide strip needs little beside itself."""

SAME_PX = 0.1
"""Where celestial axes lie so near to ICRS the page may take them for it: FK5 of 2000 does."""


def write_viewer(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write the page, its tiles and maps; an older one gives way when the new one is whole."""
    made, final = folder.out / WORK_FOLDER / "viewer.new", folder.out / "viewer"
    shutil.rmtree(made, ignore_errors=True)
    with as_file(files("zemosaic") / "viewer") as page:
        shutil.copytree(page, made / "page", ignore=shutil.ignore_patterns("*.html", "*.json", "__pycache__"))
        shutil.copy(page / "index.html", made)
    frames = folder.read_frames()
    if "ra1_deg" not in frames.colnames:
        run.log.notice(message("viewer.no-corners", file="frames.ecsv"), level="warning")
        frames = frames[:0]
    several = len(folder.mosaics) > 1
    held = [
        frames_of(frames, mosaic.header.get("FILTER", "") if several else None, mosaic.n_channels)
        for mosaic in folder.mosaics
    ]
    described = [_describe(mosaic, rows, made, run) for mosaic, rows in zip(folder.mosaics, held, strict=True)]
    data = {"title": folder.out.resolve().name, "language": run.options.language, "ramp": RAMP, "mosaics": described}
    # Names are whatever someone called files: ASCII escapes keep them inside their strings, in any encoding.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    head = '"use strict";\nwindow.zemosaic = window.zemosaic || {};\n'
    (made / "data.js").write_text(f"{head}zemosaic.data = {text};\n", encoding="ascii")
    shutil.rmtree(final, ignore_errors=True)
    made.rename(final)
    return {"viewer": final / "index.html"}


def _describe(mosaic: FolderMosaic, frames: Table, made: Path, run: Run) -> dict[str, Any]:
    """Write the tiles and maps of one mosaic; what the page has to know of them."""
    height, width = mosaic.shape
    pyramid = TilePyramid(made / f"tiles{mosaic.tag}", mosaic.shape, run.machine.make_executor().map)
    corners = _corners_of(frames, mosaic)
    factor = reduction(mosaic.shape, STRETCH_PX)
    data, covered = reduce_rows(partial(_read_rows, mosaic, run), mosaic.shape, factor)
    stretch = find_stretch(data, covered, star_white(data, covered)) if covered.any() else None
    places = (corners + 0.5) / factor - 0.5
    works: tuple[Callable[[], Any], ...] = (
        partial(_write_tiles, mosaic, stretch, factor, pyramid, run),
        partial(make_maps, mosaic, made, run),
        partial(_write_before, data, stretch, frames, places, made / f"before{mosaic.tag}.jpeg"),
    )
    need = WORK_COPIES * data.nbytes + STRIP_COPIES * 4 * mosaic.n_channels * TILE_PX * width
    _, maps, before = run.machine.executor_within(need).map(_call, works)
    return {
        "label": mosaic.tag.removeprefix("_") or mosaic.path.stem,
        "width": width,
        "height": height,
        "tiles": f"tiles{mosaic.tag}",
        "tile_px": TILE_PX,
        "top_level": pyramid.top,
        "bottom_level": pyramid.bottom,
        "scale_arcsec": mosaic.wcs.pixel_scale_arcsec(),
        "wcs": describe_wcs(mosaic.wcs),
        "maps": maps,
        "before": before,
        "frames": _describe_frames(frames, mosaic.n_channels, corners),
    }


def _call(work: Callable[[], Any]) -> Any:
    return work()


def _read_rows(mosaic: FolderMosaic, run: Run, y0: int, y1: int) -> npt.NDArray[Any]:
    run.cancel.check()
    return mosaic.read("DATA", Box(y0, y1, 0, mosaic.shape[1]))


def _write_tiles(mosaic: FolderMosaic, stretch: Stretch | None, factor: int, pyramid: TilePyramid, run: Run) -> None:
    """The picture with the preview's stretch, a strip of tiles at a time, top down as pictures run."""
    each = run.machine.make_executor().map
    for y1 in range(mosaic.shape[0], 0, -TILE_PX):
        y0 = max(y1 - TILE_PX, 0)
        pyramid.add(_paint(_read_rows(mosaic, run, y0, y1), stretch, y0, factor, each)[::-1])
    pyramid.finish()


def _write_before(data: F4, stretch: Stretch | None, frames: Table, corners: F8, path: Path) -> str | None:
    """The picture of the mosaic without its match; its file's name, None where there is none."""
    if stretch is None:
        return None
    step = reduction((data.shape[1], data.shape[2]), BEFORE_PX)
    small, seen = reduce_blocks(np.where(stretch.islands > 0, data, np.float32(np.nan)), step)
    before = undo_match(small, seen, frames, (corners + 0.5) / step - 0.5)
    if before is None:
        return None
    picture = stretch.apply(before, stretch.islands[::step, ::step])
    write_picture(path, picture[..., 0] if len(before) == 1 else picture)
    return path.name


def _paint(
    values: npt.NDArray[np.float32], stretch: Stretch | None, y0: int, factor: int, each: Each
) -> npt.NDArray[np.uint8]:
    """Rows of the mosaic from `y0` as 8 bits: ``(n, w)`` grey, or ``(n, w, 3)``."""
    c, n, width = values.shape
    picture = np.zeros((n, width, c), np.uint8)
    if stretch is not None:
        columns = np.arange(width) // factor

        def paint(y: int) -> None:
            part = values[:, y : y + SLICE_ROWS]
            rows = (y0 + y + np.arange(part.shape[1])) // factor
            islands = stretch.islands[rows[:, None], columns] * np.isfinite(part).all(axis=0)
            picture[y : y + SLICE_ROWS] = stretch.apply(np.nan_to_num(part), islands)

        list(each(paint, range(0, n, SLICE_ROWS)))
    return picture[..., 0] if c == 1 else picture


def describe_wcs(celestial: CelestialWcs) -> dict[str, Any] | None:
    """The numbers of a zenithal projection of equatorial axes, pixels zero-based; None for any other WCS."""
    wcs, (height, width) = celestial.wcs, celestial.shape
    projection = str(wcs.wcs.ctype[0])[5:8]
    is_plain = wcs.sip is None and wcs.cpdis1 is None and wcs.cpdis2 is None and not wcs.wcs.get_pv()
    if projection not in PROJECTIONS or not is_plain or wcs.wcs.lng != 0:
        return None
    x, y = (width - 1) / 2, (height - 1) / 2
    at_x, at_y = celestial.sky_to_pixel(*wcs.wcs_pix2world(x, y, 0))
    if not np.hypot(at_x - x, at_y - y) < SAME_PX:
        return None
    return {
        "projection": projection,
        "crpix": (wcs.wcs.crpix - 1).tolist(),
        "crval": wcs.wcs.crval.tolist(),
        "cd": wcs.pixel_scale_matrix.tolist(),
        "lonpole": float(wcs.wcs.lonpole),
    }


def frames_of(frames: Table, filter_name: str | None, n_channels: int) -> Table:
    """The rows of the frames that a mosaic holds; of any filter where `filter_name` is None."""
    used = np.array(frames["use"], bool)
    if filter_name is not None:
        used &= np.ma.filled(frames["filter"], "") == filter_name
    if (gain := f"gain{channel_tags(n_channels)[0]}") in frames.colnames:  # a frame of another kind has none
        used &= ~np.ma.getmaskarray(np.ma.asarray(frames[gain]))
    return frames[used]


def _corners_of(frames: Table, mosaic: FolderMosaic) -> F8:
    """The corners of frames in pixels of the mosaic, shape (n, 4, 2) with x first."""
    if not len(frames):
        return np.zeros((0, 4, 2))
    ra, dec = (np.stack([frames[f"{name}{k}_deg"] for k in range(1, 5)], axis=1) for name in ("ra", "dec"))
    return np.nan_to_num(np.stack(mosaic.wcs.sky_to_pixel(ra, dec), axis=-1))


def _describe_frames(frames: Table, n_channels: int, corners: F8) -> dict[str, Any]:
    """Frames as columns, which are shorter than rows: names, gains a channel, corners in whole pixels."""
    gains = [f"gain{tag}" for tag in channel_tags(n_channels) if f"gain{tag}" in frames.colnames]
    return {
        "name": [str(name) for name in frames["name"]],
        "gain": [[round(float(value), 5) for value in frames[name]] for name in gains],
        "corners": np.rint(corners).astype(int).ravel().tolist(),
    }
