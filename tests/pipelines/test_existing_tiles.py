"""Tiles that are there already: stacks of any depth, pedestal and gain, put together by their own weights."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import gaussian_filter

from mosaic_cases import noise, report_of, run_cli, tan_wcs
from zemosaic.errors import EnvironmentProblem, SettingError
from zemosaic.pipelines.modes.choose import build_mosaic
from zemosaic.pipelines.run.context import start_run
from zemosaic.settings import Settings

Capture = pytest.CaptureFixture[str]
F4 = npt.NDArray[np.float32]
SHAPE = 220, 260
BOXES = {"a": (0, 160, 0, 180), "b": (0, 160, 80, 260), "c": (60, 220, 0, 180), "d": (60, 220, 80, 260)}


def true_sky() -> F4:
    rng = np.random.default_rng(7)
    stars = np.zeros(SHAPE)
    stars[rng.integers(5, 215, 40), rng.integers(5, 255, 40)] = rng.uniform(2e4, 2e5, 40)
    return (gaussian_filter(stars, 1.3) + 60 * gaussian_filter(rng.normal(0, 20, SHAPE), 15)).astype(np.float32)


def write_tiles(folder: Path, sigma: float = 5.0, **more: object) -> Path:
    """Four overlapping stacks with pedestals and gains of their own."""
    folder.mkdir(parents=True)
    sky, grid = true_sky(), tan_wcs(SHAPE)
    for k, (name, (y0, y1, x0, x1)) in enumerate(BOXES.items()):
        wcs = grid.deepcopy()
        wcs.wcs.crpix = [grid.wcs.crpix[0] - x0, grid.wcs.crpix[1] - y0]
        image = (1 + 0.05 * k) * (sky[y0:y1, x0:x1] + noise((y1 - y0, x1 - x0), k, sigma, 0.0)) + 300 * (k + 1)
        header = wcs.to_header()
        header["NCOMBINE"], header["EXPTIME"] = 10 * (k + 1), 100.0 * (k + 1)
        header.update(more)
        fits.writeto(folder / f"{name}.fits", image.astype(np.float32), header)
    return folder


def grid_header() -> str:
    header = tan_wcs(SHAPE).to_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, SHAPE[1], SHAPE[0]
    return str(header.tostring(sep="\n"))


def test_auto_knows_stacks_and_joins_them(capfd: Capture, tmp_path: Path) -> None:
    tiles = write_tiles(tmp_path / "tiles")
    (tmp_path / "grid.head").write_text(grid_header(), encoding="ascii")
    ran = run_cli(capfd, "build", tiles, "-o", tmp_path / "out", "--header", tmp_path / "grid.head")
    assert ran.code == 0, ran.err
    assert "mode existing-tiles: 4 of 4 headers" in ran.err
    assert ran.err.count("no alt-az mask") == 1
    assert report_of(tmp_path / "out")["mode"] == "existing-tiles"
    with fits.open(tmp_path / "out/mosaic.fits") as hdus:
        data, coverage, exposure = hdus[0].data, hdus["COV"].data, hdus["EXPT"].data
        assert hdus[0].header["NCOMBINE"] == 100
        assert hdus[0].header["EXPTIME"] == 1000
    assert data.shape == SHAPE
    # Depth comes from the headers: 10 to 40 frames a tile, all of them where the four overlap.
    assert coverage.max() == 100
    assert exposure.max() == pytest.approx(1000)
    assert set(np.unique(coverage)) <= {0, 10, 20, 30, 40, 50, 60, 70, 100}
    inner, truth = data[5:-5, 5:-5], true_sky()[5:-5, 5:-5]
    left = inner - np.polyval(np.polyfit(truth.ravel(), inner.ravel(), 1), truth)
    assert np.median(np.abs(left)) < 5
    table = Table.read(tmp_path / "out/frames.ecsv")
    gains = np.array(table["gain"])[np.argsort(table["name"])]
    assert gains / gains[0] == pytest.approx([1, 1.05, 1.1, 1.15], abs=0.02)


def test_absurd_and_empty_tiles_are_left_out_by_name(capfd: Capture, tmp_path: Path) -> None:
    tiles = write_tiles(tmp_path / "tiles")
    with fits.open(tiles / "a.fits") as hdus:
        header = hdus[0].header
        fits.writeto(tiles / "absurd.fits", (hdus[0].data + 1e8).astype(np.float32), header)
        fits.writeto(tiles / "scaled.fits", (hdus[0].data * 1e6).astype(np.float32), header)
        fits.writeto(tiles / "empty.fits", np.full_like(hdus[0].data, np.nan), header)
        fits.writeto(tiles / "zeros.fits", np.zeros_like(hdus[0].data), header)
    ran = run_cli(capfd, "build", tiles, "-o", tmp_path / "out", "--mode", "existing-tiles")
    assert ran.code == 0, ran.err
    told = {item["name"]: item for item in report_of(tmp_path / "out")["left_out"]}
    assert {name: item["code"] for name, item in told.items()} == {
        "absurd.fits": "tiles.absurd-sky", "scaled.fits": "tiles.absurd-sky",
        "empty.fits": "measure.no-weight", "zeros.fits": "measure.no-weight",
    }  # fmt: skip
    assert told["absurd.fits"]["facts"]["sky"] == pytest.approx(1e8, rel=1e-3)
    reasons = {name: item["reason"] for name, item in told.items()}
    assert reasons.keys() == {"absurd.fits", "scaled.fits", "empty.fits", "zeros.fits"}
    assert "its sky of 1e+08" in reasons["absurd.fits"]
    assert "times as far" in reasons["scaled.fits"]
    assert "no pixel has weight" in reasons["empty.fits"]
    assert "no pixel has weight" in reasons["zeros.fits"]
    clean = run_cli(capfd, "build", write_tiles(tmp_path / "clean"), "-o", tmp_path / "alone")
    assert clean.code == 0
    one, two = (fits.getdata(tmp_path / name / "mosaic.fits") for name in ("out", "alone"))
    assert np.array_equal(one, two, equal_nan=True)


@pytest.mark.parametrize("name", ["WHT", "ALPHA", "", "16 bits"])
def test_a_tiles_own_map_is_its_weight(capfd: Capture, tmp_path: Path, name: str) -> None:
    """Garbage that the map excludes leaves no trace; half an alpha weighs half. Without a map zero is empty."""
    tiles = write_tiles(tmp_path / "tiles")
    reach = np.zeros(SHAPE, bool)
    for tile, (y0, y1, x0, x1) in BOXES.items():
        with fits.open(tiles / f"{tile}.fits") as hdus:
            data, header = hdus[0].data, hdus[0].header
        mask = np.full(data.shape, 255 if name == "ALPHA" else 1, np.uint8)
        mask[:9] = mask[:, :9] = mask[-9:] = mask[:, -9:] = 0
        data[mask == 0] = 0
        reach[y0:y1, x0:x1] |= mask > 0
        plane = mask if name == "ALPHA" else mask.astype(np.float32)
        data = data.round().astype(np.uint16) if name == "16 bits" else data
        parts = [fits.PrimaryHDU(data, header)]
        if name in {"WHT", "ALPHA"}:
            parts.append(fits.ImageHDU(plane, name=name))
        fits.HDUList(parts).writeto(tiles / f"{tile}.fits", overwrite=True)
    ran = run_cli(capfd, "build", tiles, "-o", tmp_path / "out", "--set", "warp.kernel=bilinear")
    assert ran.code == 0, ran.err
    data = fits.getdata(tmp_path / "out/mosaic.fits")
    assert np.isfinite(data).sum() == pytest.approx(reach.sum(), rel=0.03)
    assert np.nanmin(data) > np.nanmedian(data) - 400  # no zero is left: the pedestals are 300 and more


def test_a_map_in_units_of_inverse_variance_sets_the_noise(capfd: Capture, tmp_path: Path) -> None:
    """Smoothed pixels show a quarter less noise than they have; their weight map knows it."""
    tiles = write_tiles(tmp_path / "tiles", sigma=0.0)
    rng = np.random.default_rng(3)
    for k, tile in enumerate(BOXES):
        path = tiles / f"{tile}.fits"
        with fits.open(path) as hdus:
            data, header = hdus[0].data, hdus[0].header
        smooth = gaussian_filter(rng.normal(0, 9 * (1 + 0.05 * k), data.shape), 0.35)
        weight = np.full(data.shape, 1 / (9 * (1 + 0.05 * k)) ** 2, np.float32)
        fits.HDUList([
            fits.PrimaryHDU((data + smooth).astype(np.float32), header),
            fits.ImageHDU(weight, name="WHT"),
        ]).writeto(path, overwrite=True)
    ran = run_cli(capfd, "build", tiles, "-o", tmp_path / "out", "--set", "stack.method=mean")
    assert ran.code == 0, ran.err
    with fits.open(tmp_path / "out/mosaic.fits") as hdus:
        variance, coverage = hdus["VAR"].data, hdus["COV"].data
    alone = np.median(np.sqrt(variance[coverage == 10]))
    gain = Table.read(tmp_path / "out/frames.ecsv")["gain"][0]
    assert alone * gain == pytest.approx(9, rel=0.03)


DEPTHS = {"a": (1, 0, 0, 180, 1.06), "b": (4, 60, 40, 220, 1.0), "c": (25, 0, 80, 260, 0.97)}
"""Depth, first row, first and last column, planted gain."""


def write_unequal(folder: Path) -> Path:
    """Three stacks of 160 x 180 px whose noise is 10 / sqrt(depth), with gains that the match does not know."""
    folder.mkdir()
    sky, grid = true_sky(), tan_wcs(SHAPE)
    for k, (name, (depth, y0, x0, x1, gain)) in enumerate(DEPTHS.items()):
        sigma, shape = 10 / depth**0.5, (160, x1 - x0)
        wcs = grid.deepcopy()
        wcs.wcs.crpix = [grid.wcs.crpix[0] - x0, grid.wcs.crpix[1] - y0]
        image = gain * (sky[y0 : y0 + 160, x0:x1] + noise(shape, k, sigma, 0.0)) + 300
        weight = np.full(shape, 1 / (gain * sigma) ** 2, np.float32)
        parts = [fits.PrimaryHDU(image.astype(np.float32), wcs.to_header()), fits.ImageHDU(weight, name="WHT")]
        fits.HDUList(parts).writeto(folder / f"{name}.fits")
    (folder / "grid.head").write_text(grid_header(), encoding="ascii")
    return folder


def build_unequal(capfd: Capture, folder: Path, out: Path, *assign: str) -> dict[str, F4]:
    own = [f"grid.header={folder / 'grid.head'}", "match.method=none", "stack.method=mean", "warp.taper_px=0"]
    options = [part for text in (*own, "output.preview=false", *assign) for part in ("--set", text)]
    ran = run_cli(
        capfd, "build", *(folder / f"{n}.fits" for n in DEPTHS), "-o", out, "--mode", "existing-tiles", *options
    )
    assert ran.code == 0, ran.err
    with fits.open(out / "mosaic.fits") as hdus:
        return {"DATA": hdus[0].data, **{name: hdus[name].data for name in ("WHT", "VAR", "COV")}}


def test_the_variance_after_a_second_pass_is_that_of_what_was_done(
    capfd: Capture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tiles of depth 1, 4 and 25: weighed as in the first pass, with the gains of the second."""
    folder = write_unequal(tmp_path / "tiles")
    first = build_unequal(capfd, folder, tmp_path / "one")
    caplog.set_level(logging.DEBUG)
    made = build_unequal(capfd, folder, tmp_path / "two", "tiles.two_pass=true")
    assert "[TwoPassTile] post_gain tile=" in caplog.text
    assert "file=b.fits" in caplog.text
    assert "cov1>0 & cov2==0 -> 0 pixels" in caplog.text
    again = build_unequal(capfd, folder, tmp_path / "two", "tiles.two_pass=true")
    sky = true_sky()
    assert not np.array_equal(made["DATA"], first["DATA"], equal_nan=True)
    weights = sum(
        np.pad(np.full((160, x1 - x0), depth / 100), ((y0, 60 - y0), (x0, 260 - x1)))
        for depth, y0, x0, x1, _ in DEPTHS.values()
    )
    depths = np.unique(np.round(weights, 3))
    for name in made:
        assert np.array_equal(made[name], again[name], equal_nan=True)
    away = made["DATA"] - sky
    for depth in depths[depths > 0]:
        part = (np.abs(weights - depth) < 1e-6) & (sky < np.median(sky)) & np.isfinite(away)
        if np.count_nonzero(part) > 2000:
            steps = np.diff(away, axis=1)[part[:, 1:] & part[:, :-1]]
            ratio = steps.var() / 2 / np.median(made["VAR"][part])
            assert 0.9 < ratio < 1.1
            assert np.median(made["WHT"][part]) == pytest.approx(depth, rel=0.1)


