"""Kernels of combining against plain numpy versions, on random and edge inputs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.kernels.stack import clip, combine, grow, order, template, trim
from zemosaic.kernels.stack import normal_tables as normal
from zemosaic.kernels.stack.samples import FrameNoise, Maps, Planes, Samples

KAPPA = (3.0, 2.5)


def make_samples(seed: int, n: int, h: int = 5, w: int = 70, kind: str = "noise"):
    """Samples with gaps, unequal noise, tapers, outliers, and garbage where the weight is 0."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(5, 20, (n, 1, 1))
    alpha = np.where(rng.random((n, h, w)) < 0.3, rng.integers(1, 127, (n, h, w)), 127)
    values = {
        "noise": 100 + sigma * rng.normal(size=(n, h, w)),
        "equal": np.full((n, h, w), 7.25),
        "negative": -1e3 + sigma * rng.normal(size=(n, h, w)),
        "huge": 1e6 * rng.normal(size=(n, h, w)),
    }[kind]
    if kind in {"noise", "negative"}:
        values += np.where(rng.random((n, h, w)) < 0.06, 400 * rng.normal(size=(n, h, w)), 0)
    weights = alpha / 127 / sigma**2
    gone = rng.random((n, h, w)) < np.linspace(0, 1, w)
    values = np.where(gone & (rng.random((n, h, w)) < 0.5), 1e30, values)
    weights[gone] = 0
    saturated = np.where(rng.random((n, h, w)) < 0.05, 128, 0)
    noise = FrameNoise(
        rng.choice(np.array([0.5, 1], np.float32), n),
        np.full(n, 90, np.float32),
        rng.choice([0, 1], n).astype(np.float32) * rng.uniform(0, 2e-3, n).astype(np.float32),
    )
    weights = weights.astype(np.float32)
    return Samples(values.astype(np.float32), weights, (alpha + saturated).astype(np.uint8), noise, spans(weights))


def spans(weights):
    """First and end column with weight of each row of each frame."""
    n, h, w = weights.shape
    span = np.full((n, h, 2), -1, np.int32)
    order.find_spans(weights.astype(np.float32), np.array([[0, h, 0, w]] * n, np.int32), 0, h, span)
    return span


CASES = [(1, 1, "noise"), (2, 2, "noise"), (3, 3, "noise"), (4, 4, "negative"), (5, 5, "noise"), (6, 7, "noise")]
CASES += [(7, 24, "noise"), (8, 24, "equal"), (9, 9, "huge"), (10, 61, "noise")]


def run_template(samples, factor=0.0, radius=1.3):
    n, h, w = samples.values.shape
    low, high, spread, precision, median, variance, guard = np.full((7, h, w), np.nan, np.float32)
    maps = Maps(low, high, spread, guard, np.full((h, w), -1, np.int32))
    template.template_rows(samples, maps, 0, h, normal.spread_table(n), precision)
    template.median_rows(maps, precision, 0, h, median, variance)
    template.steepness_rows((median, variance), (0, h), radius, 5.0, factor, guard)
    return maps, median, variance


def variance_of(samples, i, centre):
    """Variances of single samples of frames `i` where the stack's level is `centre`; inf without weight."""
    weight = np.abs(samples.weights[i].astype(np.float64))
    share, sky, slope = (a[i].astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1)) for a in samples.noise)
    with np.errstate(divide="ignore"):
        plain = (samples.alpha[i] & 127) / 127 / weight
    return share * plain * (1 + slope * np.maximum(centre - sky, 0))


# ---- plain versions -------------------------------------------------------------------------------------------------


