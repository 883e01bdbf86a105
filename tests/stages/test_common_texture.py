"""Texture that images share: how much better blocks know surfaces than their errors state."""

from __future__ import annotations

import numpy as np
import pytest

from simulated_measurements import Survey
from zemosaic.stages.match.background import BackgroundSystem, Layout, WeightedBlocks
from zemosaic.stages.match.common_texture import find_surplus, unit_noise
from zemosaic.stages.match.sky_nodes import BlockTable, make_block_table

BLOCK_PX, NODE_PX = 32, 37


def table_of(seed: int) -> BlockTable:
    survey = Survey(n_side=4, n_stars=5, seed=seed)
    return make_block_table(survey.measurements, survey.wcs, survey.grid, NODE_PX)


def texture(table: BlockTable, seed: int) -> np.ndarray:
    """Means over blocks of waves on the sky, half a block to three blocks long: an area holds little of each."""
    rng = np.random.default_rng(seed)
    n, nx = 400, table.nodes.shape[1]
    x, y = ((q + f) * NODE_PX / BLOCK_PX for q, f in ((table.cell % nx, table.fx), (table.cell // nx, table.fy)))
    length, turn, phase = rng.uniform(0.5, 3, n), rng.uniform(0, np.pi, n), rng.uniform(0, 2 * np.pi, n)
    kx, ky = np.cos(turn) / length, np.sin(turn) / length
    out = np.zeros(len(x))
    for a, b, p in zip(kx, ky, phase, strict=True):
        out += np.cos(2 * np.pi * (a * x + b * y) + p) * np.sinc(a) * np.sinc(b)
    return out / out.std()


def surplus_of(table: BlockTable, value: np.ndarray, variance: float) -> float:
    """Of blocks that state a variance."""
    n = len(value)
    weight = np.full(n, 1 / variance, np.float32)
    prior, centre = np.full((table.n_images, 6), 1e-2), np.zeros((table.n_images, 6))
    data = WeightedBlocks(value.astype(np.float32), 1 / np.sqrt(weight), weight, None, prior, centre, 100.0)
    system = BackgroundSystem.of(Layout.of(table, 2), data)
    sky, surfaces = system.solve([system.data_side()])[0]
    left = system.rest_of(unit_noise(system))
    return find_surplus(system, system.residuals(sky, surfaces), left)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_of_images_is_what_it_states(seed):
    table = table_of(seed)
    assert surplus_of(table, np.random.default_rng(seed).normal(size=len(table.cell)), 1.0) < 1.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_texture_of_the_sky_hides_no_trend(seed):
    table = table_of(seed)
    shared, own = texture(table, seed), np.random.default_rng(seed).normal(size=len(table.cell))
    alone, both = surplus_of(table, shared, 1.0), surplus_of(table, shared + own, 2.0)
    assert alone > 2.5
    assert 1.2 < both < alone


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_surfaces_cannot_follow_is_an_error(seed):
    table = table_of(seed)
    cubic = np.random.default_rng(seed).normal(0, 3, table.n_images)[table.image] * table.u**3
    assert surplus_of(table, texture(table, seed) + cubic, 1.0) == 1.0


def test_without_any_noise_priors_still_count():
    table = table_of(1)
    assert surplus_of(table, np.zeros(len(table.cell)), 1.0) == pytest.approx(16)


def test_one_image_tells_nothing():
    few = Survey(n_side=1, n_stars=5)
    table = make_block_table(few.measurements, few.wcs, few.grid, NODE_PX)
    assert surplus_of(table, np.random.default_rng(0).normal(size=len(table.cell)), 1.0) < 1.3
