"""Rows that lie beside their place, and parts whose stars are dim, told by the stars of other frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from simulated_measurements import SHAPE, Survey
from zemosaic.model.box import Box
from zemosaic.model.measurements import Measurements
from zemosaic.stages.quality.company import judge_company
from zemosaic.stages.quality.shifted import find_lonely_part, find_shifted_parts, look_round, without_part

FIELD = ((0.0, 0.0), (0.01, -0.006), (-0.008, 0.004), (0.006, 0.007), (-0.004, -0.009))
HEIGHT, WIDTH = SHAPE


@pytest.fixture(scope="module")
def field() -> Survey:
    return Survey(seed=2, centres=FIELD)


def spoilt(measured: Measurements, part: Box, step: tuple[float, float]) -> Measurements:
    """The stars of a part moved along and across the rows, round the end of the rows where they leave it."""
    x, y = measured.stars.x, measured.stars.y
    inside = (y >= part.y0) & (y < part.y1) & (x >= part.x0) & (x < part.x1)
    moved = np.where(inside, (x + step[0]) % WIDTH, x), np.where(inside, y + step[1], y)
    return replace(measured, stars=replace(measured.stars, x=moved[0], y=moved[1]))


@pytest.mark.parametrize(
    ("part", "step"),
    [
        (Box(300, HEIGHT, 0, WIDTH), (40.0, 0.0)),
        (Box(0, 120, 0, WIDTH), (-7.0, 0.0)),
        (Box(200, 300, 0, WIDTH), (150.0, 0.0)),
        (Box(0, HEIGHT, 0, 400), (0.0, 12.0)),
    ],
    ids=["to the end", "from the start", "a band", "columns"],
)
def test_the_part_is_found_in_the_frames_that_have_it(field: Survey, part: Box, step: tuple[float, float]) -> None:
    measured = [spoilt(m, part, step) if k in {1, 3} else m for k, m in enumerate(field.measurements)]
    found = find_shifted_parts(look_round(measured, field.wcs))
    assert [item is not None for item in found] == [False, True, False, True, False]
    for item in (found[1], found[3]):
        assert item is not None
        assert item.shift_px == pytest.approx(step, abs=0.5)
        assert item.box.contains(part.intersect(measured[1].valid_box))
        assert item.box.n_pixels < 1.3 * part.n_pixels


def test_frames_that_are_right_have_no_such_part(field: Survey) -> None:
    for survey in (field, Survey(seed=1), Survey(seed=3, coarse_every=3), Survey(seed=4, centres=FIELD[:2])):
        assert find_shifted_parts(look_round(survey.measurements, survey.wcs)) == [None] * len(survey.measurements)


def test_rows_that_are_shifted_in_all_frames_are_confirmed_by_none() -> None:
    """Frames that are turned and stepped against each other."""
    survey, part = Survey(seed=1), Box(300, HEIGHT, 0, WIDTH)
    assert find_lonely_part(look_round(survey.measurements, survey.wcs)) is None
    found = find_lonely_part(look_round([spoilt(m, part, (140.0, 0.0)) for m in survey.measurements], survey.wcs))
    assert found is not None
    assert found.box.y0 == pytest.approx(300, abs=40)
    assert found.box.y1 > HEIGHT - 40
    assert found.n_alone > 0.8 * found.n_stars
    elsewhere = [spoilt(survey.measurements[0], Box.of_shape(SHAPE), (140.0, 0.0)), *survey.measurements[1:]]
    assert find_lonely_part(look_round(elsewhere, survey.wcs)) is None
    assert find_lonely_part([]) is None


def test_a_whole_frame_that_lies_elsewhere_is_no_part_of_two(field: Survey) -> None:
    """Of two frames nothing tells which is wrong."""
    pair = Survey(seed=2, centres=FIELD[:2])
    measured = [spoilt(pair.measurements[0], Box(300, HEIGHT, 0, WIDTH), (40, 0)), pair.measurements[1]]
    assert find_shifted_parts(look_round(measured, pair.wcs)) == [None, None]


def test_what_was_measured_in_the_part_goes(field: Survey) -> None:
    part = Box(300, HEIGHT, 0, WIDTH)
    left = without_part(field.measurements[0], part)
    assert left.stars.y.max() < 300
    assert left.stars.flux.shape == (1, len(left.stars))
    assert left.blocks.y.max() < 300
    assert left.blocks.mean.shape == (1, len(left.blocks))
    assert left.valid_box == Box(0, 300, 0, WIDTH)
    assert without_part(left, Box(100, 150, 0, WIDTH)).valid_box == left.valid_box


def dimmed(measured: Measurements, light: npt.NDArray[np.float64]) -> Measurements:
    flux = (measured.stars.flux * light).astype(np.float32)
    return replace(measured, stars=replace(measured.stars, flux=flux))


@pytest.mark.parametrize("least", [0.6, 0.2])
@pytest.mark.parametrize("vignetting", [0.0, 0.6])
def test_a_part_behind_a_slow_shutter_is_seen(least: float, vignetting: float) -> None:
    survey = Survey(seed=2, centres=FIELD, vignetting=vignetting)
    measured = list(survey.measurements)
    places = survey.wcs, ["camera"] * len(FIELD), np.zeros(len(FIELD))
    assert {verdict.kind for verdict in judge_company(measured, *places)} == {"good"}
    y = measured[0].stars.y / HEIGHT
    light = 1 - (1 - least) * np.clip((y - 0.4) / 0.5, 0, 1)
    light[np.flatnonzero(y > 0.8)[:2]] = -0.001  # what is found at a star's place may have no light at all
    measured[0] = dimmed(measured[0], light)
    verdicts = judge_company(measured, *places)
    assert [verdict.kind for verdict in verdicts] == ["blocked"] + ["good"] * 4
    assert "of the light that others show there" in verdicts[0].reason
