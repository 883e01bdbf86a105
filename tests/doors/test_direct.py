"""The direct mosaic end to end, against what is known to be true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from reproject import reproject_exact, reproject_interp
from reproject.mosaicking import reproject_and_coadd

import zemosaic
from mosaic_cases import (
    F4,
    F8,
    cut,
    digest_of,
    draw_stars,
    noise,
    run_cli,
    tan_wcs,
    write_frame,
)
from zemosaic.engine.memory import resident_bytes
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.io.read.scan import scan
from zemosaic.io.tables.solution import write_solution
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import InputSettings, StackSettings, WarpSettings, load_settings
from zemosaic.simulate import FrameRecipe, SetTruth, SimulatedSky, read_truth, score_mosaic, simulate_frames
from zemosaic.simulate.score import true_image

Capture = pytest.CaptureFixture[str]
Piece = tuple[F4, WCS]

METHODS = get_args(StackSettings.model_fields["method"].annotation)
KERNELS = get_args(WarpSettings.model_fields["kernel"].annotation)


def pieces_of(image: F4, wcs: WCS) -> list[Piece]:
    """Five overlapping pieces that cover a 200 x 260 image, most of it twice and more."""
    boxes = [(0, 130, 0, 170), (0, 130, 90, 260), (70, 200, 0, 170), (70, 200, 90, 260), (30, 170, 40, 220)]
    return [cut(image, wcs, *box) for box in boxes]


# --- identities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_cut_up_comes_back(method: str) -> None:
    # Values are counts per area of the central pixel; over so small a field a tangent plane's area varies by 2e-7.
    wcs, image = tan_wcs((200, 260), scale_arcsec=0.5), noise((200, 260), 1)
    settings = load_settings(assignments=[f"stack.method={method}"])
    made = zemosaic.coadd(pieces_of(image, wcs), wcs, settings=settings)
    assert np.isfinite(made.data).all()
    assert np.abs(made.data / image - 1).max() < 1e-6
    assert made.coverage.max() == 5
    if method != "minmax":
        assert not made.rejected.any()


def test_headers_serve_where_a_wcs_does(tmp_path: Path) -> None:
    """As reproject takes them: for the inputs and for the grid; and one path is one input."""
    wcs, image = tan_wcs((60, 80)), noise((60, 80), 1)
    header = fits.PrimaryHDU(image, wcs.to_header()).header
    plain = zemosaic.coadd([(image, wcs)], wcs)
    for made in (
        zemosaic.coadd([(image, header)], header),
        zemosaic.coadd([(image, header)], wcs.to_header(), (60, 80)),
    ):
        assert np.array_equal(made.data, plain.data, equal_nan=True)
    path = write_frame(tmp_path / "a.fits", image, wcs)
    assert np.array_equal(zemosaic.coadd(path, header).data, zemosaic.coadd([path], wcs).data, equal_nan=True)
    assert zemosaic.build(str(path), tmp_path / "out")["mosaic"].is_file()
    with pytest.raises(SettingError, match="not of type str"):
        zemosaic.coadd([(image, wcs)], "grid.hdr")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="shape_out"):
        zemosaic.coadd([(image, wcs)], wcs.to_header())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_constant_sky_stays_constant(kernel: str) -> None:
    """Turned, shifted frames of any noise, through any kernel; values are counts, so the area law acts too."""
    grid = tan_wcs((150, 190))
    frames = []
    for k in range(5):
        shape = (120, 140)
        wcs = tan_wcs(shape, 150 + 0.004 * k, 30 - 0.003 * k, scale_arcsec=2.0 + 0.1 * k, rotation_deg=31.0 * k)
        area = CelestialWcs(wcs, shape).pixel_area_deg2(*np.meshgrid(np.arange(140.0), np.arange(120.0)))
        frames.append(((1000.0 * area / area[60, 70] * (1 + 0.05 * k) ** 2).astype(np.float32), wcs))
    settings = load_settings(assignments=[f"warp.kernel={kernel}"])
    made = zemosaic.coadd(frames, grid, settings=settings)
    seen = np.isfinite(made.data)
    assert seen.sum() > 10_000
    # Coordinates are exact to 0.01 px only, and the area's polynomial to 1e-6; float32 leaves 1e-7.
    assert np.abs(made.data[seen] / 1000 - 1).max() < 2e-5


def test_alike_frames_of_unlike_noise_keep_the_level() -> None:
    wcs = tan_wcs((100, 120))
    frames = [(noise((100, 120), k, sigma=s, level=500.0), wcs) for k, s in enumerate((1.0, 3.0, 20.0))]
    made = zemosaic.coadd(frames, wcs, settings=load_settings(assignments=["stack.method=mean", "warp.taper_px=0"]))
    weights = np.array([1, 1 / 9, 1 / 400])
    assert made.data.mean() == pytest.approx(500, abs=0.05)
    assert made.data.std() == pytest.approx(weights.sum() ** -0.5, rel=0.05)
    assert np.median(made.variance) == pytest.approx(1 / weights.sum(), rel=0.1)


# --- simulated frames, true corrections ---------------------------------------------------------------------------


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
        data, weight, variance, coverage, rejected, exposure = (hdu.data for hdu in hdus)
    assert np.array_equal(np.isnan(data), weight == 0)
    assert np.array_equal(np.isnan(data), np.isnan(variance))
    assert np.all(coverage[weight > 0] > 0)
    assert np.all(rejected <= coverage)
    kept = coverage - rejected
    # Every frame was exposed for 10 s.
    assert np.allclose(exposure, 10.0 * kept, rtol=1e-5)
    assert coverage.max() >= 6


# --- one answer on every path -------------------------------------------------------------------------------------


def test_workers_memory_and_store_do_not_change_a_byte(
    capfd: Capture, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli(capfd, "build", small_set, "-o", tmp_path / "a", "--workers", 2).code == 0
    # What is left for patches: the process and an eighth of the cap for the reader's cache are taken off.
    caps = [int((resident_bytes() + mb * 2**20) * 8 / 7) for mb in (30, 12)]
    patch_px = [report_of(tmp_path / "a")["mosaic"]["patch_px"]]
    for name, cap, workers in (("b", caps[0], 1), ("c", caps[1], 2)):
        ran = run_cli(capfd, "build", small_set, "-o", tmp_path / name, "--workers", workers, "--ram", cap)
        assert ran.code == 0
        patch_px.append(report_of(tmp_path / name)["mosaic"]["patch_px"])
    assert patch_px[0] > patch_px[1] > patch_px[2]
    monkeypatch.setattr("zemosaic.pipelines.patches.tasks.measure_frame", None)  # the store knows all measurements
    assert run_cli(capfd, "build", small_set, "-o", tmp_path / "a").code == 0
    for file in ("mosaic.fits", "match.ecsv", "preview.png"):
        assert len({digest_of(tmp_path / name / file) for name in "abc"}) == 1, file


def report_of(out: Path) -> dict[str, dict[str, int]]:
    import json

    found: dict[str, dict[str, int]] = json.loads((out / "report.json").read_text())
    return found


def test_the_order_of_inputs_does_not_change_a_byte(small_set: Path) -> None:
    paths = sorted(small_set.glob("*.fits"))[:5]
    one, two = zemosaic.coadd(paths), zemosaic.coadd(reversed(paths))
    assert np.array_equal(one.data, two.data, equal_nan=True)


# --- what the files say is obeyed ---------------------------------------------------------------------------------


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
    one, two = (digest_of(tmp_path / name / "mosaic.fits") for name in ("head", "fits"))
    assert one == two


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


# --- fluxes whatever the scale ------------------------------------------------------------------------------


def aperture_fluxes(image: F8, x: F8, y: F8, radius: float) -> F8:
    """Sums over generous apertures of an image without background."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([image[np.hypot(rows - b, columns - a) < radius].sum() for a, b in zip(x, y, strict=True)])


