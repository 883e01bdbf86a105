"""Priors of the surfaces' coefficients: widths that all images together show, weakened for images far out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.robust import MEDIAN_CHI2_1

__all__ = ["degrees", "first_widths", "typical_error", "update_widths", "weigh_priors"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_FIRST = (3.0, 1.0, 0.5, 0.25)
"""First widths of level, slopes, curvatures and third degree over the scatter of the images' levels: wide, since the
overlaps of most sets narrow them in a round, while too narrow a start would take several to widen."""

_LEAST_FIRST = 10.0
"""First widths over a block's error, at least: images of equal levels may still have slopes."""

_DETERMINED = 3.0
"""Coefficients of a degree that must be determined in all, for their scatter to tell its width."""

_STRIDE = 30.0, 5.0
"""By how much a width may shrink and grow in a round: a step too long would have to be taken back."""

_TAME = 9.0
"""Squares count up to so many variances: three sigma."""

_SEEN = 3.0
"""Sigma by which some degree's coefficients must scatter more than those of equal images would."""

_STARLIGHT = 0.15
"""Of a block's error (a two-hundredth of a pixel's noise): what masks leave of the stars' wings differs by less."""

_FAR = 2.0
"""Sigma of its prior from which an image pulls no harder, however far off: a cloud's level, another night's slopes."""


def degrees(order: int) -> Ints:
    """Degree of every coefficient of a surface."""
    return np.repeat(np.arange(order + 1), np.arange(1, order + 2))


def typical_error(error: F4) -> float:
    """Median error of the blocks that count; 0 without any."""
    return float(np.median(error[error > 0])) if (error > 0).any() else 0.0


def first_widths(table: BlockTable, value: F4, error: F4, order: int) -> F8:
    """Wide priors to start from, one a degree: the scatter of the images' levels, and shares of it.

    Parameters
    ----------
    table : BlockTable
    value, error : ndarray, shape (blocks,), float32
        Block means over gain and response; error 0 leaves a block out.
    order : int
    """
    levels = np.array([
        np.median(v[e > 0]) if (e > 0).any() else np.nan
        for v, e in zip(np.split(value, table.start[1:-1]), np.split(error, table.start[1:-1]), strict=True)
    ])  # fmt: skip
    off2 = np.square(levels - np.nanmedian(levels))[np.isfinite(levels)]
    spread = np.sqrt(_mean_of_tame(off2)) if len(off2) else 0.0
    # Without a block that counts nothing will be solved: any width will do.
    width = max(spread, _LEAST_FIRST * (typical_error(error) or 1.0))
    return width * np.array(_FIRST[: order + 1])


def update_widths(surfaces: F8, draws: F8, widths: F8, error: F4) -> tuple[F8, bool]:
    """Prior widths that the solution itself implies (MacKay's fixed point), one a degree; whether anything scatters.

    Where no degree scatters more than equal images would, all go to 0: equal images stay equal.

    Parameters
    ----------
    surfaces : ndarray, shape (images, k)
    draws : ndarray, shape (draws, images, k)
        Of the error distribution of `surfaces`.
    widths : ndarray, shape (order + 1,)
        With which they were found.
    error : ndarray, shape (blocks,), float32
        Images which are equal on the sky may scatter by a share of it.

    References
    ----------
    D. J. C. MacKay, Neural Computation 4, 415 (1992).
    """
    out, degree = widths.copy(), degrees(len(widths) - 1)
    variance = np.mean(draws**2, axis=0)
    least = _STARLIGHT * typical_error(error)
    seen = False
    for d in range(len(widths)):
        c, v = surfaces[:, degree == d], variance[:, degree == d]
        trust = np.clip(1 - v / widths[d] ** 2, 0, 1)
        determined = float(np.sum(trust))
        # Were all images equal, a coefficient would scatter by trust x its variance.
        equal = np.sum(trust * v) + c.size * least**2
        seen |= bool(np.sum(c**2) > (1 + _SEEN * np.sqrt(2 / c.size)) * equal)
        if determined > _DETERMINED:
            out[d] = np.sqrt(_mean_of_tame(c**2) * c.size / determined)
            out[d] = np.clip(out[d], widths[d] / _STRIDE[0], widths[d] * _STRIDE[1])
    return (out, True) if seen else (widths / _STRIDE[0], False)


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
    return np.asarray(1 / np.maximum(far, 1)[:, degree])


def _mean_of_tame(squares: F8) -> float:
    """Mean of squares, robust against a few wild ones: they are cut at three sigma of the bulk."""
    return float(np.mean(np.minimum(squares, _TAME * np.median(squares) / MEDIAN_CHI2_1)))
