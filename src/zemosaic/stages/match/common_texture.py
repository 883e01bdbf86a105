"""How much better blocks know surfaces than their errors state, where images share what scatters them.

A block's error counts all that scatters over areas of its image: the image's noise, and texture of the sky too fine for
the nodes (faint stars, wisps, noise of a mosaic that was cut into panels). Texture is the same in all images. Blocks of
two images hold other parts of it, but over the area of many blocks it cancels: what it adds to one block a neighbour
lacks. Surfaces hang on such areas. Were all of a block's error taken for noise of its own, priors would outweigh what
overlaps know of slow trends.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match import images
from zemosaic.stages.match.background import BackgroundSystem

__all__ = ["find_surplus", "unit_noise"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

_PARTS = 8
"""Parts along an image's side: of four blocks at least, since an image has 32 across. Twice as wide ones tell the same
and are too few."""

_SURE = 2.0
"""Errors by which parts must scatter less than blocks: of few parts the ratio is a matter of chance."""

_MOST = 16.0
"""At most: errors are not taken for less than a quarter. Images without any noise would have no priors."""

_SEED = 311
"""Of the noise: no draw of the rounds has it."""

_AT_ONCE = 1_000_000
"""Blocks whose noise is made at once, in double precision."""


def unit_noise(system: BackgroundSystem) -> F4:
    """Independent noise at every block as the weights have it, shape (blocks,); 0 where there is none."""
    rng, weight = np.random.default_rng(_SEED), system.data.weight
    out = np.empty_like(weight)
    for first in range(0, len(out), _AT_ONCE):
        part = out[first : first + _AT_ONCE]
        part[:] = rng.normal(size=len(part))
    return np.divide(out, np.sqrt(weight), out=np.zeros_like(out), where=weight > 0)


def find_surplus(system: BackgroundSystem, residual: F4, noise_left: F4) -> float:
    """Information of the blocks on surfaces over what their weights state; 1 at least.

    Residuals are summed over parts of each image, and their squares held against those of a solve of independent noise
    as the weights have it. What surfaces cannot follow makes them larger, so that only the rest counts.

    Parameters
    ----------
    system : BackgroundSystem
        As it was solved.
    residual : ndarray, shape (blocks,), float32
        Of that solution.
    noise_left : ndarray, shape (blocks,), float32
        What such a solve leaves of `unit_noise`.
    """
    found, due = (_squares(system, rest) for rest in (residual, noise_left))
    expected = float(np.sum(due))
    # Both sums err, by as much as single parts stand out.
    sure = 1 + _SURE * float(np.sqrt(2 * np.sum(due**2))) / expected if expected > 0 else 1.0
    least = expected / _MOST
    return max(expected / max(sure * float(np.sum(found)), least), 1.0) if least > 0 else 1.0


def _squares(system: BackgroundSystem, rest: F4) -> F8:
    """Squares of the sums over parts of each image, over what independent blocks would give; shape (images, parts)."""
    total, sums = np.empty((2, system.layout.table.n_images, _PARTS**2))
    images.sum_parts(system.layout.blocks(None), system.data.weight, rest, _PARTS, total, sums)
    return np.asarray(sums**2 / np.maximum(total, np.finfo(np.float32).tiny))
