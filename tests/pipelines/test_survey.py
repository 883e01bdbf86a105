"""The survey grid: the same sky as the direct mosaic, and a run that ends well whatever fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from mosaic_cases import digest_of, digests_of, report_of, run_cli
from zemosaic.cli import main
from zemosaic.engine.memory import resident_bytes
from zemosaic.model.box import Box
from zemosaic.pipelines.survey import assembly, blending
from zemosaic.simulate import FrameRecipe, SimulatedSky, score_mosaic, simulate_frames
from zemosaic.stages.survey.cut import cut_tiles

Capture = pytest.CaptureFixture[str]

SMALL = ("--set", "survey.tile_fields=1.1", "--set", "output.preview=false")
NONE = ("--set", "match.method=none")


def build(frames: Path, out: Path, mode: str, *options: str) -> Path:
    assert main(["build", str(frames), "-o", str(out), "--mode", mode, *SMALL, *options]) == 0
    return out / "mosaic.fits"


def planes(path: Path) -> dict[str, np.ndarray]:
    with fits.open(path) as hdus:
        return {hdu.name: np.array(hdu.data, float) for hdu in hdus}


def facts(mosaic: Path) -> dict[str, object]:
    return report_of(mosaic.parent)["mosaic"]


def notices(mosaic: Path) -> list[str]:
    return [notice["message"] for notice in report_of(mosaic.parent)["notices"]]


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Frames smaller than the sky they cover, so that tiles hold different ones; not to be changed."""
    folder = tmp_path_factory.mktemp("survey")
    simulate_frames(folder, SimulatedSky(3, size_deg=0.55), 20, FrameRecipe(shape=(300, 400), trail_fraction=0))
    return folder


@pytest.fixture(scope="module")
def direct(survey, tmp_path_factory):
    return build(survey, tmp_path_factory.mktemp("direct"), "direct")


@pytest.fixture(scope="module")
def grid(survey, tmp_path_factory):
    return build(survey, tmp_path_factory.mktemp("grid"), "grid")


@pytest.fixture(scope="module")
def unmatched(survey, tmp_path_factory):
    return build(survey, tmp_path_factory.mktemp("unmatched"), "grid", *NONE)


# --- the cut ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "field", "fields", "overlap"),
    [
        ((3500, 4000), 1440, 1.0, 0.1),
        ((500, 3000), 400, 0.5, 0.3),
        ((90, 80), 1440, 1.0, 0.1),
        ((999, 1001), 600, 1, 0.02),
    ],
)
def test_tiles_cover_the_mosaic_evenly(shape, field, fields, overlap):
    cut = cut_tiles(shape, field, fields, overlap)
    count = np.zeros(shape, int)
    for box in cut.boxes:
        count[box.intersect(Box.of_shape(shape)).slices] += 1
        assert box.shape == cut.boxes[0].shape
        assert box.y0 % cut.block_px == box.x0 % cut.block_px == 0
        assert not box.intersect(Box.of_shape(shape)).is_empty
    assert count.min() == 1
    assert count.max() <= 4
    assert cut.overlap_px >= 3 * cut.block_px
    if len(cut.boxes) > 1:
        assert (count > 1).any()


# --- one sky ----------------------------------------------------------------------------------------------------------


def test_tiles_of_matched_frames_give_the_direct_mosaic(direct, grid):
    """Tiles hold the same frames on the same pixels: nothing is left to do, and nothing is done."""
    one, other = planes(direct), planes(grid)
    assert facts(grid)["n_tiles"] >= 4
    assert facts(grid)["tile_match"] == "tiles agree already"
    for name in ("DATA", "WHT", "VAR"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-6, equal_nan=True)
    for name in ("COV", "REJ", "EXPT", "SAT"):
        np.testing.assert_array_equal(other[name], one[name])


@pytest.mark.parametrize("kept", ["weight", "data"])
def test_a_mean_without_its_side_planes_is_the_direct_one(survey, tmp_path, kept):
    few = ("--set", "stack.method=mean", "--set", f"output.planes={kept}", "--set", "match.method=none")
    one, other = (planes(build(survey, tmp_path / mode, mode, *few)) for mode in ("direct", "grid"))
    assert list(one) == list(other) == (["DATA", "WHT"] if kept == "weight" else ["DATA"])
    assert np.array_equal(np.isnan(one["DATA"]), np.isnan(other["DATA"]))


