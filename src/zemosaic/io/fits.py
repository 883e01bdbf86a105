"""Pixels of frames in files, a window at a time.

Of a plain file only the window's rows are read, in pieces that stay in the processor's cache. A
gzip stream, a tile-compressed image, a TIFF or a camera's raw file has to be decoded: it is decoded
once and kept, as it is stored, in a cache of limited size.
"""

from __future__ import annotations

import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException

from zemosaic.errors import FrameRejected
from zemosaic.io.cards import open_fits
from zemosaic.io.decoded_cache import DecodedCache
from zemosaic.io.headers import image_layout, one_line, stored_scaling
from zemosaic.io.images import decode_picture, is_picture, walk_images
from zemosaic.kernels.stored import unpack_floats
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, Layout

__all__ = ["FrameReader", "put_physical_values"]

F4 = npt.NDArray[np.float32]
AnyArray = npt.NDArray[Any]

_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_EXACT_IN_FLOAT32 = 1 << 24
_NORM_ROWS = 64  # rows of a weight map that its median is taken from
_PIECE_BYTES = 1 << 18  # 64 kB to 1 MB are alike within 20 %; above, fresh pages cost more than they save
_SKIP_BYTES = 1 << 14  # reading on costs less than another system call up to about this gap

# What astropy's decoders make of damaged tiles; CfitsioException has no public name (6.1 to 8.0).
_TILE_ERRORS = (
    CfitsioException, fits.VerifyError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, struct.error,
)  # fmt: skip

