"""One sky: what the match finds, against a sky and frames that are known."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from simulated_measurements import Survey, tan_place, without_trend
from zemosaic.engine.executor import ThreadExecutor
from zemosaic.engine.values import digest_of
from zemosaic.model.measurements import Blocks, Stars
from zemosaic.model.photo_scale import surface_basis, surface_terms
from zemosaic.settings import MatchSettings
from zemosaic.stages.gauge.reference import ReferenceSky
from zemosaic.stages.match.match import ImageFacts, match
from zemosaic.stages.match.seams import Squares, measure_seams
from zemosaic.stages.match.sky_nodes import make_block_table

SETTINGS = MatchSettings(response_order=0)


def solve(survey, settings=SETTINGS, **keywords):
    return match(survey.measurements, survey.wcs, survey.grid, settings, **keywords)


@pytest.fixture(scope="module")
def survey():
    return Survey()


@pytest.fixture(scope="module")
def solution(survey):
    return solve(survey)


def no_stars(measured):
    empty = np.zeros((1, 0), np.float32)
    none = Stars(
        np.zeros(0), np.zeros(0), empty, empty, empty, *(np.zeros(0, np.float32) for _ in range(3)),
        np.zeros(0, bool), np.zeros(0, bool),
    )  # fmt: skip
    return replace(measured, stars=none)


def test_gains_are_true_within_their_errors(survey, solution):
    error = survey.log_gain_error(solution)
    stated = np.array([s.gain_error[0] for s in solution.scales])
    assert 1085.7 * error.std() < 1.0
    assert 0.5 < np.sqrt(np.mean((error / stated) ** 2)) < 1.5
    assert np.all(solution.n_stars > 30)
    assert {s.note for s in solution.scales} == {""}


def test_the_sky_comes_back_but_for_a_slow_trend(survey, solution):
    x, y, error = survey.sky_error(solution)
    assert np.std(error) > 0.1  # the trends that no difference can tell are there
    assert np.std(without_trend(x, y, error, 3)) < 0.25
    assert np.std(without_trend(x, y, error, 1)) < 4 * solution.slow_rms[0]
    np.testing.assert_allclose(solution.prior_sd[0], [250, 40, 7], rtol=0.4)


def test_slow_trends_have_their_expected_size():
    ratios = []
    for seed in range(6):
        survey = Survey(seed=seed + 10)
        found = solve(survey)
        x, y, error = survey.sky_error(found)
        ratios.append(np.std(without_trend(x, y, error, 1)) / found.slow_rms[0])
    assert 0.6 < np.sqrt(np.mean(np.square(ratios))) < 1.5


def test_slow_trends_round_a_nebula_without_end_have_their_expected_size():
    """Its wings reach everywhere: no tile is dark, and what is taken for a dark sky contradicts data and priors."""

    class Core(Survey):
        def sky(self, x, y):
            n = self.grid.wcs.shape[0]
            away = np.hypot(x - 0.45 * n, y - 0.55 * n)
            return 1000 + 5000 / (1 + (away / (0.06 * n)) ** 2)

    ratios = []
    for seed in range(1, 5):
        survey = Core(seed=seed, n_side=3, pitch_deg=0.3, offset_sd=300.0, slope_sd=150.0, curve_sd=60.0)
        found = solve(survey)
        x, y, error = survey.sky_error(found)
        ratios.append(np.std(without_trend(x, y, error, 1)) / found.slow_rms[0])
    assert 0.6 < np.sqrt(np.mean(np.square(ratios))) < 1.5


def test_slow_trends_of_what_surfaces_cannot_follow_have_their_expected_size():
    class Cubic(Survey):
        """Third degree in every image, below what asks for surfaces of it."""

        def _measure(self, rng, wcs, gain, surface):
            found = super()._measure(rng, wcs, gain, surface)
            basis = surface_basis(found.blocks.x, found.blocks.y, found.shape, 3)[6:]
            mean = found.blocks.mean + (gain * rng.normal(0, 2.0, 4) @ basis).astype(np.float32)
            return replace(found, blocks=replace(found.blocks, mean=mean))

    ratios = []
    for seed in range(1, 6):
        survey = Cubic(seed=seed, nebula=20.0, slope_sd=3.0, curve_sd=0.5)
        found = solve(survey)
        x, y, error = survey.sky_error(found)
        ratios.append(np.std(without_trend(x, y, error, 1)) / found.slow_rms[0])
    assert 0.7 < np.sqrt(np.mean(np.square(ratios))) < 1.35


def test_one_cloud_does_not_bend_the_sky():
    """A frame whose level is a hundred times off (a corner of the mosaic) pulls at no slow trend, and at no prior."""
    survey = Survey(seed=11, cloud=20_000.0)
    found = solve(survey)
    x, y, error = survey.sky_error(found)
    assert np.std(without_trend(x, y, error, 1)) < 2 * found.slow_rms[0]
    np.testing.assert_allclose(found.prior_sd[0], [250, 40, 7], rtol=0.4)


def times(m, factor):
    """Measurements of the same image in another unit."""
    blocks = replace(m.blocks, mean=factor * m.blocks.mean, error=factor * m.blocks.error)
    stars = replace(
        m.stars,
        flux=factor * m.stars.flux,
        flux_error=factor * m.stars.flux_error,
        flux_wide=factor * m.stars.flux_wide,
    )
    return replace(m, blocks=blocks, stars=stars)


def test_scaling_one_input_changes_its_gain_alone(survey, solution):
    scaled = list(survey.measurements)
    scaled[5] = times(scaled[5], 1.3)
    again = match(scaled, survey.wcs, survey.grid, SETTINGS)
    change = np.log([b.gain[0] / a.gain[0] for a, b in zip(solution.scales, again.scales, strict=True)])
    # The gauge keeps the mean of ln gain: all others move down a little, alike.
    assert change[5] - np.median(change) == pytest.approx(np.log(1.3), abs=1e-3)
    assert np.ptp(np.delete(change, 5)) < 1e-3


def test_the_unit_is_that_of_most_images(survey, solution):
    """Seven of sixteen images from 0 to 1 beside 16 bits: the mosaic is in 16 bits, and the reader is told."""
    others = range(1, 15, 2)
    scaled = [times(m, 1 / 65535) if i in others else m for i, m in enumerate(survey.measurements)]
    again = match(scaled, survey.wcs, survey.grid, SETTINGS)
    change = np.log([b.gain[0] / a.gain[0] for a, b in zip(solution.scales, again.scales, strict=True)])
    change[others] += np.log(65535)
    # The gauge is the mean of ln gain over nine images now, not sixteen.
    assert np.ptp(change) < 0.01
    assert abs(np.mean([np.log(again.scales[i].gain[0]) for i in range(16) if i not in others])) < 1e-3
    (told,) = [str(notice) for notice in again.notices if "another unit" in str(notice)]
    assert told.startswith("7 of 16 images")
    assert [i for i, scale in enumerate(again.scales) if "another unit" in scale.note] == list(others)
    assert not any("another unit" in str(notice) for notice in solution.notices)


def test_the_order_of_the_inputs_moves_no_gain_by_more_than_its_error(survey, solution):
    """Callers sort by `FrameId`: sums run in the order given, and so do the draws that tell the priors' widths."""
    order = np.random.default_rng(3).permutation(len(survey.wcs))
    shuffled = match([survey.measurements[i] for i in order], [survey.wcs[i] for i in order], survey.grid, SETTINGS)
    for k, i in enumerate(order):
        assert shuffled.scales[k].gain[0] == pytest.approx(solution.scales[i].gain[0], rel=3e-4)
    again = solve(survey)
    for a, b in zip(solution.scales, again.scales, strict=True):
        np.testing.assert_array_equal(a.surface, b.surface)
        np.testing.assert_array_equal(a.gain, b.gain)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_images_stay_equal(seed):
    """The mosaic of equal images is the same to a thousandth of a pixel's noise as without matching."""
    equal = Survey(seed=seed, gain_sd=0, offset_sd=0, slope_sd=0, curve_sd=0)
    found = solve(equal)
    np.testing.assert_allclose([s.gain[0] for s in found.scales], 1, atol=1e-6)
    _, _, error = equal.sky_error(found)
    assert np.sqrt(np.mean(error**2)) < 1e-3 * equal.measurements[0].noise[0]


