"""The direct mosaic of simulated frames against the sky that they show, and against what their files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

import zemosaic
from mosaic_cases import digest_of, noise, run_cli, tan_wcs, write_frame
from zemosaic.errors import SettingError
from zemosaic.io.read.scan import scan
from zemosaic.io.tables.solution import write_solution
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import InputSettings, load_settings
from zemosaic.simulate import FrameRecipe, SetTruth, SimulatedSky, read_truth, score_mosaic, simulate_frames
from zemosaic.simulate.score import true_image

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def truth(small_set: Path) -> SetTruth:
    return read_truth(small_set)


@pytest.fixture(scope="module")
def corrected(small_set: Path, truth: SetTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mosaic of the small set with its true gains and surfaces given as a table."""
    out = tmp_path_factory.mktemp("corrected")
    by_name = {exposure.name: exposure for exposure in truth.exposures}
    frames = scan([small_set], InputSettings()).frames
    write_solution(out / "truth.ecsv", frames, [by_name[frame.name].photo_scale() for frame in frames])
    from zemosaic.cli import main

    arguments = ["coadd", str(small_set), "-o", str(out), "--solution", str(out / "truth.ecsv")]
    assert main(arguments) == 0
    return out


def test_with_true_corrections_the_mosaic_is_the_sky(corrected: Path, small_set: Path, truth: SetTruth) -> None:
    score = score_mosaic(small_set, corrected / "mosaic.fits")
    assert score["background_sigma"] < 0.04
    assert score["seam_sigma"] < 0.06
    assert score["filled"] > 0.9995
    assert score["star_mmag"] < 10
    assert score["scale"] == pytest.approx(1, abs=0.005)


def test_the_variance_is_the_scatter(corrected: Path, truth: SetTruth) -> None:
    """(mosaic - truth) / sqrt(VAR) has the width that the header states, on blank sky."""
    with fits.open(corrected / "mosaic.fits") as hdus:
        data, variance, header = hdus[0].data, hdus["VAR"].data, hdus[0].header
        grid = CelestialWcs.from_header(header, data.shape)
        sky = true_image(truth, grid)
        blank = np.isfinite(data) & (true_image(truth, grid) - true_image(truth, grid, faintest_left_out=0) < 0.5)
        pull = ((data - sky) / np.sqrt(variance * header["VARRATIO"]))[blank]
    low, high = np.percentile(pull, [15.865, 84.135])
    assert (high - low) / 2 == pytest.approx(1, abs=0.05)
    assert np.median(pull) == pytest.approx(0, abs=0.05)


def test_trails_are_gone(corrected: Path, truth: SetTruth) -> None:
    with fits.open(corrected / "mosaic.fits") as hdus:
        data, coverage, rejected = hdus[0].data, hdus["COV"].data, hdus["REJ"].data
        grid = CelestialWcs.from_header(hdus[0].header, data.shape)
    residual = data - true_image(truth, grid)
    stars = true_image(truth, grid) - true_image(truth, grid, faintest_left_out=0)
    trails = [exposure for exposure in truth.exposures if exposure.trail is not None]
    assert len(trails) == 2
    y, x = np.mgrid[: data.shape[0], : data.shape[1]]
    left, clipped = [], []
    for exposure in trails:
        assert exposure.trail is not None
        x0, y0, angle, _ = exposure.trail
        fx, fy = exposure.celestial.sky_to_pixel(*grid.pixel_to_sky(x, y))
        inside = (fx > 20) & (fy > 20) & (fx < exposure.shape[1] - 20) & (fy < exposure.shape[0] - 20)
        across = np.abs((fy - y0) * np.cos(angle) - (fx - x0) * np.sin(angle))
        clean = inside & np.isfinite(data) & (coverage >= 5) & (stars < 2)
        core, beside = clean & (across < 6), clean & (across > 12) & (across < 40)
        left.append((residual[core].mean() - residual[beside].mean()) / truth.sigma)
        clipped.append(rejected[clean & (across < 1.5)].mean())
    assert np.abs(left).max() < 0.05
    assert np.min(clipped) > 0.9


