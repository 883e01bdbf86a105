"""FITS headers as they lie in the file: cards, and the walk from one HDU to the next.

A scan must know ten thousand headers in seconds and must survive whatever bytes it
finds, so headers are read here without building a full header object: one dictionary
of raw cards, each parsed when it is asked for.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from zemosaic.errors import FrameRejected
from zemosaic.text import message

__all__ = ["BLOCK", "Cards", "FitsStream", "Hdu", "open_fits", "text_of", "walk_hdus"]

BLOCK = 2880
"""Bytes of a FITS block."""

_CARD = 80
"""Bytes of a card."""

_FIRST_READ = 4 * BLOCK  # most headers end within it, so one read serves
MISSING = message("header.missing")
"""Stands for the value of a card that is not there."""

_MAX_HEADER_BYTES = 4096 * BLOCK  # 147,456 cards; what is longer is no header

_MAX_AXES = 999
"""The FITS standard allows no more."""

_GZIP_MAGIC = b"\x1f\x8b"
_BZIP2_MAGIC = b"BZh"

_STRING = re.compile(r"\s*'((?:[^']|'')*)'?")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?)\s*(?:/|$)")
_LOGICAL = re.compile(r"\s*([TF])\s*(?:/|$)")
_MEASURE = re.compile(r"\s*([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[EeDd][+-]?\d+)?)\s*(?:[a-zA-Zµ°\"'%][\w/°\"'^. *-]*)?")
"""A number as people write it: with a decimal comma, with a unit behind it."""

Value = str | float | int | bool


class Cards:
    """Keywords and values of one header, parsed on demand.

    The first card of a keyword counts, as in every FITS library; commentary cards are
    left out. Values that are not of a FITS type read as absent.

    Parameters
    ----------
    raw : dict of str to str
        Upper-case keyword to the text of its card after the equals sign; a string value
        continued over several cards is joined. The keyword of a HIERARCH card is what follows that word
        (``ESO INS FILT1 NAME``), its parts one blank apart.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: dict[str, str]) -> None:
        self._raw = raw

    @classmethod
    def parse(cls, block: bytes) -> Cards:
        """Read cards of 80 bytes until END or the end of `block`."""
        return cls.from_lines(text_of(block[i : i + _CARD]) for i in range(0, len(block), _CARD))

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> Cards:
        """Read one card a line until END; lines need not be padded."""
        raw: dict[str, str] = {}
        last = ""
        for line in lines:
            key = line[:8].rstrip(" \0\r\n").upper()
            if key == "END":
                break
            if key == "CONTINUE":
                _append(raw, last, line[8:])
                continue
            name, equals, value = (key, line[8:9], line[9:]) if key != "HIERARCH" else line[8:].partition("=")
            name = " ".join(name.upper().split())
            last = name if equals == "=" and name not in raw else ""
            if last:
                raw[last] = value
        return cls(raw)

    def over(self, lower: Cards) -> Cards:
        """These cards, and those of `lower` whose keywords are not here."""
        return Cards({**lower._raw, **self._raw})

    def without(self, keys: re.Pattern[str]) -> Cards:
        """The cards whose keyword does not match `keys` as a whole."""
        return Cards({key: raw for key, raw in self._raw.items() if not keys.fullmatch(key)})

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def __repr__(self) -> str:
        return f"Cards({self._raw})"

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def value(self, key: str) -> Value | None:
        """The value of a keyword; None when absent, undefined or not a FITS value."""
        raw = self._raw.get(key)
        if raw is None:
            return None
        if "'" in raw and (found := _STRING.match(raw)):
            return found[1].replace("''", "'").rstrip()
        if found := _NUMBER.match(raw):
            digits = found[1].upper().replace("D", "E")
            return float(digits) if any(c in digits for c in ".E") else int(digits)
        if found := _LOGICAL.match(raw):
            return found[1] == "T"
        return None

    def number(self, key: str) -> float | None:
        """A finite number; also one that is written as a string, with a decimal comma or with a unit behind it."""
        value = self.value(key)
        if isinstance(value, bool):
            return None
        if value is None or isinstance(value, str):
            found = _MEASURE.fullmatch(self.written(key))
            if not found:
                return None
            value = found[1].upper().replace("D", "E").replace(",", ".")
        try:
            number = float(value)
        except OverflowError:  # an integer of hundreds of digits
            return None
        return number if math.isfinite(number) else None

    def written(self, key: str) -> str:
        """The value as it is written, whether or not it is a FITS value; "" when absent."""
        value = self.value(key)
        return self._raw.get(key, "").partition("/")[0].strip() if value is None else str(value).strip()

    def integer(self, key: str) -> int | None:
        """A whole number, also when written as ``2.``; None when absent or not whole."""
        value = self.value(key)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, key: str) -> str:
        """The value as stripped text; "" when absent."""
        value = self.value(key)
        return "" if value is None else str(value).strip()

    def comment(self, key: str) -> str:
        """What stands behind the slash, "" when there is nothing."""
        raw = self._raw.get(key, "")
        found = _STRING.match(raw)
        return raw[found.end() if found else 0 :].partition("/")[2].strip()

    def first_number(self, *keys: str) -> float | None:
        """The first of several keywords that holds a finite number."""
        return next((number for key in keys if (number := self.number(key)) is not None), None)

    def first_text(self, *keys: str) -> str:
        """The first of several keywords that is not empty."""
        return next((text for key in keys if (text := self.text(key))), "")


