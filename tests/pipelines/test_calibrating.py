"""Darks, biases and flats through the command line: the formula, what is chosen, what is said, what stays untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from frame_cases import vary_frame
from mosaic_cases import digests_of, run_cli, tan_wcs, write_frame
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.pipelines.calibration.calibrated_source import CalibratedSource, Correction
from zemosaic.pipelines.calibration.calibrating import calibrate_frames
from zemosaic.pipelines.run.context import start_run
from zemosaic.settings import CalibrateSettings, InputSettings
from zemosaic.simulate import read_truth
from zemosaic.stages.match.match import MatchSolution, match

Capture = pytest.CaptureFixture[str]

SHAPE = (60, 80)
CARDS = {"INSTRUME": "cam", "GAIN": 80, "EXPTIME": 10.0}
PLAIN = ("--set", "warp.kernel=nearest", "--set", "warp.taper_px=0", "--set", "stack.method=mean")


def response() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flat = 1.2 - ((y / SHAPE[0] - 0.5) ** 2 + (x / SHAPE[1] - 0.5) ** 2)
    return np.asarray(flat / np.median(flat), np.float32)


def dark_current() -> np.ndarray:
    return np.asarray(np.random.default_rng(1).exponential(20, SHAPE) + 300, np.float32)


@pytest.fixture
def light(tmp_path: Path) -> np.ndarray:
    """One frame in a folder of its own: its raw values."""
    raw = np.rint(np.random.default_rng(2).normal(2000, 30, SHAPE) * response() + dark_current())
    (tmp_path / "lights").mkdir()
    write_frame(tmp_path / "lights/light.fits", raw.astype(np.uint16), tan_wcs(SHAPE), **CARDS)
    return raw.astype(np.float32)


def write_many(folder: Path, level: np.ndarray, n: int, sigma: float, seed: int, **cards: object) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for k in range(n):
        write_frame(folder / f"{k}.fits", rng.normal(level, sigma).astype(np.float32), None, **{**CARDS, **cards})
    return folder


def coadd(capfd: Capture, tmp_path: Path, *options: object, code: int = 0) -> str:
    """What a coadd of the light says; its mosaic lies on the frame's own grid."""
    inputs, out, grid = tmp_path / "lights", tmp_path / "out", tmp_path / "lights/light.fits"
    ran = run_cli(capfd, "coadd", inputs, "-o", out, "--header", grid, *PLAIN, *options)
    assert ran.code == code, ran.err
    return ran.err


def test_masters_reproduce_the_formula(capfd: Capture, tmp_path: Path, light: np.ndarray) -> None:
    dark, flat = dark_current(), response()
    write_frame(tmp_path / "dark.fits", dark, None, NCOMBINE=20, **CARDS)
    write_frame(tmp_path / "flat.fits", 30000 * flat, None, NCOMBINE=20, **CARDS)
    before = digests_of(tmp_path / "lights")
    said = coadd(capfd, tmp_path, "--darks", tmp_path / "dark.fits", "--flats", tmp_path / "flat.fits")
    assert "1 frames of 1; masters: 1 of darks, 1 of flats" in said
    expected = (light.astype(float) - dark) / flat
    mosaic = fits.getdata(tmp_path / "out/mosaic.fits")
    np.testing.assert_allclose(mosaic, expected, rtol=1e-5)
    weight = fits.getdata(tmp_path / "out/mosaic.fits", "WHT")
    np.testing.assert_allclose(weight / weight.max(), flat / flat.max(), rtol=1e-4)
    assert digests_of(tmp_path / "lights") == before
    # The settings that were written do the same.
    again = run_cli(
        capfd, "coadd", tmp_path / "lights", "-o", tmp_path / "b", "--config", tmp_path / "out/settings.toml"
    )
    assert again.code == 0
    assert (tmp_path / "b/mosaic.fits").read_bytes() == (tmp_path / "out/mosaic.fits").read_bytes()


def test_raw_darks_flats_and_biases_beside_the_lights_are_found(
    capfd: Capture, tmp_path: Path, light: np.ndarray
) -> None:
    """As a folder tree of another stacker has them, by their folders' names and by their image type."""
    dark, flat = dark_current(), response()
    write_many(tmp_path / "lights/darks", dark, 8, 3, 1)
    write_many(tmp_path / "lights/more", np.full(SHAPE, 300.0), 8, 3, 2, IMAGETYP="Bias", EXPTIME=0.0)
    write_many(tmp_path / "lights/flats", 300 + 20000 * flat, 8, 20, 3, EXPTIME=2.0)
    said = coadd(capfd, tmp_path)
    assert "1 frames, 24 calibration frames" in said
    assert "masters: 1 of darks, 1 of biases, 1 of flats" in said
    assert "warning" not in said
    mosaic = fits.getdata(tmp_path / "out/mosaic.fits")
    difference = mosaic - (light.astype(float) - dark) / flat
    assert np.nanstd(difference) < 3
    assert abs(np.nanmean(difference)) < 1  # the median of a noisy flat is good to some 3e-4
    # Stored masters and a smaller cap give the same bytes; none switches them off.
    first = (tmp_path / "out/mosaic.fits").read_bytes()
    coadd(capfd, tmp_path, "--workers", 1)
    assert (tmp_path / "out/mosaic.fits").read_bytes() == first
    assert "vignetting is corrected too little (8 frames)" in coadd(capfd, tmp_path, "--biases", "none")
    said = coadd(capfd, tmp_path, "--darks", "none", "--biases", "none", "--flats", "none")
    assert "masters" not in said
    np.testing.assert_allclose(fits.getdata(tmp_path / "out/mosaic.fits"), light, rtol=1e-5)


