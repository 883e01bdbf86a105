"""Noise of images that were interpolated before: what adds up over areas, beside what one sample shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import convolve, gaussian_filter, shift

from mosaic_cases import draw_stars, tan_wcs
from zemosaic.settings import MeasureSettings
from zemosaic.stages.measure.area_noise import measure_area_noise
from zemosaic.stages.measure.frame import measure_frame, measure_sky

F4 = npt.NDArray[np.float32]
SIGMA = 12.0
SHAPE = 480, 640
NO_BAD = np.zeros(SHAPE, np.uint8)


def white(seed: int = 1) -> F4:
    return (1000 + SIGMA * np.random.default_rng(seed).normal(size=SHAPE)).astype(np.float32)


def debayered(plane: F4, row: int, column: int) -> F4:
    """One colour of a pattern, filled in between its samples by the mean of its neighbours."""
    mask = np.zeros(plane.shape)
    mask[row::2, column::2] = 1
    kernel = np.array([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    return (convolve(plane * mask, kernel) / convolve(mask, kernel)).astype(np.float32)


def neighbours(data: F4) -> float:
    return float(1.4826 * np.median(np.abs(np.diff(data, axis=1))) / np.sqrt(2))


def test_independent_samples_have_one_noise() -> None:
    found = measure_area_noise(white(), NO_BAD, SIGMA)
    assert (found.sample, found.area) == (SIGMA, SIGMA)


def test_a_nebula_and_a_gradient_are_no_noise() -> None:
    x = np.arange(SHAPE[1])
    cloud = gaussian_filter(np.random.default_rng(2).normal(size=SHAPE), 20)
    data = white() + (0.3 * x + 150 * cloud / cloud.std()).astype(np.float32)
    found = measure_area_noise(data, NO_BAD, SIGMA)
    assert (found.sample, found.area) == (SIGMA, SIGMA)


@pytest.mark.parametrize("how", ["red", "green", "smoothed"])
def test_interpolated_samples_have_two(how: str) -> None:
    plane = white()
    data = debayered(plane, 0, 0)
    area = 2 * SIGMA  # one sample of four, taken for four
    if how == "green":
        mask = np.indices(SHAPE).sum(axis=0) % 2
        kernel = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]])
        data, area = convolve(plane * mask, kernel).astype(np.float32), np.sqrt(2) * SIGMA
    if how == "smoothed":
        data = shift(data, (0.5, 0.5), order=1, mode="nearest")
    found = measure_area_noise(data, NO_BAD, neighbours(data))
    assert found.area == pytest.approx(area, rel=0.15)
    assert found.sample == pytest.approx(data[9:-9, 9:-9].std(), rel=0.06)


def test_a_frame_states_both_noises_and_honest_errors() -> None:
    rng, wcs = np.random.default_rng(4), tan_wcs(SHAPE)
    ra, dec = wcs.pixel_to_world_values(*(rng.uniform(20, side - 20, 60) for side in SHAPE[::-1]))
    plane = white(3) + draw_stars(wcs, SHAPE, ra, dec, 10 ** rng.uniform(3, 4.5, 60), 5.6)
    data = debayered(plane.astype(np.float32), 0, 0)[None]
    weight = np.ones((1, *SHAPE), np.float32)
    found, raw = (measure_frame(image, weight, MeasureSettings()) for image in (data, plane[None].astype(np.float32)))
    assert raw.area_noise == raw.noise
    assert found.area_noise[0] == pytest.approx(2 * SIGMA, rel=0.15)
    assert found.noise[0] == pytest.approx(measure_sky(data, weight).noise[0], rel=0.05)
    assert measure_sky(data, weight).area_noise[0] == pytest.approx(2 * SIGMA, rel=0.15)
    # Block means of the debayered frame scatter as their errors say.
    pulls = (found.blocks.mean[0] - np.median(found.blocks.mean[0])) / found.blocks.error[0]
    assert 0.8 < 1.4826 * np.median(np.abs(pulls)) < 1.25


def test_too_little_sky_says_nothing() -> None:
    bad = np.ones(SHAPE, np.uint8)
    bad[:20, :60] = 0
    assert measure_area_noise(debayered(white(), 0, 0), bad, 3.0).area == 3.0


def test_a_rest_of_a_cell_that_holds_one_size_of_blocks_alone() -> None:
    smooth = gaussian_filter(white(), 1)[:270, :300]  # 256 + 14 rows: room for blocks of 8 px, not for those of 16
    found = measure_area_noise(smooth, NO_BAD[:270, :300], neighbours(smooth))
    assert found.area > 1.5 * found.sample
