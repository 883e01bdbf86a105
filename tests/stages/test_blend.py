"""Blending: pyramids that invert, weights that sum to one, stars and levels that survive a seam."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve1d, distance_transform_edt

from zemosaic.model.box import Box
from zemosaic.stages.tiles.blend import (
    bend_shares,
    blend_border_px,
    blend_feather,
    blend_pyramid,
    border_weights,
    build_gaussian_pyramid,
    build_laplacian_pyramid,
    levels_for_overlap,
    normalise_weights,
    predict_flux_change_mmag,
    reconstruct_from_laplacian,
)

TAPS = np.array([1, 4, 6, 4, 1]) / 16


def some_image(shape, seed=1):
    return np.random.default_rng(seed).normal(1000, 200, shape).astype(np.float32)


def lay(sky, boxes, corrections=None, holes=()):
    """Cut tiles out of a sky: images, masks of valid pixels, each on the whole canvas."""
    images = np.zeros((len(boxes), *sky.shape), np.float32)
    valid = np.zeros((len(boxes), *sky.shape[-2:]), bool)
    for i, box in enumerate(boxes):
        offset = 0 if corrections is None else corrections[i]
        images[i][:, *box.slices] = sky[:, *box.slices] + offset
        valid[i][box.slices] = True
    for i, hole in holes:
        valid[i][hole.slices] = False
        images[i][:, *hole.slices] = 0
    return images, valid


def weigh(valid):
    return normalise_weights(np.stack([border_weights(v) for v in valid]))


def gaussian_star(shape, y, x, flux, fwhm=3.0):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    s2 = (fwhm / 2.3548) ** 2
    return (flux / (2 * np.pi * s2) * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * s2))).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (97, 61), (1, 33), (3, 128, 75), (255, 2)])
@pytest.mark.parametrize("levels", range(1, 9))
def test_a_laplacian_pyramid_gives_its_image_back(shape, levels):
    image = some_image(shape)
    pyramid = build_laplacian_pyramid(image, levels)
    assert len(pyramid) == levels + 1
    back = reconstruct_from_laplacian(pyramid)
    assert back.shape == image.shape
    np.testing.assert_allclose(back, image, rtol=1e-5)


def test_an_octave_is_a_binomial_blur_of_every_second_pixel():
    image = some_image((37, 52))
    blurred = convolve1d(convolve1d(image.astype(float), TAPS, 0, mode="nearest"), TAPS, 1, mode="nearest")
    half = build_gaussian_pyramid(image, 1)[1]
    assert half.shape == (19, 26)
    np.testing.assert_allclose(half, blurred[::2, ::2], rtol=1e-5)


def test_a_constant_stays_constant_in_every_octave():
    pyramid = build_laplacian_pyramid(np.full((45, 70), 123.0), 5)
    for fine in pyramid[:-1]:
        assert np.abs(fine).max() < 1e-3
    np.testing.assert_allclose(pyramid[-1], 123, rtol=1e-6)


def test_pyramids_of_nothing_and_of_no_levels():
    image = some_image((9, 7))
    np.testing.assert_array_equal(build_laplacian_pyramid(image, 0)[0], image)
    with pytest.raises(ValueError, match="0 levels or more, not -1"):
        build_gaussian_pyramid(image, -1)
    with pytest.raises(ValueError, match="holds no image"):
        reconstruct_from_laplacian([])


def test_the_distance_to_a_border_is_exact():
    rng = np.random.default_rng(3)
    valid = rng.uniform(size=(83, 61)) > 0.01
    expected = distance_transform_edt(np.pad(valid, 1))[1:-1, 1:-1]
    np.testing.assert_allclose(border_weights(valid), expected, rtol=1e-6)
    whole = border_weights(np.ones((5, 8), bool))
    assert whole[0, 0] == 1
    assert whole[2, 4] == 3
    assert not border_weights(np.zeros((4, 4), bool)).any()


def test_the_rim_of_the_mosaic_is_no_border():
    valid = np.ones((20, 30), bool)
    weight = border_weights(valid, sides=(False, True, True, False))
    np.testing.assert_allclose(weight, np.minimum(np.arange(1, 31), np.arange(20, 0, -1)[:, None]))
    assert (border_weights(valid, sides=(False,) * 4) == 50).all()
    valid[5, 7] = False
    hole = border_weights(valid, sides=(False,) * 4)
    np.testing.assert_allclose(hole, distance_transform_edt(valid), rtol=1e-6)


def test_weights_follow_distance_and_inverse_variance():
    valid = np.ones((20, 30), bool)
    deep = np.full(valid.shape, 4, np.float32)
    np.testing.assert_allclose(border_weights(valid, deep), 4 * border_weights(valid))


FOUR = [Box(0, 120, 0, 130), Box(0, 120, 90, 220), Box(80, 200, 0, 130), Box(80, 200, 90, 220)]


@pytest.mark.parametrize("n", [2, 3, 4])
def test_weights_sum_to_one_on_every_valid_pixel(n):
    sky = np.ones((1, 200, 220), np.float32)
    _, valid = lay(sky, FOUR[:n], holes=[(0, Box(100, 110, 100, 112)), (1, Box(0, 10, 90, 100))])
    weights = weigh(valid)
    assert (weights[~valid] == 0).all()
    total = weights.sum(axis=0)
    seen = valid.any(axis=0)
    assert np.abs(total[seen] - 1).max() < 1e-6
    assert (total[~seen] == 0).all()
    assert valid.sum(axis=0).max() == n


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_equal_tiles_blend_into_their_sky(levels):
    sky = some_image((3, 200, 220))
    images, valid = lay(sky, FOUR, holes=[(0, Box(100, 110, 100, 112))])
    blended = blend_pyramid(images, weigh(valid), levels)
    np.testing.assert_allclose(blended, sky, rtol=2e-6)


@pytest.mark.parametrize("levels", [0, 2, 4])
def test_nothing_darkens_beside_no_data(levels):
    sky = np.full((1, 200, 220), 1000, np.float32)
    half = Box(0, 120, 110, 130)
    images, valid = lay(sky, FOUR[:3], holes=[(0, half), (1, Box(40, 60, 150, 170)), (2, Box(80, 200, 0, 40))])
    blended = blend_pyramid(images, weigh(valid), levels)
    seen = valid.any(axis=0)
    assert np.abs(blended[0][seen] - 1000).max() < 0.01
    assert (blended[0][~seen] == 0).all()


@pytest.mark.parametrize("levels", [0, 3])
def test_a_star_on_a_seam_keeps_its_flux(levels):
    """Tiles with other offsets and 0.1 % other gains; stars all over the overlap, also cut by a tile's edge."""
    boxes = [Box(0, 200, 0, 150), Box(0, 200, 90, 240)]
    at = [(y, x) for x in (92.3, 105.0, 120.6, 147.8) for y in (40.2, 100.0, 160.5)]
    stars = sum(gaussian_star((200, 240), y, x, 1e5) for y, x in at)
    images, valid = lay(stars[None] + 500, boxes, corrections=[-3, 5])
    blended = blend_pyramid(images, weigh(valid), levels)[0]
    yy, xx = np.mgrid[:200, :240]
    for y, x in at:
        r = np.hypot(yy - y, xx - x)
        flux = np.sum(blended[r < 8]) - np.count_nonzero(r < 8) * np.median(blended[(r > 10) & (r < 15)])
        assert abs(2.5 * np.log10(flux / 1e5)) < 2e-3


