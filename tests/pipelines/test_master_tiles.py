"""Master tiles end to end: groups, exact coverage, clean rims, one sky with the direct mode."""

from __future__ import annotations

import logging
import re
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time, TimeDelta
from scipy import ndimage
from scipy.ndimage import distance_transform_edt, grey_closing

from mosaic_cases import digest_of, digests_of, mosaic_bytes, noise, report_of, run_cli, tan_wcs, write_frame
from tile_sets import rotating_panels
from zemosaic.cli import main
from zemosaic.errors import SettingError
from zemosaic.io.write.mosaic_file import wcs_header
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.tile import Tile
from zemosaic.pipelines.modes import master_tiles
from zemosaic.pipelines.run.context import start_run
from zemosaic.settings import Settings, TileSettings
from zemosaic.simulate import (
    FrameRecipe,
    RawRecipe,
    SetTruth,
    SimulatedSky,
    read_truth,
    score_mosaic,
    simulate_frames,
    simulate_raws,
)

Capture = pytest.CaptureFixture[str]
F8 = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panels")
    rotating_panels(folder)
    return folder


def build(frames: Path, out: Path, mode: str, *assign: str) -> Path:
    options = [part for text in assign for part in ("--set", text)]
    assert main(["build", str(frames), "-o", str(out), "--mode", mode, "--set", "output.preview=false", *options]) == 0
    return out