_Rows = Callable[[int, int], AnyArray]
"""Gives the stored values of rows ``y0 <= y < y1`` of a window, channels first."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """How an image lies in its file."""

    path: str
    hdu: int
    packing: str  # "plain", "gzip", "tiles" or "picture"
    offset: int
    n_bytes: int
    dtype: np.dtype[np.generic]
    axes: tuple[int, ...]
    layout: Layout
    shape: tuple[int, int]
    zero: float
    scale: float
    blank: int | None

    @property
    def n_planes(self) -> int:
        """Planes that lie one behind the other in the file."""
        return 3 if self.layout == "chw" else 1

    @property
    def items_a_pixel(self) -> int:
        """Values that lie side by side for one pixel."""
        return 3 if self.layout == "hwc" else 1

    def planes(self, array: AnyArray) -> AnyArray:
        """An array of the stored axes with channels first; a view."""
        if self.layout == "hwc":
            return np.moveaxis(array.reshape(*self.shape, 3), -1, 0)
        return array.reshape(-1, *self.shape)


class FrameReader:
    """Reads windows of frames that a scan found; an `ImageSource`.

    Files are opened read-only and only while a window is read, so any number of frames needs no
    more open files than there are threads. Safe to use from several threads: plain files share
    nothing; two threads that want the same compressed frame wait for one decoding.

    Parameters
    ----------
    cache_bytes : int
        Upper bound of the decoded frames kept. A frame larger than this is decoded for each
        window (tiles: those that the window touches).

    Attributes
    ----------
    n_bytes_read : int
        Stored bytes of the windows given so far, decoded size.
    n_decodes : int
        Compressed frames decoded so far.

    Notes
    -----
    A weight map is a relative inverse variance: it is divided by the median of its positive
    values in each channel over the whole frame (from 64 rows spread evenly), so that 1 is an ordinary pixel and
    the frame's own noise, measured elsewhere, sets the scale. Variance maps count as ``1 / v``,
    error maps as ``1 / e**2``, masks as 1 where they are 0.

    Plain files are read with system calls, not mapped: in 256 kB pieces that is as fast (512 x 512
    float32 of 1920 x 1080: 0.24 ms, mapped 0.33 ms; whole: 0.9 ms both ways), a file that shrinks or
    a disk that goes is an error instead of the end of the process (SIGBUS), and nothing but the
    window counts as memory.
    """

    def __init__(self, cache_bytes: int = 256 << 20) -> None:
        self._decoded = DecodedCache(cache_bytes)
        self._stored: dict[tuple[str, int], _Stored] = {}
        self._norms: dict[tuple[str, int, str], F4] = {}
        self._count_lock = threading.Lock()
        self.n_bytes_read = 0

    def __reduce__(self) -> tuple[type[FrameReader], tuple[int]]:
        """A reader in another process has a cache of its own, of the same size."""
        return FrameReader, (self._decoded.max_bytes,)

    @property
    def n_decodes(self) -> int:
        """Compressed frames decoded so far."""
        return self._decoded.n_decodes

    def room_bytes(self) -> int:
        """By how much the cache of decoded frames may yet grow: not at all where all files read so far are plain."""
        if self._stored and all(stored.packing == "plain" for stored in list(self._stored.values())):
            return 0
        return self._decoded.room_bytes

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """Pixels and relative weights of a window; see `ImageSource.read_window`.

        Parameters
        ----------
        frame : Frame
            From a scan.
        box : Box
            Not empty, inside the frame.

        Returns
        -------
        data, weight : ndarray, shape (c, height, width), float32
            NaN, infinite and BLANK pixels have data 0 and weight 0. A Bayer frame has one channel.

        Raises
        ------
        FrameRejected
            When the file is gone, shorter than it was, damaged, or holds another image now.
        ValueError
            When the box is empty or reaches out of the frame.
        """
        if box.is_empty or not Box.of_shape(frame.shape).contains(box):
            raise ValueError(f"{box} is not inside a frame of {frame.shape[0]} rows and {frame.shape[1]} columns")
        data, weight = self._read(frame.path, frame.hdu, frame.shape, box)
        if frame.weight is not None:
            weight *= self._relative_weight(frame, box)
        if frame.alpha is not None:
            trust, _ = self._read(*frame.alpha[:2], frame.shape, box)
            weight *= trust > 0
        if frame.weight is not None or frame.alpha is not None:
            data[weight == 0] = 0
        return data, weight

    def _read(self, path: str, hdu: int, shape: tuple[int, int], box: Box) -> tuple[F4, F4]:
        """Physical values of a window and 1 for each; both 0 where there is no data."""
        try:
            stored = self._stored.get((path, hdu)) or self._look_up(path, hdu)
            if stored.shape != shape:
                raise FrameRejected(f"the file has changed since it was scanned: it holds {stored.shape}, not {shape}")
            n_channels = stored.n_planes * stored.items_a_pixel
            data, weight = (
                np.empty((n_channels, *box.shape), np.float32),
                np.empty((n_channels, *box.shape), np.float32),
            )
            n_rows = max(_PIECE_BYTES // (n_channels * stored.shape[1] * stored.dtype.itemsize), 1)
            with self._open_rows(stored, box) as rows:
                for y in range(0, box.height, n_rows):
                    piece = data[:, y : y + n_rows]
                    raw = rows(box.y0 + y, box.y0 + y + piece.shape[1])
                    _unpack(stored, raw, piece, weight[:, y : y + n_rows])
        except FileNotFoundError as problem:
            raise FrameRejected("the file is gone") from problem
        except (OSError, EOFError, zlib.error) as problem:
            raise FrameRejected(f"the file cannot be read: {one_line(problem)}") from problem
        with self._count_lock:
            self.n_bytes_read += data.size * stored.dtype.itemsize
        return data, weight

    def _look_up(self, path: str, index: int) -> _Stored:
        stored = self._stored[path, index] = _describe(path, index)
        return stored

    @contextmanager
    def _open_rows(self, stored: _Stored, box: Box) -> Iterator[_Rows]:
        if stored.packing == "plain":
            with open(stored.path, "rb", buffering=0) as file:
                yield _rows_of_file(stored, file, box)
            return
        key = (stored.path, stored.hdu)
        if stored.packing == "gzip":
            planes = self._decoded.get(key, lambda: _unpack_gzip(stored))
        elif stored.packing == "picture":
            planes = self._decoded.get(key, lambda: _decode_whole(stored))
        elif stored.n_bytes <= self._decoded.max_bytes:
            planes = self._decoded.get(key, lambda: _decode_tiles(stored))
        else:
            window = _decode_tiles(stored, box)
            yield lambda y0, y1: window[:, y0 - box.y0 : y1 - box.y0]
            return
        yield lambda y0, y1: planes[:, y0:y1, box.x0 : box.x1]

    def typical_weight(self, frame: Frame) -> F4 | None:
        """Median of the positive values of a frame's weight map, as inverse variance; what `read_window` divides it by.

        Returns
        -------
        ndarray, float32, shape (1 or c,), or None
            One for each channel of the map; None for a frame without a map, or with one that only masks.

        Raises
        ------
        FrameRejected
            When the map cannot be read, or has no positive value.
        """
        if frame.weight is None or frame.weight_kind == "mask":
            return None
        return self._norm(frame)

    def _norm(self, frame: Frame) -> F4:
        key = (*(frame.weight or ("", 0)), frame.weight_kind)
        norm = self._norms.get(key)
        if norm is None:
            norm = self._norms[key] = self._median_weight(frame)
        return norm

    def _relative_weight(self, frame: Frame, box: Box) -> F4:
        weight = self._map_weight(frame, box)
        weight /= self._norm(frame)[:, None, None]
        return weight

    def _map_weight(self, frame: Frame, box: Box) -> F4:
        """The weight map's own values as inverse variance, 0 where it is not positive."""
        path, hdu = frame.weight or ("", 0)
        values, known = self._read(path, hdu, frame.shape, box)
        with np.errstate(divide="ignore", over="ignore"):
            if frame.weight_kind == "mask":
                weight: F4 = (values == 0).astype(np.float32)
            elif frame.weight_kind == "weight":
                weight = np.maximum(values, 0)
            else:
                weight = np.reciprocal(values if frame.weight_kind == "variance" else values * values)
                weight[~(np.isfinite(weight) & (values > 0))] = 0
        weight[known == 0] = 0
        return weight

    def _median_weight(self, frame: Frame) -> F4:
        if frame.weight_kind == "mask":
            return np.ones(1, np.float32)
        height, width = frame.shape
        rows = np.unique(np.linspace(0, height - 1, min(height, _NORM_ROWS)).astype(int))
        sample = np.concatenate([self._map_weight(frame, Box(y, y + 1, 0, width)) for y in rows], axis=1)
        if not sample.any(axis=(1, 2)).all():
            sample = self._map_weight(frame, Box.of_shape(frame.shape))
        if not sample.any():
            raise FrameRejected(f"its {frame.weight_kind} map has no positive weight in {height} x {width} pixels")
        # A channel without any weight is left as it is.
        return np.array([np.median(plane[plane > 0]) if plane.any() else 1 for plane in sample], np.float32)


