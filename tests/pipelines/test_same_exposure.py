"""An exposure that several files hold counts once; those that only share a second all count."""

from __future__ import annotations

from typing import Any

import pytest
from astropy.io import fits

from frame_cases import make_frame, vary_frame
from mosaic_cases import tan_wcs
from zemosaic.engine.events import Event, LeftOut, Notice
from zemosaic.model.frame import Frame, FrameId
from zemosaic.pipelines.frames.same_exposure import find_twins, use_exposures_once
from zemosaic.pipelines.run.context import start_run

SHAPE = (100, 200)
RAW = make_frame(
    "0", "/sky/lights/Light_7.fit", SHAPE, layout="bayer", bayer="GRBG", camera="cam||", instrument="cam",
    exposure_s=10.0, date_obs="2026-01-10T20:00:00.250", is_integer=True,
)  # fmt: skip


def other(path: str, frame: Frame = RAW, **changed: Any) -> Frame:
    return vary_frame(frame, id=FrameId(path), path=path, **changed)


def grey(path: str, **changed: Any) -> Frame:
    return other(path, layout="mono", bayer=None, **changed)


def at(ra_deg: float) -> str:
    return str(fits.Header(tan_wcs(SHAPE, ra_deg).to_header()).tostring())


def left_out(*frames: Frame) -> set[str]:
    return {frame.storage.path for frame, _ in find_twins(frames).values()}


COLOUR = other("/p/pp_light_00001.fit", layout="chw", bayer=None, is_integer=False)
CALIBRATED = grey("/p/pp_light_00001.fit", is_integer=False)


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (COLOUR, RAW),
        (grey("/l/x_1.fit"), CALIBRATED),
        (grey("/l/x_1.fit"), grey("/l/pp_x_1.fit")),
        (grey("/p/r_pp_x_1.fit", is_integer=False), CALIBRATED),
        (grey("/a/x_1.fit"), grey("/b/x_1.fits.fz", hdu=1, wcs_cards=at(80.0))),
        (COLOUR, vary_frame(RAW, date_obs="2026-01-10T20:00:00.250000")),
    ],
)
def test_one_file_of_an_exposure_counts(worse: Frame, better: Frame) -> None:
    assert left_out(worse, better) == left_out(better, worse) == {worse.storage.path}


@pytest.mark.parametrize(
    "frame",
    [
        grey("/l/x_2.fit"),
        vary_frame(CALIBRATED, exposure_s=20.0),
        vary_frame(CALIBRATED, date_obs="2026-01-10T20:00:00.500"),
        vary_frame(CALIBRATED, camera="cam||chip2"),
        vary_frame(CALIBRATED, filter="R"),
        vary_frame(CALIBRATED, n_stacked=20),
        vary_frame(CALIBRATED, wcs_cards=at(80.5)),
    ],
)
def test_frames_that_share_little_all_count(frame: Frame) -> None:
    assert left_out(grey("/l/x_1.fit", wcs_cards=at(80.0)), frame) == set()


def test_a_date_without_a_time_tells_nothing() -> None:
    assert left_out(vary_frame(RAW, date_obs="2026-01-10"), vary_frame(COLOUR, date_obs="2026-01-10")) == set()


def test_what_is_left_out_is_told_with_its_twin() -> None:
    events: list[Event] = []
    assert use_exposures_once([RAW, COLOUR], start_run(sink=events.append)).frames == [RAW]
    (out,) = [event for event in events if isinstance(event, LeftOut)]
    assert out.path == COLOUR.storage.path
    assert RAW.name in out.reason
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert f"{RAW.name} for {COLOUR.name}" in notice.message
