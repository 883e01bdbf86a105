"""Parts of an image that saw no sky though their values vary.

A readout that stuck or broke off, an occulted strip, what lies beyond an image circle, smooth borders that a program
made.

One image is all there is to tell them by, so only what no sky does is taken for it: rows that repeat each other, parts
up to the border in which samples do not scatter, and parts up to the border that a sharp edge all along sets far off
and that show no stars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.measure.block_noise import block_noise
from zemosaic.kernels.measure.mesh import BlockEdges
from zemosaic.kernels.measure.repeats import find_repeats
from zemosaic.stages.numeric.maps import grow_map, grow_map_squarely

__all__ = ["find_no_signal"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Map = npt.NDArray[np.bool_]

LEAST_ROWS = 8
"""Rows in succession that repeat the row before: images enlarged by whole factors repeat fewer."""

BLOCK_PX = 8
"""Side of the blocks: even, so that each holds all colours of a Bayer plane, and narrow beside what is looked for."""

LEAST_BLOCKS = 12
"""Size of the smallest part: saturated stars at the border are smaller."""

LEAST_SLIVER_PX = 16
"""Size of the smallest sliver at the border: the square of 4 px that the image is smoothed by to find them."""

FEWEST_ACROSS = 8
"""Blocks along a side below which an image is too small to tell parts of it."""

QUIET = 0.05
"""Noise of a block over that of the image below which its samples were made, not observed. Read noise under a dark sky
is a third of the sky's at least."""

STEP_SIGMA = 4.0
"""Least height of an edge in sigma of a sample; no dust, filter or cloud has a sharp edge as high."""

FLAT_SHARE = 0.5
"""What the levels beside an edge may change over three blocks, in heights of the edge: a gradient changes as much."""

SHARP_SHARE = 0.75
"""Share of a step over 24 px that an edge makes within 8 px. A blade in focus makes all of it, the front of a nebula or
the rim of a cloud that falls off with a scale of 3 px no more than 0.7."""

_NEAR_BESIDE_PX, _FAR_BESIDE_PX = (2, 6), (9, 13)
"""First and last pixels on either side of an edge that tell its step: over 8 px, and over 24."""

CLEAR_SHARE = 0.85
"""Share of the blocks along an edge that must lie clearly on either side of it: stars stand on the rest."""

STAR_SIGMA, STAR_PX = 8.0, 4
"""A block shows a star where so many of its pixels stand out by so many sigma: single hot pixels and most cosmic rays
do not."""

STARRY_SHARE = 0.1
"""Share of the rest's stars, block for block, from which a part has seen the sky, whatever its edge looks like."""