def starry_frames(grid: WCS, scales: Sequence[float], turns: Sequence[float]) -> tuple[list[Piece], F8, F8, F8]:
    gx, gy = (v.ravel().astype(float) for v in np.meshgrid([60.3, 130.8, 199.1], [50.6, 110.2, 170.9]))
    ra, dec = grid.pixel_to_world_values(gx, gy)
    flux = np.linspace(20_000, 90_000, 9)
    frames = []
    for k, (scale, turn) in enumerate(zip(scales, turns, strict=True)):
        side = int(640 / scale)
        wcs = tan_wcs((side, side), 150.0005, 29.9993, scale_arcsec=scale, rotation_deg=turn)
        image = draw_stars(wcs, (side, side), ra, dec, flux, fwhm_arcsec=9.0)
        # Just enough noise to weigh the frames by; its sky is the same in surface brightness.
        image += np.random.default_rng(k).normal(0, 0.05 * scale**2, image.shape)
        frames.append((image.astype(np.float32), wcs))
    return frames, gx, gy, flux


def test_a_star_keeps_its_flux_whatever_the_scale_of_its_frames() -> None:
    """Half of the frames at 1.6 times the scale (R-23)."""
    grid = tan_wcs((220, 260), scale_arcsec=2.0)
    scales, turns = [2.0, 2.0, 2.0, 3.2, 3.2, 3.2], [0.0, 40.0, 100.0, 10.0, 65.0, 200.0]
    frames, x, y, flux = starry_frames(grid, scales, turns)
    for part in (frames[:3], frames[3:], frames):
        made = zemosaic.coadd(part, grid)
        seen = aperture_fluxes(np.nan_to_num(made.data), x, y, 16.0)
        assert np.abs(seen / flux - 1).max() < 1e-3