def test_planes_agree_with_each_other(corrected: Path) -> None:
    with fits.open(corrected / "mosaic.fits") as hdus:
        data, weight, variance, coverage, rejected, exposure, saturated, alpha = (hdu.data for hdu in hdus)
    assert np.array_equal(np.isnan(data), weight == 0)
    assert np.array_equal(np.isnan(data), np.isnan(variance))
    assert np.all(coverage[weight > 0] > 0)
    assert np.all(rejected <= coverage)
    assert np.all((saturated >= 0) & (saturated <= 1))
    assert np.array_equal(alpha > 0, weight > 0)
    kept = coverage - rejected
    # Every frame was exposed for 10 s.
    assert np.allclose(exposure, 10.0 * kept, rtol=1e-5)
    assert coverage.max() >= 6


def test_simulated_frames_at_two_scales_share_one_flux_scale(tmp_path: Path) -> None:
    """Every third frame at 1.6 times the scale, matched: no step where coarse and fine frames meet."""
    recipe = FrameRecipe(shape=(300, 400), coarse_scale=1.6, trail_fraction=0.0)
    simulate_frames(tmp_path / "set", SimulatedSky(5, size_deg=0.45, stars_per_deg2=8000), 9, recipe)
    made = zemosaic.build([tmp_path / "set"], tmp_path / "out")
    score = score_mosaic(tmp_path / "set", made.mosaic)
    assert score["star_mmag"] < 15
    assert score["seam_sigma"] < 0.15


