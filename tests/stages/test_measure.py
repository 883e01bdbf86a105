"""Measuring a frame whose sky, noise and stars are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from zemosaic.engine.values import decode, encode
from zemosaic.errors import FrameRejected
from zemosaic.kernels.measure.block_means import MeanRule, Means, block_means
from zemosaic.kernels.measure.mesh import BlockEdges
from zemosaic.kernels.measure.peaks import take_off_wide
from zemosaic.kernels.select import select_nth
from zemosaic.kernels.solve.cluster import group_detections
from zemosaic.model.measurements import Measurements
from zemosaic.settings import MeasureSettings
from zemosaic.stages.measure.frame import measure_frame, measure_sky
from zemosaic.stages.numeric.quantile import quantile_of
from zemosaic.stages.quality.double import find_double

SHAPE = (400, 512)


def star_field(seed=0, n=60, fwhm=2.8, sky=1000.0, noise=12.0, nebula=0.0, flux_range=(3e3, 6e4)):
    """A frame with Gaussian stars on a sky with optional structure; returns data and the truth."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    image = np.full(SHAPE, sky)
    image += nebula * np.sin(x / 60) * np.cos(y / 45)
    sigma = fwhm / 2.3548
    sx, sy = rng.uniform(20, SHAPE[1] - 20, n), rng.uniform(20, SHAPE[0] - 20, n)
    flux = np.exp(rng.uniform(*np.log(flux_range), n))
    for a, b, f in zip(sx, sy, flux, strict=True):
        image += f / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / sigma**2)
    image += rng.normal(0, noise, SHAPE)
    return image.astype(np.float32)[None], (sx, sy, flux)


def ones(data):
    return np.ones((1, *data.shape[1:]), np.float32)


@pytest.mark.parametrize("nebula", [0.0, 150.0])
def test_noise_is_within_two_percent_on_stars_and_nebula(nebula):
    data, _ = star_field(n=150, nebula=nebula)
    weighed = measure_sky(data, ones(data))
    level, noise = weighed.sky, weighed.noise
    assert noise[0] == pytest.approx(12.0, rel=0.02)
    assert level[0] == pytest.approx(1000.0, abs=0.1 * max(nebula, 20))
    assert measure_frame(data, ones(data), MeasureSettings()).noise[0] == pytest.approx(12.0, rel=0.02)


@pytest.mark.parametrize("sigma", [0.5, 0.8, 0.9, 1.3])
def test_noise_of_coarsely_quantised_counts(sigma):
    data, _ = star_field(n=0, sky=100.0, noise=sigma)
    counts = np.round(data)
    noise = measure_sky(counts.astype(np.float32), ones(data)).noise
    assert noise[0] == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.05)


@pytest.mark.parametrize("sky", [3.0, 8.0])
def test_sky_clipped_at_zero_keeps_its_level_and_noise(sky):
    data, _ = star_field(n=20, sky=sky, noise=8.0)
    clipped = np.maximum(data, 0)
    measured = measure_frame(clipped, ones(data), MeasureSettings())
    assert measured.sky[0] == pytest.approx(sky, abs=0.5)
    assert measured.noise[0] == pytest.approx(8.0, rel=0.05)
    # The plain mean of the clipped pixels would be off by 0.4 to 1.8.
    assert np.median(measured.blocks.mean) == pytest.approx(sky, abs=0.25)


def test_stars_are_found_with_their_flux_and_width():
    data, (sx, sy, flux) = star_field(n=40, nebula=60.0)
    measured = measure_frame(data, ones(data), MeasureSettings())
    stars = measured.stars
    assert measured.fwhm_px == pytest.approx(2.8, rel=0.06)
    assert measured.ellipticity < 0.08
    found = 0
    for x, y, f in zip(sx, sy, flux, strict=True):
        near = np.hypot(stars.x - x, stars.y - y)
        i = int(np.argmin(near))
        if near[i] < 1 and not stars.blended[i]:
            found += 1
            assert near[i] < 0.2
            assert stars.flux[0, i] == pytest.approx(f, abs=5 * stars.flux_error[0, i] + 0.02 * f)
    assert found >= 30
    assert np.all(np.diff(stars.flux.sum(axis=0)) <= 0)


