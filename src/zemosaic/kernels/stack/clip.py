"""Finding outliers among the samples of a pixel by repeated clipping about their centre.

One noise model serves all methods. A sample v is clipped when it lies beyond the stack's middle values by more than

    kappa * max(s_stack, sqrt(variance of the sample)) + guard

with s_stack the method's scatter of the samples not yet clipped (0 below `MIN_SPREAD_COUNT` values), the variance that
of `FrameNoise` for c the mean of the two middle values, and guard a multiple of the template's steepness. A middle
value is never clipped, so two samples that disagree both stay here; `zemosaic.kernels.stack.pairs` judges those.

A clipped sample's weight is made negative, in place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.compiled import kernel, leaf, part
from zemosaic.kernels.stack.ahead import fetch_row
from zemosaic.kernels.stack.normal_tables import MIN_SPREAD_COUNT
from zemosaic.kernels.stack.order import (
    SEGMENT,
    fill_columns,
    gather_pixels,
    make_columns,
    pick_middle,
    sort_columns,
)
from zemosaic.kernels.stack.samples import Maps, Samples, noise_of, weighted_variance

__all__ = ["KAPPA_SIGMA", "LINEAR_FIT", "WINSORIZED", "ClipRule", "clip_rows"]

F4 = npt.NDArray[np.float32]

KAPPA_SIGMA, WINSORIZED, LINEAR_FIT = range(3)
"""Rules by number, as compiled loops compare them."""

SCAN = 64
"""Samples looked through at a time for those to clip: noise puts one outside in one of six such runs, and in every row
of a patch."""

WINSOR_ROUNDS = 4
"""Rounds of winsorising: the start is robust already, so few are needed."""


class ClipRule(NamedTuple):
    """How to clip.

    Attributes
    ----------
    scatter : {KAPPA_SIGMA, WINSORIZED, LINEAR_FIT}
        Where s_stack comes from: the range of the inner values; the winsorised values; the distances from a
        line fitted to the sorted values (a sample is then also judged against the line at its own rank).
    low, high : float32
        Kappa below and above.
    rounds : int
        Rounds of clipping at most.
    """

    scatter: int
    low: np.float32
    high: np.float32
    rounds: int


class _Limits(NamedTuple):
    """Where samples of each pixel of a row are clipped, as `_is_outside` wants it; float32, shape (w,).

    `below` and `above` are the middle values less and plus the guard, `own` the square of s_stack, `centre` the mean of
    the middle values.
    """

    below: F4
    above: F4
    own: F4
    centre: F4


class _Line(NamedTuple):
    """Figures of the samples left in each column, float32, shape (SEGMENT,): `Maps` in short, and the fitted slope."""

    low: F4
    high: F4
    spread: F4
    guard: F4
    slope: F4


@leaf
def _is_outside(sample, limit, noise, rule):
    """Whether a sample (value, weight, alpha) is clipped: squared and times the weight it takes no root or division.

    `limit` holds what `_Limits` has for its pixel, `noise` what `noise_of` gives. A sample without weight gives False
    whatever its value.
    """
    value, weight, alpha = sample
    below, above, own, centre = limit
    zero = np.float32(0)
    up = value - above
    down = below - value
    kappa = rule.high if up > down else rule.low
    d = up if up > down else down
    d = d if d > zero else zero
    variance = weighted_variance(alpha, centre, noise)
    own *= weight
    return weight * d * d > kappa * kappa * (variance if variance > own else own)


@leaf
def _flag_row(row, limits, noise, rule, flag):
    """Flag samples of one frame, side by side, that lie outside."""
    value, weight, alpha = row
    below, above, own, centre = limits
    for j in range(value.size):
        limit = (below[j], above[j], own[j], centre[j])
        flag[j] = _is_outside((value[j], weight[j], alpha[j]), limit, noise, rule)


@leaf
def _any_flag(flag):
    # Not counted: sums of small numbers are taken in large ones, few of which go into a vector.
    found = np.uint8(0)
    for j in range(flag.size):
        found = np.uint8(found | flag[j])
    return found != 0


@leaf
def _set_limits(middle, spread, guard, limits):
    """Fill `_Limits` from the two middle values, scatter and guard."""
    half = np.float32(0.5)
    low, high = middle
    for j in range(spread.size):
        limits.below[j] = low[j] - guard[j]
        limits.above[j] = high[j] + guard[j]
        limits.own[j] = spread[j] * spread[j]
        limits.centre[j] = half * low[j] + half * high[j]


@leaf
def _first_round(samples, maps, y, rule, scratch, touched, n_touched):
    """Clip a row of pixels against the centre and scatter of all samples.

    Appends the pixels that lost one to the first `n_touched` of a list; returns the new number.
    """
    width = samples.values.shape[2]
    rows, flag, lost = scratch
    limits = _Limits(rows[0], rows[1], rows[2], rows[3])
    lost[:] = False
    _set_limits((maps.low[y], maps.high[y]), maps.spread[y], maps.guard[y], limits)
    for i in range(samples.values.shape[0]):
        fetch_row(samples, i, y)
        a, b = samples.span[i, y, 0], samples.span[i, y, 1]
        weight = samples.weights[i, y]
        row = (samples.values[i, y, a:b], weight[a:b], samples.alpha[i, y, a:b])
        here = (limits.below[a:b], limits.above[a:b], limits.own[a:b], limits.centre[a:b])
        _flag_row(row, here, noise_of(samples.noise, i), rule, flag[a:b])
        for first in range(a, b, SCAN):
            end = min(first + SCAN, b)
            if _any_flag(flag[first:end]):
                for x in range(first, end):
                    if flag[x]:
                        weight[x] = -weight[x]
                        maps.kept[y, x] -= 1
                        lost[x] = True
    for x in range(width):
        if lost[x]:
            touched[n_touched] = y * width + x
            n_touched += 1
    return n_touched


@leaf
def _winsor_moment(value, weight, low, high, scatter, total):
    half = np.float32(0.5)
    zero = np.float32(0)
    for j in range(value.size):
        d = value[j] - (half * low[j] + half * high[j])
        t = np.float32(1.5) * scatter[j]
        d = d if d < t else t
        d = d if d > -t else -t
        total[j] += d * d if weight[j] > 0 else zero


@part
def _winsorize(columns, m, width, line):
    """Scatter of the values pulled in to 1.5 sigma of the centre, times 1.134 (Huber's proposal 2)."""
    total = np.empty(SEGMENT, np.float32)
    for _ in range(WINSOR_ROUNDS):
        total[:] = 0
        for i in range(m):
            _winsor_moment(
                columns.values[i, :width], columns.weights[i, :width], line.low, line.high, line.spread, total
            )
        for j in range(width):
            if columns.count[j] >= MIN_SPREAD_COUNT:
                line.spread[j] = np.float32(1.134) * np.sqrt(total[j] / np.float32(columns.count[j] - 1))


@leaf
def _fit_line(columns, width, line):
    """Least-squares line through the inner three fifths of the sorted values against rank.

    Writes its slope, and as scatter 1.2533 times the mean absolute distance of those values from it.
    """
    buf = columns.ordered
    for j in range(width):
        k = columns.count[j]
        line.slope[j] = 0.0
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
        line.slope[j] = slope
        line.spread[j] = np.float32(1.2533) * distance / np.float32(k - 2 * t)


@leaf
def _find_middle(columns, m, width, line, table):
    """Centre of the samples left in each column, and their scatter by the range of the inner ones."""
    for j in range(width):
        columns.count[j] = 0
    for i in range(m):
        fill_columns(columns.values[i, :width], columns.weights[i, :width], columns.ordered[i], columns.count)
    sort_columns(columns.ordered, m, width)
    pick_middle(columns.ordered, columns.count, width, table, (line.low, line.high, line.spread))


@leaf
def _confirm_row(row, limits, noise, rule, flag, columns, slope):
    """Of the flagged samples keep those that are also far from the fitted line at their own rank."""
    value, weight, alpha = row
    count, buf = columns.count, columns.ordered
    for j in range(value.size):
        if flag[j]:
            r = 0
            while r < count[j] - 1 and buf[r, j] < value[j]:
                r += 1
            rise = slope[j] * abs(np.float32(r) - np.float32(0.5) * np.float32(count[j] - 1))
            limit = (limits.below[j] - rise, limits.above[j] + rise, limits.own[j], limits.centre[j])
            flag[j] = _is_outside((value[j], weight[j], alpha[j]), limit, noise, rule)


@part
def _mark_round(rule, samples, kept, columns, m, at):
    """Clip what lies outside; returns for each column whether it lost a sample.

    `at` holds the pixels of the columns, their `_Line`, their `_Limits`, and whether a line was fitted.
    """
    pixels, line, limits, is_fitted = at
    width = pixels.size
    lost, flag = np.zeros(width, np.bool_), np.empty(width, np.bool_)
    for i in range(m):
        f = columns.frame[i]
        weight = columns.weights[i, :width]
        row = (columns.values[i, :width], weight, columns.alpha[i, :width])
        noise = noise_of(samples.noise, f)
        _flag_row(row, (limits.below, limits.above, limits.own, limits.centre), noise, rule, flag)
        if not _any_flag(flag):
            continue
        if is_fitted:
            _confirm_row(row, limits, noise, rule, flag, columns, line.slope)
        for j in range(width):
            if flag[j]:
                samples.weights[f].reshape(-1)[pixels[j]] = -weight[j]
                kept.reshape(-1)[pixels[j]] -= 1
                weight[j] = 0.0
                lost[j] = True
    return lost


@leaf
def _move_to_front(columns, m, guard, pixels, lost):
    """Move the columns that lost a sample to the front; returns how many."""
    n = 0
    for j in range(lost.size):
        if lost[j]:
            pixels[n] = pixels[j]
            guard[n] = guard[j]
            for i in range(m):
                columns.values[i, n] = columns.values[i, j]
                columns.weights[i, n] = columns.weights[i, j]
                columns.alpha[i, n] = columns.alpha[i, j]
            n += 1
    return n


@part
def _open_batch(samples, maps, pixels, columns):
    """Gather at most `SEGMENT` pixels; returns rows used, `_Line` and `_Limits`."""
    rows = np.empty((9, SEGMENT), np.float32)
    line = _Line(rows[0], rows[1], rows[2], rows[3], rows[4])
    m, guard = gather_pixels(samples, pixels, columns), maps.guard.reshape(-1)
    for j in range(pixels.size):
        line.guard[j] = guard[pixels[j]]
    return m, line, _Limits(rows[5], rows[6], rows[7], rows[8])


@part
def _end_round(rule, samples, maps, columns, m, at):
    """Clip by the centre and scatter that were found; returns how many columns lost a sample, now the first ones."""
    pixels, line, limits, _ = at
    _set_limits((line.low, line.high), line.spread, line.guard, limits)
    low, high, spread = maps.low.reshape(-1), maps.high.reshape(-1), maps.spread.reshape(-1)
    for j in range(pixels.size):
        low[pixels[j]] = line.low[j]
        high[pixels[j]] = line.high[j]
        spread[pixels[j]] = line.spread[j]
    lost = _mark_round(rule, samples, maps.kept, columns, m, at)
    return _move_to_front(columns, m, line.guard, pixels, lost)


def clip_rows(rule: ClipRule, samples: Samples, maps: Maps, y0: int, y1: int, table: F4) -> None:
    """Clip the samples of rows `y0` to `y1`.

    Parameters
    ----------
    rule : ClipRule
    samples : Samples
    maps : Maps
        Middle values and scatter become those of the last round.
    y0, y1 : int
        Rows to do.
    table : ndarray, float32
        `spread_table` for n.
    """
    (clip_kappa, clip_winsorized, clip_linear_fit)[rule.scatter](rule, samples, maps, y0, y1, table)


# A kernel of its own each: to compile them takes seconds, and a run needs one.


@kernel
def clip_kappa(rule, samples, maps, y0, y1, table):
    """`clip_rows` by KAPPA_SIGMA."""
    columns = make_columns(samples.values.shape[0])
    w = samples.values.shape[2]
    # Few pixels of a row lose a sample: those of several rows make a batch.
    pixels, n_pixels = np.empty(SEGMENT + w, np.int64), 0
    scratch = np.empty((4, w), np.float32), np.empty(w, np.bool_), np.empty(w, np.bool_)
    for y in range(y0, y1):
        # The first round needs no sorting: the template's pass already found centre and scatter.
        n_pixels = _first_round(samples, maps, y, rule, scratch, pixels, n_pixels)
        begin = 0
        while n_pixels - begin >= SEGMENT or (begin < n_pixels and y == y1 - 1):
            end = min(begin + SEGMENT, n_pixels)
            _clip_again(rule, samples, maps, pixels[begin:end], columns, table)
            begin = end
        for k in range(begin, n_pixels):
            pixels[k - begin] = pixels[k]
        n_pixels -= begin


@part
def _clip_again(rule, samples, maps, batch, columns, table):
    """The rounds of `clip_kappa` behind the first, over at most `SEGMENT` pixels."""
    m, line, limits = _open_batch(samples, maps, batch, columns)
    width = batch.size
    for _ in range(rule.rounds - 1):
        _find_middle(columns, m, width, line, table)
        width = _end_round(rule, samples, maps, columns, m, (batch[:width], line, limits, False))
        if width == 0:
            break


@kernel
def clip_winsorized(rule, samples, maps, y0, y1, table):
    """`clip_rows` by WINSORIZED."""
    columns = make_columns(samples.values.shape[0])
    pixels = np.empty(SEGMENT, np.int64)
    for y in range(y0, y1):
        for x0 in range(0, samples.values.shape[2], SEGMENT):
            batch = _take_segment(pixels, y, x0, samples.values.shape[2])
            m, line, limits = _open_batch(samples, maps, batch, columns)
            width = batch.size
            for _ in range(rule.rounds):
                _find_middle(columns, m, width, line, table)
                _winsorize(columns, m, width, line)
                width = _end_round(rule, samples, maps, columns, m, (batch[:width], line, limits, False))
                if width == 0:
                    break


@kernel
def clip_linear_fit(rule, samples, maps, y0, y1, table):
    """`clip_rows` by LINEAR_FIT."""
    columns = make_columns(samples.values.shape[0])
    pixels = np.empty(SEGMENT, np.int64)
    for y in range(y0, y1):
        for x0 in range(0, samples.values.shape[2], SEGMENT):
            batch = _take_segment(pixels, y, x0, samples.values.shape[2])
            m, line, limits = _open_batch(samples, maps, batch, columns)
            width = batch.size
            for _ in range(rule.rounds):
                _find_middle(columns, m, width, line, table)
                _fit_line(columns, width, line)
                width = _end_round(rule, samples, maps, columns, m, (batch[:width], line, limits, True))
                if width == 0:
                    break


@part
def _take_segment(pixels, y, x0, w):
    """Pixels of row `y` from column `x0` on, as many as are done together."""
    n = min(SEGMENT, w - x0)
    for j in range(n):
        pixels[j] = y * w + x0 + j
    return pixels[:n]