@pytest.mark.parametrize("step", ["find_gains", "stack_onto_grid", "find_levels"])
@pytest.mark.parametrize("error", [np.linalg.LinAlgError, EnvironmentProblem, MemoryError])
def test_a_second_pass_that_fails_keeps_the_first_mosaic(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: type[Exception]
) -> None:
    folder = write_unequal(tmp_path / "tiles")
    first = build_unequal(capfd, folder, tmp_path / "one")

    def fail(*_: object) -> None:
        raise error("planted")

    monkeypatch.setattr(f"zemosaic.pipelines.tiles.two_pass.{step}", fail)
    made = build_unequal(capfd, folder, tmp_path / "two", "tiles.two_pass=true")
    for name in first:
        assert np.array_equal(made[name], first[name], equal_nan=True)
    told = [notice["message"] for notice in report_of(tmp_path / "two")["notices"]]
    assert "planted" in next(text for text in told if "second pass failed" in text)


def test_each_filter_has_a_delta_map_of_its_own(capfd: Capture, tmp_path: Path) -> None:
    write_tiles(tmp_path / "set/r", FILTER="R")
    write_tiles(tmp_path / "set/b", sigma=8.0, FILTER="B")
    assign = ["tiles.two_pass=true", "tiles.two_pass_debug_delta_map=true", "output.preview=false"]
    options = [part for text in assign for part in ("--set", text)]
    ran = run_cli(capfd, "build", tmp_path / "set", "-o", tmp_path / "out", "--mode", "existing-tiles", *options)
    assert ran.code == 0, ran.err
    deltas = [np.load(tmp_path / f"out/twopass_delta_map_{name}.npy") for name in "BR"]
    assert np.nanmedian(deltas[0]) > 1.2 * np.nanmedian(deltas[1])


