"""Peaks too sharp for Lanczos: no dark rings, no light lost, nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from lattice_cases import affine_nodes, call, rotation
from zemosaic.kernels.resample.spikes import LOWEST_SIGMA, find_spikes

SKY, SIGMA, PITCH = 1000.0, 10.0, 32
SIDE = 10 * PITCH


def star_field(fwhm_px, flux, seed=1):
    """A hundred stars integrated over pixels, each elsewhere on its pixel, over sky with noise; (field, sky alone)."""
    rng = np.random.default_rng(seed)
    sky = rng.normal(SKY, SIGMA, (SIDE, SIDE))
    field, scale, at = sky.copy(), fwhm_px / 2.355 * np.sqrt(2), np.arange(SIDE)
    for y in range(PITCH // 2, SIDE, PITCH):
        for x in range(PITCH // 2, SIDE, PITCH):
            cy, cx = np.add((y, x), rng.uniform(-0.5, 0.5, 2))
            across, along = (erf((at + 0.5 - c) / scale) - erf((at - 0.5 - c) / scale) for c in (cy, cx))
            field += flux * np.outer(across, along) / 4
    return field.astype(np.float32)[None], sky.astype(np.float32)[None]


def warp(data, dering, degrees=0.7, shift=(-1.7, 2.4), kernel="lanczos3", weight=None, **more):
    nodes = affine_nodes(rotation(degrees), shift, (SIDE, SIDE), 8)
    weight = np.ones_like(data) if weight is None else weight
    sigma = {"inverse_variance": np.full(len(data), 1 / SIGMA**2)}
    return call(data, weight, nodes, (SIDE, SIDE), kernel=kernel, step=8, dering=dering, **sigma, **more)


@pytest.mark.parametrize(("kernel", "deepest"), [("lanczos3", -150), ("lanczos4", -360)])
def test_sharp_stars_have_no_dark_rings_and_keep_their_light(kernel, deepest):
    field, sky = star_field(1.3, 3e4)
    plain, mended, background = (warp(d, how, kernel=kernel)[0][0] for d, how in ((field, 0), (field, 1), (sky, 0)))
    rings = [np.sort((image - background)[20:-20, 20:-20], axis=None)[:30] for image in (plain, mended)]
    assert rings[0].min() < -450
    assert rings[1].min() > deepest
    assert rings[1].mean() > 0.4 * rings[0].mean()
    inside = np.s_[PITCH:-PITCH, PITCH:-PITCH]
    light = [(image - background)[inside].sum() for image in (plain, mended)]
    assert light[1] == pytest.approx(light[0], rel=2e-4)


@pytest.mark.parametrize("fwhm_px", [2.3, 2.6, 3.5])
def test_other_stars_and_noise_stay_as_they_are(fwhm_px):
    for data in star_field(fwhm_px, 1e6):
        np.testing.assert_array_equal(warp(data, True)[0], warp(data, False)[0])


def test_far_from_peaks_values_are_the_same():
    field, sky = star_field(1.3, 3e4)
    plain, mended = (warp(field, how)[0][0] for how in (False, True))
    far = warp(field, False)[0][0] - warp(sky, False)[0][0]
    untouched = np.abs(far) == 0
    assert untouched.mean() > 0.5
    np.testing.assert_allclose(mended[untouched], plain[untouched], rtol=1e-6)


def test_weights_and_flags_are_not_touched():
    field, _ = star_field(1.3, 3e4)
    for a, b in zip(warp(field, True, saturation=5000.0)[1:], warp(field, False, saturation=5000.0)[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_window_cut_elsewhere_gives_the_same():
    field, _ = star_field(1.3, 3e4)
    whole = warp(field, True, 0, (0.3, 0.4))[0][0]
    box = np.s_[:, 40:200, 60:220]
    part = warp(field[box], True, 0, (0.3, 0.4), origin=(40, 60))[0][0]
    inside = np.s_[47:193, 67:213]
    np.testing.assert_array_equal(part[inside], whole[inside])


def test_holes_are_no_spikes_and_have_none_beside():
    field, _ = star_field(1.3, 3e4)
    weight = (np.random.default_rng(2).random(field.shape) > 0.1).astype(np.float32)
    field[weight == 0] = 1e9
    spikes = find_spikes(field, weight, np.array([1 / SIGMA**2]))
    assert (spikes[weight == 0] == 0).all()
    assert 0 < spikes.max() < 3e4
    assert np.isfinite(warp(field, True, weight=weight)[0]).all()


def test_low_peaks_and_windows_without_peaks():
    data = np.full((2, 9, 9), SKY, np.float32)
    data[1, 4, 4] += 0.99 * LOWEST_SIGMA * SIGMA
    variance = np.full(2, 1 / SIGMA**2)
    assert find_spikes(data, np.ones((1, 9, 9), np.float32), variance).size == 0
    data[1, 4, 4] = SKY + 1.5 * LOWEST_SIGMA * SIGMA
    spikes = find_spikes(data, np.ones((1, 9, 9), np.float32), variance)
    assert spikes[1, 4, 4] == pytest.approx(0.5 * LOWEST_SIGMA * SIGMA)
    assert np.count_nonzero(spikes) == 1
