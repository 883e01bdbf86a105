"""An exposure that one header states wrongly: the stars are believed, and the mosaic keeps its unit."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from mosaic_cases import run_cli
from zemosaic.pipelines.corrections.correcting import _tell_odd_gains
from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of a night of steady transparency."""
    folder = tmp_path_factory.mktemp("steady")
    recipe = FrameRecipe(shape=(300, 400), gain_scatter=0.03, trail_fraction=0)
    simulate_frames(folder, SimulatedSky(5, size_deg=0.45), 6, recipe)
    return folder


def mosaic_of(capfd: Capture, frames: Path, out: Path) -> tuple[np.ndarray, str]:
    ran = run_cli(capfd, "build", frames, "-o", out)
    assert ran.code == 0
    return fits.getdata(out / "mosaic.fits"), ran.err


def test_a_wrong_exposure_is_told_and_changes_no_unit(capfd: Capture, steady: Path, tmp_path: Path) -> None:
    true, said = mosaic_of(capfd, steady, tmp_path / "true")
    assert "another share of the light" not in said
    level = np.nanmedian(true)
    for exposure_s in (2.0, 20.0):
        frames = tmp_path / f"frames_{exposure_s:g}"
        shutil.copytree(steady, frames)
        fits.setval(frames / "frame_0003.fits", "EXPTIME", value=exposure_s)
        data, said = mosaic_of(capfd, frames, tmp_path / f"out_{exposure_s:g}")
        assert "1 of 6 frames hold another share of the light" in said
        assert "EXPTIME in their headers: frame_0003.fits" in said
        # The unit is the mean over frames whose gains scatter by 3 %; one of them has no say now.
        bright = np.isfinite(data) & np.isfinite(true) & (true > level + 2000)
        assert np.median((data[bright] - level) / (true[bright] - level)) == pytest.approx(1, abs=0.02)


def tell_odd(gains: list[float], exposures_s: list[float], cameras: list[str] | None = None) -> list[int]:
    """How many of some frames are told to be odd, by what the match found; none where nothing is told."""
    frames = [
        SimpleNamespace(
            name=f"f{k}",
            decided=SimpleNamespace(gain_prior_key="EXPTIME", gain_prior=exposure_s),
            header=SimpleNamespace(camera=cameras[k] if cameras else "camera"),
        )
        for k, exposure_s in enumerate(exposures_s)
    ]
    told: list[object] = []
    run = SimpleNamespace(log=SimpleNamespace(notice=lambda what, _: told.append(what)))
    _tell_odd_gains(frames, [SimpleNamespace(gain=[gain], gain_error=[0.01]) for gain in gains], run)
    return [message.facts["n_odd"] for message in told]


def test_half_of_the_headers_are_told_where_their_frames_hold_the_light_of_the_others() -> None:
    gains = [1.0, 1.1, 0.95, 1.05, 0.9, 1.0]
    assert tell_odd(gains, [10.0] * 6) == []
    assert tell_odd(gains, [10.0, 20.0] * 3) == [3]


def test_half_of_the_frames_with_another_gain_of_the_camera_are_told() -> None:
    two_gains = [0.5, 1.0, 0.52, 0.97, 0.49, 1.04]
    assert tell_odd(two_gains, [10.0] * 6) == [3]
    assert tell_odd([0.5, 1.0, 0.52, 0.97, 0.49, 0.5], [10.0] * 6) == [2]
    assert tell_odd([0.70, 0.76, 1.44, 1.59, 1.30, 0.64], [10.0] * 6) == [3]
    # Clouds that come and go leave no gap, and two telescopes are not alike.
    assert tell_odd([0.4, 1.0, 0.55, 0.95, 0.75, 1.04], [10.0] * 6) == []
    assert tell_odd(two_gains, [10.0] * 6, ["one", "other"] * 3) == []
