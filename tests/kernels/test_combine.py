"""Kernels of combining against plain numpy versions, on random and edge inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.kernels.stack import clip, combine, grow, order, template, trim
from zemosaic.kernels.stack import normal_tables as normal

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
    return (
        values.astype(np.float32),
        weights.astype(np.float32),
        (alpha + saturated).astype(np.uint8),
        np.full(n, 90, np.float32),
        rng.uniform(0, 0.5, n).astype(np.float32),
        spans(weights),
    )


def spans(weights):
    """First and end column with weight of each row of each frame."""
    span = np.full((*weights.shape[:2], 2), -1, np.int32)
    order.find_spans(weights.astype(np.float32), 0, weights.shape[1], span)
    return span


CASES = [(1, 1, "noise"), (2, 2, "noise"), (3, 3, "noise"), (4, 4, "negative"), (5, 5, "noise"), (6, 7, "noise")]
CASES += [(7, 24, "noise"), (8, 24, "equal"), (9, 9, "huge"), (10, 61, "noise")]


def run_template(samples, factor=0.0, radius=1.3):
    n, h, w = samples[0].shape
    low, high, spread, precision, median, variance, guard = np.full((7, h, w), np.nan, np.float32)
    count = np.full((h, w), -1, np.int32)
    table = normal.spread_table(n)
    template.template_rows(samples, 0, h, table, low, high, spread, precision, count)
    template.median_rows(low, high, precision, 0, h, median, variance)
    template.steepness_rows(median, variance, 0, h, radius, 5.0, factor, guard)
    return (low, high, spread, guard, count), median, variance


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


def plain_clip(method, v, variance, sky, poisson, guard, rounds):
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
        noise = np.sqrt(variance + poisson * np.maximum((low + high) / 2 - sky, 0))
        limit = np.maximum(spread, noise)
        bad = (v - high > KAPPA[1] * limit + guard + rise) | (low - v > KAPPA[0] * limit + guard + rise)
        if not (bad & kept).any():
            break
        kept &= ~bad
    return kept, low, high


def plain_esd(v, variance, sky, poisson, guard, share, critical):
    """Rosner's test as written: remove the farthest value again and again, keep the last significant count."""
    low, high, _ = plain_middle(v)
    centre = (low + high) / 2
    z = np.sign(v - centre) * np.maximum(np.abs(v - centre) - guard, 0)
    z /= np.sqrt(variance + poisson * np.maximum(centre - sky, 0))
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
    """Every pixel's samples: position, frames, values, variances."""
    values, weights, alpha, _, _, _ = samples
    for y, x in np.ndindex(values.shape[1:]):
        frames = np.flatnonzero(weights[:, y, x] > 0)
        v = values[frames, y, x].astype(np.float64)
        variance = (alpha[frames, y, x] & 127) / 127 / weights[frames, y, x].astype(np.float64)
        yield (y, x), frames, v, variance


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
    (low, high, spread, _, count), median, variance = run_template(samples)
    for where, frames, v, var in columns(samples):
        want = plain_middle(v)
        np.testing.assert_allclose((low[where], high[where], spread[where]), want, rtol=1e-5, atol=1e-5)
        assert count[where] == len(frames)
        np.testing.assert_allclose(median[where], np.median(v) if len(v) else 0, rtol=1e-6)
        np.testing.assert_allclose(variance[where], np.pi / 2 / np.sum(1 / var) if len(v) else np.inf, rtol=1e-5)


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
    template.steepness_rows(median, variance, 0, 9, radius, 2.0, 1.2, guard)
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


