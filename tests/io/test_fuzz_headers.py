"""Whatever bytes a folder holds, scanning and measuring end with frames and reasons, never with an exception.

``ZEMOSAIC_FUZZ_EXAMPLES=2000 pytest tests/io/test_fuzz_headers.py`` tries that many inputs a test instead of 60.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import ScanResult, scan
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.pipelines.measuring.measure_task import measure
from zemosaic.settings import InputSettings, Settings

FUZZ = settings(
    deadline=None,
    max_examples=int(os.environ.get("ZEMOSAIC_FUZZ_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_KEYWORDS = """
    SIMPLE BITPIX NAXIS NAXIS1 NAXIS2 NAXIS3 EXTEND PCOUNT GCOUNT BZERO BSCALE BLANK XTENSION ZIMAGE ZBITPIX
    ZNAXIS ZNAXIS1 ZNAXIS2 GROUPS EXTNAME EXTVER BAYERPAT COLORTYP XBAYROFF YBAYROFF ROWORDER FILTER EXPTIME
    EXPOSURE DATE-OBS TIME-OBS IMAGETYP SATURATE FLXSCALE MAGZP NCOMBINE RA DEC OBJCTRA OBJCTDEC EQUINOX EPOCH
    RADESYS FOCALLEN XPIXSZ XBINNING BUNIT WCSAXES CTYPE1 CTYPE2 CTYPE3 CRVAL1 CRVAL2 CRPIX1 CRPIX2 CDELT1
    CDELT2 CROTA1 CROTA2 CD1_1 CD1_2 CD2_1 CD2_2 PC1_1 PC1_2 PC2_2 CUNIT1 CUNIT2 PV1_1 PV2_1 PV2_99 LONPOLE
    LATPOLE A_ORDER B_ORDER AP_ORDER A_0_2 B_2_0 WAT1_001 WAT2_001 CONTINUE END COMMENT
