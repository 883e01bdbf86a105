"""Every frame over a place of a mosaic, and what became of its samples: the pixel made again is the mosaic's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import zemosaic
from mosaic_cases import run_cli
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.corrections.adding import record_inputs
from zemosaic.pipelines.modes.explain import Explanation, explain_places, parse_place
from zemosaic.pipelines.run.context import start_run
from zemosaic.simulate import read_truth

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def grid(built: Path) -> CelestialWcs:
    header = fits.getheader(built / "mosaic.fits")
    return CelestialWcs.from_header(header, (header["NAXIS2"], header["NAXIS1"]))


@pytest.fixture(scope="module")
def trail(small_set: Path) -> tuple[str, tuple[float, float]]:
    """A frame with a satellite's trail, and the place of the trail that is nearest to the frame's middle."""
    exposure = next(e for e in read_truth(small_set).exposures if e.trail is not None)
    assert exposure.trail is not None
    x0, y0, angle, _ = exposure.trail
    along = (exposure.shape[1] / 2 - x0) * np.cos(angle) + (exposure.shape[0] / 2 - y0) * np.sin(angle)
    ra, dec = exposure.celestial.pixel_to_sky(x0 + along * np.cos(angle), y0 + along * np.sin(angle))
    return exposure.name, (float(ra), float(dec))


@pytest.fixture(scope="module")
def found(built: Path, grid: CelestialWcs, trail: tuple[str, tuple[float, float]]) -> list[Explanation]:
    """The trail, and twenty places at random."""
    covered = np.argwhere(np.isfinite(fits.getdata(built / "mosaic.fits")))
    y, x = np.random.default_rng(5).choice(covered, 20).T
    return explain_places(
        built, [trail[1], *zip(*map(np.ndarray.tolist, grid.pixel_to_sky(x, y)), strict=True)], start_run()
    )


def test_the_mean_of_what_was_kept_is_the_pixel_of_the_mosaic(found: list[Explanation], built: Path) -> None:
    with fits.open(built / "mosaic.fits") as hdus:
        data, variance, coverage, rejected = (hdus[name].data for name in (0, "VAR", "COV", "REJ"))
    for place in found:
        (mosaic,) = place.mosaics
        (channel,) = mosaic.channels
        at = mosaic.y, mosaic.x
        assert channel.mean == pytest.approx(data[at], abs=1e-3 * float(np.sqrt(variance[at])))
        assert (channel.value, channel.noise) == (data[at], pytest.approx(np.sqrt(variance[at])))
        assert (channel.n_clipped, len(mosaic.frames)) == (rejected[at], coverage[at])


def test_limits_tell_what_was_clipped_for_itself(found: list[Explanation]) -> None:
    samples = [frame.samples[0] for place in found for frame in place.mosaics[0].frames]
    assert len(samples) > 60
    for sample in samples:
        assert sample is not None
        assert sample.lowest is not None
        assert sample.highest is not None
        if sample.clipped_by in {"", "sample"}:
            assert (sample.lowest <= sample.value <= sample.highest) == (sample.clipped_by == "")


def test_a_trail_is_named_with_its_frame(
    capfd: Capture, found: list[Explanation], trail: tuple[str, tuple[float, float]], built: Path
) -> None:
    name, place = trail
    clipped = {frame.name: frame.samples[0] for frame in found[0].mosaics[0].frames if frame.samples[0].clipped_by}
    assert list(clipped) == [name]
    assert clipped[name].value > clipped[name].highest
    ran = run_cli(capfd, "explain", built, "--at", f"{place[0]} {place[1]}")
    assert ran.code == 0
    (line,) = (line for line in ran.out.splitlines() if "clipped: beyond its limits" in line)
    assert name in line
    told = run_cli(capfd, "explain", built, "--at", f"{place[0]} {place[1]}", "--json").events[-1]
    assert told["event"] == "Explained"
    assert told["mosaics"][0]["x"] == found[0].mosaics[0].x


@pytest.mark.parametrize("text", ["83.5 -5.25", "5:34:00 -5:15:00", "5 34 0 -5 15 0", "05h34m00s, -05d15m00s"])
def test_places_are_read_in_every_form(text: str) -> None:
    assert parse_place(text) == pytest.approx((83.5, -5.25))


@pytest.mark.parametrize("mode", ["master-tiles", "grid"])
def test_a_mosaic_of_tiles_says_what_it_cannot_tell(built: Path, tmp_path: Path, mode: str) -> None:
    for name in ("mosaic.fits", "report.json", "settings.toml"):
        (tmp_path / name).symlink_to(built / name)
    (tmp_path / ".zemosaic").mkdir()
    record_inputs(tmp_path, mode, [tmp_path], solved=True)
    with pytest.raises(zemosaic.SettingError, match=f"is of mode {mode}: its pixels are made of tiles") as told:
        zemosaic.explain(tmp_path, (10.0, 41.0))
    assert told.value.told.code == "explain.other-mode"


def test_what_cannot_be_explained_is_told(built: Path, tmp_path: Path) -> None:
    with pytest.raises(zemosaic.SettingError, match="is no place"):
        zemosaic.explain(built, "M 31")
    with pytest.raises(zemosaic.SettingError, match="outside of the mosaic, whose middle is RA 83"):
        zemosaic.explain(built, (10.0, 41.0))
    with pytest.raises(zemosaic.NothingToDo, match="no finished mosaic"):
        zemosaic.explain(tmp_path, "10 41")