@pytest.mark.parametrize("rounds", [1, 5])
@pytest.mark.parametrize("method", [clip.KAPPA_SIGMA, clip.WINSORIZED, clip.LINEAR_FIT])
@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_clipping_matches_plain_version(seed, n, kind, method, rounds):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps[3][:] = np.random.default_rng(seed).uniform(0, 10, maps[3].shape) * (np.arange(70) % 3 == 0)
    before = samples[1].copy()
    kappa = np.array(KAPPA, np.float32)
    clip.clip_rows(method, samples, maps, 0, 5, kappa, rounds, normal.spread_table(n))
    np.testing.assert_array_equal(np.abs(samples[1]), before)
    for where, frames, v, var in columns((samples[0], before, *samples[2:])):
        sky, poisson = samples[3][frames], samples[4][frames]
        kept, low, high = plain_clip(method, v, var, sky, poisson, maps[3][where], rounds)
        np.testing.assert_array_equal(samples[1][(frames, *where)] > 0, kept)
        np.testing.assert_allclose((maps[0][where], maps[1][where]), (low, high), rtol=1e-6)
        assert maps[4][where] == kept.sum()


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_esd_matches_plain_version(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps[3][:, ::3] = 5.0
    before = samples[1].copy()
    critical = normal.esd_critical(n, 0.05)
    trim.trim_esd_rows(samples, maps, 0, 5, 0.3, critical, normal.spread_table(n))
    for where, frames, v, var in columns((samples[0], before, *samples[2:])):
        kept = plain_esd(v, var, samples[3][frames], samples[4][frames], maps[3][where], 0.3, critical)
        np.testing.assert_array_equal(samples[1][(frames, *where)] > 0, kept)
        low, high, _ = plain_middle(v[kept])
        np.testing.assert_allclose((maps[0][where], maps[1][where]), (low, high), rtol=1e-6)


def test_esd_critical_values_are_those_published():
    """Rosner's table for n = 54 at 5 %, as reprinted in the NIST handbook (section 1.3.5.17.3)."""
    critical = normal.esd_critical(54, 0.05)[0]
    np.testing.assert_allclose(critical[[54, 53, 52, 45]], [3.158, 3.151, 3.143, 3.085], atol=0.0015)


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_minmax_drops_the_extremes(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps[3][:, ::3] = 5.0
    before = samples[1].copy()
    trim.trim_minmax_rows(samples, maps, 0, 5, 1, 2)
    for where, frames, v, _ in columns((samples[0], before, *samples[2:])):
        first, last = -np.inf, np.inf
        if len(v) > 3:
            first, last = np.sort(v)[[1, len(v) - 3]]
            if maps[3][where] > 0:
                low, high, _ = plain_middle(v)
                first, last = min(first, low - 5), max(last, high + 5)
        np.testing.assert_array_equal(samples[1][(frames, *where)] > 0, (v >= first) & (v <= last))


def plain_grow(samples, maps, threshold, passes):
    """Regions grown frame by frame with whole-image masks."""
    values, weights, _, sky, poisson = (a.astype(np.float64) for a in samples[:5])
    centre = (maps[0].astype(np.float64) + maps[1]) / 2
    kept = maps[4].copy()
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]

    def around(a):
        padded = np.pad(a, 1)
        h, w = a.shape
        return np.array([padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w] for dy, dx in shifts])

    for i in range(len(values)):
        there = weights[i] != 0
        noise = np.where(there, (samples[2][i] & 127) / 127 / np.abs(np.where(there, weights[i], 1)), 1)
        noise = np.sqrt(noise + poisson[i] * np.maximum(centre - sky[i], 0))
        d = values[i] - centre
        z = np.sign(d) * np.minimum(np.maximum(np.abs(d) - maps[3], 0) / noise, 4)
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
    samples[0][4] += 90 * np.exp(-(((yy - 0.6 * xx) / 3) ** 2)).astype(np.float32)
    samples[0][2] -= 60 * np.exp(-(((yy + 0.4 * xx - 30) / 2) ** 2)).astype(np.float32)
    maps, _, _ = run_template(samples)
    kappa = np.array(KAPPA, np.float32)
    clip.clip_rows(clip.KAPPA_SIGMA, samples, maps, 0, 40, kappa, 5, normal.spread_table(9))
    want = plain_grow(samples, maps, 1.0, passes)
    n_before = (samples[1] < 0).sum()
    grow.grow_frames(samples, maps, 0, 9, np.float32(1.0), passes)
    np.testing.assert_array_equal(samples[1] < 0, want < 0)
    assert (samples[1] < 0).sum() > n_before + 100
    np.testing.assert_array_equal(maps[4], (samples[1] > 0).sum(0))