def test_a_bright_sky_that_falls_to_the_corners_of_a_small_frame_changes_no_star() -> None:
    """A mesh that is flattened at its summit and its rims leaves light that makes stars look wide."""
    data, *_ = star_field(n=100, noise=8.0)
    small = data[:, :300, :400]
    v, u = np.meshgrid(*(np.linspace(-1, 1, n) for n in small.shape[1:]), indexing="ij")
    plain = measure_frame(small, ones(small), MeasureSettings())
    bright = (small - 600 * (u**2 + v**2)).astype(np.float32)
    fallen = measure_frame(bright, ones(bright), MeasureSettings())
    shown = plain.stars.snr() > 20
    away = np.hypot(*(a[:, None] - b for a, b in ((plain.stars.x, fallen.stars.x), (plain.stars.y, fallen.stars.y))))
    other = away.argmin(axis=1)
    assert shown.sum() > 20
    assert (away.min(axis=1)[shown] < 0.3).all()
    ratio = (fallen.stars.fwhm_px[other] / plain.stars.fwhm_px)[shown]
    assert np.nanmedian(np.abs(ratio - 1)) < 0.02
    assert np.mean(np.abs(ratio - 1) < 0.1) > 0.9


def turbulent_sky(rms, smallest_px=12.0, seed=1):
    """Structure with a power law of turbulence (index -11/3 in power) down to a scale, as a nebula has."""
    rng = np.random.default_rng(seed)
    ky, kx = np.fft.fftfreq(SHAPE[0])[:, None], np.fft.rfftfreq(SHAPE[1])[None]
    k = np.hypot(ky, kx)
    amplitude = np.where(k > 0, np.maximum(k, 1e-9) ** (-11 / 6), 0) * np.exp(-0.5 * (k * smallest_px) ** 2)
    waves = rng.normal(size=k.shape) + 1j * rng.normal(size=k.shape)
    structure = np.fft.irfft2(waves * amplitude, SHAPE)
    return rms * (structure - structure.mean()) / structure.std()


def test_a_nebula_hides_no_stars_and_makes_none():
    """The threshold was the scatter of the nebula itself: of faint stars half were lost on it."""
    clear, (sx, sy, _) = star_field(n=80, flux_range=(700, 3e3))
    nebulous = (clear + turbulent_sky(100.0)).astype(np.float32)
    found, false = [], []
    for data in (clear, nebulous):
        stars = measure_frame(data, ones(data), MeasureSettings()).stars
        distance = np.hypot(stars.x[:, None] - sx, stars.y[:, None] - sy)
        found.append(np.count_nonzero(distance.min(axis=0) < 1))
        false.append(np.count_nonzero(distance.min(axis=1) > 1.5))
    assert found[0] >= 70
    assert found[1] >= 0.93 * found[0]
    assert max(false) <= 3


@pytest.mark.parametrize("shape", [(40, 33), (5, 60), (3, 4)])
def test_what_is_wider_than_stars_is_the_mean_of_a_square(shape):
    image = np.random.default_rng(0).normal(0, 10, shape).astype(np.float32)
    n, total = (uniform_filter(q, 13, mode="constant") for q in (np.ones(shape), np.clip(image.astype(float), -15, 15)))
    left = image.copy()
    take_off_wide(left, 6, np.float32(15))
    np.testing.assert_allclose(left, image - total / n, atol=1e-5)


@pytest.mark.parametrize("structure_adu", [0.0, 100.0])
def test_the_trail_of_a_satellite_is_no_row_of_stars(structure_adu):
    """Noise made up to 600 peaks along one trail: stars that no other frame has."""
    data, (sx, sy, _) = star_field(n=80, flux_range=(1500, 2e4))
    data[0] += turbulent_sky(structure_adu).astype(np.float32)
    without = measure_frame(data, ones(data), MeasureSettings()).blocks
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for angle, height, middle in ((0.4, 30, 150), (1.9, 100, 250), (2.6, 400, 320)):
        away = (x - middle) * np.sin(angle) - (y - 200) * np.cos(angle)
        data[0] += (height * np.exp(-0.5 * (away / 1.6) ** 2)).astype(np.float32)
    found = measure_frame(data, ones(data), MeasureSettings())
    stars, blocks = found.stars, found.blocks
    distance = np.hypot(stars.x[:, None] - sx, stars.y[:, None] - sy)
    assert np.count_nonzero(distance.min(axis=0) < 1) >= 66
    assert np.count_nonzero(distance.min(axis=1) > 1.5) <= 3
    assert find_double(stars) is None
    # No block looks at the brightest trail, the last one.
    near = np.hypot(blocks.x[:, None] - without.x, blocks.y[:, None] - without.y)
    same = near.min(axis=1) < 1
    change = blocks.mean[0, same] - without.mean[0, near.argmin(axis=1)[same]]
    away = (blocks.x[same] - middle) * np.sin(angle) - (blocks.y[same] - 200) * np.cos(angle)
    assert np.all(np.abs(change[np.abs(away) < 12]) < 20)


