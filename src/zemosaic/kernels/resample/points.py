"""Point-sampling kernels: nearest, bilinear and Lanczos, aware of weights and edges.

The value of an output pixel is the kernel's sum over frame pixels about the position of its centre. Pixels of
weight 0, and all outside the window, are holes: what lies under them is never used. Where a kernel loses a small
part of its taps to holes the rest is renormalised. Where Lanczos loses more, the four nearest pixels decide: bilinear
between them, and weight 0 where one that counts is a hole. So an image reaches to its outermost pixels with any kernel.
Peaks that are too sharp for Lanczos are carried bilinearly (`zemosaic.kernels.resample.spikes`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part
from zemosaic.kernels.resample.flags import HOLE, SPIKE, UNEVEN, flag_window
from zemosaic.kernels.resample.lanczos import WIDTH, dot4, dot6, dot8, dots4, dots6, dots8, lanczos_table
from zemosaic.kernels.resample.lattice import (
    Correction,
    find_ends,
    find_row,
    interpolate_row,
    mark_row,
    store_row,
)
from zemosaic.kernels.resample.near_holes import bilinear, bilinear_near_holes, phase_of, pixel_at, sum_near_holes
from zemosaic.kernels.resample.spikes import find_spikes
from zemosaic.kernels.resample.window import Floats, Output, Window, prepare

__all__ = ["KERNEL_TAPS", "Lanczos", "resample", "resample_plane"]

KERNEL_TAPS = {"nearest": 1, "bilinear": 2, "lanczos2": 4, "lanczos3": 6, "lanczos4": 8}
"""Taps per axis of each kernel."""

_NO_SPIKES = np.zeros((0, 0, 0), np.float32)


class _Cells(NamedTuple):
    """Where the positions of a row of output pixels lie in the window.

    Attributes
    ----------
    whole : ndarray, int32, shape (2, n)
        y and x of the pixel below and left of the position.
    fraction : ndarray, float32, shape (2, n)
        What remains.
    around : ndarray, uint8, shape (n,)
        Flags of the pixels under the kernel (`flag_window`).
    marked : ndarray, int64
        Positions that have flags, in order.
    begin, end : int
        The part of the row that lies in the frame.
    """

    whole: npt.NDArray[np.int32]
    fraction: Floats
    around: npt.NDArray[np.uint8]
    marked: npt.NDArray[np.int64]
    begin: int
    end: int


class Lanczos(NamedTuple):
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
    """Taps per axis of the kernel, and scratch that Lanczos needs.

    Attributes
    ----------
    n_taps : {1, 2, 4, 6, 8}
    near : ndarray, float32, shape (2 * WIDTH * WIDTH,)
        The pixels under one kernel at the window's edge, and beside each row their weights.
    places : ndarray, int32, shape (3, n)
        Where the kernels of a row's positions begin in the plane, and in the table across and along.
    """

    n_taps: int
    near: Floats
    places: npt.NDArray[np.int32]


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
    plain, rows, target = prepare(window, out)
    lanczos = None
    if n_taps > 2:
        spikes = find_spikes(window.data, window.weight, window.inverse_variance) if dering else _NO_SPIKES
        smooth = window.data - spikes if spikes.size else window.data
        lanczos = Lanczos(lanczos_table(n_taps // 2), smooth, spikes, np.float32(clamp))
    _resample(plain, rows, target, n_taps, lanczos)


@kernel
def _resample(place, rows, target, n_taps, lanczos):  # type: ignore[no-untyped-def]
    """`resample_plane` as Python calls it."""
    resample_plane(place, rows, target, n_taps, lanczos)


@part
def resample_plane(place, rows, target, n_taps, lanczos):  # type: ignore[no-untyped-def]
    """`resample` with what `prepare` gives, the taps per axis and a `Lanczos`.

    Compiled in two versions: without Lanczos (`lanczos` is None) it takes half of the time.
    """
    n = target[3] - target[2]
    spikes = place.data[:0] if lanczos is None else lanczos.spikes
    flags = flag_window(place.data, place.weight, spikes, place.saturation, n_taps).reshape(-1)
    # Eight more flags than positions, so that they can be looked through eight at a time.
    around, marked = np.zeros(n + 8, np.uint8), np.empty(n, np.int64)
    cells = _Cells(np.empty((2, n), np.int32), np.empty((2, n), np.float32), around, marked, 0, 0)
    taps = _Taps(n_taps, np.zeros(2 * WIDTH * WIDTH, np.float32), np.empty((3, n), np.int32))
    _resample_rows(place, rows, target, lanczos, flags, cells, taps, np.empty((2, n)), np.empty((2, n), np.float32))


@leaf
def _resample_rows(place, rows, target, lanczos, flags, cells, taps, lines, found):  # type: ignore[no-untyped-def]
    """`resample_plane` with scratch: two lines of double precision, and one each for samples and relative weights."""
    data, weight, origin, step = place.data, place.weight, place.origin, place.step
    out_values, out_weights, out_alpha = rows
    y0, y1, x0, x1 = target
    whole, fraction, around, marked, _, _ = cells
    samples, relative = found[0], found[1]
    spikes = data[:0] if lanczos is None else lanczos.spikes
    for row in range(y1 - y0):
        # What lies beside the frame costs nothing.
        begin, end = find_ends(place.codes[row])
        to, codes = slice(begin, end), place.codes[row, begin:end]
        first, second = lines[0, to], lines[1, to]
        out_y, at = y0 + row, (place.start[0] + row, place.start[1] + begin)
        interpolate_row(place.nodes_xy[0], step, at[0], at[1], first)
        interpolate_row(place.nodes_xy[1], step, at[0], at[1], second)
        _split_row(first, origin[1], codes, whole[1, to], fraction[1, to])
        _split_row(second, origin[0], codes, whole[0, to], fraction[0, to])
        n_marked = _look_up(flags, whole, data.shape[2] + 1, (begin, end), around, marked)
        here = _Cells(whole, fraction, around, marked[:n_marked], begin, end)
        if lanczos is not None:
            _place_row(whole, fraction, data.shape[2], taps)
        a, b = find_row(out_alpha, 0, out_y, x0, x1)
        alpha = out_alpha[0][a:b]
        alpha[:] = 0
        for k in range(data.shape[0]):
            m = weight[min(k, weight.shape[0] - 1)]
            if k < weight.shape[0]:
                _relative_row(m, here, taps.n_taps, relative)
            if lanczos is not None:
                _lanczos_row(lanczos.smooth[k], m, here, relative, lanczos.table, taps, samples)
                if spikes.size:
                    _add_spikes(spikes[k], here, samples)
                if lanczos.clamp > 0:
                    _clamp_row(data[k], m, here, lanczos.clamp, samples)
            elif taps.n_taps == 1:
                _nearest_row(data[k], m, here, samples)
            else:
                _bilinear_row(data[k], m, here, samples)
            interpolate_row(place.nodes_scale[k], step, at[0], at[1], first)
            interpolate_row(place.nodes_offset[k], step, at[0], at[1], second)
            correction = Correction(first, second, place.inverse_variance[k])
            (a, b), (c, d) = find_row(out_values, k, out_y, x0, x1), find_row(out_weights, k, out_y, x0, x1)
            values, weights = out_values[0][a:b], out_weights[0][c:d]
            _clear_beside(values, begin, end)
            _clear_beside(weights, begin, end)
            store_row(samples[to], relative[to], codes, correction, values[to], weights[to])
            mark_row(weights[to], codes, around[to], alpha[to])


@leaf
def _clear_beside(row, begin, end):  # type: ignore[no-untyped-def]
    """Set to 0 what of a row lies beside a range."""
    row[:begin] = 0
    row[end:] = 0


@leaf
def _split_row(position, origin, codes, whole, fraction):  # type: ignore[no-untyped-def]
    """Whole pixel (in the window) and fraction of positions in the frame; both 0 where the code is 0."""
    for i in range(position.size):
        p = position[i] if codes[i] else float(origin)
        low = np.floor(p)
        whole[i] = np.int32(low - origin)
        fraction[i] = np.float32(p - low)


@leaf
def _look_up(flags, whole, stride, ends, around, marked):  # type: ignore[no-untyped-def]
    """Flags of positions; lists those that have any, and returns how many."""
    begin, end = ends
    y, x, place, found = whole[0, begin:end], whole[1, begin:end], marked[begin:end], around[begin:end]
    for i in range(found.size):
        place[i] = (y[i] + 1) * stride + x[i] + 1
    for i in range(found.size):
        found[i] = flags[np.uintp(place[i])]
    around[:begin] = 0
    around[end:] = 0
    words = around[: around.size // 8 * 8].view(np.uint64)
    n = 0
    for k in range(words.size):
        if words[k] != 0:
            for i in range(8 * k, 8 * k + 8):
                if around[i]:
                    marked[n] = i
                    n += 1
    return n


@leaf
def _relative_row(weight, cells, n_taps, relative):  # type: ignore[no-untyped-def]
    """Relative weight at positions: bilinear with holes as 0, or that of the nearest pixel."""
    whole, fraction, around, marked, _, _ = cells
    flat, shape = weight.reshape(-1), weight.shape
    for i in range(relative.size):
        relative[i] = 1
    for i in marked:
        if not around[i] & UNEVEN:
            continue
        y, x, fy, fx = whole[0, i], whole[1, i], fraction[0, i], fraction[1, i]
        if n_taps == 1:
            relative[i] = pixel_at(flat, flat, shape, y + (fy >= 0.5), x + (fx >= 0.5))
        elif not around[i] & HOLE:
            relative[i] = bilinear(weight[y, x], weight[y, x + 1], weight[y + 1, x], weight[y + 1, x + 1], fx, fy)
        else:
            a, b = pixel_at(flat, flat, shape, y, x), pixel_at(flat, flat, shape, y, x + 1)
            c, d = pixel_at(flat, flat, shape, y + 1, x), pixel_at(flat, flat, shape, y + 1, x + 1)
            relative[i] = bilinear(a, b, c, d, fx, fy)


# The sampling loops below write NaN where a position has no value.


@leaf
def _nearest_row(data, weight, cells, samples):  # type: ignore[no-untyped-def]
    whole, fraction, around, _, begin, end = cells
    flat, shape = weight.reshape(-1), weight.shape
    for i in range(begin, end):
        y, x = whole[0, i] + (fraction[0, i] >= 0.5), whole[1, i] + (fraction[1, i] >= 0.5)
        found = not around[i] & HOLE or pixel_at(flat, flat, shape, y, x) > 0
        samples[i] = data[y, x] if found else np.nan


@leaf
def _bilinear_row(data, weight, cells, samples):  # type: ignore[no-untyped-def]
    whole, fraction, around, _, begin, end = cells
    pixels, weights, shape = data.reshape(-1), weight.reshape(-1), weight.shape
    for i in range(begin, end):
        y, x, fy, fx = whole[0, i], whole[1, i], fraction[0, i], fraction[1, i]
        if around[i] & HOLE:
            samples[i] = bilinear_near_holes(pixels, weights, shape, (y, x), (fy, fx))
        else:
            samples[i] = bilinear(data[y, x], data[y, x + 1], data[y + 1, x], data[y + 1, x + 1], fx, fy)


@leaf
def _lanczos_row(data, weight, cells, relative, table, kernel, samples):  # type: ignore[no-untyped-def]
    """Plain sums, a run of positions at a time; positions near holes one by one.

    Those without weight are passed over.
    """
    whole, fraction, around, marked, begin, end = cells
    shape, pixels, weights = data.shape, data.reshape(-1), weight.reshape(-1)
    n_taps, taps, places, near = kernel.n_taps, table.reshape(-1), kernel.places, kernel.near
    first = begin
    for i in marked:
        if around[i] & HOLE:
            _sum_run(pixels, shape[1], taps, places, (first, i), samples, n_taps)
            if relative[i] > 0:
                y_x, parts = (np.int64(whole[0, i]), np.int64(whole[1, i])), (fraction[0, i], fraction[1, i])
                samples[i] = sum_near_holes(pixels, weights, shape, taps, near, n_taps, y_x, parts)
            first = i + 1
    _sum_run(pixels, shape[1], taps, places, (first, end), samples, n_taps)


@leaf
def _place_row(whole, fraction, stride, kernel):  # type: ignore[no-untyped-def]
    """Where the kernels of positions begin in the plane, and in the table."""
    y, x, fy, fx = whole[0], whole[1], fraction[0], fraction[1]
    first, across, along = kernel.places[0], kernel.places[1], kernel.places[2]
    width, before = np.int32(stride), np.int32((kernel.n_taps // 2 - 1) * (stride + 1))
    for i in range(first.size):
        first[i] = np.int32(y[i] * width + x[i] - before)
    for i in range(across.size):
        across[i] = phase_of(fx[i]) * WIDTH
    for i in range(along.size):
        along[i] = phase_of(fy[i]) * WIDTH


@leaf
def _sum_run(pixels, stride, taps, places, ends, samples, n_taps):  # type: ignore[no-untyped-def]
    """The plain sums of neighbouring positions: loops for each size of the kernel, with nothing else in them."""
    # Counted without a sign, so that no number is looked at for whether it counts from the end.
    first, end = np.uintp(ends[0]), np.uintp(ends[1])
    whole = first + (end - first) // np.uintp(WIDTH) * np.uintp(WIDTH) if end > first else first
    if n_taps == 6:
        for i in range(first, whole, np.uintp(WIDTH)):
            dots6(pixels, stride, taps, places, i, samples)
        for i in range(whole, end):
            samples[i] = dot6(pixels, places[0, i], stride, taps, places[1, i], places[2, i])
    elif n_taps == 4:
        for i in range(first, whole, np.uintp(WIDTH)):
            dots4(pixels, stride, taps, places, i, samples)
        for i in range(whole, end):
            samples[i] = dot4(pixels, places[0, i], stride, taps, places[1, i], places[2, i])
    else:
        for i in range(first, whole, np.uintp(WIDTH)):
            dots8(pixels, stride, taps, places, i, samples)
        for i in range(whole, end):
            samples[i] = dot8(pixels, places[0, i], stride, taps, places[1, i], places[2, i])


@leaf
def _add_spikes(spikes, cells, samples):  # type: ignore[no-untyped-def]
    """Add the window's spikes, bilinearly: none lies outside or in a hole, so nothing is lost."""
    whole, fraction, around, marked, _, _ = cells
    for i in marked:
        if around[i] & SPIKE:
            y, x, fy, fx = whole[0, i], whole[1, i], fraction[0, i], fraction[1, i]
            samples[i] += bilinear(spikes[y, x], spikes[y, x + 1], spikes[y + 1, x], spikes[y + 1, x + 1], fx, fy)


@leaf
def _clamp_row(data, weight, cells, clamp, samples):  # type: ignore[no-untyped-def]
    """Pull samples into the range of their four nearest pixels."""
    whole, _, _, _, begin, end = cells
    flat, shape = weight.reshape(-1), weight.shape
    for i in range(begin, end):
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for y in range(whole[0, i], whole[0, i] + 2):
            for x in range(whole[1, i], whole[1, i] + 2):
                if pixel_at(flat, flat, shape, y, x) > 0:
                    low, high = min(low, data[y, x]), max(high, data[y, x])
        samples[i] += clamp * (min(max(samples[i], low), high) - samples[i])
