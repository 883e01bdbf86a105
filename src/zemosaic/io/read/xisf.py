"""XISF files, as PixInsight and capture programs write them: what their header says, as FITS cards, and their pixels.

Monolithic files of version 1.0 of the public specification: a header in XML, images as attached blocks, plain or packed
with zlib or LZ4, with shuffled bytes or without.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import MISSING, Cards, Value
from zemosaic.io.headers.facts import TOP_OF_16_BITS, one_line
from zemosaic.io.read.picture import ABOUT_THE_ARRAY, Picture, cards_of

__all__ = ["decode_xisf", "xisf_pictures"]

AnyArray = npt.NDArray[Any]

_SIGNATURE = b"XISF0100"
_MOST_HEADER_BYTES = 1 << 26
"""64 MiB: headers with long histories have some; what is longer is none."""
_SAMPLES = {
    "UInt8": ("u1", 8),
    "UInt16": ("u2", 16),
    "UInt32": ("u4", 32),
    "Float32": ("f4", -32),
    "Float64": ("f8", -64),
}
"""Sample format -> numpy type and BITPIX."""
_MOST_BYTES_OF_ONE = {"": 1, "zlib": 1040, "lz4": 255, "lz4hc": 255}
"""By compression: what one stored byte can become; a broken size must not fill the memory."""
_DIGESTS = {"sha1": "sha1", "sha256": "sha256", "sha512": "sha512", "sha3256": "sha3_256", "sha3512": "sha3_512"}
_PROPERTIES = {
    "Instrument:Camera:Name": "INSTRUME",
    "Instrument:ExposureTime": "EXPTIME",
    "Instrument:Filter:Name": "FILTER",
    "Instrument:Sensor:XPixelSize": "XPIXSZ",
    "Instrument:Sensor:YPixelSize": "YPIXSZ",
    "Instrument:Telescope:Name": "TELESCOP",
    "Observation:Center:Dec": "DEC",
    "Observation:Center:RA": "RA",
    "Observation:Time:Start": "DATE-OBS",
}
"""Properties of an image that say what FITS cards say; such cards stand above them."""
_FOCAL_LENGTH_M = "Instrument:Telescope:FocalLength"
_NO_PICTURE = re.compile(r".*Map(High|Low)?", re.IGNORECASE)
"""Types of images that tell of another image: rejection, slope and weight maps."""


@dataclass(frozen=True, slots=True)
class _Array:
    """The array of an image, channels first or last; those beyond its colours are transparency and the like."""

    axes: tuple[int, ...]
    dtype: np.dtype[Any]
    n_colours: int
    is_planar: bool

    @property
    def n_bytes(self) -> int:
        """What it takes unpacked."""
        return math.prod(self.axes) * self.dtype.itemsize

    @property
    def picture_axes(self) -> tuple[int, ...]:
        """Axes of its colours alone."""
        return (self.n_colours, *self.axes[1:]) if self.is_planar else (*self.axes[:2], self.n_colours)


@dataclass(frozen=True, slots=True)
class _Block:
    """Where the bytes of an image are, and how they are packed."""

    offset: int
    n_bytes: int
    codec: str  # "", "zlib", "lz4" or "lz4hc"
    item_bytes: int  # of shuffled items; 1 where bytes are in order
    parts: tuple[tuple[int, int], ...]  # packed and unpacked size of each part
    checksum: str


def xisf_pictures(path: str) -> Iterator[Picture]:
    """The images of an XISF file; pixels are not read.

    FITS keywords are the cards; where one is missing, a property of the image that says the same.

    Raises
    ------
    FrameRejected
        When it is no XISF file, at the first image that is cut short or stored in a way that is not read.
    OSError
        When it cannot be opened.
    """
    for index, image in enumerate(_images(path)):
        if not _NO_PICTURE.fullmatch(image.get("imageType", "")):
            array = _array_of(image)
            _check_sizes(_block_of(image), array.n_bytes, path)
            yield Picture(index, array.picture_axes, _SAMPLES[image.get("sampleFormat", "")][1], _cards(image))


def decode_xisf(path: str, index: int) -> AnyArray:
    """The pixels of an image, in the axes that `xisf_pictures` states.

    Rows are stored from the top of the picture. They are turned over, since the FITS keywords of these files count
    rows from the bottom.

    Raises
    ------
    FrameRejected, OSError
        As `xisf_pictures`.
    """
    image = _images(path)[index]
    stored, block = _array_of(image), _block_of(image)
    _check_sizes(block, stored.n_bytes, path)
    with open(path, "rb") as file:
        file.seek(block.offset)
        content = file.read(block.n_bytes)
    _compare_checksum(block.checksum, content)
    array = np.frombuffer(_unpack(block, content), stored.dtype).reshape(stored.axes)
    if stored.is_planar:
        return np.flip(array[: stored.n_colours], 1)
    return np.flip(array[:, :, : stored.n_colours], 0)


def _images(path: str) -> list[ElementTree.Element]:
    """The images that a header lists."""
    with open(path, "rb") as file:
        start = file.read(16)
        if not start.startswith(_SIGNATURE):
            raise FrameRejected("file.no-xisf", start=repr(start[:8]))
        n_bytes = int.from_bytes(start[8:12], "little")
        text = file.read(min(n_bytes, _MOST_HEADER_BYTES))
    if len(text) < n_bytes:
        raise FrameRejected("file.truncated-header", bytes_promised=n_bytes, bytes_there=len(text))
    if b"<!DOCTYPE" in text:
        raise FrameRejected("file.xisf-document-type")
    try:
        root = ElementTree.fromstring(text.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError) as problem:
        raise FrameRejected("file.xisf-header-damaged", problem=one_line(problem)) from problem
    return [element for element in root if _tag(element) == "Image"]


def _tag(element: ElementTree.Element) -> str:
    """Name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _array_of(image: ElementTree.Element) -> _Array:
    """How the pixels of an image are stored."""
    sample = image.get("sampleFormat", "")
    if sample not in _SAMPLES:
        raise FrameRejected("file.xisf-samples", samples=sample or MISSING)
    try:
        width, height, channels = (int(length) for length in image.get("geometry", "").split(":"))
    except ValueError:
        raise FrameRejected("header.bad-card", card="geometry", value=image.get("geometry", MISSING)) from None
    n_colours = 3 if image.get("colorSpace") == "RGB" else 1
    if min(width, height) < 1 or channels < n_colours:
        raise FrameRejected("header.bad-card", card="geometry", value=image.get("geometry"))
    order = ">" if image.get("byteOrder") == "big" else "<"
    is_planar = image.get("pixelStorage", "Planar") != "Normal"
    axes = (channels, height, width) if is_planar else (height, width, channels)
    return _Array(axes, np.dtype(order + _SAMPLES[sample][0]), n_colours, is_planar)