@pytest.mark.parametrize("is_bent", [False, True])
@pytest.mark.parametrize("overlap", [32, 64])
def test_stars_of_unlike_seeing_change_as_predicted(overlap, is_bent):
    """Sigma 1.8 px in one tile, 2.3 in the other; a bent ramp keeps them to 2 mmag over 64 pixels."""
    fwhms, shape = (2.3548 * 1.8, 2.3548 * 2.3), (60, overlap + 80)
    valid = np.zeros((2, *shape), bool)
    valid[0, :, : 40 + overlap], valid[1, :, 40:] = True, True
    sides = (False, False, False, True), (False, False, True, False)
    shares = normalise_weights(np.stack([border_weights(v, sides=s) for v, s in zip(valid, sides, strict=True)]))
    shares = bend_shares(shares) if is_bent else shares
    off = []
    for x in np.arange(30.2, overlap + 50, 3.4):
        stars = np.stack([gaussian_star(shape, 30.1, x, 1e4, fwhm)[None] for fwhm in fwhms])
        blended = blend_pyramid(np.where(valid[:, None], stars, 0), shares, levels_for_overlap(overlap))[0]
        off.append(2500 * np.log10(blended.sum() / 1e4))
    predicted = predict_flux_change_mmag(fwhms, overlap, is_bent=is_bent)
    assert np.abs(off).max() == pytest.approx(predicted, rel=0.33)
    assert (np.abs(off).max() < 2) == (overlap == 64 and is_bent)