# ---- sums -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_mean_matches_plain_version(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    values, weights, alpha = samples[:3]
    weights[np.random.default_rng(seed).random(weights.shape) < 0.1] *= -1
    exposures = np.arange(1, n + 1, dtype=np.float32)
    data, weight, variance, exposure = np.full((4, 4, 60), np.nan, np.float32)
    coverage, rejected = np.full((2, 4, 60), -1, np.int16)
    saturated = np.full((4, 60), 9, np.uint8)
    out = (data, weight, variance, coverage, rejected, exposure, saturated)
    combine.combine_rows(samples, exposures, 0, 4, 1, 8, *out)
    v, w, a = (c[:, 1:5, 8:68] for c in (values, weights, alpha))
    keep = w > 0
    kept = np.where(keep, w, 0).astype(np.float64)
    total = kept.sum(0)
    safe = np.where(total > 0, total, 1)
    np.testing.assert_allclose(data, (kept * np.where(keep, v, 0)).sum(0) / safe, rtol=1e-6)
    np.testing.assert_allclose(weight, total, rtol=1e-6)
    np.testing.assert_allclose(variance, (kept * (a & 127) / 127).sum(0) / safe**2, rtol=1e-6)
    np.testing.assert_array_equal(coverage, (w != 0).sum(0))
    np.testing.assert_array_equal(rejected, (w < 0).sum(0))
    np.testing.assert_array_equal(exposure, (keep * exposures[:, None, None]).sum(0))
    np.testing.assert_array_equal(saturated, (keep & (a > 127)).any(0))


@pytest.mark.parametrize(("seed", "n", "kind"), CASES)
def test_median_matches_plain_version(seed, n, kind):
    samples = make_samples(seed, n, kind=kind)
    maps, _, _ = run_template(samples)
    maps[3][:, ::3] = 5.0
    maps[3][:, ::7] = np.inf
    h, w = maps[0].shape
    data, variance = np.full((2, h, w), np.nan, np.float32)
    coverage = maps[4].astype(np.int16)
    weight = samples[1].sum(0, dtype=np.float64).astype(np.float32)
    combine.finish_median(samples, maps, 0, h, 0, 0, coverage, weight, data, variance)
    for where, frames, v, _ in columns(samples):
        if len(v) == 0:
            assert data[where] == 0
            assert variance[where] == 0
            continue
        pulled = np.clip(v - np.median(v), -maps[3][where], maps[3][where])
        want = np.median(v) + np.average(pulled, weights=samples[1][(frames, *where)])
        np.testing.assert_allclose(data[where], want, rtol=2e-6, atol=np.abs(v).max() * 1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 25])
def test_variances_are_those_of_simulated_noise(n):
    """Median and minmax state the scatter they really have."""
    rng = np.random.default_rng(n)
    values = rng.normal(size=(n, 100, 300)).astype(np.float32)
    weights = np.ones_like(values)
    alpha = np.full(values.shape, 127, np.uint8)
    samples = (values, weights, alpha, *np.zeros((2, n), np.float32), spans(weights))
    maps, _, _ = run_template(samples)
    data, variance = np.empty((2, 100, 300), np.float32)
    weight = np.full((100, 300), n, np.float32)
    combine.finish_median(samples, maps, 0, 100, 0, 0, maps[4].astype(np.int16), weight, data, variance)
    np.testing.assert_allclose(variance[0, 0], data.var(), rtol=0.04)
    if n > 2:
        trimmed = np.sort(values, axis=0)[1:-1].mean(0).var()
        np.testing.assert_allclose(normal.trimmed_variance(n, 1, 1)[n] / (n - 2), trimmed, rtol=0.06)