def test_starlight_beside_the_masks_is_not_taken_for_background():
    """Differences of an eighth of a block's error, as seeing makes them round stars, are mostly left alone."""
    nearly = Survey(gain_sd=0, offset_sd=0.06, slope_sd=0.06, curve_sd=0)
    surfaces = np.stack([s.surface[0] for s in solve(nearly).scales])
    np.testing.assert_array_less(np.sqrt(np.mean(surfaces**2, axis=0)), [0.03] + 5 * [0.005])


def test_one_image_alone_is_left_as_it_is(survey):
    found = match(survey.measurements[:1], survey.wcs[:1], survey.grid, SETTINGS, ImageFacts(gain_priors=[1.25]))
    assert found.scales[0].gain[0] == pytest.approx(1.25)
    assert np.all(np.abs(found.scales[0].surface) < 1e-3)
    assert "overlaps no other image" in found.scales[0].note


def test_errors_of_gains_follow_the_scatter_of_stars():
    """Noise that all images share, as faint stars are, is in a flux's error and not in differences: stated thrice."""
    widths = []
    for seed in range(1, 4):
        survey, images = Survey(seed=seed, nebula=0.0, n_stars=4000), []
        for m in survey.measurements:
            stars = replace(m.stars, flux_error=3 * m.stars.flux_error, blended=m.stars.flux[0] > 12_000)
            images.append(replace(m, stars=stars))
        found = match(images, survey.wcs, survey.grid, SETTINGS, ImageFacts(cameras=survey.camera))
        error = np.array([s.gain_error[0] for s in found.scales])
        widths.append(np.sqrt(np.mean((survey.log_gain_error(found) / error) ** 2)))
    assert 0.55 < np.mean(widths) < 1.3