def test_bent_shares_are_shares():
    _, valid = lay(np.ones((1, 200, 220), np.float32), FOUR)
    straight = weigh(valid)
    bent = bend_shares(straight)
    assert np.abs(bent.sum(axis=0) - valid.any(axis=0)).max() < 1e-6
    assert (bent[~valid] == 0).all()
    np.testing.assert_allclose(bent[straight == 0.5], 0.5, rtol=1e-6)
    # The slope is even at both ends of an overlap.
    row = bent[0, 60, 80:140]
    assert np.abs(np.diff(row, 2)).max() < 0.2 * np.abs(np.diff(straight[0, 60, 80:140], 2)).max()


def test_a_step_between_tiles_becomes_a_gentle_slope():
    sky = np.full((1, 240, 400), 1000, np.float32)
    images, valid = lay(sky, [Box(0, 240, 0, 250), Box(0, 240, 150, 400)], corrections=[0, 100])
    row = blend_pyramid(images, weigh(valid), levels_for_overlap(100))[0, 120]
    assert abs(row[50] - 1000) < 0.1
    assert abs(row[350] - 1100) < 0.1
    assert np.abs(np.diff(row)).max() < 1.5  # 100 over 100 pixels
    # Kinks are what the eye sees: feathering has its whole bend in one pixel at each end of the overlap.
    feathered = blend_feather(images, weigh(valid))[0, 120]
    assert np.abs(np.diff(row, 2)).max() < 0.1 * np.abs(np.diff(feathered, 2)).max()


def test_the_order_of_tiles_does_not_matter():
    rng = np.random.default_rng(8)
    images, valid = lay(some_image((1, 200, 220)), FOUR, corrections=rng.normal(0, 30, 4))
    weights = weigh(valid)
    one = blend_pyramid(images, weights, 3)
    other = blend_pyramid(images[::-1].copy(), weights[::-1].copy(), 3)
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_window_gives_what_the_whole_gives():
    levels = 3
    border, step = blend_border_px(levels), 2**levels
    images, valid = lay(some_image((1, 200, 220)), FOUR, corrections=[0, 40, -70, 20])
    weights = weigh(valid)
    whole = blend_pyramid(images, weights, levels)
    inner = Box(80, 128, 96, 136)
    outer = inner.expand(border)
    assert outer.y0 % step == 0
    assert outer.x0 % step == 0
    outer = outer.intersect(Box.of_shape(whole.shape[1:]))
    part = blend_pyramid(images[..., *outer.slices].copy(), weights[..., *outer.slices].copy(), levels)
    cut = part[:, *inner.relative_to(outer).slices]
    np.testing.assert_array_equal(cut, whole[:, *inner.slices])


def test_levels_fit_the_overlap():
    assert [levels_for_overlap(px) for px in (0, 15, 16, 31, 32, 100, 128, 1e6)] == [0, 0, 1, 1, 2, 3, 4, 6]


def test_values_that_are_not_finite_are_an_error():
    images = np.ones((2, 1, 8, 8), np.float32)
    images[0, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        blend_pyramid(images, np.full((2, 8, 8), 0.5, np.float32), 1)