def test_what_was_calibrated_before_is_so_again_only_on_request(
    capfd: Capture, tmp_path: Path, light: np.ndarray
) -> None:
    """Fractional values come from a program; darks that merely lie beside them are theirs no more."""
    (tmp_path / "lights/light.fits").unlink()
    write_frame(tmp_path / "lights/light.fits", light + np.float32(0.5), tan_wcs(SHAPE), **CARDS)
    write_many(tmp_path / "lights/darks", dark_current(), 1, 0, 1)
    said = coadd(capfd, tmp_path)
    assert "darks found among the inputs are not used on stacks or fractional values; --darks would (1 frames)" in said
    np.testing.assert_allclose(fits.getdata(tmp_path / "out/mosaic.fits"), light + 0.5, rtol=1e-5)
    coadd(capfd, tmp_path, "--darks", tmp_path / "lights/darks")
    expected = light + 0.5 - dark_current()
    np.testing.assert_allclose(fits.getdata(tmp_path / "out/mosaic.fits"), expected, rtol=1e-5)


def test_a_dark_of_another_exposure_is_scaled_over_the_bias(capfd: Capture, tmp_path: Path, light: np.ndarray) -> None:
    current = dark_current() - 300
    write_frame(tmp_path / "dark.fits", 300 + 2 * current, None, NCOMBINE=9, **{**CARDS, "EXPTIME": 20.0})
    write_frame(tmp_path / "bias.fits", np.full(SHAPE, 300, np.float32), None, NCOMBINE=9, **CARDS)
    said = coadd(capfd, tmp_path, "--darks", tmp_path / "dark.fits", "--biases", tmp_path / "bias.fits")
    assert "warning: dark: exposure 20 s, the frame has 10 s (1 frames)" in said
    np.testing.assert_allclose(fits.getdata(tmp_path / "out/mosaic.fits"), light - dark_current(), rtol=1e-5)


def test_the_dark_that_fits_is_chosen(capfd: Capture, tmp_path: Path, light: np.ndarray) -> None:
    write_many(tmp_path / "darks/a", dark_current(), 1, 0, 1)
    write_many(tmp_path / "darks/b", dark_current() + 77, 1, 0, 1, GAIN=120)
    write_many(tmp_path / "darks/c", dark_current() + 99, 1, 0, 1, EXPTIME=30.0)
    said = coadd(capfd, tmp_path, "--darks", tmp_path / "darks")
    assert "warning" not in said
    np.testing.assert_allclose(fits.getdata(tmp_path / "out/mosaic.fits"), light - dark_current(), rtol=1e-5)


@pytest.mark.parametrize("given", [True, False])
def test_a_dark_of_the_wrong_size_is_one_clear_line(
    capfd: Capture, tmp_path: Path, light: np.ndarray, given: bool
) -> None:
    folder = tmp_path / ("elsewhere" if given else "lights/darks")
    write_many(folder, np.full((50, 70), 300.0), 2, 3, 1)
    said = coadd(capfd, tmp_path, *(("--darks", folder) if given else ()), code=2 if given else 0)
    lines = [line for line in said.splitlines() if "no dark fits" in line]
    assert len(lines) == 1
    assert "have 70 x 50 pixels, the frames 80 x 60" in lines[0]
    assert ("calibrate.darks=none" in lines[0]) == given
    assert (tmp_path / "out/mosaic.fits").exists() != given


def test_what_cannot_be_used_is_said(capfd: Capture, tmp_path: Path, light: np.ndarray) -> None:
    flats = write_many(tmp_path / "flats", np.full(SHAPE, 1e4), 2, 3, 1, IMAGETYP="Flat")
    (tmp_path / "notes.txt").write_text("no picture")
    for options, reason in (
        (("--darks", flats), "no dark in"),
        (("--darks", tmp_path / "absent"), "absent does not exist"),
        (("--flats", tmp_path / "notes.txt"), "no flat in"),
        (("--set", f"calibrate.bad_pixels={tmp_path / 'notes.txt'}"), "not a FITS file"),
    ):
        assert reason in coadd(capfd, tmp_path, *options, code=2).splitlines()[-1]
    said = coadd(capfd, tmp_path, "--flats", flats)
    assert "raw flats without a bias" in said
    assert "neither dark nor bias" in said