def plain_middle(x):
    """Lower and upper middle value and scatter of the inner values."""
    x = np.sort(np.asarray(x, np.float64))
    k = len(x)
    if k == 0:
        return 0.0, 0.0, 0.0
    t = k // 5
    spread = (x[k - 1 - t] - x[t]) * float(normal.spread_table(k)[k]) if k >= 5 else 0.0
    return x[(k - 1) // 2], x[k // 2], spread


def plain_winsorized(x, low, high, spread):
    for _ in range(clip.WINSOR_ROUNDS):
        pulled = np.clip(x - (low + high) / 2, -1.5 * spread, 1.5 * spread)
        spread = 1.134 * np.sqrt((pulled**2).sum() / (len(x) - 1))
    return spread


def plain_line(x):
    """Slope and scatter of a line through the inner sorted values, and the ranks of all values."""
    inner = np.sort(x)[len(x) // 5 : len(x) - len(x) // 5]
    rank = np.arange(len(inner)) - (len(inner) - 1) / 2
    slope, middle = np.polyfit(rank, inner, 1)
    return slope, 1.2533 * np.abs(inner - middle - slope * rank).mean()


def plain_clip(method, v, variance_at, guard, rounds):
    """Which samples of one pixel survive, and the middle values of the last round."""
    kept = np.ones(len(v), bool)
    low = high = 0.0
    for _ in range(rounds):
        low, high, spread = plain_middle(v[kept])
        rise = np.zeros(len(v))
        if kept.sum() >= 5 and method == clip.WINSORIZED:
            spread = plain_winsorized(v[kept], low, high, spread)
        if kept.sum() >= 5 and method == clip.LINEAR_FIT:
            slope, spread = plain_line(v[kept])
            rank = np.minimum(np.searchsorted(np.sort(v[kept]), v), kept.sum() - 1)
            rise = slope * np.abs(rank - (kept.sum() - 1) / 2)
        noise = np.sqrt(variance_at((low + high) / 2))
        limit = np.maximum(spread, noise)
        bad = (v - high > KAPPA[1] * limit + guard + rise) | (low - v > KAPPA[0] * limit + guard + rise)
        if not (bad & kept).any():
            break
        kept &= ~bad
    return kept, low, high


def plain_esd(v, variance_at, guard, share, critical):
    """Rosner's test as written: remove the farthest value again and again, keep the last significant count."""
    low, high, _ = plain_middle(v)
    centre = (low + high) / 2
    z = np.sign(v - centre) * np.maximum(np.abs(v - centre) - guard, 0)
    z /= np.sqrt(variance_at(centre))
    left = list(range(len(v)))
    out = 0
    order_out = []
    for i in range(int(share * len(v))):
        rest = z[left]
        m = len(left)
        far = int(np.argmax(np.abs(rest - rest.mean())))
        distance = abs(rest[far] - rest.mean())
        order_out.append(left.pop(far))
        own = m < 5 or distance > critical[0, m] * rest.std(ddof=1)
        if own and distance > critical[1, m]:
            out = i + 1
    kept = np.ones(len(v), bool)
    kept[order_out[:out]] = False
    return kept


def columns(samples):
    """Every pixel's samples: position, frames, values, and a function that gives their variances at a level."""
    for where in np.ndindex(samples.values.shape[1:]):
        frames = np.flatnonzero(samples.weights[:, *where] > 0)
        v = samples.values[(frames, *where)].astype(np.float64)
        here = samples._replace(weights=samples.weights[:, *where], alpha=samples.alpha[:, *where])
        yield where, frames, v, partial(variance_of, here, frames)


# ---- order and template ---------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 130))
@settings(deadline=None, max_examples=25)
def test_columns_come_out_sorted(seed, m, width):
    rng = np.random.default_rng(seed)
    buf = rng.integers(-5, 5, (m + 1, 256)).astype(np.float32)
    buf[rng.random(buf.shape) < 0.2] = np.inf
    want = np.sort(buf[:m, :width], axis=0)
    order.sort_columns(buf, m, width)
    np.testing.assert_array_equal(buf[:m, :width], want)


def test_spans_hold_all_samples():
    weights = np.zeros((2, 3, 50))
    weights[0, 0, 7] = weights[0, 1, 0] = weights[0, 1, 49] = weights[1, 2, 20:30] = 1
    want = np.zeros((2, 3, 2))
    want[0, 0], want[0, 1], want[1, 2] = (7, 8), (0, 50), (20, 30)
    np.testing.assert_array_equal(spans(weights), want)


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_template_is_median_scatter_and_count(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    maps, median, variance = run_template(samples)
    for where, frames, v, variance_at in columns(samples):
        want = plain_middle(v)
        np.testing.assert_allclose((maps.low[where], maps.high[where], maps.spread[where]), want, rtol=1e-5, atol=1e-5)
        assert maps.kept[where] == len(frames)
        # Of two samples the lower: a trail in one of them is no part of the sky's own steepness.
        middle = np.min(v) if len(v) == 2 else np.median(v) if len(v) else 0
        np.testing.assert_allclose(median[where], middle, rtol=1e-6)
        np.testing.assert_allclose(
            variance[where], np.pi / 2 / np.sum(1 / variance_at(-np.inf)) if len(v) else np.inf, rtol=1e-5
        )


def test_spread_table_is_unbiased():
    rng = np.random.default_rng(3)
    for k in (5, 6, 10, 23, 60):
        mean = np.mean([plain_middle(x)[2] for x in rng.normal(size=(4000, k))])
        assert abs(mean - 1) < 0.025


@pytest.mark.parametrize("radius", [0.4, 1.3, 2.0, 3.1])
def test_steepness_is_the_largest_change_nearby(radius):
    rng = np.random.default_rng(4)
    median = rng.normal(size=(9, 14)).astype(np.float32) * 10
    variance = rng.uniform(0, 1, median.shape).astype(np.float32)
    variance[rng.random(median.shape) < 0.2] = np.inf
    guard = np.empty_like(median)
    template.steepness_rows((median, variance), (0, 9), radius, 2.0, 1.2, guard)
    reach = int(radius + 0.5)
    for y, x in np.ndindex(median.shape):
        best = 0.0
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                far = np.hypot(dy, dx)
                if 0 < far <= radius + 0.5 and 0 <= y + dy < 9 and 0 <= x + dx < 14:
                    change = min(1, radius / far) * (float(median[y + dy, x + dx]) - float(median[y, x]))
                    best = max(best, change**2 - 4 * (variance[y, x] + variance[y + dy, x + dx]))
        np.testing.assert_allclose(guard[y, x], 1.2 * np.sqrt(best), rtol=1e-4, atol=1e-4)


# ---- clipping -------------------------------------------------------------------------------------------------------


def rule_of(method, rounds=5):
    return clip.ClipRule(method, np.float32(KAPPA[0]), np.float32(KAPPA[1]), rounds)


@pytest.mark.parametrize("rounds", [1, 5])
@pytest.mark.parametrize("method", [clip.KAPPA_SIGMA, clip.WINSORIZED, clip.LINEAR_FIT])
@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_clipping_matches_plain_version(seed, n, kind, method, rounds):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps.guard[:] = np.random.default_rng(seed).uniform(0, 10, maps.guard.shape) * (np.arange(70) % 3 == 0)
    before = samples.weights.copy()
    clip.clip_rows(rule_of(method, rounds), samples, maps, 0, 5, normal.spread_table(n))
    np.testing.assert_array_equal(np.abs(samples.weights), before)
    for where, frames, v, variance_at in columns(samples._replace(weights=before)):
        kept, low, high = plain_clip(method, v, variance_at, maps.guard[where], rounds)
        np.testing.assert_array_equal(samples.weights[(frames, *where)] > 0, kept)
        np.testing.assert_allclose((maps.low[where], maps.high[where]), (low, high), rtol=1e-6)
        assert maps.kept[where] == kept.sum()


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_esd_matches_plain_version(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps.guard[:, ::3] = 5.0
    before = samples.weights.copy()
    critical = normal.esd_critical(n, 0.05)
    trim.trim_esd_rows(samples, maps, 0, 5, 0.3, critical, normal.spread_table(n))
    for where, frames, v, variance_at in columns(samples._replace(weights=before)):
        kept = plain_esd(v, variance_at, maps.guard[where], 0.3, critical)
        np.testing.assert_array_equal(samples.weights[(frames, *where)] > 0, kept)
        low, high, _ = plain_middle(v[kept])
        np.testing.assert_allclose((maps.low[where], maps.high[where]), (low, high), rtol=1e-6)


def test_esd_critical_values_are_those_published():
    """Rosner's table for n = 54 at 5 %, as reprinted in the NIST handbook (section 1.3.5.17.3)."""
    critical = normal.esd_critical(54, 0.05)[0]
    np.testing.assert_allclose(critical[[54, 53, 52, 45]], [3.158, 3.151, 3.143, 3.085], atol=0.0015)


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_minmax_drops_the_extremes(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps.guard[:, ::3] = 5.0
    before = samples.weights.copy()
    trim.trim_minmax_rows(samples, maps, 0, 5, 1, 2)
    for where, frames, v, _ in columns(samples._replace(weights=before)):
        first, last = -np.inf, np.inf
        if len(v) > 3:
            first, last = np.sort(v)[[1, len(v) - 3]]
            if maps.guard[where] > 0:
                low, high, _ = plain_middle(v)
                first, last = min(first, low - 5), max(last, high + 5)
        np.testing.assert_array_equal(samples.weights[(frames, *where)] > 0, (v >= first) & (v <= last))


def plain_grow(samples, maps, threshold, passes):
    """Regions grown frame by frame with whole-image masks."""
    values, weights = (a.astype(np.float64) for a in (samples.values, samples.weights))
    centre = (maps.low.astype(np.float64) + maps.high) / 2
    kept = maps.kept.copy()
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]

    def around(a):
        padded = np.pad(a, 1)
        h, w = a.shape
        return np.array([padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w] for dy, dx in shifts])

    for i in range(len(values)):
        there = weights[i] != 0
        noise = np.where(there, np.sqrt(variance_of(samples, np.array([i]), centre)[0]), 1)
        d = values[i] - centre
        z = np.sign(d) * np.minimum(np.maximum(np.abs(d) - maps.guard, 0) / noise, 4)
        mean = around(np.where(there, z, 0)).sum(0) / np.maximum(around(there.astype(float)).sum(0), 1)
        for sign in (1, -1):
            marked = (weights[i] < 0) & ((d > 0) == (sign > 0))
            region = marked & (around(marked).sum(0) >= 3)
            for _ in range(passes):
                region |= around(region).any(0) & there & (sign * mean > threshold)
            new = region & (weights[i] > 0) & (kept > 1)
            kept -= new
            weights[i][new] *= -1
    return weights


@pytest.mark.parametrize("passes", [1, 3])
def test_growing_matches_plain_version(passes):
    samples = make_samples(11, 9, h=40, w=60)
    yy, xx = np.mgrid[:40, :60]
    samples.values[4] += 90 * np.exp(-(((yy - 0.6 * xx) / 3) ** 2)).astype(np.float32)
    samples.values[2] -= 60 * np.exp(-(((yy + 0.4 * xx - 30) / 2) ** 2)).astype(np.float32)
    maps, _, _ = run_template(samples)
    clip.clip_rows(rule_of(clip.KAPPA_SIGMA), samples, maps, 0, 40, normal.spread_table(9))
    want = plain_grow(samples, maps, 1.0, passes)
    n_before = (samples.weights < 0).sum()
    grow.grow_frames(samples, maps, 0, 9, np.float32(1.0), passes)
    np.testing.assert_array_equal(samples.weights < 0, want < 0)
    assert (samples.weights < 0).sum() > n_before + 100
    np.testing.assert_array_equal(maps.kept, (samples.weights > 0).sum(0))


def make_planes(shape):
    """Planes full of what no kernel may leave."""
    data, weight, variance, exposure = np.full((4, *shape), np.nan, np.float32)
    coverage, rejected, saturated = np.full((3, *shape), -1, np.int16)
    return Planes(data, weight, variance, coverage, rejected, exposure, saturated)


# ---- sums -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_mean_matches_plain_version(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    values, weights, alpha = samples[:3]
    weights[np.random.default_rng(seed).random(weights.shape) < 0.1] *= -1
    exposures = np.arange(1, n + 1, dtype=np.float32)
    planes = make_planes((4, 60))
    combine.combine_rows(samples, exposures, 0, 4, (1, 8), planes, np.empty((4, len(exposures), 2), np.int32))
    v, w, a = (c[:, 1:5, 8:68] for c in (values, weights, alpha))
    keep = w > 0
    kept = np.where(keep, w, 0).astype(np.float64)
    total = kept.sum(0)
    safe = np.where(total > 0, total, 1)
    mean = (kept * np.where(keep, v, 0)).sum(0) / safe
    np.testing.assert_allclose(planes.data, mean, rtol=1e-6)
    np.testing.assert_allclose(planes.weight, total, rtol=1e-6)
    # The light's noise is that of the mean's level over the sky of all samples together.
    _, sky, slope = (part[:, None, None].astype(np.float64) for part in samples.noise)
    plain = (kept * (a & 127) / 127).sum(0)
    light = (kept * (a & 127) / 127 * slope * (mean - sky)).sum(0)
    np.testing.assert_allclose(planes.variance, (plain + np.maximum(light, 0)) / safe**2, rtol=2e-6)
    np.testing.assert_array_equal(planes.coverage, (w != 0).sum(0))
    np.testing.assert_array_equal(planes.rejected, (w < 0).sum(0))
    np.testing.assert_array_equal(planes.exposure, (keep * exposures[:, None, None]).sum(0))
    np.testing.assert_array_equal(planes.saturated, (keep & (a > 127)).sum(0))


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_median_matches_plain_version(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps.guard[:, ::3] = 5.0
    maps.guard[:, ::7] = np.inf
    h, w = maps.low.shape
    planes = make_planes((h, w))
    planes.coverage[:], planes.weight[:] = maps.kept, samples.weights.sum(0, dtype=np.float64)
    combine.finish_median(samples, maps, 0, h, (0, 0), planes)
    data, variance = planes.data, planes.variance
    for where, frames, v, _ in columns(samples):
        if len(v) == 0:
            assert data[where] == 0
            assert variance[where] == 0
            continue
        pulled = np.clip(v - np.median(v), -maps.guard[where], maps.guard[where])
        want = np.median(v) + np.average(pulled, weights=samples.weights[(frames, *where)])
        np.testing.assert_allclose(data[where], want, rtol=2e-6, atol=np.abs(v).max() * 1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 25])
def test_variances_are_those_of_simulated_noise(n):
    """Median and minmax state the scatter they really have."""
    rng = np.random.default_rng(n)
    values = rng.normal(size=(n, 100, 300)).astype(np.float32)
    weights = np.ones_like(values)
    alpha = np.full(values.shape, 127, np.uint8)
    samples = Samples(values, weights, alpha, FrameNoise.of_sky((n,)), spans(weights))
    maps, _, _ = run_template(samples)
    planes = make_planes((100, 300))
    planes.coverage[:], planes.weight[:] = n, n
    combine.finish_median(samples, maps, 0, 100, (0, 0), planes)
    data, variance = planes.data, planes.variance
    np.testing.assert_allclose(variance[0, 0], data.var(), rtol=0.04)
    if n > 2:
        trimmed = np.sort(values, axis=0)[1:-1].mean(0).var()
        np.testing.assert_allclose(normal.trimmed_variance(n, 1, 1)[n] / (n - 2), trimmed, rtol=0.06)
