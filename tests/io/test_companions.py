"""Files and extensions beside an image that are no frames: maps, exposure times, thumbnails, other kinds of files."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from scan_cases import scan_all
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.model.box import Box

SHAPE = (20, 30)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 5, SHAPE).astype("f4")


def write(*paths: Path) -> None:
    for seed, path in enumerate(paths):
        fits.PrimaryHDU(image(seed)).writeto(path)


@pytest.mark.parametrize(
    ("science", "companion", "kind"),
    [
        ("a.fits", "a.wht.fits", "weight"),
        ("a.fits", "a_weight.fits", "weight"),
        ("a.fits", "a.ivar.fits", "weight"),
        ("a.fits", "a-mask.fits", "mask"),
        ("w1-int-3.fits", "w1-unc-3.fits", "error"),
        ("c4d_ooi_r_v1.fits", "c4d_oow_r_v1.fits", "weight"),
        ("c4d_ooi_r_v1.fits", "c4d_ood_r_v1.fits", "mask"),
        ("h_drz_sci.fits", "h_drz_wht.fits", "weight"),
        ("ps.unconv.fits", "ps.unconv.num.fits", None),
        ("ps.unconv.fits", "ps.unconv.wt.fits", None),
    ],
)
def test_a_companion_is_a_map_of_its_image(tmp_path: Path, science: str, companion: str, kind: str | None) -> None:
    write(tmp_path / science, tmp_path / companion)
    result = scan_all(tmp_path)
    (frame,) = result.frames
    assert frame.name == science
    assert (beside.kind if (beside := frame.storage.weight or frame.storage.mask) else None) == kind
    assert bool(result.notices) == (kind is None)


@pytest.mark.parametrize("name", ["m42_10s_exp.fits", "SS_Cyg_var.fits", "image.fits", "mask_nebula.fits"])
def test_a_name_alone_makes_no_companion(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, tmp_path / "other.fits")
    assert {frame.name for frame in scan_all(tmp_path).frames} == {name, "other.fits"}


def test_extensions_of_jwst_hst_and_others_are_no_frames(tmp_path: Path) -> None:
    names = ("SCI", "ERR", "AREA", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "D2IMARR", "WCSDVARR", "Thumbnail")
    hdus = [fits.ImageHDU(image(k), name=name) for k, name in enumerate(names)]
    profile = fits.ImageHDU(np.arange(50, dtype="u1"), name="anything")
    fits.HDUList([fits.PrimaryHDU(), *hdus, profile]).writeto(tmp_path / "a.fits")
    result = scan_all(tmp_path)
    assert [(f.storage.hdu, f.storage.weight and f.storage.weight.kind) for f in result.frames] == [(1, "error")]
    assert result.rejected == ()


def test_files_of_other_kinds_are_counted_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a.fits")
    for name in ("a.png", "b.PNG", "c.ser", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    (notice,) = scan_all(tmp_path).notices
    assert str(notice).startswith("3 files are of kinds that are not read (2 .png, 1 .ser)")


def test_bzip2_is_read_and_a_damaged_stream_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.fits")
    packed = bz2.compress((tmp_path / "a.fits").read_bytes())
    (tmp_path / "a.fits").unlink()
    (tmp_path / "a.fits.bz2").write_bytes(packed)
    (tmp_path / "cut.fits.bz2").write_bytes(packed[: len(packed) // 2])
    result = scan_all(tmp_path)
    (frame,) = result.frames
    data, weight = FrameReader().read_window(frame, Box(2, 8, 3, 9))
    np.testing.assert_array_equal(data[0], image()[2:8, 3:9])
    assert weight.all()
    (refused,) = result.rejected
    assert refused.path.endswith("cut.fits.bz2")
