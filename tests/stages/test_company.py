"""Frames judged by the stars of those round them, and by the pairs of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import SHAPE, Survey
from zemosaic.model.measurements import Stars
from zemosaic.stages.quality.company import judge_company
from zemosaic.stages.quality.double import find_double

FIELD = ((0.0, 0.0), (0.01, -0.006), (-0.008, 0.004))


def judge(survey, changed=None, prior=None):
    measured = list(survey.measurements)
    for k, m in (changed or {}).items():
        measured[k] = m
    n = len(measured)
    log_prior = np.zeros(n) if prior is None else np.log(prior)
    return judge_company(measured, survey.wcs, ["camera"] * n, log_prior)


def kinds(verdicts):
    return [verdict.kind for verdict in verdicts]


def with_stars(measured, kept, **change):
    """Those stars alone, with some of their figures changed."""
    stars = measured.stars
    fields = {name: getattr(stars, name)[..., kept] for name in stars.__dataclass_fields__}
    return replace(measured, stars=replace(Stars(**fields), **change))


@pytest.fixture(scope="module")
def field():
    return Survey(seed=2, centres=FIELD)


def test_good_frames_are_good(field):
    for survey in (field, Survey(seed=1), Survey(seed=3, coarse_every=3), Survey(seed=4, centres=FIELD[:2])):
        verdicts = judge(survey)
        assert set(kinds(verdicts)) == {"good"}
        assert not any(verdict.reason for verdict in verdicts)


def test_a_frame_without_a_star_is_blind_beside_one_that_has_them(field):
    pair = Survey(seed=2, centres=FIELD[:2])
    for survey in (field, pair):
        first = survey.measurements[0]
        none = with_stars(first, np.zeros(len(first.stars), bool))
        verdicts = judge(survey, {0: none})
        assert kinds(verdicts) == ["blind"] + ["good"] * (len(verdicts) - 1)
        assert "it shows 0 of" in verdicts[0].reason


def test_a_short_exposure_need_not_show_what_long_ones_do(field):
    first = field.measurements[0]
    stars = first.stars
    bright = stars.flux[0] > 100 * 5 * 80
    short = with_stars(first, bright, flux=stars.flux[:, bright] / 100, flux_error=stars.flux_error[:, bright] / 1)
    assert kinds(judge(field, {0: short}, prior=np.array([0.01, 1, 1]))) == ["good"] * 3


def test_stars_that_lie_elsewhere_make_a_frame_blind_and_no_other(field):
    first = field.measurements[0]
    everything = np.ones(len(first.stars), bool)
    moved = with_stars(first, everything, x=first.stars.x + 9, y=first.stars.y - 5)
    assert kinds(judge(field, {0: moved})) == ["blind", "good", "good"]
    # Of two frames nothing tells which has moved.
    pair = Survey(seed=2, centres=FIELD[:2])
    assert kinds(judge(pair, {0: with_stars(pair.measurements[0], everything, x=first.stars.x + 9)})) == ["good"] * 2


def test_a_roof_over_a_part_is_seen(field):
    first = field.measurements[0]
    blocked = with_stars(first, first.stars.y > 0.3 * SHAPE[0])
    verdicts = judge(field, {0: blocked})
    assert kinds(verdicts) == ["blocked", "good", "good"]
    assert "in a part of it none of" in verdicts[0].reason


def test_a_blocked_frame_stays_where_no_other_reaches_and_is_told():
    survey = Survey(seed=2, centres=((0.0, 0.0), (0.35, 0.0), (0.36, 0.01)))
    first = survey.measurements[0]
    overlap = with_stars(first, (first.stars.x > 0.6 * SHAPE[1]) | (first.stars.y > 0.5 * SHAPE[0]))
    mirrored = with_stars(first, (first.stars.x < 0.4 * SHAPE[1]) | (first.stars.y > 0.5 * SHAPE[0]))
    told = [judge(survey, {0: m})[0] for m in (overlap, mirrored)]
    assert [verdict.kind for verdict in told] == ["good", "good"]
    assert any("in a part of it" in verdict.reason for verdict in told)


def test_a_frame_with_a_tenth_of_the_light_is_a_cloud(field):
    first = field.measurements[0]
    left = first.stars.flux[0] > 10 * 5 * 80
    thin = with_stars(first, left, flux=first.stars.flux[:, left] / 10)
    verdicts = judge(field, {0: thin})
    assert kinds(verdicts) == ["cloud", "good", "good"]
    # In another unit its noise is a tenth, too.
    assert kinds(judge(field, {0: first.times(0.1)})) == ["good"] * 3


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_stars_that_come_in_pairs_are_seen(field, share):
    stars = field.measurements[0].stars
    flux = np.concatenate([(1 - share) * stars.flux, share * stars.flux], axis=1)
    order = np.argsort(-flux[0])
    twice = {name: np.concatenate([getattr(stars, name)] * 2, axis=-1) for name in stars.__dataclass_fields__}
    twice |= {"x": np.concatenate([stars.x, stars.x + 16]), "y": np.concatenate([stars.y, stars.y + 12]), "flux": flux}
    double = Stars(**{name: value[..., order] for name, value in twice.items()})
    assert "20 px apart" in str(find_double(double))


def test_stars_of_a_field_make_no_pairs():
    rng = np.random.default_rng(1)
    for k, n in enumerate([20, 60, 150, 600, 3000] * 20):
        x, y = rng.uniform(0, 600 + 20 * k, (2, n))
        one = np.ones((1, n), np.float32)
        flags = np.zeros(n, bool)
        stars = Stars(x, y, one, one, one, one[0], one[0], one[0], flags, flags)
        assert find_double(stars) is None


@pytest.mark.parametrize("right", [False, True])
def test_a_dimmed_half_is_seen_though_most_frames_meet_it_alone(right):
    survey = Survey(seed=2, centres=(*FIELD, (0.35, 0.0), (0.36, 0.01), (0.34, -0.01)))
    first = survey.measurements[0]
    dim = (first.stars.x > 0.5 * SHAPE[1]) == right
    stars = replace(first.stars, flux=np.where(dim, 0.4, 1.0).astype(np.float32) * first.stars.flux)
    verdicts = judge(survey, {0: replace(first, stars=stars)})
    assert kinds(verdicts) == ["blocked"] + ["good"] * 5
    assert "% of the light that others show there" in verdicts[0].reason
