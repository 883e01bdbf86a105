"""Masks of tiles: from coverage, from a low border, from the radius; applied once, through the weight."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest

from mosaic_cases import noise, tan_wcs
from zemosaic.errors import SettingError
from zemosaic.model.box import Box
from zemosaic.model.frame import FrameId
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.tile import Tile
from zemosaic.settings import TileSettings, load_settings
from zemosaic.stages.classic.altaz import _apply_lecropper_pipeline, mask_altaz_artifacts
from zemosaic.stages.tiles.rim import RIM_ALPHA, clean_tile

SHAPE = 160, 200
LOG = "zemosaic.stages"


def rim_coverage(depth: int = 20, rim: int = 15, thin: int = 2) -> np.ndarray:
    """`depth` frames inside, `thin` frames in a rim."""
    coverage = np.full(SHAPE, thin, np.int16)
    coverage[rim:-rim, rim:-rim] = depth
    return coverage


def mask(image: np.ndarray, **options: object) -> np.ndarray | None:
    _, alpha = mask_altaz_artifacts(image, return_mask=True, **options)  # type: ignore[arg-type]
    return alpha


# --- from coverage ------------------------------------------------------------------------------------------------


def test_thin_coverage_gets_no_alpha_and_the_rest_a_feather() -> None:
    alpha = mask(noise((3, *SHAPE), 1), coverage=rim_coverage())
    assert alpha is not None
    inside = np.zeros(SHAPE, bool)
    inside[15:-15, 15:-15] = True
    assert np.array_equal(alpha > 0, inside)
    # 5 % of the shorter side: 8 px; the Euclidean distance from the nearest bad pixel.
    assert alpha[80, 15:26] == pytest.approx(np.minimum(np.arange(1, 12) / 8, 1))
    assert alpha[15, 15] == pytest.approx(1 / 8)
    assert alpha[17, 18] == pytest.approx(3 / 8)
    assert alpha.dtype == np.float32
    assert 0 <= alpha.min() <= alpha.max() <= 1


@pytest.mark.parametrize(
    ("thin", "options", "kept"),
    [
        (7, {}, False),  # 40 % of 20 are 8
        (8, {}, True),
        (7, {"min_coverage_frac": 0.3}, True),
        (7, {"min_coverage_frac": 0.3, "min_coverage_abs": 8}, False),
        (2, {"min_coverage_frac": 0.0}, False),
        (3, {"min_coverage_frac": 0.0}, True),
    ],
)
def test_the_threshold_is_the_larger_of_two(thin: int, options: dict[str, float], kept: bool) -> None:
    alpha = mask(noise(SHAPE, 1), coverage=rim_coverage(thin=thin), **options)
    assert (alpha is None) == kept  # all good: nothing to tell apart


def test_few_frames_are_not_masked_away() -> None:
    """Three are asked for, two there are: the threshold is two."""
    assert mask(noise(SHAPE, 1), coverage=np.full(SHAPE, 2)) is None
    alpha = mask(noise(SHAPE, 1), coverage=rim_coverage(depth=2, thin=1), min_coverage_frac=0.6)
    assert alpha is not None
    assert alpha[80, 100] == 1
    assert alpha[0, 0] == 0


def test_opening_removes_threads() -> None:
    coverage = rim_coverage()
    coverage[80, :] = 20  # a thread of one row through the rim
    image = noise(SHAPE, 1)
    opened, not_opened = mask(image, coverage=coverage), mask(image, coverage=coverage, morph_open_px=0)
    assert opened is not None
    assert not_opened is not None
    assert opened[80, 5] == 0
    assert not_opened[80, 5] > 0


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (np.ones((10, 10)), r"\(10, 10\).*\(160, 200\)"),
        (np.full((*SHAPE, 3), 9), r"\(160, 200, 3\).*\(160, 200\)"),
        (np.zeros(SHAPE), "largest value is 0"),
        (np.where(np.arange(200) < 3, np.nan, 9.0) * np.ones(SHAPE), "480 of its pixels are not finite"),
    ],
)
@pytest.mark.parametrize("kind", ["bordered", "even"])
def test_a_coverage_that_does_not_fit_is_ignored_and_named(
    caplog: pytest.LogCaptureFixture, bad: np.ndarray, why: str, kind: str
) -> None:
    image = noise((*SHAPE, 3), 1)
    if kind == "bordered":
        image[:, :9] = 0
    caplog.set_level(logging.INFO, LOG)
    with_none = mask(image)
    assert "MT_COVERAGE_IGNORED" not in caplog.text
    with_bad = mask(image, coverage=bad)
    assert with_none is not None
    assert with_bad is not None
    assert with_none.tobytes() == with_bad.tobytes()
    (line,) = [r.message for r in caplog.records if "MT_COVERAGE_IGNORED" in r.message]
    assert re.search(why, line)


# --- without coverage ---------------------------------------------------------------------------------------------


def test_a_low_border_is_found_where_the_sky_is_clear_of_zero() -> None:
    image = noise(SHAPE, 1)
    image[:, :12] = 0
    image[50:60, 90:100] = 0  # a hole inside is not the border
    alpha = mask(image)
    assert alpha is not None
    assert not alpha[:, :12].any()
    assert alpha[:, 12].all()
    assert alpha[55, 95] == 1
    image[:, :12] = np.nan
    assert mask(image) == pytest.approx(alpha)


@pytest.mark.parametrize("level", [0.0, 1000.0])
def test_else_the_corners_fade(level: float) -> None:
    """A sky round zero, or nothing low at the border: the radial mask."""
    image = noise(SHAPE, 1, level=level)
    alpha = mask(image)
    assert alpha is not None
    assert alpha[0, 0] == 0
    assert alpha[80, 0] == 1
    assert alpha[0, 100] == 1
    wider = mask(image, margin_percent=20, decay_ratio=0.4)
    assert wider is not None
    assert wider.sum() < alpha.sum()


# --- what is returned ---------------------------------------------------------------------------------------------


def test_values_are_never_multiplied() -> None:
    image = noise((*SHAPE, 3), 1)
    before = image.copy()
    out = mask_altaz_artifacts(image, coverage=rim_coverage())
    assert out is image
    filled, alpha = mask_altaz_artifacts(image, coverage=rim_coverage(), fill_value=np.nan, return_mask=True)
    assert np.array_equal(image, before)
    assert alpha is not None
    assert np.isnan(filled[alpha == 0]).all()
    assert np.array_equal(filled[alpha > 0], before[alpha > 0])
    whole = mask_altaz_artifacts(image.astype(np.int32), coverage=rim_coverage(), fill_value=np.nan)
    assert isinstance(whole, np.ndarray)
    assert whole.dtype == np.float64


def test_hard_threshold_zeroes_faint_alpha() -> None:
    alpha = mask(noise(SHAPE, 1), coverage=rim_coverage(), hard_threshold=0.5)
    assert alpha is not None
    assert alpha[80, 15:20] == pytest.approx([0, 0, 0, 0, 5 / 8])


def test_a_picture_has_two_or_three_axes() -> None:
    with pytest.raises(ValueError, match=r"\(4, 160, 200\)"):
        mask_altaz_artifacts(np.zeros((4, *SHAPE)))


# --- the clean-up pipeline ----------------------------------------------------------------------------------------


def test_clean_up_with_two_arguments() -> None:
    image = noise((*SHAPE, 3), 1)
    out, alpha = _apply_lecropper_pipeline(image, {"some_other_key": 1})
    assert out is image
    assert alpha is not None
    assert alpha[0, 0] == 0
    out, alpha = _apply_lecropper_pipeline(image, TileSettings(cleanup="off"), coverage=rim_coverage())
    assert out is image
    assert alpha is None


def test_thresholds_soften_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    image, coverage = noise(SHAPE, 1), rim_coverage()
    cfg = {"altaz_alpha_soft_threshold": 0.2, "altaz_nanize_threshold": 0.3}
    _, alpha = _apply_lecropper_pipeline(image, cfg, coverage=coverage)
    assert alpha is not None
    raw = np.minimum(np.arange(1, 11) / 8, 1)
    assert alpha[80, 15:25] == pytest.approx(np.where(raw > 0.3, (raw - 0.2) / 0.8, 0))
    assert "ALPHA_STATS: level=master_tile min=0.000 max=1.000" in caplog.text
    _, alpha = _apply_lecropper_pipeline(
        image, {"altaz_min_coverage_abs": 3, "altaz_min_coverage_frac": 0}, coverage=coverage
    )
    assert alpha is not None
    assert alpha[0, 0] == 0


def test_thresholds_are_checked_against_each_other() -> None:
    with pytest.raises(SettingError, match=r"0\.1 is below altaz_alpha_soft_threshold = 0\.2"):
        load_settings(assignments=["tiles.altaz_alpha_soft_threshold=0.2", "tiles.altaz_nanize_threshold=0.1"])


# --- tiles --------------------------------------------------------------------------------------------------------


def a_tile(coverage: np.ndarray | None = None) -> Tile:
    coverage = rim_coverage() if coverage is None else coverage
    data = noise((3, *SHAPE), 2)
    weight = np.where(coverage > 0, coverage / 100, 0).astype(np.float32) * np.ones((3, 1, 1), np.float32)
    exposure = (10.0 * coverage).astype(np.float32)
    wcs = CelestialWcs(tan_wcs(SHAPE, rotation_deg=20), SHAPE)
    return Tile(
        wcs, data, weight, coverage, exposure, exposure / 9, np.ones(SHAPE, np.float32), tuple(map(FrameId, "abc"))
    )


def test_a_tile_is_masked_through_its_weight_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOG)
    tile = a_tile()
    clean = clean_tile(tile, TileSettings(), "7", altaz=True)
    assert clean.wcs.shape == SHAPE
    for name in ("data", "weight", "coverage", "exposure"):
        assert np.array_equal(getattr(clean, name), getattr(tile, name)), name
    assert np.unique(clean.alpha[:15]) == pytest.approx([RIM_ALPHA], rel=0.11)  # outweighed, not lost
    cut = clean_tile(tile, TileSettings(altaz_nanize_threshold=RIM_ALPHA), "7", altaz=True)
    assert not cut.alpha[:15].any()
    assert np.array_equal(cut.alpha[15:-15, 15:-15], clean.alpha[15:-15, 15:-15])
    assert clean.alpha[15, 15] == pytest.approx(0.124, abs=0.01)
    assert clean.alpha.max() == 1
    for line in (
        "MT_COVERAGE_STATS: tile=7 shape=(160, 200) min=2 max=20 nonzero_frac=1.0000 n_used=3",
        "MT_PIPELINE: tile=7",
    ):
        assert line in caplog.text
    caplog.clear()
    assert clean_tile(tile, TileSettings(), "7", altaz=False).alpha.min() == 1
    assert "ALPHA_STATS" not in caplog.text
    bordered = rim_coverage()
    bordered[:, :3] = 0
    for altaz in (False, True):
        assert clean_tile(a_tile(bordered), TileSettings(), "7", altaz=altaz).wcs.shape == (160, 197)


@pytest.mark.parametrize(
    ("settings", "box"),
    [
        ({"trim_px": 6}, Box(6, 154, 6, 194)),
        ({"crop_coverage": 0.5}, Box(15, 145, 15, 185)),
        ({"crop_coverage": 0.5, "trim_px": 4}, Box(19, 141, 19, 181)),
    ],
)
def test_a_crop_moves_all_planes_and_the_wcs_together(
    caplog: pytest.LogCaptureFixture, settings: dict[str, float], box: Box
) -> None:
    caplog.set_level(logging.INFO, LOG)
    tile = a_tile()
    star = tile.wcs.pixel_to_sky(88.3, 61.7)
    cut = clean_tile(tile, TileSettings(**settings), "1", altaz=False)  # type: ignore[arg-type]
    x, y = cut.wcs.sky_to_pixel(*star)
    assert (float(x) + box.x0, float(y) + box.y0) == pytest.approx((88.3, 61.7), abs=1e-6)
    for name in ("data", "weight", "coverage", "exposure", "alpha"):
        assert np.array_equal(getattr(cut, name), getattr(tile, name)[..., *box.slices]), name
    assert ("MT_EDGE_TRIM: tile=1" in caplog.text) == ("trim_px" in settings)


def test_a_crop_moves_the_origin_of_a_distortion() -> None:
    from zemosaic.model.sky.tan_sip import TanSip

    sip = np.array([[1e-5, 2e-5, -1e-5], [3e-5, 0.0, 1e-5]])
    plate = TanSip(150.0, 30.0, (90.0, 70.0), np.diag([-1.0, 1.0]) / 1800, 2, sip)
    wcs = plate.celestial(SHAPE)
    star = wcs.pixel_to_sky(150.2, 130.9)
    x, y = wcs.cut(Box(20, 150, 30, 190)).sky_to_pixel(*star)
    assert (float(x), float(y)) == pytest.approx((120.2, 110.9), abs=1e-4)


def test_a_tile_is_checked() -> None:
    tile = a_tile()
    with pytest.raises(ValueError, match="count, not float64"):
        Tile(tile.wcs, tile.data, tile.weight, tile.coverage.astype(float), tile.exposure, tile.saturated, tile.alpha)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"0..1, got 0..2"):
        tile.masked(np.where(tile.coverage > 5, 2, 0).astype(np.float32))
    with pytest.raises(ValueError, match="must have that shape"):
        tile.masked(np.ones((3, 3), np.float32))
    with pytest.raises(ValueError, match="not inside a tile of 160 x 200"):
        tile.cropped(Box(0, 161, 0, 10))
