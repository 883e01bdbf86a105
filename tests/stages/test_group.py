"""Frames into master-tile groups: by the sky and the settings alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from frame_cases import make_frame
from mosaic_cases import tan_wcs
from zemosaic.io.headers.cards import Cards, Hdu
from zemosaic.io.headers.facts import frame_from_cards
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import GroupKey
from zemosaic.stages.tiles.group import (
    describe_plan,
    group_frames,
    position_angle_deg,
    turn_deg,
)

SHAPE = 300, 400
"""Of 2 arcsec pixels: the shorter side is 1/6 degree."""


def frame(number: int, **facts: object) -> Frame:
    given = {"date_obs": "2026-01-10T20:00:00", **facts}
    return make_frame(f"{number:04d}", f"/{number}.fits", SHAPE, **given)


def places(positions: Sequence[tuple[float, float]], turns: Sequence[float] | None = None) -> list[CelestialWcs]:
    turns = turns or [0.0] * len(positions)
    return [
        CelestialWcs(tan_wcs(SHAPE, ra, dec, rotation_deg=turn), SHAPE)
        for (ra, dec), turn in zip(positions, turns, strict=True)
    ]


def two_panels(ra0: float, dec0: float, n: int = 12) -> list[tuple[float, float]]:
    """Pointings round two points 0.25 degrees apart, scattered by 0.01, in turn."""
    rng = np.random.default_rng(3)
    found = []
    for k in range(n):
        dx, dy = rng.normal(0, 0.01, 2) + np.array([0.125 if k % 2 else -0.125, 0.0])
        wcs = CelestialWcs(tan_wcs((1, 1), ra0, dec0, scale_arcsec=3600), (1, 1))
        ra, dec = wcs.pixel_to_sky(-dx, dy)
        found.append((float(ra), float(dec)))
    return found


@pytest.mark.parametrize(("ra", "dec"), [(150.0, 30.0), (0.0, 0.0), (359.999, -45.0), (40.0, 89.95), (200.0, -90.0)])
def test_panels_become_groups_anywhere_on_the_sky(ra: float, dec: float) -> None:
    positions = two_panels(ra, dec)
    groups = group_frames([frame(k) for k in range(12)], places(positions), GroupKey(0.5))
    assert {frozenset(g.members) for g in groups} == {frozenset(range(0, 12, 2)), frozenset(range(1, 12, 2))}
    assert [g.number for g in groups] == [1, 2]


def test_every_frame_is_in_one_group_whatever_the_order() -> None:
    rng = np.random.default_rng(1)
    positions = [(150 + float(a), 30 + float(b)) for a, b in rng.uniform(-0.6, 0.6, (150, 2))]
    frames, where = [frame(k) for k in range(150)], places(positions)
    groups = group_frames(frames, where, GroupKey(0.7))
    assert sorted(i for g in groups for i in g.members) == list(range(150))
    shuffled = rng.permutation(150)
    again = group_frames([frames[i] for i in shuffled], [where[i] for i in shuffled], GroupKey(0.7))
    ids = [[frames[i].id for i in g.members] for g in groups]
    assert ids == [[frames[shuffled[i]].id for i in g.members] for g in again]
    assert min(len(g.members) for g in groups) >= 5
    larger = group_frames(frames, where, GroupKey(1.5))
    assert len(larger) < len(groups)


def test_a_lonely_frame_far_from_all_others_stays_alone() -> None:
    positions = [*two_panels(150, 30), (151.5, 30.0)]
    groups = group_frames([frame(k) for k in range(13)], places(positions), GroupKey(0.5))
    assert sorted(len(g.members) for g in groups) == [1, 6, 6]


def test_what_splits_groups() -> None:
    positions = [(150.0, 30.0)] * 24
    turns = [5.0 * (k // 12) * 6 + k % 12 * 0.5 for k in range(24)]  # 0 to 5.5, then 30 to 35.5 degrees
    frames = [
        frame(
            k,
            date_obs=f"2026-01-{10 + k % 2}T20:{k:02d}:00",
            filter="HL"[k % 3 == 0],
            mount="altaz" if k < 6 else "equatorial",
        )
        for k in range(24)
    ]
    where = places(positions, turns)

    def parts(*words: str) -> set[frozenset[int]]:
        return {frozenset(g.members) for g in group_frames(frames, where, GroupKey(0.5, frozenset(words)))}

    assert parts() == {frozenset(range(24))}
    assert parts("angle") == {frozenset(range(12)), frozenset(range(12, 24))}
    assert parts("night") == {frozenset(range(0, 24, 2)), frozenset(range(1, 24, 2))}
    assert parts("filter") == {frozenset(range(0, 24, 3)), frozenset(set(range(24)) - set(range(0, 24, 3)))}
    assert parts("mount") == {frozenset(range(6)), frozenset(range(6, 24))}
    assert parts("night", "angle") == {frozenset(range(a, b, 2)) for a, b in ((0, 12), (1, 12), (12, 24), (13, 24))}


def test_the_plan_can_be_printed() -> None:
    groups = group_frames(
        [frame(k) for k in range(12)], places(two_panels(150, 30)), GroupKey(0.5, frozenset({"night"}))
    )
    lines = [str(told) for told in describe_plan(groups)]
    assert lines[0].startswith("tile 1: 6 frames round 1")
    assert lines[1].endswith("turned by 0.0 deg, night 1")


def test_angles() -> None:
    for turn in (0.0, 17.0, 95.0, 350.0):
        (wcs,) = places([(150.0, 30.0)], [turn])
        assert position_angle_deg(wcs) == pytest.approx(turn, abs=1e-3)
    assert turn_deg([350, 355, 10]) == pytest.approx(20)
    assert turn_deg([42]) == 0


@pytest.mark.parametrize(("value", "mount"), [(None, ""), ("0", "altaz"), ("1", "equatorial")])
def test_the_mount_is_read_from_eqmode(value: str | None, mount: str) -> None:
    cards = Cards({"NAXIS": "2", "NAXIS1": "9", "NAXIS2": "9", "BITPIX": "16", **({"EQMODE": value} if value else {})})
    assert frame_from_cards(Hdu(0, cards, b"", 0, 0), cards, "/a.fits", FrameId("a")).decided.mount == mount
