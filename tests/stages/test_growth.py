"""Growth curves: a real widening of the PSF is found, and what each star's neighbours add is not taken for one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from zemosaic.model.box import Box
from zemosaic.model.measurements import Blocks, Measurements, Stars
from zemosaic.model.photo_scale import surface_basis
from zemosaic.stages.match.growth import Growth, fit_growth

SHAPE = (540, 960)
N_IMAGES = 40
NOISE = 0.01
NEIGHBOURS = 0.015
"""Scatter of ln(wide / measured) from star to star, the same in all images."""


def camera_of(seed: int, field: Sequence[float] = (0, 0, 0, 0, 0), n_stars: int = 60) -> Growth:
    """Growth curves of images of one place, a few pixels apart, that lose `field` over their area."""
    rng = np.random.default_rng(seed)
    x0, y0 = rng.uniform(20, SHAPE[1] - 20, n_stars), rng.uniform(20, SHAPE[0] - 20, n_stars)
    own = rng.normal(0, NEIGHBOURS, n_stars)
    images, labels = [], []
    for _ in range(N_IMAGES):
        dx, dy = rng.normal(0, 5, 2)
        x, y = x0 + dx, y0 + dy
        seen = (x > 0) & (y > 0) & (x < SHAPE[1] - 1) & (y < SHAPE[0] - 1)
        x, y = x[seen], y[seen]
        loss = 0.02 + np.array(field) @ surface_basis(x, y, SHAPE)[1:] + own[seen] + rng.normal(0, NOISE, len(x))
        flux = np.full((1, len(x)), 1e5, np.float32)
        error = flux * np.float32(NOISE / 1.8)
        f4, no = np.full(len(x), 2.7, np.float32), np.zeros(len(x), bool)
        stars = Stars(x, y, flux, error, (flux * np.exp(loss)).astype(np.float32), f4, f4, f4, no, no)
        images.append(Measurements(SHAPE, *3 * [np.ones(1)], Box.of_shape(SHAPE), 2.7, 0.05, stars, Blocks.empty(1)))
        labels.append(np.flatnonzero(seen))
    return fit_growth(images, np.zeros(N_IMAGES, np.int64), labels)


def test_neighbours_of_stars_are_no_growth_curve():
    """Forty images of the same sixty stars know no more of the field than one."""
    found = [camera_of(seed) for seed in range(40)]
    assert sum(bool(growth.coefficients[:, 0, 1:].any()) for growth in found) <= 1
    for growth in found:
        np.testing.assert_allclose(growth.coefficients[:, 0, 0], 0.02, atol=0.012)
        assert growth.coefficients[0, 0, 1:].any() == growth.field_covariance.any()


def test_a_widening_psf_is_found_within_its_stated_errors():
    field, pulls = np.array([0.03, -0.02, 0.05, 0.02, 0.03]), []
    for seed in range(20):
        growth = camera_of(100 + seed, tuple(field), n_stars=120)
        error = np.sqrt(np.diag(growth.field_covariance[0, 0]))
        assert np.all(error > 0)
        pulls.append((growth.coefficients[0, 0, 1:] - field) / error)
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.3


def test_what_the_stars_tell_is_stated_also_where_nothing_is_taken():
    errors = []
    for seed in range(20):
        doubt = camera_of(seed).field_doubt[0, 0]
        errors.append(np.sqrt(np.diag(doubt)))
    # The scatter from star to star, over the root of their number and the rms of u and of u^2.
    expected = NEIGHBOURS / np.sqrt(60) / np.array([0.577, 0.298])
    np.testing.assert_allclose(np.mean(errors, axis=0)[[0, 2]], expected, rtol=0.3)


@pytest.mark.parametrize("n_stars", [0, 1, 4])
def test_few_stars_tell_no_field(n_stars):
    """Five terms bend to five stars, whose residuals then say nothing of the error."""
    growth = camera_of(7, n_stars=n_stars)
    assert not growth.coefficients[:, 0, 1:].any()
    assert np.all(np.sqrt(np.diag(growth.field_doubt[0, 0])) > 0.005)
