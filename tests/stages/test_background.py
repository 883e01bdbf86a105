"""The background solve as such: what is solved, and in how many steps."""

from __future__ import annotations

import numpy as np
import pytest

from simulated_measurements import Survey
from zemosaic.stages.match.background import BackgroundSystem, Layout, WeightedBlocks
from zemosaic.stages.match.sky_nodes import make_block_table
from zemosaic.stages.match.surface_priors import weigh_priors


def system_of(bend_sd: float, node_px: int = 96) -> BackgroundSystem:
    """Four images of noise, of which those at the rim reach some nodes by slivers of blocks alone."""
    survey = Survey(n_side=2, n_stars=5)
    table = make_block_table(survey.measurements, survey.wcs, survey.grid, node_px)
    rng = np.random.default_rng(0)
    value = rng.normal(0, 1, len(table.cell)).astype(np.float32)
    weight = rng.uniform(0.5, 2, len(value)).astype(np.float32)
    prior = np.tile([1.0, 2, 2, 3, 3, 3], (4, 1))
    data = WeightedBlocks(value, 1 / np.sqrt(weight), weight, None, prior, np.zeros((4, 6)), bend_sd)
    return BackgroundSystem.of(Layout.of(table, 2), data)


def test_the_solve_equals_dense_least_squares():
    """Schur complement, conjugate gradients and preconditioner against one plain dense system."""
    system = system_of(bend_sd=10.0)
    table, weight, prior = system.layout.table, system.data.weight, system.data.prior
    sky, surfaces = system.solve([system.data_side()])[0]
    gradient = system.residuals(sky, surfaces) * weight
    for i in range(4):
        part = slice(table.start[i], table.start[i + 1])
        u, v = table.u[part], table.v[part]
        terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v])
        # At the least squares solution the gradient of chi squared vanishes, surface by surface ...
        np.testing.assert_allclose(terms @ gradient[part], prior[i] * surfaces[i], atol=1e-2)
    share = [(1 - table.fx) * (1 - table.fy), table.fx * (1 - table.fy), (1 - table.fx) * table.fy, table.fx * table.fy]
    nx = table.nodes.shape[1]
    pull = sum(
        np.bincount(table.cell + step, gradient * s, table.nodes.n)
        for step, s in zip((0, 1, nx, nx + 1), share, strict=True)
    )
    nodes = sky.reshape(table.nodes.shape)
    bend = np.zeros_like(nodes)
    for turned, bends in ((nodes, bend), (nodes.T, bend.T)):
        second = turned[:, :-2] - 2 * turned[:, 1:-1] + turned[:, 2:]
        bends[:, :-2] += second
        bends[:, 1:-1] -= 2 * second
        bends[:, 2:] += second
    bend = bend.ravel() / 10.0**2
    # ... and node by node.
    np.testing.assert_allclose(pull, bend, atol=1e-2)


def test_each_right_hand_side_is_solved_by_itself():
    system = system_of(bend_sd=10.0)
    sides = [system.data_side(), *system.draws(range(5))]
    for (sky, surfaces), side in zip(system.solve(sides), sides, strict=True):
        alone = system.solve([side])[0]
        np.testing.assert_array_equal(sky, alone[0])
        np.testing.assert_array_equal(surfaces, alone[1])


def test_the_data_as_a_value_are_the_data():
    system = system_of(bend_sd=10.0)
    data, value = system.data_side(), system.value_side(system.data.value)
    np.testing.assert_allclose(value.sky, data.sky, rtol=1e-12)
    np.testing.assert_allclose(value.own, data.own, rtol=1e-12)
    found = system.solve([data])[0]
    np.testing.assert_allclose(system.rest_of(system.data.value), system.residuals(*found), atol=1e-6)


def test_a_coarse_correction_leaves_nothing_to_a_second_one():
    """That is so only where the coarse matrix is the system's own on coarse splines."""
    system = system_of(bend_sd=10.0, node_px=32)
    rest = np.random.default_rng(1).normal(size=(system.layout.table.nodes.n, 4))
    out, product = system._correct(rest, is_smooth=True)
    again, _ = system._correct(rest - product, is_smooth=True)
    assert np.abs(again).max() < 1e-6 * np.abs(out).max()


@pytest.mark.parametrize("bend_sd", [10.0, 1e3])
def test_steps_are_few_where_rims_hang_on_slivers(bend_sd, monkeypatch):
    steps = []
    correct = BackgroundSystem._correct

    def count(self, r, is_smooth=False):
        steps.append(is_smooth)
        return correct(self, r, is_smooth)

    monkeypatch.setattr(BackgroundSystem, "_correct", count)
    system = system_of(bend_sd, node_px=32)
    depth = system.depth()
    assert depth[depth > 0].min() < 1e-4 * np.median(depth)
    system.solve(system.draws(range(4)))
    assert len(steps) <= 12


def test_priors_of_many_images_lie_as_kernels_take_them():
    """Numpy hands large intermediate arrays on as they lie: a product would lie like its second factor."""
    surfaces = np.random.default_rng(2).normal(size=(10_000, 6))
    prior = np.ones_like(surfaces) / 3
    prior = prior * weigh_priors(surfaces, np.array([1.0, 0.5, 0.2]))
    assert prior.flags.c_contiguous
