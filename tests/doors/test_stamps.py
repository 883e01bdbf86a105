"""The small stamps of ``tests/data``, in the files that telescopes write, from the folder to the mosaic.

They stand in for the real frames of the developers, which not everybody has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from mosaic_cases import run_cli
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import InputSettings
from zemosaic.simulate import read_truth, score_mosaic

Capture = pytest.CaptureFixture[str]

STAMPS = Path(__file__).resolve().parents[1] / "data"


def test_raw_stamps_are_solved_where_they_are(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "solve", STAMPS / "raw_stamps", "--write-wcs", tmp_path)
    assert ran.code == 0
    truth = {item.name: item for item in read_truth(STAMPS / "raw_stamps").exposures}
    headers = sorted(tmp_path.glob("*.wcs"))
    assert len(headers) == len(truth) == 2
    for path in headers:
        true = truth[f"{path.stem}.fit"]
        height, width = true.shape
        points = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1], [width / 2, height / 2]])
        header = fits.Header.fromfile(path, endcard=True, padding=False)
        del header["NAXIS"]
        found = CelestialWcs.from_header(header, true.shape)
        x, y = true.celestial.sky_to_pixel(*found.pixel_to_sky(*points.T))
        assert np.hypot(x - points[:, 0], y - points[:, 1]).max() < 1.0


def test_raw_stamps_become_a_colour_mosaic(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", STAMPS / "raw_stamps", "-o", tmp_path)
    assert ran.code == 0
    frames = Table.read(tmp_path / "frames.ecsv")
    assert list(frames["use"]) == [True, True]
    with fits.open(tmp_path / "mosaic.fits") as hdus:
        assert hdus[0].data.shape[0] == 3
        assert hdus["COV"].data.max() == 2


def test_panel_stamps_become_a_mosaic_of_the_true_sky(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", STAMPS / "panel_stamps", "-o", tmp_path)
    assert ran.code == 0
    score = score_mosaic(STAMPS / "panel_stamps", tmp_path / "mosaic.fits")
    assert score["filled"] > 0.98
    assert score["background_sigma"] < 0.2


@pytest.mark.parametrize("name", ["raw_stamps", "panel_stamps"])
def test_pixels_and_places_are_those_that_astropy_reads(name: str) -> None:
    frames = scan([STAMPS / name], InputSettings()).frames
    assert len(frames) == 2
    for frame in frames:
        truth, header = fits.getdata(frame.storage.path, frame.storage.hdu, header=True)
        seen = np.isfinite(truth)
        values, weight = FrameReader().read_window(frame, Box.of_shape(frame.shape))
        np.testing.assert_array_equal(weight[0], seen)
        np.testing.assert_array_equal(values[0][seen], truth[seen].astype("f4"))
        if name == "panel_stamps":
            assert frame_wcs(frame).pixel_scale_arcsec() == pytest.approx(
                np.sqrt(abs(header["CD1_1"] * header["CD2_2"] - header["CD1_2"] * header["CD2_1"])) * 3600, rel=1e-6
            )