"""
KEYS = st.sampled_from(_KEYWORDS.split())
NUMBERS = st.one_of(
    st.integers().map(str),
    st.sampled_from(["0", "1", "2", "3", "-1", "8", "16", "-32", "30", "20", "1E999", "1D5", "NaN", "inf", "1..5"]),
    st.floats().map(repr),
    st.just("9" * 400),
)
WORDS = st.one_of(
    st.sampled_from([
        "RA---TAN",
        "DEC--TAN",
        "RA---TAN-SIP",
        "GLON-CAR",
        "DEC--TNX",
        "RA---XYZ",
        "RGGB",
        "TRUE",
        "deg",
        "FK4",
        "IMAGE",
    ]),
    st.text(max_size=90),
)
VALUES = st.one_of(NUMBERS, WORDS.map(lambda word: f"'{word}'"), WORDS, st.sampled_from(["T", "F", "", "'open", "/"]))
CARDS = st.lists(
    st.one_of(st.tuples(KEYS, VALUES).map(lambda kv: f"{kv[0]:<8}= {kv[1]}"), st.text(max_size=80)), max_size=25
)


def header_bytes(lines: list[str]) -> bytes:
    cards = [line.encode("utf-8", "replace")[:80].ljust(80) for line in lines]
    block = b"".join([*cards, b"END".ljust(80)])
    return block.ljust(-(-len(block) // 2880) * 2880)


def measured_or_why_not(frame: Frame) -> list[str]:
    """Measure a frame; the reason where it cannot be."""
    if frame.shape[0] * frame.shape[1] > 1_000_000:  # a claim that the file's length bears out: compressed zeros
        return []
    try:
        found = measure(frame, FrameReader(), Settings(), None)
    except FrameRejected as problem:
        return [str(problem)]
    assert np.isfinite(found.sky).all()
    assert np.isfinite(found.noise).all()
    return []


def scan_bytes(folder: Path, content: bytes, name: str = "x.fits") -> ScanResult:
    """Scan one file and try all that a run would do with what is found."""
    (folder / name).write_bytes(content)
    result = scan([folder], InputSettings.model_validate({}))
    assert result.frames or result.rejected or result.notices
    reasons = [rejected.reason for rejected in result.rejected]
    for frame in result.frames:
        assert np.isfinite(frame.decided.gain_prior)
        assert frame.decided.gain_prior > 0
        try:
            wcs = frame_wcs(frame)
        except FrameRejected as problem:
            reasons.append(str(problem))
        else:
            assert np.isfinite(wcs.pixel_scale_arcsec())
        try:
            data, weight = FrameReader().read_window(frame, Box(0, 1, 0, 1))
        except FrameRejected as problem:
            reasons.append(str(problem))
        else:
            assert np.isfinite(data).all()
            assert (weight >= 0).all()
            reasons += measured_or_why_not(frame)
    for reason in reasons:
        assert reason.strip()
        assert "\n" not in reason
        reason.encode("utf-8")
    assert (folder / name).read_bytes() == content
    return result


@FUZZ
@given(CARDS)
def test_header_of_anything(tmp_path: Path, lines: list[str]) -> None:
    scan_bytes(tmp_path, header_bytes(["SIMPLE  =                    T", *lines]) + bytes(2880))


@FUZZ
@given(CARDS)
def test_an_image_with_odd_cards_is_still_looked_at(tmp_path: Path, lines: list[str]) -> None:
    image = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 30", "NAXIS2  = 20"]
    result = scan_bytes(tmp_path, header_bytes([*image, *lines]) + bytes(2880))
    assert len(result.frames) + len(result.rejected) >= 1


@FUZZ
@given(CARDS)
def test_a_celestial_header_with_odd_cards(tmp_path: Path, lines: list[str]) -> None:
    image = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 30", "NAXIS2  = 20"]
    sky = ["CRPIX1  = 15", "CRPIX2  = 10", "CRVAL1  = 5", "CRVAL2  = 6", "CD1_1   = 1E-4", "CD2_2   = 1E-4"]
    names = ["CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'"]
    scan_bytes(tmp_path, header_bytes([*image, *lines, *names, *sky]) + bytes(2880))


@FUZZ
@given(st.binary(max_size=4000), st.sampled_from(["x.fits", "x.fits.gz", "x.fz"]))
def test_random_bytes(tmp_path: Path, content: bytes, name: str) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    scan_bytes(tmp_path, content, name)


class Samples(list[bytes]):
    """Keeps the failing example readable."""

    def __repr__(self) -> str:
        return "samples"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """A plain, a multi-extension and a tile-compressed file."""
    folder = tmp_path_factory.mktemp("samples")
    data = np.random.default_rng(1).integers(0, 900, (20, 30)).astype("i2")
    image, weight = fits.ImageHDU(data, name="SCI"), fits.ImageHDU(np.ones((20, 30), "f4"), name="WHT")
    for name, hdus in (
        ("a", [fits.PrimaryHDU(data)]),
        ("b", [fits.PrimaryHDU(), image, weight]),
        ("c", [fits.PrimaryHDU(), fits.CompImageHDU(data)]),
    ):
        fits.HDUList(hdus).writeto(folder / f"{name}.fits")
    return Samples(path.read_bytes() for path in sorted(folder.iterdir()))


@pytest.mark.filterwarnings("ignore")  # astropy warns of what it repairs in tables of tiles
@FUZZ
@given(st.data())
def test_damaged_files(tmp_path: Path, samples: Samples, data: st.DataObject) -> None:
    content = bytearray(samples[data.draw(st.integers(0, 2))])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(piece)] = piece
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else bytes(content)
    if data.draw(st.booleans()):
        damaged = gzip.compress(damaged, 1)
        if data.draw(st.booleans()):
            damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    scan_bytes(tmp_path, damaged)


@FUZZ
@given(st.text(max_size=400))
def test_head_files_of_anything(tmp_path: Path, samples: Samples, text: str) -> None:
    (tmp_path / "x.head").write_bytes(text.encode("utf-8", "replace"))
    assert scan_bytes(tmp_path, samples[0]).frames


@FUZZ
@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_names_of_anything(tmp_path: Path, samples: Samples, name: str) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    content = samples[0]
    path = tmp_path / f"{name}.fits"
    path.write_bytes(content)
    before = hashlib.sha256(path.read_bytes()).digest()
    result = scan([path], InputSettings.model_validate({}))
    assert len(result.frames) + len(result.notices) == 1
    assert hashlib.sha256(path.read_bytes()).digest() == before


HEADERS = sorted((Path(__file__).parent / "headers").glob("*.txt"))
"""Headers as cameras wrote them: PV distortion, bad date forms, positions of date, sexagesimal and decimal mixed."""


def real_lines(path: Path) -> list[str]:
    """The cards of a real header, made that of a small image."""
    small = {"BITPIX": "16", "NAXIS1": "30", "NAXIS2": "20"}
    lines = path.read_text().splitlines()
    return [f"{key:<8}= {small[key]:>20}" if (key := line[:8].strip()) in small else line for line in lines]


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_headers_of_real_cameras_are_understood(tmp_path: Path, path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 900, (20, 30)).astype(">i2").tobytes()
    found = scan_bytes(tmp_path, header_bytes(real_lines(path)) + pixels.ljust(2880, b"\0"))
    (frame,) = found.frames
    assert frame.decided.exposure_s is not None
    assert frame.decided.exposure_s > 0
    assert frame.header.date_obs
    assert frame.header.wcs_cards or frame.header.hint


@FUZZ
@given(st.data())
def test_real_headers_with_damage(tmp_path: Path, data: st.DataObject) -> None:
    lines = real_lines(data.draw(st.sampled_from(HEADERS)))
    for _ in range(data.draw(st.integers(1, 5))):
        k = data.draw(st.integers(1, len(lines) - 1))
        match data.draw(st.sampled_from(["drop", "double", "value", "cut", "move", "key"])):
            case "drop":
                del lines[k]
            case "double":
                lines.insert(k, lines[k][:9] + data.draw(VALUES))
            case "value":
                lines[k] = f"{lines[k][:8]}= {data.draw(VALUES)}"
            case "cut":
                lines[k] = lines[k][: data.draw(st.integers(0, 79))]
            case "move":
                lines.insert(data.draw(st.integers(0, k)), lines.pop(k))
            case "key":
                lines[k] = f"{data.draw(KEYS):<8}{lines[k][8:]}"
    pixels = np.random.default_rng(1).integers(0, 900, (20, 30)).astype(">i2").tobytes()
    scan_bytes(tmp_path, header_bytes(lines) + pixels.ljust(2880, b"\0"))