def _describe(path: str, index: int) -> _Stored:
    """Look an image up in its file; FrameRejected when it is not there whole."""
    with open_fits(path) as source:
        is_gzip = source.is_gzip
        hdu = next((hdu for hdu in walk_images(path, source) if hdu.index == index), None)
    if hdu is None or not hdu.is_image:
        raise FrameRejected(f"the file has changed since it was scanned: HDU {index} is no image now")
    axes = hdu.axes
    layout, shape = image_layout(axes)
    dtype = np.dtype(_DTYPES[hdu.bitpix])
    zero, scale = stored_scaling(hdu)
    return _Stored(
        path=path,
        hdu=hdu.index,
        packing="picture" if is_picture(path) else "tiles" if hdu.is_tiled else "gzip" if is_gzip else "plain",
        offset=hdu.data_offset,
        n_bytes=int(np.prod(axes, dtype=object)) * dtype.itemsize,
        dtype=dtype,
        axes=axes,
        layout=layout,
        shape=shape,
        zero=zero,
        scale=scale,
        blank=hdu.cards.integer("BLANK") if hdu.bitpix > 0 else None,
    )


def _rows_of_file(stored: _Stored, file: BinaryIO, box: Box) -> _Rows:
    """Reads rows of a window from an open plain file; what lies between two rows is read too where it is short."""
    height, width = stored.shape
    item_bytes = stored.items_a_pixel * stored.dtype.itemsize
    is_narrow = (width - box.width) * item_bytes > _SKIP_BYTES
    first, last = (box.x0, box.x1) if is_narrow else (0, width)

    def fill(start: int, out: npt.NDArray[np.uint8]) -> None:
        file.seek(start)
        if file.readinto(out.data) < out.size:  # type: ignore[attr-defined]
            n_bytes = file.seek(0, 2)
            raise FrameRejected(f"the file has shrunk to {n_bytes} bytes since it was scanned", n_bytes=n_bytes)

    def rows(y0: int, y1: int) -> AnyArray:
        buffer = np.empty((stored.n_planes, y1 - y0, (last - first) * item_bytes), np.uint8)
        for plane in range(stored.n_planes):
            start = stored.offset + ((plane * height + y0) * width + first) * item_bytes
            if is_narrow:
                for i, row in enumerate(buffer[plane]):
                    fill(start + i * width * item_bytes, row)
            else:
                fill(start, buffer[plane].reshape(-1))
        values = buffer.view(stored.dtype)
        if stored.layout == "hwc":
            values = np.moveaxis(values.reshape(y1 - y0, -1, 3), -1, 0)
        return values[:, :, box.x0 - first : box.x1 - first]

    return rows


