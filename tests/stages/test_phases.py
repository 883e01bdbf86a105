"""Whether a plane is a colour mosaic, told from its samples: planes whose filter is known."""

from __future__ import annotations

import numpy as np
import pytest

from bayer_cases import PATTERNS, mosaic, star_image
from zemosaic.errors import FrameRejected
from zemosaic.stages.raw.phases import PhaseLook, judge_phases, look_at_phases

SHAPE = (256, 320)
COLOURS = np.array([0.8, 1.0, 0.6])
SKY = np.array([700.0, 1000.0, 600.0])


def planes(seed, colours=COLOURS, sky=SKY, fwhm=2.8):
    """Three channels of one field: 70 stars before a sky, noise not yet added."""
    rng = np.random.default_rng(seed)
    light = np.zeros(SHAPE)
    for _ in range(70):
        y, x = rng.uniform(8, SHAPE[0] - 8), rng.uniform(8, SHAPE[1] - 8)
        y0, x0 = int(y) - 8, int(x) - 8
        part = star_image((17, 17), y - y0, x - x0, fwhm) * rng.uniform(3e3, 4e4)
        light[y0 : y0 + 17, x0 : x0 + 17] += part[: SHAPE[0] - y0, : SHAPE[1] - x0]
    return (colours[:, None, None] * light + sky[:, None, None]).astype(np.float32)


def look(plane, seed, saturation=np.inf):
    rng = np.random.default_rng(seed + 100)
    noisy = plane + rng.normal(0, 1, plane.shape) * np.sqrt(64 + 0.3 * plane)
    hot = rng.random(plane.shape) < 1e-3
    noisy[hot] += rng.uniform(500, 20000, np.count_nonzero(hot))
    return look_at_phases(noisy.astype(np.float32), np.ones(plane.shape, np.float32), saturation)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_greens_of_a_pattern_are_found(pattern):
    looks = [look(mosaic(planes(seed), pattern), seed) for seed in range(4)]
    assert judge_phases(looks) == ("main" if pattern[0] == "G" else "anti")
    share = np.mean([item.share for item in looks], axis=0)
    truth = COLOURS[["RGB".index(colour) for colour in pattern]].reshape(2, 2)
    np.testing.assert_allclose(share / share.mean(), truth / truth.mean(), atol=0.05)


def test_red_and_blue_alike_leave_the_brighter_diagonal_to_green():
    colours, sky = np.array([0.6, 1.0, 0.6]), np.array([500.0, 800.0, 500.0])
    looks = [look(mosaic(planes(seed, colours, sky), "GBRG"), seed) for seed in range(4)]
    assert judge_phases(looks) == "main"


@pytest.mark.parametrize("fwhm", [1.6, 2.8, 4.5])
def test_a_plane_without_a_filter_is_mono(fwhm):
    assert judge_phases([look(planes(seed, fwhm=fwhm)[1], seed) for seed in range(8)]) == "mono"


def test_uneven_columns_are_no_pattern():
    """Two amplifiers that read every other column, 3 % and 40 ADU apart."""
    looks = []
    for seed in range(4):
        plane = planes(seed)[1]
        plane[:, 1::2] = 1.03 * plane[:, 1::2] + 40
        looks.append(look(plane, seed))
    assert judge_phases(looks) is None


def test_a_sky_without_stars_tells_nothing():
    flat = np.full(SHAPE, 1000.0, np.float32)
    assert judge_phases([look(flat, seed) for seed in range(8)]) is None
    assert judge_phases([]) is None


def test_stars_and_sky_that_contradict_each_other_tell_nothing():
    found = look(mosaic(planes(0), "GRBG"), 0)
    sky = np.array([[700, 900], [900, 500]], np.float32)
    odd = PhaseLook(sky, found.noise, 5000, found.share, 0.005)
    assert judge_phases([odd] * 3) is None


def test_saturated_blocks_do_not_count():
    plane = np.minimum(mosaic(planes(0), "RGGB"), 1100)
    assert look(plane, 0, saturation=1100.0).n_blocks < look(plane, 0).n_blocks


def test_a_part_without_pixels_is_refused():
    with pytest.raises(FrameRejected):
        look_at_phases(np.ones((30, 30), np.float32), np.zeros((30, 30), np.float32))
