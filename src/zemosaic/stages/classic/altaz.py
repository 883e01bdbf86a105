"""The masks of the classic pipeline's alt-az clean-up, by the names and signatures that its users know.

They work on any stack, with or without a count of frames. A run of the program knows its tiles' coverage and keeps
their thin rim with little weight (`zemosaic.stages.tiles.rim`); here what is thin has none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.settings import TileSettings
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.tiles.rim import ease_alpha, feather_good, feather_thin, tells_apart

__all__ = ["_apply_lecropper_pipeline", "mask_altaz_artifacts"]

F4 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]

_log = logging.getLogger(__name__)

SIGNAL_SIGMA = 5.0
"""The sky must stand this clear of zero before a low border can be told from it."""


def mask_altaz_artifacts(
    image: AnyArray,
    *,
    coverage: AnyArray | None = None,
    min_coverage_abs: float = 3,
    min_coverage_frac: float = 0.4,
    margin_percent: float = 5,
    decay_ratio: float = 0.15,
    morph_open_px: int = 3,
    hard_threshold: float = 1e-3,
    fill_value: float | None = None,
    return_mask: bool = False,
) -> AnyArray | tuple[AnyArray, F4 | None]:
    """Find the thin rim that field rotation leaves on a stack.

    Parameters
    ----------
    image : ndarray, shape (h, w), (h, w, c) or (c, h, w)
        The stack; not modified.
    coverage : ndarray, shape (h, w), optional
        Frames that contribute to each pixel. One of another shape is ignored, never resized.
    min_coverage_abs, min_coverage_frac : float
        A pixel is good where at least ``max(abs, frac x largest coverage)`` frames reach it; `abs` counts as at most
        the largest coverage.
    margin_percent : float
        Width of the feather, from bad pixels inwards, in percent of the shorter side; without coverage also how much
        of the radius is cut off.
    decay_ratio : float
        Without coverage: a border below this share of the sky's level is empty; failing that, the share of the radius
        over which alpha falls.
    morph_open_px : int
        Side of the square that good regions are opened with, against islands and threads; 0 or 1 for none.
    hard_threshold : float
        Alpha at or below this becomes 0.
    fill_value : float, optional
        Put into the pixels of alpha 0; None leaves them as they are.
    return_mask : bool
        Whether to return alpha as well.

    Returns
    -------
    image : ndarray
        The values of `image`, never multiplied; the same object where nothing was filled in.
    alpha : ndarray, float32, shape (h, w), or None
        0..1; None where the mask tells nothing apart. Only with `return_mask`.

    Notes
    -----
    In this order: coverage; a border of low signal, where the sky's level is clear of zero; a radial mask, as the
    corners are what rotation leaves thin. Alpha grows with the Euclidean distance from the nearest bad pixel.
    """
    shape, axis = _plane_shape(image.shape)
    usable = _usable_coverage(coverage, shape)
    if usable is not None:
        alpha = feather_thin(usable, min_coverage_abs, min_coverage_frac, morph_open_px, margin_percent)
    else:
        low = _low_border(_luminance(image, axis), decay_ratio)
        if low is not None:
            alpha = feather_good(~low, morph_open_px, margin_percent)
        else:
            alpha = _radial(shape, margin_percent / 100, decay_ratio)
    alpha[alpha <= hard_threshold] = 0
    found = alpha if tells_apart(alpha) else None
    out = image
    if fill_value is not None and found is not None and (found == 0).any():
        out = image.astype(np.promote_types(image.dtype, np.float32))
        np.moveaxis(out, axis, 0)[..., found == 0] = fill_value
    return (out, found) if return_mask else out


def _apply_lecropper_pipeline(
    arr: AnyArray, cfg: TileSettings | Mapping[str, Any], *, coverage: AnyArray | None = None
) -> tuple[AnyArray, F4 | None]:
    """Alt-az clean-up of a stack as the settings ask for it.

    Parameters
    ----------
    arr : ndarray
        As `mask_altaz_artifacts` takes it.
    cfg : TileSettings or mapping
        Of a mapping the keys of `TileSettings` count; the others are ignored.
    coverage : ndarray, optional

    Returns
    -------
    arr : ndarray
        The same array: the mask is applied once, through the weight.
    alpha : ndarray, float32, or None
        0 where the pixel must have no weight; None where clean-up is off or nothing is to be told apart.
    """
    settings = cfg
    if not isinstance(settings, TileSettings):
        settings = TileSettings(**{key: value for key, value in cfg.items() if key in TileSettings.model_fields})  # type: ignore[union-attr]
    if settings.cleanup == "off":
        return arr, None
    _, alpha = mask_altaz_artifacts(
        arr,
        coverage=coverage,
        min_coverage_abs=settings.altaz_min_coverage_abs,
        min_coverage_frac=settings.altaz_min_coverage_frac,
        morph_open_px=settings.altaz_morph_open_px,
        return_mask=True,
    )
    if alpha is None:
        _log.info("MT_PIPELINE: the mask tells nothing apart and is dropped")
        return arr, None
    return arr, ease_alpha(alpha, settings.altaz_alpha_soft_threshold, settings.altaz_nanize_threshold)


def _plane_shape(shape: tuple[int, ...]) -> tuple[tuple[int, int], int]:
    """Height and width of an image, and the axis of its channels (0 for a plane, which gets one)."""
    if len(shape) == 2:
        return (shape[0], shape[1]), 0
    if len(shape) == 3 and shape[2] in {1, 3}:
        return (shape[0], shape[1]), 2
    if len(shape) == 3 and shape[0] in {1, 3}:
        return (shape[1], shape[2]), 0
    raise ValueError(f"an image must be (h, w), (h, w, c) or (c, h, w), got {shape}")


def _usable_coverage(coverage: AnyArray | None, shape: tuple[int, int]) -> AnyArray | None:
    """The coverage where it can be believed; else None, and a line that says why."""
    if coverage is None:
        return None
    if coverage.shape != shape:
        _log.info("MT_COVERAGE_IGNORED: its shape %s is not the image's %s", coverage.shape, shape)
        return None
    if not np.isfinite(coverage).all():
        _log.info("MT_COVERAGE_IGNORED: %d of its pixels are not finite", np.count_nonzero(~np.isfinite(coverage)))
        return None
    if coverage.max(initial=0) <= 0:
        _log.info("MT_COVERAGE_IGNORED: its largest value is %g", coverage.max(initial=0))
        return None
    return coverage


def _luminance(image: AnyArray, axis: int) -> npt.NDArray[np.float64]:
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, axis, 0)
    return np.asarray(planes.astype(float).mean(axis=0))


def _low_border(luminance: npt.NDArray[np.float64], share: float) -> Mask | None:
    """Empty pixels that touch the border; None where the sky is too near zero to tell, or nothing is empty."""
    h, w = luminance.shape
    middle = luminance[h // 4 : max(3 * h // 4, h // 4 + 1), w // 4 : max(3 * w // 4, w // 4 + 1)]
    middle = middle[np.isfinite(middle)]
    if not middle.size:
        return None
    level = float(np.median(middle))
    if level <= SIGNAL_SIGMA * mad_sigma(middle, level):
        return None
    empty = ~(luminance >= share * level)
    labels, _ = scipy.ndimage.label(empty)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    low = np.isin(labels, np.unique(rim[rim > 0]))
    return low if low.any() else None


def _radial(shape: tuple[int, int], margin: float, decay: float) -> F4:
    """1 in the middle, 0 in the corners; a radius of 1 reaches the corners."""
    y = (np.arange(shape[0]) + 0.5) / shape[0] * 2 - 1
    x = (np.arange(shape[1]) + 0.5) / shape[1] * 2 - 1
    radius = np.hypot(y[:, None], x) / np.sqrt(2)
    return np.asarray(np.clip((1 - margin - radius) / max(decay, 1e-6), 0, 1), np.float32)
