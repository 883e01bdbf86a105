"""A picture as a pyramid of JPEG tiles, written a strip of rows at a time: what zoom viewers take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from zemosaic.model.each import Each

__all__ = ["TILE_PX", "TilePyramid"]

U1 = npt.NDArray[np.uint8]

TILE_PX = 512
"""Side of a tile: smaller ones make more files and requests, larger ones show later."""

JPEG_QUALITY = 90
"""Below it blocks show in smooth sky; above it files grow fast."""


class TilePyramid:
    """Tiles ``LEVEL/COLUMN_ROW.jpg``, levels and places as in Deep Zoom, without overlap; level 0 would be one pixel.

    Levels below the first that fits one tile are not written.

    Parameters
    ----------
    folder : Path
        Receives the levels; made when missing.
    shape : (height, width)
        Of the picture.
    each : callable
        Tiles may be encoded at once.

    Attributes
    ----------
    top, bottom : int
        Numbers of the level of full size and of the smallest one.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], each: Each = map) -> None:
        self._folder, self._each = folder, each
        self.top = (max(shape) - 1).bit_length()
        self.bottom = max(self.top - max(-(-max(shape) // TILE_PX) - 1, 0).bit_length(), 0)
        self._pending: dict[int, list[U1]] = {level: [] for level in range(self.bottom, self.top + 1)}
        self._n_rows = dict.fromkeys(self._pending, 0)
        for level in self._pending:
            (folder / str(level)).mkdir(parents=True, exist_ok=True)

    def add(self, rows: U1) -> None:
        """Add the next rows of the picture, from its top; ``(n, width)`` grey or ``(n, width, 3)`` red, green, blue."""
        self._add(self.top, rows)

    def finish(self) -> None:
        """Write what is left, when all rows have been added."""
        for level in range(self.top, self.bottom - 1, -1):
            if self._pending[level]:
                self._write_strip(level, self._take(level))

    def _add(self, level: int, rows: U1) -> None:
        self._pending[level].append(rows)
        while sum(map(len, self._pending[level])) >= TILE_PX:
            whole = self._take(level)
            if len(whole) > TILE_PX:
                self._pending[level].append(whole[TILE_PX:])
            self._write_strip(level, whole[:TILE_PX])

    def _take(self, level: int) -> U1:
        strips = self._pending[level]
        self._pending[level] = []
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def _write_strip(self, level: int, rows: U1) -> None:
        """Write one row of tiles, and hand its pixels, halved, to the level below."""
        row = self._n_rows[level]
        self._n_rows[level] += 1

        def write(column: int) -> None:
            tile = rows[:, column * TILE_PX : (column + 1) * TILE_PX]
            path = self._folder / str(level) / f"{column}_{row}.jpg"
            Image.fromarray(np.ascontiguousarray(tile)).save(path, format="JPEG", quality=JPEG_QUALITY)

        list(self._each(write, range(-(-rows.shape[1] // TILE_PX))))
        if level > self.bottom:
            self._add(level - 1, _halve(rows))


def _halve(rows: U1) -> U1:
    """Means of 2 x 2 pixels, rounded; of what is there at an odd edge."""
    pad = [(0, rows.shape[0] % 2), (0, rows.shape[1] % 2), *[(0, 0)] * (rows.ndim - 2)]
    even = np.pad(rows, pad, mode="edge") if any(p[1] for p in pad) else rows
    total = even[::2].astype(np.uint16) + even[1::2]
    return ((total[:, ::2] + total[:, 1::2] + 2) >> 2).astype(np.uint8)