@pytest.fixture(scope="module")
def plain(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The direct mosaic of frames that were not matched: placed as those of `unmatched` are, by their headers."""
    return build(survey, tmp_path_factory.mktemp("plain"), "direct", *NONE)


def test_frames_that_were_not_matched_are_matched_through_the_tiles(survey, direct, unmatched, plain):
    scores = {name: score_mosaic(survey, path) for name, path in
              (("direct", direct), ("plain", plain), ("grid", unmatched))}  # fmt: skip
    assert scores["grid"]["seam_sigma"] < scores["plain"]["seam_sigma"] / 5
    assert scores["grid"]["background_sigma"] < scores["plain"]["background_sigma"] / 10
    told = facts(unmatched)
    assert told["overlap_step_rms_L_before"] > 10 * told["overlap_step_rms_L_after"]
    assert told["tile_photometry_acted"] is True


def test_distinct_frames_are_counted_in_overlaps(survey, unmatched, plain):
    one, other = planes(plain), planes(unmatched)
    np.testing.assert_array_equal(other["COV"], one["COV"])
    height, width = one["COV"].shape
    with fits.open(survey / "frame_0000.fits") as hdus:
        field_px = np.sqrt(np.prod(hdus[0].shape))
    overlapped = np.zeros((height, width), int)
    for box in cut_tiles((height, width), field_px, 1.1, 0.1).boxes:
        overlapped[box.intersect(Box.of_shape((height, width))).slices] += 1
    ratio = np.where(one["COV"] > 1, other["VAR"] / one["VAR"], np.nan)
    # Sums over tiles would halve the variance in every overlap.
    assert abs(np.nanmedian(ratio[overlapped > 1]) / np.nanmedian(ratio[overlapped == 1]) - 1) < 0.1
    assert (overlapped > 1).mean() > 0.1


# --- whatever fails ---------------------------------------------------------------------------------------------------


def fail(*arguments: object, **keywords: object) -> None:
    raise RuntimeError("planted")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("blend_pyramid", "[GRID] Blending: the pyramid failed (RuntimeError: planted)"),
        ("solve_tiles", "[GRID] Photometry: solve over all tiles failed (RuntimeError: planted)"),
        ("build_tile_overlap_graph", "[GRID] Photometry: overlap graph failed (RuntimeError: planted)"),
    ],
)
def test_a_failing_step_is_replaced_by_a_simpler_one(survey, tmp_path, monkeypatch, caplog, step, message):
    monkeypatch.setattr(blending if step == "blend_pyramid" else assembly, step, fail)
    path = build(survey, tmp_path, "grid", *NONE)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum(message in text for text in warnings) == 1
    data = planes(path)
    assert np.isfinite(data["DATA"][data["COV"] > 0]).all()
    assert [notice for notice in notices(path) if "RuntimeError: planted" in notice and "[GRID]" not in notice]
    if step == "solve_tiles":
        told = facts(path)
        assert told["tile_match"] == "levels shifted to agree in overlaps"
        assert told["overlap_step_rms_L_after"] < 0.5 * told["overlap_step_rms_L_before"]


def test_photometry_that_does_nothing_is_said_once(survey, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(assembly, "solve_tiles", fail)
    monkeypatch.setattr(assembly, "shift_levels", fail)
    path = build(survey, tmp_path, "grid", *NONE)
    assert caplog.text.count("[GRID] Photometry did not act") == 1
    assert facts(path)["tile_photometry_acted"] is False


def test_the_work_folder_is_left_clean(grid):
    assert not (grid.parent / ".zemosaic" / "tiles").exists()


# --- one answer on every path -----------------------------------------------------------------------------------------


def test_the_bytes_depend_on_no_worker_or_cap_and_the_log_tells_what_was_done(survey, unmatched, tmp_path, caplog):
    caplog.set_level("DEBUG", "zemosaic")
    before = digests_of(survey)
    # The process of a whole suite has grown: the cap is what a run of its own would have of 1 GB.
    cap = int((resident_bytes() + 600 * 2**20) * 8 / 7)
    one = build(survey, tmp_path, "grid", *NONE, "--workers", "1", "--ram", str(cap))
    assert digest_of(one) == digest_of(unmatched)
    assert digests_of(survey) == before
    told = facts(tmp_path / "mosaic.fits")
    n = told["n_tiles"]
    text = caplog.text
    assert f"[GRID] Blending: applied pyramidal blending on {told['n_overlaps']} overlaps" in text
    assert not [notice for notice in notices(one) if "[GRID]" in notice]  # lines for machines are in the log
    for line in (
        f"[GRID] {n} tiles of",
        "[GRID] Photometry: built overlap graph with",
        f"[GRID] Photometry: solved global gain/offset for {n} tiles",
        "[GRID] Blending: applied pyramidal blending on",
        "[GRID][METRICS] Inter-tile median stddev (channel L):",
        "(before)",
        "(after)",
        "min/median/max",
        "mask of",
    ):
        assert line in text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    "assign", ["survey.tile_fields=0.8", "survey.overlap=0.2", "survey.blend=feather"], ids=lambda text: text[7:14]
)
def test_the_settings_act(survey, unmatched, tmp_path, assign):
    other = build(survey, tmp_path, "grid", *NONE, "--set", assign)
    assert digest_of(other) != digest_of(unmatched)


def test_colours_are_equalised_when_asked_for(raw_set, tmp_path, caplog, capfd: Capture):
    caplog.set_level("INFO")
    sky = {}
    for method in ("off", "offset"):
        options = ("--mode", "grid", "--set", f"survey.equalize_rgb={method}", "--set", "output.preview=false")
        ran = run_cli(capfd, "build", raw_set, "-o", tmp_path / method, *options)
        assert ran.code == 0, ran.err
        data = fits.getdata(tmp_path / method / "mosaic.fits")
        assert data.shape[0] == 3
        sky[method] = np.nanmedian(data, axis=(1, 2))
    assert np.ptp(sky["offset"]) < 0.2 * np.ptp(sky["off"])
    assert "[GRID] RGB equalisation applied after the tile's stack: offset" in caplog.text
