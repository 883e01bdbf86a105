"""One tile brought to another's level, by the names and signatures that users of the classic pipeline know.

A survey of the program solves for all of its tiles at once (`zemosaic.stages.survey.solve`).
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.stages.survey.photometry import channels_first, compute_valid_mask, erode, on_cpu
from zemosaic.stages.tiles.compare import Relation, relate_images

__all__ = ["apply_tile_photometric_scaling", "compute_tile_photometric_scaling"]

F4 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]

_LOG = logging.getLogger(__name__)


def compute_tile_photometric_scaling(reference: AnyArray, target: AnyArray, mask: Flags | None = None) -> tuple[F4, F4]:
    """Gain and offset of each channel that bring a tile to the level of another on the same pixels.

    Parameters
    ----------
    reference, target : ndarray
        Two tiles of one shape on the same pixels of the sky.
    mask : ndarray, bool, shape (h, w), optional
        Where both have enough coverage; by default where both are valid. Two rows of pixels at its rim are left out.

    Returns
    -------
    gains, offsets : ndarray, float32, shape (c,)
        ``reference = gain * target + offset``. Gain 1 where the pixels show no structure to tell it; (1, 0) where there
        is nothing to compare.
    """
    one, other = channels_first(reference), channels_first(target)
    if one.shape != other.shape:
        raise ValueError(f"reference {one.shape} and target {other.shape} must lie on the same pixels")
    gains, offsets = np.ones(len(one), np.float32), np.zeros(len(one), np.float32)
    valid = np.isfinite(one).all(axis=0) & np.isfinite(other).all(axis=0)
    valid &= compute_valid_mask(one) & compute_valid_mask(other) if mask is None else np.asarray(mask, bool)
    overlap = erode(valid)
    n = int(np.count_nonzero(overlap))
    _LOG.debug("[GRID] Photometry: overlap mask holds %d of %d pixels", n, overlap.size)
    for c in range(len(one)):
        found = relate_images(other[c], one[c], overlap)
        if found is None:
            _LOG.info("[GRID] Photometry: no valid pixels, scaling disabled (channel %d, %d pixels)", c, n)
            continue
        gains[c], offsets[c] = found.slope, found.intercept
        _log_scaling(c, other[c][overlap], found)
    return gains, offsets


def _log_scaling(channel: int, values: AnyArray, found: Relation) -> None:
    if _LOG.isEnabledFor(logging.DEBUG):
        before = np.array([np.min(values), np.median(values), np.max(values)], float)
        after = found.slope * before + found.intercept
        _LOG.debug(
            "[GRID] Photometry: channel %d min/median/max %.6g/%.6g/%.6g before, %.6g/%.6g/%.6g after scaling",
            channel, *before, *after,
        )  # fmt: skip


def apply_tile_photometric_scaling(tile: AnyArray, gains: npt.ArrayLike, offsets: npt.ArrayLike) -> F4:
    """``gain * tile + offset`` for each channel, as a new float32 array of the tile's layout.

    Raises
    ------
    ValueError
        When the corrections are not finite or do not fit the channels.
    """
    array = on_cpu(tile)
    planes = channels_first(array)
    gain, offset = np.asarray(gains, np.float32).reshape(-1), np.asarray(offsets, np.float32).reshape(-1)
    if gain.shape != (len(planes),) or offset.shape != gain.shape:
        raise ValueError(f"{gain.size} gains and {offset.size} offsets do not fit {len(planes)} channel(s)")
    if not (np.isfinite(gain).all() and np.isfinite(offset).all()):
        raise ValueError(f"gains {gain} and offsets {offset} must be finite")
    out = np.empty(array.shape, np.float32)
    channels_first(out)[...] = gain[:, None, None] * planes.astype(np.float32) + offset[:, None, None]
    return out
