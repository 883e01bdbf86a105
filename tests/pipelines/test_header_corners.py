"""Where frames lie by their headers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mosaic_cases import tan_wcs, write_frame
from zemosaic.io.read.scan import scan
from zemosaic.model.frame import PointingHint
from zemosaic.pipelines.solving.header_corners import header_corners
from zemosaic.settings import InputSettings


def test_corners_by_wcs_by_pointing_and_by_nothing(tmp_path: Path) -> None:
    wcs = tan_wcs((40, 60))
    write_frame(tmp_path / "a.fits", np.ones((40, 60), np.float32), wcs)
    (frame,) = scan([tmp_path], InputSettings()).frames
    x, y = np.array([-0.5, 59.5, 59.5, -0.5]), np.array([-0.5, -0.5, 39.5, 39.5])
    np.testing.assert_allclose(header_corners(frame), np.stack(wcs.wcs_pix2world(x, y, 0), axis=1), atol=1e-9)

    bare = replace(
        frame, header=replace(frame.header, wcs_cards=None, hints=(PointingHint(0.1, 60.0, scale_arcsec=36.0),))
    )
    corners = header_corners(bare)
    assert corners is not None
    (ra, dec), east = np.array(corners).T, (np.array(corners)[:, 0] + 180) % 360 - 180
    np.testing.assert_allclose(dec, [59.8, 59.8, 60.2, 60.2])
    assert ra[1] > 359  # past RA 0h
    np.testing.assert_allclose((east - 0.1) * np.cos(np.deg2rad(dec)), [0.3, -0.3, -0.3, 0.3])
    for hints in ((), (PointingHint(0.1, 60.0),)):
        assert header_corners(replace(bare, header=replace(bare.header, hints=hints))) is None
