"""Figures of the report against their truth: steps over noise, scatter of stars, noise in boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import Survey
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.report.verdict import judge
from zemosaic.settings import MatchSettings
from zemosaic.stages.figures.borders import figure_borders
from zemosaic.stages.figures.catalogue import figure_catalogue
from zemosaic.stages.figures.depth import noise_of_box, pulls_of_boxes, scatter_of_pulls
from zemosaic.stages.figures.stars import Detections, figure_fluxes, figure_places
from zemosaic.stages.grid.plan import make_wcs
from zemosaic.stages.match.match import match
from zemosaic.stages.match.seams import Squares, measure_seams, noise_in_mosaic
from zemosaic.stages.match.sky_nodes import make_block_table


def borders_of(survey, solution, scales):
    """The verdict's figures for scales, as a run has them, and the whole figure."""
    table = make_block_table(survey.measurements, survey.wcs, survey.grid, solution.nodes.spacing_px)
    noise = noise_in_mosaic(survey.measurements, survey.wcs, survey.grid, scales)
    seams = measure_seams(Squares.of(table, 0, noise[0]), 0, solution.sky[0], scales)
    border = figure_borders(seams.image, seams.step, seams.error, seams.noise, seams.count, len(scales))
    facts = {
        "step": border.rms,
        "sure_step": border.sure_rms,
        "sure_place": border.sure.max(),
        "sure_frame": np.nanmax(border.frame_sure),
    }
    return facts, seams, border


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_run_never_cries_wolf_and_a_planted_step_always_does(seed):
    """One frame put off by the noise of one of its pixels, as if the match had not touched it."""
    survey = Survey(seed=seed, n_side=3)
    solution = match(survey.measurements, survey.wcs, survey.grid, MatchSettings())
    facts, _, _ = borders_of(survey, solution, solution.scales)
    assert judge(facts).grade == "clean", facts

    planted = list(solution.scales)
    surface = planted[4].surface.copy()
    surface[0, 0] -= survey.measurements[4].noise[0] / planted[4].gain[0]
    planted[4] = replace(planted[4], surface=surface)
    facts, seams, border = borders_of(survey, solution, planted)
    assert judge(facts).grade == "look", facts
    # The frame itself, or those whose border it lies under.
    assert np.nanargmax(border.frame_sure) == 4
    worst = seams.worst(10)
    assert ((seams.image[worst] == 4) | (seams.other[worst] == 4)).sum() >= 8


def test_no_borders_are_no_verdict():
    none, nobody = np.zeros(0), np.zeros(0, np.int64)
    border = figure_borders(nobody, none, none, none, nobody, 2)
    assert np.isnan(border.rms)
    assert judge({"step": None, "sure_place": None, "sure_frame": None}).grade == "unknown"
    assert judge(None).grade == "unknown"


def seen_stars(floor: float, rng: np.random.Generator) -> Detections:
    """300 stars over 12 frames, with the sky's noise and a floor in ln flux; frames lie 0.05 px apart."""
    image, star = np.repeat(np.arange(12), 300), np.tile(np.arange(300), 12)
    flux = np.geomspace(2e3, 2e6, 300)[star]
    error = np.full(len(flux), 60.0)
    seen = flux * np.exp(rng.normal(0, floor, len(flux))) + rng.normal(0, error)
    x, y = rng.uniform(0, 1000, (2, 300))
    u, v = rng.uniform(-1, 1, (2, len(flux)))
    dx, dy = rng.normal(0, 0.05, (2, len(flux)))
    return Detections(image, star, u, v, x[star] + dx, y[star] + dy, seen[None], error[None], 300)


@pytest.mark.parametrize("floor_mmag", [3.0, 20.0])
def test_the_floor_of_fluxes_is_found_below_the_noise_of_the_sky(floor_mmag):
    figure = figure_fluxes(seen_stars(floor_mmag / 1085.7, np.random.default_rng(1)), 0)
    assert figure.floor_mmag == pytest.approx(floor_mmag, rel=0.08)
    assert figure.n_stars == 300
    assert figure.curve_mmag[0] == pytest.approx(figure.noise_mmag[0], rel=0.25)
    assert np.nanmedian(np.abs(figure.field_mmag)) < 0.5 * figure.curve_mmag[0]