def test_a_coarser_grid_keeps_fluxes_too() -> None:
    fine = tan_wcs((220, 260), scale_arcsec=2.0)
    frames, *_ = starry_frames(fine, [2.0, 2.0, 2.0], [0.0, 40.0, 100.0])
    grid = tan_wcs((120, 140), scale_arcsec=4.0)
    x, y = grid.world_to_pixel_values(*fine.pixel_to_world_values([60.3, 130.8, 199.1], [50.6, 110.2, 170.9]))
    settings = load_settings(assignments=["warp.kernel=area"])
    made = zemosaic.coadd(frames, grid, settings=settings)
    seen = aperture_fluxes(np.nan_to_num(made.data), x, y, 9.0)
    assert seen == pytest.approx([20_000, 55_000, 90_000], rel=2e-3)


# --- the Python door ----------------------------------------------------------------------------------------------


def test_all_kinds_of_inputs_give_the_same(tmp_path: Path) -> None:
    shape, frames = (80, 100), []
    for k in range(3):
        image = noise(shape, k)
        image[10:12, 10:30] = np.nan
        frames.append((image, tan_wcs(shape, ra_deg=150 + 0.006 * k)))
    paths = [write_frame(tmp_path / f"{k}.fits", image, wcs) for k, (image, wcs) in enumerate(frames)]
    grid = tan_wcs((120, 160))
    results = {
        "paths": zemosaic.coadd(paths, grid),
        "texts": zemosaic.coadd(map(str, paths), grid),
        "a folder": zemosaic.coadd([tmp_path], grid),
        "pairs": zemosaic.coadd(frames, grid),
        "doubles": zemosaic.coadd([(image.astype(float), wcs) for image, wcs in frames], grid),
        "HDUs": zemosaic.coadd([fits.ImageHDU(image, wcs.to_header()) for image, wcs in frames], grid),
        "HDU lists": zemosaic.coadd(
            [fits.HDUList([fits.PrimaryHDU(image, wcs.to_header())]) for image, wcs in frames], grid
        ),
        "NDData": zemosaic.coadd([NDData(image, wcs=wcs) for image, wcs in frames], grid),
        "CCDData": zemosaic.coadd(
            [CCDData(np.nan_to_num(i), wcs=w, mask=np.isnan(i), unit="adu") for i, w in frames], grid
        ),
        "shape": zemosaic.coadd(frames, WCS(grid.to_header()), shape_out=(120, 160)),
    }
    first = results.pop("paths")
    assert np.isfinite(first.data).sum() > 9_000
    for name, other in results.items():
        # Ids order the sum: another order may change the last bit.
        assert np.allclose(other.data, first.data, rtol=3e-7, atol=0, equal_nan=True), name
        assert np.array_equal(other.coverage, first.coverage), name