@pytest.fixture(scope="module")
def tiled(panels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(panels, tmp_path_factory.mktemp("tiled"), "master-tiles")


@pytest.fixture(scope="module")
def direct(panels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(panels, tmp_path_factory.mktemp("direct"), "direct")


def tiles_of(out: Path) -> list[Path]:
    return sorted((out / "tiles").glob("*.fits"))


def analytic_count(truth: SetTruth, names: set[str], grid: CelestialWcs, margin_px: float) -> npt.NDArray[np.int64]:
    """How many of the named frames' footprints, grown by a margin, reach each pixel."""
    y, x = np.mgrid[: grid.shape[0], : grid.shape[1]]
    ra, dec = grid.pixel_to_sky(x, y)
    count = np.zeros(grid.shape, np.int64)
    for exposure in truth.exposures:
        if exposure.name in names:
            fx, fy = exposure.celestial.sky_to_pixel(ra, dec)
            height, width = exposure.shape
            y0, y1, x0, x1 = valid_bounds(exposure.border_px, height, width)
            count += (fx > x0 - margin_px) & (fx < x1 + margin_px) & (fy > y0 - margin_px) & (fy < y1 + margin_px)
    return count


def valid_bounds(border: int, height: int, width: int) -> tuple[int, int, int, int]:
    """First and last rows and columns with data: a border of NaN is at the first rows and the last columns."""
    return border, height - 1, 0, width - 1 - border


@pytest.mark.parametrize("n_each", [1, 2])
def test_trails_in_tiles_too_few_to_clip_go(tmp_path: Path, n_each: int) -> None:
    """Tiles of one or two frames each: what the other tiles' frames show takes their trails away, as in direct."""
    n, recipe = (
        6,
        FrameRecipe(shape=(200, 260), trail_fraction=0.34, gain_scatter=0.02, gradient_adu=5, max_border_px=2),
    )
    pointings = [(83.8 + 0.012 * (k // n_each), 22.0, 0.0) for k in range(n)]
    truth = simulate_frames(tmp_path / "set", SimulatedSky(4, size_deg=0.6), n, recipe, pointings=pointings)
    assert sum(exposure.trail is not None for exposure in truth.exposures) == 2
    group = "tiles.group=0.03"
    made = {mode: build(tmp_path / "set", tmp_path / mode, mode, group) for mode in ("direct", "master-tiles")}
    facts = report_of(made["master-tiles"])
    assert [tile["n_frames"] for tile in facts["tiles"]] == [n_each] * (n // n_each)
    assert any(f"{n // n_each} tiles hold fewer than 3 frames" in notice["message"] for notice in facts["notices"])
    direct, ours = (fits.getdata(out / "mosaic.fits").astype(float) for out in made.values())
    count, ours_count = (fits.getdata(out / "mosaic.fits", "COV") for out in made.values())
    assert (np.isfinite(direct) != np.isfinite(ours)).mean() < 0.01  # the rim, by a pixel
    assert (ours_count != count).mean() < 0.02
    grid = CelestialWcs.from_header(fits.getheader(made["direct"] / "mosaic.fits"), direct.shape)
    y, x = np.mgrid[: grid.shape[0], : grid.shape[1]]
    ra, dec = grid.pixel_to_sky(x, y)
    for exposure in truth.exposures:
        if exposure.trail is None:
            continue
        x0, y0, angle, _ = exposure.trail
        fx, fy = exposure.celestial.sky_to_pixel(ra, dec)
        off = np.abs((fy - y0) * np.cos(angle) - (fx - x0) * np.sin(angle))
        inside = (fx > 8) & (fy > 8) & (fx < 250) & (fy < 190) & (count >= 4)
        left = np.mean((ours - direct)[inside & (off < 1.5)]) - np.mean((ours - direct)[inside & (off > 12)])
        assert abs(left) < 0.1 * truth.sigma


# --- tiles --------------------------------------------------------------------------------------------------------


def test_each_panel_becomes_a_tile(tiled: Path, panels: Path) -> None:
    facts = report_of(tiled)
    assert facts["mode"] == "master-tiles"
    told = facts["tiles"]
    assert [tile["n_frames"] for tile in told] == [8, 8]
    assert sorted(name for tile in told for name in tile["frames"]) == sorted(p.name for p in panels.glob("*.fits"))
    assert all(tile["altaz"] and 49 < tile["turn_deg"] < 51 for tile in told)
    assert any("tile 2: 8 frames round" in notice["message"] for notice in facts["notices"])
    assert any("alt-az clean-up acts on 2 of them" in notice["message"] for notice in facts["notices"])
    table = Table.read(tiled / "frames.ecsv")
    assert len(table) == 16
    assert all(table["use"])


def test_frames_of_tiles_tell_how_much_of_them_was_clipped(tiled: Path, panels: Path, tmp_path: Path) -> None:
    """Also in a second run, which takes the tiles as they are."""
    share = np.array(Table.read(tiled / "frames.ecsv")["clipped_share"], float)
    assert ((share > 0) & (share < 0.05)).all()
    build(panels, Path(shutil.copytree(tiled, tmp_path / "copy")), "master-tiles")
    np.testing.assert_array_equal(np.array(Table.read(tmp_path / "copy/frames.ecsv")["clipped_share"], float), share)


def test_coverage_is_the_analytic_count(tiled: Path, panels: Path, tmp_path: Path) -> None:
    """To within a pixel at each footprint's border; clean-up changes neither it nor the inverse variance."""
    truth = read_truth(panels)
    out = build(panels, tmp_path / "all", "master-tiles", "tiles.cleanup=off")
    for path, cleaned, told in zip(tiles_of(out), tiles_of(tiled), report_of(out)["tiles"], strict=True):
        with fits.open(path) as hdus, fits.open(cleaned) as other:
            count, trusted = hdus["COV"].data, other["ALPHA"].data > 0
            assert np.array_equal(count, other["COV"].data)
            assert np.array_equal(np.where(trusted, hdus["WHT"].data, 0), other["WHT"].data)
            grid = CelestialWcs.from_header(hdus[0].header, count.shape)
            assert np.array_equal(hdus["EXPT"].data > 0, count > 0)
            assert hdus["COV"].header["BITPIX"] == 16
        names = set(told["frames"])
        low, high = (analytic_count(truth, names, grid, margin) for margin in (-1.0, 1.0))
        assert np.all(count >= low)
        assert np.all(count <= high)
        assert count.max() == 8
        assert (low < high).mean() > 0.05  # the bounds are not the same everywhere, only at borders


@pytest.mark.parametrize("columns", [5, 5.3])
def test_a_shift_of_five_columns_leaves_five_columns_to_one_frame(tmp_path: Path, columns: float) -> None:
    (tmp_path / "set").mkdir()
    for k in range(2):
        wcs = tan_wcs((120, 160))
        wcs.wcs.crpix[0] -= k * columns
        write_frame(tmp_path / f"set/{k}.fits", noise((120, 160), k), wcs)
    assign = ["tiles.cleanup=off", "solve.method=header", "match.method=none"]
    (tile,) = tiles_of(build(tmp_path / "set", tmp_path / "out", "master-tiles", *assign))
    count = fits.getdata(tile, "COV")[3:-3]
    assert np.all(count == count[0])
    assert "".join(map(str, count[0])).strip("0") == "1" * 5 + "2" * 154 + "1" * 5


def test_coverage_takes_no_memory_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are counted as they are added: a stack of 24 needs no more memory than one of 4, to less than a plane."""
    stack, peaks = master_tiles._stack, []

    def watched(*args: Any) -> Tile:
        tracemalloc.start()
        tile = stack(*args)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        return tile

    monkeypatch.setattr(master_tiles, "_stack", watched)
    assign = ["tiles.cleanup=off", "stack.method=mean", "solve.method=header", "match.method=none"]
    for n in (2, 4, 24):  # the first compiles and imports
        (tmp_path / f"set{n}").mkdir()
        for k in range(n):
            write_frame(tmp_path / f"set{n}/{k}.fits", noise((300, 400), k), tan_wcs((300, 400)))
        (tile,) = tiles_of(build(tmp_path / f"set{n}", tmp_path / f"out{n}", "master-tiles", *assign))
        assert fits.getdata(tile, "COV").max() == n
    assert peaks[2] < peaks[1] + 300 * 400 * 4


@pytest.fixture(scope="module")
def turning_raws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight raw frames of one panel whose field turns by 44 degrees, with true WCS; the last four a night later."""
    folder = tmp_path_factory.mktemp("turning_raws")
    recipe = RawRecipe(shape=(400, 500), panels=(1, 1), rotation_deg=50, cloud_fraction=0, soft_fraction=0)
    for k, exposure in enumerate(simulate_raws(folder, SimulatedSky(5, 314.7, 44.3, 0.8), 8, recipe).exposures):
        with fits.open(folder / exposure.name, mode="update") as hdus:
            header = hdus[0].header
            header.update(wcs_header(exposure.celestial))
            header["DATE-OBS"] = (Time(header["DATE-OBS"]) + TimeDelta(k // 4, format="jd")).isot
    return folder


def test_coverage_of_raw_frames_is_the_analytic_count(turning_raws: Path, tmp_path: Path) -> None:
    """All three colours reach to within a pixel of a frame's border; single pixels are lost to defects of a sensor."""
    assign = ["tiles.cleanup=off", "solve.method=header"]
    (path,) = tiles_of(build(turning_raws, tmp_path, "master-tiles", *assign))
    with fits.open(path) as hdus:
        count = hdus["COV"].data
        grid = CelestialWcs.from_header(hdus[0].header, count.shape)
    truth = read_truth(turning_raws)
    names = {exposure.name for exposure in truth.exposures}
    low, high = (analytic_count(truth, names, grid, margin) for margin in (-1.0, 1.0))
    assert np.all(count <= high)
    assert (count < low).mean() < 0.02
    assert (grey_closing(count, (9, 9)) < low).mean() < 5e-4
    assert count.max() == 8


def test_clean_up_of_raw_frames_loses_no_sky_and_leaves_no_fringe(turning_raws: Path, tmp_path: Path) -> None:
    """Two colour tiles that turn by 19 degrees each: filled as the direct mosaic is, with its colours to the rim."""
    assign = "solve.method=header", "tiles.group=0.25,night"
    made = {mode: build(turning_raws, tmp_path / mode, mode, *assign) for mode in ("direct", "master-tiles")}
    told = report_of(made["master-tiles"])["tiles"]
    assert [(tile["n_frames"], tile["altaz"]) for tile in told] == [(4, True), (4, True)]
    theirs, ours = (fits.getdata(out / "mosaic.fits").astype(float) for out in made.values())
    reached, filled = np.isfinite(theirs).all(axis=0), np.isfinite(ours).all(axis=0)
    assert (reached & filled).sum() > 0.97 * reached.sum()
    assert (np.isfinite(ours).any(axis=0) & ~filled).mean() < 1e-3
    rim = reached & filled & (distance_transform_edt(np.pad(reached, 1))[1:-1, 1:-1] < 24)
    off = [ndimage.median((one - other)[rim], *blocks_of(rim)) for one, other in zip(ours, theirs, strict=True)]
    # Not all blocks: on the nebula the gains that two stars a frame tell differ from frame to frame.
    assert np.percentile(np.abs(off), 80, axis=1).max() < 0.02 * read_truth(turning_raws).sigma


def blocks_of(mask: npt.NDArray[np.bool_], side: int = 24) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Number of the block that each true pixel lies in, and the numbers of those that hold many."""
    y, x = np.nonzero(mask)
    block = y // side * mask.shape[1] + x // side
    return block, np.flatnonzero(np.bincount(block) > side * side // 4)


def test_thin_coverage_weighs_little(tiled: Path, panels: Path) -> None:
    truth = read_truth(panels)
    for path, told in zip(tiles_of(tiled), report_of(tiled)["tiles"], strict=True):
        with fits.open(path) as hdus:
            data, weight, count, alpha = (hdus[name].data for name in ("DATA", "WHT", "COV", "ALPHA"))
            grid = CelestialWcs.from_header(hdus[0].header, data.shape)
        thin = (count < 4) & (weight > 0)  # max(3, 40 % of 8)
        assert alpha[thin].max() <= 3
        assert alpha.max() == 255
        assert np.array_equal(np.isnan(data), weight == 0)
        assert np.array_equal(alpha > 0, weight > 0)
        reached = analytic_count(truth, set(told["frames"]), grid, -2.0) > 0
        assert np.isfinite(data[reached]).mean() > 0.99


def test_clean_up_loses_no_sky(tiled: Path, direct: Path) -> None:
    reached, kept = (fits.getdata(out / "mosaic.fits", "WHT") > 0 for out in (direct, tiled))
    assert (reached & kept).sum() > 0.99 * reached.sum()
    assert not [notice for notice in report_of(tiled)["notices"] if "without data" in notice["message"]]


def test_the_sky_that_a_cut_costs_is_told(panels: Path, direct: Path, tmp_path: Path) -> None:
    cut = build(panels, tmp_path, "master-tiles", "tiles.altaz_nanize_threshold=0.01")
    reached, kept = (fits.getdata(out / "mosaic.fits", "WHT") > 0 for out in (direct, cut))
    cost = (reached & ~kept).sum() / reached.sum()
    assert 0.1 < cost < 0.4
    (told,) = [text for notice in report_of(cut)["notices"] if "without data" in (text := notice["message"])]
    assert "a lower tiles.altaz_nanize_threshold keeps it" in told
    assert float(told.partition(" %")[0].rpartition(" ")[2]) == pytest.approx(100 * cost, abs=1.1)


def test_no_dark_wedge(tiled: Path, direct: Path) -> None:
    """Where the tiles have data their mosaic is the direct one's, up to a plane, at the rim as inside."""
    with fits.open(tiled / "mosaic.fits") as one, fits.open(direct / "mosaic.fits") as two:
        assert one[0].shape == two[0].shape
        difference = (one[0].data - two[0].data).astype(float)
        noise = np.sqrt(two["VAR"].data)
        seen = np.isfinite(difference)
    y, x = np.nonzero(seen)
    basis = np.stack([np.ones(len(x)), x, y], axis=1) / [1, 100, 100]
    value = difference[seen]
    plane = np.linalg.lstsq(basis, value, rcond=None)[0]
    left = np.full(seen.shape, np.nan)
    left[seen] = (value - basis @ plane) / noise[seen]
    assert np.nanmedian(np.abs(left)) < 0.5
    depth = distance_transform_edt(seen)
    for low, high in ((1, 4), (4, 8), (8, 16)):
        ring = (depth >= low) & (depth < high)
        assert abs(np.nanmean(left[ring])) < 0.1


def test_the_same_sky_as_direct(tiled: Path, direct: Path, panels: Path) -> None:
    ours, theirs = (score_mosaic(panels, out / "mosaic.fits") for out in (tiled, direct))
    assert ours["background_sigma"] < theirs["background_sigma"] + 0.03
    assert ours["seam_sigma"] < theirs["seam_sigma"] + 0.03
    assert ours["scale"] == pytest.approx(theirs["scale"], rel=0.01)


def test_frames_are_counted_not_tiles(tiled: Path) -> None:
    with fits.open(tiled / "mosaic.fits") as hdus:
        header, coverage, exposure, weight = hdus[0].header, hdus["COV"].data, hdus["EXPT"].data, hdus["WHT"].data
        assert header["NCOMBINE"] == 16
        assert header["EXPTIME"] == 160
    assert coverage.max() > 8  # both panels
    assert np.array_equal(coverage > 0, weight > 0)
    # Clipped samples take their exposure with them.
    assert np.all(exposure <= 10 * coverage + 1e-3)
    assert np.median(exposure[coverage > 0] / coverage[coverage > 0]) == pytest.approx(10, rel=0.02)


def test_the_noise_is_what_the_variance_states(tiled: Path, panels: Path) -> None:
    """Means of 6 x 6 pixels scatter as VAR says: tiles weigh by what their maps state, not by smoothed pixels.

    In the feather of a tile as well, where alpha lowers its weight and not its variance.
    """
    from zemosaic.simulate.score import true_image

    truth = read_truth(panels)
    with fits.open(tiled / "mosaic.fits") as hdus:
        data, variance, weight = hdus[0].data.astype(float), hdus["VAR"].data, hdus["WHT"].data
        grid = CelestialWcs.from_header(hdus[0].header, data.shape)
    sky = true_image(truth, grid)
    blank = np.isfinite(data) & (sky - true_image(truth, grid, faintest_left_out=0) < 0.5)
    scale, level = np.polyfit(sky[blank], data[blank], 1)
    pull = np.where(blank, (data - scale * sky - level) / np.sqrt(variance), 0)

    def blocks(plane: F8) -> F8:
        h, w = (n // 6 * 6 for n in plane.shape)
        return np.asarray(plane[:h, :w].reshape(h // 6, 6, w // 6, 6).sum(axis=(1, 3)))

    faint = np.where(blank, weight * variance, 1) < 0.7  # the tiles' alpha in the mean
    for part, tolerance in ((blank, 0.08), (blank & faint, 0.2)):
        whole = blocks(part.astype(float)) == 36
        steps = np.diff(np.where(whole, blocks(pull) / 6, np.nan), axis=1)
        steps = steps[np.isfinite(steps)] / np.sqrt(2)
        assert len(steps) > 100
        low, high = np.percentile(steps, [15.865, 84.135])
        assert (high - low) / 2 == pytest.approx(1, abs=tolerance)


# --- one answer on every path -------------------------------------------------------------------------------------


def test_tiles_are_made_once(panels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    out = build(panels, tmp_path / "a", "master-tiles")
    before = digests_of(out / "tiles"), digest_of(out / "mosaic.fits")
    other = build(panels, tmp_path / "b", "master-tiles")  # the other worker count is the machine's
    ran = run_cli(capfd, "build", panels, "-o", tmp_path / "c", "--mode", "master-tiles", "--workers", 1)
    assert ran.code == 0
    for folder in (other, tmp_path / "c"):
        assert digests_of(folder / "tiles") == before[0]
        assert digest_of(folder / "mosaic.fits") == before[1]

    def refuse(*args: object) -> None:
        raise AssertionError("a tile is stacked again")

    monkeypatch.setattr(master_tiles, "_stack", refuse)
    build(panels, out, "master-tiles")
    assert (digests_of(out / "tiles"), digest_of(out / "mosaic.fits")) == before
    build(panels, out, "master-tiles", "tiles.blend=pyramid")  # how tiles are put together changes none
    with pytest.raises(AssertionError, match="again"):
        master_tiles.build_master_tiles([panels], out, Settings(stack={"kappa_low": 2.0}), start_run())  # type: ignore[arg-type]


def test_its_tiles_are_existing_tiles(tiled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assign = [
        "match.method=none",
        "stack.method=mean",
        "input.pixel_values=surface",
        f"grid.header={tiled / 'mosaic.fits'}",
    ]
    out = build(tiled / "tiles", tmp_path / "again", "existing-tiles", *assign)
    assert "ALPHA_STATS" not in caplog.text  # no alt-az mask is made here
    with fits.open(tiled / "mosaic.fits") as one, fits.open(out / "mosaic.fits") as two:
        for name in ("DATA", "WHT", "COV", "EXPT"):
            a, b = one[name].data, two[name].data
            assert np.array_equal(np.isnan(a), np.isnan(b))
            assert np.nanmax(np.abs(a - b)) <= 1e-4 * np.nanmax(np.abs(a)), name
        assert two[0].header["NCOMBINE"] == 16


def test_tiles_of_an_earlier_grouping_go(panels: Path, tmp_path: Path) -> None:
    build(panels, tmp_path, "master-tiles")
    assert len(tiles_of(tmp_path)) == 2
    foreign = tmp_path / "tiles/tile_of_mine.fits"
    fits.writeto(foreign, np.zeros((4, 4)))
    build(panels, tmp_path, "master-tiles", "tiles.group=2")
    assert tiles_of(tmp_path) == [tmp_path / "tiles/tile_0001.fits", foreign]


# --- settings -----------------------------------------------------------------------------------------------------

CHANGES = {
    "group": "2",
    "cleanup": "off",
    "trim_px": "9",
    "crop_coverage": "0.9",
    "altaz_min_coverage_abs": "7",
    "altaz_min_coverage_frac": "0.8",
    "altaz_morph_open_px": "31",
    "altaz_alpha_soft_threshold": "0.5",
    "altaz_nanize_threshold": "0.6",
    "blend": "pyramid",
}
BESIDE = {
    "altaz_alpha_soft_threshold": ["tiles.altaz_nanize_threshold=0.6"],
    "trim_px": ["tiles.cleanup=off"],  # which takes more than this off the rim of turned frames
}


def test_every_key_of_tiles_is_changed() -> None:
    # The delta map must change no byte; the second pass has a test of its own, on tiles with gains to be found.
    assert TileSettings.model_fields.keys() == {*CHANGES, "two_pass", "two_pass_debug_delta_map"}


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output folder for many runs: what their settings do not touch is made once."""
    return tmp_path_factory.mktemp("again")


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_key_changes_the_mosaic(tiled: Path, panels: Path, again: Path, key: str) -> None:
    beside = BESIDE.get(key, [])
    before = digest_of((build(panels, again, "master-tiles", *beside) if beside else tiled) / "mosaic.fits")
    build(panels, again, "master-tiles", *beside, f"tiles.{key}={CHANGES[key]}")
    assert digest_of(again / "mosaic.fits") != before


def test_diagnostics_change_no_byte(panels: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # The first panel seen through haze, and a match that solves no gain: the tiles differ, so there is a second pass.
    hazy = Path(shutil.copytree(panels, tmp_path / "hazy"))
    for frame in sorted(hazy.glob("*.fits"))[:8]:
        with fits.open(frame, mode="update") as hdus:
            hdus[0].data = (hdus[0].data * 0.8).astype(hdus[0].data.dtype)
    caplog.set_level(logging.INFO)
    unsolved = ["tiles.two_pass=true", "match.solve_gain=false"]
    quiet = build(hazy, tmp_path / "quiet", "master-tiles", *unsolved)
    assert "TwoPassTile" not in caplog.text
    assert not (quiet / "twopass_delta_map.npy").exists()
    caplog.set_level(logging.DEBUG)
    loud = build(hazy, tmp_path / "loud", "master-tiles", *unsolved, "tiles.two_pass_debug_delta_map=true")
    assert mosaic_bytes(quiet / "mosaic.fits") == mosaic_bytes(loud / "mosaic.fits")
    # Tiles are numbered in the order of their contents' digests, which is not that of their names.
    told = re.findall(r"\[TwoPassTile\] pre_gain tile=(\d) file=(tile_\d+\.fits) gain=", caplog.text)
    assert sorted(number for number, _ in told) == ["0", "1"]
    assert sorted(name for _, name in told) == ["tile_0001.fits", "tile_0002.fits"]
    assert caplog.text.count("[TwoPassTile] pre_gain") == caplog.text.count("[TwoPassTile] post_gain") == 2
    assert f"[TwoPass] delta map: {loud / 'twopass_delta_map.npy'}" in caplog.text
    assert "[TwoPass] channel 1 coverage mismatch: cov1>0 & cov2==0 -> 0 pixels" in caplog.text
    delta = np.load(loud / "twopass_delta_map.npy")
    shape = fits.getdata(loud / "mosaic.fits").shape
    assert delta.shape == (shape[0] // 8, shape[1] // 8)
    assert np.isfinite(delta).any()
    assert np.nanmin(delta) >= 0


def test_a_second_pass_that_does_not_fit_into_memory_is_left_out(
    panels: Path, tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zemosaic.pipelines.tiles.two_pass.resident_bytes", lambda: 1 << 50)
    out = build(panels, tmp_path / "out", "master-tiles", "tiles.two_pass=true")
    assert any("no second pass" in notice["message"] for notice in report_of(out)["notices"])
    assert mosaic_bytes(out / "mosaic.fits") == mosaic_bytes(tiled / "mosaic.fits")


def test_a_wrong_group_is_told_before_the_work(panels: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"tiles\.group = 'wide'"):
        master_tiles.build_master_tiles(
            [panels],
            tmp_path,
            Settings(tiles={"group": "wide"}),
            start_run(),  # type: ignore[arg-type]
        )
