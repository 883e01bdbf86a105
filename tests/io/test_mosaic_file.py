"""The output file: laid out at the start, filled in any order, named at the end."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
import tracemalloc
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zemosaic.errors import EnvironmentProblem
from zemosaic.io.write.finished_mosaic import FinishedMosaic
from zemosaic.io.write.mosaic_file import KEPT_PLACE, MosaicFile, Plane, wcs_header
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs

SHAPE = (70, 90)
PLANES = [
    Plane("SCI", "f4", 3, "adu"),
    Plane("WHT", "f4", 3),
    Plane("COV", "i2"),
    Plane("DEEP", "i4"),
    Plane("EXPT", "f4", unit="s"),
    Plane("ALPHA", "u1"),
]


def grid_wcs(shape: tuple[int, int] = SHAPE) -> CelestialWcs:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [359.9 + 1 / 30, 41.25], [45.25, 35.5]
    wcs.wcs.pc = [[0.8, -0.6], [0.6, 0.8]]
    wcs.wcs.cdelt = [-1 / 3600, 1 / 3600]
    return CelestialWcs(wcs, shape)


def contents(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    out = {p.name: rng.uniform(0, 200, (p.n_channels, *SHAPE)).astype(p.dtype) for p in PLANES}
    out["SCI"][:, 3, 4] = np.nan
    out["SCI"][0, 5, 6] = -1e30
    return out


def write_all(path: Path, seed: int = 1, size: int = 32, reverse: bool = False) -> Path:
    truth = contents()
    boxes = list(Box.of_shape(SHAPE).split(size))
    np.random.default_rng(seed).shuffle(boxes)
    with MosaicFile(path, grid_wcs(), PLANES, [("NCOMBINE", 5, "frames")], ["warp: lanczos3"]) as file:
        for box in boxes:
            for plane in PLANES[:: -1 if reverse else 1]:
                file.write(plane.name, box, truth[plane.name][:, *box.slices])
        file.finish([("NCOMBINE", 4, "frames"), ("VARRATIO", 1.5, "")], ["stack: mean"])
    return path


def test_what_is_written_is_read_back_by_astropy(tmp_path: Path) -> None:
    path = write_all(tmp_path / "mosaic é.fits")
    truth = contents()
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == [plane.name for plane in PLANES]
        for hdu, plane in zip(hdus, PLANES, strict=True):
            assert hdu.data.dtype == np.dtype(plane.dtype).newbyteorder(">")
            assert hdu.shape == (SHAPE if plane.n_channels == 1 else (3, *SHAPE))
            np.testing.assert_array_equal(hdu.data.reshape(truth[plane.name].shape), truth[plane.name])
            assert hdu.header.get("BUNIT", "") == plane.unit
            assert not {"BZERO", "BSCALE", "DATE", "PC1_1", "CDELT1", "MJDREF"} & set(hdu.header)
        header = hdus[0].header
        assert header["NCOMBINE"] == 4
        assert header["VARRATIO"] == 1.5
        assert list(header["HISTORY"]) == ["warp: lanczos3", "stack: mean"]
    assert os.listdir(tmp_path) == [path.name]


def test_the_grid_survives_the_file(tmp_path: Path) -> None:
    path = write_all(tmp_path / "mosaic.fits")
    x, y = np.array([0.0, 89.0, 44.25]), np.array([0.0, 69.0, 34.5])
    truth = np.array(grid_wcs().pixel_to_sky(x, y))
    with fits.open(path) as hdus:
        for hdu in hdus:
            read = WCS(hdu.header, naxis=2).all_pix2world(x, y, 0)
            np.testing.assert_allclose(read, truth, rtol=0, atol=1e-11)
        assert hdus[0].header["RADESYS"] == "ICRS"
        assert hdus[0].header["EQUINOX"] == 2000.0


@pytest.mark.parametrize(("radesys", "equinox"), [("FK5", 2000.0), ("FK4", 1950.0), ("ICRS", None)])
def test_the_sky_system_is_written(radesys: str, equinox: float | None) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.radesys = ["RA---ZEA", "DEC--ZEA"], [-1e-3, 1e-3], radesys
    if equinox:
        wcs.wcs.equinox = equinox
    header = wcs_header(CelestialWcs(wcs, SHAPE))
    assert header["RADESYS"] == radesys
    assert header["EQUINOX"] == (equinox or 2000.0)


def test_the_bytes_do_not_depend_on_order_or_cutting(tmp_path: Path) -> None:
    first = write_all(tmp_path / "a.fits", seed=1, size=32).read_bytes()
    second = write_all(tmp_path / "b.fits", seed=2, size=100, reverse=True).read_bytes()
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_threads_write_disjoint_boxes(tmp_path: Path) -> None:
    truth = contents()
    boxes = list(Box.of_shape(SHAPE).split(16))
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES) as file:

        def work(part: int) -> None:
            for box in boxes[part::4]:
                for plane in PLANES:
                    file.write(plane.name, box, truth[plane.name][:, *box.slices])

        threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for plane in PLANES:
            for box in (Box.of_shape(SHAPE), Box(3, 20, 60, 61)):
                np.testing.assert_array_equal(file.read(plane.name, box), truth[plane.name][:, *box.slices])
        file.finish()


def test_without_positioned_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no pwrite."""
    expected = write_all(tmp_path / "a.fits").read_bytes()
    monkeypatch.delattr(os, "pwrite")
    assert write_all(tmp_path / "b.fits").read_bytes() == expected


