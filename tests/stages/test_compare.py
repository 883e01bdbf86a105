"""One tile against another: gains of stars and nebula, whatever the seeing; noise tells none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from zemosaic.model.box import Box
from zemosaic.stages.tiles.compare import Relation, relate_images
from zemosaic.stages.tiles.network import choose_pairs, solve_gains

F8 = npt.NDArray[np.float64]
SHAPE = 250, 100


def stars(rng: np.random.Generator, n: int, sigmas: tuple[float, float]) -> list[F8]:
    """The same stars in two seeings, some beyond the edges."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    out = [np.zeros(SHAPE), np.zeros(SHAPE)]
    for _ in range(n):
        x0, y0, flux = rng.uniform(-15, SHAPE[1] + 15), rng.uniform(-15, SHAPE[0] + 15), rng.uniform(500, 5000)
        for image, s in zip(out, sigmas, strict=True):
            image += flux / (2 * np.pi * s**2) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / s**2)
    return out


def pair(
    seed: int, *, n_stars: int = 0, nebula: float = 0, sigmas: tuple[float, float] = (1.7, 1.7), gain: float = 1,
    noise: tuple[float, float] = (1, 1),
) -> tuple[F8, F8]:  # fmt: skip
    rng = np.random.default_rng(seed)
    images = stars(rng, n_stars, sigmas)
    texture = rng.normal(0, 1, (SHAPE[0] + 80, SHAPE[1] + 80))
    blurred = [gaussian_filter(texture, np.hypot(10, s))[40:-40, 40:-40] for s in sigmas]
    x, y = (100 + i + nebula * b / blurred[0].std() for i, b in zip(images, blurred, strict=True))
    return x + rng.normal(0, noise[0], SHAPE), gain * y + 30 + rng.normal(0, noise[1], SHAPE)


def relate(seed: int, **kind: Any) -> Relation:
    found = relate_images(*pair(seed, **kind), np.ones(SHAPE, bool))
    assert found is not None
    return found


def test_noise_alone_tells_no_gain() -> None:
    for seed in range(30):
        found = relate(seed, noise=(1, 3))
        assert (found.slope, found.slope_error) == (1, np.inf)
        assert found.intercept == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(
    ("gain", "kind"),
    [
        (1.0, {"n_stars": 8}),
        (0.8, {"n_stars": 60}),
        (1.25, {"nebula": 5}),
        (1.25, {"n_stars": 60, "nebula": 5, "noise": (1, 5)}),
        (0.8, {"n_stars": 60, "nebula": 5, "noise": (5, 1)}),
    ],
)
def test_gains_come_back_with_their_errors(gain: float, kind: dict[str, Any]) -> None:
    found = [relate(seed, gain=gain, **kind) for seed in range(20)]
    pull = np.array([(r.slope - gain) / r.slope_error for r in found if np.isfinite(r.slope_error)])
    assert len(pull) >= 17
    assert 0.6 < np.sqrt(np.mean(pull**2)) < 1.4
    assert np.abs(pull).max() < 3.5


@pytest.mark.parametrize("soft", [1.05, 1.35, 1.5])
@pytest.mark.parametrize("nebula", [0.0, 5.0])
def test_seeing_is_no_gain(soft: float, nebula: float) -> None:
    """With little noise, so that the method's own error shows: below 2 mmag, either way round."""
    for sigmas in ((1.7, 1.7 * soft), (1.7 * soft, 1.7)):
        kind = {"n_stars": 60, "nebula": nebula, "sigmas": sigmas, "noise": (0.1, 0.1)}
        found = np.array([relate(seed, **kind).slope for seed in range(6)])
        assert abs(found.mean() - 1) < 0.0018


def test_a_trail_in_one_image_does_not_turn_the_slope() -> None:
    for first in (True, False):
        images = pair(3, n_stars=60, gain=0.8)
        images[0 if first else 1][120:124] += 3000
        found = relate_images(*images, np.ones(SHAPE, bool))
        assert found is not None
        assert abs(found.slope - 0.8) < 3 * found.slope_error


def test_gains_of_a_chain_and_their_errors() -> None:
    """Errors grow along a chain, and with what its middle is away; the scatter of many solves is what they state."""
    rng = np.random.default_rng(4)
    truth = np.exp(rng.normal(0, 0.1, 9))
    truth /= np.exp(np.log(truth).mean())
    ends = np.array([np.arange(8), np.arange(1, 9)])
    found = []
    for _ in range(300):
        slope = truth[1:] / truth[:-1] * (1 + rng.normal(0, 0.01, 8))
        gain, error = solve_gains(9, ends, slope, np.full(8, 0.01))
        found.append(np.log(gain / truth))
    assert np.std(found, axis=0) == pytest.approx(error, rel=0.15)
    assert error[0] > 1.5 * error[4]
    alone, unknown = solve_gains(3, np.array([[0], [1]]), np.array([1.1]), np.array([0.01]))
    assert alone == pytest.approx([1.1**-0.5, 1.1**0.5, 1])
    assert np.isinf(unknown[2])


def test_enough_pairs_are_compared_and_all_stay_tied() -> None:
    """Two heaps of thirty tiles that one narrow overlap ties."""
    boxes = [Box(k % 5, 100 + k % 5, 0, 100) for k in range(30)] + [Box(k % 5, 100 + k % 5, 95, 195) for k in range(30)]
    pairs = [(i, j) for j in range(60) for i in range(j)]
    kept = choose_pairs(boxes, pairs)
    assert kept == sorted(kept, key=pairs.index)
    assert len(kept) <= 8 * 60
    assert any(i < 30 <= j for i, j in kept)
    assert choose_pairs(boxes, pairs[:5]) == pairs[:5]
