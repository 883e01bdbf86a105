"""A picture of a mosaic for people: sky dark grey, highlights kept, no colour cast.

Nothing here touches science data; the stretch is measured on a reduced copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.stages.numeric.robust import MAD_TO_SIGMA

__all__ = ["Stretch", "find_stretch", "reduce_blocks", "star_white", "stretch_by_noise", "stretch_rgba"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

SKY_GREY = 0.2
"""Where the sky lands between black (0) and white (1)."""

MAX_SAMPLES = 500_000
"""Pixels that the levels are measured on; a few times more or less is the same picture."""

BLOCK_SAMPLES = 8
"""Side of a block, in samples, whose median tells the sky without stars and with little noise."""

DARK_SHARE = 0.25
"""Share of the blocks, the darkest, that are sky: where nebulae fill most of a picture its median is not."""

STAR_REACH_PX = 5
"""Half the side of the window that a star is looked at in; its light is taken within half of that."""

STAR_SIGNAL = 10.0
"""A star tells its colour where each channel shows so many sigma of it."""

LEAST_STARS = 20
"""Fewer tell no typical colour."""

MOST_PEAKS = 4000
"""Highest peaks that are looked at for stars."""

WHITE_RANGE = 4.0
"""A channel is raised or lowered by this factor at most, whatever the stars say."""

BLACK_SIGMA = 2.8
"""How many sigma of its noise the sky lies above black: a sample in four hundred is black, and faint light is seen."""

BRIGHT_GREY, BRIGHT_PERCENTILE = 0.85, 99.8
"""All but the brightest light, cores of stars as a rule, lies below this grey; between it and white is their place."""

LEAST_RANGE_SIGMA = 20.0
"""Light counts as bright from so many sigma above the sky, where nothing is brighter: noise alone is no picture."""

NOISE_BEND = 1.6
"""Sigma of its noise above the sky from which a frame's light is dimmed: a thousand sigma are then nearly white."""

STRIP_ROWS = 64
"""Rows that are stretched at a time, so that a large preview needs little beside itself."""

HALVINGS = 60
"""Of a range of 1e12 and more, to the last digit of a number."""


