"""XISF files as frames: written from the public specification by the tests' own few lines."""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

from mosaic_cases import draw_stars, noise, run_cli, tan_wcs
from scan_cases import only_frame, only_reason, scan_all
from xisf_cases import pack_lz4, write_xisf
from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.kernels.pixels.lz4 import unpack_lz4
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame

Capture = pytest.CaptureFixture[str]
AnyArray = npt.NDArray[Any]
H, W = 40, 60


def pixels(dtype: str, shape: tuple[int, ...] = (H, W)) -> AnyArray:
    values = np.random.default_rng(3).uniform(20, 250, shape)
    values[..., :7] = 99  # some that repeat, for what packs them
    return values.astype(dtype)


def check_pixels(frame: Frame, from_the_top: AnyArray) -> None:
    """Rows of the frame count from the bottom of the picture."""
    truth = from_the_top[:, ::-1].astype(np.float32)
    reader = FrameReader()
    for box in (Box.of_shape(frame.shape), Box(3, 9, 10, W)):
        data, weight = reader.read_window(frame, box)
        np.testing.assert_array_equal(data, truth[:, *box.slices])
        assert weight.all()


@pytest.mark.parametrize("packing", ["", "zlib", "zlib+sh", "lz4", "lz4+sh", "lz4hc+sh"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "<f4", "<f8"])
def test_every_type_and_packing_gives_its_numbers(tmp_path: Path, dtype: str, packing: str) -> None:
    image = pixels(dtype)
    frame = only_frame(write_xisf(tmp_path / "a.XISF", image, packing=packing, checksum=True))
    assert (frame.storage.layout, frame.storage.is_integer) == ("mono", "u" in dtype)
    check_pixels(frame, image[None])


def test_a_block_in_parts(tmp_path: Path) -> None:
    image = pixels("<u2")
    path = write_xisf(tmp_path / "a.xisf", image, packing="zlib")
    content = image.tobytes()
    parts = [zlib.compress(content[:1000]), zlib.compress(content[1000:])]
    told = f"{len(parts[0])},1000:{len(parts[1])},{len(content) - 1000}"
    path = write_xisf(tmp_path / "b.xisf", image, packing="zlib", attributes=f'subblocks="{told}"')
    whole = path.read_bytes()
    old = zlib.compress(content)
    joined = b"".join(parts)
    head = whole[: whole.index(old)].replace(f':{len(old)}"'.encode(), f':{len(joined)}"'.encode())
    path.write_bytes(head.ljust(4096, b"\0")[:4096] + joined)
    check_pixels(only_frame(path), image[None])


def test_colours_planar_and_side_by_side(tmp_path: Path) -> None:
    image = pixels("<f4", (3, H, W))
    planar = only_frame(write_xisf(tmp_path / "a.xisf", image, attributes='bounds="0:1"'))
    assert (planar.storage.layout, planar.decided.saturation_adu) == ("chw", 1.0)
    check_pixels(planar, image)
    beside = np.ascontiguousarray(np.moveaxis(image, 0, -1))
    normal = only_frame(write_xisf(tmp_path / "b.xisf", beside, attributes='pixelStorage="Normal"'))
    assert normal.storage.layout == "hwc"
    check_pixels(normal, image)
    with_alpha = np.concatenate([image, image[:1]])
    check_pixels(only_frame(write_xisf(tmp_path / "c.xisf", with_alpha)), image)
    big = pixels(">u2")
    check_pixels(only_frame(write_xisf(tmp_path / "d.xisf", big, attributes='byteOrder="big"')), big[None])


