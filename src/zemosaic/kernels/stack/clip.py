"""Finding outliers among the samples of a pixel by repeated clipping about their centre.

One noise model serves all methods. A sample v is clipped when it lies beyond the stack's middle values by more than

    kappa * max(s_stack, sqrt(sample variance + poisson * max(c - sky, 0))) + guard

with c the mean of the two middle values, s_stack the method's scatter of the samples not yet clipped (0 below
`MIN_SPREAD_COUNT` values) and guard a multiple of the template's steepness. A middle value is never clipped, so
two samples that disagree both stay: nothing tells which is right.

The kernels take ``samples = (values, weights, alpha, sky, poisson, span)``, of types and shapes float32 (n, h, w)
twice, uint8 (n, h, w), float32 (n,) twice, int32 (n, h, 2) as `find_spans` makes it, and ``maps = (low, high,
spread, guard, kept)`` of shape (h, w): the middle values, scatter and guard of every pixel, float32, and the number
of its samples not clipped, int32. A clipped sample's weight is made negative, in place.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from zemosaic.kernels.stack.normal_tables import MIN_SPREAD_COUNT
from zemosaic.kernels.stack.order import (
    SEGMENT,
    fill_columns,
    gather_pixels,
    pick_middle,
    sort_columns,
)

__all__ = ["KAPPA_SIGMA", "LINEAR_FIT", "WINSORIZED", "clip_rows"]

KAPPA_SIGMA, WINSORIZED, LINEAR_FIT = range(3)

_LOW, _HIGH, _SPREAD, _GUARD, _SLOPE, _BELOW, _ABOVE, _OWN, _CENTRE = range(9)

WINSOR_ROUNDS = 4
"""Rounds of winsorising: the start is robust already, so few are needed."""


@njit(nogil=True, cache=True, error_model="numpy")
def _is_outside(value, weight, alpha, below, above, own, centre, sky, poisson, squares):
    """Whether a sample is clipped: everything squared and times the weight takes no root and no division.

    `below` and `above` are the middle values less and plus the guard, `own` the square of s_stack, `squares` those
    of the two kappas. A sample without weight gives False whatever its value.
    """
    zero = np.float32(0)
    up = value - above
    down = below - value
    square = squares[1] if up > down else squares[0]
    d = up if up > down else down
    d = d if d > zero else zero
    signal = centre - sky
    noise = np.float32(1 / 127) * np.float32(alpha & 127) + weight * (poisson * (signal if signal > zero else zero))
    own *= weight
    return weight * d * d > square * (noise if noise > own else own)


@njit(nogil=True, cache=True, error_model="numpy")
def _flag_row(value, weight, alpha, below, above, own, centre, sky, poisson, kappa, flag):
    """Flag the samples of one frame that lie outside; returns how many (for 0 `flag` is not written)."""
    # Most rows have none, and a count without a store takes half the time of both together.
    squares = (kappa[0] * kappa[0], kappa[1] * kappa[1])
    n = 0
    for j in range(value.size):
        n += np.int32(
            _is_outside(value[j], weight[j], alpha[j], below[j], above[j], own[j], centre[j], sky, poisson, squares)
        )
    if n > 0:
        for j in range(value.size):
            flag[j] = _is_outside(
                value[j], weight[j], alpha[j], below[j], above[j], own[j], centre[j], sky, poisson, squares
            )
    return n


@njit(nogil=True, cache=True, error_model="numpy")
def _set_limits(low, high, spread, guard, below, above, own, centre):
    """What `_is_outside` wants, from middle values, scatter and guard."""
    half = np.float32(0.5)
    for j in range(low.size):
        below[j] = low[j] - guard[j]
        above[j] = high[j] + guard[j]
        own[j] = spread[j] * spread[j]
        centre[j] = half * low[j] + half * high[j]


@njit(nogil=True, cache=True, error_model="numpy")
def _first_round(samples, maps, y, kappa, row, touched):
    """Clip a row of pixels against the centre and scatter of all samples; lists the pixels that lost one."""
    values, weights, alpha, sky, poisson, span = samples
    low, high, spread, guard, kept = maps
    below, above, own, centre, flag, lost = row
    _set_limits(low[y], high[y], spread[y], guard[y], below, above, own, centre)
    lost[:] = False
    for i in range(values.shape[0]):
        a = span[i, y, 0]
        b = span[i, y, 1]
        weight = weights[i, y, a:b]
        n_bad = _flag_row(
            values[i, y, a:b],
            weight,
            alpha[i, y, a:b],
            below[a:b],
            above[a:b],
            own[a:b],
            centre[a:b],
            sky[i],
            poisson[i],
            kappa,
            flag,
        )
        if n_bad > 0:
            for j in range(b - a):
                if flag[j]:
                    weight[j] = -weight[j]
                    kept[y, a + j] -= 1
                    lost[a + j] = True
    n_touched = 0
    for x in range(lost.size):
        if lost[x]:
            touched[n_touched] = x
            n_touched += 1
    return n_touched


@njit(nogil=True, cache=True, error_model="numpy")
def _winsor_moment(value, weight, low, high, scatter, total):
    half = np.float32(0.5)
    zero = np.float32(0)
    for j in range(value.size):
        d = value[j] - (half * low[j] + half * high[j])
        t = np.float32(1.5) * scatter[j]
        d = d if d < t else t
        d = d if d > -t else -t
        total[j] += d * d if weight[j] > 0 else zero


@njit(nogil=True, cache=True, error_model="numpy")
def _winsorize(v, w, m, width, count, column):
    """Scatter of the values pulled in to 1.5 sigma of the centre, times 1.134 (Huber's proposal 2)."""
    total = np.empty(SEGMENT, np.float32)
    for _ in range(WINSOR_ROUNDS):
        total[:] = 0
        for i in range(m):
            _winsor_moment(v[i, :width], w[i, :width], column[_LOW], column[_HIGH], column[_SPREAD], total)
        for j in range(width):
            if count[j] >= MIN_SPREAD_COUNT:
                column[_SPREAD, j] = np.float32(1.134) * np.sqrt(total[j] / np.float32(count[j] - 1))


@njit(nogil=True, cache=True, error_model="numpy")
def _fit_line(buf, count, width, column):
    """Least-squares line through the inner three fifths of the sorted values against rank.

    Writes its slope, and as scatter 1.2533 times the mean absolute distance of those values from it.
    """
    for j in range(width):
        k = count[j]
        column[_SLOPE, j] = 0.0
        if k < MIN_SPREAD_COUNT:
            continue
        t = k // 5
        middle = np.float32(0.5) * np.float32(k - 1)
        mean = np.float32(0)
        top = np.float32(0)
        bottom = np.float32(0)
        for r in range(t, k - t):
            x = np.float32(r) - middle
            mean += buf[r, j]
            top += x * buf[r, j]
            bottom += x * x
        mean /= np.float32(k - 2 * t)
        slope = top / bottom
        distance = np.float32(0)
        for r in range(t, k - t):
            distance += abs(buf[r, j] - mean - slope * (np.float32(r) - middle))
        column[_SLOPE, j] = slope
        column[_SPREAD, j] = np.float32(1.2533) * distance / np.float32(k - 2 * t)


@njit(nogil=True, cache=True, error_model="numpy")
def _confirm_row(value, weight, alpha, column, buf, count, sky, poisson, kappa, flag):
    """Of the flagged samples keep those that are also far from the fitted line at their own rank."""
    squares = (kappa[0] * kappa[0], kappa[1] * kappa[1])
    for j in range(value.size):
        if flag[j]:
            r = 0
            while r < count[j] - 1 and buf[r, j] < value[j]:
                r += 1
            rise = column[_SLOPE, j] * abs(np.float32(r) - np.float32(0.5) * np.float32(count[j] - 1))
            flag[j] = _is_outside(
                value[j],
                weight[j],
                alpha[j],
                column[_BELOW, j] - rise,
                column[_ABOVE, j] + rise,
                column[_OWN, j],
                column[_CENTRE, j],
                sky,
                poisson,
                squares,
            )


@njit(nogil=True, cache=True, error_model="numpy")
def _make_scratch(n):
    """Columns of values, weights, alpha and sorted values; their frames; counts, flags, and figures of a column."""
    return (
        np.zeros((n, SEGMENT), np.float32),
        np.zeros((n, SEGMENT), np.float32),
        np.zeros((n, SEGMENT), np.uint8),
        np.zeros((n, SEGMENT + 16), np.float32),
        np.zeros(n, np.int64),
        np.zeros(SEGMENT, np.int32),
        np.zeros(SEGMENT, np.bool_),
        np.zeros((9, SEGMENT), np.float32),
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _estimate(method, m, width, table, scratch):
    """Centre and scatter of the samples left in each column."""
    v, w, _, buf, _, count, _, column = scratch
    count[:] = 0
    for i in range(m):
        fill_columns(v[i, :width], w[i, :width], buf[i], count)
    sort_columns(buf, m, width)
    pick_middle(buf, count, width, table, column[_LOW], column[_HIGH], column[_SPREAD])
    if method == WINSORIZED:
        _winsorize(v, w, m, width, count, column)
    elif method == LINEAR_FIT:
        _fit_line(buf, count, width, column)
    _set_limits(
        column[_LOW],
        column[_HIGH],
        column[_SPREAD],
        column[_GUARD],
        column[_BELOW],
        column[_ABOVE],
        column[_OWN],
        column[_CENTRE],
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_round(method, samples, left, y, m, pixels, width, kappa, scratch):
    """Clip what lies outside, and move the columns that lost a sample to the front; returns how many."""
    _, weights, _, sky, poisson, _ = samples
    v, w, a, buf, frame, count, flag, column = scratch
    below, above, own, centre = column[_BELOW], column[_ABOVE], column[_OWN], column[_CENTRE]
    lost = np.zeros(SEGMENT, np.bool_)
    for i in range(m):
        f = frame[i]
        vi, wi, ai = v[i, :width], w[i, :width], a[i, :width]
        if _flag_row(vi, wi, ai, below, above, own, centre, sky[f], poisson[f], kappa, flag) == 0:
            continue
        if method == LINEAR_FIT:
            _confirm_row(vi, wi, ai, column, buf, count, sky[f], poisson[f], kappa, flag)
        for j in range(width):
            if flag[j]:
                weights[f, y, pixels[j]] = -w[i, j]
                left[y, pixels[j]] -= 1
                w[i, j] = 0.0
                lost[j] = True
    kept = 0
    for j in range(width):
        if lost[j]:
            pixels[kept] = pixels[j]
            column[_GUARD, kept] = column[_GUARD, j]
            for i in range(m):
                v[i, kept] = v[i, j]
                w[i, kept] = w[i, j]
                a[i, kept] = a[i, j]
            kept += 1
    return kept


@njit(nogil=True, cache=True, error_model="numpy")
def _clip_batch(method, samples, maps, y, pixels, rounds, kappa, table, scratch):
    """Rounds of clipping for at most `SEGMENT` pixels of row `y`, each until it loses no more."""
    low, high, _, guard, left = maps
    v, w, a, _, frame, _, _, column = scratch
    m = gather_pixels(samples, y, pixels, v, w, a, frame)
    width = pixels.size
    for j in range(width):
        column[_GUARD, j] = guard[y, pixels[j]]
    for _ in range(rounds):
        _estimate(method, m, width, table, scratch)
        for j in range(width):
            low[y, pixels[j]] = column[_LOW, j]
            high[y, pixels[j]] = column[_HIGH, j]
        width = _mark_round(method, samples, left, y, m, pixels, width, kappa, scratch)
        if width == 0:
            break


@njit(nogil=True, cache=True, error_model="numpy")
def clip_rows(method, samples, maps, y0, y1, kappa, rounds, table):
    """Clip the samples of rows `y0` to `y1`.

    Parameters
    ----------
    method : {KAPPA_SIGMA, WINSORIZED, LINEAR_FIT}
        Where s_stack comes from: the range of the inner values; the winsorised values; the distances from a
        line fitted to the sorted values (a sample is then also judged against the line at its own rank).
    samples, maps : tuples of ndarray
        See the module. Middle values become those of the last round.
    y0, y1 : int
        Rows to do.
    kappa : ndarray, float32, shape (2,)
        Thresholds below and above.
    rounds : int
        Rounds of clipping at most.
    table : ndarray, float32
        `spread_table` for n.
    """
    n, _, w = samples[0].shape
    scratch = _make_scratch(n)
    pixels = np.empty(w, np.int32)
    limits = np.empty((4, w), np.float32)
    row = (limits[0], limits[1], limits[2], limits[3], np.empty(w, np.bool_), np.empty(w, np.bool_))
    for y in range(y0, y1):
        if method == KAPPA_SIGMA:
            # The first round needs no sorting: the template's pass already found centre and scatter.
            n_pixels = _first_round(samples, maps, y, kappa, row, pixels)
            left = rounds - 1
        else:
            n_pixels = w
            for x in range(w):
                pixels[x] = x
            left = rounds
        for p0 in range(0, n_pixels, SEGMENT):
            batch = pixels[p0 : min(p0 + SEGMENT, n_pixels)]
            _clip_batch(method, samples, maps, y, batch, left, kappa, table, scratch)
