"""Whether a plane is a colour mosaic, from what its samples show at the four places of every 2 x 2 pixels.

Behind a Bayer filter the two greens, on one diagonal, see the same light, and red or blue see another: in the sky and
in every star. On a plane without a filter all four see the same. Red is not told from blue by pixels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.stages.numeric.quantile import quantile_of
from zemosaic.stages.raw.cfa import noise_by_phase

__all__ = [
    "PATTERNS",
    "PhaseLook",
    "PlaneKind",
    "cells_of",
    "fit_pattern",
    "judge_phases",
    "kind_of",
    "look_at_phases",
    "shows_pattern",
    "sky_colours",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

PlaneKind = Literal["mono", "main", "anti"]
"""No pattern; or one whose greens lie on the main diagonal (first pixel and that below to its right: GRBG, GBRG), or on
the other one (RGGB, BGGR)."""

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")

MESH_CELLS = 32
"""Side of the squares, in cells of 2 x 2 pixels, whose medians are the sky: larger than stars."""

BLOCK_CELLS = 4
"""Side of the blocks, in cells, whose light is summed: a whole star is even on the four places, a cell of it is not."""

MOST_MISSING = 0.1
"""Share of pixels without data up to which a square's median is its sky."""

BLOCK_SIGMA = 12.0
"""Light of a block over its noise, from which it counts as a star's: each place's share is then known to a third."""

PLACE_SIGMA = 2.0
"""Three of the four places must show light, by so much: a hot pixel stands alone."""

LEAST_BLOCKS = 30
"""Fewer blocks with light tell no shares."""

BLOCKS_OF_A_STAR = 2.0
"""Blocks that one star falls on: their number over this is that of independent ones."""

LEAST_LOOKS = 4
"""From so many on, how much they differ tells how well their mean is known."""

SAME = 0.03
"""Shares of light that differ by less, or by less than `SAME_SIGMA`, are alike: sensors are even to a few per cent."""

SAME_SIGMA = 3.0
"""In errors of both: one true pair in 370 differs by more."""

WELL_KNOWN = 0.05
"""Error of shares up to which they can be said to be alike: those of cameras with a filter differ by 0.3 and more."""

ROUGHLY_KNOWN = 0.12
"""Likewise, where other frames show that the camera's sky is not grey."""

APART = 0.08
"""Shares that differ by more than this are those of two colours, where they also differ by `APART_SIGMA`."""

APART_SIGMA = 5.0
"""In errors of both: what a camera's colours are is then no matter of chance."""

SAME_SKY = 0.2
"""Skies that differ by less, in noises of one sample, are alike: before a sky with light a filter makes several."""


LEAST_CONTRAST = 1.0
"""Spread of the sky over the four places, in noises of one sample, from which it shows a pattern by itself."""

FITS = 0.25
"""Distance of a sky's contrast from that of others, both of length 1, up to which it fits them."""

FITS_BETTER = 2.5
"""How much nearer one pattern must lie than any other. Skies of one session, moon and haze included, differ by 0.1."""


@dataclass(frozen=True, slots=True, eq=False)
class PhaseLook:
    """What a part of one frame shows.

    Attributes
    ----------
    sky, noise : ndarray, shape (2, 2), float32
        Median and noise of the samples by the parity of row and column.
    n_blocks : int
        Blocks that hold light of stars or nebulae.
    share : ndarray, shape (2, 2), float32
        Median of a place's share of its block's light, times four; 1 where there are no blocks.
    share_error : float
        One sigma of a share; inf where there are no blocks.
    """

    sky: F4
    noise: F4
    n_blocks: int
    share: F4
    share_error: float


