"""Raw Bayer planes: CFA-direct resampling, superpixels, noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayer_cases import PATTERNS, mosaic, star_image
from zemosaic.errors import FrameRejected
from zemosaic.kernels.resample.bayer import MARGIN_PX, SAMPLE_DENSITY, colour_phases, resample_cfa
from zemosaic.kernels.resample.window import Output, Window
from zemosaic.settings import StackSettings
from zemosaic.stages.raw.cfa import (
    SUPERPIXEL_NOISE,
    channel_map,
    full_from_super,
    noise_by_phase,
    pixel_variance,
    superpixels,
)
from zemosaic.stages.stack.stack import Cube, FrameNoise, stack_cube

STEP = 16
RNG = np.random.default_rng(1)


def lattice(shape, angle_deg=20.0, scale=1.0, shift=(3.3, -2.7), frame=(128, 160)):
    """Frame coordinates of the nodes of an output of `shape`, turned about both middles; and of all its pixels."""
    c, s = scale * math.cos(math.radians(angle_deg)), scale * math.sin(math.radians(angle_deg))

    def to_frame(y, x):
        y, x = y - shape[0] / 2, x - shape[1] / 2
        return np.stack([c * x - s * y + frame[1] / 2 + shift[0], s * x + c * y + frame[0] / 2 + shift[1]])

    ny, nx = (-(-n // STEP) + 1 for n in shape)
    nodes_y, nodes_x = np.mgrid[:ny, :nx] * float(STEP)
    pixels_y, pixels_x = np.mgrid[: shape[0], : shape[1]].astype(float)
    return to_frame(nodes_y, nodes_x), to_frame(pixels_y, pixels_x)


def warp(raw, weight=None, pattern="GRBG", kernel="lanczos3", shape=(96, 112), origin=(0, 0), frame=(128, 160), **more):
    weight = np.ones_like(raw) if weight is None else weight
    nodes, _ = lattice(shape, frame=frame, **more.pop("where", {}))
    out = np.zeros((3, *shape), np.float32), np.zeros((3, *shape), np.float32), np.zeros(shape, np.uint8)
    arguments = {
        "nodes_scale": np.ones((3, *nodes.shape[1:])),
        "nodes_offset": np.zeros((3, *nodes.shape[1:])),
        "inverse_variance": np.ones(3),
        "taper_box": (0, frame[0], 0, frame[1]),
        "taper_px": 0.0,
        "step": STEP,
        "start": (0, 0),
    } | more
    how = {name: arguments.pop(name) for name in ("clamp", "pixfrac") if name in arguments}
    window = Window(raw[None], weight[None], origin=origin, nodes_xy=nodes, **arguments)
    resample_cfa(window, Output(*out), pattern, kernel, **how)
    return out


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "lanczos2", "lanczos3", "lanczos4", "area", "drizzle"])
def test_each_colour_of_a_flat_sky_stays_what_it_is(pattern, kernel):
    levels = np.array([700.0, 1500.0, 300.0])
    raw = mosaic(np.broadcast_to(levels[:, None, None], (3, 128, 160)), pattern)
    values, weights, alpha = warp(raw, pattern=pattern, kernel=kernel, inverse_variance=1 / np.array([4.0, 9.0, 25.0]))
    assert alpha[30:-30, 30:-30].all()
    for k in range(3):
        got = values[k][weights[k] > 0]
        assert got.size > 1000
        np.testing.assert_allclose(got, levels[k], rtol=3e-6)
        middle = weights[k][30:-30, 30:-30].mean()
        expected = SAMPLE_DENSITY[k] / (4, 9, 25)[k]
        assert middle == pytest.approx(expected, rel=1e-6 if kernel not in {"area", "drizzle"} else 0.02)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_coordinates_come_back(pattern):
    y, x = np.mgrid[:128, :160].astype(np.float32)
    for image in (x, y):
        values, weights, _ = warp(image, pattern=pattern, kernel="bilinear")
        _, xy = lattice((96, 112))
        truth = xy[0] if image is x else xy[1]
        for k in range(3):
            # Within half a lattice step of the edge a kernel may lose a tap and shift a little.
            seen = (weights[k] > 0) & (np.abs(xy[0] - 79.5) < 78) & (np.abs(xy[1] - 63.5) < 62)
            assert seen.mean() > 0.8
            np.testing.assert_allclose(values[k][seen], truth[seen], atol=0.01)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_light_of_one_colour_never_leaks_into_another(channel):
    planes = np.full((3, 128, 160), 100.0)
    planes[channel] += 50000 * star_image((128, 160), 61.3, 83.8, 2.4)
    values, weights, _ = warp(mosaic(planes, "RGGB"), pattern="RGGB")
    for k in range(3):
        deviation = np.abs(values[k] - 100)[weights[k] > 0].max()
        assert (deviation > 1000) if k == channel else (deviation < 1e-3)


@pytest.mark.parametrize("kernel", ["lanczos2", "lanczos3", "lanczos4"])
def test_flux_and_place_of_stars_in_each_colour(kernel):
    """Single exposures of an undersampled lattice carry an alias; a few exposures average it out."""
    flux, place, fwhm_px = np.zeros(3), np.zeros((3, 2)), 2.8
    n, shape = 36, (96, 112)
    y, x = np.mgrid[: shape[0], : shape[1]]
    shifts = np.random.default_rng(3).uniform(-4, 4, (n, 2))
    for shift in shifts:
        where = {"shift": tuple(shift), "angle_deg": 17.0}
        _, xy = lattice(shape, **where)
        at_x, at_y = xy[0, 50, 60], xy[1, 50, 60]
        planes = np.stack([star_image((128, 160), at_y, at_x, fwhm_px)] * 3) * 1000
        values, _, _ = warp(mosaic(planes, "GRBG"), kernel=kernel, where=where)
        near = np.hypot(y - 50, x - 60) < 12
        for k in range(3):
            star = np.where(near, values[k], 0).astype(float)
            flux[k] += star.sum() / n
            place[k] += np.array([(star * (y - 50)).sum(), (star * (x - 60)).sum()]) / star.sum() / n
    np.testing.assert_allclose(flux, 1000, rtol=3e-3)
    assert np.abs(place).max() < 0.02


def test_variance_of_large_areas_is_what_the_weight_says():
    sigma = np.array([5.0, 8.0, 6.0])
    noise_map = mosaic(np.broadcast_to(sigma[:, None, None], (3, 512, 512)), "BGGR")
    rng = np.random.default_rng(7)
    sums, pixels = [], []
    for k in range(12):
        raw = (rng.normal(0, 1, noise_map.shape) * noise_map).astype(np.float32)
        values, weights, alpha = warp(
            raw, pattern="BGGR", shape=(320, 320), frame=(512, 512), inverse_variance=1 / sigma**2,
            where={"angle_deg": 10.0 * k},
        )  # fmt: skip
        assert (alpha == 127).all()
        sums.append(values.reshape(3, 10, 32, 10, 32).mean((2, 4)))
        pixels.append(values.var(axis=(1, 2)))
    stated = 1 / weights[:, 0, 0]
    found = np.var(sums, axis=(0, 2, 3)) * 32 * 32
    np.testing.assert_allclose(found, stated, rtol=0.12)
    per_pixel = [pixel_variance("lanczos3", k) for k in range(3)]
    np.testing.assert_allclose(np.mean(pixels, axis=0) / stated, per_pixel, rtol=0.03)


def test_a_weak_trail_is_judged_by_the_noise_of_a_sample():
    """Five sigma of a raw sample: in red only half as many of what a mean over a large area would scatter by."""
    rng, n, shape = np.random.default_rng(11), 12, (128, 128)
    share = np.array([pixel_variance("lanczos3", k) for k in range(3)], np.float32)
    values, weights = np.zeros((2, 3, n, *shape), np.float32)
    alpha = np.zeros((n, *shape), np.uint8)
    y, x = np.mgrid[:256, :256]
    for k in range(n):
        raw = rng.normal(0, 10, y.shape)
        if k == 4:
            raw += 50 * np.exp(-((y - 128 - 0.3 * (x - 128)) ** 2) / 5.1)
        out = warp(
            raw.astype(np.float32), shape=shape, frame=y.shape, inverse_variance=np.full(3, 0.01),
            where={"angle_deg": 10.0 * (k - 4)},
        )  # fmt: skip
        values[:, k], weights[:, k], alpha[k] = out
    plain = FrameNoise.of_sky((3, n))
    along = lattice(shape, angle_deg=0.0, frame=y.shape)[1]
    on = np.abs(along[1] - 128 - 0.3 * (along[0] - 128)) < 1.5
    left = {}
    own = plain._replace(share=np.repeat(np.asarray(share, np.float32)[:, None], n, 1))
    for name, noise in (("own", own), ("area", plain)):
        cube = Cube(values.copy(), weights.copy(), alpha, noise, np.ones(n, np.float32), np.zeros(n, bool))
        stack = stack_cube(cube, 2.7, StackSettings())
        left[name] = [(stack.data[c][on].mean() - stack.data[c][~on].mean()) / 10 for c in range(3)]
        np.testing.assert_allclose(np.median(stack.weight, axis=(1, 2)), n * 0.01 * np.array(SAMPLE_DENSITY), rtol=1e-3)
    assert np.abs(left["own"]).max() < 0.05
    assert left["area"][0] > 0.2


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "lanczos2", "lanczos4", "drizzle"])
def test_pixel_variance_of_other_kernels(kernel):
    raw = np.random.default_rng(2).normal(0, 1, (512, 512)).astype(np.float32)
    values, weights, _ = warp(raw, kernel=kernel, shape=(320, 320), frame=(512, 512))
    for k in range(3):
        seen = weights[k] > 0
        if kernel == "drizzle":
            assert weights[k].mean() == pytest.approx(SAMPLE_DENSITY[k], rel=0.03)
            continue
        found = np.var(values[k][seen]) * SAMPLE_DENSITY[k]
        assert found == pytest.approx(pixel_variance(kernel, k), rel=0.04)


@given(y0=st.integers(-5, 40), x0=st.integers(-5, 40), pattern=st.sampled_from(PATTERNS), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=25)
def test_results_do_not_depend_on_windows_or_cuts(y0, x0, pattern, seed):
    rng = np.random.default_rng(seed)
    raw = rng.normal(100, 10, (128, 160)).astype(np.float32)
    weight = np.where(rng.random(raw.shape) < 0.01, 0, 1).astype(np.float32)
    whole = warp(raw, weight, pattern)
    y0, x0 = max(y0, 0), max(x0, 0)
    part = np.s_[y0 : y0 + 40, x0 : x0 + 48]
    nodes, xy = lattice((96, 112))
    box = xy[:, *part].reshape(2, -1)
    low = np.maximum(np.floor(box.min(axis=1)).astype(int) - MARGIN_PX, 0)
    high = np.ceil(box.max(axis=1)).astype(int) + MARGIN_PX + 1
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    out = np.zeros((3, 40, 48), np.float32), np.zeros((3, 40, 48), np.float32), np.zeros((40, 48), np.uint8)
    ones = np.ones((3, *nodes.shape[1:]))
    place = Window(
        np.ascontiguousarray(raw[window])[None], np.ascontiguousarray(weight[window])[None],
        origin=(int(low[1]), int(low[0])), nodes_xy=nodes, nodes_scale=ones, nodes_offset=0 * ones, step=STEP,
        start=(y0, x0), inverse_variance=np.ones(3), taper_box=(0, 128, 0, 160), taper_px=0.0,
    )  # fmt: skip
    resample_cfa(place, Output(*out), pattern, "lanczos3")
    for got, expected in zip(out, whole, strict=True):
        np.testing.assert_array_equal(got, expected[..., *part])


def test_a_hole_hides_what_lies_under_it_and_not_more():
    raw = np.full((128, 160), 50, np.float32)
    weight = np.ones_like(raw)
    weight[60:62, 80:82] = 0
    raw[60:62, 80:82] = 1e30
    values, weights, _ = warp(raw, weight, pattern="RGGB")
    for k in range(3):
        seen = weights[k] > 0
        np.testing.assert_allclose(values[k][seen], 50, rtol=1e-4)
        assert (values[k][~seen] == 0).all()
        lost = np.count_nonzero(~seen[20:-20, 20:-20])
        assert 4 <= lost <= 60


def test_edges_taper_and_saturation_is_flagged():
    raw = np.full((128, 160), 50, np.float32)
    raw[64, 80] = 60000
    values, weights, alpha = warp(raw, taper_px=10.0, saturation=50000.0, where={"angle_deg": 0.0, "shift": (-40.0, 0)})
    _, xy = lattice((96, 112), 0.0, shift=(-40.0, 0))
    code = alpha & 127
    inside = xy[0] > 5
    assert (code[xy[0] < -0.5] == 0).all()
    assert (code[xy[0] > 10] == 127).all()
    assert 0 < code[inside & (xy[0] < 8)].min() < 127
    np.testing.assert_allclose(weights[1][inside], 0.5 * code[inside] / 127, rtol=1e-6)
    np.testing.assert_allclose(weights[0][inside], 0.25 * code[inside] / 127, rtol=1e-6)
    flagged = np.argwhere(alpha & 128)
    distance = np.hypot(xy[0] - 80, xy[1] - 64)[tuple(flagged.T)]
    assert 1 <= len(flagged) <= 16
    assert distance.max() < 3
    assert (values[0][code == 0] == 0).all()


def test_outputs_may_be_slices_of_a_larger_stack():
    raw = RNG.normal(100, 10, (128, 160)).astype(np.float32)
    values, weights, alpha = warp(raw)
    cube, cube_weight = np.zeros((3, 4, 96, 112), np.float32), np.zeros((3, 4, 96, 112), np.float32)
    nodes, _ = lattice((96, 112))
    ones, flags = np.ones((3, *nodes.shape[1:])), np.zeros((96, 112), np.uint8)
    window = Window(
        raw[None], np.ones_like(raw)[None], origin=(0, 0), nodes_xy=nodes, nodes_scale=ones, nodes_offset=0 * ones,
        step=STEP, start=(0, 0), inverse_variance=np.ones(3), taper_box=(0, 128, 0, 160), taper_px=0.0,
    )  # fmt: skip
    resample_cfa(window, Output(cube[:, 2], cube_weight[:, 2], flags), "GRBG", "lanczos3")
    np.testing.assert_array_equal(cube[:, 2], values)
    np.testing.assert_array_equal(cube_weight[:, 2], weights)
    np.testing.assert_array_equal(flags, alpha)
    assert not cube[:, [0, 1, 3]].any()


def test_bad_arguments_are_named():
    raw = np.ones((128, 160), np.float32)
    with pytest.raises(ValueError, match="GRBG or GBRG, got 'XTRANS'"):
        warp(raw, pattern="XTRANS")
    with pytest.raises(ValueError, match=r"kernel must be one of .*drizzle, got 'spline'"):
        warp(raw, kernel="spline")
    with pytest.raises(ValueError, match="one plane for three channels"):
        warp(np.ones((3, 128, 160), np.float32)[0], np.ones((128, 150), np.float32))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern):
    red, green, blue = colour_phases(pattern)
    channels = channel_map(pattern)
    assert channels[red] == 0
    assert channels[blue] == 2
    assert {(j + i) % 2 for j, i in np.argwhere(channels == 1)} == {green}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_superpixels_keep_flux_and_place(pattern):
    colours = np.array([0.6, 1.0, 1.7])
    totals, places = [], []
    for dy, dx in np.random.default_rng(4).uniform(-1, 1, (30, 2)):
        star = 1000 * star_image((64, 80), 31 + dy, 40 + dx, 2.6)
        data, weight = superpixels(
            mosaic(star * colours[:, None, None], pattern), np.ones((64, 80), np.float32), pattern
        )
        assert data.shape == weight.shape == (3, 32, 40)
        assert (weight == 1).all()
        totals.append(data.sum((1, 2)))
        y, x = np.mgrid[:32, :40]
        full_x, full_y = full_from_super(*((data[1] * p).sum() / data[1].sum() for p in (x, y)))
        places.append((full_y - 31 - dy, full_x - 40 - dx))
    np.testing.assert_allclose(np.mean(totals, axis=0), 1000 * colours, rtol=2e-3)
    np.testing.assert_allclose(np.array(totals)[:, 1], 1000, rtol=2e-3)
    assert np.abs(places).max() < 0.01


def test_superpixel_noise_is_as_stated():
    raw = np.random.default_rng(6).normal(200, 3, (400, 400)).astype(np.float32)
    data, _ = superpixels(raw, np.ones_like(raw), "GBRG")
    np.testing.assert_allclose(data.std((1, 2)), 3 * np.array(SUPERPIXEL_NOISE), rtol=0.02)
    np.testing.assert_allclose(data.mean((1, 2)), 800, rtol=1e-3)


def test_superpixels_with_missing_samples_and_saturation():
    raw = np.arange(1, 31, dtype=np.float32).reshape(5, 6)
    weight = np.ones_like(raw)
    weight[0, 0] = 0  # a green, red beside it
    weight[3, 2] = 0  # a blue
    weight[0, 4], weight[1, 5] = 0, 0  # both greens
    raw[weight == 0] = np.nan
    data, out = superpixels(raw, weight, "GRBG", saturation_adu=16)
    assert data.shape == (3, 2, 3)
    assert np.isfinite(data).all()
    assert out[1, 0, 0] == 0.5
    assert data[1, 0, 0] == 4 * 8
    assert out[2, 1, 1] == 0
    assert data[2, 1, 1] == 0
    assert out[1, 0, 2] == 0
    assert data[1, 0, 2] == 0
    assert data[0, 0, 0] == 4 * 2
    # (2, 2) = 15 and (3, 3) = 22: the mean reaches the level anyway; (2, 0) = 13 and (3, 1) = 20 only by the rule.
    assert data[1, 1, 0] == 2 * (13 + 20)
    assert data[1, 1, 0] >= 64
    with_lower, _ = superpixels(np.where(raw == 13, 1, raw), weight, "GRBG", saturation_adu=16)
    assert with_lower[1, 1, 0] == 64


def test_uneven_weights_of_two_greens():
    raw, weight = np.ones((2, 2), np.float32), np.array([[4, 1], [1, 1]], np.float32)
    _, out = superpixels(raw, weight, "GRBG")
    # Variance of the mean of two samples of variance 1/4 and 1 over that of two of variance 1: 5/8.
    np.testing.assert_allclose(out[:, 0, 0], [1, 8 / 5, 1])


def test_noise_of_each_place_among_stars_and_gradients():
    sigma = np.array([[12.0, 20.0], [15.0, 9.0]])
    y, x = np.mgrid[:600, :500]
    rng = np.random.default_rng(11)
    raw = 1000 + rng.normal(0, 1, (600, 500)) * sigma[y % 2, x % 2] + 0.5 * x + 0.2 * y
    for sy, sx in rng.uniform(20, 480, (60, 2)):
        raw += 20000 * star_image((600, 500), sy, sx, 3.0)
    weight = np.ones(raw.shape, np.float32)
    weight[:, :40], raw[:, :40] = 0, 0
    found = noise_by_phase(raw.astype(np.float32), weight)
    np.testing.assert_allclose(found, sigma, rtol=0.06)
    with pytest.raises(FrameRejected, match="only 0 pairs"):
        noise_by_phase(raw.astype(np.float32), 0 * weight)
    assert (noise_by_phase(np.ones((100, 100), np.float32), np.ones((100, 100), np.float32)) > 0).all()
