"""Every settings key, when changed, changes something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from mosaic_cases import noise, run_cli, tan_wcs, write_frame
from zemosaic.errors import SettingError
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import Settings, SurveySettings, TileSettings
from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames

Capture = pytest.CaptureFixture[str]

CHANGES = {
    "warp.kernel": "bilinear",
    "warp.clamp": "1.0",
    "warp.pixfrac": "0.3",
    "warp.taper_px": "0",
    "warp.coordinate_error_px": "1e-7",
    "stack.method": "median",
    "stack.kappa_low": "1.5",
    "stack.kappa_high": "1.5",
    "stack.max_iterations": "1",
    "stack.structure_guard": "0",
    "stack.region_sigma": "0.5",
    "stack.grow_px": "0",
    "stack.minmax_low": "2",
    "stack.minmax_high": "2",
    "stack.esd_fraction": "0.1",
    "stack.esd_significance": "0.9",
    "grid.projection": "SIN",
    "grid.scale_arcsec": "5",
    "grid.center": "83.8,22.0",
    "grid.size_px": "300,300",
    "grid.rotation": "30",
    "grid.crop": "coverage:0.5",
    "match.method": "none",
    "match.surface_order": "1",
    "match.response_order": "0",
    "match.solve_gain": "false",
    "measure.block_px": "8",
    "measure.detect_sigma": "12",
    "quality.fwhm_max_px": "3",
    "quality.ellipticity_max": "0.022",
    "quality.best_fraction": "0.5",
    "output.planes": "data",
}
"""Values that change the mosaic of the small set, in a run with the settings of `BESIDE`."""

BESIDE = {
    "warp.clamp": ["warp.kernel=lanczos3"],
    "warp.pixfrac": ["warp.kernel=drizzle"],
    "stack.minmax_low": ["stack.method=minmax"],
    "stack.minmax_high": ["stack.method=minmax"],
    "stack.esd_fraction": ["stack.method=esd", "stack.esd_significance=0.9"],
    "stack.esd_significance": ["stack.method=esd"],
    "match.response_order": ["match.method=one-sky"],
}
"""What must be chosen for a key to have a meaning."""

RAW_CHANGES = {
    "input.defect_sigma": "60",
    "solve.method": "header",
    "solve.radius_deg": "0.001",
    "solve.scale_tolerance": "1e-6",
    "solve.max_log_chance": "-1e6",
    "solve.min_matches": "5000",
    "refine.distortion_order": "0",
    "refine.max_stars": "10",
}
"""Values that change the mosaic of the raw set, or leave none."""

ELSEWHERE = {
    "calibrate.darks": "tests/pipelines/test_calibrating.py",
    "calibrate.flats": "tests/pipelines/test_calibrating.py",
    "calibrate.biases": "tests/pipelines/test_calibrating.py",
    "calibrate.bad_pixels": "tests/pipelines/test_calibrating.py",
    "grid.header": "tests/doors/test_build.py",
    "input.frames": "tests/pipelines/test_grading.py",
    "input.mask_bits": "tests/io/test_masks.py",
    "quality.triage": "tests/pipelines/test_grading.py",
    "match.node_px": "below",
    "match.reference": "below",
    "match.reference_arcsec": "below",
    "input.include": "below",
    "input.exclude": "below",
    "input.bayer": "below",
    "input.filters": "below",
    "input.pixel_values": "below",
    "grid.max_mpix": "below",
    "output.preview": "below",
    "output.preview_max_px": "below",
    "output.also": "tests/pipelines/test_products.py",
    **{f"tiles.{key}": "tests/pipelines/test_master_tiles.py" for key in TileSettings.model_fields},
    **{f"survey.{key}": "tests/pipelines/test_survey.py" for key in SurveySettings.model_fields},
}
"""Keys with a test of their own."""


def keys_of_settings() -> set[str]:
    stages = Settings.model_fields.items()
    return {f"{stage}.{key}" for stage, field in stages for key in field.annotation.model_fields}  # type: ignore[union-attr]


def test_every_key_is_tested() -> None:
    assert keys_of_settings() - CHANGES.keys() - RAW_CHANGES.keys() - ELSEWHERE.keys() == set()
    root = Path(__file__).parents[2]
    assert [place for place in ELSEWHERE.values() if place != "below" and not (root / place).is_file()] == []


class _Runs:
    """Mosaics of the small set by their settings, each made once."""

    def __init__(self, frames: Path, out: Path) -> None:
        self.frames, self.out = frames, out
        self.made: dict[tuple[str, ...], bytes] = {}

    def mosaic(self, *assign: str) -> bytes:
        """Empty when the settings leave nothing to do."""
        from zemosaic.cli import main

        key = tuple(sorted(assign))
        if key not in self.made:
            options = [part for text in key for part in ("--set", text)]
            code = main(["build", str(self.frames), "-o", str(self.out), "--set", "output.preview=false", *options])
            assert code in {0, 3}
            self.made[key] = (self.out / "mosaic.fits").read_bytes() if code == 0 else b""
        return self.made[key]


@pytest.fixture(scope="module")
def runs(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> _Runs:
    return _Runs(small_set, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_key_changes_the_mosaic(runs: _Runs, key: str) -> None:
    beside = BESIDE.get(key, [])
    if not key.startswith(("match.", "measure.", "quality.")):
        beside = [*beside, "match.method=none"]
    before, after = runs.mosaic(*beside), runs.mosaic(*beside, f"{key}={CHANGES[key]}")
    assert before
    assert after
    assert before != after


@pytest.fixture(scope="module")
def raw_runs(raw_set: Path, tmp_path_factory: pytest.TempPathFactory) -> _Runs:
    return _Runs(raw_set, tmp_path_factory.mktemp("raw_runs"))


@pytest.mark.parametrize("key", RAW_CHANGES)
def test_a_changed_key_changes_what_becomes_of_raw_frames(raw_runs: _Runs, key: str) -> None:
    beside = ["stack.method=mean", "match.method=one-sky"]
    before, after = raw_runs.mosaic(*beside), raw_runs.mosaic(*beside, f"{key}={RAW_CHANGES[key]}")
    assert before
    assert before != after


def test_the_spacing_of_sky_nodes_acts_on_frames_that_hold_many(tmp_path: Path) -> None:
    simulate_frames(tmp_path / "set", SimulatedSky(3, size_deg=0.8), 4, FrameRecipe(shape=(700, 800)))
    runs = _Runs(tmp_path / "set", tmp_path / "out")
    assert runs.mosaic("match.node_px=16") != runs.mosaic("match.node_px=32")


def test_a_reference_fixes_the_slow_background(runs: _Runs, small_set: Path, tmp_path: Path) -> None:
    """A picture with a slope of its own: the mosaic follows the slope, as far as frames cannot contradict it."""
    from zemosaic.simulate import read_truth
    from zemosaic.simulate.score import true_image

    truth = read_truth(small_set)
    wcs = tan_wcs((60, 60), 83.8, 22.0, scale_arcsec=30.0)
    sky = true_image(truth, CelestialWcs(wcs, (60, 60)), faintest_left_out=0)
    path = write_frame(tmp_path / "reference.fits", sky + 300 * np.linspace(0, 1, 60, dtype=np.float32), wcs)
    plain = runs.mosaic()
    guided = runs.mosaic(f"match.reference={path}")
    finely = runs.mosaic(f"match.reference={path}", "match.reference_arcsec=150")
    assert len({plain, guided, finely}) == 3


def test_a_reference_that_is_none_is_said(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    for name, reason in (("notes.txt", "not a FITS file"), ("absent.fits", "does not exist")):
        assign = f"match.reference={tmp_path / name}"
        ran = run_cli(capfd, "build", small_set, "-o", tmp_path / "out", "--set", assign)
        assert ran.code == 2
        assert "cannot take match.reference" in ran.last_line
        assert reason in ran.last_line


def write_three(folder: Path, edit: Callable[[fits.Header], None] | None = None) -> Path:
    folder.mkdir()
    for k, name in enumerate(("light_1", "light_2", "dark_1")):
        path = write_frame(folder / f"{name}.fits", noise((100, 120), k), tan_wcs((100, 120), 150 + 0.01 * k))
        if edit:
            with fits.open(path, mode="update") as hdus:
                edit(hdus[0].header)
    return folder


def n_combined(out: Path) -> int:
    return int(fits.getheader(out / "mosaic.fits")["NCOMBINE"])


@pytest.mark.parametrize(("assign", "n"), [("", 3), ("input.include=light*", 2), ("input.exclude=light*", 1)])
def test_names_choose_frames(capfd: Capture, tmp_path: Path, assign: str, n: int) -> None:
    frames = write_three(tmp_path / "frames")
    options = ["--set", assign] if assign else []
    assert run_cli(capfd, "coadd", frames, "-o", tmp_path / "out", *options).code == 0
    assert n_combined(tmp_path / "out") == n


def test_the_bayer_setting_is_stronger_than_the_header(capfd: Capture, tmp_path: Path) -> None:
    def edit(header: fits.Header) -> None:
        header["BAYERPAT"] = "RGGB"

    frames = write_three(tmp_path / "frames", edit)
    for assign, n_axes in (("input.bayer=none", 2), ("input.bayer=GRBG", 3)):
        ran = run_cli(capfd, "coadd", frames, "-o", tmp_path / "out", "--set", assign)
        assert ran.code == 0, ran.err
        assert fits.getheader(tmp_path / "out/mosaic.fits")["NAXIS"] == n_axes


def test_pixel_values_decide_how_area_acts(tmp_path: Path) -> None:
    """A frame of 20 degrees: the pixels of a tangent plane shrink by the cube of the cosine."""
    import zemosaic
    from zemosaic.settings import load_settings

    wcs = tan_wcs((200, 200), scale_arcsec=360)
    image = noise((200, 200), 1, sigma=0.1)
    corner = {}
    for kind in ("counts", "surface"):
        settings = load_settings(assignments=[f"input.pixel_values={kind}", "stack.method=mean"])
        corner[kind] = float(np.nanmean(zemosaic.coadd([(image, wcs)], wcs, settings=settings).data[:20, :20]))
    assert corner["surface"] == pytest.approx(1000, rel=1e-3)
    assert corner["counts"] > 1050


def test_a_large_mosaic_needs_a_yes(capfd: Capture, tmp_path: Path) -> None:
    frames = write_three(tmp_path / "frames")
    options: list[Any] = ["coadd", frames, "-o", tmp_path / "out", "--set", "grid.max_mpix=0.001"]
    for command in ("coadd", "match"):
        options[0] = command
        assert run_cli(capfd, *options).code == SettingError.exit_code
        assert run_cli(capfd, *options, "--yes").code == 0


def test_the_preview_obeys(capfd: Capture, tmp_path: Path) -> None:
    from PIL import Image

    frames = write_three(tmp_path / "frames")
    assert run_cli(capfd, "coadd", frames, "-o", tmp_path / "a", "--set", "output.preview=false").code == 0
    assert not (tmp_path / "a/preview.png").exists()
    assert run_cli(capfd, "coadd", frames, "-o", tmp_path / "b", "--set", "output.preview_max_px=100").code == 0
    with Image.open(tmp_path / "b/preview.png") as picture:
        assert 40 < max(picture.size) <= 100


@pytest.mark.parametrize(("assign", "n"), [("", 2), ("input.filters=Red=R", 1)])
def test_names_of_filters_are_what_the_user_says(capfd: Capture, tmp_path: Path, assign: str, n: int) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for k, name in enumerate(("R", "Red")):
        write_frame(frames / f"{k}.fits", noise((90, 100), k), tan_wcs((90, 100)), FILTER=name)
    options = ["--set", assign] if assign else []
    assert run_cli(capfd, "coadd", frames, "-o", tmp_path / "out", *options).code == 0
    assert len(list((tmp_path / "out").glob("mosaic*.fits"))) == n