def text_of(card: bytes) -> str:
    """A card, or a line, as it was meant: programs put UTF-8 or Latin-1 where the standard has ASCII."""
    try:
        return card.decode("utf-8")
    except UnicodeDecodeError:
        return card.decode("latin-1")


def _append(raw: dict[str, str], key: str, more: str) -> None:
    """Join a CONTINUE card to the string it continues; anything else it follows stays as it is."""
    start, rest = _STRING.match(raw.get(key, "")), _STRING.match(more)
    if start and rest and start[1].endswith("&"):
        raw[key] = f"'{start[1][:-1]}{rest[1]}'" + more[rest.end() :]


@dataclass(frozen=True, slots=True)
class Hdu:
    """One header and the place of its data.

    Attributes
    ----------
    index : int
        0 for the primary HDU.
    cards : Cards
        Its header.
    header : bytes
        The header as stored, whole blocks.
    data_offset, data_bytes : int
        Where the data lie in the (uncompressed) file; without the padding.
    """

    index: int
    cards: Cards
    header: bytes
    data_offset: int
    data_bytes: int

    @property
    def is_tiled(self) -> bool:
        """Whether this is a tile-compressed image (stored as a table)."""
        return self.cards.value("ZIMAGE") is True

    @property
    def is_image(self) -> bool:
        """Whether there is an image, stored plainly or in compressed tiles."""
        is_plain = self.index == 0 or self.cards.text("XTENSION") == "IMAGE"
        return self.is_tiled or (is_plain and self.cards.integer("NAXIS") != 0)

    @property
    def bitpix(self) -> int:
        """BITPIX of the image, of the uncompressed one for tiles; 0 when absent."""
        return self.cards.integer("ZBITPIX" if self.is_tiled else "BITPIX") or 0

    @property
    def axes(self) -> tuple[int, ...]:
        """Lengths of the image's axes in array order (NAXIS1 last).

        Raises
        ------
        FrameRejected
            When NAXIS or one of the lengths is missing, negative or absurd.
        """
        return _axes(self.cards, "Z" if self.is_tiled else "")


def _axes(cards: Cards, prefix: str = "") -> tuple[int, ...]:
    n = cards.integer(f"{prefix}NAXIS")
    if n is None or not 0 <= n <= _MAX_AXES:
        raise FrameRejected("header.bad-card", card=f"{prefix}NAXIS", value=cards.text(f"{prefix}NAXIS") or MISSING)
    lengths = []
    for i in range(n, 0, -1):
        length = cards.integer(f"{prefix}NAXIS{i}")
        if length is None or length < 0:
            text = cards.text(f"{prefix}NAXIS{i}") or "missing"
            raise FrameRejected("header.bad-card", card=f"{prefix}NAXIS{i}", value=text)
        lengths.append(length)
    return tuple(lengths)


def _data_bytes(cards: Cards) -> int:
    """Bytes of data after a header (FITS standard 4.0, equations 1, 2 and 4)."""
    axes = _axes(cards)
    bits = abs(cards.integer("BITPIX") or 0)
    if axes and bits not in {8, 16, 32, 64}:
        raise FrameRejected("header.bad-card", card="BITPIX", value=cards.text("BITPIX") or MISSING)
    if axes and axes[-1] == 0 and cards.value("GROUPS") is True:
        axes = axes[:-1]
    if not axes:
        return 0
    groups = cards.integer("GCOUNT") if "GCOUNT" in cards else 1
    parameters = cards.integer("PCOUNT") if "PCOUNT" in cards else 0
    if groups is None or parameters is None or groups < 0 or parameters < 0:
        raise FrameRejected("header.bad-groups", pcount=cards.text("PCOUNT"), gcount=cards.text("GCOUNT"))
    return bits // 8 * groups * (parameters + math.prod(axes))