def _block_of(image: ElementTree.Element) -> _Block:
    """The attached block of an image."""
    place = re.fullmatch(r"attachment:(\d+):(\d+)", image.get("location", ""))
    if not place:
        kind = image.get("location", "missing").partition(":")[0]
        raise FrameRejected("file.xisf-not-attached", place=kind)
    offset, n_bytes = int(place[1]), int(place[2])
    checksum = image.get("checksum", "")
    written = image.get("compression", "")
    if not written:
        return _Block(offset, n_bytes, "", 1, ((n_bytes, n_bytes),), checksum)
    packing = re.fullmatch(r"(zlib|lz4|lz4hc)(?:\+sh)?:(\d+)(?::(\d+))?", written)
    if not packing or ("+sh" in written) != bool(packing[3]):
        raise FrameRejected("file.xisf-packing", packing=written)
    parts = tuple((int(a), int(b)) for a, b in re.findall(r"(\d+),(\d+)", image.get("subblocks", "")))
    return _Block(offset, n_bytes, packing[1], int(packing[3] or 1), parts or ((n_bytes, int(packing[2])),), checksum)


def _check_sizes(block: _Block, n_bytes: int, path: str) -> None:
    """Whether a block can hold an image of so many bytes, and is all there."""
    unpacked = sum(size for _, size in block.parts)
    is_whole = sum(size for size, _ in block.parts) == block.n_bytes and block.item_bytes > 0
    if unpacked != n_bytes or not is_whole or n_bytes > _MOST_BYTES_OF_ONE[block.codec] * block.n_bytes:
        raise FrameRejected("file.xisf-block", bytes_promised=n_bytes, block_bytes=block.n_bytes, bytes_there=unpacked)
    with open(path, "rb") as file:
        there = file.seek(0, 2)
    if block.offset + block.n_bytes > there:
        raise FrameRejected("file.truncated-pixels", bytes_promised=block.offset + block.n_bytes, bytes_there=there)


