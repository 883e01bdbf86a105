"""Tiles as FITS files: a stack with its weight, coverage, exposure, saturation and alpha."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import open_fits, walk_hdus
from zemosaic.io.write.mosaic_file import Card, MosaicFile, Plane
from zemosaic.model.box import Box
from zemosaic.model.tile import Tile

__all__ = ["KEY_CARD", "plane_hdus", "tile_key", "write_tile"]

KEY_CARD = "MT_KEY"
"""Tells what a tile was made from, so that a run that goes on need not make it again."""


def write_tile(path: Path, tile: Tile, key: str, cards: Sequence[Card] = (), history: Sequence[str] = ()) -> None:
    """Write a tile, all or nothing.

    The primary image is the data, NaN where the tile weighs nothing. Extensions: WHT (inverse variance, 0 where the
    tile weighs nothing), COV (frames), EXPT (seconds), SAT (share of the samples that are saturated), ALPHA (0..255;
    what a pixel weighs is alpha x WHT).

    Parameters
    ----------
    path : Path
    tile : Tile
    key : str
        Kept in the header (`tile_key`).
    cards, history
        Further header cards.

    Raises
    ------
    EnvironmentProblem
        When the file cannot be written.
    """
    n_channels = len(tile.data)
    trusted = tile.alpha > 0
    weight = tile.weight * trusted
    planes = [
        Plane("DATA", "f4", n_channels),
        Plane("WHT", "f4", n_channels),
        Plane("COV", "i2"),
        Plane("EXPT", "f4"),
        Plane("SAT", "f4"),
        Plane("ALPHA", "u1"),
    ]
    own: Card = (KEY_CARD, key, "digest of its making")
    whole = Box.of_shape(tile.wcs.shape)
    with MosaicFile(path, tile.wcs, planes, [*cards, own], history) as file:
        file.write("DATA", whole, np.where(weight > 0, tile.data, np.float32(np.nan)))
        file.write("WHT", whole, weight)
        file.write("COV", whole, tile.coverage)
        file.write("EXPT", whole, tile.exposure)
        file.write("SAT", whole, tile.saturated)
        file.write("ALPHA", whole, np.where(trusted, np.maximum(np.rint(tile.alpha * 255), 1), 0))
        file.finish()


def tile_key(path: Path) -> str:
    """The key that a tile file was written with; "" when it is none, or not there."""
    try:
        with open_fits(str(path)) as source:
            return next(walk_hdus(source)).cards.text(KEY_CARD)
    except (OSError, EOFError, zlib.error, FrameRejected, StopIteration):
        return ""


def plane_hdus(path: Path, shape: tuple[int, int]) -> dict[str, int]:
    """HDU indices of the one-channel image extensions of a file that have `shape`, by EXTNAME.

    Raises
    ------
    FrameRejected
        When the file cannot be read.
    """
    try:
        with open_fits(str(path)) as source:
            return {
                hdu.cards.text("EXTNAME").upper(): hdu.index
                for hdu in walk_hdus(source)
                if hdu.is_image and hdu.index > 0 and tuple(n for n in hdu.axes if n != 1) == shape
            }
    except (OSError, EOFError, zlib.error) as problem:
        raise FrameRejected("file.unreadable", problem=problem) from problem
