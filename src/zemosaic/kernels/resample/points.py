"""Point-sampling kernels: nearest, bilinear and Lanczos, aware of weights and edges.

The value of an output pixel is the kernel's sum over frame pixels about the position of its centre. Pixels of
weight 0, and all outside the window, are holes: what lies under them is never used. Where a kernel loses a small
part of its taps to holes the rest is renormalised. Where Lanczos loses more, the four nearest pixels decide: bilinear
between them, and weight 0 where one that counts is a hole. So an image reaches to its outermost pixels with any kernel.
Peaks that are too sharp for Lanczos are carried bilinearly (`zemosaic.kernels.resample.spikes`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, part
from zemosaic.kernels.resample.flags import HOLE, SPIKE, UNEVEN, flag_window
from zemosaic.kernels.resample.lanczos import N_PHASES, WIDTH, dot4, dot6, dot8, lanczos_table
from zemosaic.kernels.resample.lattice import (
    Correction,
    get_row,
    interpolate_row,
    mark_row,
    store_row,
    taper_row,
)
from zemosaic.kernels.resample.spikes import find_spikes
from zemosaic.kernels.resample.window import Floats, Output, Window, prepare

__all__ = ["KERNEL_TAPS", "MAX_LOST", "resample", "resample_with_taps"]

KERNEL_TAPS = {"nearest": 1, "bilinear": 2, "lanczos2": 4, "lanczos3": 6, "lanczos4": 8}
"""Taps per axis of each kernel."""

MAX_LOST = 0.05
"""Largest share of a kernel's total |tap| that holes may take.

