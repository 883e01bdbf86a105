"""Tiles against each other: planted gains and levels come back, and nothing breaks on tiles that hold nothing."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tile_cases import TiledSky, without_polynomial
from zemosaic.model.box import Box
from zemosaic.settings import MatchSettings
from zemosaic.stages.classic.scaling import apply_tile_photometric_scaling, compute_tile_photometric_scaling
from zemosaic.stages.survey.overlaps import OverlapGraph, TileOverlap, build_tile_overlap_graph
from zemosaic.stages.survey.photometry import (
    TilePhotometryInfo,
    choose_reference_tile,
    compute_valid_mask,
    equalize_rgb_medians_inplace,
    estimate_tile_background,
)
from zemosaic.stages.survey.solve import measure_steps, shift_levels, solve_tiles
from zemosaic.stages.tiles.compare import Relation, relate_images

SIGMA = 4.0


@pytest.fixture(scope="module")
def survey():
    return TiledSky(sigma=SIGMA)


@pytest.fixture(scope="module")
def graph(survey):
    return build_tile_overlap_graph(survey.tiles)


@pytest.fixture(scope="module")
def solution(survey, graph):
    return solve_tiles(survey.measure(), survey.boxes, survey.shape, MatchSettings(), graph)


def up_to_a_scale(found, true):
    return found * np.exp(np.mean(np.log(true / found)))


def starry(shape=(100, 120), seed=4, sigma=1.0, level=2000.0):
    sky = TiledSky(seed=seed, n_y=1, n_x=1, size=max(shape), sigma=0, overlap=0, gains=(1, 1), offsets=0, slopes=0)
    image = sky.sky[: shape[0], : shape[1]] - 1000 + level
    return (image + np.random.default_rng(seed).normal(0, sigma, shape)).astype(np.float32)


# --- validity, background, colour -------------------------------------------------------------------------------------


def test_valid_pixels_are_finite_and_not_empty():
    data = np.ones((3, 4, 5), np.float32)
    data[1, 0, 0], data[2, 0, 1] = np.nan, np.inf
    data[:, 1, 1] = 0
    data[0, 2, 2] = 0  # one channel at zero is a colour, not a hole
    data[:, 3, 3] = -7
    expected = np.ones((4, 5), bool)
    expected[0, :2] = expected[1, 1] = False
    np.testing.assert_array_equal(compute_valid_mask(data), expected)
    np.testing.assert_array_equal(compute_valid_mask(np.moveaxis(data, 0, 2)), expected)
    # Where a weight map tells what is empty, zeros are legal.
    assert compute_valid_mask(data, eps=-1)[1, 1]


def test_a_background_is_the_sky_below_the_stars():
    image = starry(sigma=3.0)
    mask = np.ones(image.shape, bool)
    mask[:20] = False
    image[:20] = 1e8
    level = estimate_tile_background(image, mask)
    assert level.shape == (1,)
    assert abs(level[0] - np.median(image[20:])) < 20
    assert np.isnan(estimate_tile_background(np.full((9, 9), np.nan))).all()


@pytest.mark.parametrize("layout", [(0, 1, 2), (1, 2, 0)])
def test_rgb_medians_are_equalised_in_place(layout, caplog):
    caplog.set_level(logging.INFO)
    tile = np.random.default_rng(1).normal(0, 5, (3, 40, 50)) + np.array([900, 1000, 1300])[:, None, None]
    tile[:, :5] = 0
    by_gain = tile.transpose(layout).astype(np.float32)
    change = equalize_rgb_medians_inplace(by_gain)
    np.testing.assert_allclose(estimate_tile_background(by_gain), 1000, atol=1)
    np.testing.assert_allclose(change, [1000 / 900, 1, 1000 / 1300], rtol=2e-3)
    by_offset = tile.transpose(layout).astype(np.float32)
    np.testing.assert_allclose(equalize_rgb_medians_inplace(by_offset, method="offset"), [100, 0, -300], atol=2)
    np.testing.assert_allclose(estimate_tile_background(by_offset), 1000, atol=1)
    assert caplog.text.count("RGB equalisation applied") == 2
    assert not compute_valid_mask(by_offset)[:5].any()  # what was empty still is


def test_a_mono_tile_is_not_equalised(caplog):
    caplog.set_level(logging.INFO)
    tile = starry()
    before = tile.copy()
    np.testing.assert_array_equal(equalize_rgb_medians_inplace(tile), [1])
    np.testing.assert_array_equal(tile, before)
    assert caplog.text.count("[GRID] RGB equalisation skipped") == 1


# --- one tile against another -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_scaling_brings_a_tile_to_its_reference(dtype):
    sky = np.stack([starry(seed=s, sigma=0) for s in (1, 2, 3)])
    rng = np.random.default_rng(7)
    reference = sky + rng.normal(0, 1, sky.shape)
    gain, offset = np.array([0.7, 1.0, 1.4])[:, None, None], np.array([300, 0, -200])[:, None, None]
    target = ((sky - offset) / gain + rng.normal(0, 1, sky.shape)).astype(dtype)
    gains, offsets = compute_tile_photometric_scaling(reference, target)
    assert gains.dtype == offsets.dtype == np.float32
    np.testing.assert_allclose(gains, gain.ravel(), rtol=5e-3)
    before = target.copy()
    scaled = apply_tile_photometric_scaling(target, gains, offsets)
    assert scaled.dtype == np.float32
    assert scaled is not target
    np.testing.assert_array_equal(target, before)
    assert np.abs(np.median(scaled - reference, axis=(1, 2))).max() < 0.1


def test_the_layout_of_a_tile_does_not_matter():
    sky = np.stack([starry(seed=s) for s in (1, 2, 3)])
    chw = compute_tile_photometric_scaling(sky, 2 * sky + 5)
    hwc = np.moveaxis(sky, 0, 2)
    for one, other in zip(chw, compute_tile_photometric_scaling(hwc, 2 * hwc + 5), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert apply_tile_photometric_scaling(hwc, *chw).shape == hwc.shape
    np.testing.assert_allclose(chw[0], 0.5, rtol=1e-5)


def test_a_pedestal_and_noise_tell_no_gain():
    rng = np.random.default_rng(3)
    reference, target = 1000 + rng.normal(0, 10, (120, 120)), 1400 + rng.normal(0, 10, (120, 120))
    gains, offsets = compute_tile_photometric_scaling(reference, target)
    assert gains[0] == 1
    assert abs(offsets[0] + 400) < 1


def test_only_the_overlap_mask_counts():
    reference = starry()
    target = reference / 1.2
    target[:, :60] = np.random.default_rng(1).normal(5e4, 1e4, (100, 60))
    mask = np.zeros(reference.shape, bool)
    mask[:, 60:] = True
    gains, _ = compute_tile_photometric_scaling(reference, target, mask=mask)
    assert abs(gains[0] - 1.2) < 1e-3


@pytest.mark.parametrize(
    "target",
    [np.full((40, 50), np.nan), np.zeros((40, 50)), np.full((40, 50), 7.0), np.full((40, 50), np.inf)],
    ids=["nan", "empty", "constant", "inf"],
)
def test_a_tile_that_holds_nothing_gets_a_neutral_scaling_and_one_line(target, caplog):
    caplog.set_level(logging.INFO)
    reference = starry((40, 50))
    gains, offsets = compute_tile_photometric_scaling(reference, target)
    assert (gains[0], offsets[0]) == (1, 0)
    assert len(caplog.records) == 1
    assert "no valid pixels, scaling disabled" in caplog.text


def test_an_empty_overlap_gets_a_neutral_scaling(caplog):
    caplog.set_level(logging.INFO)
    tile = starry()
    gains, offsets = compute_tile_photometric_scaling(tile, 3 * tile, mask=np.zeros(tile.shape, bool))
    assert (gains[0], offsets[0]) == (1, 0)
    assert len(caplog.records) == 1


def test_arrays_on_a_device_are_fetched():
    class OnDevice:
        __cuda_array_interface__: object = {}

        def __init__(self, array):
            self.array = array

        def get(self):
            return self.array

    tile = starry()
    gains, offsets = compute_tile_photometric_scaling(OnDevice(tile), OnDevice(2 * tile))
    assert abs(gains[0] - 0.5) < 1e-5
    assert type(apply_tile_photometric_scaling(OnDevice(tile), gains, offsets)) is np.ndarray


def test_mistakes_are_named():
    tile = starry()
    with pytest.raises(ValueError, match="same pixels"):
        compute_tile_photometric_scaling(tile, tile[:-1])
    with pytest.raises(ValueError, match="2 gains and 1 offsets do not fit 1 channel"):
        apply_tile_photometric_scaling(tile, [1, 1], [0])
    with pytest.raises(ValueError, match="must be finite"):
        apply_tile_photometric_scaling(tile, [np.nan], [0])
    with pytest.raises(ValueError, match="1 or 3 channels"):
        compute_valid_mask(np.ones((9, 9, 9)))
    with pytest.raises(ValueError, match="tile 3: data"):
        TilePhotometryInfo(3, Box(0, 4, 0, 4), np.ones((1, 4, 5)), np.ones((4, 5), bool))


def test_the_slope_is_not_drawn_to_zero_by_noise():
    """Signal as weak as the noise of 4 x 4 means: least squares would find half the slope."""
    rng = np.random.default_rng(11)
    signal = gaussian_filter(rng.normal(0, 1, (400, 400)), 6.0)
    signal *= 2.5 / signal.std()
    x, y = signal + rng.normal(0, 10, signal.shape), 1.3 * signal + 50 + rng.normal(0, 10, signal.shape)
    found = relate_images(x, y, np.ones(signal.shape, bool))
    assert abs(found.slope - 1.3) < 4 * found.slope_error
    assert abs(found.slope - 1.3) < 0.15
    assert np.polyfit(x.ravel(), y.ravel(), 1)[0] < 0.3


def test_a_satellite_trail_in_one_tile_does_not_turn_the_line():
    x = starry(sigma=2.0)
    y = 0.8 * x + 20
    y[40:44] += 3000
    found = relate_images(x, y, np.ones(x.shape, bool))
    assert abs(found.slope - 0.8) < 0.003


# --- the graph --------------------------------------------------------------------------------------------------------


def test_the_graph_holds_every_overlap_once(survey, graph):
    pairs = {(e.first, e.second) for e in graph.edges}
    n = len(survey.boxes)
    expected = {(i, j) for j in range(n) for i in range(j) if survey.boxes[i].overlaps(survey.boxes[j])}
    assert pairs == expected
    assert len(graph.edges) == len(pairs)
    edge = graph.edges[0]
    assert edge.box_first.shift(survey.boxes[edge.first].y0, survey.boxes[edge.first].x0) == edge.box
    assert graph.n_overlaps.sum() == 2 * len(pairs)
    assert len(set(graph.components())) == 1


def test_edges_tell_relative_gains_with_honest_errors(survey, graph):
    pull = []
    for edge in graph.edges:
        relation = edge.relations[0]
        true = survey.gain[edge.second] / survey.gain[edge.first]
        pull.append((relation.slope - true) / relation.slope_error)
    assert np.sqrt(np.mean(np.square(pull))) < 2.5
    assert np.abs(up_to_a_scale(graph.relative_gains(0)[0], survey.gain) / survey.gain - 1).max() < 5e-3


def test_pairs_are_not_searched_among_all():
    """Thousands of tiles: a search over all pairs would take minutes."""
    blank, valid = np.zeros((1, 8, 8), np.float32), np.zeros((8, 8), bool)
    tiles = [
        TilePhotometryInfo(k, Box(7 * j, 7 * j + 8, 7 * i, 7 * i + 8), blank, valid)
        for k, (j, i) in enumerate(np.ndindex(60, 60))
    ]
    graph = build_tile_overlap_graph(tiles)
    assert graph.n_dropped == 2 * 60 * 59 + 2 * 59 * 59
    assert graph.edges == ()


def test_a_healthy_tile_is_the_reference(survey, graph):
    chosen = choose_reference_tile(survey.tiles, graph.n_overlaps)
    assert chosen in {5, 6, 9, 10}  # the inner ones of 4 x 4
    sick = list(survey.tiles)
    for i in (5, 6, 9, 10):
        sick[i] = TilePhotometryInfo(i, survey.boxes[i], np.zeros_like(sick[i].data), sick[i].mask)
    assert choose_reference_tile(sick, graph.n_overlaps) not in {5, 6, 9, 10}
    assert choose_reference_tile([sick[5]], [0]) is None


def edge(first, second, slope=1.0, step=0.0):
    box, relation = Box(0, 1, 0, 1), Relation(slope, 1e-3, step, 0.1, 1000)
    return TileOverlap(first, second, box, box, box, 1000, (relation,), np.array([step]))


def test_an_inconsistent_edge_does_not_bend_a_ring():
    """In a bare ring nobody can tell which edge lies: the error spreads evenly. Spokes to a hub show the liar."""
    n, lie = 10, {"slope": 1.5, "step": 300.0}
    circle = [edge(k, (k + 1) % n, **(lie if k == 4 else {})) for k in range(n)]
    spokes = [edge(k, n) for k in range(n)]
    bare = OverlapGraph(tuple(range(n)), tuple(circle), 0)
    assert np.abs(np.log(bare.relative_gains(0)[0])).max() <= np.log(1.5) / 2
    assert np.abs(bare.relative_levels(0)).max() <= 150
    wheel = OverlapGraph(tuple(range(n + 1)), (*circle, *spokes), 0)
    assert np.abs(np.log(wheel.relative_gains(0)[0])).max() < 0.002
    assert np.abs(wheel.relative_levels(0)).max() < 1


# --- all tiles at once ------------------------------------------------------------------------------------------------


def test_planted_gains_and_levels_come_back(survey, solution, graph):
    gains = np.array([scale.gain[0] for scale in solution.scales])
    assert np.abs(up_to_a_scale(gains, survey.gain) / survey.gain - 1).max() < 5e-3
    left = np.array([
        np.median(image[0] - survey.sky[box.slices])
        for image, box in zip(survey.corrected(solution.scales), survey.boxes, strict=True)
    ])  # fmt: skip
    assert np.abs(without_polynomial(left, survey.boxes, 2)).max() < 0.1 * SIGMA
    before, after = measure_steps(survey.tiles, graph), measure_steps(survey.tiles, graph, solution.scales)
    assert np.std(before) > 200
    assert np.std(after) < 0.1 * SIGMA
    assert solution.n_neutral == 0


def test_a_chain_of_fifty_tiles_stays_stable():
    chain = TiledSky(n_y=1, n_x=50, size=160, overlap=48, sigma=SIGMA, seed=3)
    graph = build_tile_overlap_graph(chain.tiles)
    found = solve_tiles(chain.measure(), chain.boxes, chain.shape, MatchSettings(), graph)
    gains = np.array([scale.gain[0] for scale in found.scales])
    assert np.abs(up_to_a_scale(gains, chain.gain) / chain.gain - 1).max() < 0.1
    steps = measure_steps(chain.tiles, graph, found.scales)
    assert np.sqrt(np.mean(steps**2)) < 0.5 * SIGMA


def test_equal_tiles_stay_equal():
    same = TiledSky(n_y=2, n_x=2, sigma=SIGMA, gains=(1, 1), offsets=0, slopes=0)
    found = solve_tiles(same.measure(), same.boxes, same.shape, MatchSettings(), build_tile_overlap_graph(same.tiles))
    for scale in found.scales:
        assert abs(scale.gain[0] - 1) < max(3 * scale.gain_error[0], 5e-3)
    levels = np.array([np.median(image) for image in survey_levels(same, found)])
    assert np.abs(without_polynomial(levels, same.boxes, 1)).max() < 0.1 * SIGMA


def survey_levels(case, found):
    return [
        image[0] - case.sky[box.slices] for image, box in zip(case.corrected(found.scales), case.boxes, strict=True)
    ]


def test_tiles_without_measurements_stay_neutral(survey, graph, caplog):
    caplog.set_level(logging.INFO)
    measured = survey.measure()
    measured[3] = None
    found = solve_tiles(measured, survey.boxes, survey.shape, MatchSettings(surface_order=1), graph)
    assert found.scales[3].gain[0] == 1
    assert not found.scales[3].surface.any()
    assert caplog.text.count("tile 3: no valid pixels, scaling disabled") == 1
    assert "[GRID] Photometry: solved global gain/offset for 15 tiles" in caplog.text
    nothing = solve_tiles([None, None], survey.boxes[:2], survey.shape, MatchSettings(), OverlapGraph((0, 1), (), 0))
    assert nothing.n_neutral == 2


def test_sick_tiles_among_healthy_ones_are_neutral_and_harm_none(caplog):
    """All NaN, constant, of another dtype, without one valid pixel in common: what can be found is, the rest stays."""
    caplog.set_level(logging.INFO)
    case = TiledSky(n_y=3, n_x=3, sigma=SIGMA, seed=9)
    tiles, measured = list(case.tiles), case.measure()
    whole, none = tiles[0].mask, np.zeros_like(tiles[0].mask)

    def replaced(k, data, mask):
        return TilePhotometryInfo(k, case.boxes[k], data, mask)

    tiles[0] = replaced(0, np.full_like(tiles[0].data, np.nan), none)
    tiles[2] = replaced(2, np.full_like(tiles[2].data, 500.0), whole)
    tiles[4] = replaced(4, np.clip(np.rint(tiles[4].data), 0, 65535).astype(np.uint16), whole)
    left_half = whole.copy()
    left_half[:, 100:] = False
    tiles[7] = replaced(7, tiles[7].data, left_half)  # shares nothing with its right neighbour
    measured[0] = measured[2] = None
    graph = build_tile_overlap_graph(tiles)
    assert not {0, 2} & {i for edge in graph.edges for i in (edge.first, edge.second)}
    assert (7, 8) not in {(edge.first, edge.second) for edge in graph.edges}
    assert caplog.text.count("dropped: its valid pixels tell nothing") == graph.n_dropped > 0
    found = solve_tiles(measured, case.boxes, case.shape, MatchSettings(), graph, choose_reference_tile(tiles, [1] * 9))
    for k in (0, 2):
        assert found.scales[k].gain[0] == 1
        assert not found.scales[k].surface.any()
        assert caplog.text.count(f"tile {k}: no valid pixels, scaling disabled") == 1
    assert found.n_neutral == 2
    healthy = [k for k in range(9) if k not in (0, 2)]
    gains = np.array([scale.gain[0] for scale in found.scales])
    assert np.abs(up_to_a_scale(gains[healthy], case.gain[healthy]) / case.gain[healthy] - 1).max() < 5e-3
    for scales in (found.scales, shift_levels(graph, 1).scales):
        assert np.isfinite([[*scale.gain, *scale.surface.ravel()] for scale in scales]).all()
        assert np.isfinite(measure_steps(tiles, graph, scales)).all()


def test_the_simplest_match_shifts_levels(survey):
    level = TiledSky(sigma=SIGMA, gains=(1, 1), slopes=0, seed=5)
    graph = build_tile_overlap_graph(level.tiles)
    found = shift_levels(graph, 1)
    assert all(scale.gain[0] == 1 for scale in found.scales)
    steps = measure_steps(level.tiles, graph, found.scales)
    assert np.sqrt(np.mean(steps**2)) < 0.1 * SIGMA
    assert np.sqrt(np.mean(measure_steps(level.tiles, graph) ** 2)) > 100
