"""TIFF files: what their tags say, as FITS cards, and their pixels."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import Cards, Value
from zemosaic.io.headers.facts import TOP_OF_16_BITS, one_line
from zemosaic.io.read.picture import ABOUT_THE_ARRAY, Picture, cards_of

__all__ = ["decode_tiff", "exif_of_file", "tiff_pictures"]

AnyArray = npt.NDArray[Any]

_BITPIX = {"u1": 8, "u2": 16, "i2": 16, "u4": 32, "i4": 32, "f2": -32, "f4": -32, "f8": -64}
_PLAIN, _RGB, _MOSAIC, _LINEAR = 1, 2, 32803, 34892  # PhotometricInterpretation
_TRANSPARENCY = (1, 2)  # ExtraSamples: associated and unassociated alpha
_MOST_BYTES_OF_ONE = {
    1: 1,
    8: 1040,
    32946: 1040,
}  # by compression: none, deflate; a broken size must not fill the memory
# What tifffile makes of damaged files: it has an error of its own, and those of what it calls.
_DAMAGE = (
    ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, AttributeError, AssertionError, MemoryError,
    struct.error, zlib.error,
)  # fmt: skip


@contextmanager
def _pages(path: str) -> Iterator[Any]:
    """The pages of a TIFF file; what is wrong with it is a `FrameRejected`.

    Raises
    ------
    FrameRejected
        When it is no TIFF file, or damaged.
    OSError
        When it cannot be opened.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is told in the reason
    try:
        with tifffile.TiffFile(path) as file:
            yield file.pages
    except (tifffile.TiffFileError, *_DAMAGE) as problem:
        raise FrameRejected("file.tiff-damaged", problem=one_line(problem)) from problem


def tiff_pictures(path: str) -> Iterator[Picture]:
    """The pages of a TIFF file that are not small copies of others; pixels are not read.

    Facts come from an Astro-TIFF header (the FITS header in ImageDescription, specification 1.0 of 2022-06-21),
    else from EXIF tags.

    Raises
    ------
    FrameRejected
        At the first page that is damaged, cut short, or stored in a way that is not read.
    OSError
        When the file cannot be opened.
    """
    with _pages(path) as pages:
        for index, page in enumerate(pages):
            if not page.is_reduced:
                yield _describe(index, page)


def decode_tiff(path: str, index: int) -> AnyArray:
    """The pixels of a page, in the axes that `tiff_pictures` states.

    Rows are in the order of the file, from the top; with an Astro-TIFF header they are turned over, so that what
    the header says of rows (WCS, colour pattern) is true. Where an alpha channel is 0 there is NaN.

    Raises
    ------
    FrameRejected, OSError
        As `tiff_pictures`.
    """
    with _pages(path) as pages:
        page = pages[index]
        _describe(index, page)  # tifffile fills what a file that was cut lacks
        array = _picture_samples(page, page.asarray())
        if _fits_header(page) is not None:
            array = np.flip(array, -2 if _is_planar(page) else 0)
    return array


def exif_of_file(path: str) -> tuple[dict[str, Value], tuple[int, ...]]:
    """What the EXIF tags of a camera's raw file say, and the depth in bits of each picture in it.

    Facts come under their FITS keywords: INSTRUME, EXPTIME, DATE-OBS, ISOSPEED, FOCALLEN. Both are empty for a file
    that is not built like a TIFF.
    """
    try:
        with _pages(path) as pages:
            first = pages[0]
            return _exif(first), tuple(int(page.bitspersample) for page in (first, *(first.pages or ())))
    except FrameRejected:
        return {}, ()


def _describe(index: int, page: Any) -> Picture:
    dtype = np.dtype(page.dtype or "V")
    if dtype.str[1:] not in _BITPIX:
        raise FrameRejected("file.tiff-bits", bits=page.bitspersample)
    if page.photometric not in {_PLAIN, _RGB, _MOSAIC, _LINEAR}:
        raise FrameRejected("file.tiff-colours", colours=repr(page.photometric))
    _check_decoders(page)
    _check_data_is_there(page)
    facts: dict[str, Value] = {"SATURATE": TOP_OF_16_BITS} if dtype.str[1:] == "u2" else {}
    header = _fits_header(page)
    cards = cards_of(facts | _exif(page)) if header is None else header.without(ABOUT_THE_ARRAY).over(cards_of(facts))
    return Picture(index, _axes(page), _BITPIX[dtype.str[1:]], cards)