def test_keywords_are_cards_and_properties_stand_below_them(tmp_path: Path) -> None:
    keywords = {
        "EXPTIME": "30.", "FILTER": "'Ha & ''OIII'''", "DATE-OBS": "2025-01-10T20:00:00", "NAXIS1": "7",
        "BZERO": "32768", "COMMENT": "", "INSTRUME": "'camera'",
    }  # fmt: skip
    inside = (
        '<Property id="Instrument:Filter:Name" type="String">other</Property>'
        '<Property id="Instrument:Telescope:FocalLength" type="Float32" value="0.25"/>'
        '<Property id="Instrument:Sensor:XPixelSize" type="Float32" value="2.9"/>'
        '<Property id="Observation:Center:RA" type="Float64" value="83.5"/>'
        '<Property id="Observation:Center:Dec" type="Float64" value="-5.25"/>'
    )
    frame = only_frame(write_xisf(tmp_path / "a.xisf", pixels("<u2"), keywords, inside=inside))
    assert (frame.decided.exposure_s, frame.decided.filter) == (30.0, "Ha & 'OIII'")
    assert (frame.header.instrument, frame.header.date_obs) == ("camera", "2025-01-10T20:00:00")
    assert frame.decided.saturation_adu == 65520
    hint = frame.header.hint
    assert hint is not None
    assert (hint.ra_deg, hint.dec_deg) == (83.5, -5.25)
    assert hint.scale_arcsec == pytest.approx(2.9 / 250 * 206.265, rel=1e-4)


def test_a_solution_means_what_that_of_a_fits_file_means(tmp_path: Path) -> None:
    """The same picture in both formats: in FITS rows count from the bottom, and so do the keywords of both."""
    wcs = tan_wcs((H, W), 83.5, -5.25, 2.0)
    header = wcs.to_header()
    keywords = {key: repr(value) for key, value in header.items() if key != "COMMENT"}
    keywords |= {key: f"'{value}'" for key, value in header.items() if isinstance(value, str)}
    from_the_top = pixels("<f4")
    one = only_frame(write_xisf(tmp_path / "a.xisf", from_the_top, keywords))
    fits.writeto(tmp_path / "b.fits", from_the_top[::-1], header)
    other = only_frame(tmp_path / "b.fits")
    assert frame_wcs(one).pixel_to_sky(11.0, 3.0) == frame_wcs(other).pixel_to_sky(11.0, 3.0)
    whole = Box.of_shape((H, W))
    np.testing.assert_array_equal(FrameReader().read_window(one, whole)[0], FrameReader().read_window(other, whole)[0])


@pytest.mark.parametrize("by", ["keyword", "element"])
def test_a_colour_pattern_counts_from_the_top_of_the_picture(tmp_path: Path, by: str) -> None:
    keywords = {"BAYERPAT": "'GRBG'"} if by == "keyword" else {"ROWORDER": "'TOP-DOWN'"}
    inside = '<ColorFilterArray pattern="GRBG" width="2" height="2"/>' if by == "element" else ""
    frame = only_frame(write_xisf(tmp_path / "a.xisf", pixels("<u2"), keywords, inside=inside))
    assert (frame.storage.layout, frame.storage.bayer) == ("bayer", "BGGR")  # rows turned over, an even number of them


def test_types_of_images(tmp_path: Path) -> None:
    write_xisf(tmp_path / "dark.xisf", pixels("<u2"), attributes='imageType="MasterDark"')
    (dark,) = scan_all(tmp_path / "dark.xisf").calibration
    assert (dark.decided.kind, dark.decided.is_master) == ("dark", True)
    write_xisf(tmp_path / "map.xisf", pixels("<f4"), attributes='imageType="RejectionMapHigh"')
    assert "there is no image in it" in only_reason(tmp_path / "map.xisf")


