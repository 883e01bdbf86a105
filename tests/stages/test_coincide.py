"""Places from headers against each other: who lies on whom, and by how much a header is off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.star_field import StarField
from zemosaic.settings import RefineSettings
from zemosaic.simulate.sky import tangent_wcs
from zemosaic.stages.refine.headers import align_headers
from zemosaic.stages.solve.coincide import compare_pairs, find_strays_by_stars

SHAPE = 400, 500
ERROR_PX = 0.05
F8 = npt.NDArray[np.float64]


def field_of(n_frames: int = 9, seed: int = 1) -> tuple[list[StarField], list[CelestialWcs]]:
    """Overlapping frames of one sky, each turned a little, with their true places."""
    rng = np.random.default_rng(seed)
    ra = 10 + rng.uniform(-0.5, 0.5, 800) / np.cos(np.deg2rad(20))
    dec = 20 + rng.uniform(-0.5, 0.5, 800)
    flux = rng.pareto(1, 800) + 1
    places = [
        tangent_wcs(10 + 0.08 * (k % 3) + 0.01 * k, 20 + 0.08 * (k // 3), 3 * k, SHAPE, 2.0) for k in range(n_frames)
    ]
    fields = []
    for place in places:
        x, y = place.sky_to_pixel(ra, dec)
        seen = (x > 0) & (x < SHAPE[1]) & (y > 0) & (y < SHAPE[0])
        xy = np.stack([x, y], axis=1)[seen]
        fields.append(StarField(xy + rng.normal(0, ERROR_PX, xy.shape), flux[seen], SHAPE))
    return fields, places


def shifted(field: StarField, shift: tuple[float, float]) -> StarField:
    """As the stars of a frame lie whose header is off by so many pixels."""
    return StarField(field.xy + shift, field.flux, field.shape)


def test_frames_that_lie_on_each_other_are_no_strays() -> None:
    fields, places = field_of()
    meetings = compare_pairs(fields, places)
    assert {meeting.verdict for meeting in meetings} == {"together"}
    strays, confirmed = find_strays_by_stars(meetings, 9, [False] * 9)
    assert strays == []
    assert all(confirmed)


@pytest.mark.parametrize("shift", [(15.0, 4.0), (-40.0, 30.0)])
def test_a_shifted_frame_is_found_with_its_shift(shift: tuple[float, float]) -> None:
    fields, places = field_of()
    fields[7] = shifted(fields[7], shift)
    strays, confirmed = find_strays_by_stars(compare_pairs(fields, places), 9, [False] * 9)
    assert [stray.index for stray in strays] == [7]
    assert strays[0].meeting.verdict == "shifted"
    assert np.hypot(*strays[0].meeting.shift_px) == pytest.approx(np.hypot(*shift), abs=0.2)
    assert confirmed == [k != 7 for k in range(9)]


def test_a_frame_of_another_sky_is_apart() -> None:
    fields, places = field_of()
    rng = np.random.default_rng(2)
    fields[3] = StarField(rng.uniform(0, 400, (60, 2)), rng.uniform(1, 2, 60), SHAPE)
    strays, _ = find_strays_by_stars(compare_pairs(fields, places), 9, [False] * 9)
    assert [(stray.index, stray.meeting.verdict) for stray in strays] == [(3, "apart")]


def test_what_a_catalogue_confirmed_wins_against_the_many() -> None:
    fields, places = field_of(3)
    fields[0] = shifted(fields[0], (12.0, 0.0))
    meetings = compare_pairs(fields, places)
    assert [s.index for s in find_strays_by_stars(meetings, 3, [False] * 3)[0]] == [0]
    assert [s.index for s in find_strays_by_stars(meetings, 3, [True, False, False])[0]] == [1, 2]


def test_too_few_stars_say_nothing() -> None:
    fields, places = field_of(2)
    fields[1] = StarField(fields[1].xy[:2] + 30, fields[1].flux[:2], SHAPE)
    assert {meeting.verdict for meeting in compare_pairs(fields, places)} <= {"unknown"}
    assert compare_pairs(fields[:1], places[:1]) == []


def test_a_header_that_is_off_moves_and_the_right_ones_stay() -> None:
    fields, places = field_of()
    fields[4] = shifted(fields[4], (1.2, -0.7))
    moves = align_headers(fields, places, RefineSettings())
    # The sky at a star is what the header has 1.2 px to the left of it.
    np.testing.assert_allclose(moves[4].shift_px, [-1.2, 0.7], atol=0.05)
    assert all(move.largest_px < 0.12 for k, move in enumerate(moves) if k != 4)
    assert all(move.n_ties > 20 and move.rms_px < 2 * ERROR_PX for move in moves)


@pytest.mark.parametrize("seed", [1, 3, 4, 5])
def test_where_headers_are_off_those_nearly_right_move_too(seed: int) -> None:
    """They come from one source: what the others are off by tells what a header is worth."""
    fields, places = field_of(seed=seed)
    rng = np.random.default_rng(seed + 20)
    errors = rng.normal(0, 0.5, (9, 2))
    off = [
        StarField(field.xy + error + rng.normal(0, 3 * ERROR_PX, field.xy.shape), field.flux, SHAPE)
        for field, error in zip(fields, errors, strict=True)
    ]
    left = np.array([move.shift_px for move in align_headers(off, places, RefineSettings())]) + errors
    assert np.hypot(*(left - np.median(left, axis=0)).T).max() < 0.12


def test_a_turned_header_gets_its_matrix() -> None:
    fields, places = field_of()
    turn = np.deg2rad(0.1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    fields[4] = StarField((fields[4].xy - middle) @ rotation.T + middle, fields[4].flux, SHAPE)
    move = align_headers(fields, places, RefineSettings())[4]
    np.testing.assert_allclose(move.matrix, rotation.T, atol=3e-4)


def test_without_shared_stars_nothing_moves() -> None:
    rng = np.random.default_rng(3)
    places = [tangent_wcs(10, 20, 0, SHAPE, 2.0), tangent_wcs(10.15, 20, 0, SHAPE, 2.0)]
    fields = [StarField(rng.uniform(0, 400, (30, 2)), rng.uniform(1, 2, 30), SHAPE) for _ in range(2)]
    assert [move.largest_px for move in align_headers(fields, places, RefineSettings())] == [0.0, 0.0]
    assert [move.n_ties for move in align_headers(fields[:1], places[:1], RefineSettings())] == [0]


def test_headers_all_off_by_a_pixel_are_not_turned_as_a_whole() -> None:
    """Their matrices are right: a turn that a few places in error suggest would tear frames of few stars apart."""
    fields, places = field_of()
    rng = np.random.default_rng(8)
    errors = rng.normal(0, 1.0, (9, 2))
    few = [StarField(f.xy[::3] + e, f.flux[::3], SHAPE) for f, e in zip(fields, errors, strict=True)]
    moves = align_headers(few, places, RefineSettings())
    assert all(6 <= move.n_ties < 20 for move in moves)
    left = []
    for place, move, error in zip(places, moves, errors, strict=True):
        middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
        ra, dec = place.pixel_to_sky(*np.stack([middle, middle + move.shift_px + error], axis=1))
        left.append(np.array([np.diff(ra)[0] * np.cos(np.deg2rad(20)), np.diff(dec)[0]]) * 3600 / 2.0)
    # All are off by the same: what no star can tell.
    assert np.abs(left - np.median(left, axis=0)).max() < 0.15