def _check_decoders(page: Any) -> None:
    import tifffile

    if page.compression in tifffile.TIFF.DECOMPRESSORS and page.predictor in tifffile.TIFF.UNPREDICTORS:
        return
    raise FrameRejected("file.tiff-compression", compression=repr(page.compression), predictor=repr(page.predictor))


def _check_data_is_there(page: Any) -> None:
    n_bytes = page.parent.filehandle.size
    promised = max((at + n for at, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if promised > n_bytes:
        raise FrameRejected("file.truncated-pixels", bytes_promised=promised, bytes_there=n_bytes)
    most = _MOST_BYTES_OF_ONE.get(page.compression)
    needed = page.size * page.bitspersample // 8
    stored = sum(page.databytecounts)
    if most is not None and needed > most * stored:
        raise FrameRejected("file.tiff-too-few-bytes", bytes_promised=needed, bytes_there=stored)


def _n_colours(page: Any) -> int:
    return 3 if page.photometric in {_RGB, _LINEAR} and page.samplesperpixel >= 3 else 1


def _is_planar(page: Any) -> bool:
    """Whether channels lie one behind the other, or there is only one."""
    return page.samplesperpixel == 1 or page.axes.startswith("S")


def _axes(page: Any) -> tuple[int, ...]:
    """Axes of the picture, transparency left out."""
    shape = tuple(page.shape)
    if page.samplesperpixel == 1:
        return shape
    n = _n_colours(page)
    return (n, *shape[1:]) if _is_planar(page) else (*shape[:-1], n)


def _picture_samples(page: Any, array: AnyArray) -> AnyArray:
    """The samples of a page that are its picture, NaN where it is transparent."""
    if page.samplesperpixel == 1:
        return array
    axis = 0 if _is_planar(page) else -1
    n = _n_colours(page)
    colours = np.take(array, range(n), axis)
    if not page.extrasamples or page.extrasamples[0] not in _TRANSPARENCY:
        return colours
    is_clear = np.expand_dims(np.take(array, n, axis) == 0, axis)
    return np.where(is_clear, np.float32(np.nan), colours.astype(np.float32))


def _fits_header(page: Any) -> Cards | None:
    """The header of an Astro-TIFF."""
    text = page.description
    return Cards.from_lines(text.splitlines()) if text.startswith("SIMPLE") else None


def _exif(page: Any) -> dict[str, Value]:
    """See `exif_of_file`."""
    tags: dict[str, Any] = {}
    if isinstance(nested := page.tags.valueof("ExifTag"), dict):
        tags |= nested
    tags |= {tag.name: tag.value for tag in page.tags if tag.count < 256}
    facts: dict[str, Value] = {}
    make, model = (str(tags.get(name) or "").strip() for name in ("Make", "Model"))
    if make or model:
        facts["INSTRUME"] = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    for name, key in (("ExposureTime", "EXPTIME"), ("ISOSpeedRatings", "ISOSPEED"), ("FocalLength", "FOCALLEN")):
        number = _number(tags.get(name))
        if number > 0:
            facts[key] = number
    if when := _date(tags):
        facts["DATE-OBS"] = when
    return facts


def _number(value: object) -> float:
    """A rational or a plain number (of several, the first); 0 when it is neither."""
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value):
        return value[0] / value[1] if value[1] else 0.0
    if isinstance(value, tuple) and value:
        return _number(value[0])
    return float(value) if isinstance(value, int | float) else 0.0


def _date(tags: dict[str, Any]) -> str:
    """When it was exposed: in UTC where the offset of the camera's clock is stated, else as the clock said."""
    stated = f"{tags.get('DateTimeOriginal') or ''}".strip()
    offset = f"{tags.get('OffsetTimeOriginal') or ''}".strip()
    try:
        when = datetime.strptime(stated, "%Y:%m:%d %H:%M:%S")
        if offset:
            when = datetime.strptime(f"{stated} {offset}", "%Y:%m:%d %H:%M:%S %z").astimezone(UTC)
    except ValueError:
        return ""
    return when.replace(tzinfo=None).isoformat()