def test_places_scatter_as_they_were_put():
    survey = Survey(n_side=2)
    seen = seen_stars(0.01, np.random.default_rng(2))
    figure = figure_places(seen, survey.wcs * 3, survey.grid)
    assert figure.rms_px == pytest.approx(0.05, rel=0.05)
    assert figure.count_x.sum() == figure.count_y.sum() == 3600


def test_boxes_scatter_as_their_variance_says_unless_pixels_are_tied():
    rng = np.random.default_rng(3)
    data = (rng.normal(100, 5, (512, 512)) + 0.01 * np.arange(512)).astype(np.float32)
    data[200:212, 300:312] += 5000
    data[:40] = np.nan
    variance = np.full_like(data, 25)
    for pulls in pulls_of_boxes(data, variance, (1, 4, 16)):
        assert scatter_of_pulls([pulls]) == pytest.approx(1, rel=0.06)
    smooth = ((data + np.roll(data, 1, 1)) / 2).astype(np.float32)
    one, wide = (scatter_of_pulls([p]) for p in pulls_of_boxes(smooth, variance, (1, 16)))
    assert one < 0.8 < 0.9 < wide
    assert noise_of_box(4, (1, 2, 8), (8.0, 4.0, 1.0)) == pytest.approx(2)
    assert noise_of_box(16, (1, 2, 8), (8.0, 4.0, np.nan)) == pytest.approx(0.5)


def test_slow_trends_are_expected_where_few_frames_tie_the_sky():
    survey = Survey(n_side=3)
    solution = match(survey.measurements, survey.wcs, survey.grid, MatchSettings())
    (error,) = solution.slow_error
    assert solution.slow_rms[0] == pytest.approx(np.sqrt(np.nanmean(error**2)))
    y, x = np.nonzero(np.isfinite(error))
    from_middle = np.maximum(*(2 * np.abs(v - v.min() - np.ptp(v) / 2) / np.ptp(v) for v in (y, x)))
    rim, middle = (np.median(error[y, x][part]) for part in (from_middle > 0.85, from_middle < 0.4))
    assert rim > 1.5 * middle


def seen_by_a_catalogue(wcs, east_arcsec, north_arcsec, rng):
    """60 stars that three frames show, off by as much and 0.1 px, among 3000 detections of others; the list of them."""
    x, y = rng.uniform(20, 1980, (2, 60))
    ra, dec = wcs.pixel_to_sky(x, y)
    known = CatalogueStars(ra % 360, dec, np.zeros(60), 0.3)
    at = wcs.sky_to_pixel(ra + east_arcsec / 3600 / np.cos(np.deg2rad(dec)), dec + north_arcsec / 3600)
    seen = [np.tile(value, 3) + rng.normal(0, 0.1, 180) for value in at]
    others = rng.uniform(0, 2000, (2, 3000))
    return *(np.append(a, b) for a, b in zip(seen, others, strict=True)), known


@pytest.mark.parametrize("center", [(0.05, 60.0), (120.0, 88.0)])
def test_distances_from_a_catalogue_are_those_that_were_planted(center):
    wcs = make_wcs(center, 2.0, (2000, 2000))
    x, y, known = seen_by_a_catalogue(wcs, 0.8, -0.5, np.random.default_rng(4))
    figure = figure_catalogue(x, y, wcs, known)
    assert figure.is_sure
    assert figure.offset_arcsec == pytest.approx((0.8, -0.5), abs=0.06)
    assert figure.spread_arcsec < 0.25
    assert figure.n_known == len(figure.x) == 60


def test_stars_of_another_sky_are_no_offset():
    wcs = make_wcs((10.0, 20.0), 2.0, (2000, 2000))
    rng = np.random.default_rng(5)
    x, y, known = seen_by_a_catalogue(wcs, 0.0, 0.0, rng)
    assert not figure_catalogue(x + 40, y, wcs, known).is_sure
    assert not figure_catalogue(x[:0], y[:0], wcs, known).is_sure
    elsewhere = CatalogueStars(known.ra_deg, -known.dec_deg, known.mag, 0.3)
    assert figure_catalogue(x, y, wcs, elsewhere).n_known == 0
