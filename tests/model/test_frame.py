"""What makes a frame what it is: all that is known of it, but not where its files lie."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from frame_cases import make_frame, vary_frame
from zemosaic.engine.values import digest_of
from zemosaic.model.box import Box
from zemosaic.model.frame import Decided, HeaderFacts, MapRef, PointingHint, Storage
from zemosaic.text import message

FULL = make_frame(
    "f", "/a/f.fits", (10, 20), bayer="GRBG", weight=MapRef("/a/f.weight.fits", 0, "weight"),
    mask=MapRef("/a/f.fits", 1, "mask"), data_box=Box(0, 10, 0, 19), alpha=MapRef("/a/f.fits", 2, "alpha", 255.0),
    wcs_cards="WCS", wcs_problem=message("header.no-wcs"), hints=(PointingHint(1.0, 2.0),),
    saturation_adu=1.0, gain_setting=1.0, temperature_c=1.0, rotation_deg=1.0, electrons_per_adu=1.0, exposure_s=1.0,
)  # fmt: skip


def altered(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case _:
            return None


FACTS = [field.name for part in (Storage, HeaderFacts, Decided) for field in fields(part)]


@pytest.mark.parametrize("name", [name for name in FACTS if name != "path"])
def test_whatever_is_known_of_a_frame_is_in_its_keys(name: str) -> None:
    part = next(p for p in (FULL.storage, FULL.header, FULL.decided) if hasattr(p, name))
    assert digest_of(vary_frame(FULL, **{name: altered(getattr(part, name))})) != digest_of(FULL)


def test_what_its_maps_mean_is_in_its_keys() -> None:
    mask = MapRef("/a/f.weight.fits", 0, "mask")
    one = MapRef("/a/f.fits", 2, "alpha", 1.0)
    assert len({digest_of(frame) for frame in (FULL, vary_frame(FULL, weight=mask), vary_frame(FULL, alpha=one))}) == 3


def test_where_its_files_lie_is_not() -> None:
    moved = vary_frame(
        FULL, path="/b/g.fits", weight=MapRef("/b/g.weight.fits", 0, "weight"), mask=MapRef("/b/g.fits", 1, "mask"),
        alpha=MapRef("/b/g.fits", 2, "alpha", 255.0),
    )  # fmt: skip
    assert digest_of(moved) == digest_of(FULL)


def test_a_fact_is_in_one_part_alone() -> None:
    assert len(set(FACTS)) == len(FACTS)
