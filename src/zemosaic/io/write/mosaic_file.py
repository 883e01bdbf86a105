"""The mosaic's FITS file: laid out whole at the start, filled box by box, named when it is finished."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from zemosaic.errors import EnvironmentProblem
from zemosaic.io.headers.cards import BLOCK
from zemosaic.io.headers.wcs_cards import cards_of_wcs
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["KEPT_PLACE", "Card", "MosaicFile", "Plane", "wcs_header"]

Card = tuple[str, str | int | float | bool, str]
"""Keyword, value, comment."""

KEPT_PLACE = "0" * 64
"""Value of a card that keeps its place for one that `MosaicFile.finish` writes."""

_BITPIX = {"f4": -32, "i4": 32, "i2": 16, "u1": 8}
_CARD = 80  # bytes of a header's card
_SPARE_BLOCKS = 1  # of header, for cards that are known only at the end
_BINARY = getattr(os, "O_BINARY", 0)
_COPY_BYTES = 4 << 20  # a buffer of big-endian rows is at most this large


@dataclass(frozen=True, slots=True)
class Plane:
    """One image of the file.

    Attributes
    ----------
    name : str
        EXTNAME, and the name to write it by. The first plane is the primary image.
    dtype : {"f4", "i4", "i2", "u1"}
        Stored type, without scaling.
    n_channels : int
        1 for ``(height, width)``, 3 for ``(3, height, width)``.
    unit : str
        BUNIT; "" for none.
    """

    name: str
    dtype: Literal["f4", "i4", "i2", "u1"] = "f4"
    n_channels: int = 1
    unit: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a plane lies in the file."""

    plane: Plane
    header: fits.Header
    header_offset: int
    data_offset: int


