"""Regions of one frame that deviate as a whole: faint trails go, noise, stars and what all frames have stay."""

from __future__ import annotations

import numpy as np
import pytest
from test_stack import FIELDS, FWHM, SIGMA, SKY, cube_of, messy, run, star_cube, star_fluxes

from zemosaic.model.box import Box
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.stack import border_px, stack_cube


def trail(shape, angle, width=1.6):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    distance = np.abs((xx - shape[1] / 2) * np.sin(angle) - (yy - shape[0] / 2) * np.cos(angle))
    return distance, SIGMA * np.exp(-0.5 * (distance / width) ** 2)


def left_of_trail(amplitude, region_sigma, angle, n=40):
    """Share of a faint trail in one of n frames that stays, in its core."""
    values = np.random.default_rng(int(100 * angle)).normal(SKY, SIGMA, (n, 240, 240))
    clean = run(values, region_sigma=region_sigma).data[0].astype(float)
    distance, light = trail((240, 240), angle)
    values[n // 3] += amplitude * light
    error = run(values, region_sigma=region_sigma).data[0] - clean
    core = distance < 1.5
    return error[core].mean() / (amplitude * light[core].mean() / n)


@pytest.mark.parametrize("angle", [0.0, 0.4, 0.785, 2.0])
def test_a_trail_of_two_sigma_goes(angle):
    assert abs(left_of_trail(2.0, 5.0, angle)) < 0.1
    assert left_of_trail(2.0, 0.0, angle) > 0.5


def test_noise_loses_nothing():
    values = np.random.default_rng(5).normal(SKY, SIGMA, (60, 400, 400))
    more = int(run(values, region_sigma=5).rejected.sum()) - int(run(values).rejected.sum())
    assert 0 <= more < 1e-5 * values.size


def test_correlated_noise_is_judged_by_what_areas_scatter_by():
    """Samples of twice the scatter over areas: without the share of a sample in it, noise would look like regions."""
    rng = np.random.default_rng(6)
    coarse = rng.normal(0, SIGMA, (30, 150, 150))
    values = SKY + coarse.repeat(2, axis=1).repeat(2, axis=2)
    lost = {}
    for share in (0.25, 1.0):
        weights = np.full(values.shape, share / SIGMA**2, np.float32)
        found = [
            stack_cube(cube_of(values, weights, share=share), FWHM, StackSettings(region_sigma=sigma, grow_px=0))
            for sigma in (5, 0)
        ]
        lost[share] = (int(found[0].rejected.sum()) - int(found[1].rejected.sum())) / values.size
    assert lost[0.25] < 1e-4
    assert lost[1.0] > 10 * lost[0.25]


@pytest.mark.parametrize("beta", [0, 2.5])
def test_stars_under_changing_seeing_stay(beta):
    values = star_cube(3, 30, beta, 600, "two")
    got = star_fluxes(run(values, region_sigma=5).data[0])
    assert abs(2500 * np.log10(np.median(got / star_fluxes(values.mean(0))))) < 3


def test_a_background_that_is_off_by_half_a_sigma_stays():
    values = np.random.default_rng(8).normal(SKY, SIGMA, (30, 200, 200))
    values[4] += 0.5 * SIGMA
    values[9] += np.linspace(-0.7, 0.7, 200) * SIGMA
    more = run(values, region_sigma=5).rejected.sum() - run(values).rejected.sum()
    assert more < 1e-4 * values.size


@pytest.mark.parametrize("size", [40, 71])
def test_result_does_not_depend_on_the_cut(size):
    values, weights, alpha = messy(4, n=12, h=120, w=140)
    values[3] += 3 * trail((120, 140), 0.6)[1].astype(np.float32)
    keys = {"region_sigma": 4.0}
    whole = run(values, weights=weights, alpha=alpha, **keys)
    assert whole.rejected.sum() > run(values, weights=weights, alpha=alpha).rejected.sum() + 100
    border, image = border_px(StackSettings(**keys), FWHM), Box.of_shape(values.shape[1:])
    for inner in image.split(size):
        outer = inner.expand(border).intersect(image)
        part = (slice(None), *outer.slices)
        got = run(values[part], weights=weights[part], alpha=alpha[part], inner=inner.relative_to(outer), **keys)
        cut = (slice(None), *inner.slices)
        assert all(getattr(got, f).tobytes() == getattr(whole, f)[cut].tobytes() for f in FIELDS)