def test_two_groups_get_two_gauges_and_a_notice():
    two = Survey(n_side=4, shift_deg=(-1.6, 1.6))
    found = solve(two)
    component = np.array([s.component for s in found.scales])
    np.testing.assert_array_equal(component, np.arange(16) % 2)
    assert any("2 groups" in str(notice) for notice in found.notices)
    log_gain = np.log([s.gain[0] for s in found.scales])
    for c in (0, 1):
        assert abs(log_gain[component == c].mean()) < 2e-3
    assert 1085.7 * two.log_gain_error(found).std() < 1.5


def test_gains_come_from_structure_where_there_are_no_stars(survey):
    bare = [no_stars(m) for m in survey.measurements]
    found = match(bare, survey.wcs, survey.grid, SETTINGS)
    error = survey.log_gain_error(found)
    assert 1085.7 * error.std() < 3
    # The stated errors are those that blocks really leave, not what caution in weighing them would give.
    stated = np.array([s.gain_error[0] for s in found.scales])
    assert 0.6 < np.sqrt(np.mean((error / stated) ** 2)) < 1.3
    assert all("structure" in s.note or s.note == "" for s in found.scales)
    assert found.n_ties == 0


def test_levels_are_as_good_as_they_state_where_structure_tells_the_gains(survey):
    """The error distribution is that of the equations solved, the column of structure included."""
    with_stars = np.array([s.level_error[0] for s in solve(survey).scales])
    bare = match([no_stars(m) for m in survey.measurements], survey.wcs, survey.grid, SETTINGS)
    without = np.array([s.level_error[0] for s in bare.scales])
    assert np.median(without) < 5 * np.median(with_stars)


def test_neither_stars_nor_structure_leaves_the_prior():
    flat = Survey(nebula=0.0, n_stars=1)
    priors = np.linspace(0.9, 1.1, 16)
    found = match(
        [no_stars(m) for m in flat.measurements], flat.wcs, flat.grid, SETTINGS, ImageFacts(gain_priors=priors)
    )
    np.testing.assert_allclose([s.gain[0] for s in found.scales], priors, rtol=1e-6)
    assert all(np.isinf(s.gain_error[0]) and "prior" in s.note for s in found.scales)
    assert all(np.all(np.isfinite(s.surface)) for s in found.scales)


