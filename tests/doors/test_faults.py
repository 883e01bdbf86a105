"""Bad input and a bad machine: one clear line, the documented exit code, the rest of the run done."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from mosaic_cases import digests_of, noise, partial_files, run_cli, tan_wcs, write_frame

Capture = pytest.CaptureFixture[str]
SHAPE = (160, 200)


def good_frames(folder: Path, n: int = 4) -> list[str]:
    """Plain overlapping frames that make a mosaic."""
    names = []
    for k in range(n):
        wcs = tan_wcs(SHAPE, ra_deg=150 + 0.02 * k)
        names.append(write_frame(folder / f"good_{k}.fits", noise(SHAPE, k), wcs, EXPTIME=10.0).name)
    return names


def text_file(path: Path) -> None:
    path.write_text("this is no picture\n" * 300)


def empty_file(path: Path) -> None:
    path.touch()


def cut_short(path: Path) -> None:
    write_frame(path, noise(SHAPE, 50), tan_wcs(SHAPE))
    path.write_bytes(path.read_bytes()[:-40_000])


def cut_in_the_header(path: Path) -> None:
    write_frame(path, noise(SHAPE, 51), tan_wcs(SHAPE))
    path.write_bytes(path.read_bytes()[:1500])


def without_wcs(path: Path) -> None:
    write_frame(path, noise(SHAPE, 52), None)


def all_nan(path: Path) -> None:
    write_frame(path, np.full(SHAPE, np.nan, np.float32), tan_wcs(SHAPE))


def zero_size(path: Path) -> None:
    write_frame(path, np.zeros((1, 1), np.float32), tan_wcs((1, 1)))
    card = b"NAXIS1  =                    "
    path.write_bytes(path.read_bytes().replace(card + b"1", card + b"0"))


def no_image(path: Path) -> None:
    fits.PrimaryHDU().writeto(path)


def one_axis(path: Path) -> None:
    fits.writeto(path, noise((500,), 53))


def four_axes(path: Path) -> None:
    write_frame(path, noise((2, 3, 40, 50), 54), tan_wcs((40, 50)))


def other_side_of_the_sky(path: Path) -> None:
    write_frame(path, noise(SHAPE, 55), tan_wcs(SHAPE, ra_deg=330.0, dec_deg=-30.0))


def one_value(path: Path) -> None:
    write_frame(path, np.full(SHAPE, 7.0, np.float32), tan_wcs(SHAPE))


def absurd_wcs(path: Path) -> None:
    write_frame(path, noise(SHAPE, 56), tan_wcs(SHAPE))
    with fits.open(path, mode="update") as hdus:
        for key in ("CDELT1", "CDELT2"):
            hdus[0].header[key] = 0.0


BAD = {
    text_file: "not a FITS file",
    empty_file: "the file is empty",
    cut_short: "truncated: the header promises 128000 bytes of data",
    cut_in_the_header: "no END card",
    without_wcs: "no WCS in the header",
    all_nan: "no pixel has weight",
    zero_size: "the image has no pixels (0 x 1)",
    no_image: "there is no image in it",
    one_axis: "1 axis longer than 1 (500)",
    four_axes: "4 axes longer than 1",
    other_side_of_the_sky: "deg from the other frames",
    one_value: "no noise",
    absurd_wcs: "WCS",
}


@pytest.mark.parametrize("command", ["build", "coadd"])
def test_bad_files_are_left_out_and_the_rest_is_done(capfd: Capture, tmp_path: Path, command: str) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    good = good_frames(frames)
    for make in BAD:
        make(frames / f"{make.__name__}.fits")
    before = digests_of(frames)
    ran = run_cli(capfd, command, frames, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert digests_of(frames) == before
    assert fits.getheader(tmp_path / "out/mosaic.fits")["NCOMBINE"] == len(good)
    told = [line for line in ran.err.splitlines() if "left out:" in line]
    assert len(told) == len(BAD)
    table = {row["name"]: row for row in Table.read(tmp_path / "out/frames.ecsv")}
    assert {name for name, row in table.items() if row["use"]} == set(good)
    for make, reason in BAD.items():
        name = f"{make.__name__}.fits"
        assert sum(name in line and reason in line for line in told) == 1, (name, told)
        assert reason in table[name]["reason"]
        assert table[name]["path"] == str(frames / name)


@pytest.mark.parametrize("make", list(BAD), ids=lambda make: make.__name__)
def test_nothing_but_bad_files_is_nothing_to_do(capfd: Capture, tmp_path: Path, make: object) -> None:
    if make is other_side_of_the_sky:
        pytest.skip("alone it is a good frame")
    frames = tmp_path / "frames"
    frames.mkdir()
    assert callable(make)
    make(frames / "bad.fits")
    before = digests_of(frames)
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out")
    assert ran.code == 3
    assert BAD[make] in ran.err
    assert ran.last_line.startswith("zemosaic: no")
    assert digests_of(frames) == before
    assert not list(tmp_path.glob("out/[!.]*"))
    assert partial_files(tmp_path / "out") == []


def test_an_empty_folder_is_nothing_to_do(capfd: Capture, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for command in ("build", "coadd", "match"):
        ran = run_cli(capfd, command, tmp_path / "frames", "-o", tmp_path / "out")
        assert ran.code == 3
        assert f"no usable image in {tmp_path / 'frames'}" in ran.last_line


@pytest.mark.parametrize(
    ("name", "cards", "options", "why"),
    [
        ("a.jpg", {}, [], ": no file has the name of a FITS (.fit .fits"),
        ("a.fits", {"IMAGETYP": "Dark Frame"}, [], ", but 1 calibration frames: name the frames of the sky too"),
        ("a.fits", {}, ["--set", "input.include=Light*"], ": no file is left by input.include = 'Light*'"),
    ],
)
def test_why_there_is_no_image_is_said(
    capfd: Capture, tmp_path: Path, name: str, cards: dict[str, str], options: list[str], why: str
) -> None:
    """The wrong folder is the commonest mistake."""
    (tmp_path / "in").mkdir()
    write_frame(tmp_path / "in" / "b.fits", noise(SHAPE, 1), tan_wcs(SHAPE), **cards).rename(tmp_path / "in" / name)
    ran = run_cli(capfd, "build", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert ran.code == 3
    assert f"no usable image in {tmp_path / 'in'}{why}" in ran.last_line
    assert "mode direct" not in ran.err


def test_a_folder_that_is_not_there_is_said(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", tmp_path / "frames", "-o", tmp_path / "out")
    assert ran.code == 3
    assert ran.last_line == f"zemosaic: {tmp_path / 'frames'} does not exist; plug its disk in, or correct the path"


def test_frames_that_miss_the_given_grid_are_nothing_to_do(capfd: Capture, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    good_frames(tmp_path / "frames", 2)
    options = ("--set", "grid.center=10,10", "--set", "grid.size_px=100,100")
    ran = run_cli(capfd, "build", tmp_path / "frames", "-o", tmp_path / "out", *options)
    assert ran.code in {2, 3}
    assert "shows none of the frames" in ran.last_line or "no frame reaches the output grid" in ran.last_line
    assert not list(tmp_path.glob("out/[!.]*"))


def test_one_filter_of_useless_frames_does_not_end_the_others(capfd: Capture, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for k in range(4):
        wcs = tan_wcs(SHAPE, ra_deg=150 + (0.02 * k if k < 3 else 5))
        write_frame(frames / f"{k}.fits", noise(SHAPE, k), wcs, FILTER="R" if k < 3 else "Ha")
    options = ("--set", "grid.center=150,30", "--set", "grid.size_px=300,300")
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out", *options)
    assert ran.code == 0
    assert "no mosaic of Ha: no frame reaches the output grid" in ran.err
    assert fits.getheader(tmp_path / "out/mosaic_R.fits")["NCOMBINE"] == 3
    assert not (tmp_path / "out/mosaic_Ha.fits").exists()
    assert len(Table.read(tmp_path / "out/frames.ecsv")) == 4


def test_frames_of_one_name_in_two_folders_keep_their_own_reasons(capfd: Capture, tmp_path: Path) -> None:
    for night in ("a", "b", "c"):
        (tmp_path / night).mkdir()
        good_frames(tmp_path / night, 2)
        for path in (tmp_path / night).glob("*.fits"):
            with fits.open(path, mode="update") as hdus:
                hdus[0].data += np.float32(ord(night))
    all_nan(tmp_path / "b/good_9.fits")
    write_frame(tmp_path / "c/good_9.fits", noise(SHAPE, 60), tan_wcs(SHAPE))
    ran = run_cli(capfd, "coadd", *(tmp_path / night for night in "abc"), "-o", tmp_path / "out")
    assert ran.code == 0
    rows = [row for row in Table.read(tmp_path / "out/frames.ecsv") if row["name"] == "good_9.fits"]
    told = {
        (Path(row["path"]).parent.name, bool(row["use"]), "" if row["reason"] is np.ma.masked else row["reason"])
        for row in rows
    }
    assert told == {("b", False, "no pixel has weight"), ("c", True, "")}


@pytest.mark.parametrize("place", ["a file", "inside a file", "/proc"])
def test_an_output_that_cannot_be_written_is_said(capfd: Capture, tmp_path: Path, place: str) -> None:
    (tmp_path / "frames").mkdir()
    good_frames(tmp_path / "frames", 2)
    before = digests_of(tmp_path / "frames")
    (tmp_path / "file").write_text("mine")
    out = {"a file": tmp_path / "file", "inside a file": tmp_path / "file/out", "/proc": Path("/proc/zemosaic")}[place]
    ran = run_cli(capfd, "build", tmp_path / "frames", "-o", out)
    assert ran.code == 4
    assert f"cannot write to {out}" in ran.last_line
    assert "-o" in ran.last_line
    assert (tmp_path / "file").read_text() == "mine"
    assert digests_of(tmp_path / "frames") == before


def test_a_mosaic_that_cannot_be_named_is_said(capfd: Capture, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    good_frames(tmp_path / "frames", 2)
    (tmp_path / "out/mosaic.fits").mkdir(parents=True)
    ran = run_cli(capfd, "build", tmp_path / "frames", "-o", tmp_path / "out")
    assert ran.code == 4
    assert "mosaic.fits" in ran.last_line


def test_a_full_disk_is_said(capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames").mkdir()
    good_frames(tmp_path / "frames", 2)
    full = shutil._ntuple_diskusage(10**9, 10**9, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    ran = run_cli(capfd, "build", tmp_path / "frames", "-o", tmp_path / "out")
    assert ran.code == 4
    assert "not enough space" in ran.last_line
    assert partial_files(tmp_path / "out") == [] or all("store" in str(p) for p in partial_files(tmp_path / "out"))
    assert not list(tmp_path.glob("out/[!.]*"))


def test_a_memory_cap_too_small_says_what_it_needs(capfd: Capture, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    good_frames(tmp_path / "frames", 2)
    ran = run_cli(capfd, "build", tmp_path / "frames", "-o", tmp_path / "out", "--ram", "20M")
    assert ran.code == 4
    assert "a memory cap of 0.02 GiB is too small" in ran.last_line
    assert "raise --ram" in ran.last_line
    assert not list(tmp_path.glob("out/[!.]*"))


def test_a_grid_of_absurd_size_asks_first(capfd: Capture, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    good_frames(tmp_path / "frames", 2)
    options = ("--set", "grid.scale_arcsec=0.001")
    ran = run_cli(capfd, "build", tmp_path / "frames", "-o", tmp_path / "out", *options)
    assert ran.code == 2
    assert "Mpix" in ran.last_line
    assert "--yes" in ran.last_line


def test_an_earlier_mosaic_outlives_a_run_that_fails(capfd: Capture, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    good_frames(tmp_path / "frames", 2)
    assert run_cli(capfd, "coadd", tmp_path / "frames", "-o", tmp_path / "out").code == 0
    before = digests_of(tmp_path / "out")
    ran = run_cli(capfd, "coadd", tmp_path / "frames", "-o", tmp_path / "out", "--ram", "20M")
    assert ran.code == 4
    after = digests_of(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_the_same_pixels_under_another_header_count_once(capfd: Capture, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    good_frames(frames)
    with fits.open(frames / "good_1.fits") as hdus:
        hdus[0].header["OBSERVER"] = "someone else"
        hdus.writeto(frames / "saved again.fits")
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out")
    assert ran.code == 0
    told = [line for line in ran.err.splitlines() if "left out:" in line]
    assert len(told) == 1
    assert "its pixels are those of" in told[0]
    assert fits.getheader(tmp_path / "out/mosaic.fits")["NCOMBINE"] == 4
