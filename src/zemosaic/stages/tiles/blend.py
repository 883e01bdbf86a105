"""Tiles into one picture: weights from each tile's own border, pyramids, N tiles at once.

A pyramid blend mixes coarse structure over wide zones and fine structure over narrow ones (Burt & Adelson 1983, ACM
TOG 2, 217). Three things differ from the textbook:

- all tiles that meet are blended at once, so a corner of four tiles has no order;
- every level is divided by the sum of its blurred weights (normalised convolution, Knutsson & Westin 1993), so neither
  rims nor holes darken;
- what goes through the pyramids is each tile's difference from the weighted mean of all. Where a tile ends, only its
  small difference from the others must be guessed, never the half of a star that lies beyond its edge. The blend is
  linear, so inside the overlap this changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.tiles import distance as distance_kernel
from zemosaic.kernels.tiles import pyramid as kernel

__all__ = [
    "MAX_LEVELS",
    "are_alike",
    "bend_shares",
    "blend_border_px",
    "blend_feather",
    "blend_pyramid",
    "border_weights",
    "build_gaussian_pyramid",
    "build_laplacian_pyramid",
    "levels_for_overlap",
    "normalise_weights",
    "predict_flux_change_mmag",
    "reconstruct_from_laplacian",
]

F4 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

MAX_LEVELS = 6
"""Octaves at most: structure wider than 64 pixels is a matter of photometry, not of blending."""

_OVERLAP_REACHES = 8
"""The coarsest pixel is so many times narrower than the overlap, or more."""

_FWHM_PER_SIGMA = 2.3548
"""Of a Gaussian: ``sqrt(8 ln 2)``."""

_MMAG = 1085.7
"""Thousandths of a magnitude in a relative change of flux."""

_ROUNDING = 4 * np.finfo(np.float32).eps

_LEAST_WEIGHT = np.float32(1e-12)
"""Blurred weights below this say nothing in single precision."""


def build_gaussian_pyramid(image: npt.ArrayLike, levels: int) -> list[F4]:
    """An image and its blurred halves.

    Parameters
    ----------
    image : array_like, shape (h, w) or (c, h, w)
        Finite; any size, odd ones too.
    levels : int
        How often it is halved, at least 0; an image of one pixel stays one.

    Returns
    -------
    list of ndarray, float32
        ``levels + 1`` images, the finest first.
    """
    if levels < 0:
        raise ValueError(f"a pyramid has 0 levels or more, not {levels}")
    pyramid = [np.ascontiguousarray(image, np.float32)]
    for _ in range(levels):
        pyramid.append(_reduce(pyramid[-1]))
    return pyramid


def build_laplacian_pyramid(image: npt.ArrayLike, levels: int, reach: Sequence[F4] | None = None) -> list[F4]:
    """What each octave of an image adds to the coarser ones; the last is the coarsest image itself.

    Parameters
    ----------
    image, levels
        See `build_gaussian_pyramid`.
    reach : sequence of ndarray, float32, optional
        Pyramid of where the image is known (1) and where it is not (0); the image is 0 there, and each octave continues
        it by what is known nearby.

    Returns
    -------
    list of ndarray, float32
        ``levels + 1`` images, the finest first.
    """
    gaussian = build_gaussian_pyramid(image, levels)
    if reach is not None:
        gaussian = [
            np.where(known > _LEAST_WEIGHT, total / np.maximum(known, _LEAST_WEIGHT), 0)
            for total, known in zip(gaussian, reach, strict=True)
        ]
    return [*(low - _expand(high, low.shape) for low, high in pairwise(gaussian)), gaussian[-1]]


def reconstruct_from_laplacian(pyramid: Sequence[F4]) -> F4:
    """The image of a Laplacian pyramid; undoes `build_laplacian_pyramid` to rounding errors.

    Raises
    ------
    ValueError
        For an empty pyramid.
    """
    if len(pyramid) == 0:
        raise ValueError("a pyramid of no levels holds no image")
    image = pyramid[-1]
    for finer in pyramid[-2::-1]:
        image = finer + _expand(image, finer.shape)
    return np.asarray(image)


def levels_for_overlap(overlap_px: float) -> int:
    """Octaves that an overlap of some width bears; 0 (feathering alone) below 16 pixels."""
    return int(np.clip(np.floor(np.log2(max(overlap_px, 1) / _OVERLAP_REACHES)), 0, MAX_LEVELS))


def blend_border_px(levels: int) -> int:
    """How far from a pixel the tiles can change its blend: the sums over all octaves of both ways, rounded up."""
    return 0 if levels == 0 else 5 * 2**levels


def border_weights(
    valid: Flags, inverse_variance: F4 | None = None, sides: tuple[bool, bool, bool, bool] = (True, True, True, True)
) -> F4:
    """Blending weight of every pixel of a tile: distance to the tile's own border, times inverse variance.

    Parameters
    ----------
    valid : ndarray, bool, shape (h, w)
        False inside holes.
    inverse_variance : ndarray, float32, shape (h, w), optional
        Of the tile's pixels, >= 0.
    sides : tuple of bool
        Which sides of the array (top, bottom, left, right) are borders that other tiles go beyond. At a side that is
        the rim of the whole mosaic nothing is to be blended: weights that fell there would only blur the seams.

    Returns
    -------
    ndarray, float32, shape (h, w)
        0 exactly where a pixel is invalid.
    """
    weight = np.empty(valid.shape, np.float32)
    distance_kernel.border_distance(np.ascontiguousarray(valid), *sides, weight)
    return weight if inverse_variance is None else np.asarray(weight * inverse_variance)


def normalise_weights(weights: F4) -> F4:
    """Weights ``(n, h, w)`` of n tiles over their sum: 1 in all wherever any is positive, else 0."""
    total = weights.sum(axis=0, dtype=np.float64)
    return np.asarray(weights / np.where(total > 0, total, 1), np.float32)


def bend_shares(shares: F4) -> F4:
    """Shares along a curve of two parabolas in place of a straight ramp: 0, 1/2 and 1 stay, no kink is at either end.

    Parameters
    ----------
    shares : ndarray, float32, shape (n, h, w)
        From `normalise_weights`.

    Returns
    -------
    ndarray, float32, shape (n, h, w)
        1 in all wherever the shares are.

    Notes
    -----
    A star that is softer in one tile than in the other keeps its flux where the share changes evenly under it, and
    loses some where that bends. A straight ramp bends at its ends alone, and sharply; two parabolas bend least for
    their width. In exchange, they are twice as steep in the middle.
    """
    curved = np.where(shares < 0.5, 2 * shares**2, 1 - 2 * (1 - shares) ** 2).astype(np.float32)
    return normalise_weights(curved)


def predict_flux_change_mmag(fwhm_px: tuple[float, float], overlap_px: float, *, is_bent: bool) -> float:
    """How far the flux of the worst star on a seam is off, for tiles of two FWHMs that share so many pixels.

    A straight ramp's kink of ``1 / overlap_px`` costs that times the difference of the sigmas over ``sqrt(2 pi)``; the
    curvature ``4 / overlap_px**2`` of `bend_shares` half of that times the difference of their squares. True to a third
    for overlaps of eight sigmas and more, too large for narrower ones (`benchmarks/blend_seams.py`).
    """
    one, other = (fwhm / _FWHM_PER_SIGMA for fwhm in fwhm_px)
    if is_bent:
        return _MMAG * 2 * abs(one**2 - other**2) / overlap_px**2
    return _MMAG * abs(one - other) / (math.sqrt(2 * math.pi) * overlap_px)


def blend_feather(images: F4, weights: F4) -> F4:
    """Weighted mean of tiles.

    Parameters
    ----------
    images : ndarray, float32, shape (n, c, h, w)
        Tiles on common pixels; any finite value where the weight is 0.
    weights : ndarray, float32, shape (n, h, w)
        From `normalise_weights`, or `bend_shares`.

    Returns
    -------
    ndarray, float32, shape (c, h, w)
        0 where no tile has weight.
    """
    out = np.zeros(images.shape[1:], np.float64)
    for image, weight in zip(images, weights, strict=True):
        out += weight * image.astype(np.float64)
    return out.astype(np.float32)


def blend_pyramid(images: F4, weights: F4, levels: int) -> F4:
    """Blend tiles octave by octave.

    Parameters
    ----------
    images, weights : ndarray
        As for `blend_feather`.
    levels : int
        Octaves (`levels_for_overlap`); 0 feathers.

    Returns
    -------
    ndarray, float32, shape (c, h, w)
        0 where no tile has weight.

    Raises
    ------
    ValueError
        For values that are not finite where a tile has weight.

    Notes
    -----
    A pixel's result depends on what lies within `blend_border_px` of it, and on where the array begins only through
    multiples of ``2**levels``: windows that begin at such multiples, with a border that wide, give the same values as
    the whole.
    """
    mean = blend_feather(images, weights)
    covered = weights.sum(axis=0) > 0
    if not np.isfinite(mean).all():
        raise ValueError("tiles hold values that are not finite where they have weight")
    valid = weights > 0
    if levels == 0 or not (valid.sum(axis=0) > 1).any():
        return mean
    masks = [build_gaussian_pyramid(weight, levels) for weight in weights]
    reach = [build_gaussian_pyramid(seen.astype(np.float32), levels) for seen in valid]
    totals = [np.maximum(np.sum([mask[k] for mask in masks], axis=0), _LEAST_WEIGHT) for k in range(levels + 1)]
    out = np.empty_like(mean)
    for c, channel in enumerate(mean):
        blended = [np.zeros_like(total) for total in totals]
        for i, image in enumerate(images):
            away = np.where(valid[i], image[c] - channel, np.float32(0))
            for k, octave in enumerate(build_laplacian_pyramid(away, levels, reach[i])):
                blended[k] += masks[i][k] / totals[k] * octave
        out[c] = np.where(covered, channel + reconstruct_from_laplacian(blended), 0)
    return out


def are_alike(images: F4, weights: F4) -> bool:
    """Whether all tiles show the same values wherever they are, to rounding: then their mean is the blend.

    Parameters are those of `blend_feather`.
    """
    mean = blend_feather(images, weights)
    return all(
        bool((np.abs(image - mean) <= _ROUNDING * np.abs(mean))[:, weight > 0].all())
        for image, weight in zip(images, weights, strict=True)
    )


def _reduce(image: F4) -> F4:
    shape = image.shape[:-2], ((image.shape[-2] + 1) // 2, (image.shape[-1] + 1) // 2)
    out = np.empty((*shape[0], *shape[1]), np.float32)
    for plane, half in zip(image.reshape(-1, *image.shape[-2:]), out.reshape(-1, *shape[1]), strict=True):
        kernel.reduce(plane, half)
    return out


def _expand(image: F4, shape: tuple[int, ...]) -> F4:
    out = np.empty(shape, np.float32)
    flat = np.ascontiguousarray(image)
    for plane, double in zip(flat.reshape(-1, *image.shape[-2:]), out.reshape(-1, *shape[-2:]), strict=True):
        kernel.expand(plane, double)
    return out
