"""Overscan by the sections of a header: what is believed, and what is left over from another array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from zemosaic.io.headers.cards import Cards
from zemosaic.io.headers.sections import read_data_section
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.settings import InputSettings

SHAPE = (400, 532)
SKY = Box(0, 400, 0, 500)


def cards(**values: str) -> Cards:
    return Cards({key: f" '{value}'" for key, value in values.items()})


@pytest.mark.parametrize(
    ("sections", "box"),
    [
        ({"DATASEC": "[1:500,1:400]"}, SKY),
        ({"TRIMSEC": "[1:500,1:400]", "BIASSEC": "[501:532,1:400]"}, SKY),
        ({"TRIMSEC": "[ 500:   1,   1: 400]"}, SKY),  # read backwards, with blanks
        ({"DATASEC": "[1:500,*]"}, SKY),
        ({"BIASSEC": "[501:532,1:400]"}, SKY),
        ({"BIASSEC": "[1:12,1:400]"}, Box(0, 400, 12, 532)),
        ({"DATASEC": "[11:520,1:400]", "TRIMSEC": "[21:532,3:398]"}, Box(2, 398, 20, 520)),
        ({"DATASEC": "[1:500,1:400]", "CCDSEC": "[1:1000,1:800]", "CCDSUM": "2 2"}, SKY),
        # a camera whose CCDSEC is the array: the overscan beside is a fact that agrees
        ({"TRIMSEC": "[1:500,1:400]", "BIASSEC": "[501:532,1:400]", "CCDSEC": "[1:532,1:400]"}, SKY),
        ({"DATASEC": "[1:532,1:400]"}, None),
        ({"CCDSEC": "[1:500,1:400]"}, None),  # names a part of the chip, not of the array
        ({}, None),
    ],
)
def test_sections_that_fit_are_believed(sections: dict[str, str], box: Box | None) -> None:
    found = read_data_section(cards(**sections), SHAPE)
    assert (found.box, found.doubts) == (box, ())


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"TRIMSEC": "[17:532,1:520]"}, "does not fit the array of 532 x 400 pixels"),  # trimmed already
        ({"DATASEC": "[0:0,0:0]"}, "does not fit"),
        ({"DATASEC": "[1:5,1:4]"}, "leaves only 20 of 212800 pixels"),
        ({"DATASEC": "none"}, "is no section of the form"),
        ({"BIASSEC": "[533:560,1:400]"}, "does not fit"),
        ({"DATASEC": "[1:500,1:400]", "CCDSEC": "[1:532,1:400]"}, "is not CCDSEC"),
    ],
)
def test_sections_of_another_array_are_told(sections: dict[str, str], reason: str) -> None:
    found = read_data_section(cards(**sections), SHAPE)
    assert found.box is None
    doubt = str(*found.doubts)
    assert reason in doubt
    assert next(iter(sections)) in doubt


def test_a_scan_tells_what_is_not_believed_once(tmp_path: Path) -> None:
    for k in range(3):
        hdu = fits.PrimaryHDU(np.random.default_rng(k).normal(100, 5, (20, 30)).astype("f4"))
        hdu.header["TRIMSEC"] = "[3:32,1:20]"
        hdu.writeto(tmp_path / f"{k}.fits")
    result = scan([tmp_path], InputSettings())
    assert [frame.header.data_box for frame in result.frames] == [None] * 3
    assert tuple(map(str, result.notices)) == (
        "3 headers are not believed: TRIMSEC = [3:32,1:20] does not fit the array of 30 x 20 pixels",
    )
