"""Maps that lie beside an image's data, brought to the output grid: alpha, coverage, exposure time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.resample.lattice import ALPHA_FULL, FLAG_SATURATED
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.runs import Runs, map_of
from zemosaic.settings import WarpSettings
from zemosaic.stages.warp.warp import WarpPlan, WindowReader, warp_window

__all__ = ["plan_maps", "taper_of_rim", "weigh_by_alpha"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SMOOTH = WarpSettings(kernel="bilinear", taper_px=0)


def plan_maps(plan: WarpPlan, n_maps: int) -> WarpPlan:
    """The plan by which maps of an image reach the grid: the same place, their values as they are.

    Parameters
    ----------
    plan : WarpPlan
        Of the image.
    n_maps : int
        Channels of the maps.
    """
    # Values of a map do not change with the area of pixels: the gain takes it out.
    area_share = plan.area_ref_deg2 / float(plan.wcs.pixel_area_deg2())
    return replace(
        plan,
        scale=replace(PhotoScale.neutral(n_maps), gain=np.full(n_maps, area_share)),
        sigma=np.ones(n_maps),
        valid_box=Box.of_shape(plan.wcs.shape),
        saturation_adu=None,
        pixel_values="surface",
        bayer=None,
    )


def weigh_by_alpha(plan: WarpPlan, box: Box, read: WindowReader, full: float, weights: Floats, alpha: Bytes) -> None:
    """Lower the weights of a warped image by its own alpha.

    Parameters
    ----------
    plan : WarpPlan
        Of the image.
    box : Box
        Output pixels of `weights`; inside the image's reach.
    read : WindowReader
        Gives the alpha map, one channel.
    full : float
        Its value where the image is trusted fully.
    weights : ndarray, float32, shape (c, *box.shape)
        Changed in place.
    alpha : ndarray, uint8, shape box.shape
        Taper code and saturation bit as `warp_window` fills it; changed in place by the same factor as `weights`, so
        that ``alpha / 127 / weight`` stays the variance of a value.
    """
    trust, ones = np.zeros((2, 1, *box.shape), np.float32)
    warp_window(plan_maps(plan, 1), box, read, SMOOTH, trust, ones, np.zeros(box.shape, np.uint8))
    share = np.clip(trust[0] / np.float32(full), 0, 1)
    code = alpha & ALPHA_FULL
    lowered = np.where((share > 0) & (code > 0), np.maximum(np.rint(code * share), 1), 0).astype(np.uint8)
    weights *= lowered / np.maximum(code, 1).astype(np.float32)
    alpha[...] = np.where(lowered > 0, lowered | (alpha & FLAG_SATURATED), 0)


def taper_of_rim(outside: Runs, shape: tuple[int, int], taper_px: float, box: Box) -> tuple[Floats, Floats]:
    """How far pixels are trusted by their distance to what lies beyond a frame's footprint, with ones beside.

    Parameters
    ----------
    outside : ndarray, int32, shape (n, 3)
        See `zemosaic.model.measurements.Measurements.outside`.
    shape : tuple of int
        Of the frame.
    taper_px : float
        Distance at which trust is full; it rises as the taper of a straight edge does.
    box : Box
        Window of the frame.

    Returns
    -------
    trust, ones : ndarray, float32, shape (1, *box.shape)
        The same of a pixel in any window that holds it.
    """
    around = box.expand(math.ceil(taper_px) + 1).intersect(Box.of_shape(shape))
    beyond, ones = map_of(outside, around), np.ones((1, *box.shape), np.float32)
    if not beyond.any():
        return ones, ones
    inner = box.relative_to(around).slices
    depth = np.clip((scipy.ndimage.distance_transform_edt(~beyond)[inner] - 0.5) / taper_px, 0, 1)
    return (depth * depth * (3 - 2 * depth)).astype(np.float32)[None], ones
