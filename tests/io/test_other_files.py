"""Frames in files that are not FITS: TIFF, and raw files of cameras, here as DNG, which LibRaw opens like any other."""

from __future__ import annotations

import builtins
import contextlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from astropy.io import fits
from astropy.table import Table

from mosaic_cases import digests_of, draw_stars, noise, run_cli, tan_wcs
from scan_cases import only_frame, only_reason, scan_all
from zemosaic.errors import FrameRejected
from zemosaic.io.read import camera_raw
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.images import PICTURE_SUFFIXES
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame

Capture = pytest.CaptureFixture[str]
AnyArray = npt.NDArray[Any]

H, W = 40, 60
BLACK, WHITE = 512, 16000
TAGS = {
    "make": 271, "model": 272, "exposure": 33434, "iso": 34855, "date": 36867, "offset": 36881, "focal": 37386,
}  # fmt: skip
NIGHT = {
    "make": "Acme", "model": "Acme Nightcam 1", "exposure": (30, 1), "iso": 800, "date": "2024:08:10 22:33:44",
    "focal": (250, 1),
}  # fmt: skip


@pytest.fixture
def needs_rawpy() -> None:
    """Tests of camera raw are skipped without the extra."""
    pytest.importorskip("rawpy", reason='rawpy is not here: pip install "zemosaic[raw]"')


def exif_tags(facts: dict[str, object]) -> list[tuple[object, ...]]:
    """Tags for tifffile's writer."""
    tags: list[tuple[object, ...]] = []
    for name, value in facts.items():
        if isinstance(value, str):
            tags.append((TAGS[name], "s", len(value) + 1, value, True))
        else:
            tags.append((TAGS[name], "2I" if isinstance(value, tuple) else "H", 1, value, True))
    return tags


def write_tiff(path: Path, data: AnyArray, facts: dict[str, object] | None = None, **options: Any) -> Path:
    options = {"photometric": "rgb" if data.ndim == 3 else "minisblack", **options}
    tifffile.imwrite(path, data, metadata=None, extratags=exif_tags(facts or {}), **options)
    return path


def write_dng(
    path: Path, image: AnyArray, pattern: str = "RGGB", facts: dict[str, object] | None = None, white: int = WHITE
) -> Path:
    """The least that LibRaw takes for a camera's raw file: one plane behind a colour filter, or three of colours."""
    unit = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)  # a colour matrix, as fractions
    model = "Acme Nightcam 1"
    period = round(len(pattern) ** 0.5)
    colour_filter = [
        (33421, "H", 2, (period, period), True),  # CFARepeatPatternDim
        (33422, "B", len(pattern), bytes("RGB".index(colour) for colour in pattern), True),
        (50714, "H", 1, BLACK, True),
    ]
    tags = [
        *(colour_filter if image.ndim == 2 else ()),
        (50706, "B", 4, b"\1\4\0\0", True),  # DNGVersion
        (50708, "s", len(model) + 1, model, True),
        (50717, "H", 1, white, True),
        (50721, "2i", 9, unit, True),
        *exif_tags(NIGHT if facts is None else facts),
    ]
    tifffile.imwrite(path, image, photometric=32803 if image.ndim == 2 else 34892, metadata=None, extratags=tags)
    return path


def check_pixels(frame: Frame, truth: AnyArray, reader: FrameReader | None = None) -> None:
    """Whole and in windows, NaN of the truth (channels first) being where there is no data."""
    reader = reader or FrameReader()
    for box in (Box.of_shape(frame.shape), Box(3, 9, 10, W), Box(H - 1, H, 0, 5)):
        data, weight = reader.read_window(frame, box)
        expected = truth[:, *box.slices].astype(np.float32)
        assert data.dtype == weight.dtype == np.float32
        np.testing.assert_array_equal(data, np.nan_to_num(expected))
        np.testing.assert_array_equal(weight, np.isfinite(expected))


def pixels(dtype: str, shape: tuple[int, ...] = (H, W)) -> AnyArray:
    top = 250 if dtype == "u1" else 15000
    return np.random.default_rng(3).uniform(20, top, shape).astype(dtype)


