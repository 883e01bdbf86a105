"""Hot and cold pixels: all found, no star touched, nothing that depends on windows or on the order of frames."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from zemosaic.model.box import Box
from zemosaic.stages.measure.hot_pixels import DefectCounter, drop_pixels, mask_defects, residuals_of

SIGMA = 20.0
NOISE = np.full((2, 2), SIGMA, np.float32)
GRBG = np.array([[1, 0], [2, 1]])


def make_sky(shape, seed):
    return np.random.default_rng(seed).normal(1000, SIGMA, shape).astype(np.float32)


def add_star(image, y, x, flux, fwhm, colours=(1.0, 1.0, 1.0), reach=14):
    """A Gaussian integrated over pixels, seen through a GRBG pattern."""
    y0, x0 = round(y) - reach, round(x) - reach
    q = 2.3548 / (np.sqrt(2) * fwhm)
    profiles = [np.diff(erf((np.arange(p0, p0 + 2 * reach + 2) - 0.5 - p) * q)) / 2 for p0, p in ((y0, y), (x0, x))]
    j, i = np.mgrid[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1]
    colour = np.asarray(colours)[GRBG[j % 2, i % 2]]
    image[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1] += (flux * colour * np.outer(*profiles)).astype(np.float32)


def star_field(shape, fwhm, colours, seed, spacing=30):
    """Stars on a jittered grid, peaks of 5 to 2000 sigma."""
    image, rng, places = make_sky(shape, seed), np.random.default_rng(seed + 1), []
    for gy, gx in itertools.product(range(20, shape[0] - 20, spacing), range(20, shape[1] - 20, spacing)):
        y, x = gy + rng.uniform(-1, 1), gx + rng.uniform(-1, 1)
        flux = 10 ** rng.uniform(0.7, 3.3) * SIGMA * fwhm**2 * 1.133
        add_star(image, y, x, flux, fwhm, colours)
        places.append((y, x))
    return image, places


@pytest.mark.parametrize("is_bayer", [True, False])
@pytest.mark.parametrize("level", ["faint", "as simulated", "cold"])
def test_500_planted_defects_are_found_among_stars(level, is_bayer):
    colours = (1.4, 1.0, 0.6) if is_bayer else (1.0, 1.0, 1.0)
    image, _ = star_field((900, 900), 2.7, colours, seed=3, spacing=60)
    rng = np.random.default_rng(5)
    planted = rng.choice(image.size, 500, replace=False)
    excess = {"faint": rng.uniform(15, 40, 500), "as simulated": rng.uniform(36, 900, 500), "cold": np.full(500, -45)}
    image.ravel()[planted] += (excess[level] * SIGMA).astype(np.float32)
    weight, codes = mask_defects(image, np.ones_like(image), NOISE)
    assert np.count_nonzero(codes.ravel()[planted] == (2 if level == "cold" else 1)) > 495
    np.testing.assert_array_equal(weight == 0, codes > 0)
    codes.ravel()[planted] = 0
    assert np.count_nonzero(codes) <= 2


@pytest.mark.parametrize("fwhm", [1.8, 2.5, 6.0])
@pytest.mark.parametrize("colours", [(1, 1, 1), (1.6, 1, 0.4), (0.4, 1, 1.6), (1, 0.5, 0.5), (0.5, 0.5, 1)])
def test_no_star_loses_a_pixel(fwhm, colours):
    image, places = star_field((800, 800), fwhm, colours, seed=int(fwhm * 10))
    _, codes = mask_defects(image, np.ones_like(image), NOISE)
    assert len(places) > 600
    assert np.count_nonzero(codes) == 0


def test_pairs_of_hot_pixels_are_found():
    image = make_sky((200, 200), 8)
    for k, step in enumerate(((0, 1), (1, 0), (0, 2), (2, 2))):
        for pixel in ((40 + 30 * k, 50), (40 + 30 * k + step[0], 50 + step[1])):
            image[pixel] += 100 * SIGMA
    _, codes = mask_defects(image, np.ones_like(image), NOISE)
    assert np.count_nonzero(codes) == 8


def test_pixels_without_weight_neither_judge_nor_are_judged():
    image = make_sky((60, 60), 9)
    weight = np.ones_like(image)
    image[20, 20], weight[20, 20] = np.nan, 0
    image[30, 30] += 50 * SIGMA
    weight[30, [28, 32]] = 0
    image[30, [28, 32]] = 1e9
    kept = image.copy()
    masked, codes = mask_defects(image, weight, NOISE)
    assert codes[30, 30] == 1
    assert np.count_nonzero(codes) == 1
    assert masked[30, 30] == 0
    np.testing.assert_array_equal(image, kept)
    assert weight[30, 30] == 1


@given(
    y0=st.integers(0, 38), x0=st.integers(0, 28), height=st.integers(1, 40), width=st.integers(1, 30),
    seed=st.integers(0, 5),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_listed_pixels_get_no_weight_in_any_window(y0, x0, height, width, seed):
    rng = np.random.default_rng(seed)
    whole = np.where(rng.random((40, 30)) < 0.1, 0, 1).astype(np.float32)
    listed = np.flatnonzero(whole == 0).astype(np.int32)
    box = Box(y0, min(y0 + height, 40), x0, min(x0 + width, 30))
    weight = np.ones(box.shape, np.float32)
    drop_pixels(weight, listed, box, 30)
    np.testing.assert_array_equal(weight, whole[box.slices])


def test_tiny_frames_pass():
    weight, codes = mask_defects(np.ones((4, 3), np.float32), np.ones((4, 3), np.float32), NOISE)
    assert weight.all()
    assert not codes.any()


def moving_frames(n, seed, warm):
    """Frames of a field that moves by a few pixels each time, with warm pixels that do not."""
    rng = np.random.default_rng(seed)
    for k in range(n):
        image = make_sky((240, 240), 1000 + k)
        dy, dx = rng.uniform(-8, 8, 2)
        for gy, gx in itertools.product(range(40, 220, 40), repeat=2):
            add_star(image, gy + dy, gx + dx, 20000, 2.5)
        yield image + warm


def test_faint_defects_are_found_in_many_frames_and_stars_are_not():
    rng = np.random.default_rng(2)
    warm = np.zeros((240, 240), np.float32)
    pixels = rng.choice(warm.size, 60, replace=False)
    warm.ravel()[pixels] = np.where(np.arange(60) % 2, 3, -3) * SIGMA
    counter = DefectCounter((240, 240))
    for image in moving_frames(40, 1, warm):
        counter.add(residuals_of(image, np.ones_like(image), NOISE))
    found = counter.defects()
    assert np.count_nonzero(found.ravel()[pixels]) >= 59
    found.ravel()[pixels] = False
    assert np.count_nonzero(found) <= 2


def test_a_star_that_never_moves_is_no_defect():
    counter = DefectCounter((200, 200))
    for k in range(20):
        image = make_sky((200, 200), k)
        for gy, gx in itertools.product(range(30, 190, 20), repeat=2):
            add_star(image, gy + 0.03 * gx % 1, gx + 0.07 * gy % 1, 60 * SIGMA * (gx / 40) ** 3, 1.9)
        image[15, 15] += 4 * SIGMA
        counter.add(residuals_of(image, np.ones_like(image), NOISE))
    found = counter.defects()
    assert found[15, 15]
    assert np.count_nonzero(found) == 1


def test_counters_do_not_depend_on_order():
    frames = [make_sky((50, 50), k) for k in range(7)]
    weight = np.ones((50, 50), np.float32)
    weight[10, 10] = 0
    one, two = (DefectCounter((50, 50)) for _ in range(2))
    for frame in frames:
        one.add(residuals_of(frame, weight, NOISE))
    for k in (6, 2, 4, 0, 5, 1, 3):
        two.add(residuals_of(frames[k], weight, NOISE))
    assert two.n_frames == 7
    np.testing.assert_array_equal(one.total, two.total)
    assert one.total[10, 10] == 0
    assert not DefectCounter((50, 50)).defects().any()
    with pytest.raises(ValueError, match=r"frames of \(50, 50\) pixels, got \(40, 50\)"):
        one.add(residuals_of(frames[0][:40], weight[:40], NOISE))


def test_the_sum_takes_the_median_of_the_eight():
    image = make_sky((30, 40), 4)
    counter = DefectCounter((30, 40))
    counter.add(residuals_of(image, np.ones_like(image), NOISE))
    padded = np.pad(image, 2, mode="reflect")
    around = [
        padded[2 + dy : 32 + dy, 2 + dx : 42 + dx] for dy, dx in itertools.product((-2, 0, 2), repeat=2) if dy or dx
    ]
    expected = np.clip((image - np.median(around, axis=0)) / SIGMA, -8, 8) * 64
    np.testing.assert_allclose(counter.total, expected, atol=0.51)