def _compare_checksum(written: str, content: bytes) -> None:
    name, _, stated = written.partition(":")
    method = _DIGESTS.get(name.lower().replace("-", ""))
    if method and hashlib.new(method, content).hexdigest() != stated.lower():
        raise FrameRejected("file.xisf-checksum")


def _unpack(block: _Block, content: bytes) -> bytes:
    """The bytes of an image in their order."""
    if not block.codec:
        return content
    unpacked, start = [], 0
    for packed, size in block.parts:
        unpacked.append(_unpack_part(block.codec, content[start : start + packed], size))
        start += packed
    joined = b"".join(unpacked)
    if block.item_bytes == 1:
        return joined
    # Shuffled: first bytes of all items, then second ones ...; what is left over at the end is in order.
    n_items = len(joined) // block.item_bytes
    whole = np.frombuffer(joined, np.uint8, n_items * block.item_bytes).reshape(block.item_bytes, n_items)
    return whole.T.tobytes() + joined[n_items * block.item_bytes :]


def _unpack_part(codec: str, packed: bytes, size: int) -> bytes:
    if codec == "zlib":
        try:
            found = zlib.decompressobj().decompress(packed, size + 1)
        except zlib.error as problem:
            raise FrameRejected("file.xisf-packed-damaged", problem=problem) from problem
    else:
        # Here, so that who only lists files does not wait for the compiler of kernels.
        from zemosaic.kernels.pixels.lz4 import unpack_lz4

        out = np.empty(size, np.uint8)
        n_bytes = unpack_lz4(np.frombuffer(packed, np.uint8), out)
        found = out[:n_bytes].tobytes()
    if len(found) != size:
        raise FrameRejected("file.xisf-packed-short", bytes_there=len(found), bytes_promised=size)
    return found


def _cards(image: ElementTree.Element) -> Cards:
    """What FITS keywords and properties say, and what the image itself does."""
    raw: dict[str, str] = {}
    facts: dict[str, Value] = {}
    own: dict[str, Value] = {"ROWORDER": "BOTTOM-UP"}  # of the array, once its rows are turned over
    if image.get("sampleFormat") == "UInt16":
        facts["SATURATE"] = TOP_OF_16_BITS
    elif bounds := re.fullmatch(r"[^:]+:([\d.eE+-]+)", image.get("bounds", "")):
        own["SATURATE"] = float(bounds[1])  # in units of the pixels, which the keyword may not be
    if kind := image.get("imageType"):
        facts["IMAGETYP"] = kind
    for child in image:
        match _tag(child):
            case "FITSKeyword":
                name = " ".join(child.get("name", "").upper().removeprefix("HIERARCH ").split())
                if name not in {"", "COMMENT", "HISTORY"}:
                    raw.setdefault(name, _as_card(child))
            case "Property":
                facts |= _fact_of(child)
            case "ColorFilterArray":
                own["BAYERPAT"] = child.get("pattern", "")
    return cards_of(own).over(Cards(raw).without(ABOUT_THE_ARRAY)).over(cards_of(facts))


def _as_card(keyword: ElementTree.Element) -> str:
    """A FITS keyword as the text of its card; a text that was written without quotes gets them."""
    written, comment = keyword.get("value", "").strip(), keyword.get("comment", "")
    if written and Cards({"X": written}).value("X") is None:
        written = "'" + written.replace("'", "''") + "'"
    return f"{written} / {comment}"


def _fact_of(element: ElementTree.Element) -> dict[str, Value]:
    """What a property says, under its FITS keyword."""
    name, written = element.get("id", ""), (element.get("value") or element.text or "").strip()
    if name not in _PROPERTIES and name != _FOCAL_LENGTH_M:
        return {}
    try:
        number = float(written)
    except ValueError:
        return {_PROPERTIES[name]: written} if written and name in _PROPERTIES else {}
    return {"FOCALLEN": 1000 * number} if name == _FOCAL_LENGTH_M else {_PROPERTIES[name]: number}