def test_bad_pixels_get_no_weight(capfd: Capture, tmp_path: Path, light: np.ndarray) -> None:
    bad = np.zeros(SHAPE, np.uint8)
    bad[20, 30], dark = 1, dark_current()
    dark[40, 50] = 30000
    write_frame(tmp_path / "bad.fits", bad, None)
    write_frame(tmp_path / "dark.fits", dark, None, NCOMBINE=9, **CARDS)
    coadd(capfd, tmp_path, "--darks", tmp_path / "dark.fits", "--set", f"calibrate.bad_pixels={tmp_path / 'bad.fits'}")
    mosaic = fits.getdata(tmp_path / "out/mosaic.fits")
    assert {(20, 30), (40, 50)} <= {tuple(p) for p in np.argwhere(np.isnan(mosaic)).tolist()}
    assert np.isnan(mosaic).sum() < 20


def test_the_share_of_read_noise_is_measured(tmp_path: Path, light: np.ndarray) -> None:
    """Sky noise of 30 with read noise of 15: a quarter of the variance does not fade with the flat."""
    frame = vary_frame(scan([tmp_path / "lights"], InputSettings()).frames[0], calibration="c")
    flat = response()
    source = CalibratedSource(FrameReader(), {"c": Correction(flat=flat, read_variance=225.0)})
    _, weight = source.read_window(frame, Box(10, 20, 5, 80))
    part = flat[10:20, 5:80]
    share = 225 / 900
    np.testing.assert_allclose(weight[0], part**2 / (share + (1 - share) * part), rtol=0.05)
    whole = source.read_window(frame, Box.of_shape(SHAPE))[1]
    np.testing.assert_array_equal(whole[0, 10:20, 5:80], weight[0])


def test_raw_colour_frames_come_out_as_if_dark_and_vignetting_had_never_been(
    capfd: Capture, raw_set: Path, tmp_path: Path
) -> None:
    """A sensor with a pattern of its own, 40 % less light in the corners, flats of a lamp that is not white."""
    rng, shape = np.random.default_rng(7), (600, 900)
    y, x = np.mgrid[: shape[0], : shape[1]]
    flat = 1 - 0.8 * ((y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.5) ** 2)
    dark = 40 + 0.2 * x + 20 * rng.exponential(size=shape)
    lamp = np.where((y + x) % 2 == 0, 20000, np.where(y % 2 == 0, 30000, 9000))  # GRBG
    for folder in ("plain", "lights"):
        (tmp_path / folder).mkdir()
    for exposure in read_truth(raw_set).exposures:
        with fits.open(raw_set / exposure.name) as hdus:
            hdus[0].header.update(exposure.celestial.wcs.to_header())
            hdus.writeto(tmp_path / "plain" / exposure.name)
            spoiled = np.rint(hdus[0].data.astype(float) * flat + dark)
            hdus[0].data = np.clip(spoiled, 0, 65535).astype(np.uint16)
            hdus.writeto(tmp_path / "lights" / exposure.name)
            cards = {"BAYERPAT": "GRBG", "EXPTIME": 10.0, "INSTRUME": hdus[0].header.get("INSTRUME", "")}
    write_many(tmp_path / "lights/darks", np.rint(dark), 6, 14, 1, **cards)
    write_many(tmp_path / "lights/flats", np.rint(dark + lamp * flat), 6, 60, 2, **cards)
    options = ("--set", "output.preview=false", "--set", "stack.method=mean", "--header")
    grid = tmp_path / "plain" / exposure.name
    for folder in ("plain", "lights"):
        ran = run_cli(capfd, "coadd", tmp_path / folder, "-o", tmp_path / f"out/{folder}", *options, grid)
        assert ran.code == 0
    assert "4 frames of 4; masters: 1 of darks, 1 of flats" in ran.err
    plain, found = (fits.getdata(tmp_path / f"out/{folder}/mosaic.fits") for folder in ("plain", "lights"))
    for c in range(3):
        # The flat is 1 at its median, not in the middle: one factor for all.
        ratio = np.nanmedian(found[c] / plain[c])
        assert ratio == pytest.approx(np.median(flat), rel=2e-3)
        blocks = [
            np.nanmedian(part)
            for row in np.array_split(found[c] / ratio - plain[c], 6)
            for part in np.array_split(row, 9, axis=1)
        ]
        # Frames of unlike sky are mixed by their weights, which follow the flat; uncalibrated, corners are 40 % off.
        assert np.abs(blocks).max() < 0.005 * np.nanmedian(plain[c])


