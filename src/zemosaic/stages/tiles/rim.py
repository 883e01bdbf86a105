"""Where a tile is trusted: its thin rim, trims and crops.

A tile of frames that turn against each other is thin at its rim: few frames, other noise, other colours. An alpha of
0..1 says so; it goes into the tile's weight, once, and data are never multiplied by it. Where other tiles reach, they
outweigh the rim; where none does, the rim is all there is of the sky, and it stays.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.model.tile import Tile
from zemosaic.settings import TileSettings

__all__ = ["RIM_ALPHA", "clean_tile", "ease_alpha", "feather_good", "feather_thin", "tells_apart"]

F4 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]

_log = logging.getLogger(__name__)

ALL_ALIKE = 1e-3
"""A mask within this of 0 everywhere, or of 1, tells nothing apart."""

MARGIN_PERCENT = 5.0
"""Width of the feather inside the thin rim, in percent of a tile's shorter side."""

RIM_ALPHA = 0.01
"""What the thin rim weighs: another tile that is trusted outweighs it a hundred times, and no alpha below 1/127 is told
from it once tiles are warped. `tiles.altaz_nanize_threshold` from here on takes the rim away."""


def feather_thin(
    coverage: AnyArray,
    min_coverage_abs: float,
    min_coverage_frac: float,
    morph_open_px: int,
    margin_percent: float = MARGIN_PERCENT,
) -> F4:
    """Alpha from coverage: 0 where too few frames reach, rising inwards to 1.

    Parameters
    ----------
    coverage : ndarray, shape (h, w)
        Frames that contribute to each pixel.
    min_coverage_abs, min_coverage_frac : float
        A pixel is good where at least ``max(abs, frac x largest coverage)`` frames reach it; `abs` counts as at most
        the largest coverage.
    morph_open_px : int
        Side of the square that good regions are opened with, against islands and threads; 0 or 1 for none.
    margin_percent : float
        Width of the feather, in percent of the shorter side.

    Returns
    -------
    ndarray, float32, shape (h, w)
        Grows with the Euclidean distance from the nearest bad pixel.
    """
    largest = float(coverage.max())
    threshold = max(min(min_coverage_abs, largest), min_coverage_frac * largest)
    return feather_good(coverage >= threshold, morph_open_px, margin_percent)


def feather_good(good: Mask, morph_open_px: int, margin_percent: float) -> F4:
    """Alpha of a mask of good pixels, opened and feathered; see `feather_thin`."""
    if morph_open_px >= 2:
        good = np.asarray(scipy.ndimage.binary_opening(good, np.ones((morph_open_px, morph_open_px), bool)))
    if good.all():
        return np.ones(good.shape, np.float32)
    feather_px = max(margin_percent / 100 * min(good.shape), 1.0)
    return np.asarray(np.minimum(scipy.ndimage.distance_transform_edt(good) / feather_px, 1), np.float32)


def tells_apart(alpha: F4) -> bool:
    """Whether a mask is neither 1 nor 0 all over."""
    return bool(alpha.min() <= 1 - ALL_ALIKE and alpha.max() >= ALL_ALIKE)


def ease_alpha(alpha: F4, soft: float, threshold: float) -> F4:
    """Alpha lowered by `soft` and stretched back to 1, and 0 where it is not above `threshold`; logs what it is."""
    eased = np.maximum(alpha - np.float32(soft), 0) / np.float32(1 - soft)
    eased = np.where(alpha > threshold, eased, np.float32(0)).astype(np.float32)
    _log.info(
        "ALPHA_STATS: level=master_tile min=%.3f max=%.3f mean=%.3f zero_frac=%.4f",
        eased.min(), eased.max(), eased.mean(), (eased == 0).mean(),
    )  # fmt: skip
    return eased


def clean_tile(tile: Tile, settings: TileSettings, name: str, *, altaz: bool) -> Tile:
    """Mask, trim and crop a tile as the settings ask for it.

    Parameters
    ----------
    tile : Tile
        Made from frames, so its coverage is known.
    settings : TileSettings
    name : str
        For log lines.
    altaz : bool
        Whether alt-az clean-up acts; without it the mask costs nothing.

    Returns
    -------
    Tile
        Cut to a smaller box where a trim or crop asks for it, or where no frame reaches its rim.
    """
    n_frames = len(tile.frames)
    covered = tile.coverage > 0
    _log.debug(
        "MT_COVERAGE_STATS: tile=%s shape=%s min=%d max=%d nonzero_frac=%.4f n_used=%d",
        name, tile.coverage.shape, tile.coverage.min(), tile.coverage.max(), covered.mean(), n_frames,
    )  # fmt: skip
    if altaz:
        _log.debug(
            "MT_PIPELINE: tile=%s coverage_max=%d min_coverage_abs=%g min_coverage_frac=%g morph_open_px=%d",
            name, tile.coverage.max(), settings.altaz_min_coverage_abs, settings.altaz_min_coverage_frac,
            settings.altaz_morph_open_px,
        )  # fmt: skip
        tile = tile.masked(_rim_alpha(tile.coverage, settings))
    box = _bounds(tile.weight.min(axis=0) > 0)
    if settings.crop_coverage > 0:
        box = box.intersect(_bounds(tile.coverage >= settings.crop_coverage * tile.coverage.max()))
    if settings.trim_px > 0:
        box = box.expand(-settings.trim_px)
        _log.info("MT_EDGE_TRIM: tile=%s trim_px=%d box=%s", name, settings.trim_px, box)
    return tile if box.is_empty else tile.cropped(box)


def _rim_alpha(coverage: AnyArray, settings: TileSettings) -> F4:
    """What each pixel of a tile is trusted; all alike where no rim is to be told from the rest."""
    if coverage.max() <= 0:
        return np.ones(coverage.shape, np.float32)
    alpha = feather_thin(
        coverage, settings.altaz_min_coverage_abs, settings.altaz_min_coverage_frac, settings.altaz_morph_open_px
    )
    if not tells_apart(alpha):
        _log.info("MT_PIPELINE: the mask tells nothing apart and is dropped")
        return np.ones(coverage.shape, np.float32)
    alpha = np.where(coverage > 0, np.maximum(alpha, np.float32(RIM_ALPHA)), alpha)
    return ease_alpha(alpha, settings.altaz_alpha_soft_threshold, settings.altaz_nanize_threshold)


def _bounds(mask: Mask) -> Box:
    """Bounding box of the true pixels; empty without any."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Box(0, 0, 0, 0)
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
