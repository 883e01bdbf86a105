"""Demosaicing: exact on smooth light, flux kept, windows that agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayer_cases import PATTERNS, mosaic, star_image
from zemosaic.kernels.demosaic import BORDER, demosaic
from zemosaic.stages.cfa import channel_map


@pytest.mark.parametrize("pattern", PATTERNS)
def test_flat_and_sloping_light_is_exact(pattern):
    y, x = np.mgrid[:40, :50]
    planes = np.stack([300.0 + 0 * x, 500.0 + 0 * x, 900.0 + 0 * x]) + 2 * x - 3 * y
    data, weight = demosaic(mosaic(planes, pattern), np.ones((40, 50), np.float32), pattern)
    np.testing.assert_allclose(data[:, 2:-2, 2:-2], planes[:, 2:-2, 2:-2], rtol=1e-6)
    assert (weight == 1).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_samples_stay_and_flux_is_kept(pattern):
    colours = np.array([0.5, 1.0, 1.4])
    totals = []
    for dy, dx in np.random.default_rng(4).uniform(-1, 1, (40, 2)):
        raw = mosaic(1000 * star_image((48, 64), 24 + dy, 31 + dx, 2.6) * colours[:, None, None], pattern)
        data, _ = demosaic(raw, np.ones_like(raw), pattern)
        channel = channel_map(pattern)[np.arange(48)[:, None] % 2, np.arange(64)[None] % 2]
        np.testing.assert_array_equal(np.take_along_axis(data, channel[None], 0)[0], raw)
        totals.append(data.sum((1, 2)))
    np.testing.assert_allclose(np.mean(totals, axis=0), 1000 * colours, rtol=3e-3)


def test_a_white_star_is_sharp_and_a_missing_sample_is_not_used():
    star = np.stack([10000 * star_image((48, 64), 24.2, 31.4, 2.8)] * 3)
    raw, weight = mosaic(star, "RGGB"), np.ones((48, 64), np.float32)
    clean, _ = demosaic(raw, weight, "RGGB")
    assert np.abs(clean - star).max() < 0.13 * star.max()
    weight[10, 12] = 0
    kept = raw[10, 12]
    raw[10, 12] = 1e7
    data, out = demosaic(raw, weight, "RGGB")
    np.testing.assert_allclose(data, clean, atol=0.5)
    assert out[10, 12] == 0
    assert np.count_nonzero(out == 0) == 1
    assert kept < 1


@given(y0=st.integers(0, 30), x0=st.integers(0, 30), pattern=st.sampled_from(PATTERNS), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=30)
def test_windows_agree(y0, x0, pattern, seed):
    rng = np.random.default_rng(seed)
    raw = rng.normal(100, 10, (64, 64)).astype(np.float32)
    weight = np.where(rng.random(raw.shape) < 0.03, 0, 1).astype(np.float32)
    whole, whole_weight = demosaic(raw, weight, pattern)
    part = np.s_[y0 : y0 + 30, x0 : x0 + 34]
    data, out = demosaic(raw[part].copy(), weight[part].copy(), pattern, origin=(y0, x0))
    inner = np.s_[..., BORDER:-BORDER, BORDER:-BORDER]
    np.testing.assert_array_equal(data[inner], whole[(..., *part)][inner])
    np.testing.assert_array_equal(out[inner], whole_weight[part][inner])


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"at least 5 x 5 pixels .* got \(4, 9\)"):
        demosaic(np.ones((4, 9), np.float32), np.ones((4, 9), np.float32), "RGGB")
    with pytest.raises(ValueError, match="got 'RGBG'"):
        demosaic(np.ones((9, 9), np.float32), np.ones((9, 9), np.float32), "RGBG")
