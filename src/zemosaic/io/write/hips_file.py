"""Files of a HiPS 1.0 (IVOA), a survey of the sky as HEALPix tiles: tiles, overviews, properties, page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from PIL import Image

__all__ = ["tile_path", "write_allsky", "write_fits", "write_hips_page", "write_jpeg", "write_properties"]

JPEG_QUALITY = 90
"""Below it blocks show in smooth sky; above it files grow fast."""

DIRECTORY_TILES = 10_000
"""Tiles in one directory, by the standard."""

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


def write_jpeg(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write ``(h, w, 1 or 3)``, first row on top."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = picture[..., 0] if picture.shape[-1] == 1 else picture
    Image.fromarray(np.ascontiguousarray(grey)).save(path, format="JPEG", quality=JPEG_QUALITY)


def write_fits(path: Path, values: npt.NDArray[np.float32], cards: Mapping[str, int | str]) -> None:
    """Write ``(h, w)``, first row on top; in the file the last comes first, as FITS runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.ascontiguousarray(values[::-1]), fits.Header(list(cards.items()))).writeto(path, overwrite=True)


def write_allsky(path: Path, order: int, tiles: Mapping[int, npt.NDArray[np.generic]]) -> None:
    """Write all tiles of an order, small, in one file: JPEG ``(n, n, c)`` or FITS ``(n, n)``, by the suffix."""
    count = 12 << (2 * order)
    across = int(np.sqrt(count))
    first = next(iter(tiles.values()))
    n = first.shape[0]
    empty = np.nan if path.suffix == ".fits" else 0
    sheet = np.full((-(-count // across) * n, across * n, *first.shape[2:]), empty, first.dtype)
    for cell, tile in tiles.items():
        y, x = n * (cell // across), n * (cell % across)
        sheet[y : y + n, x : x + n] = tile
    if path.suffix == ".fits":
        write_fits(path, sheet, {"ORDER": order})
    else:
        write_jpeg(path, sheet.astype(np.uint8, copy=False))


def write_properties(path: Path, properties: Mapping[str, object]) -> None:
    """Write ``key = value`` lines."""
    lines = [f"{key:<22} = {' '.join(str(value).split())}\n" for key, value in properties.items()]
    path.write_text("".join(lines), encoding="utf-8")


def write_hips_page(path: Path, title: str) -> None:
    """Write the page that tells how the folder is opened; it asks for nothing outside."""
    path.write_text(_PAGE.format(title=html.escape(title)), encoding="utf-8")