def test_vignetting_of_two_cameras_with_two_scales_is_found():
    real = Survey(vignetting=0.15, coarse_every=3, n_stars=3000)
    found = match(
        real.measurements, real.wcs, real.grid, MatchSettings(response_order=2), ImageFacts(cameras=real.camera)
    )
    for camera in ("fine", "coarse"):
        i = real.camera.index(camera)
        shape = real.wcs[i].shape
        x, y = np.meshgrid(np.linspace(0, shape[1] - 1, 9), np.linspace(0, shape[0] - 1, 9))
        ratio = found.scales[i].response_at(x, y, shape)[0] / real.response(x, y, shape)
        assert np.std(ratio) < 0.004
    assert 1085.7 * real.log_gain_error(found).std() < 2
    x, y, error = real.sky_error(found)
    assert np.std(without_trend(x, y, error, 3)) < 0.6


def test_a_flat_camera_stays_flat(survey):
    found = match(
        survey.measurements, survey.wcs, survey.grid, MatchSettings(response_order=2), ImageFacts(cameras=["one"] * 16)
    )
    assert all(s.response is None for s in found.scales)
    assert any("taken as flat" in str(notice) for notice in found.notices)


def test_a_dark_flat_sky_stays_flat_under_a_common_gradient():
    dark = Survey(nebula=0.0, common=(0, 60, -40, 12, 0, 5))
    found = solve(dark)
    _, _, error = dark.sky_error(found)
    assert np.std(error - error.mean()) < 0.5


def test_a_reference_fixes_what_differences_cannot_tell():
    survey = Survey(common=(0, 40, 20, 40, 0, 30))
    plain, wcs = solve(survey), tan_place((200, 200), 50.0, 20.0, 60.0)
    y, x = np.mgrid[:200, :200]
    gx, gy = survey.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
    rng = np.random.default_rng(1)
    picture = 7 + 0.2 * survey.sky(gx, gy) * (1 + rng.normal(0, 0.01, gx.shape))
    held = solve(survey, reference=ReferenceSky(picture, wcs, 240.0))
    before, after = (np.std(without_trend(*survey.sky_error(s), 0)) for s in (plain, held))
    assert before > 10
    assert after < 0.1 * before
    told = [re.search(r"external reference \(scale ([\d.]+)", str(notice)) for notice in held.notices]
    assert [float(found[1]) for found in told if found] == [pytest.approx(5, abs=0.05)]


@pytest.mark.parametrize("wavelength_px", [40, 80, 200, 600, 1200])
def test_nebulosity_survives(survey, solution, wavelength_px):
    """Injected / recovered amplitude of a wave, from about an arcminute to half the mosaic."""
    k = 2 * np.pi / wavelength_px
    amplitude = 20.0
    brighter = []
    for m, wcs, gain in zip(survey.measurements, survey.wcs, survey.gain, strict=True):
        gx, gy = survey.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(m.blocks.x, m.blocks.y))
        area = wcs.pixel_area_deg2(m.blocks.x, m.blocks.y) / survey.grid.area_ref_deg2
        wave = gain * area * amplitude * np.cos(k * gx) * np.cos(k * gy)
        brighter.append(replace(m, blocks=replace(m.blocks, mean=(m.blocks.mean + wave).astype(np.float32))))
    again = match(brighter, survey.wcs, survey.grid, SETTINGS)
    # What a mosaic shows: each frame's own wave minus what its surface and gain took of it.
    kept, full = 0.0, 0.0
    scale = np.exp(np.mean(np.log([s.gain[0] for s in again.scales]) - np.log(survey.gain)))
    for old, new, wcs, gain in zip(solution.scales, again.scales, survey.wcs, survey.gain, strict=True):
        x, y = np.meshgrid(np.linspace(50, wcs.shape[1] - 50, 60), np.linspace(50, wcs.shape[0] - 50, 40))
        gx, gy = survey.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
        wave = amplitude * np.cos(k * gx) * np.cos(k * gy)
        taken = (new.surface_at(x, y, wcs.shape) - old.surface_at(x, y, wcs.shape))[0]
        seen = scale * (wave * gain / new.gain[0] - taken)
        kept += np.sum(seen * (wave - wave.mean()))
        full += np.sum(wave * (wave - wave.mean()))
    assert kept / full == pytest.approx(1, abs=0.02)