def reduce_blocks(data: F4, factor: int) -> tuple[F4, npt.NDArray[np.bool_]]:
    """Mean of ``factor x factor`` blocks over pixels that hold data.

    Parameters
    ----------
    data : ndarray, shape (c, h, w)
        NaN where there are no data.
    factor : int
        Side of a block; the last blocks may be partial.

    Returns
    -------
    (ndarray (c, H, W), ndarray (H, W) bool)
        Means, 0 where there are no data, and where every channel has data.
    """
    from zemosaic.kernels.pixels.blocks import sum_blocks  # here: who stretches what is reduced waits for no kernel

    c, h, w = data.shape
    shape = c, -(-h // factor), -(-w // factor)
    total, count = np.empty(shape), np.empty(shape, np.int32)
    sum_blocks(data, factor, total, count)
    return (total / np.maximum(count, 1)).astype(np.float32), np.asarray((count > 0).all(axis=0))


def star_white(data: F4, covered: npt.NDArray[np.bool_]) -> F8:
    """Factors for the channels that make the typical star of a picture white.

    A sensor's colours are its own: stars of all kinds together come out green on most. Each peak's light within a
    small circle, over the median of what surrounds it, is compared between the channels, so that nebulae, which are
    wider, have no say; the median star counts.

    Parameters
    ----------
    data : ndarray, shape (c, h, w)
    covered : ndarray of bool, shape (h, w)

    Returns
    -------
    ndarray, shape (c,)
        With product 1; all 1 for one channel, and where fewer than 20 stars tell.
    """
    neutral = np.ones(len(data))
    if len(data) == 1:
        return neutral
    total = data.sum(axis=0)
    contrast = total - scipy.ndimage.uniform_filter(total, 2 * STAR_REACH_PX + 1)
    inside = scipy.ndimage.minimum_filter(covered, 2 * STAR_REACH_PX + 1, mode="constant", cval=False)
    ys, xs = np.nonzero((total == scipy.ndimage.maximum_filter(total, STAR_REACH_PX)) & inside)
    order = np.argsort(-contrast[ys, xs], kind="stable")[:MOST_PEAKS]
    step = np.arange(-STAR_REACH_PX, STAR_REACH_PX + 1)
    window = data[:, (ys[order, None] + step)[:, :, None], (xs[order, None] + step)[:, None, :]].astype(np.float64)
    radius = np.hypot(*np.meshgrid(step, step))
    light, ring = window[..., radius <= STAR_REACH_PX / 2], window[..., radius >= STAR_REACH_PX - 1]
    sky = np.median(ring, axis=-1)
    sigma = MAD_TO_SIGMA * np.median(np.abs(ring - sky[..., None]), axis=-1)
    flux = (light - sky[..., None]).sum(axis=-1)
    told = (flux > STAR_SIGNAL * np.sqrt(light.shape[-1]) * sigma).all(axis=0) & (flux > 0).all(axis=0)
    if np.count_nonzero(told) < LEAST_STARS:
        return neutral
    colour = np.log(flux[:, told])
    wanted = np.median(colour.mean(axis=0) - colour, axis=1)
    return np.asarray(np.exp(np.clip(wanted - wanted.mean(), -np.log(WHITE_RANGE), np.log(WHITE_RANGE))))


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """How values become grey, found on a reduced copy.

    Attributes
    ----------
    islands : ndarray, int32, shape (h, w)
        Number of the island, from 1, that each pixel of the copy belongs to; 0: none.
    sky : ndarray, shape (c, islands + 1)
        Level of each island's sky.
    factor : ndarray, shape (c,)
        Factor of each channel.
    slope : float
        Grey (0 to 1) a unit above the sky, after the factors, where light is faint.
    bend : float
        Light above the sky, the mean of the channels, from which grey grows with its logarithm.
    shoulder : float
        Grey above `BRIGHT_GREY` from which it grows once more with the logarithm only; inf where no light is so bright.
    """

    islands: npt.NDArray[np.int32]
    sky: F8
    factor: F8
    slope: float
    bend: float
    shoulder: float

    def apply(self, data: F4, islands: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """Values ``(c, h, w)`` as 8 bits ``(h, w, c)``; black where `islands`, of shape (h, w), is 0."""
        return np.rint(255 * self.grey(data, islands)).astype(np.uint8).transpose(1, 2, 0)

    def grey(self, data: F4, islands: npt.NDArray[np.int32]) -> F4:
        """Values ``(c, h, w)`` from 0 (black) to 1 (white); black where `islands`, of shape (h, w), is 0."""
        above = (data - self.sky.astype(np.float32)[:, islands]) * self.factor.astype(np.float32)[:, None, None]
        # Beyond the bend light is dimmed, by one number for all channels, so that its colour stays.
        light = np.maximum(above.mean(axis=0) / np.float32(self.bend), np.float32(1e-3))
        level = np.arcsinh(light) * np.float32(self.slope * self.bend)
        if np.isfinite(self.shoulder):
            bright = level > BRIGHT_GREY - SKY_GREY
            over = (level[bright] - np.float32(BRIGHT_GREY - SKY_GREY)) / np.float32(self.shoulder)
            level[bright] = np.float32(BRIGHT_GREY - SKY_GREY) + np.float32(self.shoulder) * np.arcsinh(over)
        grey = SKY_GREY + above * (level / (np.float32(self.bend) * light))
        grey /= np.maximum(grey.max(axis=0), 1)
        return np.where(islands > 0, np.maximum(grey, 0), np.float32(0)).astype(np.float32)


def find_stretch(data: F4, covered: npt.NDArray[np.bool_], white: F8 | None = None) -> Stretch:
    """The stretch of `stretch_rgba`, to be applied to more than what it was found on; something must be covered."""
    factor = np.ones(len(data)) if white is None else white
    islands = scipy.ndimage.label(covered, np.ones((3, 3)))[0].astype(np.int32, copy=False)
    sky = _island_skies(data, islands)
    return Stretch(islands, sky, factor, *_curve(data, islands, sky, factor[:, None]))


def stretch_by_noise(data: F4, covered: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Stretch a (reduced) frame so that pictures of many may be compared: grey tells how far above the noise light is.

    Sky is at the same grey in all of them. Behind a cloud stars are fainter, and in moonlight too, where `stretch_rgba`
    would brighten them up.

    Parameters
    ----------
    data : ndarray, shape (1 or 3, h, w)
    covered : ndarray of bool, shape (h, w)

    Returns
    -------
    ndarray of uint8, shape (h, w, 1 or 3)
        0 where nothing is covered.
    """
    if not covered.any():
        return np.zeros((*covered.shape, len(data)), np.uint8)
    found = find_stretch(data, covered)
    by_noise = replace(found, bend=NOISE_BEND * SKY_GREY / (BLACK_SIGMA * found.slope), shoulder=np.inf)
    return by_noise.apply(data, found.islands)


def stretch_rgba(
    data: npt.NDArray[np.float32], covered: npt.NDArray[np.bool_], white: F8 | None = None
) -> npt.NDArray[np.uint8]:
    """Stretch a (reduced) mosaic to 8 bits.

    The darkest sky of each channel is put at the same grey by an offset, never by a gain, so colours of stars and
    nebulae stay but for `white`. Islands of pixels that touch no others share no sky, and nothing ties their levels to
    each other: each has an offset of its own. One curve serves all channels: the inverse hyperbolic sine of the light,
    whose two numbers are found from the noise of the sky and the brightest light, so that faint light is seen and no
    core of a star is flat. A pixel's channels are dimmed by one number, which keeps its colour (Lupton et al. 2004).

    Parameters
    ----------
    data : ndarray, shape (1 or 3, h, w)
    covered : ndarray of bool, shape (h, w)
    white : ndarray, shape (1 or 3,), optional
        Factor of each channel, as from `star_white`.

    Returns
    -------
    ndarray of uint8, shape (h, w, 4)
        Red, green, blue and opacity (0 where nothing is covered).
    """
    rgba = np.zeros((*covered.shape, 4), np.uint8)
    if not covered.any():
        return rgba
    found = find_stretch(data, covered, white)
    for y0 in range(0, covered.shape[0], STRIP_ROWS):
        rows = slice(y0, y0 + STRIP_ROWS)
        rgba[rows, :, :3] = found.apply(data[:, rows], found.islands[rows])
    rgba[..., 3] = np.where(covered, 255, 0)
    return rgba


def _island_skies(data: F4, islands: npt.NDArray[np.int32]) -> F8:
    """Sky of each channel and island, shape (c, islands + 1); 0 for what is no island."""
    skies = np.zeros((len(data), int(islands.max()) + 1))
    for i, box in enumerate(scipy.ndimage.find_objects(islands), 1):
        own = islands[box] == i
        thin = _thin_out(own)
        skies[:, i] = _dark_sky(data[(slice(None), *box)][:, *thin], own[thin])
    return skies


def _thin_out(covered: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Every n-th row and column, for about `MAX_SAMPLES` of the covered pixels."""
    step = max(int(np.sqrt(np.count_nonzero(covered) / MAX_SAMPLES)), 1)
    if not covered[::step, ::step].any():  # fewer than a step across
        step = 1
    return slice(None, None, step), slice(None, None, step)


def _curve(data: F4, islands: npt.NDArray[np.int32], sky: F8, factor: F8) -> tuple[float, float, float]:
    """Slope, bend and shoulder of a stretch: black is `BLACK_SIGMA` below the sky, white where the brightest light is.

    The noise is that of an even sample of the covered pixels.
    """
    thin = _thin_out(islands > 0)
    island = islands[thin]
    samples = data[:, *thin][:, island > 0] - sky[:, island[island > 0]]
    level = factor * (samples - np.median(samples, axis=1)[:, None])
    below = level[level < 0]
    # The spread of the darker half is noise and dark structure; stars and nebula only widen the upper half.
    sigma = float(np.sqrt(np.mean(np.square(below)))) if below.size else 0.0
    highest = _brightest(data, islands, sky, factor)
    sigma = sigma or max(abs(highest), 1.0) * 1e-3
    slope = SKY_GREY / (BLACK_SIGMA * sigma)
    bright = max(float(np.percentile((factor * samples).mean(axis=0), BRIGHT_PERCENTILE)), LEAST_RANGE_SIGMA * sigma)
    bend = _bend_to(bright, (BRIGHT_GREY - SKY_GREY) / slope)
    over = slope * bend * float(np.arcsinh(highest / bend)) + SKY_GREY - BRIGHT_GREY
    return slope, bend, _bend_to(over, 1 - BRIGHT_GREY) if over > 1 - BRIGHT_GREY else np.inf


def _bend_to(value: float, wanted: float) -> float:
    """The b for which ``b arcsinh(value / b)``, which grows with b, is what is wanted, less than `value`.

    By halving: the library's root finder takes longer to load than a preview to draw.
    """
    low, high = 1e-6 * wanted, 1e6 * value
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if middle * math.asinh(value / middle) < wanted else (low, middle)
    return low


def _brightest(data: F4, islands: npt.NDArray[np.int32], sky: F8, factor: F8) -> float:
    """The most light above the sky that a covered pixel has, the mean of its channels."""
    highest = 0.0
    for y0 in range(0, len(islands), STRIP_ROWS):
        island = islands[y0 : y0 + STRIP_ROWS]
        light = (factor[..., None] * (data[:, y0 : y0 + STRIP_ROWS] - sky[:, island])).mean(axis=0)
        highest = max(highest, float(light.max(initial=0.0, where=island > 0)))
    return highest


def _dark_sky(data: npt.NDArray[np.float32], covered: npt.NDArray[np.bool_]) -> F8:
    """Level of each channel in the darkest blocks; of all covered pixels where no block is covered whole.

    Blocks are chosen by all channels together, so that the same sky is neutral in all of them.
    """
    rows, columns = (n // BLOCK_SAMPLES for n in covered.shape)
    cut = np.s_[..., : rows * BLOCK_SAMPLES, : columns * BLOCK_SAMPLES]
    cells = rows, BLOCK_SAMPLES, columns, BLOCK_SAMPLES
    whole = covered[cut].reshape(cells).all(axis=(1, 3))
    if not whole.any():
        return np.asarray(np.median(data[:, covered].astype(np.float64), axis=1))
    blocks = np.median(data[cut].reshape(len(data), *cells), axis=(2, 4))[:, whole].astype(np.float64)
    brightness = blocks.sum(axis=0)
    return np.asarray(np.median(blocks[:, brightness <= np.quantile(brightness, DARK_SHARE)], axis=1))
