"""Parts of images that saw no sky though their values vary: what is found, and what must not be."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest
import scipy

from zemosaic.stages.measure.no_data import find_no_data
from zemosaic.stages.measure.no_signal import find_no_signal

SHAPE = (320, 400)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
F4 = npt.NDArray[np.float32]
Map = npt.NDArray[np.bool_]


def noise(level: float, sigma: float, seed: int = 9) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(level, sigma, SHAPE)


def add_star(image: npt.NDArray[np.float64], x: float, y: float, flux: float) -> None:
    near = np.s_[max(int(y) - 8, 0) : max(int(y) + 9, 0), max(int(x) - 8, 0) : max(int(x) + 9, 0)]
    image[near] += flux / 9 * np.exp(-((X[near] - x) ** 2 + (Y[near] - y) ** 2) / 2.9)


@lru_cache
def sky(seed: int = 1, *, level: float = 1000.0, n_stars: int = 300) -> F4:
    """A sky with a gradient, a nebula and stars of all brightnesses."""
    rng = np.random.default_rng(seed)
    image = level + 40 * (X / 400 - 0.5) - 30 * (Y / 320) ** 2 + 300 * np.exp(-((X - 260) ** 2 + (Y - 90) ** 2) / 4000)
    for x, y, flux in zip(*rng.uniform(0, 400, (2, n_stars)), 500 * rng.pareto(1, n_stars) + 500, strict=True):
        add_star(image, x, 0.8 * y, min(flux, 5e5))
    return (image + rng.normal(0, 14, SHAPE)).astype(np.float32)


def lost(image: F4) -> Map:
    """What `find_no_data` leaves out."""
    found = np.zeros(SHAPE, bool)
    for y, first, last in find_no_data(image[None], np.ones((1, *SHAPE), np.float32)):
        found[y, first:last] = True
    return found


HALF = Y >= 150
CIRCLE = np.hypot(X - 200, Y - 160) > 185
SLANTED = 0.9 * X + 0.4 * Y < 120
TURNED = 0.95 * X + 0.31 * Y < 90
CORNER = (X < 150) & (Y < 170)
BAR = (X > 200) & (X < 240)
PARTS = {
    "half black, read noise": (HALF, noise(0, 4)),
    "half at the bias level": (HALF, noise(300, 8)),
    "half as noisy as the sky": (HALF, noise(700, 14)),
    "occulted strip": (X < 90, noise(200, 3)),
    "bar from side to side": (BAR, noise(300, 6)),
    "beyond the image circle": (CIRCLE, noise(200, 3)),
    "shutter blade": (SLANTED, noise(700, 10)),
    "L-shaped field": (CORNER, noise(400, 6)),
    "smooth border": ((X < 30) | (Y < 20), 1000 + 0.5 * X + 0.002 * X * Y),
    "smooth border of a turned footprint": (TURNED, 1000 + 0.5 * X + 0.002 * X * Y),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_parts_without_sky_are_found_to_their_edge(name: str, seed: int) -> None:
    part, values = PARTS[name]
    found = lost(np.where(part, values, sky(seed)).astype(np.float32))
    assert found[part].mean() > 0.995  # all but where a slanted part ends in a tip
    # What is lost beside: a rim, or the blocks that the edge of a smooth part crosses.
    width = 24 if name.startswith("smooth") else 8
    assert not found[scipy.ndimage.distance_transform_edt(~part) > width].any()


def test_a_soft_edge_is_lost_with_its_part() -> None:
    share = np.clip((185 - np.hypot(X - 200, Y - 160)) / 3 + 0.5, 0, 1)
    image = (200 + (sky() - 200) * share + noise(0, 3) * (1 - share)).astype(np.float32)
    found = lost(image)
    assert found[share < 0.99].mean() > 0.99
    assert found[share == 1].mean() < 0.03


@pytest.mark.parametrize("lag", [1, 2])
def test_a_readout_that_repeats_its_last_rows_is_found(lag: int) -> None:
    image = sky().copy()
    for y in range(200, SHAPE[0]):
        image[y] = image[y - lag]
    found = lost(image)
    assert found[200:].all()
    assert not found[:197].any()
    turned = np.ascontiguousarray(image.T)
    assert np.array_equal(find_no_signal(turned, np.ones(turned.shape, bool)).T, find_no_signal(image, found | ~found))


def test_half_of_a_raw_plane() -> None:
    colours = np.tile([[1.0, 0.7], [1.3, 1.0]], (SHAPE[0] // 2, SHAPE[1] // 2))
    image = (sky() * colours).astype(np.float32)
    assert not lost(image).any()
    found = lost(np.where(HALF, noise(200, 4), image).astype(np.float32))
    assert found[HALF].all()
    assert not found[:142].any()


@pytest.mark.parametrize("level", [0.0, 1000.0, 50_000.0])
def test_skies_stay(level: float) -> None:
    assert not lost(sky(level=level)).any()


def test_a_crowded_core_stays() -> None:
    rng, image = np.random.default_rng(3), sky(n_stars=0).astype(float)
    for x, y, flux in zip(*rng.normal(0, 40, (2, 1500)), 2000 * rng.pareto(1, 1500) + 500, strict=True):
        add_star(image, 200 + x, 160 + y, flux)
    assert not lost(image.astype(np.float32)).any()


@pytest.mark.parametrize(
    "shape",
    [
        1 - 0.6 * np.hypot(X - 200, Y - 160) ** 2 / 256**2,  # no flat
        1 + 20 * np.exp(-((X + 100) ** 2 + (Y - 50) ** 2) / 8000),  # a core at the border
        1 - 0.5 / (1 + np.exp((X - 150) / 12)),  # the edge of a cloud, of a roof out of focus
        1 - 0.4 * np.exp(-((((X - 40) / 60) ** 2 + ((Y - 100) / 40) ** 2) ** 2)),  # a dark nebula
        1 + 3 / (1 + np.exp((X + 0.3 * Y - 150) / 12)),  # the front of a bright one
    ],
)
def test_gradients_and_nebulae_stay(shape: npt.NDArray[np.float64]) -> None:
    clean = (sky() - 1000 - noise(0, 0)) * np.minimum(shape, 1) + 1000 * shape
    assert not lost(clean.astype(np.float32)).any()


def test_a_deep_middle_and_a_shallow_rim_stay() -> None:
    depth = np.where((X > 100) & (X < 300), 60, 1)
    assert not lost((1000 + noise(0, 14) / np.sqrt(depth)).astype(np.float32)).any()


def test_an_image_that_was_made_and_one_enlarged_stay() -> None:
    assert not lost((1000.0 + X + 0 * Y).astype(np.float32)).any()
    assert not lost(np.kron(sky()[::4, ::4], np.ones((4, 4), np.float32))).any()


def test_a_nebula_with_steep_fronts_under_stars_stays_data() -> None:
    """What shows stars has seen the sky, however sharp the front of a nebula beside it."""
    rng = np.random.default_rng(8)
    image = sky() + np.where(120 + 20 * np.sin(Y / 15) > X, 600, 0)
    for x, y in rng.uniform(10, 310, (60, 2)):
        image += 3000 * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 4)
    assert not lost(image.astype(np.float32)).any()


@pytest.mark.parametrize("seed", [1, 2])
def test_what_lies_behind_an_edge_at_the_bright_end_of_a_sloping_sky_stays(seed: int) -> None:
    """Most of the sky is then darker than halfway up the edge; a sliver beside the bright end still goes."""
    image = sky(seed) + 1000 - 3 * Y
    blade, sliver = Y < 18, (X < 4) & (Y > 30) & (Y < 50)
    dark = 1500 + noise(0, 6)
    assert np.median(image) < 0.5 * (np.median(image[20]) + np.median(dark))
    found = lost(np.where(blade | sliver, dark, image).astype(np.float32))
    assert found[blade | sliver].all()
    assert not found[scipy.ndimage.distance_transform_edt(~(blade | sliver)) > 8].any()
