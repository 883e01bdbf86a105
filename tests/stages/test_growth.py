"""Growth curves: a real widening of the PSF is found, and what each star's neighbours add is not taken for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cases.simulated_measurements import Survey
from zemosaic.model.box import Box
from zemosaic.model.measurements import Blocks, Measurements, Stars
from zemosaic.model.photo_scale import surface_basis
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.growth import Growth, fit_growth
from zemosaic.stages.match.match import ImageFacts, match
from zemosaic.stages.match.sightings import Sightings

SHAPE = (540, 960)
N_IMAGES = 40
NOISE = 0.01
NEIGHBOURS = 0.015
"""Scatter of ln(wide / measured) from star to star, the same in all images."""


def camera_of(
    seed: int, field: Sequence[float] = (0, 0, 0, 0, 0), n_stars: int = 60, n_images: int = N_IMAGES
) -> Growth:
    """Growth curves of images of one place, a few pixels apart, that lose `field` over their area."""
    rng = np.random.default_rng(seed)
    x0, y0 = rng.uniform(20, SHAPE[1] - 20, n_stars), rng.uniform(20, SHAPE[0] - 20, n_stars)
    own = rng.normal(0, NEIGHBOURS, n_stars)
    images, labels = [], []
    for _ in range(n_images):
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
    sightings = Sightings(images, np.zeros(n_images, np.int64), labels)
    return fit_growth(sightings, [np.ones(len(label)) for label in labels])


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


def test_a_cameras_only_image_has_the_number_of_its_stars():
    growth = camera_of(5, n_images=1)
    np.testing.assert_allclose(growth.coefficients[0, 0], [0.02, 0, 0, 0, 0, 0], atol=0.01)
    assert 0 < growth.error[0, 0] < 0.002


@pytest.mark.parametrize("n_stars", [0, 1, 4])
def test_few_stars_tell_no_field(n_stars):
    """Five terms bend to five stars, whose residuals then say nothing of the error."""
    growth = camera_of(7, n_stars=n_stars)
    assert not growth.coefficients[:, 0, 1:].any()
    assert np.all(np.sqrt(np.diag(growth.field_doubt[0, 0])) > 0.005)


def on_a_nebula(survey: Survey) -> list[Measurements]:
    """The survey's measurements with a nebula in the middle that adds 6 % to wide apertures, more or less by star."""
    out, middle = [], survey.grid.shape[0] / 2
    for m, wcs in zip(survey.measurements, survey.wcs, strict=True):
        x, y = survey.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(m.stars.x, m.stars.y))
        # The same of a star in all frames: it hangs on the place on the sky alone, to a few pixels.
        knots = 1 + 0.5 * np.sin(x / 30) * np.cos(y / 25)
        added = 0.06 * np.exp(-(np.hypot(x - middle, y - middle) ** 2) / 500**2) * knots
        wide = m.stars.flux_wide * np.exp(added).astype(np.float32)
        out.append(replace(m, stars=replace(m.stars, flux_wide=wide)))
    return out


@pytest.mark.parametrize("seed", [1, 2])
def test_a_nebula_behind_the_stars_moves_no_gain(seed):
    """It was taken for a growth curve of the frames that hold it: their gains came out several percent high."""
    survey = Survey(seed=seed, nebula=0.0)
    found = match(on_a_nebula(survey), survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=survey.camera))
    error = survey.log_gain_error(found)
    assert np.max(np.abs(error)) < 0.004
    assert np.max(np.abs(error) / [s.gain_error[0] for s in found.scales]) < 4


def test_seeing_differs_on_a_nebula_as_elsewhere():
    """Half the frames miss 3 % more: their stars show it by what differs, not by how much they are off."""
    survey = Survey(seed=3, nebula=0.0)
    worse = np.arange(len(survey.wcs)) % 2 == 1
    measured = [
        replace(m, stars=replace(m.stars, flux=m.stars.flux * np.float32(0.97))) if bad else m
        for m, bad in zip(on_a_nebula(survey), worse, strict=True)
    ]
    found = match(measured, survey.wcs, survey.grid, MatchSettings(), ImageFacts(cameras=survey.camera))
    error = survey.log_gain_error(found)
    assert abs(error[worse].mean() - error[~worse].mean()) < 0.002
    assert np.max(np.abs(error)) < 0.006