def look_at_phases(plane: F4, weight: F4, saturation_adu: float = np.inf) -> PhaseLook:
    """Sky, noise and light of stars at the four places of a cell.

    Parameters
    ----------
    plane, weight : ndarray, float32, shape (h, w)
        A part of a frame that begins at an even row and column.
    saturation_adu : float
        Blocks that hold a sample from this level on do not count: what is cut off has lost its colour.

    Raises
    ------
    FrameRejected
        When the part has too few samples with weight.
    """
    noise = noise_by_phase(plane, weight)
    cells, known = cells_of(plane), cells_of(weight).min(axis=0) > 0
    ny, nx = (length // MESH_CELLS for length in known.shape)
    if not known[: ny * MESH_CELLS, : nx * MESH_CELLS].any():
        raise FrameRejected("measure.no-sky-square", side_px=2 * MESH_CELLS)
    samples = cells.reshape(4, -1) if known.all() else cells[:, known]
    sky = np.array([quantile_of(each, 0.5) for each in samples], np.float32).reshape(2, 2)
    lights, is_good = _light_of_blocks(cells, known, saturation_adu)
    lights = lights[:, is_good]
    total, sigma = lights.sum(axis=0), BLOCK_CELLS * noise.reshape(4, 1)
    shines = np.count_nonzero(lights > PLACE_SIGMA * sigma, axis=0) >= 3
    is_star = shines & (total > BLOCK_SIGMA * np.sqrt(np.sum(sigma**2)))
    n_blocks = int(np.count_nonzero(is_star))
    if n_blocks == 0:
        return PhaseLook(sky, noise, 0, np.ones((2, 2), np.float32), np.inf)
    shares = 4 * lights[:, is_star] / total[is_star]
    share = np.median(shares, axis=1)
    scatter = 1.4826 * np.median(np.abs(shares - share[:, None]), axis=1).max()
    error = 1.25 * scatter * np.sqrt(BLOCKS_OF_A_STAR / n_blocks)
    return PhaseLook(sky, noise, n_blocks, share.reshape(2, 2), float(error))


def _light_of_blocks(
    cells: F4, known: npt.NDArray[np.bool_], saturation_adu: float
) -> tuple[F4, npt.NDArray[np.bool_]]:
    """Light above the sky at each place of whole blocks, shape (4, n), and whether they are whole and unsaturated."""
    ny, nx = (length // MESH_CELLS for length in known.shape)
    part = (slice(ny * MESH_CELLS), slice(nx * MESH_CELLS))
    squares = cells[:, *part].reshape(4, ny, MESH_CELLS, nx, MESH_CELLS)
    light = squares - np.median(squares, axis=(2, 4), keepdims=True)
    has_sky = known[part].reshape(ny, MESH_CELLS, nx, MESH_CELLS).mean(axis=(1, 3), keepdims=True) > 1 - MOST_MISSING
    is_good = known[part] & (cells[:, *part].max(axis=0) < saturation_adu)
    is_good &= np.broadcast_to(has_sky, (ny, MESH_CELLS, nx, MESH_CELLS)).reshape(is_good.shape)
    n, m = (length // BLOCK_CELLS for length in is_good.shape)
    sums = light.reshape(4, n, BLOCK_CELLS, m, BLOCK_CELLS).sum(axis=(2, 4))
    return sums.reshape(4, -1), is_good.reshape(n, BLOCK_CELLS, m, BLOCK_CELLS).all(axis=(1, 3)).reshape(-1)


def cells_of(plane: F4) -> F4:
    """The four samples of every whole cell, shape (4, n, m), row by row."""
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    return np.stack([plane[j:height:2, i:width:2] for j in (0, 1) for i in (0, 1)])


def judge_phases(looks: Sequence[PhaseLook], *, is_sky_coloured: bool = False) -> PlaneKind | None:
    """What kind of planes frames of one camera are, from looks at some of them.

    Parameters
    ----------
    looks : sequence of PhaseLook
    is_sky_coloured : bool
        Whether the same instrument's frames of another size show a pattern in their sky. One sky alike at all
        places then says more, and fewer stars are asked for.

    Returns
    -------
    {"mono", "main", "anti"} or None
        None where the light of stars does not tell, or the sky contradicts it.
    """
    looks = [look for look in looks if look.n_blocks]
    if sum(look.n_blocks for look in looks) < LEAST_BLOCKS:
        return None
    weight = np.array([1 / max(look.share_error, 1e-6) ** 2 for look in looks])
    shares = np.stack([look.share / look.share.mean() for look in looks])
    share = np.average(shares, axis=0, weights=weight)
    error = float(1 / np.sqrt(weight.sum()))
    if len(looks) >= LEAST_LOOKS:
        error = max(error, float(shares.std(axis=0).max()) / np.sqrt(len(looks) - 1))
    known = ROUGHLY_KNOWN if is_sky_coloured else WELL_KNOWN
    sky = np.median([_sky_contrast(look) for look in looks], axis=0)
    if np.ptp(share) < max(SAME, SAME_SIGMA * error) and error < known and np.ptp(sky) < SAME_SKY:
        return "mono"
    return _greens(share, max(APART, APART_SIGMA * error), sky)


def _greens(share: F8, apart: float, sky: F8) -> PlaneKind | None:
    """The diagonal of the greens: the one whose two places are alike, of two such the one with more light."""
    diagonals: dict[PlaneKind, tuple[int, ...]] = {"main": (0, 3), "anti": (1, 2)}
    candidates: list[tuple[float, PlaneKind]] = []
    for name, (first, second) in diagonals.items():
        greens = share.flat[first], share.flat[second]
        others = np.delete(share, (first, second))
        contrast = float(np.max(np.abs(others - np.mean(greens))))
        is_sky_alike = abs(sky.flat[first] - sky.flat[second]) < max(SAME_SKY, np.ptp(sky) / 4)
        if contrast > apart and abs(greens[0] - greens[1]) < contrast / 3 and is_sky_alike:
            candidates.append((float(np.mean(greens)), name))
    return max(candidates)[1] if candidates else None


def kind_of(pattern: str | None) -> PlaneKind:
    """What a plane of a pattern is; None stands for no pattern."""
    if pattern is None:
        return "mono"
    return "main" if pattern[0] == "G" else "anti"


def _sky_contrast(look: PhaseLook) -> F8:
    """Sky at the four places above their mean, in noises of one sample."""
    return np.asarray((look.sky - look.sky.mean()) / look.noise.mean(), np.float64)


def shows_pattern(look: PhaseLook) -> bool:
    """Whether the sky alone shows a pattern."""
    return bool(np.ptp(_sky_contrast(look)) > LEAST_CONTRAST)


def sky_colours(look: PhaseLook, pattern: str) -> F8 | None:
    """Red, green and blue of a sky above their mean, shape (3,), the whole contrast being 1.

    Returns
    -------
    ndarray or None
        None where the sky shows no pattern, or one whose greens lie elsewhere.
    """
    contrast = _sky_contrast(look)
    if not shows_pattern(look) or _greens(1 + contrast, LEAST_CONTRAST / 2, contrast) != kind_of(pattern):
        return None
    red, first, second, blue = (contrast.flat[place] for place in _places(pattern))
    return np.array([red, (first + second) / 2, blue]) / float(np.linalg.norm(contrast))


def _places(pattern: str) -> tuple[int, ...]:
    """Where a pattern has red, its two greens and blue."""
    return pattern.index("R"), pattern.index("G"), pattern.rindex("G"), pattern.index("B")


def fit_pattern(look: PhaseLook, colours: F8) -> str | None:
    """The pattern by which a frame's sky has the colours of other frames' of its camera.

    Unlike the light of stars alone, it tells red from blue: what they are called is the others' word.

    Parameters
    ----------
    look : PhaseLook
    colours : ndarray, shape (3,)
        `sky_colours` of the others.

    Returns
    -------
    str or None
        None where the sky shows no pattern, or fits none much better than the others.
    """
    if not shows_pattern(look):
        return None
    contrast = _sky_contrast(look)
    distances = []
    for pattern in PATTERNS:
        expected = np.empty(4)
        expected[list(_places(pattern))] = colours[[0, 1, 1, 2]]
        away = contrast.reshape(4) / np.linalg.norm(contrast) - expected / np.linalg.norm(expected)
        distances.append((float(np.linalg.norm(away)), pattern))
    (nearest, best), (second, _), *_ = sorted(distances)
    return best if nearest < FITS and second > FITS_BETTER * nearest else None
