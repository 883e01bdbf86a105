"""Pixels of frames in files, a window at a time.

Of a plain file only the window's rows are read, in pieces that stay in the processor's cache, unless
it is known that more windows will be asked for (`FrameReader.expecting`): then all at once. A gzip
stream, a tile-compressed image, an XISF, TIFF or camera raw file has to be decoded: it is decoded once.
Both are kept, as they are stored, in a cache of limited size.
"""

from __future__ import annotations

import sys
import threading
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import one_line
from zemosaic.io.headers.scaling import Scaling
from zemosaic.io.read.frame_cache import FrameCache
from zemosaic.io.read.read_counts import Key, ReadCounts
from zemosaic.io.read.stored_image import Rows, StoredImage, decode, describe_image, rows_of_file
from zemosaic.kernels.pixels.stored import unpack_floats, unpack_shorts
from zemosaic.model.box import Box
from zemosaic.model.frame import ANY_BIT, Frame, MapRef

__all__ = ["FrameReader", "put_physical_values"]

F4 = npt.NDArray[np.float32]
AnyArray = npt.NDArray[Any]

_AS_STORED = Scaling()
_ASINH_UNIT = 2.5 / np.log(10)
"""A factor e of light, in magnitudes: what asinh scales are kept in."""
_NORM_ROWS = 64  # rows of a weight map that its median is taken from
_PIECE_BYTES = 1 << 18  # 64 kB to 1 MB are alike within 20 %; above, fresh pages cost more than they save