def test_alpha_weighs_once_and_leaves_the_variance_alone(capfd: Capture, tmp_path: Path) -> None:
    """Two stacks of one place, levels 300 and 600, noise 5; the first is trusted by a quarter in its left half."""
    sky, grid = true_sky(), tan_wcs(SHAPE)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for k, level in enumerate((300, 600)):
        image = (sky + noise(SHAPE, k, 5.0, level)).astype(np.float32)
        parts = [fits.PrimaryHDU(image, grid.to_header()), fits.ImageHDU(np.full(SHAPE, 0.04, np.float32), name="WHT")]
        if k == 0:
            alpha = np.full(SHAPE, 255, np.uint8)
            alpha[:, :130], alpha[:40] = 64, 0
            parts.append(fits.ImageHDU(alpha, name="ALPHA"))
        fits.HDUList(parts).writeto(folder / f"t{k}.fits")
    (tmp_path / "grid.head").write_text(grid_header(), encoding="ascii")
    assign = ["match.method=none", "stack.method=mean", "warp.taper_px=0", "grid.header=" + str(tmp_path / "grid.head")]
    options = [part for text in assign for part in ("--set", text)]
    ran = run_cli(capfd, "build", folder, "-o", tmp_path / "out", "--mode", "existing-tiles", *options)
    assert ran.code == 0, ran.err
    with fits.open(tmp_path / "out/mosaic.fits") as hdus:
        data, weight, variance = hdus[0].data - sky, hdus["WHT"].data, hdus["VAR"].data
    share = np.rint(127 * 64 / 255) / 127
    for part, a in ((np.s_[50:, :120], share), (np.s_[50:, 140:], 1.0), (np.s_[5:35, 5:], 0.0)):
        assert np.median(data[part]) == pytest.approx((a * 300 + 600) / (a + 1), abs=1)
        assert np.median(weight[part]) == pytest.approx(0.04 * (a + 1), rel=0.02)
        assert np.median(variance[part]) == pytest.approx(25 * (a * a + 1) / (a + 1) ** 2, rel=0.02)


