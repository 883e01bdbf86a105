"""Weighted sums of the samples of each pixel, in double precision, and what is made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf
from zemosaic.kernels.stack.ahead import fetch_row
from zemosaic.kernels.stack.samples import FLAG_SATURATED, noise_of

__all__ = [
    "MeanSums",
    "PhotonSums",
    "SideSums",
    "add_frame",
    "add_photons",
    "add_samples",
    "combine_rows",
    "finish_mean",
    "finish_median",
    "finish_sides",
]

CLIPPED = np.int32(1 << 16)
"""What a clipped sample adds to the number of a pixel, beyond all that have weight."""

F8 = npt.NDArray[np.float64]
I2 = npt.NDArray[np.int16]


class MeanSums(NamedTuple):
    """What a mean is made of; shape (H, W), or (W,) for a row.

    Attributes
    ----------
    products, weight : ndarray, float64
        Sums of weight x value and of weight.
    coverage : ndarray, int16
        Samples that have weight, clipped ones too.
    """

    products: F8
    weight: F8
    coverage: I2


class SideSums(NamedTuple):
    """What variance, exposure time and saturation are made of; shape (H, W), or (W,) for a row.

    Attributes
    ----------
    alpha, exposure : ndarray, float64
        Sums of weight x alpha (0..127) and of exposure times.
    saturated : ndarray, int16
        Saturated samples.
    """

    alpha: F8
    exposure: F8
    saturated: I2


class PhotonSums(NamedTuple):
    """What the noise of the light above the sky is made of; shape (H, W), or (W,) for a row.

    With ``t = weight x alpha x slope`` of each sample the variance of a mean of value c grows as by an alpha larger by
    ``slope (c - sky)``: by ``c sum(t) - sum(t sky)``.

    Attributes
    ----------
    slope, offset : ndarray, float64
        Sums of t and of t x sky.
    """

    slope: F8
    offset: F8


@leaf
def _weigh(value, weight):
    """The weight of a sample, and weight x value; 0 where it was clipped."""
    there = weight > 0
    w = np.float64(weight if there else np.float32(0))
    return w, w * np.float64(value if there else np.float32(0))


@leaf
def _add_products(value, weight, products, total):
    """Add weight x value, and weight."""
    for j in range(value.size):
        w, product = _weigh(value[j], weight[j])
        products[j] += product
        total[j] += w


@leaf
def _add_samples(row, products, total, alphas):
    """`_add_products`, and weight x alpha."""
    value, weight, alpha = row
    for j in range(value.size):
        w, product = _weigh(value[j], weight[j])
        products[j] += product
        total[j] += w
        alphas[j] += w * np.float64(np.float32(alpha[j] & 127))


@leaf
def _add_exposure(weight, exposure, exposures):
    zero = np.float64(0)
    for j in range(weight.size):
        exposures[j] += exposure if weight[j] > 0 else zero


@leaf
def _add_covered(weight, covered):
    for j in range(weight.size):
        covered[j] += np.int16(weight[j] != 0)


@leaf
def _count_samples(weight, numbers):
    """Count samples that have weight, and those of them that were clipped, whose weights are negative.

    Both are added to the number of each pixel, clipped ones `CLIPPED` times, and returned for the row.
    """
    n, n_clipped = np.int32(0), np.int32(0)
    for j in range(weight.size):
        there, clipped = np.int32(weight[j] != 0), np.int32(weight[j] < 0)
        numbers[j] += there + CLIPPED * clipped
        # Numba adds numbers of 32 bits as such of 64, of which half as many go into a vector.
        n, n_clipped = np.int32(n + there), np.int32(n_clipped + clipped)
    return n, n_clipped


@leaf
def _count_saturated(weight, alpha, saturated):
    """Add the saturated samples; most rows have none."""
    flags = np.uint8(0)
    for j in range(alpha.size):
        flags = np.uint8(flags | alpha[j])
    if flags < FLAG_SATURATED:
        return
    for j in range(weight.size):
        saturated[j] += np.int16((alpha[j] >= FLAG_SATURATED) & (weight[j] > 0))


@leaf
def _add_photons(weight, alpha, noise, sums):
    _, sky, slope = noise
    zero = np.float64(0)
    for j in range(weight.size):
        t = np.float64(weight[j]) * np.float64(alpha[j] & 127) * np.float64(slope)
        t = t if weight[j] > 0 else zero
        sums.slope[j] += t
        sums.offset[j] += t * np.float64(sky)


@leaf
def _finish_row(sums, data, weight):
    for j in range(data.size):
        total = sums.weight[j]
        ok = total > 0
        safe = total if ok else np.float64(1)
        data[j] = np.float32(sums.products[j] / safe) if ok else np.float32(0)
        weight[j] = np.float32(total)


@leaf
def _finish_side_row(weight_sum, sides, variance, exposure):
    for j in range(variance.size):
        total = weight_sum[j]
        ok = total > 0
        safe = total if ok else np.float64(1)
        variance[j] = np.float32(sides.alpha[j] / 127 / safe / safe) if ok else np.float32(0)
        exposure[j] = np.float32(sides.exposure[j])


@leaf
def _raise_alpha(alpha, photons, sums):
    """Raise the sums of weight x alpha by what the light above the sky adds to the variance."""
    for j in range(alpha.size):
        total = sums.weight[j]
        centre = sums.products[j] / total if total > 0 else np.float64(0)
        more = centre * photons.slope[j] - photons.offset[j]
        alpha[j] += more if more > 0 else np.float64(0)


@kernel
def add_frame(values, weights, corner, sums):
    """Add one frame's samples to running sums; frames must come in one fixed order for equal bytes.

    Parameters
    ----------
    values, weights : ndarray, float32, shape (h, w)
        Samples; those of weight 0 are not there.
    corner : (int, int)
        (y, x) of the frame's first pixel in the sums.
    sums : MeanSums
    """
    h, w = values.shape
    y0, x0 = corner
    for y in range(h):
        _add_products(values[y], weights[y], sums.products[y0 + y, x0 : x0 + w], sums.weight[y0 + y, x0 : x0 + w])
        _add_covered(weights[y], sums.coverage[y0 + y, x0 : x0 + w])


@kernel
def add_samples(values, weights, alpha, exposure, corner, sums, sides):
    """Add one frame to `SideSums` too; as `add_frame`.

    Parameters
    ----------
    values, weights : ndarray, float32, shape (h, w)
    alpha : ndarray, uint8, shape (h, w)
        As in `Samples`.
    exposure : float
        The frame's exposure time.
    corner : (int, int)
        (y, x) of the frame's first pixel in the sums.
    sums : MeanSums
    sides : SideSums
    """
    h, w = weights.shape
    to = slice(corner[1], corner[1] + w)
    for y in range(h):
        row = corner[0] + y
        samples = (values[y], weights[y], alpha[y])
        _add_samples(samples, sums.products[row, to], sums.weight[row, to], sides.alpha[row, to])
        _add_covered(weights[y], sums.coverage[row, to])
        _add_exposure(weights[y], exposure, sides.exposure[row, to])
        _count_saturated(weights[y], alpha[y], sides.saturated[row, to])


@kernel
def add_photons(weights, alpha, noise, corner, photons):
    """Add one frame to `PhotonSums`; as `add_samples`, with its noise as `noise_of` gives it."""
    h, w = weights.shape
    y0, x0 = corner
    for y in range(h):
        row = PhotonSums(photons.slope[y0 + y, x0 : x0 + w], photons.offset[y0 + y, x0 : x0 + w])
        _add_photons(weights[y], alpha[y], noise, row)


@kernel
def finish_mean(sums, data, weight):
    """Turn `MeanSums` into the mean and its weight (float32)."""
    for y in range(data.shape[0]):
        _finish_row(MeanSums(sums.products[y], sums.weight[y], sums.coverage[y]), data[y], weight[y])


@kernel
def finish_sides(sums, sides, photons, variance, exposure):
    """Turn `SideSums` into variance and exposure time (float32).

    Parameters
    ----------
    sums : MeanSums
    sides : SideSums
        Its sums of alpha are used up.
    photons : PhotonSums
        Of shape (0, 0) where no noise grows with the signal.
    variance, exposure : ndarray, float32, shape (H, W)
        Written.
    """
    for y in range(variance.shape[0]):
        mean = MeanSums(sums.products[y], sums.weight[y], sums.coverage[y])
        side = SideSums(sides.alpha[y], sides.exposure[y], sides.saturated[y])
        if photons.slope.size > 0:
            _raise_alpha(side.alpha, PhotonSums(photons.slope[y], photons.offset[y]), mean)
        _finish_side_row(mean.weight, side, variance[y], exposure[y])


@leaf
def _sum_row(samples, exposures, y, x0, sums, numbers, counts):
    """Sums (mean, sides, photons) over all frames of a row of the cube from column `x0` on; counts of each frame.

    There are no sums of exposure times where `exposures` is empty. Returns whether any noise grows with the signal.
    """
    mean, sides, photons = sums
    width = numbers.size
    any_photons = False
    for i in range(samples.values.shape[0]):
        fetch_row(samples, i, y)
        a = max(samples.span[i, y, 0], x0)
        b = min(samples.span[i, y, 1], x0 + width)
        if a >= b:
            counts[i, 0] = 0
            counts[i, 1] = 0
            continue
        value, weight, alpha = samples.values[i, y, a:b], samples.weights[i, y, a:b], samples.alpha[i, y, a:b]
        to = slice(a - x0, b - x0)
        counts[i, 0], counts[i, 1] = _count_samples(weight, numbers[to])
        _add_samples((value, weight, alpha), mean.products[to], mean.weight[to], sides.alpha[to])
        _count_saturated(weight, alpha, sides.saturated[to])
        if exposures.size > 0:
            _add_exposure(weight, exposures[i], sides.exposure[to])
        noise = noise_of(samples.noise, i)
        if noise[2] > 0:
            any_photons = True
            _add_photons(weight, alpha, noise, PhotonSums(photons.slope[to], photons.offset[to]))
    return any_photons


@leaf
def _split_numbers(numbers, coverage, rejected):
    """What `_count_samples` added, as two."""
    for j in range(numbers.size):
        coverage[j] = np.int16(numbers[j] & (CLIPPED - 1))
        rejected[j] = np.int16(numbers[j] >> 16)


@leaf
def _multiply_exposure(coverage, rejected, exposure, exposures):
    """The sums of exposure times where all are one."""
    for j in range(exposures.size):
        exposures[j] = np.float64(exposure) * np.float64(coverage[j] - rejected[j])


@kernel
def combine_rows(samples, exposures, y0, y1, corner, planes, counts):
    """Weighted mean of the samples that were not clipped.

    Its variance is ``sum(w^2 v) / (sum w)^2``, v the variance of `FrameNoise` without its share, at the level of the
    mean itself.

    Parameters
    ----------
    samples : Samples
    exposures : ndarray, float32, shape (n,)
        Exposure time of each frame.
    y0, y1 : int
        Rows of the planes to do.
    corner : (int, int)
        (y, x) of the planes' first pixel in the cube.
    planes : Planes
        Written.
    counts : ndarray, int32, shape (H, n, 2)
        Written: of each row and frame the samples with weight, and those of them that were clipped.
    """
    width = planes.data.shape[1]
    doubles = np.empty((6, width), np.float64)
    numbers = np.empty(width, np.int32)
    # A sum of equal times, of single precision, is a product to the last bit.
    is_one = (exposures == exposures[0]).all()
    unlike = exposures[:0] if is_one else exposures
    photons = PhotonSums(doubles[4], doubles[5])
    for y in range(y0, y1):
        doubles[:] = 0.0
        numbers[:] = 0
        planes.saturated[y] = 0
        mean = MeanSums(doubles[0], doubles[1], planes.coverage[y])
        sides = SideSums(doubles[2], doubles[3], planes.saturated[y])
        if _sum_row(samples, unlike, corner[0] + y, corner[1], (mean, sides, photons), numbers, counts[y]):
            _raise_alpha(sides.alpha, photons, mean)
        _split_numbers(numbers, mean.coverage, planes.rejected[y])
        if is_one:
            _multiply_exposure(mean.coverage, planes.rejected[y], exposures[0], sides.exposure)
        _finish_row(mean, planes.data[y], planes.weight[y])
        _finish_side_row(mean.weight, sides, planes.variance[y], planes.exposure[y])


@leaf
def _add_sharpness(weight, alpha, middle, noise, total):
    """Add 1/sigma of each sample as means over large areas scatter, at the level of the middle values."""
    low, high = middle
    zero, half = np.float32(0), np.float32(0.5)
    _, sky, slope = noise
    full = np.float32(127)
    for j in range(weight.size):
        signal = half * low[j] + half * high[j] - sky
        light = np.float32(1) + slope * (signal if signal > zero else zero)
        root = np.sqrt(full * weight[j] / (np.float32(alpha[j] & 127) * light))
        total[j] += np.float64(root if weight[j] > 0 else zero)


@leaf
def _add_pulled(value, weight, middle, guard, total):
    """Add weight times deviation from the median, the deviation held within +-guard."""
    low, high = middle
    half = np.float32(0.5)
    zero = np.float64(0)
    for j in range(value.size):
        d = value[j] - (half * low[j] + half * high[j])
        d = d if d < guard[j] else guard[j]
        d = d if d > -guard[j] else -guard[j]
        total[j] += np.float64(weight[j]) * np.float64(d) if weight[j] > 0 else zero


@kernel
def finish_median(samples, maps, y0, y1, corner, planes):
    """The guarded median of each pixel and its variance.

    Data are the plain median plus the weighted mean of the deviations from it held within +-guard. On sky the
    guard is 0 and this is the median; on a star, where the median of images of different seeing is
    biased, it is the weighted mean of all samples that the seeing can explain.

    For normal samples of unequal noise the variance of a median is ``e(k) k / (sum 1/sigma)^2``. The small-sample
    factor ``e(k) = (pi/2) k / (k + a)``, a = pi/2 - 1 for odd and pi - 2 for even k, is 1 for one and two samples,
    tends to pi/2, and lies within 3 % of the exact values between (1.346 for 3, 1.193 for 4, 1.434 for 5).

    Parameters
    ----------
    samples : Samples
        Nothing is clipped.
    maps : Maps
    y0, y1 : int
        Rows of the planes to do.
    corner : (int, int)
        (y, x) of the planes' first pixel in the cube.
    planes : Planes
        Coverage and weight as `combine_rows` wrote them. Written: data and variance.
    """
    width = planes.data.shape[1]
    half = np.float32(0.5)
    x0, x1 = corner[1], corner[1] + width
    total = np.empty((2, width), np.float64)
    for y in range(y0, y1):
        total[:] = 0.0
        yy = corner[0] + y
        low, high, guard = maps.low[yy, x0:x1], maps.high[yy, x0:x1], maps.guard[yy, x0:x1]
        for i in range(samples.values.shape[0]):
            if samples.span[i, yy, 1] <= x0 or samples.span[i, yy, 0] >= x1:
                continue
            weight = samples.weights[i, yy, x0:x1]
            _add_pulled(samples.values[i, yy, x0:x1], weight, (low, high), guard, total[0])
            noise = noise_of(samples.noise, i)
            _add_sharpness(weight, samples.alpha[i, yy, x0:x1], (low, high), noise, total[1])
        for j in range(width):
            n = planes.coverage[y, j]
            k = np.float64(n)
            if n == 0:
                planes.data[y, j] = 0.0
                planes.variance[y, j] = 0.0
                continue
            middle = np.float64(half * low[j] + half * high[j])
            # The sum also turns a negative zero, whose place among zeros is a matter of chance, into 0.
            planes.data[y, j] = np.float32(middle + total[0, j] / np.float64(planes.weight[y, j]) + 0.0)
            lag = np.pi / 2 - 1 if n % 2 else np.pi - 2
            planes.variance[y, j] = np.float32(np.pi / 2 * k / (k + lag) * k / total[1, j] / total[1, j])
