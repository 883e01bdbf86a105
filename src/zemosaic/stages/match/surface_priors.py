"""What is known of surfaces and sky before they are solved: widths that all images show, structure below the nodes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.match import background as kernel
from zemosaic.kernels.match import images
from zemosaic.model.photo_scale import n_terms
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.robust import MEDIAN_CHI2_1

__all__ = [
    "bend_spread",
    "block_variance",
    "degrees",
    "differ_by_noise",
    "differ_by_variance",
    "first_bend_spread",
    "first_widths",
    "have_structure",
    "level_scatter",
    "n_draws",
    "night_scales",
    "smooth_bends",
    "structure_below_nodes",
    "typical_error",
    "update_widths",
    "weigh_priors",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_FIRST = (3.0, 1.0, 0.5, 0.25)
"""First widths of level, slopes, curvatures and third degree over the scatter of the images' levels: wide, since the
overlaps of most sets narrow them in a round, while too narrow a start would take several to widen."""

_LEAST_FIRST = 10.0
"""First widths over a block's error, at least: images of equal levels may still have slopes."""

_USUAL_SHARE = 0.2
"""Width of a degree over that of the degree below, where the images tell nothing of it: in frames of one night slopes
are a sixth to a fifth of the levels' scatter, and curvatures a sixth to a third of the slopes."""

_USUAL_FACTOR = 2.0
"""By what factor a width may well differ from the usual one. It decides where no coefficient is determined and is
outvoted by a handful, also where these are hundreds of times smaller: short exposures beside long ones have levels
thousands of ADU apart, on the mosaic's scale, and slopes of none."""

_STRIDE = 30.0, 5.0
"""By how much a width may shrink and grow in a round: a step too long would have to be taken back."""

_BEND = 30.0
"""Width of the prior on the sky's second differences over what well covered nodes show: it must not smooth nebulae,
whose knots bend far more than their bulk."""

_BEND_START = 10.0
"""The same before any sky is known, over the first width of the levels."""

_STRUCTURE = 6.0
"""Variance of the sky's structure over that of a block from which a gain may be found in it."""

_STRUCTURE_SAMPLE = 400
"""Blocks of an image that tell whether its sky has structure: a median of so many is good to 6 %."""

_FLOOR_SAMPLE = 100_000
"""Blocks whose median error is taken for that of all."""

_TAME = 9.0
"""Squares count up to so many variances: three sigma."""

_SEEN = 3.0
"""Sigma by which some degree's coefficients must scatter more than those of equal images would."""

_SEEN_IN_ONE = 4.0
"""The same where all the scatter may be in one mode of the images together."""

_STARLIGHT = 0.15
"""Of a block's error (a two-hundredth of a pixel's noise): what masks leave of the stars' wings differs by less."""

_FAR = 2.0
"""Sigma of its prior from which an image pulls no harder, however far off: a cloud's level, another night's slopes."""


_OTHER_NIGHT = 2.0
"""Surfaces of a night over the typical night's, rms, from which its prior is wider: moonlight, twilight, a lamp."""

_FEWEST_OF_NIGHT = 4
"""Coefficients of one degree from which a night's rms is told to 35 %."""

_DRAWN_SURFACES = 60
"""Surfaces drawn at least: their mean square is then good to a fifth."""

_MANY_IMAGES = 500
"""From so many images on, fewer draws from the error distribution tell as much."""


def degrees(order: int) -> Ints:
    """Degree of every coefficient of a surface."""
    return np.repeat(np.arange(order + 1), np.arange(1, order + 2))


def typical_error(error: F4) -> float:
    """Median error of the blocks that count; 0 without any."""
    return float(np.median(error[error > 0])) if (error > 0).any() else 0.0


def level_scatter(table: BlockTable, value: F4, error: F4) -> float:
    """Scatter of the images' median levels, at least ten errors of a block.

    Parameters
    ----------
    table : BlockTable
    value, error : ndarray, shape (blocks,), float32
        Block means over gain and response; error 0 leaves a block out.
    """
    levels = table.medians(np.where(error > 0, value, np.float32(np.nan)))
    off2 = np.square(levels - np.nanmedian(levels))[np.isfinite(levels)]
    spread = np.sqrt(_mean_of_tame(off2)) if len(off2) else 0.0
    # Without a block that counts nothing will be solved: any width will do.
    return float(max(spread, _LEAST_FIRST * (typical_error(error) or 1.0)))


