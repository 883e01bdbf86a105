"""Raw frames that are too coarse for their stars, beside finer ones of the same sky."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulated_measurements import SCALE, SHAPE, Survey, tan_place
from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.quality.coarse import judge_sampling


@pytest.fixture(scope="module")
def measured() -> Measurements:
    return Survey(seed=2, centres=((0.0, 0.0),)).measurements[0]


def place(ra_deg: float, binning: int = 1) -> CelestialWcs:
    return tan_place((SHAPE[0] // binning, SHAPE[1] // binning), 50 + ra_deg, 20.0, binning * SCALE)


def judge(measured: Measurements, fine_deg: list[float], *, raw: bool = True, fwhm_px: float = 1.9):
    """The verdict on a frame binned 2 x 2 beside others that are not."""
    places = [place(0.0, 2), *(place(ra_deg) for ra_deg in fine_deg)]
    widths = [replace(measured, fwhm_px=fwhm_px), *(replace(measured, fwhm_px=2 * fwhm_px) for _ in fine_deg)]
    return judge_sampling(widths, places, [raw] * len(places))


def test_a_coarse_raw_frame_is_left_out_where_finer_ones_cover_it(measured: Measurements) -> None:
    verdicts = judge(measured, [-0.3, 0.3])
    assert [verdict.kind for verdict in verdicts] == ["coarse", "good", "good"]
    assert "1.9 px wide" in verdicts[0].reason
    assert "cover 98 % of it" in verdicts[0].reason


def test_it_is_told_where_they_cover_a_part(measured: Measurements) -> None:
    verdict = judge(measured, [0.6])[0]
    assert verdict.use
    assert verdict.why.code == "quality.coarse"


@pytest.mark.parametrize("case", [{"raw": False}, {"fwhm_px": 2.4}, {"fine_deg": [5.0]}, {"fwhm_px": float("nan")}])
def test_other_frames_are_good(measured: Measurements, case: dict) -> None:
    assert not any(verdict.why for verdict in judge(measured, **{"fine_deg": [-0.3, 0.3], **case}))


def test_coarse_frames_alone_are_good(measured: Measurements) -> None:
    undersampled = [replace(measured, fwhm_px=1.4)] * 2
    assert not any(v.why for v in judge_sampling(undersampled, [place(0.0), place(0.1)], [True, True]))