@pytest.mark.parametrize(
    ("attributes", "packing", "message"),
    [
        ('compression="zstd:4800"', "", "packed with zstd:4800 is not read; save it with zlib"),
        ('compression="zlib+sh:4800"', "", "packed with"),
        ('compression="zlib:4800000000"', "", "header is broken"),
    ],
)
def test_what_is_not_read_says_why(tmp_path: Path, attributes: str, packing: str, message: str) -> None:
    path = write_xisf(tmp_path / "a.xisf", pixels("<u2"), attributes=attributes, packing=packing)
    assert message in only_reason(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"UInt16", b"Complex32", "samples of the format Complex32"),
        (b"attachment:4096:4800", b"inline:base64       ", "not attached to its file"),
        (b"60:40:1", b"60x40x1", "geometry = 60x40x1"),
        (b"60:40:1", b"99:40:1", "header is broken: 7920 bytes of pixels in a block of 4800"),
        (b"XISF0100", b"XISF0200", "not a monolithic XISF file"),
        (b"</xisf>", b"<xisf> ", "header is damaged"),
    ],
)
def test_headers_that_are_wrong_say_so(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    content = write_xisf(tmp_path / "a.xisf", pixels("<u2")).read_bytes()
    size = int.from_bytes(content[8:12], "little") + len(new) - len(old)
    changed = content.replace(old, new, 1)
    (tmp_path / "a.xisf").write_bytes(changed[:8] + size.to_bytes(4, "little") + changed[12:])
    assert message in only_reason(tmp_path / "a.xisf")


def test_cut_and_damaged_files_are_told(tmp_path: Path) -> None:
    path = write_xisf(tmp_path / "a.xisf", pixels("<u2"), checksum=True)
    content = path.read_bytes()
    frame = only_frame(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FrameRejected, match="checksum is not the one"):
        FrameReader().read_window(frame, Box(0, 1, 0, 1))
    path.write_bytes(content[:-1])
    assert "file is truncated: its pixels end at byte 8896, it has 8895" in only_reason(path)
    path.write_bytes(content[:200])
    assert "file is truncated: its header has" in only_reason(path)


@pytest.mark.parametrize("packing", ["zlib", "lz4+sh"])
def test_damaged_bytes_never_end_a_scan(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "a.xisf"
    content = np.frombuffer(write_xisf(path, pixels("<u2"), packing=packing).read_bytes(), np.uint8)
    rng = np.random.default_rng(8)
    for k in range(150):
        bad = content.copy()
        where = rng.integers(0, 500, 4) if k % 2 else rng.integers(4096, len(bad), 6)
        bad[where] = rng.integers(0, 256, len(where))
        path.write_bytes(bad.tobytes())
        for frame in scan_all(path).frames:
            with contextlib.suppress(FrameRejected):
                data, _ = FrameReader().read_window(frame, Box.of_shape(frame.shape))
                assert np.isfinite(data).all()


def test_lz4_unpacks_long_runs_and_matches_that_overlap() -> None:
    content = b"abcd" * 200 + bytes(range(256)) * 3 + b"\0" * 1000 + b"the last literals"
    out = np.empty(len(content), np.uint8)
    packed = np.frombuffer(pack_lz4(content), np.uint8)
    assert len(packed) < len(content) / 4
    assert unpack_lz4(packed, out) == len(content)
    assert out.tobytes() == content
    assert unpack_lz4(packed, out[:50].copy()) == -1


def test_xisf_frames_are_stacked_beside_fits(capfd: Capture, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(-0.03, 0.03, 80) % 360, rng.uniform(-0.03, 0.03, 80)
    flux = 4000 * rng.exponential(size=80) + 2000
    for k in range(3):
        wcs = tan_wcs((220, 260), 0.0, 0.0, 1.0)
        wcs.wcs.crpix += (7.3 * k, -4.1 * k)
        image = noise((220, 260), k, 3.0, 500) + draw_stars(wcs, (220, 260), ra, dec, flux, 3.0)
        if k < 2:
            write_xisf(tmp_path / f"{k}.xisf", image[::-1].astype("<f4"), packing="lz4+sh")
        else:
            fits.PrimaryHDU(image.astype(np.float32)).writeto(tmp_path / "2.fits")
    ran = run_cli(capfd, "build", tmp_path, "-o", tmp_path / "out", "--register-only")
    assert ran.code == 0, ran.err
    assert fits.getheader(tmp_path / "out/mosaic.fits")["NCOMBINE"] == 3