def first_widths(scatter: float, order: int) -> F8:
    """Wide priors to start from, one a degree: multiples of the scatter of the images' levels."""
    return scatter * np.array(_FIRST[: order + 1])


def differ_by_variance(surfaces: F8, draws: F8, widths: F8, error: float) -> bool:
    """Whether surfaces of some degree scatter more than those of equal images, by their own variances.

    Those count what all images share (a trend of the sky, which only the priors hold) once for each: of few images
    that can be most of them, and `differ_by_noise` tells better.

    Parameters
    ----------
    surfaces : ndarray, shape (images, k)
    draws : ndarray, shape (draws, images, k)
        Of the error distribution of `surfaces`.
    widths : ndarray, shape (order + 1,)
        Priors with which they were found.
    error : float
        Typical error of a block: images which are equal on the sky may scatter by a share of it.
    """
    variance, degree = np.mean(draws**2, axis=0), degrees(len(widths) - 1)
    # Were all images equal, a coefficient would scatter by trust x its variance.
    trust = np.clip(1 - variance / widths[degree] ** 2, 0, 1)
    expected = trust * variance + (_STARLIGHT * error) ** 2
    of_degree = [degree == d for d in range(len(widths))]
    return any(
        np.sum(surfaces[:, own] ** 2) > (1 + _SEEN * np.sqrt(2 / surfaces[:, own].size)) * np.sum(expected[:, own])
        for own in of_degree
    )


def differ_by_noise(surfaces: F8, noise: F8, order: int, error: float) -> bool:
    """Whether surfaces of some degree scatter far more than the noise of the blocks alone makes them.

    Far, since all of it may be in one mode of the images together.

    Parameters
    ----------
    surfaces : ndarray, shape (images, k)
    noise : ndarray, shape (draws, images, k)
        Draws of what the blocks' noise alone would have given.
    order : int
    error : float
        As above.
    """
    expected, degree = np.mean(noise**2, axis=0) + (_STARLIGHT * error) ** 2, degrees(order)
    of_degree = [degree == d for d in range(order + 1)]
    return any(np.sum(surfaces[:, own] ** 2) > _SEEN_IN_ONE**2 * np.sum(expected[:, own]) for own in of_degree)


def update_widths(surfaces: F8, draws: F8, widths: F8, scatter: float) -> F8:
    """Prior widths that the solution itself implies (MacKay's fixed point), one a degree.

    Few images, or thin overlaps, tell little of it. So each width has a prior of its own: its logarithm is normal
    about the usual width, the levels' scatter for the levels, a fifth of the degree below for the others. With x the
    logarithm of a width over the usual one, s its spread, n the determined coefficients and q the sum of squares over
    the usual width's, the fixed point is ``n - q exp(-2 x) + x / s**2 = 0``.

    Parameters
    ----------
    surfaces : ndarray, shape (images, k)
    draws : ndarray, shape (draws, images, k)
        Of the error distribution of `surfaces`.
    widths : ndarray, shape (order + 1,)
        With which they were found.
    scatter : float
        Of the images' levels, as `level_scatter` tells it; 0 for images that do not differ: equal images stay equal.

    References
    ----------
    D. J. C. MacKay, Neural Computation 4, 415 (1992).
    """
    if scatter == 0:
        return np.asarray(widths / _STRIDE[0])
    out, degree = widths.copy(), degrees(len(widths) - 1)
    variance = np.mean(draws**2, axis=0)
    for d in range(len(widths)):
        own = surfaces[:, degree == d]
        determined = float(np.sum(np.clip(1 - variance[:, degree == d] / widths[d] ** 2, 0, 1)))
        usual = scatter if d == 0 else _USUAL_SHARE * out[d - 1]
        ratio = _ratio_to_usual(determined, _mean_of_tame(own**2) * own.size / usual**2)
        out[d] = np.clip(usual * ratio, widths[d] / _STRIDE[0], widths[d] * _STRIDE[1])
    return out


