"""What frames of one mosaic have in common."""

from __future__ import annotations

import pytest

from frame_cases import make_frame, vary_frame
from zemosaic.model.kind import Kind

FRAME = make_frame("a", "a.fits", (10, 10), filter="R")


def test_raw_and_colour_frames_of_one_filter_are_of_one_kind() -> None:
    raw = vary_frame(FRAME, layout="bayer", bayer="RGGB")
    assert Kind.of(raw) == Kind.of(vary_frame(FRAME, layout="chw")) == Kind("R", 3, "adu")


@pytest.mark.parametrize("other", [{"filter": "B"}, {"layout": "hwc"}, {"unit": "electron"}, {"unit": "MJy/sr"}])
def test_frames_that_differ_in_filter_colour_or_unit_are_not(other: dict[str, str]) -> None:
    assert Kind.of(vary_frame(FRAME, **other)) != Kind.of(FRAME)


@pytest.mark.parametrize(
    ("written", "unit"),
    [("", "adu"), ("ADU", "adu"), ("Counts ", "adu"), ("e-", "electron"), ("Electrons", "electron"), ("Jy", "Jy")],
)
def test_spellings_of_a_unit_are_one(written: str, unit: str) -> None:
    assert Kind.of(vary_frame(FRAME, unit=written)).unit == unit