A lost tap shifts the value by at most its share times the difference between the missing pixel and the result.
At 5 % Lanczos-3 survives a hole in its outer rings (the second ring's largest share is 3.5 %) and not one among the
nearest four pixels (15.7 % at mid-pixel), so the pixel nearest to a position is never a hole.
"""

_NO_SPIKES = np.zeros((0, 0, 0), np.float32)


class _Cells(NamedTuple):
    """Where the positions of a row of output pixels lie in the window.

    Attributes
    ----------
    whole : ndarray, int64, shape (2, n)
        y and x of the pixel below and left of the position.
    fraction : ndarray, float32, shape (2, n)
        What remains.
    around : ndarray, uint8, shape (n,)
        Flags of the pixels under the kernel (`flag_window`).
    begin, end : int
        The part of the row that lies in the frame.
    """

    whole: npt.NDArray[np.int64]
    fraction: Floats
    around: npt.NDArray[np.uint8]
    begin: int
    end: int


class _Lanczos(NamedTuple):
    """What a Lanczos kernel needs beside the window.

    Attributes
    ----------
    table : ndarray, float32, shape (N_PHASES + 1, WIDTH)
    smooth, spikes : ndarray, float32, shape (c, h, w)
        The window's samples in two: what is too sharp for the kernel (none: shape (0, 0, 0)), and the rest.
    clamp : float32
        As `resample` takes it.
    """

    table: Floats
    smooth: Floats
    spikes: Floats
    clamp: np.float32


class _Taps(NamedTuple):
    """A Lanczos kernel, with scratch.

    Attributes
    ----------
    n_taps : {4, 6, 8}
    table : ndarray, float32, shape (N_PHASES + 1, WIDTH)
    near : ndarray, float32, shape (WIDTH * WIDTH,)
        The pixels under one kernel, holes as 0.
    first, across, along : ndarray, int64, shape (n,)
        Where the kernels of a row's positions begin in the plane, and in the table.
    """

    n_taps: int
    table: Floats
    near: Floats
    first: npt.NDArray[np.int64]
    across: npt.NDArray[np.int64]
    along: npt.NDArray[np.int64]


def resample(window: Window, out: Output, kernel: str, clamp: float = 0.0, *, dering: bool = False) -> None:
    """Resample a window of a frame onto output pixels by one of the point-sampling kernels.

    Parameters
    ----------
    window : Window
        The frame's pixels and their place.
    out : Output
        Filled. The weight m is interpolated bilinearly (holes count 0; for "nearest" it is the pixel's own); the
        saturation bit is set where one of the four nearest samples is saturated.
    kernel : str
        A key of `KERNEL_TAPS`.
    clamp : float
        Lanczos only: how far (0 to 1) a value is pulled into the range of its four nearest pixels.
    dering : bool
        Lanczos only: whether peaks that are too sharp for it are carried bilinearly.

    Raises
    ------
    ValueError
        For an unknown kernel, shapes that do not fit, or nodes that do not cover the pixels.

    Notes
    -----
    The result of a pixel depends on its position, its cell and the pixels under its kernel (with `dering` those within
    2 px of them, too), and on nothing else: not on the window nor on how the output was cut, to the last bit.
    """
    if kernel not in KERNEL_TAPS:
        raise ValueError(f"kernel must be one of {', '.join(KERNEL_TAPS)}, got '{kernel}'")
    n_taps = KERNEL_TAPS[kernel]
    resample_with_taps(window, out, n_taps, lanczos_table(max(n_taps // 2, 2)), clamp, dering=dering and n_taps > 2)


def resample_with_taps(
    window: Window, out: Output, n_taps: int, table: Floats, clamp: float = 0.0, *, dering: bool = False
) -> None:
    """As `resample`, with taps of one's own.

    Parameters
    ----------
    window, out : Window, Output
    n_taps : {1, 2, 4, 6, 8}
        Taps per axis: 1 for nearest, 2 for bilinear.
    table : ndarray, float32, shape (N_PHASES + 1, WIDTH)
        As `lanczos_table` gives it; used from four taps on.
    clamp : float
    dering : bool
    """
    plain, rows, target = prepare(window, out)
    lanczos = None
    if n_taps > 2:
        spikes = find_spikes(window.data, window.weight, window.inverse_variance) if dering else _NO_SPIKES
        smooth = window.data - spikes if spikes.size else window.data
        lanczos = _Lanczos(table, smooth, spikes, np.float32(clamp))
    _resample(plain, rows, target, n_taps, lanczos)


@kernel
def _resample(place, rows, target, n_taps, lanczos):  # type: ignore[no-untyped-def]
    """`resample_with_taps`, compiled in two versions: without Lanczos (`lanczos` is None) it takes half of the time."""
    data, weight, origin, step, start = place.data, place.weight, place.origin, place.step, place.start
    out_values, out_weights, out_alpha = rows
    c, h, w = data.shape
    y0, y1, x0, x1 = target
    n = x1 - x0
    window = (origin[0], origin[0] + h, origin[1], origin[1] + w)
    spikes = data[:0] if lanczos is None else lanczos.spikes
    flags = flag_window(data, weight, spikes, place.saturation, n_taps).reshape(-1)
    x, y, scale, offset = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    whole, fraction = np.empty((2, n), np.int64), np.empty((2, n), np.float32)
    samples, relative = np.empty(n, np.float32), np.empty(n, np.float32)
    codes, around = np.empty(n, np.uint8), np.empty(n, np.uint8)
    if lanczos is not None:
        near, places = np.zeros(WIDTH * WIDTH, np.float32), np.empty((3, n), np.int64)
        taps = _Taps(n_taps, lanczos.table, near, places[0], places[1], places[2])
    for row in range(y1 - y0):
        out_y, node_y = y0 + row, start[0] + row
        interpolate_row(place.nodes_xy[0], step, node_y, start[1], x)
        interpolate_row(place.nodes_xy[1], step, node_y, start[1], y)
        begin, end = taper_row(x, y, window, place.taper_box, place.taper_px, codes)
        _split_row(x, origin[1], codes, whole[1], fraction[1])
        _split_row(y, origin[0], codes, whole[0], fraction[0])
        for i in range(begin, end):
            around[i] = flags[np.uintp((whole[0, i] + 1) * (w + 1) + whole[1, i] + 1)]
        cells = _Cells(whole, fraction, around, begin, end)
        alpha = get_row(out_alpha, 0, out_y, x0, x1)
        for i in range(n):
            alpha[i] = 0
        for k in range(c):
            if k < weight.shape[0]:
                m = weight[k]
                _relative_row(m, cells, n_taps, relative)
            if lanczos is not None:
                _lanczos_row(lanczos.smooth[k], m, cells, relative, taps, samples)
                if spikes.size:
                    _add_spikes(spikes[k], cells, samples)
                if lanczos.clamp > 0:
                    _clamp_row(data[k], m, cells, lanczos.clamp, samples)
            elif n_taps == 1:
                _nearest_row(data[k], m, cells, samples)
            else:
                _bilinear_row(data[k], m, cells, samples)
            interpolate_row(place.nodes_scale[k], step, node_y, start[1], scale)
            interpolate_row(place.nodes_offset[k], step, node_y, start[1], offset)
            values, weights = get_row(out_values, k, out_y, x0, x1), get_row(out_weights, k, out_y, x0, x1)
            correction = Correction(scale, offset, place.inverse_variance[k])
            store_row(samples, relative, codes, correction, values, weights)
            mark_row(weights, codes, around, alpha)


@part
def _split_row(position, origin, codes, whole, fraction):  # type: ignore[no-untyped-def]
    """Whole pixel (in the window) and fraction of positions in the frame; both 0 where the code is 0."""
    for i in range(position.size):
        p = position[i] if codes[i] else float(origin)
        low = math.floor(p)
        whole[i] = np.int64(low) - origin
        fraction[i] = np.float32(p - low)


@part
def _bilinear(a, b, c, d, fx, fy):  # type: ignore[no-untyped-def]
    """Between four pixels, a b above c d; exact at whole positions whatever the neighbours hold."""
    gx, gy = np.float32(1) - fx, np.float32(1) - fy
    return (a * gx + b * fx) * gy + (c * gx + d * fx) * fy


@part
def _pixel(image, weight, y, x):  # type: ignore[no-untyped-def]
    """A pixel, 0 for holes."""
    inside = y >= 0 and x >= 0 and y < weight.shape[0] and x < weight.shape[1]
    return image[y, x] if inside and weight[y, x] > 0 else np.float32(0)


@part
def _relative_row(weight, cells, n_taps, relative):  # type: ignore[no-untyped-def]
    """Relative weight at positions: bilinear with holes as 0, or that of the nearest pixel."""
    whole, fraction, around, begin, end = cells
    seen = np.uint8(0)
    for i in range(relative.size):
        relative[i] = 1
        seen |= around[i]
    if not seen & UNEVEN:
        return
    for i in range(begin, end):
        if not around[i] & UNEVEN:
            continue
        y, x, fy, fx = whole[0, i], whole[1, i], fraction[0, i], fraction[1, i]
        if n_taps == 1:
            relative[i] = _pixel(weight, weight, y + (fy >= 0.5), x + (fx >= 0.5))
        elif not around[i] & HOLE:
            relative[i] = _bilinear(weight[y, x], weight[y, x + 1], weight[y + 1, x], weight[y + 1, x + 1], fx, fy)
        else:
            a, b = _pixel(weight, weight, y, x), _pixel(weight, weight, y, x + 1)
            c, d = _pixel(weight, weight, y + 1, x), _pixel(weight, weight, y + 1, x + 1)
            relative[i] = _bilinear(a, b, c, d, fx, fy)


# The sampling loops below write NaN where a position has no value.


@part
def _nearest_row(data, weight, cells, samples):  # type: ignore[no-untyped-def]
    whole, fraction, around, begin, end = cells
    for i in range(begin, end):
        y, x = whole[0, i] + (fraction[0, i] >= 0.5), whole[1, i] + (fraction[1, i] >= 0.5)
        found = not around[i] & HOLE or _pixel(weight, weight, y, x) > 0
        samples[i] = data[y, x] if found else np.nan


@part
def _bilinear_row(data, weight, cells, samples):  # type: ignore[no-untyped-def]
    whole, fraction, around, begin, end = cells
    for i in range(begin, end):
        y, x, fy, fx = whole[0, i], whole[1, i], fraction[0, i], fraction[1, i]
        if around[i] & HOLE:
            samples[i] = _bilinear_near_holes(data, weight, y, x, fx, fy)
        else:
            samples[i] = _bilinear(data[y, x], data[y, x + 1], data[y + 1, x], data[y + 1, x + 1], fx, fy)


@part
def _bilinear_near_holes(data, weight, y, x, fx, fy):  # type: ignore[no-untyped-def]
    """Between the pixels at (y, x) to (y + 1, x + 1) of which some may be holes; NaN where too much is lost."""
    lost = np.float32(0)
    for b in range(2):
        for a in range(2):
            if _pixel(weight, weight, y + b, x + a) == 0:
                lost += (fx if a else np.float32(1) - fx) * (fy if b else np.float32(1) - fy)
    a, b = _pixel(data, weight, y, x), _pixel(data, weight, y, x + 1)
    c, d = _pixel(data, weight, y + 1, x), _pixel(data, weight, y + 1, x + 1)
    return _bilinear(a, b, c, d, fx, fy) / (np.float32(1) - lost) if lost <= MAX_LOST else np.float32(np.nan)


@part
def _phase(fraction):  # type: ignore[no-untyped-def]
    """Row of the table for a fraction of a pixel."""
    return np.int64(fraction * N_PHASES + np.float32(0.5))


@part
def _lanczos_row(data, weight, cells, relative, kernel, samples):  # type: ignore[no-untyped-def]
    """Plain sums, a run of positions at a time; positions near holes one by one.

    Those without weight are passed over: half of a turned green plane is such a hole.
    """
    whole, fraction, around, begin, end = cells
    n_near = _place_row(whole, fraction, data.shape[1], kernel, around[begin:end], begin)
    if n_near == 0:
        _sum_run(data, kernel, begin, samples[begin:end])
        return
    i = begin
    while i < end:
        first = i
        while i < end and not around[i] & HOLE:
            i += 1
        _sum_run(data, kernel, first, samples[first:i])
        while i < end and around[i] & HOLE:
            if relative[i] > 0:
                samples[i] = _sum_near_holes(data, weight, (whole[0, i], whole[1, i]), fraction[:, i], kernel)
            i += 1


@part
def _place_row(whole, fraction, stride, kernel, around, begin):  # type: ignore[no-untyped-def]
    """Where the kernels of a row's positions begin, and their rows of the table; returns how many meet a hole."""
    first, across, along = kernel.first[begin:], kernel.across[begin:], kernel.along[begin:]
    y, x, fy, fx = whole[0, begin:], whole[1, begin:], fraction[0, begin:], fraction[1, begin:]
    before = (kernel.n_taps // 2 - 1) * (stride + 1)
    n_near = np.int32(0)
    for i in range(around.size):
        first[i] = y[i] * stride + x[i] - before
    for i in range(around.size):
        across[i] = _phase(fx[i]) * WIDTH
        along[i] = _phase(fy[i]) * WIDTH
    for i in range(around.size):
        n_near += np.int32(around[i] & HOLE)
    return n_near


@part
def _sum_run(data, kernel, begin, samples):  # type: ignore[no-untyped-def]
    """The plain sums of neighbouring positions: a loop for each size of the kernel, with nothing else in it."""
    pixels, taps, stride = data.reshape(-1), kernel.table.reshape(-1), data.shape[1]
    first, across, along = kernel.first[begin:], kernel.across[begin:], kernel.along[begin:]
    if kernel.n_taps == 6:
        for i in range(samples.size):
            samples[i] = dot6(pixels, first[i], stride, taps, across[i], along[i])
    elif kernel.n_taps == 4:
        for i in range(samples.size):
            samples[i] = dot4(pixels, first[i], stride, taps, across[i], along[i])
    else:
        for i in range(samples.size):
            samples[i] = dot8(pixels, first[i], stride, taps, across[i], along[i])


@part
def _sum_near_holes(data, weight, whole, fraction, kernel):  # type: ignore[no-untyped-def]
    """The sum at one position (whole pixel and fraction, each y and x) with holes under the kernel."""
    n_taps, taps, near = kernel.n_taps, kernel.table.reshape(-1), kernel.near
    x_row, y_row = _phase(fraction[1]), _phase(fraction[0])
    before = n_taps // 2 - 1
    corner, rows = (whole[0] - before, whole[1] - before), (kernel.table[y_row], kernel.table[x_row])
    kept = _copy_near(data, weight, corner, rows, n_taps, near)
    if not kept > 0:
        return _bilinear_near_holes(data, weight, whole[0], whole[1], fraction[1], fraction[0])
    x_row, y_row = x_row * WIDTH, y_row * WIDTH
    if n_taps == 6:
        return dot6(near, 0, WIDTH, taps, x_row, y_row) / kept
    if n_taps == 4:
        return dot4(near, 0, WIDTH, taps, x_row, y_row) / kept
    return dot8(near, 0, WIDTH, taps, x_row, y_row) / kept


@part
def _add_spikes(spikes, cells, samples):  # type: ignore[no-untyped-def]
    """Add the window's spikes, bilinearly: none lies outside or in a hole, so nothing is lost."""
    whole, fraction, around, begin, end = cells
    for i in range(begin, end):
        if around[i] & SPIKE:
            y, x, fy, fx = whole[0, i], whole[1, i], fraction[0, i], fraction[1, i]
            samples[i] += _bilinear(spikes[y, x], spikes[y, x + 1], spikes[y + 1, x], spikes[y + 1, x + 1], fx, fy)


@part
def _copy_near(data, weight, first, taps, n_taps, near):  # type: ignore[no-untyped-def]
    """Copy the pixels under a kernel (its taps along y and x) that begins at `first` to `near`, holes as 0.

    Returns the sum of the taps that met a pixel: exactly 1 when no tap other than 0 was lost (the same
    sum then gives the same bits as without holes), 0 when too much was lost.
    """
    y, x = first
    taps_y, taps_x = taps
    lost, lost_size, size = 0.0, 0.0, 0.0
    for a in range(n_taps):
        for b in range(n_taps):
            tap = taps_y[a] * taps_x[b]
            size += abs(tap)
            inside = y + a >= 0 and x + b >= 0 and y + a < weight.shape[0] and x + b < weight.shape[1]
            if inside and weight[y + a, x + b] > 0:
                near[a * WIDTH + b] = data[y + a, x + b]
            else:
                near[a * WIDTH + b] = 0
                lost += tap
                lost_size += abs(tap)
    return np.float32(1 - lost if lost_size <= MAX_LOST * size else 0)


@part
def _clamp_row(data, weight, cells, clamp, samples):  # type: ignore[no-untyped-def]
    """Pull samples into the range of their four nearest pixels."""
    whole, _, _, begin, end = cells
    for i in range(begin, end):
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for y in range(whole[0, i], whole[0, i] + 2):
            for x in range(whole[1, i], whole[1, i] + 2):
                if _pixel(weight, weight, y, x) > 0:
                    low, high = min(low, data[y, x]), max(high, data[y, x])
        samples[i] += clamp * (min(max(samples[i], low), high) - samples[i])
