"""Tiles that were given, or made of groups of frames, blended by a pyramid: the option beside their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from test_existing_tiles import BOXES, SHAPE, grid_header, true_sky, write_tiles

from mosaic_cases import cut, digest_of, digests_of, noise, report_of, run_cli, tan_wcs, write_frame
from zemosaic.errors import SettingError
from zemosaic.io.write.tile_planes import TilePlanes
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.pipelines.survey import blending
from zemosaic.pipelines.survey.blending import BlendTile
from zemosaic.pipelines.tiles import blended
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


def write_unlike(folder: Path, overlap: int) -> tuple[Path, np.ndarray, list[tuple[float, float]]]:
    """Two tiles of one sky, stars of sigma 1.8 px in one and 2.3 in the other; places of those about the overlap."""
    folder.mkdir()
    shape, grid, flux = (260, 240 + overlap), tan_wcs((260, 240 + overlap)), 3e4
    rng = np.random.default_rng(6)
    at = [(20 + 34 * k + rng.uniform(-2, 2), 20 + 34 * j + rng.uniform(-2, 2)) for j in range(9) for k in range(7)]
    at = [(j, i) for j, i in at if i < shape[1] - 16]
    y, x = np.mgrid[: shape[0], : shape[1]]
    for k, (name, sigma, x0) in enumerate((("a", 1.8, 0), ("b", 2.3, 120))):
        image = sum(np.exp(-((y - j) ** 2 + (x - i) ** 2) / 2 / sigma**2) for j, i in at) * flux / 2 / np.pi / sigma**2
        piece, wcs = cut((image + noise(shape, k, 0.2)).astype(np.float32), grid, 0, 260, x0, x0 + 120 + overlap)
        write_frame(folder / f"{name}.fits", piece, wcs, NCOMBINE=10)
    return folder, grid, [(j, i) for j, i in at if 100 < i < 140 + overlap]


@pytest.mark.parametrize(("overlap", "is_narrow"), [(24, True), (72, False)])
def test_stars_of_unlike_seeing_keep_their_flux_or_it_is_told(
    capfd: Capture, tmp_path: Path, overlap: int, is_narrow: bool
) -> None:
    tiles, grid, at = write_unlike(tmp_path / "tiles", overlap)
    header = grid.to_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 240 + overlap, 260
    (tmp_path / "grid.head").write_text(header.tostring(sep="\n"), encoding="ascii")
    options = ["tiles.blend=pyramid", "match.method=none", "output.preview=false", "warp.taper_px=0"]
    assign = [part for text in options for part in ("--set", text)]
    ran = run_cli(
        capfd, "build", tiles, "-o", tmp_path / "out", "--mode", "existing-tiles", "--header", tmp_path / "grid.head",
        *assign,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    data = fits.getdata(tmp_path / "out/mosaic.fits")
    y, x = np.mgrid[: data.shape[0], : data.shape[1]]
    off = []
    for j, i in at:
        r = np.hypot(y - j, x - i)
        level = np.median(data[(r > 12) & (r < 15)])
        off.append(2500 * np.log10(np.sum(data[r < 11] - level) / 3e4))
    messages = [notice["message"] for notice in report_of(tmp_path / "out")["notices"]]
    told = [text for text in messages if "narrow for how much the seeing" in text]
    worst = np.abs(off).max()
    if is_narrow:
        assert worst > 3
        assert len(told) == 1
        assert float(told[0].partition(" mmag")[0].rpartition(" ")[2]) == pytest.approx(worst, abs=3)
    else:
        assert not told
        assert worst < 2


def test_a_border_is_where_another_tile_goes_on(tmp_path: Path) -> None:
    """A wide tile, another that goes on at its right, and a small one inside; the rim of the mosaic is no border."""
    grid = SkyGrid(CelestialWcs(tan_wcs((100, 200)), (100, 200)))
    boxes = [Box(0, 100, 0, 140), Box(0, 100, 100, 200), Box(40, 60, 20, 50)]
    tiles = [BlendTile(box, TilePlanes(tmp_path / str(k))) for k, box in enumerate(boxes)]
    for tile in tiles:
        tile.planes.write("weight", np.ones((1, *tile.box.shape), np.float32))
    wide, right, small = (
        blended._border(tile, [other for other in tiles if other.box.overlaps(tile.box)], grid) for tile in tiles
    )
    np.testing.assert_allclose(wide[50], np.minimum(np.arange(140, 0, -1), 50))
    np.testing.assert_array_equal(wide, wide[:1].repeat(100, axis=0))
    np.testing.assert_allclose(right[10], np.minimum(np.arange(1, 101), 50))
    assert small.max() == 10
    assert small[0].max() == 1


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
    assert str(blending._count_ways(boxes, ways)) == (
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