def test_many_faint_stars_make_no_frame_look_sharper_or_trailed():
    """Less of a faint star's wings is seen, and its noise has a direction; the width scales apertures, and so gains."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    image = 1000 + turbulent_sky(40.0) + rng.normal(0, 12, SHAPE)
    looks = []
    for n, low, high in ((20, 1e4, 1e5), (200, 600, 1500)):
        for _ in range(n):
            r2 = (x - rng.uniform(20, SHAPE[1] - 20)) ** 2 + (y - rng.uniform(20, SHAPE[0] - 20)) ** 2
            image += rng.uniform(low, high) / 8.5 * (1 + r2 / 2.75**2) ** -3
        data = image.astype(np.float32)[None]
        looks.append(measure_frame(data, ones(data), MeasureSettings()))
    assert looks[1].fwhm_px == pytest.approx(looks[0].fwhm_px, rel=0.015)
    assert looks[1].ellipticity == pytest.approx(looks[0].ellipticity, abs=0.01)


def test_no_stars_in_noise():
    data, _ = star_field(n=0, nebula=80.0)
    measured = measure_frame(data, ones(data), MeasureSettings())
    assert len(measured.stars) <= 2
    assert np.isnan(measured.fwhm_px) or len(measured.stars) > 0


def test_saturated_and_blended_stars_are_flagged():
    data, _ = star_field(n=0, noise=10.0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)

    def add(a, b, flux):
        data[0] += (flux / 8.9 * np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / 1.42)).astype(np.float32)

    add(100, 100, 2e6)
    add(300, 100, 4e4)
    add(307, 100, 2e4)
    add(200, 300, 4e4)
    np.minimum(data, 60000, out=data)
    stars = measure_frame(data, ones(data), MeasureSettings()).stars

    def flags(a, b):
        i = int(np.argmin(np.hypot(stars.x - a, stars.y - b)))
        return bool(stars.saturated[i]), bool(stars.blended[i])

    assert flags(100, 100)[0]
    assert flags(300, 100) == (False, True)
    assert flags(200, 300) == (False, False)


def test_a_star_near_a_rim_counts_without_its_wide_aperture():
    """In thin overlaps hardly any star is clear of both images' rims by three widths."""
    data, _ = star_field(n=12, noise=10.0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    for a, b in ((7.3, 200.2), (3.4, 300.0), (150.0, 200.0)):
        data[0] += (4e4 / 8.9 * np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / 1.42)).astype(np.float32)
    stars = measure_frame(data, ones(data), MeasureSettings()).stars
    near, cut, clear = (int(np.argmin(np.hypot(stars.x - a, stars.y - b))) for a, b in ((7, 200), (3, 300), (150, 200)))
    assert (bool(stars.saturated[near]), bool(stars.saturated[cut])) == (False, True)
    assert stars.flux[0, near] == pytest.approx(stars.flux[0, clear], rel=0.02)
    assert np.isnan(stars.flux_wide[0, near])
    assert np.isfinite(stars.flux_wide[0, clear])


