"""How an image lies in its file, and its stored values out of it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import open_fits
from zemosaic.io.headers.facts import image_layout, one_line
from zemosaic.io.headers.scaling import Scaling, read_scaling
from zemosaic.io.read.images import decode_picture, is_picture, walk_images
from zemosaic.io.read.read_counts import Key
from zemosaic.model.box import Box
from zemosaic.model.frame import Layout

__all__ = ["Rows", "StoredImage", "decode", "describe_image", "rows_of_file"]

AnyArray = npt.NDArray[Any]

_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_SKIP_BYTES = 1 << 14  # reading on costs less than another system call up to about this gap

# What astropy's decoders make of damaged tiles; CfitsioException has no public name (6.1 to 8.0).
_TILE_ERRORS = (
    CfitsioException, fits.VerifyError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, struct.error,
)  # fmt: skip

Rows = Callable[[int, int], AnyArray]
"""Gives the stored values of rows ``y0 <= y < y1`` of a window, channels first."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """How an image lies in its file."""

    path: str
    hdu: int
    packing: str  # "plain", "packed", "tiles" or "picture"
    offset: int
    n_bytes: int
    dtype: np.dtype[np.generic]
    axes: tuple[int, ...]
    layout: Layout
    shape: tuple[int, int]
    scaling: Scaling

    @property
    def n_planes(self) -> int:
        """Planes that lie one behind the other in the file."""
        return 3 if self.layout == "chw" else 1

    @property
    def items_a_pixel(self) -> int:
        """Values that lie side by side for one pixel."""
        return 3 if self.layout == "hwc" else 1

    @property
    def key(self) -> Key:
        """What tells it from other images."""
        return self.path, self.hdu

    def columns(self, box: Box) -> tuple[int, int]:
        """First and last column that are read for a window: all where the gaps between its rows are short."""
        width = self.shape[1]
        is_narrow = (width - box.width) * self.items_a_pixel * self.dtype.itemsize > _SKIP_BYTES
        return (box.x0, box.x1) if is_narrow else (0, width)

    def bytes_to_read(self, box: Box) -> int:
        """What is read of a plain file for a window."""
        first, last = self.columns(box)
        return self.n_planes * box.height * (last - first) * self.items_a_pixel * self.dtype.itemsize

    def planes(self, array: AnyArray) -> AnyArray:
        """An array of the stored axes with channels first; a view."""
        if self.layout == "hwc":
            return np.moveaxis(array.reshape(*self.shape, 3), -1, 0)
        return array.reshape(-1, *self.shape)


def describe_image(path: str, index: int) -> StoredImage:
    """Look an image up in its file; FrameRejected when it is not there whole."""
    with open_fits(path) as source:
        is_packed = source.is_packed
        hdu = next((hdu for hdu in walk_images(path, source) if hdu.index == index), None)
    if hdu is None or not hdu.is_image:
        raise FrameRejected("file.changed-hdu", hdu=index)
    axes = hdu.axes
    layout, shape = image_layout(axes)
    dtype = np.dtype(_DTYPES[hdu.bitpix])
    return StoredImage(
        path=path,
        hdu=hdu.index,
        packing="picture" if is_picture(path) else "tiles" if hdu.is_tiled else "packed" if is_packed else "plain",
        offset=hdu.data_offset,
        n_bytes=int(np.prod(axes, dtype=object)) * dtype.itemsize,
        dtype=dtype,
        axes=axes,
        layout=layout,
        shape=shape,
        scaling=read_scaling(hdu),
    )


def rows_of_file(stored: StoredImage, file: BinaryIO, box: Box) -> Rows:
    """Reads rows of a window from an open plain file; what lies between two rows is read too where it is short."""
    height, width = stored.shape
    item_bytes = stored.items_a_pixel * stored.dtype.itemsize
    first, last = stored.columns(box)

    def fill(start: int, out: npt.NDArray[np.uint8]) -> None:
        file.seek(start)
        if file.readinto(out.data) < out.size:  # type: ignore[attr-defined]
            n_bytes = file.seek(0, 2)
            raise FrameRejected("file.shrunk", n_bytes=n_bytes)

    def rows(y0: int, y1: int) -> AnyArray:
        buffer = np.empty((stored.n_planes, y1 - y0, (last - first) * item_bytes), np.uint8)
        for plane in range(stored.n_planes):
            start = stored.offset + ((plane * height + y0) * width + first) * item_bytes
            if last - first < width:
                for i, row in enumerate(buffer[plane]):
                    fill(start + i * width * item_bytes, row)
            else:
                fill(start, buffer[plane].reshape(-1))
        values = buffer.view(stored.dtype)
        if stored.layout == "hwc":
            values = np.moveaxis(values.reshape(y1 - y0, -1, 3), -1, 0)
        return values[:, :, box.x0 - first : box.x1 - first]

    return rows


def decode(stored: StoredImage, box: Box | None = None) -> AnyArray:
    """The planes of a compressed image; of one in tiles, a window of them where that is all that is wanted."""
    if stored.packing == "tiles":
        return _decode_tiles(stored, box)
    return _unpack(stored) if stored.packing == "packed" else _decode_picture(stored)


def _unpack(stored: StoredImage) -> AnyArray:
    """The planes of a gzip or bzip2 stream, its checksum compared."""
    with open_fits(stored.path) as source:
        source.stream.seek(stored.offset)
        content = source.stream.read(stored.n_bytes)
        while source.stream.read(1 << 20):  # to the end: there the checksum is compared
            pass
    if len(content) < stored.n_bytes:
        raise FrameRejected("file.packed-stream-short", bytes_there=len(content), bytes_promised=stored.n_bytes)
    return stored.planes(np.frombuffer(content, stored.dtype))


def _decode_picture(stored: StoredImage) -> AnyArray:
    """The planes of a picture in a file of another format."""
    array = decode_picture(stored.path, stored.hdu)
    if array.shape != stored.axes:
        raise FrameRejected("file.changed-shape", shape_now=array.shape, shape=stored.axes)
    return stored.planes(array)


def _decode_tiles(stored: StoredImage, box: Box | None = None) -> AnyArray:
    """The planes of a tile-compressed image, or a window of them from the tiles that it touches."""
    describe_image(stored.path, stored.hdu)  # astropy only warns of a file that has been cut
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
        raise FrameRejected("file.tiles-damaged", problem=one_line(problem)) from problem