def test_uncertainties_weigh_within_a_frame() -> None:
    shape, wcs = (80, 100), tan_wcs((80, 100))
    error = np.where(np.arange(100) < 50, 10.0, 30.0) * np.ones(shape)
    image = noise(shape, 1, sigma=1.0) * error
    settings = load_settings(assignments=["stack.method=mean", "warp.taper_px=0"])
    made = zemosaic.coadd([NDData(image, wcs=wcs, uncertainty=StdDevUncertainty(error))], wcs, settings=settings)
    assert np.median(made.weight[:, :45]) == pytest.approx(9 * np.median(made.weight[:, 55:]), rel=1e-4)


def test_inputs_are_not_changed() -> None:
    frames = pieces_of(noise((200, 260), 3), tan_wcs((200, 260)))
    before = [image.copy() for image, _ in frames]
    for image, _ in frames:
        image.flags.writeable = False
    zemosaic.coadd(frames, match=True)
    assert all(np.array_equal(image, old) for (image, _), old in zip(frames, before, strict=True))


def test_a_plan_of_the_grid_comes_with_the_result(small_set: Path) -> None:
    made = zemosaic.coadd([small_set])
    assert made.wcs.array_shape == made.data.shape
    assert made.data.dtype == made.weight.dtype == made.variance.dtype == np.float32
    assert made.coverage.dtype.kind == made.rejected.dtype.kind == "i"
    assert made.left_out == ()


def test_what_cannot_be_an_input_is_said() -> None:
    with pytest.raises(SettingError, match="type int is not a path"):
        zemosaic.coadd([3])
    with pytest.raises(NothingToDo, match="no inputs"):
        zemosaic.coadd([])
    with pytest.raises(SettingError, match="no WCS"):
        zemosaic.coadd([NDData(np.zeros((5, 5)))])
    with pytest.raises(SettingError, match="shape_out"):
        zemosaic.coadd([(noise((50, 50), 1), tan_wcs((50, 50)))], WCS(tan_wcs((50, 50)).to_header()))


def test_bad_arrays_are_left_out_with_their_reason() -> None:
    good = [(noise((60, 60), k), tan_wcs((60, 60))) for k in range(2)]
    made = zemosaic.coadd([*good, (np.full((60, 60), np.nan), tan_wcs((60, 60)))])
    assert [reason for _, reason in made.left_out] == ["no pixel has weight"]
    assert made.coverage.max() == 2


@pytest.mark.parametrize("size", [1e-18, 1e-21])
def test_values_of_absurd_size_are_said(size: float) -> None:
    """Weights are inverse variances in single precision."""
    frames = [((noise((60, 60), k) * size).astype(np.float32), tan_wcs((60, 60))) for k in range(2)]
    events: list[object] = []
    with pytest.raises(NothingToDo, match="no image reaches"):
        zemosaic.coadd(frames, on_event=events.append)
    assert any("multiply the values" in str(event) for event in events)
    made = zemosaic.coadd([(image / np.float32(size), wcs) for image, wcs in frames])
    assert np.isfinite(made.data).any()


def test_build_of_the_python_door_writes_files(small_set: Path, tmp_path: Path) -> None:
    seen: list[object] = []
    paths = zemosaic.build([small_set], tmp_path, on_event=seen.append)
    assert set(paths) == {"mosaic", "preview", "frames", "match", "report"}
    assert all(path.is_file() for path in paths.values())
    assert seen


# --- beside reproject ---------------------------------------------------------------------------------------------


def smooth_sky(wcs: WCS, shape: tuple[int, int]) -> F4:
    """A well-sampled sky as surface brightness times pixel area of a 2 arcsec pixel."""
    ra, dec = wcs.pixel_to_world_values(*np.meshgrid(np.arange(shape[1]), np.arange(shape[0])))
    u, v = (ra - 150) * 3600 / 30, (dec - 30) * 3600 / 30
    return (1000 + 200 * np.sin(u) * np.cos(0.8 * v)).astype(np.float32)