class MosaicFile:
    """A FITS file of several images on one grid, written box by box by several threads.

    The file is made under a hidden temporary name beside its final one, at its full length
    (sparse where the file system can), so it never needs to be in memory and runs out of disk
    space before the work, not after it. `finish` gives it its name in one step; leaving the
    context without `finish` removes it.

    Parameters
    ----------
    path : Path
        Final name; an existing file is replaced by `finish`.
    wcs : CelestialWcs
        The grid; ``wcs.shape`` is the shape of every plane.
    planes : sequence of Plane
        The first is the primary image, the others are extensions named by EXTNAME.
    cards : sequence of Card
        Further keywords of the primary header.
    history : sequence of str
        HISTORY of the primary header.
    partial : Path, optional
        Temporary name, on the same file system; by default a hidden one beside the final one.
    resume : bool
        Go on with the temporary file where one of exactly this layout is there, and leave it when the context ends
        without `finish`: `read` then tells what an earlier run wrote.

    Raises
    ------
    EnvironmentProblem
        When the folder cannot be written or has not enough space.

    Notes
    -----
    Pixels that nobody writes are 0. Rows are written by plain system calls, not through a mapping:
    a full disk is then an error that can be reported, and written pages do not count as memory of
    the process. No clock time is written.
    """

    def __init__(
        self,
        path: Path,
        wcs: CelestialWcs,
        planes: Sequence[Plane],
        cards: Sequence[Card] = (),
        history: Sequence[str] = (),
        *,
        partial: Path | None = None,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self.partial_path = partial or self.path.with_name(f".{self.path.name}.partial")
        self._shape = wcs.shape
        self._resume = self._keep_partial = resume
        self._lock = threading.Lock()
        self._file_number = -1
        header = wcs_header(wcs)
        self._places = _lay_out(planes, header, wcs.shape, cards, history)
        last = list(self._places.values())[-1]
        self.n_bytes = last.data_offset + _padded(_plane_bytes(last.plane, self._shape))
        self._create()

    def _create(self) -> None:
        folder = self.path.parent
        try:
            if self._resume and self._is_laid_out():
                self._file_number = os.open(self.partial_path, os.O_RDWR | _BINARY)
                return
            self.partial_path.unlink(missing_ok=True)
            free = shutil.disk_usage(folder).free
            if free < self.n_bytes:
                raise EnvironmentProblem(
                    "output.no-space", folder=folder, file=self.path.name, bytes_needed=self.n_bytes, bytes_free=free
                )
            self._file_number = os.open(self.partial_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
            os.ftruncate(self._file_number, self.n_bytes)
            for place in self._places.values():
                self._write_at(place.header_offset, _header_bytes(place))
        except OSError as problem:
            self.close()
            raise EnvironmentProblem("output.cannot-write", folder=folder, problem=problem.strerror) from problem

    def _is_laid_out(self) -> bool:
        """Whether the temporary file is there with the same headers in the same places.

        Kept places may have been filled: a run that dies in `finish` leaves them so, with all pixels in the file.
        """
        try:
            with self.partial_path.open("rb") as file:
                if file.seek(0, os.SEEK_END) != self.n_bytes:
                    return False
                for place in self._places.values():
                    file.seek(place.header_offset)
                    if not _is_header(file.read(place.data_offset - place.header_offset), _header_bytes(place)):
                        return False
        except FileNotFoundError:
            return False
        return True

    def write(self, name: str, box: Box, values: npt.NDArray[np.generic]) -> None:
        """Write a box of a plane. Boxes of different calls may be written at the same time.

        Parameters
        ----------
        name : str
            The plane's name.
        box : Box
            Inside the grid.
        values : ndarray, shape (height, width) or (c, height, width)
            Cast to the plane's type; the caller sees to it that integers fit.

        Raises
        ------
        EnvironmentProblem
            When the disk is full or gone.
        ValueError
            When box and values do not fit together or into the grid.
        """
        place = self._places[name]
        planes = values if values.ndim == 3 else values[None]
        if planes.shape != (place.plane.n_channels, *box.shape) or not Box.of_shape(self._shape).contains(box):
            raise ValueError(f"{values.shape} does not fill {box} of plane {name} in a grid of {self._shape}")
        dtype = np.dtype(place.plane.dtype).newbyteorder(">")
        width = self._shape[1]
        n_rows = max(_COPY_BYTES // (box.width * dtype.itemsize), 1)
        try:
            for channel, plane in enumerate(planes):
                first = channel * self._shape[0] + box.y0
                for y in range(0, box.height, n_rows):
                    rows = np.ascontiguousarray(plane[y : y + n_rows], dtype)
                    start = place.data_offset + ((first + y) * width + box.x0) * dtype.itemsize
                    self._write_rows(start, rows, width * dtype.itemsize)
        except OSError as problem:
            raise EnvironmentProblem(
                "output.cannot-write-file", path=self.partial_path, problem=problem.strerror
            ) from problem

    def _write_rows(self, start: int, rows: npt.NDArray[np.generic], stride: int) -> None:
        view = rows.view(np.uint8)
        if view.shape[1] == stride:
            self._write_at(start, view.reshape(-1).data)
            return
        content, n_bytes = view.reshape(-1).data, view.shape[1]
        for i in range(len(view)):
            self._write_at(start + i * stride, content[i * n_bytes : (i + 1) * n_bytes])

    def _write_at(self, offset: int, content: bytes | memoryview) -> None:
        while content:
            if hasattr(os, "pwrite"):
                n_written = os.pwrite(self._file_number, content, offset)
            else:  # Windows has one position a file
                with self._lock:
                    os.lseek(self._file_number, offset, os.SEEK_SET)
                    n_written = os.write(self._file_number, content)
            content, offset = content[n_written:], offset + n_written

    def read(self, name: str, box: Box) -> npt.NDArray[np.generic]:
        """What has been written into a box of a plane, in the plane's type and native byte order.

        Returns
        -------
        ndarray, shape (c, height, width)
        """
        plane = self._places[name].plane
        dtype = np.dtype(plane.dtype).newbyteorder(">")
        stored = np.memmap(
            self.partial_path, dtype, "r", self._places[name].data_offset, (plane.n_channels, *self._shape)
        )
        return np.array(stored[:, *box.slices], np.dtype(plane.dtype))

    def finish(self, cards: Sequence[Card] = (), history: Sequence[str] = ()) -> Path:
        """Add last cards to the primary header, bring everything to the disk and give the file its name.

        Returns
        -------
        Path
            The final name.

        Raises
        ------
        EnvironmentProblem
            When the final name cannot be taken (on Windows: the old file is open in a program); the
            temporary file is kept then, and named in the message.
        ValueError
            When more than 36 cards are new: those given at the start are replaced in their place.
        """
        primary = next(iter(self._places.values()))
        _add_cards(primary.header, cards, history)
        try:
            self._write_at(primary.header_offset, _header_bytes(primary))
            os.fsync(self._file_number)
            self.close()
            os.replace(self.partial_path, self.path)
        except OSError as problem:
            self._keep_partial = True
            raise EnvironmentProblem(
                "output.cannot-rename", path=self.path, problem=problem.strerror, partial=self.partial_path
            ) from problem
        return self.path

    def close(self) -> None:
        """Close the file under whatever name it has."""
        if self._file_number >= 0:
            os.close(self._file_number)
            self._file_number = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if not self._keep_partial:
            self.partial_path.unlink(missing_ok=True)


def wcs_header(wcs: CelestialWcs) -> fits.Header:
    """The WCS as cards that every program reads: CD matrix, RADESYS and EQUINOX, nothing else.

    SWarp and Montage misread the PC matrix with CDELT = 1 that astropy writes.
    """
    header = fits.Header.fromstring(cards_of_wcs(wcs.wcs))
    if "RADESYS" not in header:
        header["RADESYS"] = "ICRS" if "EQUINOX" not in header else "FK5" if header["EQUINOX"] >= 1984 else "FK4"
    header.setdefault("EQUINOX", 2000.0)
    return header


def _lay_out(
    planes: Sequence[Plane],
    wcs: fits.Header,
    shape: tuple[int, int],
    cards: Sequence[Card],
    history: Sequence[str],
) -> Mapping[str, _Place]:
    places: dict[str, _Place] = {}
    offset = 0
    for i, plane in enumerate(planes):
        header = _plane_header(plane, shape, is_primary=i == 0)
        header.extend(wcs.cards, end=True)
        if i == 0:
            _add_cards(header, cards, history)
        n_spare = _SPARE_BLOCKS * BLOCK if i == 0 else 0
        data_offset = offset + _padded(len(header.tostring())) + n_spare
        places[plane.name] = _Place(plane, header, offset, data_offset)
        offset = data_offset + _padded(_plane_bytes(plane, shape))
    return places


def _plane_header(plane: Plane, shape: tuple[int, int], *, is_primary: bool) -> fits.Header:
    axes = shape if plane.n_channels == 1 else (plane.n_channels, *shape)
    header = fits.Header()
    if is_primary:
        header["SIMPLE"] = (True, "FITS standard 4.0")
    else:
        header["XTENSION"] = ("IMAGE", "image extension")
    header["BITPIX"] = _BITPIX[plane.dtype]
    header["NAXIS"] = len(axes)
    for i, length in enumerate(reversed(axes), 1):
        header[f"NAXIS{i}"] = length
    if is_primary:
        header["EXTEND"] = True
    else:
        header["PCOUNT"], header["GCOUNT"] = 0, 1
    header["EXTNAME"] = plane.name
    if plane.unit:
        header["BUNIT"] = plane.unit
    return header


def _add_cards(header: fits.Header, cards: Sequence[Card], history: Sequence[str]) -> None:
    for key, value, comment in cards:
        header[key] = (_ascii(value) if isinstance(value, str) else value, _ascii(comment))
    for line in history:
        header.add_history(_ascii(line))


def _ascii(text: str) -> str:
    """FITS headers hold printable ASCII only."""
    return "".join(ch if " " <= ch <= "~" else "?" for ch in text)


def _header_bytes(place: _Place) -> bytes:
    """The header up to its data; blank cards fill what would be whole blocks after END."""
    n_bytes = place.data_offset - place.header_offset
    text: str = place.header.tostring(endcard=False, padding=False)
    if len(text) > n_bytes - _CARD:
        raise ValueError(f"the header has {len(text) // _CARD} cards, there is space for {n_bytes // _CARD - 1}")
    return (text.ljust(n_bytes - BLOCK) + "END").ljust(n_bytes).encode("ascii")


def _is_header(found: bytes, own: bytes) -> bool:
    """Whether a header is our own, whatever stands in the cards that only keep their places."""
    if len(found) != len(own):
        return False
    cards = ((found[i : i + _CARD], own[i : i + _CARD]) for i in range(0, len(own), _CARD))
    return all(a == b or (KEPT_PLACE.encode() in b and a[:8] == b[:8]) for a, b in cards)


def _plane_bytes(plane: Plane, shape: tuple[int, int]) -> int:
    return plane.n_channels * shape[0] * shape[1] * np.dtype(plane.dtype).itemsize


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // BLOCK) * BLOCK