MOST_PARTS = 3
"""Parts with edges of different heights that are looked for, the highest edges first."""


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Level and noise of blocks of one channel, shape (ny, nx); NaN where less than half of a block has data."""

    edges: BlockEdges
    level: F8
    noise: F8

    def spread(self, blocks: Map) -> Map:
        """A map of blocks as one of pixels."""
        rows = np.repeat(blocks, np.diff(self.edges.y), axis=0)
        return np.repeat(rows, np.diff(self.edges.x), axis=1)


def find_no_signal(channel: F4, have: Map) -> Map:
    """Pixels of parts that saw no sky.

    Parameters
    ----------
    channel : ndarray, float32, shape (h, w)
        One colour, or a Bayer plane.
    have : ndarray, bool, shape (h, w)
        Where there is data.

    Returns
    -------
    ndarray, bool, shape (h, w)
        None are true where the image has no noise at all: it was made.
    """
    lost = np.zeros(have.shape, bool)
    lost[_repeated_rows(channel, have)] = True
    lost[:, _repeated_rows(channel.T, have.T)] = True
    if min(channel.shape) < FEWEST_ACROSS * BLOCK_PX:
        return lost
    blocks = _measure_blocks(channel, have & ~lost if lost.any() else have)
    known = np.isfinite(blocks.level) & np.isfinite(blocks.noise)
    typical = float(np.percentile(blocks.noise[known], 75)) if known.any() else 0.0
    if typical == 0:
        return np.zeros_like(lost)
    quiet, loud = _parts_at_border(known & (blocks.noise < QUIET * typical), LEAST_BLOCKS), known
    if quiet.any():
        lost |= blocks.spread(grow_map_squarely(quiet, 1))
        loud = known & ~grow_map(quiet, 2)
    parts = _find_set_off(blocks, loud)
    starry = _find_starry(channel, have, blocks) if parts else quiet
    for part in parts:
        if _saw_stars(starry, part.blocks, known & ~part.blocks):
            continue
        pixels = _outline(channel, have, blocks, part)
        if _is_sharp(channel, have & ~lost, pixels):
            lost |= grow_map_squarely(pixels, 1)
    return lost & have if lost.any() else lost


def _shrink(part: Map) -> Map:
    """What of a part lies more than a step from all else; beyond the border it goes on."""
    return ~grow_map(~part, 1)


def _repeated_rows(channel: F4, have: Map) -> Map:
    """Rows that hold what the row before, or of a Bayer plane the last one of the same colours, holds; shape (h,)."""
    lost, same = np.zeros((2, len(channel)), bool)
    for lag in (1, 2):
        find_repeats(channel, have, lag, same)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]])))
        for first, last in edges.reshape(-1, 2):
            if last - first >= LEAST_ROWS:
                lost[first:last] = True
    return lost


def _measure_blocks(channel: F4, have: Map) -> _Blocks:
    edges = BlockEdges(*(np.append(np.arange(0, n - BLOCK_PX + 1, BLOCK_PX), n) for n in channel.shape))
    shape = len(edges.y) - 1, len(edges.x) - 1
    level, noise = np.empty(shape), np.empty(shape)
    block_noise(channel, have, edges, level, noise)
    return _Blocks(edges, level, noise)


def _find_starry(channel: F4, have: Map, blocks: _Blocks) -> Map:
    """Blocks in which a star stands, shape (ny, nx); a Bayer plane's colours are each compared with themselves."""
    ny, nx = blocks.level.shape
    height, width = ny * BLOCK_PX, nx * BLOCK_PX
    phases = channel[:height, :width].reshape(ny, BLOCK_PX // 2, 2, nx, BLOCK_PX // 2, 2)
    with np.errstate(invalid="ignore"):
        limit = np.median(phases, axis=(1, 4), keepdims=True) + STAR_SIGMA * blocks.noise[:, None, None, :, None, None]
        high = np.greater(phases, limit)
    there = have[:height, :width].reshape(phases.shape)
    return np.asarray(np.count_nonzero(high & there, axis=(1, 2, 4, 5)) >= STAR_PX)


def _saw_stars(starry: Map, part: Map, rest: Map) -> bool:
    """Whether a part shows stars as the rest does: then it saw the sky. Blocks along the edge show the edge."""
    inner, outer = (_shrink(side) for side in (part, rest))
    density = float(np.mean(starry[outer])) if outer.any() else 0.0
    return int(np.sum(starry & inner)) > max(1.0, STARRY_SHARE * density * int(np.sum(inner)))


def _parts_at_border(marked: Map, least: int, apart_from: Map | None = None) -> Map:
    """Connected blocks or pixels that reach the border, where they are many enough and hold none of another map."""
    if not marked.any():
        return np.zeros_like(marked)
    labels, n = scipy.ndimage.label(marked)
    touches = np.zeros(n + 1, bool)
    touches[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    if apart_from is not None:
        touches[labels[apart_from]] = False
    touches &= np.bincount(labels.ravel(), minlength=n + 1) >= least
    touches[0] = False
    return np.asarray(touches[labels])


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Blocks that an edge sets off, and the level halfway up the edge; `sign` is 1 for a part below the rest.

    `others` are blocks at the border on the same side of that level, as many together, that their own edges do not set
    off.
    """

    blocks: Map
    others: Map
    middle: float
    sign: int


def _find_set_off(blocks: _Blocks, known: Map) -> list[_Part]:
    """Parts at the border with a sharp edge all along; what is brighter than the rest must also scatter less."""
    if not known.any():
        return []
    level = blocks.level
    if not known.all():
        nearest = scipy.ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        level = level[tuple(nearest)]
    level = _middle_of_nine(level)  # without stars
    found: list[_Part] = []
    left = known.copy()
    for _ in range(MOST_PARTS):
        middle = _middle_of_edges(level, left, float(np.median(blocks.noise[left])))
        parts = [] if middle is None else [
            part for sign in (1, -1) for part in _split(level, blocks.noise, left, middle, sign)
        ]  # fmt: skip
        if not parts:
            break
        found += parts
        for part in parts:
            left &= ~grow_map(part.blocks, 2)
        if not left.any():
            break
    return found


def _middle_of_nine(values: F8) -> F8:
    """Median of each value and its neighbours; those at the border are repeated beyond it."""

    def sort(first: F8, second: F8, third: F8) -> tuple[F8, F8, F8]:
        low, high = np.minimum(first, second), np.maximum(first, second)
        return np.minimum(low, third), np.maximum(low, np.minimum(high, third)), np.maximum(high, third)

    def beside(padded: F8) -> tuple[F8, F8, F8]:
        return padded[:, :-2], padded[:, 1:-1], padded[:, 2:]

    padded = np.pad(values, 1, mode="edge")
    # Of columns of three in order, the median of all lies among the highest low, the middle one and the lowest high.
    low, middle, high = (sort(*beside(line)) for line in sort(padded[:-2], padded[1:-1], padded[2:]))
    return sort(low[2], middle[1], high[0])[1]


def _middle_of_edges(level: F8, known: Map, noise: float) -> float | None:
    """The level halfway up most of the sharp edges, the higher half of them; None for too few."""
    steps, middles = [], []
    for values, there in ((level, known), (level.T, known.T)):
        padded = np.pad(values, ((0, 0), (2, 2)), mode="edge")
        far_low, low, high, far_high = (padded[:, k : k + values.shape[1]] for k in (0, 1, 3, 4))
        step = np.abs(high - low)
        flank = np.abs(far_high - high) + np.abs(low - far_low)
        sharp = there & (step > STEP_SIGMA * noise) & (flank < FLAT_SHARE * step)
        steps.append(step[sharp])
        middles.append((0.5 * (high + low))[sharp])
    step, middle = np.concatenate(steps), np.concatenate(middles)
    if len(step) < LEAST_BLOCKS // 2:
        return None
    return float(np.median(middle[step >= np.median(step)]))


def _split(level: F8, noise: F8, known: Map, middle: float, sign: int) -> list[_Part]:
    """Parts on one side of a level whose whole edge is sharp and high."""
    labels, n = scipy.ndimage.label(_parts_at_border(known & (sign * level < sign * middle), LEAST_BLOCKS))
    each = [labels == label for label in range(1, n + 1)]
    parts = [blocks for blocks in each if _is_set_off(sign * level, noise, known, blocks, sign)]
    others = np.asarray((labels > 0) & ~np.any([*parts, np.zeros_like(known)], axis=0))
    return [_Part(blocks, others, middle, sign) for blocks in parts]


def _is_set_off(level: F8, noise: F8, known: Map, part: Map, sign: int) -> bool:
    """Whether a part lies below all that is beside it, by a high step within three blocks and nothing more beyond."""

    def outside(first: int, last: int) -> Map:
        grown = [grow_map(part, k) for k in (first, last)]
        return np.asarray(grown[1] & ~grown[0] & known)

    def rise(upper: Map, lower: Map) -> F8:
        """How far blocks lie above the nearest ones of others."""
        nearest = scipy.ndimage.distance_transform_edt(~lower, return_distances=False, return_indices=True)
        return np.asarray(level[upper] - level[tuple(nearest)][upper])

    rest = known & ~part
    if 20 * np.count_nonzero(rest) < np.count_nonzero(known):
        return False
    scatter, sigma = float(np.median(noise[part])), float(np.median(noise[rest]))
    if not scatter < (1.1 if sign > 0 else 0.7) * sigma:  # asked first: the distances are what takes time
        return False
    inner, near = _shrink(part), outside(1, 2)
    if not near.any() or not inner.any():
        return False
    rises = rise(near, inner)
    step = float(np.median(rises))
    if not (step > STEP_SIGMA * sigma and np.mean(rises > 0.6 * step) > CLEAR_SHARE):
        return False
    far = outside(4, 5)
    return bool(not far.any() or np.mean(np.abs(rise(far, near)) < FLAT_SHARE * step) > CLEAR_SHARE)


def _outline(channel: F4, have: Map, blocks: _Blocks, part: _Part) -> Map:
    """Pixels of a part: of the blocks along its edge those on its side of the edge.

    Slivers at the border that lie below such an edge elsewhere are parts of the same kind, too small for blocks. Where
    the sky slopes, much of it may lie below an edge at its bright end: that is no sliver.
    """
    core = _shrink(part.blocks)
    about = grow_map(part.blocks, 2)
    # Even, so that it holds all colours of a Bayer plane alike.
    total = scipy.ndimage.uniform_filter(np.where(have, channel, np.float32(0)), 4, mode="nearest")
    share = scipy.ndimage.uniform_filter(have.astype(np.float32), 4, mode="nearest")
    beyond = part.sign * (total - part.middle * share) < 0
    outline = blocks.spread(core) | (blocks.spread(about) & beyond)
    if part.sign > 0:
        sky = blocks.spread(grow_map(part.others, 2))
        outline |= _parts_at_border(beyond & have, LEAST_SLIVER_PX, apart_from=sky)
    return np.asarray(outline)


def _is_sharp(channel: F4, have: Map, part: Map) -> bool:
    """Whether the step at the edge of a part is made within a few pixels."""
    about = tuple(
        slice(max(along.start - _FAR_BESIDE_PX[1], 0), along.stop + _FAR_BESIDE_PX[1])
        for along in scipy.ndimage.find_objects(part.view(np.uint8))[0]
    )
    channel, have, part = channel[about], have[about], part[about]

    def level(side: Map, first: int, last: int) -> float:
        """Of pixels on the other side of the edge, so far from it."""
        grown = [grow_map(side, k) for k in (first, last)]
        values = channel[grown[1] & ~grown[0] & have]
        return float(np.median(values)) if len(values) else 0.0

    near, wide = (level(part, *reach) - level(~part, *reach) for reach in (_NEAR_BESIDE_PX, _FAR_BESIDE_PX))
    return abs(near) > SHARP_SHARE * abs(wide)
