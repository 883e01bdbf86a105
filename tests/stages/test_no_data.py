"""Parts of images that hold no data: what is found, and what must not be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from zemosaic.model.box import Box
from zemosaic.model.runs import drop_runs, map_of, runs_of
from zemosaic.stages.measure.no_data import find_no_data, find_outside

SHAPE = (200, 240)
F4 = npt.NDArray[np.float32]


def sky(*, level: float = 1000.0, noise: float = 10.0, whole: bool = False) -> F4:
    image = np.random.default_rng(1).normal(level, noise, SHAPE)
    return (np.rint(image) if whole else image).astype(np.float32)


def lost(image: F4, box: Box | None = None) -> npt.NDArray[np.bool_]:
    """Pixels of a window that are left without weight."""
    box = box or Box.of_shape(SHAPE)
    runs = find_no_data(image[None], np.ones((1, *SHAPE), np.float32))
    weight = np.ones((1, box.y1 - box.y0, box.x1 - box.x0), np.float32)
    drop_runs(weight, runs, box)
    return weight[0] == 0


@pytest.mark.parametrize("fill", [0.0, 500.0, 1000.0, 65535.0])
def test_constant_part_up_to_the_border_is_no_data(fill: float) -> None:
    image = sky(whole=True)
    image[120:] = fill
    found = lost(image)
    assert found[118:].all()
    assert not found[:118].any()


def test_turned_footprint_loses_its_outside_and_a_thin_rim() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    depth = 90 - np.abs(0.94 * (x - 120) + 0.34 * (y - 100))
    image = np.where(depth > 0, sky(), 0).astype(np.float32)
    found = lost(image)
    assert found[depth <= 0].all()
    assert not found[depth > 4].any()


@pytest.mark.parametrize("mark", [-9999.0, -32768.0, -999.0, 1e30, -1e30])
def test_marks_of_missing_pixels_are_no_data(mark: float) -> None:
    image = sky()
    image[:, :40] = mark
    image[150:170, 100:130] = mark
    found = lost(image)
    assert found[:, :40].all()
    assert found[150:170, 100:130].all()
    assert found.sum() < 42 * 200 + 24 * 34 + 1


def test_zeros_in_a_noisy_sky_stay_data() -> None:
    assert not lost(np.maximum(sky(level=0.0), 0)).any()


def test_sky_of_few_whole_numbers_stays_data() -> None:
    assert not lost(sky(level=100.0, noise=0.3, whole=True)).any()


def test_saturated_stars_and_dead_pixels_stay_data() -> None:
    image = sky()
    image[80:100, 80:100] = 65535
    image[10, 10] = image[50, 60] = 0
    assert not lost(image).any()


def test_image_of_one_value_is_left_to_the_noise() -> None:
    assert not lost(np.full(SHAPE, 7.0, np.float32)).any()


def test_windows_agree_with_the_whole() -> None:
    image = sky()
    image[120:, 30:] = 0
    box = Box(100, 140, 10, 75)
    np.testing.assert_array_equal(lost(image, box), lost(image)[100:140, 10:75])


def test_masked_borders_are_not_found_again() -> None:
    """A reader gives missing pixels one value and weight 0: nothing more is lost beside them."""
    image, weight = sky(), np.ones((1, *SHAPE), np.float32)
    image[:10], weight[:, :10] = 0, 0
    image[:, -6:], weight[:, :, -6:] = 0, 0
    assert len(find_no_data(image[None], weight)) == 0


TURNED = 90 - np.abs(0.94 * (np.arange(240) - 120) + 0.34 * (np.arange(200)[:, None] - 100))
"""Depth inside a turned footprint, in pixels."""


@pytest.mark.parametrize("mix_px", [0, 2, 3])
def test_the_mixed_rim_of_an_empty_part_is_lost_and_a_clean_one_stays(mix_px: int) -> None:
    """An interpolation against 0 left a dark rim inside the pixels that are there."""
    share = np.clip(TURNED / max(mix_px, 1e-3), 0, 1)
    image, weight = (sky() * share).astype(np.float32), (TURNED > 0.01).astype(np.float32)
    runs = find_no_data(image[None], weight[None])
    found = map_of(runs, Box.of_shape(SHAPE)) & (TURNED > 0.01)
    mixed = (TURNED > 0.01) & (share < 0.9)
    assert not mixed.any() or found[mixed].mean() > 0.95  # all but at the tips, which are too narrow
    assert not found[mix_px + 4 < TURNED].any()
    assert found.any() == (mix_px > 0)


def test_outside_of_a_footprint_is_what_reaches_the_border_of_its_box() -> None:
    weight = (TURNED > 0.01).astype(np.float32)
    weight[100, 100:103] = 0  # missing pixels are no outside
    outside = map_of(find_outside(weight[None], Box.of_shape(SHAPE)), Box.of_shape(SHAPE))
    assert not outside[TURNED > 0.01].any()
    assert outside[TURNED < -4].all()
    straight = np.ones(SHAPE, np.float32)
    straight[:20] = 0
    assert len(find_outside(straight[None], Box(20, 200, 0, 240))) == 0  # the box says it


def test_a_map_comes_back_from_its_runs() -> None:
    part = np.random.default_rng(2).random(SHAPE) < 0.3
    assert np.array_equal(map_of(runs_of(part), Box.of_shape(SHAPE)), part)
    assert np.array_equal(map_of(runs_of(part), Box(10, 60, 5, 33)), part[10:60, 5:33])