def test_filters_are_split_onto_one_grid(capfd: Capture, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for k, name in enumerate(("R", "R", "H alpha", "H alpha")):
        wcs = tan_wcs((120, 160), ra_deg=150 + 0.01 * k)
        write_frame(frames / f"{k}.fits", noise((120, 160), k, level=100.0 + 900 * (k < 2)), wcs, FILTER=name)
    ran = run_cli(capfd, "coadd", frames, "-o", tmp_path / "out")
    assert ran.code == 0
    assert "2 kinds" in ran.err
    told = ["mosaic of H_alpha:", "preview_H_alpha.png", "mosaic of R:", "preview_R.png"]
    assert sorted(told, key=ran.err.index) == told
    red, alpha = (fits.open(tmp_path / f"out/mosaic_{name}.fits") for name in ("R", "H_alpha"))
    with red, alpha:
        assert red[0].header["FILTER"] == "R"
        assert alpha[0].header["FILTER"] == "H alpha"
        assert red[0].shape == alpha[0].shape
        assert red[0].header["CRPIX1"] == alpha[0].header["CRPIX1"]
        assert np.nanmedian(red[0].data) == pytest.approx(1000, abs=3)
        assert np.nanmedian(alpha[0].data) == pytest.approx(100, abs=3)
    table = Table.read(tmp_path / "out/frames.ecsv")
    assert list(table["filter"]) == ["R", "R", "H alpha", "H alpha"]
    assert all(table["use"])
    assert len(Table.read(tmp_path / "out/match.ecsv")) == 4
    # One solution table serves all filters.
    ran = run_cli(capfd, "coadd", frames, "-o", tmp_path / "again", "--solution", tmp_path / "out/match.ecsv")
    assert digest_of(tmp_path / "again/preview_R.png") == digest_of(tmp_path / "out/preview_R.png")
    with pytest.raises(SettingError, match=r"2 filters \(H alpha, R\); coadd them one filter at a time"):
        zemosaic.coadd(sorted(frames.glob("*.fits")))


def test_filters_that_look_alike_in_file_names_stay_apart(tmp_path: Path) -> None:
    for k, name in enumerate(("R", "r", "r'", "r*")):
        write_frame(tmp_path / f"{k}.fits", noise((90, 100), k, level=100.0 * k), tan_wcs((90, 100)), FILTER=name)
    made = zemosaic.build([tmp_path], tmp_path / "out", settings={"match": {"method": "none"}})
    assert len({path.name.casefold() for path in made.mosaics.values()}) == 4
    assert list(made.previews) == list(made.mosaics)
    with pytest.raises(SettingError, match="4 mosaics"):
        made.mosaic  # noqa: B018 - asking is the test
    found = {fits.getheader(p)["FILTER"]: float(np.nanmedian(fits.getdata(p))) for p in made.mosaics.values()}
    assert {name: round(level, -1) for name, level in found.items()} == {"R": 0, "r": 100, "r'": 200, "r*": 300}


def test_mono_stays_mono_and_colour_gets_three_planes(capfd: Capture, tmp_path: Path) -> None:
    wcs, shape = tan_wcs((90, 110)), (90, 110)
    frames = tmp_path / "frames"
    frames.mkdir()
    levels = np.array([300.0, 200.0, 100.0], np.float32)
    for k in range(2):
        write_frame(frames / f"chw{k}.fits", noise((3, *shape), k) + levels[:, None, None], wcs)
        write_frame(frames / f"hwc{k}.fits", np.moveaxis(noise((3, *shape), 5 + k), 0, -1) + levels, wcs)
        write_frame(frames / f"mono{k}.fits", noise(shape, 10 + k), wcs)
    ran = run_cli(capfd, "coadd", frames, "-o", tmp_path / "out")
    assert ran.code == 0
    colour = fits.getdata(tmp_path / "out/mosaic_colour.fits")
    assert colour.shape[0] == 3
    assert np.nanmedian(colour, axis=(1, 2)) == pytest.approx([1300, 1200, 1100], abs=3)
    assert fits.getheader(tmp_path / "out/mosaic_colour.fits")["NCOMBINE"] == 4
    assert fits.getdata(tmp_path / "out/mosaic_mono.fits").ndim == 2
    with pytest.raises(SettingError, match="mono and colour"):
        zemosaic.coadd(sorted(frames.glob("*.fits")))


def test_a_grid_header_is_honoured(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    wanted = tan_wcs((180, 220), ra_deg=83.81, dec_deg=22.01, scale_arcsec=3.1, rotation_deg=12.0)
    header = wanted.to_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 220, 180
    (tmp_path / "grid.head").write_text(header.tostring(sep="\n"))
    fits.writeto(tmp_path / "grid.fits", np.zeros((180, 220), np.uint8), wanted.to_header())
    for name in ("grid.head", "grid.fits"):
        ran = run_cli(capfd, "coadd", small_set, "-o", tmp_path / name[5:], "--header", tmp_path / name)
        assert ran.code == 0, ran.err
        made = WCS(fits.getheader(tmp_path / name[5:] / "mosaic.fits"))
        assert made.array_shape == (180, 220)
        x, y = np.array([0.0, 219.0, 50.0]), np.array([0.0, 10.0, 179.0])
        assert made.pixel_to_world(x, y).separation(wanted.pixel_to_world(x, y)).arcsec.max() < 1e-6
    # The settings name one file or the other: their checksum is all that may differ.
    same = fits.FITSDiff(
        *(tmp_path / name / "mosaic.fits" for name in ("head", "fits")), ignore_keywords=["SETHASH", "CHECKSUM"]
    )
    assert same.identical, same.report()


def test_weight_maps_are_used(tmp_path: Path) -> None:
    """A region of garbage with weight 0 leaves no trace; a map of variance counts inversely."""
    shape = (200, 240)
    wcs = tan_wcs(shape)
    bad = noise(shape, 2)
    bad[30:60, 40:80] = 50_000
    weight = np.ones(shape, np.float32)
    weight[30:60, 40:80] = 0
    header = wcs.to_header()
    fits.HDUList([
        fits.PrimaryHDU(bad, header), fits.ImageHDU(weight, name="WHT"),
    ]).writeto(tmp_path / "a.fits")  # fmt: skip
    write_frame(tmp_path / "b.fits", noise(shape, 3), wcs)
    write_frame(tmp_path / "b.weight.fits", np.where(np.arange(240) < 120, 1, 0.25) * np.ones(shape, np.float32), None)
    settings = load_settings(assignments=["stack.method=mean", "warp.taper_px=0"])
    made = zemosaic.coadd([tmp_path], wcs, settings=settings)
    assert np.abs(made.data - 1000).max() < 60
    assert np.array_equal(made.coverage == 1, weight == 0)
    alone = zemosaic.coadd([tmp_path / "b.fits"], wcs, settings=settings)
    assert np.unique(alone.weight[:, 125:]) == pytest.approx(alone.weight[0, 0] / 4, rel=1e-4)
