"""Where the planes of a mosaic go: a FITS file laid out up front, or arrays in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.mosaic_file import Plane
from zemosaic.model.box import Box
from zemosaic.settings import OutputSettings
from zemosaic.stages.stack.stack import StackedPatch

__all__ = ["ArrayPlanes", "PlaneSink", "file_planes", "write_patch"]

PLANES = {
    "all": ("DATA", "WHT", "VAR", "COV", "REJ", "EXPT", "SAT", "ALPHA"),
    "weight": ("DATA", "WHT"),
    "data": ("DATA",),
}
_DTYPES: dict[str, Literal["i2", "u1"]] = {"COV": "i2", "REJ": "i2", "ALPHA": "u1"}

OPAQUE = np.uint8(255)
"""ALPHA where there are data: programs that lay pictures over each other take 0 to 255."""

_PER_CHANNEL = {"DATA", "WHT", "VAR", "REJ"}


class PlaneSink(Protocol):
    """Takes finished pieces of planes; safe for disjoint boxes from several threads."""

    def write(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
        """Put values ``(c, h, w)`` into their place."""
        ...


class ArrayPlanes:
    """Planes as arrays ``(c, h, w)`` in memory: DATA is NaN and the rest 0 where nothing was written."""

    def __init__(self, planes: Sequence[Plane], shape: tuple[int, int]) -> None:
        self.planes: dict[str, npt.NDArray[Any]] = {
            plane.name: np.full((plane.n_channels, *shape), np.nan if plane.name == "DATA" else 0, plane.dtype)
            for plane in planes
        }

    def write(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
        """See `PlaneSink.write`."""
        self.planes[name][:, *box.slices] = values


def file_planes(settings: OutputSettings, n_channels: int) -> tuple[Plane, ...]:
    """The planes to be written for a mosaic of so many channels; the first is the science image."""
    return tuple(
        Plane(name, _DTYPES.get(name, "f4"), n_channels if name in _PER_CHANNEL else 1)
        for name in PLANES[settings.planes]
    )


def write_patch(sink: PlaneSink, box: Box, patch: StackedPatch, names: Sequence[str]) -> None:
    """Write the planes of a patch. Pixels without weight become NaN here, and only here."""
    make: dict[str, Callable[[], npt.NDArray[Any]]] = {
        "DATA": lambda: np.where(patch.weight > 0, patch.data, np.float32(np.nan)),
        "WHT": lambda: patch.weight,
        "VAR": lambda: np.where(patch.weight > 0, patch.variance, np.float32(np.nan)),
        # A frame counts where all its channels are there.
        "COV": lambda: patch.coverage.min(axis=0, keepdims=True),
        "REJ": lambda: patch.rejected,
        "EXPT": lambda: patch.exposure.min(axis=0, keepdims=True),
        "SAT": lambda: _saturated_share(patch),
        "ALPHA": lambda: np.where((patch.weight > 0).all(axis=0, keepdims=True), OPAQUE, np.uint8(0)),
    }
    for name in names:
        sink.write(name, box, make[name]())


def _saturated_share(patch: StackedPatch) -> npt.NDArray[np.float32]:
    """Saturated samples over samples kept, of the channel where it is largest; shape (1, h, w)."""
    kept = np.maximum(patch.coverage - patch.rejected, 1)
    # The share of two such numbers is rounded once, to the same single, whichever precision it is reckoned in.
    return np.minimum(np.divide(patch.saturated, kept, dtype=np.float32), 1).max(axis=0, keepdims=True)
