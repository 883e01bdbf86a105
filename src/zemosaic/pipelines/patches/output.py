"""Where the planes of a mosaic go: a FITS file laid out up front, or arrays in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.mosaic_file import Card, Plane
from zemosaic.io.write.picture_file import write_picture
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.kind import Kind
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.patches.tasks import PatchInput
from zemosaic.settings import OutputSettings, Settings
from zemosaic.stages.picture.stretch import reduce_blocks, star_white, stretch_rgba
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.stack import StackedPatch
from zemosaic.stages.warp.warp import pixel_variance_ratio

__all__ = ["ArrayPlanes", "PlaneSink", "file_planes", "mosaic_cards", "write_patch", "write_preview"]

PLANES = {"all": ("DATA", "WHT", "VAR", "COV", "REJ", "EXPT", "SAT"), "weight": ("DATA", "WHT"), "data": ("DATA",)}
PLACES = {
    "auto": "header WCS checked by the stars, or solved; refined together",
    "header": "as the headers say",
    "register": "registered to each other; the WCS is a plane of the frames' own",
}
_DTYPES: dict[str, Literal["i2"]] = {"COV": "i2", "REJ": "i2"}
STRIP_PX = 500_000
"""Pixels that are reduced at a time for the preview."""
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


def file_planes(settings: OutputSettings, frame: Frame) -> list[Plane]:
    """The planes to be written for frames like `frame`; the first is the science image."""
    return [
        Plane(name, _DTYPES.get(name, "f4"), frame.n_channels if name in _PER_CHANNEL else 1)
        for name in PLANES[settings.planes]
    ]


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
    }
    for name in names:
        sink.write(name, box, make[name]())


def _saturated_share(patch: StackedPatch) -> npt.NDArray[np.float32]:
    """Saturated samples over samples kept, of the channel where it is largest; shape (1, h, w)."""
    kept = np.maximum(patch.coverage - patch.rejected, 1)
    return np.minimum(patch.saturated / kept, 1).max(axis=0, keepdims=True).astype(np.float32)


def mosaic_cards(
    inputs: Sequence[PatchInput], grid: SkyGrid, settings: Settings, matched: str
) -> tuple[list[Card], list[str]]:
    """Header cards and HISTORY lines of a mosaic: what it is made of, and how; no clock time of the run."""
    frames = [item.frame for item in inputs]
    dates = sorted(frame.date_obs for frame in frames if frame.date_obs)
    instruments = sorted({frame.instrument for frame in frames if frame.instrument})
    cards: list[Card] = [
        ("NCOMBINE", sum(frame.n_stacked for frame in frames), "number of frames combined"),
        ("BUNIT", Kind.of(frames[0]).unit, "input units per pixel of area A_REF"),
        ("A_REF", grid.area_ref_deg2 * 3600**2, "[arcsec2] pixel area that values refer to"),
    ]
    # Where raw and other frames share the mosaic each card speaks of its own.
    ratios: list[tuple[str, int | None]] = []
    if any(frame.bayer is None for frame in frames):
        ratios.append(("VARRATIO", None))
    if any(frame.bayer for frame in frames):
        ratios += [(f"VARRAT_{'RGB'[c]}", c) for c in range(3)]
    for key, channel in ratios:
        ratio = round(pixel_variance_ratio(settings.warp, channel), 4)
        cards.append((key, ratio, "variance of one pixel's scatter over VAR"))
    # Where no frame tells its exposure time the sum is unknown, not 0.
    if any(frame.exposure_s for frame in frames):
        cards.append(("EXPTIME", float(sum(f.exposure_s or 0 for f in frames)), "[s] total exposure of all frames"))
    if dates:
        cards += [
            ("DATE-OBS", dates[0], "start of the first frame"),
            ("DATE-END", _end(frames, dates[-1]), "end of the last frame"),
        ]
    if frames[0].filter:
        cards.append(("FILTER", frames[0].filter, "filter"))
    if instruments:
        cards.append(("INSTRUME", ", ".join(instruments)[:68], "instrument(s)"))
    cards.append(("SOFTWARE", f"zemosaic {version('zemosaic')}", "made with"))
    stack = settings.stack
    history = [
        f"zemosaic: {len(frames)} frames onto one {grid.shape[1]} x {grid.shape[0]} grid",
        f"places: {PLACES[settings.solve.method]}",
        f"match: {matched}",
        f"warp: {settings.warp.kernel}, taper {settings.warp.taper_px:g} px",
        "stack: " + ", ".join(filter(None, [stack.method, METHODS[stack.method].tell(stack)])),
    ]
    return cards, history


def _end(frames: Sequence[Frame], last: str) -> str:
    exposure = max((f.exposure_s or 0.0) for f in frames if f.date_obs == last)
    try:
        return (datetime.fromisoformat(last) + timedelta(seconds=exposure)).isoformat()
    except ValueError:
        return last


def write_preview(
    path: Path, read_rows: Callable[[int, int], npt.NDArray[Any]], shape: tuple[int, int], max_px: int
) -> None:
    """Make the preview from a mosaic read a strip of rows at a time: the sky grey, the typical star white.

    Parameters
    ----------
    path : Path
        PNG file.
    read_rows : callable
        ``read_rows(y0, y1)`` gives DATA rows as ``(c, y1 - y0, w)``, NaN where there are none.
    shape : (height, width)
    max_px : int
        Longest side of the picture.
    """
    factor = max(1, -(-max(shape) // max_px))
    n_rows = factor * max(STRIP_PX // (factor * shape[1]), 1)
    strips = [reduce_blocks(read_rows(y0, min(y0 + n_rows, shape[0])), factor) for y0 in range(0, shape[0], n_rows)]
    data = np.concatenate([d for d, _ in strips], axis=1)
    covered = np.concatenate([m for _, m in strips], axis=0)
    write_picture(path, stretch_rgba(data, covered, star_white(data, covered)))