def test_what_a_flat_has_taken_out_is_not_solved_for(
    capfd: Capture, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = write_frame(tmp_path / "flat.fits", np.full((300, 400), 2e4, np.float32), None, NCOMBINE=9)
    asked = []

    def spy(*arguments: object, **options: object) -> MatchSolution:
        asked.append(arguments[4].cameras is not None)
        return match(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("zemosaic.pipelines.corrections.match_frames.match", spy)
    for name, options in (("raw", ()), ("flat", ("--flats", flat))):
        assert run_cli(capfd, "match", small_set, "-o", tmp_path / name, *options).code == 0
    assert asked == [True, False]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_flat_has_colours_for_frames_that_have_whichever_come_first(tmp_path: Path, order: tuple[int, int]) -> None:
    """A lamp's colour, which a flat's own header does not tell, is no part of the flat of a Bayer frame."""
    colour = np.tile([[1.0, 1.5], [1.5, 0.8]], (SHAPE[0] // 2, SHAPE[1] // 2))
    write_many(tmp_path / "flats", 20000 * colour, 8, 20, 3)
    for name, more in (("0", {}), ("1", {"BAYERPAT": "RGGB"})):
        raw = np.full(SHAPE, 2000 + int(name), np.uint16)
        write_frame(tmp_path / f"{name}.fits", raw, tan_wcs(SHAPE), **CARDS, **more)
    frames = [scan([tmp_path / f"{k}.fits"], InputSettings()).frames[0] for k in order]
    wanted = CalibrateSettings(flats=str(tmp_path / "flats"))
    done = calibrate_frames(frames, [], FrameReader(0), wanted, start_run())
    levels = {}
    for frame in done.frames:
        data, _ = done.source.read_window(frame, Box.of_shape(SHAPE))
        levels[frame.storage.bayer] = np.array([data[0, j::2, i::2].mean() for j in (0, 1) for i in (0, 1)])
    np.testing.assert_allclose(levels["RGGB"], 2001, rtol=2e-3)
    np.testing.assert_allclose(levels[None], 2000 / (colour[:2, :2].ravel() / np.median(colour)), rtol=2e-3)


def test_a_whole_frame_is_read_once_to_be_calibrated(tmp_path: Path) -> None:
    """The rows that tell the share of read noise are taken from the window, where it holds them."""
    raw = np.random.default_rng(5).normal(1000, 30, SHAPE)
    write_frame(tmp_path / "light.fits", raw.astype(np.uint16), tan_wcs(SHAPE), **CARDS)
    (frame,) = scan([tmp_path / "light.fits"], InputSettings()).frames
    frame, reader = vary_frame(frame, calibration="known"), FrameReader(0)
    correction = Correction(dark_current(), response(), None, 25.0)
    whole = CalibratedSource(reader, {"known": correction}).read_window(frame, Box.of_shape(SHAPE))
    assert reader.n_bytes_read == 2 * raw.size
    part = CalibratedSource(reader, {"known": correction}).read_window(frame, Box(10, 30, 0, 50))
    for one, other in zip(whole, part, strict=True):
        assert np.array_equal(one[:, 10:30, :50], other)


def test_a_flat_that_cannot_be_read_is_left_out_once_for_all_frames(tmp_path: Path) -> None:
    """Frames with and without colours have flats of their own, made of the same files."""
    for name, cards in (("colour", {"BAYERPAT": "GRBG"}), ("mono", {})):
        raw = np.random.default_rng(len(name)).normal(2000, 30, SHAPE).astype(np.uint16)
        write_frame(tmp_path / f"{name}.fits", raw, tan_wcs(SHAPE), **CARDS, **cards)
    write_many(tmp_path / "flats", 20000 * response(), 3, 50, 1)
    found = scan([tmp_path], InputSettings())
    broken = tmp_path / "flats/0.fits"
    broken.unlink()
    done = calibrate_frames(found.frames, found.calibration, FrameReader(), CalibrateSettings(), start_run())
    assert [out.path for out in done.left_out] == [str(broken)]
    assert len({frame.decided.calibration for frame in done.frames}) == 2


def test_a_map_of_bad_pixels_counts_by_its_content(capfd: Capture, tmp_path: Path, light: np.ndarray) -> None:
    """The same file, one more bad pixel: what is stored of the frames before is not theirs."""
    bad = np.zeros(SHAPE, np.uint8)
    for pixel in ((20, 30), (40, 50)):
        bad[pixel] = 1
        fits.writeto(tmp_path / "bad.fits", bad, overwrite=True)
        coadd(capfd, tmp_path, "--set", f"calibrate.bad_pixels={tmp_path / 'bad.fits'}")
        mosaic = fits.getdata(tmp_path / "out/mosaic.fits")
        assert np.array_equal(np.isnan(mosaic), bad > 0)
