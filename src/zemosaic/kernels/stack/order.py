"""Order statistics of many pixels at once.

A pixel's samples are a column of a small scratch array; whole rows are compared and exchanged, so the
compiler turns each comparison into vector instructions over neighbouring pixels. Missing samples are
``+inf`` and sort behind all others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part

__all__ = [
    "BLOCK",
    "SEGMENT",
    "Columns",
    "fill_columns",
    "find_spans",
    "gather_pixels",
    "make_columns",
    "make_ordered",
    "pick_middle",
    "sort_columns",
]

BLOCK = 32
"""Columns sorted at a time are a multiple of this (a fixed inner length is what vectorises without a tail). Of twice as
many a hundred samples or more do not stay in the first-level cache; half as many are too few for the loop."""

SEGMENT = 256
"""Pixels of one row whose samples are gathered together; 128 and 512 were no faster."""


class Columns(NamedTuple):
    """Samples of at most `SEGMENT` pixels of one row, one pixel a column; scratch for up to n frames.

    Attributes
    ----------
    values, weights : ndarray, float32, shape (n, SEGMENT)
        Weight 0: no sample.
    alpha : ndarray, uint8, shape (n, SEGMENT)
    ordered : ndarray, float32, shape (n, SEGMENT + 16)
        What is sorted; 16 more so that rows do not fall on the same lines of the cache.
    frame : ndarray, int64, shape (n,)
        The frame of each row.
    count : ndarray, int32, shape (SEGMENT,)
        Samples in each column.
    """

    values: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    alpha: npt.NDArray[np.uint8]
    ordered: npt.NDArray[np.float32]
    frame: npt.NDArray[np.int64]
    count: npt.NDArray[np.int32]


@part
def make_columns(n):
    """`Columns` for n frames, all 0."""
    return Columns(
        np.zeros((n, SEGMENT), np.float32),
        np.zeros((n, SEGMENT), np.float32),
        np.zeros((n, SEGMENT), np.uint8),
        make_ordered(n),
        np.zeros(n, np.int64),
        np.zeros(SEGMENT, np.int32),
    )


@part
def make_ordered(n):
    """Room for `Columns.ordered`, all 0. Its rows begin with a line of the cache: else a block takes one line more."""
    line = 16
    width = SEGMENT + line
    room = np.zeros(n * width + line, np.float32)
    first = (-room.ctypes.data % (4 * line)) // 4
    return room[first : first + n * width].reshape((n, width))


@leaf
def _exchange(low, high):
    for j in range(BLOCK):
        a = low[j]
        b = high[j]
        low[j] = a if a < b else b
        high[j] = b if a < b else a


@leaf
def _merge_exchange(buf, m, width):
    """`sort_columns`."""
    top = 1
    while top * 2 < m:
        top *= 2
    for x in range(0, width if m > 1 else 0, BLOCK):
        p = top
        while p > 0:
            q = top
            r = 0
            d = p
            while d > 0:
                for i in range(m - d):
                    if i & p == r:
                        _exchange(buf[i, x : x + BLOCK], buf[i + d, x : x + BLOCK])
                d = q - p
                q //= 2
                r = p
            p //= 2


@kernel
def sort_columns(buf, m, width):
    """Sort each of the first `width` columns of ``buf[:m]`` ascending, in place.

    Batcher's merge exchange for any m (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).

    Parameters
    ----------
    buf : ndarray, float32, shape (>= m, C)
        C a multiple of `BLOCK`; columns up to the next multiple of `BLOCK` above `width` are sorted too.
    m, width : int
        Rows and columns in use.
    """
    _merge_exchange(buf, m, width)


@leaf
def pick_middle(buf, count, width, table, middle):
    """The middle values and the robust scatter of sorted columns.

    Parameters
    ----------
    buf : ndarray, float32, shape (m, C)
        Sorted columns.
    count : ndarray, int32, shape (C,)
        Values in each column.
    width : int
        Columns in use.
    table : ndarray, float32
        `spread_table`.
    middle : three ndarray, float32, shape (>= width,)
        Written: lower and upper middle value (equal for an odd count; 0 for none), scatter.
    """
    low, high, spread = middle
    for x in range(0, width, BLOCK):
        end = min(x + BLOCK, width)
        part = (low[x:end], high[x:end], spread[x:end])
        _pick_block(buf, x, count[x:end], table, part)


@leaf
def _pick_block(buf, x, count, table, middle):
    """`pick_middle` of neighbouring columns from `x` on: most have equal counts, what is picked then lies in rows."""
    low, high, spread = middle
    k, unlike = count[0], np.int32(0)
    for j in range(count.size):
        unlike += np.int32(count[j] != k)
    if unlike == 0 and k > 0:
        t, to = k // 5, slice(x, x + count.size)
        below, above, first, last = buf[(k - 1) // 2, to], buf[k // 2, to], buf[t, to], buf[k - 1 - t, to]
        for j in range(count.size):
            low[j] = below[j]
            high[j] = above[j]
            spread[j] = table[k] * (last[j] - first[j])
        return
    for j in range(count.size):
        k = count[j]
        if k == 0:
            low[j] = 0.0
            high[j] = 0.0
            spread[j] = 0.0
        else:
            t = k // 5
            low[j] = buf[(k - 1) // 2, x + j]
            high[j] = buf[k // 2, x + j]
            spread[j] = table[k] * (buf[k - 1 - t, x + j] - buf[t, x + j])


@kernel
def find_spans(weights, reach, y0, y1, span):
    """Where each frame has samples in each row: from its first to behind its last.

    Parameters
    ----------
    weights : ndarray, float32, shape (n, h, w)
        Weights; 0: no sample.
    reach : ndarray, int32, shape (n, 4)
        Box (y0, y1, x0, x1) of each frame outside of which it has no sample: nothing is looked at there.
    y0, y1 : int
        Rows to do.
    span : ndarray, int32, shape (n, h, 2)
        Written: first and end column; both 0 where the frame has no sample.
    """
    for i in range(weights.shape[0]):
        for y in range(y0, y1):
            is_beside = y < reach[i, 0] or y >= reach[i, 1]
            first, end = np.int64(reach[i, 2]), np.int64(reach[i, 2] if is_beside else reach[i, 3])
            row = weights[i, y]
            while first < end and _is_empty(row[first : min(first + BLOCK, end)]):
                first += BLOCK
            while first < end and row[first] == 0:
                first += 1
            while end > first and _is_empty(row[max(end - BLOCK, first) : end]):
                end -= BLOCK
            while end > first and row[end - 1] == 0:
                end -= 1
            span[i, y, 0] = first if end > first else 0
            span[i, y, 1] = end if end > first else 0


@leaf
def _is_empty(row):
    """Whether no pixel of a part of a row has weight."""
    n = np.int32(0)
    for x in range(row.size):
        n += np.int32(row[x] != 0)
    return n == 0


@leaf
def _has_any(span, width, first, last):
    """Whether a frame has samples in the rows of two pixels and those between, and between them if that is one row."""
    top, bottom = first // width, last // width
    if top == bottom:
        return span[top, 1] > first - top * width and span[top, 0] <= last - top * width
    n = 0
    for y in range(top, bottom + 1):
        n += np.int32(span[y, 1] > span[y, 0])
    return n > 0


@leaf
def gather_pixels(samples, pixels, columns):
    """Samples of a list of pixels as columns; frames without any are left out.

    Parameters
    ----------
    samples : Samples
        Those of weight <= 0 are not there.
    pixels : ndarray, int64, shape (k,)
        Places in the image, rows one behind the other, ascending; at most `SEGMENT`.
    columns : Columns
        Written: values, weights, alpha and frames.

    Returns
    -------
    int
        Rows used.
    """
    zero = np.float32(0)
    m = 0
    for i in range(samples.values.shape[0]):
        if not _has_any(samples.span[i], samples.values.shape[2], pixels[0], pixels[-1]):
            continue
        value, weight, alpha = (
            samples.values[i].reshape(-1), samples.weights[i].reshape(-1), samples.alpha[i].reshape(-1)
        )  # fmt: skip
        v, w, a = columns.values[m], columns.weights[m], columns.alpha[m]
        n = 0
        for j in range(pixels.size):
            p = np.uintp(pixels[j])
            v[j] = value[p]
            a[j] = alpha[p]
            w[j] = weight[p] if weight[p] > 0 else zero
            n += np.int32(weight[p] > 0)
        if n > 0:
            columns.frame[m] = i
            m += 1
    return m


@leaf
def fill_columns(value, weight, into, count):
    """Copy the samples of a row that have weight, +inf for the others, and count them into `count`."""
    inf = np.float32(np.inf)
    for j in range(value.size):
        into[j] = value[j] if weight[j] > 0 else inf
    for j in range(value.size):
        count[j] += np.int32(weight[j] > 0)