def test_an_unknown_mode_and_a_solution_without_use(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="mode 'tiles' is not one of auto, direct, master-tiles, grid, existing"):
        build_mosaic([tmp_path], tmp_path / "out", Settings(), start_run(), "tiles")
    with pytest.raises(SettingError, match="cannot use it"):
        build_mosaic([tmp_path], tmp_path / "out", Settings(), start_run(), "master-tiles", tmp_path / "match.ecsv")


def test_auto_takes_single_frames_straight_and_a_planned_survey_as_a_grid(
    capfd: Capture, small_set: Path, tmp_path: Path
) -> None:
    ran = run_cli(capfd, "build", small_set, "-o", tmp_path / "out", "--set", "output.preview=false")
    assert ran.code == 0
    assert "mode direct: these are single frames" in ran.err
    survey = tmp_path / "survey"
    survey.mkdir()
    for path in small_set.glob("*.fits"):
        (survey / path.name).symlink_to(path)
    rows = ["file_path", *(str(path) for path in sorted(survey.glob("*.fits")))]
    (survey / "stack_plan.csv").write_text("\n".join(rows), encoding="utf-8")
    ran = run_cli(capfd, "build", survey, "-o", tmp_path / "planned", "--set", "output.preview=false")
    assert f"mode grid: {survey / 'stack_plan.csv'}" in ran.err
    assert ran.code == 0
