"""A tile: a stack of frames on a grid of its own, with what it knows about its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.model.frame import FrameId
from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["Tile"]

F4 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A stack with its weight, coverage and place.

    Attributes
    ----------
    wcs : CelestialWcs
        The tile's grid; ``wcs.shape`` is ``(h, w)``.
    data : ndarray, shape (c, h, w), float32
        Input units per pixel area at the grid's reference; 0 where there is no weight.
    weight : ndarray, shape (c, h, w), float32
        Inverse variance of means over large areas; 0 is the one meaning of "no data". `alpha` is not in it.
    coverage : ndarray, shape (h, w), integer
        Frames that contribute to all channels of a pixel.
    exposure : ndarray, shape (h, w), float32
        Seconds.
    saturated : ndarray, shape (h, w), float32
        Share of the samples that are saturated, in the channel where it is largest.
    alpha : ndarray, shape (h, w), float32
        0..1: how far a pixel is trusted; weighs, never multiplies data.
    frames : tuple of FrameId
        What it is made of.
    """

    wcs: CelestialWcs
    data: F4
    weight: F4
    coverage: npt.NDArray[np.integer]
    exposure: F4
    saturated: F4
    alpha: F4
    frames: tuple[FrameId, ...] = ()

    def __post_init__(self) -> None:
        shape = self.wcs.shape
        planes = (self.coverage, self.exposure, self.saturated, self.alpha)
        if self.data.shape != self.weight.shape or any(
            a.shape[-2:] != shape for a in (self.data, self.weight, *planes)
        ):
            shapes = ", ".join(str(a.shape) for a in (self.data, self.weight, *planes))
            raise ValueError(f"the planes of a tile of {shape} pixels must have that shape, got {shapes}")
        if self.coverage.dtype.kind not in "iu":
            raise ValueError(f"coverage is a count, not {self.coverage.dtype}")
        if self.alpha.size and not (self.alpha.min() >= 0 and self.alpha.max() <= 1):
            raise ValueError(f"alpha must lie in 0..1, got {self.alpha.min():g}..{self.alpha.max():g}")

    def masked(self, alpha: F4) -> Tile:
        """The same tile with another alpha; data stay as they are."""
        return replace(self, alpha=alpha)

    def cropped(self, box: Box) -> Tile:
        """The part in a box of its pixels: every plane cut alike, the same sky at the same pixels.

        Raises
        ------
        ValueError
            When the box is empty or reaches out of the tile.
        """
        if box.is_empty or not Box.of_shape(self.wcs.shape).contains(box):
            raise ValueError(f"{box} is not inside a tile of {self.wcs.shape[0]} x {self.wcs.shape[1]} pixels")
        part = (..., *box.slices)
        return replace(
            self,
            wcs=self.wcs.cut(box),
            data=np.ascontiguousarray(self.data[part]),
            weight=np.ascontiguousarray(self.weight[part]),
            coverage=np.ascontiguousarray(self.coverage[part]),
            exposure=np.ascontiguousarray(self.exposure[part]),
            saturated=np.ascontiguousarray(self.saturated[part]),
            alpha=np.ascontiguousarray(self.alpha[part]),
        )