def _unpack_gzip(stored: _Stored) -> AnyArray:
    """The planes of a gzip stream, its checksum compared."""
    with open_fits(stored.path) as source:
        source.stream.seek(stored.offset)
        content = source.stream.read(stored.n_bytes)
        while source.stream.read(1 << 20):  # to the end: there gzip compares
            pass
    if len(content) < stored.n_bytes:
        raise FrameRejected(f"the gzip stream ends after {len(content)} of {stored.n_bytes} bytes of data")
    return stored.planes(np.frombuffer(content, stored.dtype))


def _decode_whole(stored: _Stored) -> AnyArray:
    """The planes of a picture in a file of another format."""
    array = decode_picture(stored.path, stored.hdu)
    if array.shape != stored.axes:
        raise FrameRejected(f"the file has changed since it was scanned: it holds {array.shape}, not {stored.axes}")
    return stored.planes(array)


def _decode_tiles(stored: _Stored, box: Box | None = None) -> AnyArray:
    """The planes of a tile-compressed image, or a window of them from the tiles that it touches."""
    _describe(stored.path, stored.hdu)  # astropy only warns of a file that has been cut
    try:
        with fits.open(stored.path, mode="readonly", memmap=False, do_not_scale_image_data=True) as hdus:
            hdu = hdus[stored.hdu]
            if not isinstance(hdu, fits.CompImageHDU):
                raise TypeError("its table is broken")
            if box is None:
                return stored.planes(np.asarray(hdu.data))
            if len(stored.axes) == 2:
                return np.asarray(hdu.section[box.slices])[None]
            if len(stored.axes) == 3 and stored.layout == "chw":
                return np.asarray(hdu.section[:, *box.slices])
            return stored.planes(np.asarray(hdu.data))[:, *box.slices]
    except _TILE_ERRORS as problem:
        raise FrameRejected(f"its compressed tiles cannot be decoded: {one_line(problem)}") from problem


def _unpack(stored: _Stored, raw: AnyArray, data: F4, weight: F4) -> None:
    """Stored values to physical ones and 1 for each; both 0 where there is no data."""
    if raw.dtype.str == ">f4" and (stored.zero, stored.scale) == (0.0, 1.0) and sys.byteorder == "little":
        # What most frames are: one pass over the bits instead of five over numbers. Rows without gaps are what
        # the loop is fast on.
        for plane, into, known in zip(raw, data, weight, strict=True):
            unpack_floats(np.ascontiguousarray(plane).view(np.uint32), into.view(np.uint32), known)
        return
    weight[:] = 1
    bad = put_physical_values(raw, data, stored.zero, stored.scale, stored.blank)
    if bad is not None:
        weight[bad] = 0


def put_physical_values(
    raw: AnyArray, out: F4, zero: float = 0.0, scale: float = 1.0, blank: int | None = None
) -> npt.NDArray[np.bool_] | None:
    """Turn stored values into native float32.

    Parameters
    ----------
    raw : ndarray
        Integers or floats of any byte order; not modified.
    out : ndarray of float32, same shape
        Receives ``zero + scale x raw`` (reckoned in float64 where float32 would round integers), and 0
        where there is no data.
    blank : int or None
        Stored integer that means "no data".

    Returns
    -------
    ndarray of bool, or None
        True where there is no data: NaN, infinite, beyond float32, or `blank`. None when there is no
        such pixel.
    """
    bad = None
    is_integer = raw.dtype.kind in "iu"
    is_small = is_integer and raw.dtype.itemsize <= 2
    with np.errstate(over="ignore", invalid="ignore"):
        if (scale == 1 and is_small and zero.is_integer() and abs(zero) < _EXACT_IN_FLOAT32) or (
            not is_integer and (zero, scale) == (0.0, 1.0)
        ):
            np.copyto(out, raw, casting="same_kind")
            if zero:
                out += np.float32(zero)
        else:
            np.copyto(out, raw.astype(np.float64) * scale + zero, casting="same_kind")
    finite = np.isfinite(out)
    if not finite.all():
        bad = ~finite
    if is_integer and blank is not None:
        is_blank = raw == blank
        if is_blank.any():
            bad = is_blank if bad is None else bad | is_blank
    if bad is not None:
        out[bad] = 0
    return bad
