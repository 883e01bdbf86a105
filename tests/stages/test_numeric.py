"""Robust statistics and conjugate gradients; what the match finds whatever the threads of a BLAS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zemosaic.kernels.match.dense import add_squares, factorise
from zemosaic.kernels.match.gains import Detections
from zemosaic.kernels.match.images import group_images
from zemosaic.stages.match.gain_errors import gain_variances
from zemosaic.stages.numeric.conjugate import solve_conjugate
from zemosaic.stages.numeric.robust import MAD_TO_SIGMA, MEDIAN_CHI2_1, cauchy_weight, mad_sigma

HERE = Path(__file__).parent

THREADED = """
import sys
import numpy as np
from simulated_measurements import Survey
from zemosaic.engine.values import digest_of
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.gains import solve_gains
from zemosaic.stages.match.growth import Growth
from zemosaic.stages.match.match import match
from zemosaic.stages.match.star_ties import StarTies

rng = np.random.default_rng(1)
n = 20_000
star = np.repeat(np.arange(4 * n), 2)
near, far = rng.integers(0, 9, 4 * n), rng.integers(9, 99, 4 * n)
image = (np.ravel([near, far], "F") + star // 4) % n
by_image = np.argsort(image, kind="stable")
image, star = image[by_image], star[by_image]
noise = rng.normal(0, 0.01, (1, len(star)))
flux = np.exp(rng.normal(0, 0.1, n)[image] + rng.normal(9, 1, 4 * n)[star] + noise)
growth = Growth(np.zeros((n, 1, 6)), np.zeros((n, 1)), np.zeros((1, 1, 5, 5)), np.zeros((1, 1, 5, 5)))
ties = StarTies(image, star, *rng.uniform(-1, 1, (4, len(star))), flux, 0.01 * flux, 4 * n, growth)
gains = solve_gains(ties, 0, np.zeros(n, np.int64), np.zeros(n), 0)
print(digest_of(gains.log_gain, gains.log_gain_error))
survey = Survey(n_side=15, pitch_deg=0.14)
found = match(survey.measurements, survey.wcs, survey.grid, MatchSettings())
assert np.isfinite(found.sky).sum() > 4_000
print(digest_of(found.scales, found.sky, found.prior_sd))
"""


def test_mad_sigma_is_sigma_whatever_a_few_values_do():
    values = np.random.default_rng(1).normal(5, 2, 20_000)
    values[:100] = 1e6
    assert mad_sigma(values) == pytest.approx(2, rel=0.03)
    assert mad_sigma(values, 5.0) == pytest.approx(2, rel=0.03)
    assert mad_sigma([1, 2, 4], 0) == 2 * MAD_TO_SIGMA
    assert mad_sigma([3, 3, 3, 9]) == 0


def test_half_of_chi_squared_lies_below_its_median():
    squares = np.random.default_rng(2).normal(0, 1, 100_000) ** 2
    assert np.mean(squares < MEDIAN_CHI2_1) == pytest.approx(0.5, abs=0.01)


def test_a_value_far_out_pulls_less():
    pull = np.array([0.0, 2.0, 20.0])
    np.testing.assert_allclose(cauchy_weight(pull**2, 2.0), [1, 0.5, 1 / 101])
    assert cauchy_weight(pull.astype(np.float32), 2.0).dtype == np.float32


def test_conjugate_gradients_solve_each_column_by_itself():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(40, 40))
    matrix, rhs = root @ root.T + 40 * np.eye(40), rng.normal(size=(40, 3)) * [1, 100, 0]

    def correct(r):
        change = r / (np.diag(matrix) if r.ndim == 1 else np.diag(matrix)[:, None])
        return change, matrix @ change

    x = solve_conjugate(correct, rhs, enough=1e-20, most_steps=200)
    np.testing.assert_allclose(matrix @ x, rhs, atol=1e-8)
    # A column ends where it would end alone, whatever the others still need.
    rough = solve_conjugate(correct, rhs, enough=1e-3, most_steps=200)
    for column, alone in zip(rough.T, rhs.T, strict=True):
        np.testing.assert_allclose(column, solve_conjugate(correct, alone, enough=1e-3, most_steps=200), atol=1e-8)
    mixed = solve_conjugate(correct, rhs, enough=np.array([1e-20, 1e-3, np.inf]), most_steps=200)
    np.testing.assert_allclose(mixed, np.stack([x[:, 0], rough[:, 1], 0 * x[:, 2]], axis=1), atol=1e-8)
    few = solve_conjugate(correct, rhs, enough=1e-20, most_steps=2)
    assert np.abs(matrix @ few - rhs).max() > 1e-3


def test_nothing_to_solve_for_gives_nothing():
    x = solve_conjugate(lambda r: (r, 2 * r), np.zeros(5), enough=0.0, most_steps=10)
    np.testing.assert_array_equal(x, 0)


@pytest.mark.parametrize("n", [1, 7, 60, 130])
def test_the_diagonal_of_an_inverse(n):
    root = np.random.default_rng(n).normal(size=(n, n))
    matrix, out, columns = root @ root.T + 0.1 * np.eye(n), np.zeros(n), np.eye(n)
    columns[:2] *= 0
    expected = np.diag(columns.T @ np.linalg.inv(matrix) @ columns)
    factorise(matrix)
    add_squares(matrix, columns, min(2, n), out)
    np.testing.assert_allclose(out, expected, rtol=1e-9)


@pytest.mark.parametrize(("n", "n_things", "most"), [(300, 4000, 6), (50, 200, 2), (10, 5, 0), (1, 3, 2)])
def test_groups_of_images_that_share_things(n, n_things, most):
    rng = np.random.default_rng(n)
    start = np.concatenate([[0], np.cumsum(rng.integers(0, most + 1, n))])
    things, group = rng.integers(0, n_things, start[-1]), np.empty(n, np.int64)
    group_images(start, things, n_things, group)
    # By the least number of an image that can be reached, step by step.
    first, shares = np.arange(n), np.zeros((n, n_things), bool)
    shares[np.repeat(np.arange(n), np.diff(start)), things] = True
    tied = (shares @ shares.T) | np.eye(n, dtype=bool)
    for _ in range(n):
        first = np.where(tied, first, n).min(axis=1)
    np.testing.assert_array_equal(group, np.unique(first, return_inverse=True)[1])


@pytest.mark.parametrize(("n", "n_stars"), [(90, 12), (90, 200), (1, 1)])
def test_variances_of_gains_through_images_and_through_stars(n, n_stars):
    rng = np.random.default_rng(n_stars)
    # Two groups of images with stars of their own, an image without one, a star that nobody sees.
    pairs = [(i, s) for i in range(n - (n > 1)) for s in range(n_stars - 1) if i % 2 == s % 2 and rng.random() < 0.6]
    image, star = np.array(pairs or [(0, 0)]).T
    weight, hold = rng.uniform(1, 3, len(image)), np.full(n, 0.3)
    component = np.arange(n) % 2
    hold[component == 1] = 0.7
    unknown = np.zeros(len(image))
    seen = Detections(image, np.zeros_like(image), star, unknown, unknown, 0, n)
    priors, least = rng.choice([0.0, 0.5], n_stars), np.full(n, 1e-3)
    seen_by = np.zeros((n_stars, n))
    np.add.at(seen_by, (star, image), weight)
    totals = seen_by.sum(axis=1) + priors * (seen_by.sum(axis=1) > 0)
    known = totals > 0
    matrix = np.diag(seen_by.sum(axis=0) + least) - seen_by[known].T / totals[known] @ seen_by[known]
    matrix += np.where(component[:, None] == component, hold, 0)
    found = gain_variances(seen, weight, totals, least, hold, component)
    np.testing.assert_allclose(found, np.diag(np.linalg.inv(matrix)), rtol=1e-8)


def test_twenty_thousand_gains_and_a_match_are_the_same_with_one_and_two_blas_threads():
    def begin(threads: int) -> subprocess.Popen[str]:
        settings = {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        path = os.pathsep.join([str(HERE.parent / "cases"), *sys.path])
        return subprocess.Popen(
            [sys.executable, "-c", THREADED], env={**os.environ, **settings, "PYTHONPATH": path},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    both = [begin(1), begin(2)]
    one, two = (run.communicate()[0] for run in both)
    assert [run.returncode for run in both] == [0, 0]
    assert one == two != ""
