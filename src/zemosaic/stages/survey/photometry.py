"""What a tile needs before it meets its neighbours: validity, background, scaling, colour.

Tiles are ``(h, w)``, ``(c, h, w)`` or ``(h, w, c)`` with one or three channels. What the functions here return are
*corrections*: ``corrected = gain * tile + offset``. Results are always finite; where nothing can be found they are gain
1 and offset 0, and one log line says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = [
    "Pixels",
    "TilePhotometryInfo",
    "channels_first",
    "choose_reference_tile",
    "compute_valid_mask",
    "equalize_rgb_medians_inplace",
    "erode",
    "estimate_tile_background",
    "on_cpu",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]

_LOG = logging.getLogger(__name__)

_CHANNELS = 1, 3
"""An axis of so many is one of colours."""

_ERODE_PX = 2
"""Rows of pixels at the rim of an overlap that are left out: one tile's stack is thin and noisy there."""

_MOST_SAMPLE = 200_000
"""Pixels that a level is taken from: its median is then known to 0.3 % of the noise."""

_CLIP_SIGMA = 3.0
"""Of stars and nebulae on the sky, in robust sigma."""

_CLIP_ROUNDS = 8
"""At most; they end when nothing more is cut."""

_SAMPLE_STEP = 4
"""Every so many rows and columns tell whether a tile is healthy."""

_HEALTHY_COVERAGE = 0.3
"""Share of the best tile's valid pixels that a reference tile has at least."""


class Pixels(Protocol):
    """An array, or something that reads an array's windows when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """A window, as an array."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TilePhotometryInfo:
    """A tile as its photometry sees it.

    Attributes
    ----------
    tile_id : int
    bbox : Box
        Its pixels on the mosaic.
    data : Pixels, shape (c, h, w)
        An array, or what reads its windows from a file.
    mask : Pixels, shape (h, w)
        Not 0 where a pixel is valid.
    coverage : Pixels, bool, shape (h, w), or None
        Pixels with enough frames to be compared; None takes `mask`.
    gain, offset : ndarray, shape (c,)
        Correction found so far; 1 and 0 when not given.
    background : ndarray, shape (c,)
        Sigma-clipped median; NaN where not estimated.
    """

    tile_id: int
    bbox: Box
    data: Pixels
    mask: Pixels
    coverage: Pixels | None = None
    gain: F8 = field(default_factory=lambda: np.empty(0))
    offset: F8 = field(default_factory=lambda: np.empty(0))
    background: F8 = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        c = self.data.shape[0] if len(self.data.shape) == 3 else 0
        if self.data.shape != (c, *self.bbox.shape) or self.mask.shape != self.bbox.shape:
            raise ValueError(
                f"tile {self.tile_id}: data {self.data.shape} and mask {self.mask.shape} must fill its box of "
                f"{self.bbox.shape}"
            )
        neutral = {"gain": np.ones(c), "offset": np.zeros(c), "background": np.full(c, np.nan)}
        for name, value in neutral.items():
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, value)

    def usable(self, rows: slice, columns: slice) -> Flags:
        """Pixels of a window that may be compared with other tiles."""
        mask = np.asarray(self.mask[rows, columns], bool)
        return mask if self.coverage is None else mask & np.asarray(self.coverage[rows, columns], bool)


def channels_first(tile: AnyArray) -> AnyArray:
    """A view ``(c, h, w)`` of a tile of any layout, on the CPU.

    Raises
    ------
    ValueError
        For an array that is no image.
    """
    tile = on_cpu(tile)
    if tile.ndim == 2:
        return tile[None]
    if tile.ndim == 3 and tile.shape[0] in _CHANNELS:
        return tile
    if tile.ndim == 3 and tile.shape[2] in _CHANNELS:
        return np.moveaxis(tile, 2, 0)
    raise ValueError(f"a tile is (h, w), (c, h, w) or (h, w, c) with 1 or 3 channels, not {tile.shape}")


def on_cpu(array: Any) -> AnyArray:
    """An array in main memory; CuPy's are fetched."""
    return np.asarray(array.get() if hasattr(array, "__cuda_array_interface__") else array)


def compute_valid_mask(data: AnyArray, *, eps: float = 1e-6) -> Flags:
    """Which pixels of a tile *without weight map* hold data.

    Parameters
    ----------
    data : ndarray
        A tile.
    eps : float
        Values this close to 0 are empty. Where a weight map says what is empty, zeros and negative values are
        legal: use that, or a negative `eps`, which counts every finite value.

    Returns
    -------
    ndarray, bool, shape (h, w)
        True where every channel is finite and at least one is not empty.
    """
    planes = channels_first(data)
    finite = np.isfinite(planes)
    with np.errstate(invalid="ignore"):
        filled = np.abs(planes) > eps
    return np.asarray(finite.all(axis=0) & filled.any(axis=0))