class FrameReader:
    """Reads windows of frames that a scan found; an `ImageSource`.

    Files are opened read-only and only while a window is read, so any number of frames needs no
    more open files than there are threads. Safe to use from several threads: plain files share
    nothing; where a frame is to be kept, threads that want it wait for the one that loads it.

    Parameters
    ----------
    cache_bytes : int
        Upper bound of the decoded frames kept. A frame larger than this is decoded for each
        window (tiles: those that the window touches).

    Attributes
    ----------
    n_bytes_read : int
        Bytes asked of the system so far for pixels in plain files.
    n_decodes : int
        Decodings of compressed frames so far, whole or in part.

    Notes
    -----
    A weight map is a relative inverse variance: it is divided by the median of its positive
    values in each channel over the whole frame (from 64 rows spread evenly), so that 1 is an ordinary pixel and
    the frame's own noise, measured elsewhere, sets the scale. Variance maps count as ``1 / v``,
    error maps as ``1 / e**2``. Pixels that a mask forbids have no weight.

    Plain files are read with system calls, not mapped: in 256 kB pieces that is as fast (512 x 512
    float32 of 1920 x 1080: 0.24 ms, mapped 0.33 ms; whole: 0.9 ms both ways), a file that shrinks or
    a disk that goes is an error instead of the end of the process (SIGBUS), and nothing but the
    window counts as memory.
    """

    def __init__(self, cache_bytes: int = 256 << 20) -> None:
        self._cache_bytes = cache_bytes
        self._cache = FrameCache(cache_bytes)
        self._parts: dict[Key, set[Box]] = {}
        self._counts: ReadCounts | None = None
        self._stored: dict[Key, StoredImage] = {}
        self._norms: dict[MapRef, F4] = {}
        self._count_lock = threading.Lock()
        self._n_decodes: Counter[Key] = Counter()
        self.n_bytes_read = 0

    def __reduce__(self) -> tuple[type[FrameReader], tuple[int]]:
        """A reader in another process has a cache of its own, of the same size."""
        return FrameReader, (self._cache_bytes,)

    @property
    def n_decodes(self) -> int:
        """Decodings of compressed frames so far, whole or in part."""
        return self._n_decodes.total()

    def room_bytes(self) -> int:
        """By how much the cache may grow of itself: not at all where all files read so far are plain."""
        if self._stored and all(stored.packing == "plain" for stored in list(self._stored.values())):
            return 0
        return self._cache.room_bytes

    @contextmanager
    def expecting(self, parts: Iterable[tuple[Frame, Box]], spare_bytes: int) -> Iterator[ReadCounts]:
        """Keep what tasks that are known read several windows of, as long as they do.

        Parameters
        ----------
        parts : iterable of (Frame, Box)
            For every task the frames that it reads, and for each a box that holds all its windows. What tasks with the
            same box of a frame have in common is read once; a compressed frame is decoded once for all.
        spare_bytes : int
            What may be kept beyond `room_bytes`.

        Yields
        ------
        ReadCounts
            What is read while the context lasts.
        """
        keys = []
        for frame, box in parts:
            keys += _keys_of(frame, box)
            for image in _images_of(frame):
                self._parts.setdefault(image, set()).add(box)
        self._cache.expect(keys, self._cache.n_bytes + self.room_bytes() + spare_bytes)
        self._counts = counts = ReadCounts()
        try:
            yield counts
        finally:
            self._counts = None
            self._parts = {}
            self._cache.expect_nothing(self._cache_bytes)

    def bytes_kept(self, frame: Frame, box: Box) -> int:
        """What keeping a box of a frame in a plain file takes; 0 for a compressed one, which is kept as a whole."""
        n_bytes = 0
        for key in _images_of(frame):
            with suppress(FrameRejected, OSError):  # told when it is read
                stored = self._stored.get(key) or self._look_up(*key)
                n_bytes += stored.bytes_to_read(box) if stored.packing == "plain" else 0
        return n_bytes

    def release(self, parts: Iterable[tuple[Frame, Box]]) -> None:
        """Say that a task has ended, with the parts that it was expected to read."""
        self._cache.release(key for frame, box in parts for key in _keys_of(frame, box))

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
            NaN, infinite and BLANK pixels have data 0 and weight 0, and those that are 0 in all channels where
            `Storage.zero_is_empty`. A Bayer frame has one channel.

        Raises
        ------
        FrameRejected
            When the file is gone, shorter than it was, damaged, or holds another image now.
        ValueError
            When the box is empty or reaches out of the frame.
        """
        if box.is_empty or not Box.of_shape(frame.shape).contains(box):
            raise ValueError(f"{box} is not inside a frame of {frame.shape[0]} rows and {frame.shape[1]} columns")
        storage = frame.storage
        data, weight = self._read(storage.path, storage.hdu, frame.shape, box)
        if storage.weight is not None:
            weight *= self._relative_weight(storage.weight, frame.shape, box)
        if storage.mask is not None:
            weight[:, self._is_masked(storage.mask, frame.shape, box)] = 0
        if storage.alpha is not None:
            trust, _ = self._read(storage.alpha.path, storage.alpha.hdu, frame.shape, box)
            weight *= trust > 0
        if (storage.weight, storage.mask, storage.alpha) != (None, None, None):
            data[weight == 0] = 0
        if storage.zero_is_empty:
            weight *= data.any(axis=0)
        return data, weight

    def _read(self, path: str, hdu: int, shape: tuple[int, int], box: Box) -> tuple[F4, F4]:
        """Physical values of a window and 1 for each; both 0 where there is no data."""
        stored = self._stored_of(path, hdu, shape)
        n_channels = stored.n_planes * stored.items_a_pixel
        data, weight = (np.empty((n_channels, *box.shape), np.float32), np.empty((n_channels, *box.shape), np.float32))
        for rows, raw in self._read_pieces(stored, box):
            _unpack(stored, raw, data[:, rows], weight[:, rows])
        return data, weight

    def _is_masked(self, mask: MapRef, shape: tuple[int, int], box: Box) -> npt.NDArray[np.bool_]:
        """Where a mask says not to use a pixel; read as whole numbers, of whose bits float32 loses some."""
        stored = self._stored_of(mask.path, mask.hdu, shape)
        masked = np.empty(box.shape, bool)
        for rows, raw in self._read_pieces(stored, box):
            if mask.bits == ANY_BIT:
                masked[rows] = np.any(raw * stored.scaling.scale + stored.scaling.zero != 0, axis=0)
            else:
                whole = np.nan_to_num(raw).astype(np.int64) * int(stored.scaling.scale) + int(stored.scaling.zero)
                masked[rows] = np.any((whole & mask.bits != 0) | np.isnan(raw), axis=0)
        return masked

    def _stored_of(self, path: str, hdu: int, shape: tuple[int, int]) -> StoredImage:
        """How an image of a known shape lies in its file."""
        with _telling_file_problems():
            stored = self._stored.get((path, hdu)) or self._look_up(path, hdu)
        if stored.shape != shape:
            raise FrameRejected("file.changed-shape", shape_now=stored.shape, shape=shape)
        return stored

    def _read_pieces(self, stored: StoredImage, box: Box) -> Iterator[tuple[slice, AnyArray]]:
        """Stored values of a window, a few rows at a time, with the rows of the window that they are."""
        n_channels = stored.n_planes * stored.items_a_pixel
        n_rows = max(_PIECE_BYTES // (n_channels * stored.shape[1] * stored.dtype.itemsize), 1)
        with _telling_file_problems(), self._open_rows(stored, box) as rows:
            for y in range(0, box.height, n_rows):
                last = min(y + n_rows, box.height)
                yield slice(y, last), rows(box.y0 + y, box.y0 + last)

    def _look_up(self, path: str, index: int) -> StoredImage:
        stored = self._stored[path, index] = describe_image(path, index)
        return stored

    @contextmanager
    def _open_rows(self, stored: StoredImage, box: Box) -> Iterator[Rows]:
        whole, planes = self._load(stored, box)
        if planes is not None:
            yield lambda y0, y1: planes[:, y0 - whole.y0 : y1 - whole.y0, box.x0 - whole.x0 : box.x1 - whole.x0]
            return
        self._count(stored, n_bytes=stored.bytes_to_read(box))
        with open(stored.path, "rb", buffering=0) as file:
            yield rows_of_file(stored, file, box)

    def _load(self, stored: StoredImage, box: Box) -> tuple[Box, AnyArray | None]:
        """Pixels that hold a window's, and where they lie in the frame; None for a window to be read from its file."""
        whole = Box.of_shape(stored.shape)
        if stored.packing == "plain":
            for part in self._parts.get(stored.key, ()):
                if part.contains(box) and self._cache.is_expected((stored.key, part)):
                    load = partial(self._read_part, stored, part)
                    return part, self._cache.get((stored.key, part), stored.bytes_to_read(part), load)
            return box, None
        self._count(stored)
        planes = self._cache.get(stored.key, stored.n_bytes, lambda: self._decode(stored))
        if planes is None and stored.packing == "tiles":
            return box, self._decode(stored, box)
        return whole, self._decode(stored) if planes is None else planes

    def _read_part(self, stored: StoredImage, part: Box) -> AnyArray:
        """All pixels of a box, from a plain file."""
        self._count(stored, n_bytes=stored.bytes_to_read(part))
        with open(stored.path, "rb", buffering=0) as file:
            return rows_of_file(stored, file, part)(part.y0, part.y1)

    def _decode(self, stored: StoredImage, box: Box | None = None) -> AnyArray:
        """The planes of a compressed frame; of tiles, a window of them."""
        self._count(stored, n_decodes=1)
        return decode(stored, box)

    def _count(self, stored: StoredImage, *, n_bytes: int = 0, n_decodes: int = 0) -> None:
        with self._count_lock:
            self.n_bytes_read += n_bytes
            self._n_decodes[stored.key] += n_decodes
            if self._counts is None:
                return
            if stored.packing == "plain":
                self._counts.n_read[stored.key] += n_bytes
                self._counts.n_stored[stored.key] = stored.n_bytes
            else:
                self._counts.n_decodes[stored.key] = self._n_decodes[stored.key]

    def typical_weight(self, frame: Frame) -> F4 | None:
        """Median of the positive values of a frame's weight map, as inverse variance; what `read_window` divides it by.

        Returns
        -------
        ndarray, float32, shape (1 or c,), or None
            One for each channel of the map; None for a frame without a map.

        Raises
        ------
        FrameRejected
            When the map cannot be read, or has no positive value.
        """
        map_ = frame.storage.weight
        return None if map_ is None else self._norm(map_, frame.shape)

    def _norm(self, map_: MapRef, shape: tuple[int, int]) -> F4:
        norm = self._norms.get(map_)
        if norm is None:
            norm = self._norms[map_] = self._median_weight(map_, shape)
        return norm

    def _relative_weight(self, map_: MapRef, shape: tuple[int, int], box: Box) -> F4:
        weight = self._map_weight(map_, shape, box)
        weight /= self._norm(map_, shape)[:, None, None]
        return weight

    def _map_weight(self, map_: MapRef, shape: tuple[int, int], box: Box) -> F4:
        """A weight map's own values as inverse variance, 0 where it is not positive."""
        values, known = self._read(map_.path, map_.hdu, shape, box)
        with np.errstate(divide="ignore", over="ignore"):
            if map_.kind == "weight":
                weight: F4 = np.maximum(values, 0)
            else:
                weight = np.reciprocal(values if map_.kind == "variance" else values * values)
                weight[~(np.isfinite(weight) & (values > 0))] = 0
        weight[known == 0] = 0
        return weight

    def _median_weight(self, map_: MapRef, shape: tuple[int, int]) -> F4:
        height, width = shape
        rows = np.unique(np.linspace(0, height - 1, min(height, _NORM_ROWS)).astype(int))
        sample = np.concatenate([self._map_weight(map_, shape, Box(y, y + 1, 0, width)) for y in rows], axis=1)
        if not sample.any(axis=(1, 2)).all():
            sample = self._map_weight(map_, shape, Box.of_shape(shape))
        if not sample.any():
            raise FrameRejected("map.no-weight", kind=map_.kind, height_px=height, width_px=width)
        # A channel without any weight is left as it is.
        return np.array([np.median(plane[plane > 0]) if plane.any() else 1 for plane in sample], np.float32)