def two_colours(measured):
    """The same image in two channels, the second with other values."""
    stars, blocks = measured.stars, measured.blocks
    twice = {name: np.concatenate([getattr(stars, name)] * 2) for name in ("flux", "flux_error", "flux_wide")}
    mean = np.concatenate([blocks.mean, 1.5 * blocks.mean[:, ::-1]])
    return replace(
        measured,
        sky=np.repeat(measured.sky, 2),
        noise=np.repeat(measured.noise, 2),
        stars=replace(stars, **twice),
        blocks=replace(blocks, mean=mean.astype(np.float32), error=np.repeat(blocks.error, 2, axis=0)),
    )


def test_channels_solved_at_once_are_those_solved_in_turn():
    survey = Survey(n_side=2)
    measured = [two_colours(m) for m in survey.measurements]
    arguments = measured, survey.wcs, survey.grid, SETTINGS
    one, two = match(*arguments), match(*arguments, each=ThreadExecutor(2).map)
    assert one.sky.shape[0] == 2
    assert not np.array_equal(one.sky[0], one.sky[1], equal_nan=True)
    assert digest_of(one.scales, one.sky, *one.seams_after) == digest_of(two.scales, two.sky, *two.seams_after)
    for before, after in zip(one.seams_after, two.seams_after, strict=True):
        np.testing.assert_array_equal(before.step, after.step)


def test_seams_fall_to_the_noise(survey, solution):
    (before,), (after,) = solution.seams_before, solution.seams_after
    assert len(after.step) > 200
    assert before.rms > 20
    assert after.rms < 0.5
    assert abs(before.step[before.worst(1)[0]]) == np.max(np.abs(before.step)) == before.quantile(1)


def test_a_seam_names_the_image_that_stands_out(survey, solution):
    """One image raised by a known step: the worst borders are its own and have that size."""
    table = make_block_table(survey.measurements, survey.wcs, survey.grid, solution.nodes.spacing_px)
    raised = list(solution.scales)
    surface = raised[6].surface.copy()
    surface[0, 0] -= 100.0
    raised[6] = replace(raised[6], surface=surface)
    figure = measure_seams(Squares.of(table, 0, np.full(16, 8.0)), 0, solution.sky[0], raised)
    assert set(figure.image[figure.worst(5)]) == {6}
    assert np.all(figure.image != figure.other)
    # Three images of one weight: the step is a third of the difference.
    assert figure.quantile(1) == pytest.approx(100 / 3, rel=0.05)


def plain_borders(table, sky, scales, noise):
    """Heaviest other image, place, step and noise of the squares at each image's border, one after the other."""
    flat, nx, cell, used = np.nan_to_num(sky).ravel(), table.nodes.shape[1], table.cell, table.error[0] > 0
    low = flat[cell] * (1 - table.fx) + flat[cell + 1] * table.fx
    high = flat[cell + nx] * (1 - table.fx) + flat[cell + nx + 1] * table.fx
    value = -(low * (1 - table.fy) + high * table.fy)
    for i, scale in enumerate(scales):
        part = slice(table.start[i], table.start[i + 1])
        u, v = table.u[part], table.v[part]
        surface = scale.surface_of(surface_terms(u, v, scale.order))[0]
        value[part] += table.mean[0, part] / (scale.gain[0] * scale.response_in(u, v)[0]) - surface
    for i in range(table.n_images):
        rows = []
        for square in np.unique(cell[used & (table.image == i)]):
            inside = used & (cell == square)
            image, weight = table.image[inside], 1 / noise[table.image[inside]] ** 2
            own, others = image == i, image != i
            place = [np.mean(q[inside][own], dtype=float) for q in (table.u, table.v)]
            if not others.any() or np.max(np.abs(place)) <= 0.9:
                continue
            means = [np.average(value[inside][some], weights=weight[some]) for some in (own, others)]
            step = weight[own].sum() / weight.sum() * (means[0] - means[1])
            rows.append((np.argmax(np.bincount(image[others], weight[others])), *place, step, weight.sum() ** -0.5))
        yield (np.array(column) for column in zip(*rows, strict=True))


