"""Masks are bits: which of them mean 'do not use', by who made the file or by the setting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

from zemosaic.errors import SettingError
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.settings import InputSettings

SHAPE = (8, 40)

Plane = npt.NDArray[np.generic]


def write(path: Path, plane: Plane, maps: tuple[str, ...] = (), name: str = "DQ", **cards: str) -> None:
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    sky = np.random.default_rng(0).normal(100, 5, SHAPE).astype("f4")
    mask = fits.ImageHDU(plane, name=name)
    for k, plane_name in enumerate(("BAD", "SAT", "INTRP", "CR", "DETECTED", "NO_DATA")):
        if name == "MASK":
            mask.header[f"HIERARCH MP_{plane_name}"] = k
    errors = [fits.ImageHDU(np.full(SHAPE, 5, "f4"), name=each) for each in maps]
    fits.HDUList([primary, fits.ImageHDU(sky, name="SCI"), *errors, mask]).writeto(path)


def frame_of(path: Path, **settings: object) -> Frame:
    (frame,) = scan([path], InputSettings(**settings)).frames  # type: ignore[arg-type]
    return frame


def kept_bits(path: Path, **settings: object) -> set[int]:
    """Bits whose pixels keep their weight: column k of the plane holds bit k alone."""
    _, weight = FrameReader().read_window(frame_of(path, **settings), Box.of_shape(SHAPE))
    assert weight[0, :, -1].all()  # no bit at all
    return set(np.flatnonzero(weight[0].all(axis=0))) - {SHAPE[1] - 1}


def plane_of_bits(n_bits: int, dtype: str) -> Plane:
    plane = np.zeros(SHAPE, dtype)
    for k in range(n_bits):
        plane[:, k] = np.array(1, dtype) << np.array(k, dtype)
    return plane


@pytest.mark.parametrize(
    ("cards", "name", "bad"),
    [
        ({"TELESCOP": "JWST"}, "DQ", {0}),
        ({"TELESCOP": "ROMAN"}, "DQ", {0}),
        ({"TELESCOP": "HST", "INSTRUME": "ACS"}, "DQ", set(range(15)) - {4, 6}),
        ({"TELESCOP": "HST", "INSTRUME": "WFC3", "DETECTOR": "IR"}, "DQ", set(range(15)) - {6, 9, 13}),
        ({"TELESCOP": "LSST"}, "MASK", {0, 1, 3, 5}),
        ({"INSTRUME": "DECam"}, "MSK", {0, 1, 3, 4, 6, 7, 8, 9, 10}),
        ({"INSTRUME": "DECam"}, "DQ", set(range(15))),
        ({"TELESCOP": "another"}, "DQ", set(range(15))),
    ],
)
def test_bits_that_forbid_a_pixel(tmp_path: Path, cards: dict[str, str], name: str, bad: set[int]) -> None:
    write(tmp_path / "a.fits", plane_of_bits(15, "i2"), name=name, **cards)
    assert set(range(15)) - kept_bits(tmp_path / "a.fits") & set(range(15)) == bad
    assert frame_of(tmp_path / "a.fits").storage.mask.is_known == (cards.get("TELESCOP") != "another")


@pytest.mark.parametrize(("setting", "bad"), [("any", set(range(15))), ("1+8", {0, 3}), ("0x6", {1, 2}), (4, {2})])
def test_a_setting_stands_over_tables(tmp_path: Path, setting: object, bad: set[int]) -> None:
    write(tmp_path / "a.fits", plane_of_bits(15, "i2"), TELESCOP="JWST")
    assert set(range(15)) - kept_bits(tmp_path / "a.fits", mask_bits=setting) & set(range(15)) == bad


def test_a_low_bit_beside_a_high_one_is_seen(tmp_path: Path) -> None:
    """DO_NOT_USE and OTHER_BAD_PIXEL make 2**30 + 1, which float32 rounds to 2**30; planes are stored with BZERO."""
    plane = plane_of_bits(32, "u4")
    plane[:, 5] = 2**30 + 1
    write(tmp_path / "a.fits", plane, TELESCOP="JWST")
    assert set(range(32)) - kept_bits(tmp_path / "a.fits") == {0, 5}


def test_a_known_mask_counts_beside_an_error_map(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", plane_of_bits(15, "i2"), ("ERR",), TELESCOP="JWST")
    assert frame_of(tmp_path / "a.fits").storage.weight.kind == "error"
    assert 0 not in kept_bits(tmp_path / "a.fits")


def test_a_plane_that_nobody_knows_adds_nothing_to_an_error_map(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", plane_of_bits(15, "i2"), ("ERR",))
    assert frame_of(tmp_path / "a.fits").storage.mask is None


def test_a_setting_that_is_no_sum_of_bits_is_told() -> None:
    with pytest.raises(SettingError, match="mask_bits = 'bad' is neither auto, any nor a sum of bits"):
        InputSettings(mask_bits="bad")  # type: ignore[arg-type]