@contextmanager
def _telling_file_problems() -> Iterator[None]:
    """Whatever the system says of a file as the reason to leave its frame out."""
    try:
        yield
    except FileNotFoundError as problem:
        raise FrameRejected("file.gone") from problem
    except (OSError, EOFError, zlib.error) as problem:
        raise FrameRejected("file.unreadable", problem=one_line(problem)) from problem


def _images_of(frame: Frame) -> list[Key]:
    """The images that are read for a frame's pixels."""
    storage = frame.storage
    images = storage, storage.weight, storage.mask, storage.alpha
    return [(image.path, image.hdu) for image in images if image is not None]


def _keys_of(frame: Frame, box: Box) -> list[Hashable]:
    """What the cache may keep for windows in a box of a frame: of compressed images the whole, of others that box."""
    return [key for image in _images_of(frame) for key in (image, (image, box))]


def _unpack(stored: StoredImage, raw: AnyArray, data: F4, weight: F4) -> None:
    """Stored values to physical ones and 1 for each; both 0 where there is no data."""
    if raw.dtype.str == ">f4" and stored.scaling.is_plain and sys.byteorder == "little":
        # What most frames are (and raw ones are whole numbers): one pass over the bits instead of five over numbers.
        # Rows without gaps are what the loop is fast on.
        for plane, into, known in zip(raw, data, weight, strict=True):
            unpack_floats(np.ascontiguousarray(plane).view(np.uint32), into.view(np.uint32), known)
        return
    if raw.dtype.str == ">i2" and stored.scaling.is_shift and stored.scaling.blank is None:
        zero = np.float32(stored.scaling.zero)
        for plane, into, known in zip(raw, data, weight, strict=True):
            unpack_shorts(np.ascontiguousarray(plane).view(np.uint16), zero, into, known)
        return
    weight[:] = 1
    bad = put_physical_values(raw, data, stored.scaling)
    if bad is not None:
        weight[bad] = 0