def estimate_tile_background(tile_data: AnyArray, tile_mask: Flags | None = None) -> F8:
    """Sigma-clipped median of each channel's valid pixels.

    Parameters
    ----------
    tile_data : ndarray
        A tile.
    tile_mask : ndarray, bool, shape (h, w), optional
        Valid pixels; by default those of `compute_valid_mask`.

    Returns
    -------
    ndarray, shape (c,)
        NaN for a tile without valid pixels. A large tile is sampled evenly.
    """
    planes = channels_first(tile_data)
    mask = compute_valid_mask(tile_data) if tile_mask is None else np.asarray(tile_mask, bool)
    step = max(int(np.sqrt(mask.size / _MOST_SAMPLE)), 1)
    seen = mask[::step, ::step]
    return np.array([_clipped_median(plane[::step, ::step][seen]) for plane in planes])


def _clipped_median(values: AnyArray) -> float:
    kept = np.asarray(values, float)
    kept = kept[np.isfinite(kept)]
    if kept.size == 0:
        return float("nan")
    for _ in range(_CLIP_ROUNDS):
        middle = np.median(kept)
        spread = mad_sigma(kept, middle)
        inside = np.abs(kept - middle) <= _CLIP_SIGMA * spread
        if spread == 0 or inside.all():
            break
        kept = kept[inside]
    return float(np.median(kept))


def equalize_rgb_medians_inplace(
    tile: AnyArray, mask: Flags | None = None, *, method: Literal["gain", "offset"] = "gain"
) -> F8:
    """Bring the three channels of a tile to one sky level, in place.

    Parameters
    ----------
    tile : ndarray, floating
        Changed, where it has three channels; a mono tile is left alone with a log line.
    mask : ndarray, bool, shape (h, w), optional
        Valid pixels.
    method : {"gain", "offset"}
        "gain" multiplies each channel (and so changes the colours of stars), "offset" adds to it (a neutral sky,
        true colours).

    Returns
    -------
    ndarray, shape (c,)
        What each channel was multiplied by, or what was added to it.
    """
    planes = channels_first(tile)
    neutral = np.ones(len(planes)) if method == "gain" else np.zeros(len(planes))
    if len(planes) != 3:
        _LOG.info("[GRID] RGB equalisation skipped: tile of shape %s is not a colour image", tile.shape)
        return neutral
    valid = compute_valid_mask(tile) if mask is None else mask
    level = estimate_tile_background(tile, valid)
    target = float(np.median(level))
    if not np.isfinite(level).all() or (method == "gain" and (level <= 0).any()):
        _LOG.info("[GRID] RGB equalisation skipped: sky levels %s allow no %s", np.round(level, 3), method)
        return neutral
    change = target / level if method == "gain" else target - level
    for plane, value in zip(planes, change, strict=True):
        if method == "gain":
            plane[valid] *= value
        else:
            plane[valid] += value
    _LOG.info("[GRID] RGB equalisation applied after the tile's stack: %s %s", method, np.round(change, 5))
    return np.asarray(change)


def erode(mask: Flags) -> Flags:
    """A mask without its rim; the array's own edge is no rim. A mask that would vanish stays as it is."""
    inner = scipy.ndimage.binary_erosion(mask, iterations=_ERODE_PX, border_value=1)
    return np.asarray(inner if inner.any() else mask)


def choose_reference_tile(
    tiles: Sequence[TilePhotometryInfo], n_overlaps: Sequence[int] | npt.NDArray[np.int64]
) -> int | None:
    """Index of a healthy tile to start from: well covered, with a range of values, most overlaps, most central.

    Parameters
    ----------
    tiles : sequence of TilePhotometryInfo
    n_overlaps : sequence of int, or ndarray
        Neighbours of each tile.

    Returns
    -------
    int or None
        None when no tile is healthy.
    """
    step = slice(None, None, _SAMPLE_STEP)
    n_valid = np.array([np.count_nonzero(tile.usable(step, step)) for tile in tiles])
    healthy = [
        i
        for i, tile in enumerate(tiles)
        if n_valid[i] > 0 and n_valid[i] >= _HEALTHY_COVERAGE * n_valid.max() and _has_range(tile)
    ]
    if not healthy:
        return None
    centres = np.array([[tile.bbox.y0 + tile.bbox.y1, tile.bbox.x0 + tile.bbox.x1] for tile in tiles]) / 2
    away = np.linalg.norm(centres - centres[healthy].mean(axis=0), axis=1)
    return min(healthy, key=lambda i: (-n_overlaps[i], away[i], tiles[i].tile_id))


def _has_range(tile: TilePhotometryInfo) -> bool:
    """Whether the values that may be compared are finite and not all one."""
    step = slice(None, None, _SAMPLE_STEP)
    values = np.asarray(tile.data[:, step, step])[:, tile.usable(step, step)]
    return bool(np.isfinite(values).all() and (np.ptp(values, axis=1) > 0).all())