def turned_frames() -> list[Piece]:
    frames = []
    for k in range(4):
        wcs = tan_wcs((110, 130), 150 + 0.01 * (k % 2), 30 + 0.01 * (k // 2), rotation_deg=8.0 * k)
        frames.append((smooth_sky(wcs, (110, 130)), wcs))
    return frames


@pytest.mark.parametrize(
    ("kernel", "theirs"),
    [
        ("nearest", lambda f, w, s: reproject_interp(f, w, s, order="nearest-neighbor")),
        ("bilinear", lambda f, w, s: reproject_interp(f, w, s, order="bilinear")),
        ("area", reproject_exact),
    ],
)
def test_one_frame_is_warped_as_reproject_does(kernel: str, theirs: object) -> None:
    (frame, grid) = turned_frames()[1], tan_wcs((150, 170))
    settings = load_settings(assignments=[f"warp.kernel={kernel}"])
    made = zemosaic.coadd([frame], grid, settings=settings)
    assert callable(theirs)
    other, _ = theirs(frame, grid, (150, 170))
    both = np.isfinite(made.data) & np.isfinite(other)
    assert both.sum() > 10_000
    difference = np.abs(made.data - other)[both]
    if kernel == "nearest":
        # Positions half way between two pixels may go either way.
        assert np.mean(difference > 0.1) < 1e-3
    else:
        assert difference.max() < 0.02


def test_the_mean_mosaic_is_that_of_reproject() -> None:
    frames, grid = turned_frames(), tan_wcs((150, 170))
    settings = load_settings(assignments=["stack.method=mean", "warp.kernel=bilinear", "warp.taper_px=0"])
    made = zemosaic.coadd(frames, grid, settings=settings)
    other, footprint = reproject_and_coadd(
        frames, grid, shape_out=(150, 170), reproject_function=reproject_interp, order="bilinear"
    )
    same = np.isfinite(made.data) & (footprint == made.coverage)
    assert same.sum() > 15_000
    assert np.abs(made.data - other)[same].max() < 0.02


def test_lanczos_keeps_sharp_stars_that_bilinear_blurs() -> None:
    grid, shape = tan_wcs((120, 120)), (110, 110)
    ra, dec = grid.pixel_to_world_values([40.3, 80.6], [60.2, 50.7])
    flux = np.array([50_000.0, 50_000.0])
    frames = []
    for k in range(4):
        wcs = tan_wcs(shape, 150 + 0.0002 * k, 30 + 0.0001 * k, rotation_deg=8.0 * k)
        frames.append((draw_stars(wcs, shape, ra, dec, flux, 5.2).astype(np.float32) + noise(shape, k, 1.0, 0.0), wcs))
    sky = draw_stars(grid, (120, 120), ra, dec, flux, fwhm_arcsec=5.2)
    worst = {}
    for kernel in ("bilinear", "lanczos3"):
        made = zemosaic.coadd(frames, grid, settings=load_settings(assignments=[f"warp.kernel={kernel}"]))
        worst[kernel] = np.nanmax(np.abs(made.data - sky)) / sky.max()
    assert worst["lanczos3"] < 0.02
    assert worst["bilinear"] > 0.05


def test_simulated_frames_at_two_scales_share_one_flux_scale(tmp_path: Path) -> None:
    """Every third frame at 1.6 times the scale, matched: no step where coarse and fine frames meet."""
    recipe = FrameRecipe(shape=(300, 400), coarse_scale=1.6, trail_fraction=0.0)
    simulate_frames(tmp_path / "set", SimulatedSky(5, size_deg=0.45, stars_per_deg2=8000), 9, recipe)
    paths = zemosaic.build([tmp_path / "set"], tmp_path / "out", settings=load_settings())
    score = score_mosaic(tmp_path / "set", paths["mosaic"])
    assert score["star_mmag"] < 15
    assert score["seam_sigma"] < 0.15


def test_filters_that_look_alike_in_file_names_stay_apart(tmp_path: Path) -> None:
    for k, name in enumerate(("Ha", "HA", "H/a", "H a")):
        write_frame(tmp_path / f"{k}.fits", noise((90, 100), k, level=100.0 * k), tan_wcs((90, 100)), FILTER=name)
    paths = zemosaic.build([tmp_path], tmp_path / "out", settings=load_settings(assignments=["match.method=none"]))
    mosaics = {path.name.casefold(): path for name, path in paths.items() if name.startswith("mosaic")}
    assert len(mosaics) == 4
    found = {fits.getheader(p)["FILTER"]: float(np.nanmedian(fits.getdata(p))) for p in mosaics.values()}
    assert {name: round(level, -1) for name, level in found.items()} == {"Ha": 0, "HA": 100, "H/a": 200, "H a": 300}
