"""Coarse maps of a mosaic for its page: how many frames, how deep, how much was clipped."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.picture_file import write_picture
from zemosaic.model.box import Box
from zemosaic.pipelines.outputs.preview import reduce_rows, reduction
from zemosaic.pipelines.products.folder import FolderMosaic
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.picture.stretch import reduce_blocks

__all__ = ["RAMP", "make_maps"]

F4 = npt.NDArray[np.float32]
Read = Callable[[str, Box], F4]

MAP_PX = 1200
"""Longest side of a map's picture: trails still show as lines."""

CELLS = 256
"""Longest side of what the page can read numbers from: a byte a cell, some 90 kB a map in the page."""

SHALLOWEST_MAG = -3.0
"""Depths below this are drawn alike: thin rims would take all the colours."""

RAMP = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
"""The colours of viridis at ten even steps: equally far apart to the eye, in grey and to the colour-blind too."""


@dataclass(frozen=True, slots=True)
class _Map:
    """A map: its name in files and in words, the unit, the planes that it is made of, and how."""

    name: str
    title: str
    unit: str
    planes: tuple[str, ...]
    combine: Callable[..., F4]


def _share(rejected: F4, coverage: F4) -> F4:
    return np.asarray(100 * rejected / np.where(coverage > 0, coverage, np.nan), np.float32)


def _depth(weight: F4) -> F4:
    """Magnitudes by which a place is shallower than the deepest: noise goes with the root of the weight."""
    known = np.where(weight > 0, weight, np.nan)
    if not np.isfinite(known).any():
        return known
    return np.asarray(np.maximum(1.25 * np.log10(known / np.nanmax(known)), SHALLOWEST_MAG), np.float32)


_MAPS = (
    _Map("coverage", "frames", "", ("COV",), lambda coverage: np.where(coverage > 0, coverage, np.nan)),
    _Map("depth", "depth", "mag", ("WHT",), _depth),
    _Map("clipped", "samples clipped", "%", ("REJ", "COV"), _share),
)


def make_maps(mosaic: FolderMosaic, folder: Path, run: Run) -> list[dict[str, Any]]:
    """Write the pictures of those maps that the planes of a mosaic allow; what the page has to know of them."""
    factor = reduction(mosaic.shape, MAP_PX)
    means: dict[str, F4] = {
        name: _reduce(mosaic, name, factor, run) for name in ("COV", "WHT", "REJ") if name in mosaic.planes
    }
    found = []
    for kind in _MAPS:
        if set(kind.planes) <= means.keys():
            values = kind.combine(*(means[name] for name in kind.planes))
            picture = f"{kind.name}{mosaic.tag}.png"
            low, high = _range(values)
            write_picture(folder / picture, _colour(values, low, high))
            told = {"title": kind.title, "unit": kind.unit, "url": picture, "low": low, "high": high}
            found.append(told | _cells(values, low, high))
    return found


def _reduce(mosaic: FolderMosaic, name: str, factor: int, run: Run) -> F4:
    """Means of a plane over blocks, and over its channels; 0 where there is nothing."""

    def read_rows(y0: int, y1: int) -> F4:
        run.cancel.check()
        return mosaic.read(name, Box(y0, y1, 0, mosaic.shape[1])).astype(np.float32)

    return np.asarray(reduce_rows(read_rows, mosaic.shape, factor)[0].mean(axis=0))


def _range(values: F4) -> tuple[float, float]:
    """From 0, or what lies below, to the greatest value, in three digits."""
    known = values[np.isfinite(values)]
    low, high = float(known.min(initial=0.0)), float(known.max(initial=0.0))
    low, high = float(f"{low:.3g}"), float(f"{high:.3g}")
    return low, high if high > low else low + 1.0


def _colour(values: F4, low: float, high: float) -> npt.NDArray[np.uint8]:
    """The map in colours, clear where there is nothing."""
    stops = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in RAMP], float)
    place = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    rgba = np.zeros((*values.shape, 4), np.uint8)
    for channel in range(3):
        rgba[..., channel] = np.rint(np.interp(place, np.linspace(0, 1, len(stops)), stops[:, channel]))
    rgba[..., 3] = np.where(np.isfinite(values), 255, 0)
    return rgba


def _cells(values: F4, low: float, high: float) -> dict[str, Any]:
    """The map as bytes in text, row by row from below: 0 where there is nothing, else 1 to 255 from low to high."""
    means, covered = reduce_blocks(values[None], reduction(values.shape, CELLS))
    byte = 1 + np.rint(254 * np.clip((means[0] - low) / (high - low), 0, 1))
    cells = np.where(covered, byte, 0).astype(np.uint8)
    return {"rows": cells.shape[0], "columns": cells.shape[1], "cells": base64.b64encode(cells.tobytes()).decode()}
