"""Files of a HiPS 1.0 (IVOA), a survey of the sky as HEALPix tiles: tiles, overviews, properties, page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from PIL import Image

__all__ = [
    "HipsView",
    "find_cells",
    "tile_path",
    "write_allsky",
    "write_fits",
    "write_hips_page",
    "write_properties",
    "write_tile_picture",
]

JPEG_QUALITY = 90
"""Below it blocks show in smooth sky; above it files grow fast."""

PNG_LEVEL = 1
"""Of compression: noise gains a few per cent by more, at several times the cost."""

ALLSKY_PX = 64
"""Side of a tile in an overview of all, by the standard."""

DIRECTORY_TILES = 10_000
"""Tiles in one directory, by the standard."""

PAGE_FILES = ("atlas/index.html", "atlas/atlas.js", "viewer/coordinates.js", "viewer/viewer.css")
"""What the page is made of: two files of its own, two of the viewer's."""

_PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font: 16px/1.5 sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em">
<h1>{title}</h1>
<p><img src="preview.jpg" alt="The mosaic, small" width="256" height="256"></p>
<p>This folder is a HiPS: the mosaic as tiles that sky atlases show.</p>
<p>Aladin Desktop opens it by <em>File, Load local file</em>: choose this folder.</p>
<p>Aladin Lite opens it by its address once a web server hands the folder out.</p>
</body></html>
"""


def tile_path(folder: Path, order: int, cell: int, suffix: str) -> Path:
    """Where a tile lies: ``Norder3/Dir0/Npix42.jpg``."""
    first = cell // DIRECTORY_TILES * DIRECTORY_TILES
    return folder / f"Norder{order}" / f"Dir{first}" / f"Npix{cell}{suffix}"


def find_cells(folder: Path, order: int) -> list[int]:
    """Numbers of the tiles of an order that a folder holds, ascending."""
    return sorted({int(path.stem.removeprefix("Npix")) for path in folder.glob(f"Norder{order}/Dir*/Npix*")})


def write_tile_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write ``(h, w, c)``, first row on top, by the suffix as JPEG or PNG; of 2 or 4 channels the last is opacity."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = picture[..., 0] if picture.shape[-1] == 1 else picture
    # Each format looks at the option that it knows.
    Image.fromarray(np.ascontiguousarray(grey)).save(path, quality=JPEG_QUALITY, compress_level=PNG_LEVEL)


def write_fits(path: Path, values: npt.NDArray[np.float32], cards: Mapping[str, int | str]) -> None:
    """Write ``(h, w)``, first row on top; in the file the last comes first, as FITS runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.ascontiguousarray(values[::-1]), fits.Header(list(cards.items()))).writeto(path, overwrite=True)


def write_allsky(folder: Path, order: int, suffix: str) -> None:
    """Write ``Allsky`` of an order: its tiles in one file, each as 64 x 64 means; of FITS over pixels with a value."""
    tiles = {cell: _shrink(tile_path(folder, order, cell, suffix)) for cell in find_cells(folder, order)}
    count = 12 << (2 * order)
    across = int(np.sqrt(count))
    first = next(iter(tiles.values()))
    empty = np.nan if suffix == ".fits" else 0
    sheet = np.full((-(-count // across) * ALLSKY_PX, across * ALLSKY_PX, *first.shape[2:]), empty, first.dtype)
    for cell, tile in tiles.items():
        y, x = ALLSKY_PX * (cell // across), ALLSKY_PX * (cell % across)
        sheet[y : y + ALLSKY_PX, x : x + ALLSKY_PX] = tile
    path = folder / f"Norder{order}" / f"Allsky{suffix}"
    if suffix == ".fits":
        write_fits(path, sheet, {"ORDER": order})
    else:
        write_tile_picture(path, sheet)


def _shrink(path: Path) -> npt.NDArray[Any]:
    """A tile of a file in `ALLSKY_PX`, first row on top: FITS ``(n, n)``, pictures ``(n, n, c)``."""
    if path.suffix == ".fits":
        values = fits.getdata(path)[::-1]
        step = len(values) // ALLSKY_PX
        blocks = values.reshape(ALLSKY_PX, step, ALLSKY_PX, step)
        known = np.isfinite(blocks)
        count, total = known.sum(axis=(1, 3)), np.where(known, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).astype(np.float32)
    with Image.open(path) as opened:
        small = np.asarray(opened.reduce(opened.width // ALLSKY_PX))
    return small[..., None] if small.ndim == 2 else small


def write_properties(path: Path, properties: Mapping[str, object]) -> None:
    """Write ``key = value`` lines."""
    lines = [f"{key:<22} = {' '.join(str(value).split())}\n" for key, value in properties.items()]
    path.write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class HipsView:
    """What a page shows of a folder of pictures.

    Attributes
    ----------
    order : int
        Of the deepest tiles.
    suffix : str
        Of the pictures.
    middle : (ra, dec)
        Of the mosaic, degrees.
    size_deg : (width, height)
        What the page shows at first.
    """

    order: int
    suffix: str
    middle: tuple[float, float]
    size_deg: tuple[float, float]


def write_hips_page(folder: Path, title: str, view: HipsView | None) -> None:
    """Write ``index.html`` and what it needs: the pictures as one, from disk; without a view a preview alone."""
    if view is None:
        (folder / "index.html").write_text(_PAGE.format(title=html.escape(title)), encoding="utf-8")
        return
    (folder / "page").mkdir(parents=True, exist_ok=True)
    for name in PAGE_FILES:
        source = files("zemosaic").joinpath(name)
        target = folder / source.name if source.name == "index.html" else folder / "page" / source.name
        target.write_bytes(source.read_bytes())
    cells = np.array(find_cells(folder, view.order))
    first = np.flatnonzero(np.diff(cells, prepend=-2) != 1)
    last = np.append(first[1:] - 1, len(cells) - 1)
    ranges = np.stack([cells[first], cells[last]], axis=1).tolist()
    # Names are whatever someone called folders: ASCII escapes keep them inside their strings.
    data = {"title": title, "cells": ranges, "face_deg": np.degrees(np.sqrt(np.pi / 3)), **asdict(view)}
    text = json.dumps(data, separators=(",", ":"))
    (folder / "page" / "data.js").write_text(f'"use strict";\nzemosaic.hips = {text};\n', encoding="ascii")
