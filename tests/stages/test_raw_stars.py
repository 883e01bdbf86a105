"""Stars fitted to raw samples: place, width and shape to a hundredth, whatever their colours."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bayer_cases import PATTERNS, mosaic, star_image
from zemosaic.stages.raw.cfa import fit_raw_stars

PIXEL_VARIANCE_FWHM = 5.545 / 12
"""What the width of the pixel adds to the square of a FWHM."""


def field(pattern, fwhm, colours, seed=1, n=25, noise=5.0, stretch=1.0):
    """A raw plane with n separate stars on a sloping sky, and where they are."""
    rng = np.random.default_rng(seed)
    x, y = (30 + 50 * (np.arange(n) % 5) + rng.uniform(-2, 2, n), 30 + 50 * (np.arange(n) // 5) + rng.uniform(-2, 2, n))
    gy, gx = np.mgrid[:260, :260]
    light = np.zeros((260, 260))
    for k in range(n):
        if stretch == 1:
            light += 30000 * star_image((260, 260), y[k], x[k], fwhm)
        else:
            s = fwhm / 2.3548
            light += (
                30000
                / (2 * math.pi * s * s * stretch)
                * np.exp(-((gx - x[k]) ** 2 / stretch**2 + (gy - y[k]) ** 2) / (2 * s * s))
            )
    planes = light * np.array(colours)[:, None, None] + np.array([800.0, 1000.0, 700.0])[:, None, None] + 0.3 * gx
    raw = mosaic(planes, pattern) if pattern else planes[1].astype(np.float32)
    return (raw + rng.normal(0, noise, raw.shape)).astype(np.float32), x, y, rng


@pytest.mark.parametrize("pattern", [*PATTERNS, None])
@pytest.mark.parametrize("fwhm", [1.9, 2.8, 5.0])
def test_place_and_width(pattern, fwhm):
    raw, x, y, rng = field(pattern, fwhm, (1.3, 1.0, 0.5))
    weight = np.ones_like(raw)
    found = fit_raw_stars(raw, weight, pattern, x + rng.uniform(-1, 1, 25), y + rng.uniform(-1, 1, 25), 1.4 * fwhm)
    np.testing.assert_allclose(found.x, x, atol=0.04)
    np.testing.assert_allclose(found.y, y, atol=0.04)
    expected = math.sqrt(fwhm**2 + PIXEL_VARIANCE_FWHM)
    width, ellipticity = found.typical()
    assert width == pytest.approx(expected, rel=0.005)
    np.testing.assert_allclose(found.fwhm_px, expected, rtol=0.03)
    assert ellipticity < 0.02


def test_colour_does_not_move_a_star():
    blue, x, y, _ = field("RGGB", 2.6, (0.1, 0.2, 1.5), noise=0.1)
    red, *_ = field("RGGB", 2.6, (1.5, 0.2, 0.1), noise=0.1)
    a, b = (fit_raw_stars(raw, np.ones_like(raw), "RGGB", x, y, 3.0) for raw in (blue, red))
    assert np.hypot(a.x - b.x, a.y - b.y).max() < 0.03


def test_elongated_stars():
    raw, x, y, _ = field("GBRG", 2.6, (1.0, 1.0, 1.0), stretch=1.5)
    found = fit_raw_stars(raw, np.ones_like(raw), "GBRG", x, y, 3.0)
    assert found.typical()[1] == pytest.approx(1 / 3, abs=0.01)
    assert found.typical()[0] == pytest.approx(2.6 * math.sqrt(1.5), rel=0.01)


def test_hot_pixels_of_weight_0_do_not_count_and_hopeless_stars_are_nan():
    raw, x, y, _ = field("GRBG", 2.8, (1.0, 1.0, 1.0))
    clean = fit_raw_stars(raw, np.ones_like(raw), "GRBG", x, y, 3.0)
    weight = np.ones_like(raw)
    for column, row in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        raw[row + 1, column], weight[row + 1, column] = 60000, 0
    found = fit_raw_stars(raw, weight, "GRBG", x, y, 3.0)
    np.testing.assert_allclose(found.x, clean.x, atol=0.03)
    np.testing.assert_allclose(found.fwhm_px, clean.fwhm_px, rtol=0.03)
    none = fit_raw_stars(raw, weight, "GRBG", [1.0, 258.0, 55.0], [130.0, 130.0, 55.0], 3.0)
    assert np.isnan(none.x[:2]).all()
    assert not np.isfinite(none.fwhm_px[2]) or not 2 < none.fwhm_px[2] < 3.5
    assert np.isnan(fit_raw_stars(raw, 0 * weight, "GRBG", x, y, 3.0).fwhm_px).all()
    assert np.isnan(fit_raw_stars(raw, weight, "GRBG", [], [], 3.0).typical()).all()
