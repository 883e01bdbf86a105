"""Tiles that were given, or made of groups of frames, blended by a pyramid: the option beside their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from test_existing_tiles import BOXES, SHAPE, grid_header, true_sky, write_tiles

from mosaic_cases import digest_of, digests_of, run_cli
from zemosaic.errors import SettingError
from zemosaic.model.box import Box
from zemosaic.model.sky.grid import Patch
from zemosaic.pipelines.survey import blending
from zemosaic.settings import load_settings

Capture = pytest.CaptureFixture[str]
Planes = dict[str, np.ndarray]


def build(capfd: Capture, tiles: Path, out: Path, *assign: str) -> Planes:
    (tiles.parent / "grid.head").write_text(grid_header(), encoding="ascii")
    options = [part for text in ("output.preview=false", *assign) for part in ("--set", text)]
    ran = run_cli(capfd, "build", tiles, "-o", out, "--header", tiles.parent / "grid.head", *options)
    assert ran.code == 0, ran.err
    assert not (out / ".zemosaic/warped").exists()
    with fits.open(out / "mosaic.fits") as hdus:
        return {hdu.name: np.array(hdu.data, float) for hdu in hdus}


def depth() -> np.ndarray:
    count = np.zeros(SHAPE, int)
    for y0, y1, x0, x1 in BOXES.values():
        count[y0:y1, x0:x1] += 1
    return count


def test_steps_between_tiles_become_slopes(capfd: Capture, tmp_path: Path) -> None:
    """Tiles 300 apart that are not matched: a mean bends where a tile ends, a pyramid nowhere."""
    tiles = write_tiles(tmp_path / "tiles", sigma=1e-3)
    before = digests_of(tiles)
    mean = build(capfd, tiles, tmp_path / "mean", "match.method=none", "stack.method=mean")
    blended = build(capfd, tiles, tmp_path / "blended", "match.method=none", "tiles.blend=pyramid")
    assert digests_of(tiles) == before
    assert np.array_equal(np.isnan(mean["DATA"]), np.isnan(blended["DATA"]))
    sharpest = []
    for planes in (mean, blended):
        left = planes["DATA"] - true_sky()
        row = np.median(left[8:50], axis=0)[8:-8]  # tiles a and b alone
        assert row[10] == pytest.approx(300, abs=25)
        assert row[-10] == pytest.approx(600, abs=40)
        sharpest.append(np.abs(np.diff(row)).max())
    assert sharpest[1] < 0.5 * sharpest[0]
    for name in ("COV", "EXPT"):
        np.testing.assert_array_equal(mean[name], blended[name])


def test_matched_tiles_give_their_sky_and_honest_variances(capfd: Capture, tmp_path: Path) -> None:
    tiles = write_tiles(tmp_path / "tiles")
    mean = build(capfd, tiles, tmp_path / "mean", "stack.method=mean")
    blended = build(capfd, tiles, tmp_path / "blended", "tiles.blend=pyramid")
    sigma = np.sqrt(np.nanmedian(mean["VAR"][depth() == 1]))
    assert np.nanmedian(np.abs(mean["DATA"] - blended["DATA"])) < 0.5 * sigma
    assert abs(np.nanmedian(mean["DATA"] - blended["DATA"])) < 0.05 * sigma
    # Each tile's noise is its own: less of it where tiles meet, but no less than in the best mean.
    ratio = blended["VAR"] / mean["VAR"]
    assert np.nanmin(ratio) > 1 - 1e-4
    assert np.nanmedian(ratio[depth() == 2]) < 1.4
    assert np.nanmedian(ratio[depth() == 1]) == pytest.approx(1, abs=1e-4)
    inner = np.s_[20:-20, 20:-20]  # outside, and there alone, the weight is tapered
    np.testing.assert_allclose(blended["WHT"][inner] * blended["VAR"][inner], 1, rtol=0.05)


def test_a_pyramid_that_fails_is_replaced(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(blending, "blend_pyramid", fail)
    caplog.set_level("INFO", "zemosaic")
    planes = build(capfd, write_tiles(tmp_path / "tiles"), tmp_path / "out", "tiles.blend=pyramid")
    assert np.isfinite(planes["DATA"][planes["COV"] > 0]).all()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("Blending: the pyramid failed (RuntimeError: planted)" in text for text in warnings) == 1
    assert "applied pyramidal blending on 0 overlaps; 6 are feathered at least in part" in caplog.text


def test_the_log_counts_overlaps_by_how_they_were_blended() -> None:
    """Three tiles in a row, and a fourth on the last: one overlap of each kind, the last of two boxes."""
    boxes = [Box(0, 100, 0, 120), Box(0, 100, 100, 220), Box(0, 100, 200, 320), Box(0, 100, 290, 400)]
    patches = [Patch(Box(0, 100, x, x + 50), Box(0, 100, x, x + 50)) for x in range(0, 400, 50)]
    ways = dict(zip(patches, ["", "", "alike", "", "pyramid", "feather", "failed", ""], strict=True))
    assert blending._count_ways(boxes, ways) == (
        "applied pyramidal blending on 1 overlaps; 1 are weighted means, as their tiles are alike; "
        "1 are feathered at least in part, as the pyramid failed"
    )


def test_the_bytes_depend_on_no_worker(capfd: Capture, tmp_path: Path) -> None:
    tiles = write_tiles(tmp_path / "tiles")
    for out, workers in (("one", 1), ("two", 2)):
        ran = run_cli(
            capfd, "build", tiles, "-o", tmp_path / out, "--set", "tiles.blend=pyramid", "--set", "output.planes=data",
            "--workers", workers,
        )  # fmt: skip
        assert ran.code == 0, ran.err
    assert digest_of(tmp_path / "one/mosaic.fits") == digest_of(tmp_path / "two/mosaic.fits")


def test_a_second_pass_goes_with_the_mean_alone() -> None:
    with pytest.raises(SettingError, match="blend = mean, not pyramid"):
        load_settings(assignments=["tiles.two_pass=true", "tiles.blend=pyramid"])
