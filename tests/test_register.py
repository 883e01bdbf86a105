"""Shifts by phase correlation, exact footprints, coverage counted frame by frame."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as spline_shift

from zemosaic.model.box import Box
from zemosaic.stages.register import (
    FftShift,
    count_coverage,
    find_shift,
    reduce_footprint,
    shift_overlap,
    valid_pixels,
)

LOG = "zemosaic.stages.register"
SHAPE = 200, 256


def starry(seed: int = 1) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    field = np.zeros((300, 400))
    field[rng.integers(0, 300, 90), rng.integers(0, 400, 90)] = rng.uniform(200, 6000, 90)
    return gaussian_filter(field, 1.4)


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (5, -7), (-31, 40), (12, 0)])
def test_a_shift_is_found(dy: int, dx: int) -> None:
    sky, rng = starry(), np.random.default_rng(2)
    reference = sky[50:250, 70:326] + rng.normal(0, 3, SHAPE) + 1000
    image = sky[50 + dy : 250 + dy, 70 + dx : 326 + dx] + rng.normal(0, 3, SHAPE) + 400 + np.arange(256) * 2
    found = find_shift(reference, image)
    assert (found.dy, found.dx) == pytest.approx((dy, dx), abs=0.15)
    assert found.log10_chance < -8
    back = find_shift(image, reference)
    assert (back.dy, back.dx) == pytest.approx((-dy, -dx), abs=0.15)


def test_a_fraction_of_a_pixel() -> None:
    sky, rng = starry(), np.random.default_rng(2)
    moved = spline_shift(sky, (-3.4, 6.25))
    found = find_shift(*(s[50:250, 70:326] + rng.normal(0, 1, SHAPE) for s in (sky, moved)))
    assert (found.dy, found.dx) == pytest.approx((3.4, -6.25), abs=0.25)


def test_missing_pixels_do_not_enter() -> None:
    sky = starry()
    reference, image = sky[50:250, 70:326] + 100, sky[58:258, 66:322] + 100
    reference[:20] = np.nan
    image[:, 240:] = np.inf
    found = find_shift(reference, image)
    assert (found.dy, found.dx) == pytest.approx((8, -4), abs=0.15)
    with pytest.raises(ValueError, match="none that is finite"):
        find_shift(reference, np.full(SHAPE, np.nan))
    with pytest.raises(ValueError, match="one shape"):
        find_shift(reference, image[:10])


def test_the_chance_is_honest() -> None:
    """Pure noise: a stated chance of p occurs in about a share p of the pairs, never much more often."""
    rng = np.random.default_rng(4)
    stated = np.array([find_shift(*rng.normal(0, 1, (2, 64, 80))).log10_chance for _ in range(300)])
    for p in (0.3, 0.1, 0.03):
        assert p / 4 < (stated < np.log10(p)).mean() < 2 * p + 0.02
    assert stated.min() > -4.5


def test_a_shift_of_five_columns_leaves_out_five(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOG)
    assert shift_overlap(SHAPE, FftShift(0, 5, 20, -50)) == Box(0, 200, 5, 256)
    assert "dy=0.00 dx=5.00" in caplog.text
    assert "overlap_frac=0.9805" in caplog.text
    assert shift_overlap(SHAPE, FftShift(-3.02, -5.0, 20, -50)) == Box(0, 197, 0, 251)
    assert shift_overlap(SHAPE, FftShift(0.0, 4.3, 20, -50)) == Box(0, 200, 5, 256)
    assert shift_overlap(SHAPE, FftShift(0.0, -4.3, 20, -50)) == Box(0, 200, 0, 251)
    assert shift_overlap(SHAPE, FftShift(300.0, 0.0, 20, -50)).is_empty


def missing() -> npt.NDArray[np.bool_]:
    flags = np.zeros(SHAPE, bool)
    flags[:, :5] = True
    return flags


@pytest.mark.parametrize(
    ("footprint", "image_shape"),
    [
        (missing(), SHAPE),
        (missing(), (*SHAPE, 3)),
        (missing(), (3, *SHAPE)),
        (missing().astype(np.float32) * 0.5, SHAPE),
        (np.repeat(missing()[..., None], 3, axis=2), (*SHAPE, 3)),
        (np.repeat(missing()[None], 3, axis=0), (3, *SHAPE)),
        (np.stack([missing(), missing() & False, missing() & False], axis=2), (*SHAPE, 3)),
        (np.stack([missing(), missing() & False, missing() & False]).astype(float), (3, *SHAPE)),
    ],
)
def test_a_footprint_of_any_form(footprint: npt.NDArray[np.generic], image_shape: tuple[int, ...]) -> None:
    found = reduce_footprint(footprint, image_shape)
    assert found is not None
    assert np.array_equal(found, ~missing())
    other = reduce_footprint(~missing(), image_shape, marks_missing=False)
    assert np.array_equal(found, other)


@pytest.mark.parametrize(
    ("footprint", "image_shape"),
    [
        (None, SHAPE),
        (missing()[:-1], SHAPE),
        (np.zeros((3, 3, 3), bool), (3, 3, 3)),  # channels first or last?
        (np.zeros((2, *SHAPE, 3), bool), (*SHAPE, 3)),
    ],
)
def test_an_ambiguous_footprint_is_none(
    caplog: pytest.LogCaptureFixture, footprint: npt.NDArray[np.bool_] | None, image_shape: tuple[int, ...]
) -> None:
    caplog.set_level(logging.INFO, LOG)
    assert reduce_footprint(footprint, image_shape) is None
    assert "MT_COVERAGE_IGNORED" in caplog.text


def test_coverage_is_a_sum_over_frames_with_all_channels() -> None:
    images = [np.ones((*SHAPE, 3)) for _ in range(4)]
    images[1][:, :7, 2] = np.nan
    images[2][190:] = np.inf
    count = count_coverage((valid_pixels(image) for image in images), SHAPE)
    assert count is not None
    wanted = np.full(SHAPE, 4)
    wanted[:, :7] -= 1
    wanted[190:] -= 1
    assert np.array_equal(count, wanted)
    assert count.dtype == np.int32


def test_coverage_holds_one_footprint_at_a_time() -> None:
    """100 footprints of 1000 x 1000 would be 100 MB at once."""

    def footprints() -> Iterator[npt.NDArray[np.bool_]]:
        for k in range(100):
            flags = np.ones((1000, 1000), bool)
            flags[:, :k] = False
            yield flags

    tracemalloc.start()
    count = count_coverage(footprints(), (1000, 1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count is not None
    assert count[0, 0] == 1
    assert count[0, 999] == 100
    assert peak < 16e6


@pytest.mark.parametrize("bad", [None, np.ones((3, 3), bool), np.zeros(SHAPE, bool)])
def test_no_coverage_is_said(caplog: pytest.LogCaptureFixture, bad: npt.NDArray[np.bool_] | None) -> None:
    caplog.set_level(logging.INFO, LOG)
    assert count_coverage([bad], SHAPE) is None
    assert "MT_COVERAGE_IGNORED" in caplog.text