def test_block_means_see_the_sky_and_not_the_stars():
    data, _ = star_field(n=120, nebula=0.0)
    blocks = measure_frame(data, ones(data), MeasureSettings()).blocks
    pull = (blocks.mean[0] - 1000.0) / blocks.error[0]
    assert len(blocks) > 0.9 * (SHAPE[0] // 32) * (SHAPE[1] // 32)
    assert abs(np.mean(blocks.mean[0]) - 1000.0) < 0.1
    assert 0.8 < np.std(pull) < 1.25


def test_blocks_of_one_count_keep_an_error() -> None:
    """Counts coarser than the noise: a block may hold one value, and yet its mean is not known without error."""
    image = np.rint(np.random.default_rng(3).normal(75, 0.9, (1, 256, 256))).astype(np.float32)
    image[0, 64:128, 64:128] = 75
    found = measure_frame(image, np.ones_like(image), MeasureSettings())
    assert found.noise[0] > 0
    assert found.blocks.error.min() > 0.2 * found.noise[0] / found.blocks.size_px


def test_pixels_without_weight_enter_nothing():
    data, _ = star_field(n=30)
    weight = ones(data)
    weight[0, :, :100] = 0
    weight[0, 200:210] = 0
    data[weight == 0] = 0
    measured = measure_frame(data, weight, MeasureSettings())
    assert measured.valid_box.x0 == 100
    assert measured.valid_box.y1 == SHAPE[0]
    assert np.all(measured.blocks.x >= 100)
    assert measured.sky[0] == pytest.approx(1000, abs=2)
    assert abs(np.mean(measured.blocks.mean) - 1000) < 0.3


def test_measuring_leaves_its_inputs_alone_and_repeats():
    data, _ = star_field()
    weight = ones(data)
    before = data.copy(), weight.copy()
    one, two = (measure_frame(data, weight, MeasureSettings()) for _ in range(2))
    np.testing.assert_array_equal(data, before[0])
    np.testing.assert_array_equal(weight, before[1])
    assert encode(one, Measurements) == encode(two, Measurements)


def test_three_channels_share_stars_and_keep_their_own_sky():
    data, _ = star_field(n=40)
    colour = np.concatenate([data, 2 * data, 0.5 * data])
    measured = measure_frame(colour, ones(data), MeasureSettings())
    assert measured.sky == pytest.approx([1000, 2000, 500], rel=0.01)
    assert measured.noise == pytest.approx([12, 24, 6], rel=0.03)
    good = ~measured.stars.saturated
    ratio = measured.stars.flux[1, good] / measured.stars.flux[0, good]
    assert np.median(ratio) == pytest.approx(2, rel=1e-3)


def test_measurements_survive_in_a_store():
    data, _ = star_field()
    measured = measure_frame(data, ones(data), MeasureSettings())
    again = decode(encode(measured, Measurements), Measurements)
    assert again.shape == measured.shape
    assert again.valid_box == measured.valid_box
    assert encode(again, Measurements) == encode(measured, Measurements)


def test_empty_and_flat_frames_are_rejected():
    data = np.zeros((1, 64, 64), np.float32)
    with pytest.raises(FrameRejected, match="no pixel has weight"):
        measure_frame(data, np.zeros_like(data), MeasureSettings())
    with pytest.raises(FrameRejected, match="hold one value"):
        measure_frame(data + 7, np.ones_like(data), MeasureSettings())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=80), st.data())
def test_select_agrees_with_sorting(values, data):
    k = data.draw(st.integers(0, len(values) - 1))
    assert select_nth(np.array(values, np.float32), len(values), k) == np.sort(np.array(values, np.float32))[k]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=80), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values, share):
    some = np.array(values, np.float32)
    assert quantile_of(some, share) == pytest.approx(float(np.quantile(some.astype(float), share)), rel=1e-6, abs=1e-6)
    assert quantile_of(some, 0.5) == pytest.approx(float(np.median(some.astype(float))), rel=1e-6, abs=1e-6)


def test_clipped_mean_withstands_a_trail():
    rng = np.random.default_rng(5)
    data = rng.normal(100, 3, (32, 32)).astype(np.float32)
    data[10:13] += 500
    out = [np.empty((1, 1), np.float32) for _ in range(4)]
    edges = BlockEdges(np.array([0, 32]), np.array([0, 32]))
    block_means(data, np.zeros((32, 32), np.uint8), edges, MeanRule(3.0, 0.0, 0.0, 0.0, 100), Means(*out))
    assert out[0][0, 0] == pytest.approx(100, abs=5 * 3 / 30)
    assert out[1][0, 0] == pytest.approx(3 / np.sqrt(29 * 32), rel=0.15)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_grouping_finds_the_planted_stars(seed):
    rng = np.random.default_rng(seed)
    n_stars, n_seen = 40, 5
    cell = rng.permutation(400)[:n_stars]
    x0, y0 = 10.0 * (cell % 20) - 70, 10.0 * (cell // 20) - 50
    star = np.repeat(np.arange(n_stars), n_seen)
    x = x0[star] + rng.uniform(-0.5, 0.5, len(star))
    y = y0[star] + rng.uniform(-0.5, 0.5, len(star))
    group = np.empty(len(star), np.int64)
    assert group_detections(x, y, rng.permutation(len(star)), 2.0, group) == n_stars
    assert all(len(set(group[star == s])) == 1 for s in range(n_stars))
