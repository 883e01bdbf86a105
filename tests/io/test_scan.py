"""Finding frames: folders, names, sidecars, extensions, copies, and every kind of bad file."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from scan_cases import scan_all
from zemosaic.errors import Cancelled, NothingToDo
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.read.scan import ScanResult, scan
from zemosaic.model.frame import MapRef
from zemosaic.settings import InputSettings

RNG = np.random.default_rng(5)


def write_image(path: Path, seed: int = 0, shape: tuple[int, ...] = (20, 30), **cards: object) -> Path:
    """A small image whose content depends on `seed`."""
    header = fits.Header()
    header["SEED"] = seed
    for key, value in cards.items():
        header[key.replace("_", "-") if key.startswith("DATE") else key] = value
    data = np.random.default_rng(seed).normal(100, 5, shape).astype("f4")
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(data, header).writeto(path)
    return path


def names(result: ScanResult) -> set[str]:
    return {frame.name for frame in result.frames}


def reason_of(result: ScanResult, name: str) -> str:
    (found,) = [r.reason for r in result.rejected if r.path.endswith(name)]
    return found


def test_finds_every_ending_in_a_tree_and_nothing_else(tmp_path: Path) -> None:
    good = ["a.fits", "b.FIT", "sub dir/c.fts", "sub dir/ünïcode Ω.Fits", "-o.fits", "deep/er/..x.fit"]
    for i, name in enumerate(good):
        write_image(tmp_path / name, i)
    # A leading ".." is a hidden name, not a way out.
    good.remove("deep/er/..x.fit")
    write_image(tmp_path / ".hidden.fits", 90)
    write_image(tmp_path / ".cache/x.fits", 91)
    write_image(tmp_path / "out/tile.fits", 92)
    (tmp_path / "out/.zemosaic").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    result = scan_all(tmp_path)
    assert names(result) == {Path(name).name for name in good}
    assert result.rejected == ()
    assert [frame.id for frame in result.frames] == sorted(frame.id for frame in result.frames)
    assert all(os.path.isabs(frame.storage.path) for frame in result.frames)


def test_an_output_folder_given_as_input_leaves_out_its_own_mosaics(tmp_path: Path) -> None:
    write_image(tmp_path / "frame.fits", 1)
    write_image(tmp_path / "mosaic_R.fits", 2)
    assert names(scan_all(tmp_path)) == {"frame.fits", "mosaic_R.fits"}
    (tmp_path / ".zemosaic").mkdir()
    assert names(scan_all(tmp_path)) == {"frame.fits"}


def test_paths_with_dots_files_by_name_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, name in enumerate(("x/Light_1.fits", "x/Light_2.fits", "x/bad_3.fits", "x/odd.dat")):
        write_image(tmp_path / name, i)
    monkeypatch.chdir(tmp_path / "x")
    assert names(scan_all(Path("../x"))) == {"Light_1.fits", "Light_2.fits", "bad_3.fits"}
    assert names(scan_all(Path("odd.dat"), Path("Light_1.fits"), Path("../x/Light_1.fits"))) == {
        "odd.dat",
        "Light_1.fits",
    }
    assert names(scan_all(tmp_path, include="light*")) == {"Light_1.fits", "Light_2.fits"}
    assert names(scan_all(tmp_path, exclude="*_2*")) == {"Light_1.fits", "bad_3.fits"}
    with pytest.raises(NothingToDo, match=r"nowhere does not exist"):
        scan_all(tmp_path / "nowhere")


def test_ids_follow_content_not_names(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", 1)
    shutil.copy(tmp_path / "a.fits", tmp_path / "b.fits")
    write_image(tmp_path / "c.fits", 2)
    result = scan_all(tmp_path)
    assert names(result) == {"a.fits", "c.fits"}
    assert tuple(map(str, result.notices)) == (
        f"1 images are there more than once and count once: b.fits is a copy of {tmp_path / 'a.fits'}",
    )
    first = {frame.id for frame in result.frames}
    (tmp_path / "a.fits").rename(tmp_path / "z.fits")
    assert {frame.id for frame in scan_all(tmp_path).frames} == first
    assert all(len(frame.id) == 32 and int(frame.id, 16) >= 0 for frame in result.frames)


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_an_id_sees_a_changed_pixel_at_either_end(tmp_path: Path, at: float) -> None:
    path = write_image(tmp_path / "a.fits", 1, (300, 300))
    before = scan_all(path).frames[0].id
    with fits.open(path, mode="update") as hdus:
        hdus[0].data.flat[int(at * (hdus[0].data.size - 1))] += 1
    assert scan_all(path).frames[0].id != before


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    plain = write_image(tmp_path / "src/a.fits", 1, FILTER="V")
    content = plain.read_bytes()
    (tmp_path / "b.fits").write_bytes(gzip.compress(content))
    (tmp_path / "c.fit.gz").write_bytes(gzip.compress(content[:2880] + content[2880:] + b"", 1))
    result = scan_all(tmp_path / "b.fits", tmp_path / "c.fit.gz")
    assert {frame.shape for frame in result.frames} == {(20, 30)}
    assert {frame.decided.filter for frame in result.frames} == {"V"}


def make_mef(path: Path) -> None:
    def image(name: str, version: int, shape: tuple[int, int], value: float) -> fits.ImageHDU:
        hdu = fits.ImageHDU(np.full(shape, value, "f4"), name=name)
        hdu.header["EXTVER"] = version
        return hdu

    primary = fits.PrimaryHDU()
    primary.header["FILTER"], primary.header["EXPTIME"] = "g", 30.0
    hdus = [primary]
    for version in (1, 2):
        hdus += [image("SCI", version, (20, 30), version), image("ERR", version, (20, 30), 2.0)]
        hdus += [image("WHT", version, (20, 30), 10.0 * version), image("DQ", version, (20, 30), 0)]
    hdus += [image("PSF", 1, (20, 30), 0), fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])])]
    fits.HDUList(hdus).writeto(path)


def test_each_image_of_a_mef_is_a_frame_with_its_own_map(tmp_path: Path) -> None:
    make_mef(tmp_path / "m.fits")
    frames = sorted(scan_all(tmp_path).frames, key=lambda frame: frame.storage.hdu)
    assert [(frame.name, frame.storage.hdu) for frame in frames] == [("m.fits[1]", 1), ("m.fits[5]", 5)]
    maps = [MapRef(str(tmp_path / "m.fits"), hdu, "weight") for hdu in (3, 7)]
    assert [frame.storage.weight for frame in frames] == maps
    assert {frame.decided.filter for frame in frames} == {"g"}
    assert {frame.decided.exposure_s for frame in frames} == {30.0}
    assert frames[0].id != frames[1].id


@pytest.mark.parametrize(
    ("ending", "kind"),
    [(".weight.fits", "weight"), (".var.fits", "variance"), (".mask.fits", "mask"), (".weight.fits.gz", "weight")],
)
def test_sidecar_maps(tmp_path: Path, ending: str, kind: str) -> None:
    frame_path = write_image(tmp_path / "my frame.fits", 1)
    plain = scan_all(tmp_path).frames[0]
    side = write_image(tmp_path / f"my frame{ending}", 2)
    for result in (scan_all(tmp_path), scan_all(frame_path)):
        (frame,) = result.frames
        assert frame.storage.path == str(frame_path)
        assert (frame.storage.weight or frame.storage.mask) == MapRef(str(side), 0, kind)
        assert frame.id != plain.id  # what is made from the frame depends on its map
    frame_path.unlink()
    result = scan_all(tmp_path)
    assert result.frames == ()
    assert "belong to no frame" in str(result.notices[0])


def test_a_map_that_does_not_fit_leaves_the_frame_out(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", 1)
    write_image(tmp_path / "a.weight.fits", 2, (10, 10))
    result = scan_all(tmp_path)
    assert result.frames == ()
    assert "weight map a.weight.fits cannot be used: it has 10 x 10 pixels, the frame 30 x 20" in reason_of(
        result, "a.fits"
    )


def test_head_file_overrides_wcs_and_scale(tmp_path: Path) -> None:
    path = write_image(
        tmp_path / "a.fits", 1, CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=10.0, CRVAL2=20.0,
        CRPIX1=15.0, CRPIX2=10.0, CD1_1=-1e-4, CD2_2=1e-4,
    )  # fmt: skip
    before = scan_all(path).frames[0]
    (tmp_path / "a.head").write_text(
        "HISTORY   Astrometric solution\nCTYPE1  = 'RA---TAN'\nCTYPE2  = 'DEC--TAN'\nCRVAL1  = 11.0 / moved\n"
        "CRVAL2  = 21.0\nCRPIX1  = 15.0\nCRPIX2  = 10.0\nCD1_1   = -2.0E-04\nCD2_2   = 2E-4\n"
        "FLXSCALE=  0.25\nEND     \n"
    )
    (after,) = scan_all(tmp_path).frames
    assert after.id != before.id
    assert (after.decided.gain_prior, after.decided.gain_prior_key) == (4.0, "FLXSCALE")
    wcs = frame_wcs(after)
    np.testing.assert_allclose(wcs.pixel_to_sky(14.0, 9.0), (11.0, 21.0), atol=1e-12)
    assert wcs.pixel_scale_arcsec() == pytest.approx(0.72, rel=1e-6)


def test_head_file_as_people_write_it(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", 1)
    (tmp_path / "a.head").write_text("RA = 83.6\ndec=22.0\nFOCALLEN = 250\n XPIXSZ  = 2.9\nHISTORY FILTER = V\n")
    (frame,) = scan_all(tmp_path).frames
    assert frame.header.hint is not None
    assert (frame.header.hint.ra_deg, frame.header.hint.dec_deg, frame.decided.filter) == (83.6, 22.0, "")
    assert frame.header.hint.scale_arcsec == pytest.approx(206.2648 * 2.9 / 250)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_head_file_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    write_image(tmp_path / "a.fits")
    (tmp_path / "a.head").write_bytes("FILTER = 'é 5 µm'\nEND\n".encode(encoding))
    (frame,) = scan_all(tmp_path).frames
    assert frame.decided.filter == "é 5 µm"


def test_bad_files_are_listed_with_reasons_and_the_rest_is_used(tmp_path: Path) -> None:
    write_image(tmp_path / "good.fits", 1)
    content = (tmp_path / "good.fits").read_bytes()
    (tmp_path / "empty.fits").write_bytes(b"")
    (tmp_path / "text.fits").write_text("Dear diary")
    (tmp_path / "cut.fits").write_bytes(content[:4000])
    (tmp_path / "cut header.fits").write_bytes(content[:400])
    (tmp_path / "cut.fits.gz").write_bytes(gzip.compress(content)[:-40])
    (tmp_path / "flipped.fits.gz").write_bytes(gzip.compress(content)[:60] + b"\0" * 50 + gzip.compress(content)[110:])
    write_image(tmp_path / "line.fits", 2, (30,))
    write_image(tmp_path / "cube.fits", 3, (2, 4, 5, 6))
    fits.PrimaryHDU().writeto(tmp_path / "no image.fits")
    write_image(tmp_path / "zero.fits", 5, EXPTIME=0.0)
    write_image(tmp_path / "flag.fits", 6, BAYERPAT="CMYK")
    os.symlink(tmp_path / "gone", tmp_path / "link.fits")
    (tmp_path / "folder.fits").mkdir()
    result = scan_all(tmp_path)
    assert names(result) == {"good.fits"}
    expected = {
        "empty.fits": "the file is empty",
        "/text.fits": "not a FITS file: it starts with 'Dear diary'",
        "/cut.fits": "truncated: the header promises 2400 bytes of data, 1120 are there",
        "cut header.fits": "no END card in its 400 bytes",
        "cut.fits.gz": "gzip stream is damaged or cut short",
        "line.fits": "not a picture: 1 axis",
        "cube.fits": r"4 axes longer than 1 (6 x 5 x 4 x 2)",
        "no image.fits": "there is no image in it (1 HDUs)",
        "zero.fits": "EXPTIME = 0 s",
        "flag.fits": "BAYERPAT = 'CMYK'",
        "link.fits": "cannot be read: No such file",
    }
    for name, reason in expected.items():
        assert reason in reason_of(result, name), name
    assert reason_of(result, "flipped.fits.gz")
    assert len(result.rejected) == len(expected) + 1
    assert all("\n" not in r.reason for r in result.rejected)


def test_calibration_frames_are_told_by_header_and_folder(tmp_path: Path) -> None:
    for k, (name, cards) in enumerate(
        {
            "a.fits": {},
            "dark.fits": {"IMAGETYP": "Dark Frame"},
            "Lights/b.fits": {},
            "darks/c.fits": {"IMAGETYP": "Light"},
            "Master_Flats/d.fits": {},
            "offsets/night 1/e.fits": {"EXPTIME": 0.0},
            "darks/f.fits": {"IMAGETYP": "Flat Field"},
        }.items()
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name, k, **cards)
    result = scan_all(tmp_path)
    assert names(result) == {"a.fits", "b.fits"}
    kinds = {Path(frame.storage.path).name: frame.decided.kind for frame in result.calibration}
    assert kinds == {"dark.fits": "dark", "c.fits": "dark", "d.fits": "flat", "e.fits": "bias", "f.fits": "flat"}
    # What lies above the folder that is searched says nothing.
    assert names(scan_all(tmp_path / "darks")) == {"c.fits"}
    flats = scan([tmp_path / "Lights"], InputSettings(), kind="flat").calibration
    assert {frame.decided.kind for frame in flats} == {"flat"}


def test_zero_size_and_absurd_axes(tmp_path: Path) -> None:
    content = bytearray(write_image(tmp_path / "a.fits", 1).read_bytes())
    for name, old, new in (
        ("zero", b"NAXIS1  =                   30", b"NAXIS1  =                    0"),
        ("negative", b"NAXIS1  =                   30", b"NAXIS1  =                  -30"),
        ("huge", b"NAXIS1  =                   30", b"NAXIS1  =  3000000000000000000"),
        ("axes", b"NAXIS   =                    2", b"NAXIS   =           2000000000"),
        ("bitpix", b"BITPIX  =                  -32", b"BITPIX  =                  -31"),
    ):
        assert old in content
        (tmp_path / f"{name}.fits").write_bytes(content.replace(old, new))
    result = scan_all(tmp_path)
    assert names(result) == {"a.fits"}
    assert "no pixels (0 x 20)" in reason_of(result, "zero.fits")
    assert "NAXIS1 = -30" in reason_of(result, "negative.fits")
    assert "truncated" in reason_of(result, "huge.fits")
    assert "NAXIS = 2000000000" in reason_of(result, "axes.fits")
    assert "BITPIX = -31" in reason_of(result, "bitpix.fits")


def test_whole_images_before_a_cut_one_are_used(tmp_path: Path) -> None:
    make_mef(tmp_path / "m.fits")
    with fits.open(tmp_path / "m.fits") as hdus:
        cut = hdus[5].fileinfo()["datLoc"] + 100
    content = (tmp_path / "m.fits").read_bytes()[:cut]
    (tmp_path / "m.fits").write_bytes(content)
    result = scan_all(tmp_path)
    assert names(result) == {"m.fits[1]"}
    assert "truncated" in reason_of(result, "m.fits[5]")


@pytest.mark.skipif(os.name == "nt", reason="file names are always text there")
def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.fits", 1)
    os.rename(path, os.fsencode(tmp_path) + b"/\xff\xfe.fits")
    result = scan_all(tmp_path)
    assert result.frames == ()
    assert "not valid text" in result.rejected[0].reason
    result.rejected[0].path.encode("utf-8")


def test_progress_and_cancelling(tmp_path: Path) -> None:
    for i in range(5):
        write_image(tmp_path / f"{i}.fits", i)
    seen: list[int] = []
    scan([tmp_path], InputSettings.model_validate({}), on_progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]

    def stop() -> None:
        if len(seen) == 7:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        scan([tmp_path], InputSettings.model_validate({}), on_progress=seen.append, check=stop)
    assert seen[5:] == [1, 2]


def digest_of_tree(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def test_real_frames(shared_dir: Path) -> None:
    data = shared_dir / "data"
    before = digest_of_tree(data / "decam_tpv_stamps")
    seestar = scan_all(data / "seestar_m94", exclude="*.wcs.fits")
    assert len(seestar.frames) == 18
    assert {(f.storage.layout, f.storage.bayer, f.shape, f.decided.filter) for f in seestar.frames} == {
        ("bayer", "GRBG", (1920, 1080), "IRCUT")
    }
    hints = [frame.header.hint for frame in seestar.frames]
    assert all(hint and hint.equinox is None and 2.3 < (hint.scale_arcsec or 0) < 2.5 for hint in hints)
    twomass = scan_all(data / "twomass_m42_j")
    assert len(twomass.frames) == 33
    assert {f.decided.gain_prior_key for f in twomass.frames} == {"MAGZP"}
    assert all(frame_wcs(f).pixel_scale_arcsec() == pytest.approx(1.0, abs=1e-4) for f in twomass.frames)
    saao = scan_all(data / "saao_kb13475")
    assert {(f.storage.hdu, f.shape, f.decided.filter) for f in saao.frames} == {(1, (512, 512), "58")}
    assert len(saao.frames) == 59
    decam = scan_all(data / "decam_tpv_stamps")
    centre = [frame_wcs(f).pixel_to_sky(127.5, 127.5) for f in decam.frames]
    np.testing.assert_allclose(centre, [(318.108, -66.016)] * 10, atol=1e-3)
    assert digest_of_tree(data / "decam_tpv_stamps") == before