def put_physical_values(raw: AnyArray, out: F4, scaling: Scaling = _AS_STORED) -> npt.NDArray[np.bool_] | None:
    """Turn stored values into native float32.

    Parameters
    ----------
    raw : ndarray
        Integers or floats of any byte order; not modified.
    out : ndarray of float32, same shape
        Receives the physical values (reckoned in float64 where float32 would round integers), and 0
        where there is no data.
    scaling : Scaling
        How they come from the stored ones.

    Returns
    -------
    ndarray of bool, or None
        True where there is no data: NaN, infinite, beyond float32, or blank. None when there is no
        such pixel.
    """
    bad = None
    is_integer = raw.dtype.kind in "iu"
    is_small = is_integer and raw.dtype.itemsize <= 2
    zero, scale = scaling.zero, scaling.scale
    with np.errstate(over="ignore", invalid="ignore"):
        if scaling.softening is not None:
            softening, offset = scaling.softening
            light = 2 * softening * np.sinh((raw.astype(np.float64) * scale + zero) / _ASINH_UNIT)
            np.copyto(out, light + offset, casting="same_kind")
        elif (is_small and scaling.is_shift) or (not is_integer and scaling.is_plain):
            np.copyto(out, raw, casting="same_kind")
            if zero:
                out += np.float32(zero)
        else:
            np.copyto(out, raw.astype(np.float64) * scale + zero, casting="same_kind")
    finite = np.isfinite(out)
    if not finite.all():
        bad = ~finite
    if is_integer and scaling.blank is not None:
        is_blank = raw == scaling.blank
        if is_blank.any():
            bad = is_blank if bad is None else bad | is_blank
    if bad is not None:
        out[bad] = 0
    return bad
