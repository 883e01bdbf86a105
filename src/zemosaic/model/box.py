"""Half-open boxes of pixels; (y, x) is decided here once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Box"]


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """The pixels with ``y0 <= y < y1`` and ``x0 <= x < x1``.

    A box with ``y1 <= y0`` or ``x1 <= x0`` is empty. Coordinates may be
    negative: a box may lie partly or wholly outside an array.
    """

    y0: int
    y1: int
    x0: int
    x1: int

    @classmethod
    def of_shape(cls, shape: tuple[int, int]) -> Box:
        """The box of a whole array of shape ``(height, width)``."""
        return cls(0, shape[0], 0, shape[1])

    @property
    def height(self) -> int:
        """Number of rows, 0 when empty."""
        return max(self.y1 - self.y0, 0)

    @property
    def width(self) -> int:
        """Number of columns, 0 when empty."""
        return max(self.x1 - self.x0, 0)

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def is_empty(self) -> bool:
        """Whether the box holds no pixel."""
        return self.n_pixels == 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this box in an array whose first pixel is ``(0, 0)``."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def intersect(self, other: Box) -> Box:
        """The pixels in both boxes (possibly empty)."""
        return Box(max(self.y0, other.y0), min(self.y1, other.y1), max(self.x0, other.x0), min(self.x1, other.x1))

    def overlaps(self, other: Box) -> bool:
        """Whether at least one pixel is in both boxes."""
        return not self.intersect(other).is_empty

    def contains(self, other: Box) -> bool:
        """Whether every pixel of `other` is in this box."""
        return other.is_empty or self.intersect(other) == other

    def expand(self, border: int) -> Box:
        """The box with `border` more pixels on each side."""
        return Box(self.y0 - border, self.y1 + border, self.x0 - border, self.x1 + border)

    def shift(self, dy: int, dx: int) -> Box:
        """The box moved by ``(dy, dx)``."""
        return Box(self.y0 + dy, self.y1 + dy, self.x0 + dx, self.x1 + dx)

    def relative_to(self, outer: Box) -> Box:
        """This box in the pixel coordinates of an array that holds `outer`."""
        return self.shift(-outer.y0, -outer.x0)

    def split(self, size: int) -> Iterator[Box]:
        """Cut into boxes of at most ``size x size``, row by row, anchored at multiples of `size`.

        The pieces partition the box exactly. Anchoring at multiples (not at the
        box's own corner) keeps the pieces the same when the box grows.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        for y in range(self.y0 // size * size, self.y1, size):
            for x in range(self.x0 // size * size, self.x1, size):
                piece = self.intersect(Box(y, y + size, x, x + size))
                if not piece.is_empty:
                    yield piece
