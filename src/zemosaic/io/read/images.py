"""The images in a file, whatever its format: the one place that chooses a reader, by the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from zemosaic.io.headers.cards import FitsStream, Hdu, walk_hdus
from zemosaic.io.read.camera_raw import decode_raw, raw_picture
from zemosaic.io.read.picture import Picture, cards_of
from zemosaic.io.read.tiff import decode_tiff, tiff_pictures
from zemosaic.io.read.xisf import decode_xisf, xisf_pictures

__all__ = ["PICTURE_SUFFIXES", "decode_picture", "is_picture", "walk_images"]

_TIFF = (".tif", ".tiff")
_CAMERA_RAW = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mos", ".mrw", ".nef", ".nrw", ".orf",
    ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
_XISF = (".xisf",)
PICTURE_SUFFIXES = (*_TIFF, *_XISF, *_CAMERA_RAW)
"""Ends of the names of files that are not FITS files and may hold frames, in lower case."""


def is_picture(path: str) -> bool:
    """Whether a file is a TIFF, an XISF file or a camera's raw file, by its name."""
    return path.lower().endswith(PICTURE_SUFFIXES)


def walk_images(path: str, source: FitsStream) -> Iterator[Hdu]:
    """The HDUs of a FITS file, or the pictures of another one as if they were.

    A picture's header bytes are its facts, and its data the whole file, so that both tell it from others.

    Raises
    ------
    FrameRejected
        At the first that is broken or not all there, or that needs what is not installed.
    OSError, EOFError, zlib.error
        What the stream itself raises.
    """
    if not is_picture(path):
        yield from walk_hdus(source)
        return
    for picture in _pictures(path):
        yield _as_hdu(picture, source.n_bytes)


def _pictures(path: str) -> Iterator[Picture]:
    if path.lower().endswith(_TIFF):
        yield from tiff_pictures(path)
    elif path.lower().endswith(_XISF):
        yield from xisf_pictures(path)
    else:
        yield raw_picture(path)


def _as_hdu(picture: Picture, n_bytes: int) -> Hdu:
    lengths = {f"NAXIS{number}": length for number, length in enumerate(reversed(picture.axes), 1)}
    kind = {} if picture.index == 0 else {"XTENSION": "IMAGE"}
    stored = cards_of({**kind, "BITPIX": picture.bitpix, "NAXIS": len(picture.axes), **lengths})
    cards = stored.over(picture.cards)
    return Hdu(picture.index, cards, repr(cards).encode(), 0, n_bytes)


def decode_picture(path: str, index: int) -> npt.NDArray[Any]:
    """The pixels of a picture as they are stored, in the axes of its HDU.

    Raises
    ------
    FrameRejected, OSError
        As `walk_images`.
    """
    if path.lower().endswith(_TIFF):
        return decode_tiff(path, index)
    return decode_xisf(path, index) if path.lower().endswith(_XISF) else decode_raw(path)