def _end_of_header(block: bytes) -> int:
    """Offset of the END card, -1 when it is not in `block`.

    Some programs fill the card, or the block, with NUL or line feeds instead of blanks.
    """
    at = block.find(b"END")
    while at >= 0 and (at % _CARD or block[at + 3 : at + _CARD].strip(b" \0\r\n")):
        at = block.find(b"END", at + 1)
    return at


def _read_header(stream: BinaryIO, start: bytes) -> bytes:
    """Whole header blocks, given what has been read of them already."""
    block = start
    while (end := _end_of_header(block)) < 0:
        more = stream.read(max(len(block), _FIRST_READ))
        if not more:
            raise FrameRejected("header.no-end", n_bytes=len(block))
        if len(block) > _MAX_HEADER_BYTES:
            raise FrameRejected("header.no-end-so-far", n_bytes=_MAX_HEADER_BYTES)
        block += more
    return block[: (end // BLOCK + 1) * BLOCK]


@dataclass(frozen=True, slots=True)
class FitsStream:
    """An open FITS file, unpacked on the fly where it is a gzip or bzip2 stream.

    Attributes
    ----------
    stream : binary file
        Plain FITS bytes from their start; seekable.
    n_bytes : int
        Size of the file as it lies on disk.
    trailer : bytes
        The last eight bytes of a packed stream, which hold the checksum of its content; empty for a plain file.
    content_size : int or None
        Bytes of the content modulo 2**32, as a gzip stream states it (RFC 1952); None where nothing does.
    """

    stream: BinaryIO
    n_bytes: int
    trailer: bytes = b""
    content_size: int | None = None

    @property
    def is_packed(self) -> bool:
        """Whether the file is a gzip or bzip2 stream, whatever its name."""
        return bool(self.trailer)


@contextmanager
def open_fits(path: str) -> Iterator[FitsStream]:
    """Open a file read-only; a packed stream is known by its first bytes, not by its name.

    Raises
    ------
    OSError
        When the file cannot be opened.
    """
    with open(path, "rb", buffering=0) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        magic = file.read(3)
        is_gzip = magic.startswith(_GZIP_MAGIC)
        if not is_gzip and magic != _BZIP2_MAGIC:
            file.seek(0)
            yield FitsStream(file, n_bytes)
            return
        file.seek(max(n_bytes - 8, 0))
        trailer = file.read(8)
        file.seek(0)
        size = int.from_bytes(trailer[4:], "little") if is_gzip else None
        with gzip.GzipFile(fileobj=file) if is_gzip else bz2.BZ2File(file) as unpacked:
            yield FitsStream(cast(BinaryIO, unpacked), n_bytes, trailer, size)


def walk_hdus(source: FitsStream) -> Iterator[Hdu]:
    """The HDUs of a FITS file, in order; data are skipped, not read.

    The data of every HDU given are known to be all there: from the file's size, for a gzip
    stream from the size it states itself where that fits its first HDU, else by unpacking it.

    Raises
    ------
    FrameRejected
        At the first HDU that is broken or whose data are not all there; the HDUs before it
        have been given by then. Bytes after the last HDU that are no HDU are ignored.
    OSError, EOFError, zlib.error
        What the stream itself raises.
    """
    stream = source.stream
    offset = 0
    for index in itertools.count():
        stream.seek(offset)
        start = stream.read(_FIRST_READ)
        if index == 0 and not start.startswith(b"SIMPLE  ="):
            head = start[:30].decode("latin-1")
            raise FrameRejected("file.no-fits", start=repr(head)) if start else FrameRejected("file.empty")
        if index > 0 and not start.startswith(b"XTENSION="):
            return
        header = _read_header(stream, start)
        cards = Cards.parse(header)
        offset += len(header)
        data_bytes = _data_bytes(cards)
        hdu = Hdu(index, cards, header, offset, data_bytes)
        offset += -(-data_bytes // BLOCK) * BLOCK
        if source.content_size == offset % 2**32:
            yield hdu
            return  # the stream ends with this HDU: nothing more to look for, nothing to unpack
        _check_data_is_there(source, hdu)
        yield hdu


def _check_data_is_there(source: FitsStream, hdu: Hdu) -> None:
    offset, data_bytes = hdu.data_offset, hdu.data_bytes
    n_bytes = source.stream.seek(offset + data_bytes) if source.is_packed else source.n_bytes
    if offset + data_bytes > n_bytes:
        there = max(n_bytes - offset, 0)
        raise FrameRejected("file.truncated-data", bytes_promised=data_bytes, bytes_there=there)