FEW = 1.0, 1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107
"""Corrections of a median deviation of so few values, by Croux and Rousseeuw."""


def plain_border_cells(table, sky, scales, noise, n_cells=8):
    """The figure as its definition reads, image by image and cell by cell."""
    for i, (other, u, v, step, depth) in enumerate(plain_borders(table, sky, scales, noise)):
        sides = [(u > np.abs(v), v), (-u > np.abs(v), v), (v >= np.abs(u), u), (-v >= np.abs(u), u)]
        for on_side, along in sides:
            for k in range(n_cells):
                inside = on_side & (np.clip((along + 1) / 2 * n_cells // 1, 0, n_cells - 1) == k)
                if inside.sum() < 3:
                    continue
                middle = np.median(step[inside])
                spread = 1.4826 * np.median(np.abs(step[inside] - middle))
                against = np.argmax(np.bincount(other[inside]))
                n = int(inside.sum())
                error = 1.2533 * (FEW[n] if n < len(FEW) else n / (n - 0.8)) * spread / n**0.5
                yield i, against, u[inside].mean(), v[inside].mean(), middle, error, depth[inside].mean()


def test_seams_are_medians_of_the_squares_of_each_border_cell(survey, solution):
    table = make_block_table(survey.measurements, survey.wcs, survey.grid, solution.nodes.spacing_px)
    noise = np.linspace(8, 12, 16)
    figure = measure_seams(Squares.of(table, 0, noise), 0, solution.sky[0], solution.scales)
    plain = np.array(sorted(plain_border_cells(table, solution.sky[0], solution.scales, noise)))
    columns = figure.image, figure.other, figure.u, figure.v, figure.step, figure.error, figure.noise
    found = np.stack(columns, axis=1)
    np.testing.assert_allclose(np.array(sorted(found.tolist())), plain, rtol=1e-5, atol=1e-4)


def test_wide_nodes_where_memory_asks(survey, monkeypatch):
    monkeypatch.setattr("zemosaic.stages.match.sky_nodes._CROSS_BYTES", 1e5)
    found = solve(survey)
    assert found.nodes.spacing_px > 32
    assert any("stay within memory" in str(notice) for notice in found.notices)


def test_blocks_without_a_value_do_no_harm(survey, solution):
    m = survey.measurements[2]
    error = m.blocks.error.copy()
    error[0, ::7] = np.inf
    mean = np.where(np.isfinite(error), m.blocks.mean, 0).astype(np.float32)
    holes = [*survey.measurements]
    holes[2] = replace(m, blocks=Blocks(m.blocks.x, m.blocks.y, mean, error, m.blocks.size_px))
    found = match(holes, survey.wcs, survey.grid, SETTINGS)
    assert found.scales[2].gain[0] == pytest.approx(solution.scales[2].gain[0], rel=1e-3)
    assert found.scales[2].surface[0, 0] == pytest.approx(solution.scales[2].surface[0, 0], abs=3)


def test_gains_may_be_held_at_their_priors(survey):
    priors = np.array(survey.gain)
    found = match(
        survey.measurements, survey.wcs, survey.grid, MatchSettings(solve_gain=False), ImageFacts(gain_priors=priors)
    )
    np.testing.assert_allclose([s.gain[0] for s in found.scales], priors, rtol=1e-12)


def test_mismatched_inputs_are_named(survey):
    with pytest.raises(ValueError, match="16 measurements and 15 WCS"):
        match(survey.measurements, survey.wcs[:15], survey.grid, SETTINGS)