# --- TIFF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f2", "f4", "f8"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"tile": (16, 16)}])
def test_every_kind_of_tiff_gives_its_numbers(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    data = pixels(dtype)
    frame = only_frame(write_tiff(tmp_path / "a b.TIF", data, **options))
    assert (frame.shape, frame.storage.layout, frame.storage.is_integer) == ((H, W), "mono", dtype[0] in "ui")
    check_pixels(frame, data[None])


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_is_three_planes(tmp_path: Path, dtype: str, planar: str) -> None:
    planes = pixels(dtype, (3, H, W))
    stored = planes if planar == "separate" else np.moveaxis(planes, 0, -1)
    frame = only_frame(write_tiff(tmp_path / "a.tiff", stored, planarconfig=planar))
    assert frame.storage.layout == ("chw" if planar == "separate" else "hwc")
    check_pixels(frame, planes)


def test_what_is_transparent_is_no_data(tmp_path: Path) -> None:
    planes = pixels("u2", (4, H, W))
    planes[3] = 65535
    planes[3, 5:8, 7:] = 0
    seen = np.where(planes[3] == 0, np.nan, planes[:3].astype(np.float32))
    colour = write_tiff(tmp_path / "rgb.tif", np.moveaxis(planes, 0, -1), extrasamples=["unassalpha"])
    check_pixels(only_frame(colour), seen)
    grey = write_tiff(
        tmp_path / "grey.tif", np.moveaxis(planes[2:], 0, -1), photometric="minisblack", extrasamples=["unassalpha"],
        planarconfig="contig",
    )  # fmt: skip
    check_pixels(only_frame(grey), seen[2:])


def test_facts_come_from_exif(tmp_path: Path) -> None:
    frame = only_frame(write_tiff(tmp_path / "a.tif", pixels("u2"), {**NIGHT, "offset": "+02:00"}))
    assert frame.header.instrument == "Acme Nightcam 1"
    assert (frame.decided.exposure_s, frame.header.gain_setting) == (30, 800)
    assert frame.header.date_obs == "2024-08-10T20:33:44"
    assert frame.decided.saturation_adu == 65520
    plain = only_frame(write_tiff(tmp_path / "b.tif", pixels("f4"), {"date": "in August"}))
    assert (plain.header.instrument, plain.header.date_obs, plain.decided.saturation_adu) == ("", "", None)
    assert plain.decided.exposure_s is None


def test_an_astro_tiff_means_what_its_fits_file_means(tmp_path: Path) -> None:
    """Header and pixels as ASTAP and Siril write them: rows from the top, the header of rows from the bottom."""
    mosaic = pixels("u2")
    header = tan_wcs((H, W)).to_header()
    header.update({"BAYERPAT": "GRBG", "ROWORDER": "BOTTOM-UP", "EXPTIME": 20.0, "FILTER": "L", "SATURATE": 60000})
    fits.PrimaryHDU(mosaic, header).writeto(tmp_path / "a.fits")
    text = fits.getheader(tmp_path / "a.fits").tostring("\r\n", endcard=True, padding=False)
    twin = only_frame(write_tiff(tmp_path / "b.tif", mosaic[::-1], description=text, compression="zlib"))
    original = only_frame(tmp_path / "a.fits")
    assert (twin.header, twin.decided) == (original.header, original.decided)
    assert twin.storage == replace(original.storage, path=twin.storage.path)
    check_pixels(twin, mosaic[None])
    assert only_frame(tmp_path / "b.tif", bayer="none").storage.layout == "mono"


def test_pages_are_frames_and_small_copies_are_not(tmp_path: Path) -> None:
    first, second = pixels("u2"), pixels("u2")[::-1]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(first, photometric="minisblack", metadata=None)
        file.write(first[::4, ::4], photometric="minisblack", metadata=None, subfiletype=1)
        file.write(second, photometric="minisblack", metadata=None)
    found = scan_all(tmp_path)
    assert not found.rejected
    one, other = sorted(found.frames, key=lambda frame: frame.storage.hdu)
    assert (one.storage.hdu, other.storage.hdu) == (0, 2)
    check_pixels(one, first[None])
    check_pixels(other, second[None])


def test_sidecars_belong_to_tiff_files_too(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", pixels("u2"))
    mask = np.zeros((H, W), np.uint8)
    mask[4, 5] = 1
    write_tiff(tmp_path / "a.mask.tif", mask)
    (tmp_path / "a.head").write_text(tan_wcs((H, W)).to_header().tostring("\n") + "\nEND\n")
    frame = only_frame(tmp_path)
    assert frame.header.wcs_cards is not None
    _, weight = FrameReader().read_window(frame, Box.of_shape(frame.shape))
    assert np.argwhere(weight[0] == 0).tolist() == [[4, 5]]


def test_a_file_is_decoded_once_and_counts_once(tmp_path: Path) -> None:
    data = pixels("u2")
    path = write_tiff(tmp_path / "a.tif", data)
    shutil.copy(path, tmp_path / "b.tif")
    before = digests_of(tmp_path)
    found = scan_all(tmp_path)
    assert len(found.frames) == 1
    assert "b.tif is a copy" in str(found.notices[0])
    reader = FrameReader()
    check_pixels(found.frames[0], data[None], reader)
    assert reader.n_decodes == 1
    check_pixels(found.frames[0], data[None], FrameReader(cache_bytes=10))
    assert digests_of(tmp_path) == before


def test_tiffs_that_are_not_read_say_why(tmp_path: Path) -> None:
    palette = write_tiff(
        tmp_path / "palette.tif", pixels("u1"), photometric="palette", colormap=np.zeros((3, 256), np.uint16)
    )
    assert "colour model" in only_reason(palette)
    assert "64-bit samples" in only_reason(write_tiff(tmp_path / "deep.tif", pixels("u8")))
    assert "cube with no axis of length 3" in only_reason(
        write_tiff(tmp_path / "cube.tif", pixels("u2", (2, 5, H, W))[0], photometric="minisblack", volumetric=True)
    )
    from PIL import Image

    Image.fromarray(pixels("u2")).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    if "imagecodecs" not in sys.modules:
        assert "pip install imagecodecs" in only_reason(tmp_path / "lzw.tif")
    (tmp_path / "text.tif").write_text("no picture")
    assert "not a TIFF file" in only_reason(tmp_path / "text.tif")
    (tmp_path / "empty.tif").write_bytes(b"")
    assert "TIFF file is damaged" in only_reason(tmp_path / "empty.tif")


def test_a_tiff_that_was_cut_is_told_with_its_bytes(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", pixels("u2"))
    content = path.read_bytes()
    frame = only_frame(path)
    path.write_bytes(content[:-1000])
    assert (
        only_reason(path) == f"file is truncated: its pixels end at byte {len(content)}, it has {len(content) - 1000}"
    )
    with pytest.raises(FrameRejected, match="truncated"):
        FrameReader().read_window(frame, Box(0, 1, 0, 1))
    write_tiff(path, pixels("u2", (H, W + 2)))
    with pytest.raises(FrameRejected, match="has changed"):
        FrameReader().read_window(frame, Box(0, 1, 0, 1))
    path.unlink()
    with pytest.raises(FrameRejected, match="gone"):
        FrameReader().read_window(frame, Box(0, 1, 0, 1))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_size_that_cannot_be_fills_no_memory(tmp_path: Path, compression: str | None) -> None:
    path = write_tiff(tmp_path / "a.tif", pixels("u2"), compression=compression)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[name]
            tag.overwrite(200_000 if tag.dtype == 4 else 60_000)
    assert "header is broken: " in only_reason(path)


@pytest.mark.parametrize("name", ["a.tif", "a.dng"])
def test_damaged_bytes_never_end_a_scan(tmp_path: Path, name: str, needs_rawpy: None) -> None:
    path = tmp_path / name
    write = write_tiff if name == "a.tif" else write_dng
    content = np.frombuffer(write(path, pixels("u2", (16, 16))).read_bytes(), np.uint8)
    rng = np.random.default_rng(8)
    for _ in range(200):
        bad = content.copy()
        where = rng.integers(0, min(700, len(bad)), 6)
        bad[where] = rng.integers(0, 256, len(where))
        path.write_bytes(bad.tobytes())
        found = scan_all(path)
        assert found.frames or found.rejected or found.notices
        for frame in found.frames:
            with contextlib.suppress(FrameRejected):
                data, _ = FrameReader().read_window(frame, Box.of_shape(frame.shape))
                assert data.shape[1:] == frame.shape
                assert np.isfinite(data).all()


# --- raw files of cameras --------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_a_raw_file_gives_the_mosaic_of_its_sensor(tmp_path: Path, needs_rawpy: None, pattern: str) -> None:
    mosaic = pixels("u2")
    facts = {**NIGHT, "model": f"Acme {pattern}"}
    frame = only_frame(write_dng(tmp_path / "IMG 1.DNG", mosaic, pattern, facts))
    assert (frame.storage.layout, frame.storage.bayer, frame.storage.is_integer) == ("bayer", pattern, True)
    assert frame.shape == (H, W)
    assert (frame.header.instrument, frame.header.gain_setting) == (f"Acme {pattern}", 800)
    assert frame.decided.exposure_s == 30
    assert frame.header.date_obs == "2024-08-10T22:33:44"
    assert frame.decided.saturation_adu == WHITE
    assert frame.header.wcs_cards is None
    check_pixels(frame, mosaic[None])  # the black level is left in


def test_a_raw_file_of_three_colours_a_pixel_is_a_colour_frame(tmp_path: Path, needs_rawpy: None) -> None:
    planes = pixels("u2", (3, H, W))
    frame = only_frame(write_dng(tmp_path / "a.dng", np.moveaxis(planes, 0, -1), facts={**NIGHT, "model": "linear"}))
    assert (frame.storage.layout, frame.storage.bayer) == ("hwc", None)
    check_pixels(frame, planes)


def test_a_filter_that_is_not_bayer_is_refused(tmp_path: Path, needs_rawpy: None) -> None:
    path = write_dng(tmp_path / "a.dng", pixels("u2"), "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG", {**NIGHT, "model": "X"})
    assert only_reason(path) == "its colour filter repeats after 6 x 6 pixels; only 2 x 2 (Bayer) is read"


def test_one_file_of_a_camera_is_unpacked_by_a_scan(
    tmp_path: Path, needs_rawpy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[object] = []
    monkeypatch.setattr(camera_raw, "_sensors", {})
    look = camera_raw._sensor
    monkeypatch.setattr(camera_raw, "_sensor", lambda raw: (unpacked.append(raw), look(raw))[1])
    for k in range(4):
        iso = 800 if k < 3 else 1600
        write_dng(tmp_path / f"{k}.dng", pixels("u2") + np.uint16(k), facts={**NIGHT, "iso": iso})
    found = scan_all(tmp_path)
    assert len(found.frames) == 4
    assert {frame.storage.bayer for frame in found.frames} == {"RGGB"}
    assert len(unpacked) == 2


def test_raw_darks_lie_in_their_folder(tmp_path: Path, needs_rawpy: None) -> None:
    (tmp_path / "darks").mkdir()
    write_dng(tmp_path / "darks/1.dng", pixels("u2"))
    write_dng(tmp_path / "2.dng", pixels("u2")[::-1])
    found = scan_all(tmp_path)
    assert [frame.decided.kind for frame in found.calibration] == ["dark"]
    assert len(found.frames) == 1


def test_a_raw_file_that_was_cut_is_told_in_one_line(tmp_path: Path, needs_rawpy: None) -> None:
    path = write_dng(tmp_path / "a.dng", pixels("u2"), facts={**NIGHT, "model": "cut"})
    content = path.read_bytes()
    frame = only_frame(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FrameRejected, match=r"LibRaw cannot read it; .*cut short"):
        FrameReader().read_window(frame, Box(0, 1, 0, 1))
    path.write_bytes(content[:60])
    assert "LibRaw cannot read it" in only_reason(path)
    (tmp_path / "b.cr2").write_bytes(b"")
    assert "LibRaw cannot read it" in only_reason(tmp_path / "b.cr2")


# --- whole runs ------------------------------------------------------------------------------------


def test_raw_files_are_solved_like_their_fits_twins(
    capfd: Capture, raw_set: Path, tmp_path: Path, needs_rawpy: None
) -> None:
    """Same samples, same date and, from a `.head` file, the same hint: the same measurements, places and gains."""
    raws = tmp_path / "dng"
    raws.mkdir()
    for path in sorted(raw_set.glob("*.fit")):
        header = fits.getheader(path)
        facts = {**NIGHT, "date": header["DATE-OBS"][:19].replace("-", ":").replace("T", " "), "exposure": (10, 1)}
        write_dng(raws / f"{path.stem}.dng", fits.getdata(path).astype(np.uint16), header["BAYERPAT"], facts, 65535)
        hint = [f"{key:8}= {header[key]}" for key in ("RA", "DEC", "FOCALLEN", "XPIXSZ")]
        (raws / f"{path.stem}.head").write_text("\n".join([*hint, "END"]))
    before = digests_of(raws)
    tables = []
    for folder in (raw_set, raws):
        out = tmp_path / f"out-{folder.name}"
        ran = run_cli(capfd, "build", folder, "-o", out)
        assert ran.code == 0, ran.err
        assert fits.getdata(out / "mosaic.fits").shape[0] == 3
        table = Table.read(out / "frames.ecsv")
        table.sort("name")
        tables.append(table)
    assert digests_of(raws) == before
    one, other = tables
    assert len(one) == len(other) == 4
    for name in ("sky_r", "noise_g", "fwhm_px", "exposure_s"):
        np.testing.assert_array_equal(one[name], other[name])
    for name in ("ra_deg", "dec_deg"):
        np.testing.assert_allclose(one[name], other[name], atol=0.01 * 2.4 / 3600)
    np.testing.assert_allclose(one["gain_g"], other["gain_g"], atol=0.003)


def test_tiff_frames_are_stacked_beside_fits(capfd: Capture, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(-0.03, 0.03, 80) % 360, rng.uniform(-0.03, 0.03, 80)
    flux = 4000 * rng.exponential(size=80) + 2000
    for k in range(3):
        wcs = tan_wcs((220, 260), 0.0, 0.0, 1.0)
        wcs.wcs.crpix += (7.3 * k, -4.1 * k)
        image = noise((220, 260), k, 3.0, 500) + draw_stars(wcs, (220, 260), ra, dec, flux, 3.0)
        if k < 2:
            write_tiff(tmp_path / f"{k}.tif", image.clip(0, 65535).astype(np.uint16))
        else:
            fits.PrimaryHDU(image.astype(np.float32)).writeto(tmp_path / "2.fits")
    ran = run_cli(capfd, "build", tmp_path, "-o", tmp_path / "out", "--register-only")
    assert ran.code == 0, ran.err
    assert fits.getheader(tmp_path / "out/mosaic.fits")["NCOMBINE"] == 3


@pytest.fixture
def no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were not installed."""
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "rawpy":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)


def test_without_the_extra_the_way_out_is_named(
    capfd: Capture, small_set: Path, tmp_path: Path, no_extra: None
) -> None:
    (tmp_path / "a.dng").write_bytes(b"II*\0")
    ran = run_cli(capfd, "coadd", tmp_path / "a.dng", "-o", tmp_path / "out")
    assert ran.code == 3
    assert ran.last_line.endswith('reading it needs rawpy: pip install "zemosaic[raw]"')
    ran = run_cli(capfd, "coadd", small_set, tmp_path, "-o", tmp_path / "out")
    assert ran.code == 0
    assert ran.err.count('reading it needs rawpy: pip install "zemosaic[raw]"') == 1


def test_doctor_tells_what_can_be_read(capfd: Capture) -> None:
    ran = run_cli(capfd, "doctor")
    assert "camera raw (CR2, NEF, ARW, DNG ...) as frames: rawpy" in ran.out


def test_suffixes_are_found_in_any_case(tmp_path: Path) -> None:
    for k, suffix in enumerate(PICTURE_SUFFIXES):
        (tmp_path / f"{k}{suffix.upper()}").write_bytes(b"nothing")
    found = scan_all(tmp_path)
    assert len(found.rejected) == len(PICTURE_SUFFIXES)