def _ratio_to_usual(determined: float, squares: float) -> float:
    """The width that the fixed point of `update_widths` gives, over the usual one; `squares` in units of the usual."""
    variance = np.log(_USUAL_FACTOR) ** 2
    # With y = x + n s^2 it reads 2 y exp(2 y) = 2 q s^2 exp(2 n s^2): Wright's omega, which does not overflow.
    shift = variance * determined
    above = scipy.special.wrightomega(np.log(max(2 * variance * squares, np.finfo(float).tiny)) + 2 * shift) / 2
    return float(np.exp(above - shift))


def night_scales(surfaces: F8, night: Ints, order: int) -> F8:
    """By how much wider than the typical night's the priors of each image are, shape (images, k); 1 for most.

    One width for all images would let a moonlit night's gradients widen those of the dark ones, and their common part,
    which differences cannot tell from the sky, would be shared out among all images alike.

    Parameters
    ----------
    surfaces : ndarray, shape (images, k)
    night : ndarray, shape (images,), int64
        Number of each image's night.
    order : int
    """
    degree = degrees(order)
    out = np.ones(surfaces.shape)
    n_nights = int(night.max(initial=-1)) + 1
    if n_nights < 2:
        return out
    count = np.bincount(night, minlength=n_nights)
    for d in range(order + 1):
        own = degree == d
        squares = np.mean(surfaces[:, own] ** 2, axis=1)
        rms = np.sqrt(np.bincount(night, squares, n_nights) / np.maximum(count, 1))
        # That of half of all images is typical, whatever the number of nights; of two halves the darker one.
        typical = float(np.sort(rms[night])[(len(night) - 1) // 2])
        ratio = rms / typical if typical > 0 else np.ones(n_nights)
        wide = (ratio > _OTHER_NIGHT) & (count * np.count_nonzero(own) >= _FEWEST_OF_NIGHT)
        out[:, own] = np.where(wide, ratio, 1.0)[night][:, None]
    return out


def n_draws(n_images: int, some_images: int, many_images: int) -> int:
    """How many draws tell enough: of few images more, so that all draws together hold as many surfaces."""
    if n_images >= _MANY_IMAGES:
        return many_images
    return max(some_images, -(-_DRAWN_SURFACES // max(n_images, 1)))


def weigh_priors(surfaces: F8, widths: F8) -> F8:
    """How much of its prior each coefficient feels, shape (images, k): less than 1 where its degree lies far out.

    Surfaces of real images have longer tails than a Gaussian. Slow trends of the sky, which differences cannot
    tell, go where the priors of all images together want them: one with a level a hundred sigma off would decide
    them alone.
    """
    degree = degrees(len(widths) - 1)
    pull2 = (surfaces / widths[degree]) ** 2
    each = np.stack([pull2[:, degree == d].mean(axis=1) for d in range(len(widths))], axis=1)
    # After a large step of the prior all are beyond it.
    far = each / (_FAR**2 * np.maximum(np.median(each, axis=0), 1))
    # Image after image: columns picked out lie the other way, which kernels are not compiled for.
    return np.ascontiguousarray((1 / np.maximum(far, 1))[:, degree])


def bend_spread(sky: F8, depth: F8) -> float:
    """Wide prior of the sky's second differences, by what well covered nodes show.

    Parameters
    ----------
    sky, depth : ndarray, shape (ny, nx)
        At the nodes, and the summed weight of the blocks round each.
    """
    known = depth > 0.5 * np.median(depth[depth > 0])
    inner = known[:, :-2] & known[:, 1:-1] & known[:, 2:]
    bends = np.abs(sky[:, :-2] - 2 * sky[:, 1:-1] + sky[:, 2:])[inner]
    noise = 1 / np.sqrt(np.median(depth[known]))
    return float(_BEND * np.hypot(np.sqrt(np.mean(bends**2)) if len(bends) else 0.0, noise))


def smooth_bends(sky: F8, covered: Flags) -> tuple[F8, F8]:
    """Second differences of the sky along y and along x, each a weighted mean over 3 x 3 nodes, shapes (ny, nx).

    Of a sky that changes from node to node they are a third: there bilinear interpolation is hardly worse than any
    other, and a solve that is corrected round by round for all of what it misses would not settle. Filaments a few
    nodes wide keep most of theirs.

    Parameters
    ----------
    sky : ndarray, shape (ny, nx)
    covered : ndarray, shape (ny, nx), bool
        Nodes that are known well enough: of others no second difference is taken.
    """
    out = []
    for axis in (0, 1):
        bends, known = np.zeros_like(sky), np.zeros_like(sky)
        along, seen = np.moveaxis(sky, axis, 0), np.moveaxis(covered, axis, 0)
        np.moveaxis(known, axis, 0)[1:-1] = seen[:-2] & seen[1:-1] & seen[2:]
        np.moveaxis(bends, axis, 0)[1:-1] = along[:-2] - 2 * along[1:-1] + along[2:]
        near, total = _weighted_neighbours(known), _weighted_neighbours(bends * known)
        out.append(total / np.maximum(near, 1 / 16))
    return out[0], out[1]


def _weighted_neighbours(values: F8) -> F8:
    """Sums over 3 x 3 nodes with weights 1, 8, 1 along rows and columns."""
    by_rows = scipy.ndimage.convolve1d(values, [0.1, 0.8, 0.1], axis=0, mode="constant")
    return np.asarray(scipy.ndimage.convolve1d(by_rows, [0.1, 0.8, 0.1], axis=1, mode="constant"))


def first_bend_spread(widths: F8) -> float:
    """The same before any sky is known, from the first widths of the surfaces."""
    return float(_BEND_START * widths[0])


def block_variance(table: BlockTable, error: F4, structure: F8) -> F4:
    """Variance of every block: of its noise, and of the sky's structure below its nodes."""
    return np.asarray(error**2 + structure.astype(np.float32).ravel()[table.cell] + np.float32(1e-20))


def _mean_of_tame(squares: F8) -> float:
    """Mean of squares, robust against a few wild ones: they are cut at three sigma of the bulk."""
    return float(np.mean(np.minimum(squares, _TAME * np.median(squares) / MEDIAN_CHI2_1)))


def have_structure(table: BlockTable, sky: F4, weight: F4, order: int) -> Flags:
    """Whether each image's sky varies, beyond any surface, well above the noise of its blocks; shape (n,)."""
    every, k = np.arange(table.n_images), n_terms(order)
    used, n_used = (weight > 0).astype(np.float32), np.empty(table.n_images, np.int64)
    sums = np.empty((table.n_images, k + 2, k + 2))
    images.sum_products(table.placed(order), used, sky, every, _STRUCTURE_SAMPLE, sums, n_used)
    enough = n_used >= 4 * k
    sums[~enough] = np.eye(k + 2)
    surfaces = np.linalg.solve(sums[:, :k, :k], sums[:, :k, -1:])[..., 0]
    del used
    rest = np.empty_like(sky)
    kernel.block_residuals(table.placed(order), sky, np.zeros(table.nodes.n), surfaces, rest)
    # In place: of all blocks of many images each copy counts.
    rest *= rest
    rest[weight <= 0] = np.nan
    squares = table.medians(rest, _STRUCTURE_SAMPLE)
    del rest
    variance = 1 / table.medians(np.where(weight > 0, weight, np.float32(np.nan)), _STRUCTURE_SAMPLE)
    return enough & (squares > _STRUCTURE * MEDIAN_CHI2_1 * variance)


def structure_below_nodes(table: BlockTable, residual: F4, error: F4, before: F8) -> F8:
    """Variance of the sky below a node's reach, from local residuals, smoothed over 3 x 3 cells."""
    count, excess = np.empty(table.nodes.n), np.empty(table.nodes.n)
    floor = typical_error(error[:: max(len(error) // _FLOOR_SAMPLE, 1)]) ** 2
    kernel.cell_excess(table.cell, residual, error, before.ravel(), floor, count, excess)
    shape = table.nodes.shape
    near, over = (scipy.ndimage.uniform_filter(q.reshape(shape), 3, mode="constant") for q in (count, excess))
    return np.where(near > 0, np.maximum(over, 0) / np.maximum(near, 1e-9), 0)
