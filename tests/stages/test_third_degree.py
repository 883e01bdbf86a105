"""A night under the moon has gradients of third degree: its surfaces follow them, those of dark nights do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import SHAPE, Survey, without_trend
from zemosaic.model.photo_scale import N_TERMS, surface_basis
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.background import Normals
from zemosaic.stages.match.match import ImageFacts, match

N_EACH = 4
"""Frames of a panel, each of a night of its own; the last panel's saw the moon."""

FIRST_MOONLIT = 3 * N_EACH

COLOURS = ("sky", "noise", "area_noise")
"""What measurements hold of each channel, beside stars and blocks."""

NIGHTS = [f"night {panel}" for panel in range(4) for _ in range(N_EACH)]


def moonlit(seed, third_degree):
    """Two by two panels that overlap by a quarter, and what is added to frames of the last one."""
    rng = np.random.default_rng(seed)
    width, height = (0.75 * 4 * n / 3600 for n in SHAPE[::-1])
    centres = [
        ((i - 0.5) * width + rng.normal(0, 0.01), (j - 0.5) * height + rng.normal(0, 0.01))
        for j in range(2)
        for i in range(2)
        for _ in range(N_EACH)
    ]
    survey = Survey(seed=seed, centres=tuple(centres), offset_sd=100.0, slope_sd=30.0, curve_sd=10.0)
    gradient = rng.normal(0, 600.0, 10) * np.repeat([1, 1, 0.4, third_degree], [1, 2, 3, 4])
    added = []
    for k in range(FIRST_MOONLIT, len(centres)):
        own = gradient * (1 + 0.15 * (k - FIRST_MOONLIT))
        m = survey.measurements[k]
        light = survey.gain[k] * own @ surface_basis(m.blocks.x, m.blocks.y, SHAPE, 3)
        noise = np.float32(2.0)
        mean = m.blocks.mean + (light + rng.normal(0, np.sqrt(3) * survey.noise, len(light))).astype(np.float32)
        blocks = replace(m.blocks, mean=mean, error=noise * m.blocks.error)
        survey.measurements[k] = replace(m, noise=noise * m.noise, sky=m.sky + np.median(light), blocks=blocks)
        added.append(own)
    return survey, added


def solve(survey):
    facts = ImageFacts(nights=NIGHTS, cameras=["one"] * len(NIGHTS))
    return match(survey.measurements, survey.wcs, survey.grid, MatchSettings(response_order=0), facts)


def panel_errors(survey, added, found):
    """Error of the mosaic in each panel, (x, y, error) of all panels in the noise of a dark frame."""
    scale = np.exp(np.mean(np.log([s.gain[0] for s in found.scales]) - np.log(survey.gain)))
    px, py = (q.ravel() for q in np.meshgrid(np.linspace(20, SHAPE[1] - 20, 24), np.linspace(20, SHAPE[0] - 20, 14)))
    rows = []
    for k in range(0, len(NIGHTS), N_EACH):
        x, y = survey.grid.wcs.sky_to_pixel(*survey.wcs[k].pixel_to_sky(px, py))
        true = survey.sky(x, y) + survey.surface[k] @ surface_basis(px, py, SHAPE)
        if k >= FIRST_MOONLIT:
            true += added[k - FIRST_MOONLIT] @ surface_basis(px, py, SHAPE, 3)
        one = found.scales[k]
        seen = scale * (survey.gain[k] / one.gain[0] * true - one.surface_at(px, py, SHAPE)[0])
        rows.append((x, y, (seen - survey.sky(x, y)) / survey.measurements[0].noise[0]))
    return (np.concatenate(q) for q in zip(*rows, strict=True))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("third_degree", [0.12, 0.02])
def test_a_moonlit_panel_is_as_true_as_the_dark_ones(seed, third_degree):
    survey, added = moonlit(seed, third_degree)
    found = solve(survey)
    assert np.std(without_trend(*panel_errors(survey, added, found), 3)) < 0.1
    for scale in found.scales[:FIRST_MOONLIT]:
        assert np.abs(scale.surface[0, N_TERMS:]).max() < 0.02 * survey.measurements[0].noise[0]
    told = [notice for notice in found.notices if notice.code == "match.third-degree-nights"]
    assert len(told) == 1
    assert told[0].facts["n_beyond"] == N_EACH


def test_one_colour_alone_may_have_a_third_degree():
    (moonlit_survey, _), (dark, _) = moonlit(1, 0.12), moonlit(1, 0.0)
    for k, (bright, plain) in enumerate(zip(moonlit_survey.measurements, dark.measurements, strict=True)):
        dark.measurements[k] = in_colours(bright, plain)
    found = solve(dark)
    beyond = np.array([scale.surface[:, N_TERMS:] for scale in found.scales])
    assert np.abs(beyond[FIRST_MOONLIT:, 0]).max() > 10
    assert not beyond[:, 1].any()
    assert found.prior_sd.shape == (2, 4)
    assert [n.facts["n_beyond"] for n in found.notices if n.code == "match.third-degree-nights"] == [N_EACH]


def in_colours(first, second):
    """Measurements of two channels from those of two images of the same places."""
    pairs = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in COLOURS}
    stars, blocks = (
        replace(ours, **{name: np.concatenate([getattr(ours, name), getattr(theirs, name)]) for name in names})
        for ours, theirs, names in (
            (first.stars, second.stars, ("flux", "flux_error", "flux_wide")),
            (first.blocks, second.blocks, ("mean", "error")),
        )
    )
    return replace(first, stars=stars, blocks=blocks, **pairs)


def test_memory_is_planned_for_the_third_degree(monkeypatch):
    (survey, _), most, taken, sum_up = moonlit(1, 0.12), 1e6, [], Normals.of

    def watched(*args):
        normals = sum_up(*args)
        taken.append(normals.sky.coupling.cross.nbytes)
        return normals

    usual = solve(survey).nodes.spacing_px
    monkeypatch.setattr("zemosaic.stages.match.sky_nodes._CROSS_BYTES", most)
    monkeypatch.setattr(Normals, "of", watched)
    found = solve(survey)
    assert found.prior_sd.shape[1] == 4
    assert found.nodes.spacing_px > usual
    assert most / 2 < max(taken) <= most


def test_without_third_degree_surfaces_stay_as_they_are():
    survey, added = moonlit(1, 0.0)
    found = solve(survey)
    assert found.prior_sd.shape == (1, 3)
    assert all(scale.surface.shape == (1, N_TERMS) for scale in found.scales)
    assert np.std(without_trend(*panel_errors(survey, added, found), 3)) < 0.1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_cloud_in_one_image_is_found_and_bends_no_other(seed):
    survey, _ = moonlit(seed, 0.0)
    m = survey.measurements[0]
    cloud = 40 * surface_basis(m.blocks.x, m.blocks.y, SHAPE, 3)[N_TERMS]
    blocks = replace(m.blocks, mean=m.blocks.mean + cloud.astype(np.float32))
    survey.measurements[0] = replace(m, blocks=blocks)
    scales = solve(survey).scales
    assert scales[0].surface[0, N_TERMS] * scales[0].gain[0] == pytest.approx(40, abs=2)
    assert np.abs([scale.surface[0, N_TERMS:] for scale in scales[1:]]).max() < 1
