"""Where frames lie by their headers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mosaic_cases import tan_wcs, write_frame
from zemosaic.io.read.scan import scan
from zemosaic.model.frame import PointingHint
from zemosaic.pipelines.modes.forecast import forecast_mosaic
from zemosaic.pipelines.solving.header_corners import header_corners
from zemosaic.settings import InputSettings, make_settings
from zemosaic.stages.grid.plan import make_wcs


def test_corners_by_wcs_by_pointing_and_by_nothing(tmp_path: Path) -> None:
    wcs = tan_wcs((40, 60))
    write_frame(tmp_path / "a.fits", np.ones((40, 60), np.float32), wcs)
    (frame,) = scan([tmp_path], InputSettings()).frames
    x, y = np.array([-0.5, 59.5, 59.5, -0.5]), np.array([-0.5, -0.5, 39.5, 39.5])
    np.testing.assert_allclose(header_corners(frame), np.stack(wcs.wcs_pix2world(x, y, 0), axis=1), atol=1e-9)

    bare = replace(
        frame, header=replace(frame.header, wcs_cards=None, hints=(PointingHint(0.1, 60.0, scale_arcsec=36.0),))
    )
    north_up = make_wcs((0.1, 60.0), 36.0, (40, 60))  # past RA 0h
    np.testing.assert_allclose(header_corners(bare), np.stack(north_up.pixel_to_sky(x, y), axis=1), atol=1e-9)
    for hints in ((), (PointingHint(0.1, 60.0),)):
        assert header_corners(replace(bare, header=replace(bare.header, hints=hints))) is None


def test_frames_without_a_place_are_taken_to_lie_where_the_others_lie(tmp_path: Path) -> None:
    for k, wcs in enumerate((tan_wcs((40, 60)), None)):
        write_frame(tmp_path / f"{k}.fits", np.ones((40, 60), np.float32), wcs, FILTER="HO"[k])
    frames = sorted(scan([tmp_path], InputSettings()).frames, key=lambda frame: frame.header.wcs_cards is None)
    whole = forecast_mosaic(frames, make_settings({}), {})
    assert (whole.n_frames, whole.n_values) == (2, 2 * 40 * 60)
    one = forecast_mosaic(frames[:1], make_settings({}), {})
    assert whole.shape == one.shape
    assert whole.output_bytes == 2 * one.output_bytes  # of two filters
    assert whole.seconds > one.seconds
    slow = forecast_mosaic(frames, make_settings({}), {"stack": 3.0})
    assert whole.seconds < slow.seconds < 3 * whole.seconds
    assert forecast_mosaic(frames[1:], make_settings({}), {}).shape is None