def test_a_mono_mosaic_is_a_plane(tmp_path: Path) -> None:
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), [Plane("SCI")]) as file:
        file.write("SCI", Box.of_shape(SHAPE), contents()["EXPT"][0])
        file.finish()
    np.testing.assert_array_equal(fits.getdata(tmp_path / "m.fits"), contents()["EXPT"][0])


def test_nothing_is_left_of_an_unfinished_file(tmp_path: Path) -> None:
    path = tmp_path / "m.fits"
    path.write_text("the old mosaic")
    with MosaicFile(path, grid_wcs(), PLANES) as file:
        file.write("COV", Box(0, 1, 0, 1), np.ones((1, 1)))
        assert file.partial_path.exists()
    assert os.listdir(tmp_path) == ["m.fits"]
    assert path.read_text() == "the old mosaic"


def test_a_run_goes_on_with_a_file_that_was_all_but_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last cards are written: all of its pixels were made again for them."""

    def no_name(*_: object) -> None:
        raise PermissionError(13, "in use")

    work, box, cards = tmp_path / "work.partial", Box(1, 3, 2, 5), [("SETHASH", KEPT_PLACE, "")]
    monkeypatch.setattr(os, "replace", no_name)
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES, cards, partial=work, resume=True) as file:
        file.write("COV", box, np.full((2, 3), 7))
        with pytest.raises(EnvironmentProblem, match="in use"):
            file.finish([("SETHASH", "ab" * 32, "")])
    monkeypatch.undo()
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES, cards, partial=work, resume=True) as file:
        assert (file.read("COV", box) == 7).all()
        file.finish([("SETHASH", "cd" * 32, "")])
    assert fits.getheader(tmp_path / "m.fits")["SETHASH"] == "cd" * 32


def test_a_run_goes_on_with_the_file_of_an_earlier_one(tmp_path: Path) -> None:
    work = tmp_path / "work.partial"
    box = Box(1, 3, 2, 5)
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES, partial=work, resume=True) as file:
        file.write("COV", box, np.full((2, 3), 7))
    assert os.listdir(tmp_path) == [work.name]
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES, partial=work, resume=True) as file:
        assert (file.read("COV", box) == 7).all()
    # With other cards the places in the file may be the same, but it is another mosaic.
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES, [("NEW", 1, "")], partial=work, resume=True) as file:
        assert (file.read("COV", box) == 0).all()
        file.write("COV", box, np.full((2, 3), 8))
        file.finish()
    assert os.listdir(tmp_path) == ["m.fits"]
    before = FinishedMosaic.open(tmp_path / "m.fits")
    assert before is not None
    found = before.read("COV", box)
    assert found is not None
    assert found.dtype == np.dtype("i2")
    assert (found == 8).all()
    assert before.read("COV", Box(0, 1, 0, 10_000)) is None
    assert before.read("NONE", box) is None
    assert FinishedMosaic.open(tmp_path / "absent.fits") is None


@pytest.mark.parametrize(
    ("box", "values"),
    [
        (Box(0, 5, 0, 6), np.zeros((3, 5, 5))),
        (Box(0, 5, 0, 6), np.zeros((5, 6))),
        (Box(66, 71, 0, 6), np.zeros((3, 5, 6))),
        (Box(-1, 4, 0, 6), np.zeros((3, 5, 6))),
    ],
)
def test_values_must_fill_a_box_of_the_grid(tmp_path: Path, box: Box, values: np.ndarray) -> None:
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES) as file, pytest.raises(ValueError, match="does not fill"):
        file.write("SCI", box, values)


def test_more_late_cards_than_there_is_space_for(tmp_path: Path) -> None:
    cards = [(f"KEY{i}", i, "") for i in range(80)]
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES) as file, pytest.raises(ValueError, match="there is space"):
        file.finish(cards)


def test_a_file_above_4_gb_takes_no_memory(tmp_path: Path) -> None:
    """Sparse, so it takes no disk either: what is told apart is places beyond 32 bits."""
    shape = (30_000, 37_000)
    if shutil.disk_usage(tmp_path).free < 6e9:
        pytest.skip("the file is laid out whole, and 6 GB are not free")
    first, last = Box(0, 2, 0, shape[1]), Box(shape[0] - 3, shape[0], shape[1] - 5, shape[1])
    tracemalloc.start()
    with MosaicFile(tmp_path / "m.fits", grid_wcs(shape), [Plane("SCI"), Plane("ALPHA", "u1")]) as file:
        file.write("SCI", first, np.full(first.shape, 3.0))
        file.write("SCI", last, np.full(last.shape, 7.0))
        file.write("ALPHA", last, np.full(last.shape, 255))
        file.finish()
    found = FinishedMosaic.open(tmp_path / "m.fits")
    assert found is not None
    read = [found.read(name, box) for name, box in (("SCI", first), ("SCI", last), ("ALPHA", last))]
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 20e6
    assert [np.unique(values).tolist() for values in read if values is not None] == [[3.0], [7.0], [255]]
    assert (tmp_path / "m.fits").stat().st_size > 1 << 32
    with fits.open(tmp_path / "m.fits", memmap=True) as hdus:
        assert hdus[0].data[-3:, -6:].tolist() == [[0.0, 7, 7, 7, 7, 7]] * 3
        assert hdus["ALPHA"].section[-1, -5:].tolist() == [255] * 5
    (tmp_path / "m.fits").unlink()


def test_no_space_is_said_with_numbers_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 5 * 10**6, 5 * 10**6))
    planes = [Plane("SCI", "f4", 3)]
    with pytest.raises(EnvironmentProblem, match=r"m.fits needs 0.12 GB, 0.01 GB are free") as caught:
        MosaicFile(tmp_path / "m.fits", grid_wcs((3000, 3333)), planes)
    assert caught.value.facts["bytes_free"] == 5 * 10**6
    assert os.listdir(tmp_path) == []


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(EnvironmentProblem, match=r"cannot write to .*; choose another output folder"):
            MosaicFile(folder / "m.fits", grid_wcs(), PLANES)


def test_a_final_name_that_is_taken_keeps_the_work(tmp_path: Path) -> None:
    (tmp_path / "m.fits").mkdir()
    with MosaicFile(tmp_path / "m.fits", grid_wcs(), PLANES) as file, pytest.raises(EnvironmentProblem) as caught:
        file.finish()
    assert file.partial_path.exists()
    assert str(file.partial_path) in str(caught.value)


def test_fitsverify_has_nothing_to_say(tmp_path: Path) -> None:
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed")
    path = write_all(tmp_path / "mosaic.fits")
    done = subprocess.run([program, "-l", str(path)], capture_output=True, text=True, check=False)
    assert "0 warning(s) and 0 error(s)" in done.stdout, done.stdout
