"""Stacking patches: star fluxes, trails, cosmic rays, and results that depend on nothing but the samples."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.errors import Cancelled
from zemosaic.model.box import Box
from zemosaic.settings import StackSettings
from zemosaic.stages.stack import passes as stack_passes
from zemosaic.stages.stack import stack
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.stack import Cube, FrameNoise, MeanStack, StackedPatch, border_px, stack_cube

FWHM = 2.6
SIGMA = 10.0
SKY = 100.0
CLIPPING = [name for name, method in METHODS.items() if method.grows]
FIELDS = ("data", "weight", "variance", "coverage", "rejected", "exposure", "saturated")


def cube_of(values, weights=None, alpha=None, share=1.0, slope=0.0):
    """A cube of samples of equal noise, from values of shape (n, h, w)."""
    values = np.array(values, np.float32)[None]
    n = values.shape[1]
    weights = np.full(values.shape, 1 / SIGMA**2, np.float32) if weights is None else weights[None].copy()
    alpha = np.full(values.shape, 127, np.uint8) if alpha is None else alpha[None].copy()
    noise = FrameNoise(*(np.full((1, n), number, np.float32) for number in (share, SKY, slope)))
    return Cube(values, weights, alpha, noise, np.arange(1, n + 1, dtype=np.float32), np.zeros(n, bool))


def run(values, method="kappa_sigma", weights=None, alpha=None, inner=None, each=map, **keys) -> StackedPatch:
    settings_ = StackSettings(method=method, **keys)
    return stack_cube(cube_of(values, weights, alpha), FWHM, settings_, inner, each=each)


def messy(seed, n=9, h=48, w=75):
    """Values (n, h, w), weights and alpha of a patch with stars, gaps, tapers, trails and cosmic rays."""
    rng = np.random.default_rng(seed)
    values = rng.normal(SKY, SIGMA, (n, h, w))
    yy, xx = np.mgrid[:h, :w]
    for _ in range(12):
        y, x, peak = rng.uniform(0, h), rng.uniform(0, w), rng.uniform(5, 3000)
        for i in range(n):
            s = FWHM * rng.uniform(0.8, 1.2) / 2.355
            values[i] += peak / s**2 * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 2 / s**2)
    values[n // 2] += 12 * SIGMA * np.exp(-(((yy - 0.7 * xx) / 2) ** 2))
    values += np.where(rng.random((n, h, w)) < 0.003, rng.normal(0, 500, (n, h, w)), 0)
    alpha = np.full((n, h, w), 127, np.uint8)
    for i in range(n):
        edge = rng.integers(0, w // 2)
        alpha[i, :, : edge + 20] = np.clip(np.arange(edge + 20) - edge, 0, 18) * 7 + 1
    alpha[rng.random(alpha.shape) < 0.01] |= 128
    weights = ((alpha & 127) / 127 / SIGMA**2).astype(np.float32)
    weights[(alpha & 127) == 1] = 0
    return values.astype(np.float32), weights, alpha


def same_bytes(a: StackedPatch, b: StackedPatch) -> bool:
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in FIELDS)


# ---- what must never change -----------------------------------------------------------------------------------------


def test_samples_are_counted_frame_by_frame() -> None:
    values, weights, alpha = messy(5)
    made = run(values, weights=weights, alpha=alpha, inner=Box(4, 40, 5, 70))
    samples, clipped = np.array(made.by_frame).T
    assert (samples.sum(), clipped.sum()) == (made.coverage.sum(), made.rejected.sum())
    assert clipped.argmax() == len(values) // 2  # the one with the trail
    assert np.array_equal(samples, (weights > 0)[:, 4:40, 5:70].sum(axis=(1, 2)))


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 8), level=st.sampled_from([0.0, 7.25, -3.5e4, 1e30]))
@settings(deadline=None, max_examples=10)
def test_constant_in_constant_out(method, seed, n, level):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(1e-6, 1e6, (n, 6, 40)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.3] = 0
    values = np.where(weights > 0, level, np.nan)
    out = run(values, method, weights, rng.integers(1, 127, weights.shape).astype(np.uint8))
    there = (weights > 0).any(0)
    np.testing.assert_array_equal(out.data[0], np.where(there, np.float32(level), 0))
    np.testing.assert_array_equal(out.coverage[0], (weights > 0).sum(0))
    assert not out.rejected.any()
    assert np.all(np.isfinite(out.variance))
    assert np.array_equal(out.weight[0] > 0, there)


@pytest.mark.parametrize("method", METHODS)
def test_what_has_no_weight_is_not_looked_at(method):
    """Memory that patches take turns with holds there what another patch left."""
    values, weights, alpha = messy(4)
    rng = np.random.default_rng(4)
    weights[2, :, :30] = weights[5, 20:] = weights[7, 8:40, 50:70] = 0
    alpha[weights == 0] = 0
    there = weights > 0
    wild = np.where(there, values, rng.choice([np.nan, np.inf, -3e38, 1e9], values.shape))
    marks = np.where(there, alpha, rng.integers(0, 256, alpha.shape)).astype(np.uint8)
    clean = run(np.where(there, values, 0), method, weights, alpha, region_sigma=4.0)
    assert clean.rejected.any() or not METHODS[method].clip
    found = run(wild, method, weights, marks, region_sigma=4.0)
    assert all(getattr(found, field).tobytes() == getattr(clean, field).tobytes() for field in FIELDS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [1, 2])
def test_result_does_not_depend_on_the_cut(method, seed):
    values, weights, alpha = messy(seed)
    keys = {"method": method, "grow_px": 3}
    whole = run(values, weights=weights, alpha=alpha, **keys)
    border = border_px(StackSettings(**keys), FWHM)
    image = Box.of_shape(values.shape[1:])
    for size in (20, 37):
        for inner in image.split(size):
            outer = inner.expand(border).intersect(image)
            part = (slice(None), *outer.slices)
            got = run(values[part], weights=weights[part], alpha=alpha[part], inner=inner.relative_to(outer), **keys)
            cut = (slice(None), *inner.slices)
            assert all(getattr(got, f).tobytes() == getattr(whole, f)[cut].tobytes() for f in FIELDS)


def test_cuts_show_with_too_little_border():
    """The test above can fail: regions that grow come from beyond a smaller border."""
    border = border_px(StackSettings(), FWHM)
    image = Box(0, 48, 0, 75)
    rng = np.random.default_rng(1)
    values, weights, alpha = messy(1)
    yy, xx = np.mgrid[:48, :75]
    for y, x in rng.uniform(0, 48, (12, 2)):
        values[3] += 5 * SIGMA * np.exp(-((yy - y) ** 2 + (xx - 1.5 * x) ** 2) / 18).astype(np.float32)
    differs = {0: 0, 5: 0}
    whole = run(values, weights=weights, alpha=alpha)
    for inner in image.split(12):
        for less in differs:
            outer = inner.expand(border - less).intersect(image)
            part = (slice(None), *outer.slices)
            got = run(values[part], weights=weights[part], alpha=alpha[part], inner=inner.relative_to(outer))
            differs[less] += not np.array_equal(got.rejected, whole.rejected[(slice(None), *inner.slices)])
    assert differs[0] == 0
    assert differs[5] > 0


@pytest.mark.parametrize("method", METHODS)
def test_slices_of_work_do_not_matter(method, monkeypatch):
    values, weights, alpha = messy(5)
    want = run(values, method, weights, alpha)
    monkeypatch.setattr(stack_passes, "SLICE_SAMPLES", 2500)
    assert same_bytes(run(values, method, weights, alpha), want)
    at_once = []

    def each(function, items):
        items = list(items)
        at_once.append(len(items))
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(function, items[::-1]))[::-1]

    assert same_bytes(run(values, method, weights, alpha, each=each), want)
    assert max(at_once) > 3


@pytest.mark.parametrize("method", METHODS)
def test_order_of_frames_does_not_matter(method):
    values, weights, alpha = messy(6)
    order = np.random.default_rng(0).permutation(len(values))
    a, b = run(values, method, weights, alpha), run(values[order], method, weights[order], alpha[order])
    np.testing.assert_allclose(a.data, b.data, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(a.rejected, b.rejected)


@pytest.mark.parametrize("method", ["mean", "median", "minmax"])
def test_scale_of_weights_does_not_matter(method):
    values, weights, alpha = messy(7)
    a = run(values, method, weights, alpha, structure_guard=0)
    b = run(values, method, 64 * weights, alpha, structure_guard=0)
    np.testing.assert_array_equal(a.data, b.data)
    np.testing.assert_allclose(a.variance, 64 * b.variance, rtol=1e-6)


def test_frames_added_one_by_one_equal_the_cube():
    values, weights, alpha = messy(8)
    cube = cube_of(values, weights, alpha)
    mean = MeanStack((1, *values.shape[1:]))
    for i in range(len(values)):
        box = Box(3 * i, 48, 2 * i, 75 - i)
        outside = np.ones(values.shape[1:], bool)
        outside[box.slices] = False
        cube.weights[0, i, outside] = 0
        planes = (cube.values, cube.weights, cube.alpha)
        samples = (np.ascontiguousarray(a[:, i, box.y0 : box.y1, box.x0 : box.x1]) for a in planes)
        mean.add(*samples, exposure=i + 1, y0=box.y0, x0=box.x0)
    assert same_bytes(mean.finish(), stack_cube(cube, FWHM, StackSettings(method="mean")))


def test_a_mean_without_sides_is_the_same_mean():
    values, weights, alpha = messy(8)
    whole, brief = (MeanStack((1, *values.shape[1:]), sides=sides) for sides in (True, False))
    for i in range(len(values)):
        for mean in (whole, brief):
            mean.add(values[None, i], weights[None, i], alpha[i], exposure=i + 1)
    whole, brief = whole.finish(), brief.finish()
    for name in ("data", "weight", "coverage", "rejected"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(brief, name))
    assert brief.variance.size == brief.exposure.size == brief.saturated.size == 0


def test_inputs_other_than_weights_are_not_modified():
    values, weights, alpha = messy(9)
    cube = cube_of(values, weights, alpha)
    arrays = (cube.weights, cube.values, cube.alpha, *cube.noise, cube.exposure)
    before = [a.copy() for a in arrays]
    stack_cube(cube, FWHM, StackSettings())
    np.testing.assert_array_equal(np.abs(cube.weights), before[0])
    for now, then in zip(arrays[1:], before[1:], strict=True):
        np.testing.assert_array_equal(now, then)


# ---- stars ----------------------------------------------------------------------------------------------------------


def star_cube(seed, n, beta, peak_sigma, shapes):
    """Sixteen stars over sky; seeing 20 % around the mean; gaussian (beta 0) or Moffat."""
    rng = np.random.default_rng(seed)
    pitch, side = 44, 176
    if shapes == "two":
        fwhm = FWHM * np.where(np.arange(n) % 2, 0.8, 1.2)
    elif shapes == "one":
        fwhm = FWHM * np.r_[rng.choice([0.8, 1.2]), np.ones(n - 1)]
    else:
        fwhm = FWHM * rng.uniform(0.8, 1.2, n)
    values = rng.normal(SKY, SIGMA, (n, side, side))
    yy, xx = np.mgrid[:side, :side]
    for y in range(pitch // 2, side, pitch):
        for x in range(pitch // 2, side, pitch):
            dy, dx = rng.uniform(-0.5, 0.5, 2)
            box = np.s_[y - 22 : y + 22, x - 22 : x + 22]
            r2 = (yy[box] - y - dy) ** 2 + (xx[box] - x - dx) ** 2
            for i in range(n):
                flux = peak_sigma * SIGMA * (FWHM / fwhm[i]) ** 2
                if beta:
                    a2 = (fwhm[i] / 2) ** 2 / (2 ** (1 / beta) - 1)
                    values[i][box] += flux * (1 + r2 / a2) ** -beta
                else:
                    values[i][box] += flux * np.exp(-r2 * 4 * np.log(2) / fwhm[i] ** 2)
    return values


def star_fluxes(image):
    stamps = (image - SKY).reshape(4, 44, 4, 44).transpose(0, 2, 1, 3)
    yy, xx = np.mgrid[:44, :44] - 22
    return (stamps * (yy**2 + xx**2 <= 64)).sum((2, 3))


@pytest.mark.parametrize("method", METHODS)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(5, 30),
    beta=st.sampled_from([0, 2.5, 3.5]),
    peak_sigma=st.sampled_from([150, 600, 3000]),
    shapes=st.sampled_from(["uniform", "one", "two"]),
)
@settings(deadline=None, max_examples=6)
def test_star_fluxes_survive_changing_seeing(method, seed, n, beta, peak_sigma, shapes):
    values = star_cube(seed, n, beta, peak_sigma, shapes)
    got = star_fluxes(run(values, method).data[0])
    bias = -2500 * np.log10(np.median(got / star_fluxes(values.mean(0))))
    assert abs(bias) < 3


@pytest.mark.parametrize("method", [name for name in METHODS if name != "mean"])
def test_star_fluxes_suffer_without_the_guard(method):
    """The test above can fail. Growing takes from both sides of a star, and so hides some of what clipping takes."""
    values = star_cube(1, 5, 2.5, 150, "one")
    got = star_fluxes(run(values, method, structure_guard=0, grow_px=0).data[0])
    assert abs(2500 * np.log10(np.median(got / star_fluxes(values.mean(0))))) > 6


def test_guard_vanishes_on_blank_sky():
    rng = np.random.default_rng(2)
    for n in (3, 5, 20):
        values = rng.normal(SKY, SIGMA, (n, 150, 150))
        out = run(values, "median")
        assert np.mean(out.data[0] == np.median(values.astype(np.float32), axis=0)) > 0.99


# ---- what must go ---------------------------------------------------------------------------------------------------


def trail_residual(method, n, amplitude, seed, **keys):
    """Residual in the core and in the wings (2 to 6 px) of a trail in one of n frames, and clipped share elsewhere."""
    rng = np.random.default_rng(seed)
    values = rng.normal(SKY, SIGMA, (n, 300, 300))
    clean = values.mean(0)
    yy, xx = np.mgrid[:300, :300]
    angle = rng.uniform(0, np.pi)
    distance = np.abs((xx - 150) * np.sin(angle) - (yy - 150) * np.cos(angle))
    values[rng.integers(n)] += amplitude * SIGMA * np.exp(-0.5 * (distance / 1.6) ** 2)
    out = run(values, method, **keys)
    error = (out.data[0] - clean) / SIGMA
    error -= error[distance > 12].mean()
    wings = (distance > 2) & (distance < 6)
    return error[distance < 1.5].mean(), error[wings].mean(), out.rejected[0][distance > 12].mean() / n


@pytest.mark.parametrize("method", CLIPPING)
@pytest.mark.parametrize("n", [5, 6, 9, 30])
@pytest.mark.parametrize("amplitude", [6, 12, 50])
def test_trail_leaves_nothing(method, n, amplitude):
    core, wings, elsewhere = trail_residual(method, n, amplitude, seed=n)
    assert abs(core) < 0.05
    assert abs(wings) < 0.05
    # Without their own scatter in the threshold: from the median of five, a sample scatters by more than its sigma.
    assert elsewhere < (0.006 if method == "ccdclip" else 0.004)


def test_trail_wings_need_growing():
    assert trail_residual("kappa_sigma", 5, 6, seed=5, grow_px=0)[1] > 0.05


@pytest.mark.parametrize("method", CLIPPING)
@pytest.mark.parametrize("n", [3, 4, 5, 12])
def test_cosmic_rays_and_hot_pixels_go(method, n):
    rng = np.random.default_rng(n)
    values = rng.normal(SKY, SIGMA, (n, 90, 90))
    values[0, 10:80:10, 10:80:10] += 60 * SIGMA
    values[1, 15:80:10, 12:78:10] += 300 * SIGMA
    values[1, 15:80:10, 13:79:10] -= 30 * SIGMA
    out = run(values, method, esd_fraction=0.4)
    assert np.abs(out.data - SKY).max() < 6 * SIGMA / np.sqrt(n - 2)


def test_single_noise_clips_do_not_grow():
    values = np.random.default_rng(3).normal(SKY, SIGMA, (20, 200, 200))
    rejected = run(values, grow_px=3).rejected.sum() / run(values, grow_px=0).rejected.sum()
    assert rejected < 1.01


@pytest.mark.parametrize("method", CLIPPING)
def test_witnesses_judge_and_count_nowhere(method):
    """One frame with a trail and four witnesses: of it good samples are kept, and theirs stand in for the others."""
    values = np.random.default_rng(4).normal(SKY, SIGMA, (5, 90, 90)).astype(np.float32)
    values[2, 40:44] += 30 * SIGMA
    cube = replace(cube_of(values), witness=np.arange(5) != 2)
    out = stack_cube(cube, FWHM, StackSettings(method=method))
    assert (out.coverage == 1).all()
    clipped = out.rejected[0] == 1
    assert clipped[40:44].all()
    assert clipped[np.r_[:36, 48:90]].mean() < 0.02
    np.testing.assert_array_equal(out.data[0][~clipped], values[2][~clipped])
    assert (out.exposure[0] == np.where(clipped, 0, 3)).all()
    np.testing.assert_allclose(out.weight[0][~clipped], 1 / SIGMA**2, rtol=1e-6)
    np.testing.assert_allclose(out.weight[0] * out.variance[0], 1, rtol=1e-5)
    assert (out.weight[0][clipped] < 5e-4 / SIGMA**2).all()
    assert np.abs(out.data[0][40:44] - SKY).max() < 5 * SIGMA / 2
    assert out.data[0][40:44].std() < 1.2 * SIGMA / 2


@pytest.mark.parametrize("method", CLIPPING)
@pytest.mark.parametrize("amplitude", [12, 20, 200])
def test_trail_goes_where_two_frames_meet(method, amplitude):
    core, wings, elsewhere = trail_residual(method, 2, amplitude, seed=amplitude)
    assert abs(core) < 0.05
    assert abs(wings) < 0.03
    assert elsewhere < 1e-5


@pytest.mark.parametrize("amplitude", [12, 20, 50])
def test_the_rim_of_a_trail_goes_where_three_frames_meet(amplitude):
    """Where a third of what is left shows."""
    assert abs(trail_residual("kappa_sigma", 3, amplitude, seed=amplitude + 3)[1]) < 0.042


@pytest.mark.parametrize("method", CLIPPING)
@pytest.mark.parametrize("shapes", ["one", "two"])
@pytest.mark.parametrize("beta", [0, 2.5])
@pytest.mark.parametrize("peak_sigma", [50, 150, 600])
def test_stars_stay_where_two_frames_meet(method, shapes, beta, peak_sigma):
    values = star_cube(4, 2, beta, peak_sigma, shapes)
    got = star_fluxes(run(values, method).data[0])
    assert abs(2500 * np.log10(np.median(got / star_fluxes(values.mean(0))))) < 0.5


def test_stars_of_two_frames_suffer_without_the_guard():
    """The test above can fail."""
    values = star_cube(4, 2, 2.5, 600, "two")
    got = star_fluxes(run(values, structure_guard=0).data[0])
    assert abs(2500 * np.log10(np.median(got / star_fluxes(values.mean(0))))) > 50


def test_two_samples_differ_by_noise_and_both_stay():
    """The higher goes beyond 5 sigma of the difference of two samples, each with its own noise."""
    values = np.full((2, 20, 20), SKY)
    weights = np.full(values.shape, 1 / SIGMA**2, np.float32)
    weights[1] /= 8  # sigma of the difference: 3 SIGMA
    for step, gone in ((14.9, 0), (15.1, 1)):
        values[1] = SKY + step * SIGMA
        assert (run(values, weights=weights, grow_px=0).rejected == gone).all()
        assert (run(values, weights=weights, grow_px=0, kappa_high=6).rejected == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_pixel_loses_all_its_samples(method):
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1e5, (6, 60, 60)) * rng.choice([0, 1], (6, 60, 60))
    out = run(values, method, kappa_low=0.01, kappa_high=0.01, esd_fraction=0.49, structure_guard=0)
    assert out.weight.min() > 0
    assert np.all(out.coverage == 6)


def test_low_and_high_thresholds_both_act():
    values = np.random.default_rng(5).normal(SKY, SIGMA, (15, 100, 100))
    both = run(values, kappa_low=3, kappa_high=3, grow_px=0).rejected.sum()
    low = run(values, kappa_low=3, kappa_high=30, grow_px=0).rejected.sum()
    high = run(values, kappa_low=30, kappa_high=3, grow_px=0).rejected.sum()
    assert 0.35 < low / both < 0.65
    assert 0.35 < high / both < 0.65


def test_known_photon_noise_loosens_the_threshold():
    """Four noisy samples of a bright flat field: the noise of the sky alone would clip them."""
    values = np.random.default_rng(6).normal(1e4, 100, (4, 60, 60))
    settings_ = StackSettings(structure_guard=0)
    assert stack_cube(cube_of(values), FWHM, settings_).rejected.sum() > 1000
    assert stack_cube(cube_of(values, slope=0.01), FWHM, settings_).rejected.sum() < 200


@pytest.mark.parametrize("method", METHODS)
def test_variance_holds_the_noise_of_the_light(method):
    """A bright flat field whose variance is six times that of its sky: VAR is the scatter of the stack."""
    level, slope = SKY + 500.0, 0.01
    values = np.random.default_rng(12).normal(level, SIGMA * np.sqrt(1 + slope * 500), (8, 200, 200))
    values[:, :20] = np.random.default_rng(13).normal(SKY, SIGMA, (8, 20, 200))
    settings_ = StackSettings(method=method, structure_guard=0)
    for known, ratio in ((slope, 1), (0.0, 6)):
        out = stack_cube(cube_of(values, slope=known), FWHM, settings_)
        light, sky = np.s_[0, 25:], np.s_[0, :18]
        found = out.data[light].var() / out.variance[light].mean()
        if method == "ccdclip" and not known:
            assert found > ratio  # it takes what it does not know of for outliers, and is left with few samples
        else:
            assert found == pytest.approx(ratio, rel=0.08)
        assert out.data[sky].var() / out.variance[sky].mean() == pytest.approx(1, rel=0.1)


def test_frames_are_judged_by_their_own_share():
    """Eight samples of a twentieth of the stated variance beside eight of all of it: neither is clipped for it."""
    rng = np.random.default_rng(14)
    share = np.repeat([0.05, 1.0], 8)
    values = SKY + rng.normal(0, SIGMA, (16, 150, 150)) * np.sqrt(share)[:, None, None]
    cube = cube_of(values, share=share)
    stack_cube(cube, FWHM, StackSettings(grow_px=0, structure_guard=0, kappa_low=4, kappa_high=4))
    clipped = (cube.weights[0] < 0).mean((1, 2))
    assert clipped.max() < 1e-3
    blind = cube_of(values, share=0.05)
    stack_cube(blind, FWHM, StackSettings(grow_px=0, structure_guard=0, kappa_low=4, kappa_high=4))
    assert (blind.weights[0] < 0).mean((1, 2))[8:].min() > 0.01


def test_added_frames_know_the_noise_of_their_light():
    values, weights, alpha = messy(8)
    cube = cube_of(values, weights, alpha, slope=np.linspace(0, 0.02, len(values)))
    mean = MeanStack((1, *values.shape[1:]))
    for i in range(len(values)):
        noise = FrameNoise(*(a[:, i] for a in cube.noise))
        mean.add(values[None, i], weights[None, i], alpha[i], exposure=i + 1, noise=noise)
    got = mean.finish()
    assert same_bytes(got, stack_cube(cube, FWHM, StackSettings(method="mean")))
    plain = run(values, "mean", weights, alpha).variance
    there = plain > 0
    assert np.all(got.variance[there] >= plain[there])
    assert np.mean(got.variance[there] / plain[there]) > 1.01


# ---- counts, flags, errors ------------------------------------------------------------------------------------------


def test_planes_count_what_was_kept():
    values = np.full((6, 20, 20), SKY)
    values += np.random.default_rng(7).normal(0, SIGMA / 10, values.shape)
    values[2, 5, 5] = 1e5
    weights = np.full(values.shape, 1 / SIGMA**2, np.float32)
    weights[4, :, 10:] = 0
    alpha = np.full(values.shape, 127, np.uint8)
    alpha[2, 5, 5] = 255
    alpha[3, 7, 7] = 255
    values[3, 7, 7] = SKY + SIGMA  # above the others: it does not give way
    out = run(values, weights=weights, alpha=alpha)
    assert out.coverage[0, 5, 5] == 6
    assert out.rejected[0, 5, 5] == 1
    assert out.exposure[0, 5, 5] == 1 + 2 + 4 + 5 + 6
    assert out.exposure[0, 5, 15] == 1 + 2 + 3 + 4 + 6
    np.testing.assert_array_equal(np.argwhere(out.saturated[0] == 1), [[7, 7]])
    assert out.saturated.sum() == 1
    np.testing.assert_allclose(out.weight[0, 5, 5], 5 / SIGMA**2, rtol=1e-6)
    np.testing.assert_allclose(out.variance[0, 5, 5], SIGMA**2 / 5, rtol=1e-6)


def test_channels_are_separate_and_may_share_alpha():
    values, weights, alpha = messy(3)
    want = run(values, weights=weights, alpha=alpha)
    one = cube_of(values, weights, alpha)
    scaled = np.concatenate([one.weights, one.weights / 9])
    noise = FrameNoise(*(np.concatenate([a, 3 * a if a is one.noise.sky else a]) for a in one.noise))
    both = Cube(np.concatenate([one.values, 3 * one.values]), scaled, one.alpha[0], noise, one.exposure, one.witness)
    out = stack_cube(both, FWHM, StackSettings())
    np.testing.assert_array_equal(out.data[0], want.data[0])
    np.testing.assert_array_equal(out.rejected[1], want.rejected[0])
    np.testing.assert_allclose(out.data[1], 3 * want.data[0], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_no_frame_gives_nothing(method):
    out = run(np.zeros((0, 5, 6)), method)
    assert all(not getattr(out, name).any() for name in FIELDS)


def test_cancel_is_noticed_between_slices(monkeypatch):
    monkeypatch.setattr(stack_passes, "SLICE_SAMPLES", 2000)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 7:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled, match="stopped"):
        stack_cube(cube_of(messy(1)[0]), FWHM, StackSettings(), check=check)


def test_arguments_are_checked():
    cube = cube_of(np.zeros((3, 8, 9)))
    wrong = {
        r"share one shape": {"weights": cube.weights[:, :2]},
        r"noise must have shape \(1, 3\), exposure and witness \(3,\)": {
            "noise": cube.noise._replace(sky=cube.noise.sky[:, :2])
        },
        r"samples must be float32": {"values": cube.values.astype(float)},
        r"C order": {"values": np.asfortranarray(cube.values)},
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=message):
            replace(cube, **change)


def test_border_and_memory_are_stated():
    assert border_px(StackSettings(method="mean"), FWHM) == 0
    assert border_px(StackSettings(method="median"), FWHM) == 3
    assert border_px(StackSettings(grow_px=0), 5.0) == 5
    assert border_px(StackSettings(grow_px=3), FWHM) == 7
    assert stack.bytes_per_sample(1) == 9
    assert stack.bytes_per_sample(3) == 25
    assert stack.bytes_per_pixel("mean") > 0
