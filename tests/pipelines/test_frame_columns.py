"""What a build tells of its frames and of itself: corners, weights, clipped shares, zero points, checksums."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from frame_cases import make_frame
from mosaic_cases import report_of, tan_wcs
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.model.box import Box
from zemosaic.model.measurements import Blocks, Measurements, Stars
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.outputs.report import Treatment, write_frames_table
from zemosaic.pipelines.outputs.zero_point import zero_point_cards
from zemosaic.pipelines.patches.plan import frame_weight
from zemosaic.pipelines.solving.places import Place
from zemosaic.stages.grid.plan import make_wcs

SHAPE = (300, 400)


def stars_at(x: NDArray[np.float64], y: NDArray[np.float64], flux: NDArray[np.float32]) -> Stars:
    """Clean stars of known fluxes."""
    one, no = np.ones(len(x), np.float32), np.zeros(len(x), bool)
    return Stars(x, y, flux, 0.01 * flux, flux, one, 3 * one, 0 * one, no, no)


def placed(name: str, center_deg: tuple[float, float], turn_deg: float, stars: Stars | None = None) -> PlacedFrame:
    """A frame somewhere on the sky, of 2 arcsec pixels and noise 5."""
    wcs = tan_wcs(SHAPE, *center_deg, 2.0, turn_deg)
    measured = Measurements(
        SHAPE, np.array([100.0]), np.array([5.0]), np.array([5.0]), Box.of_shape(SHAPE), 3.0, 0.1,
        stars or Stars.empty(1), Blocks.empty(1),
    )  # fmt: skip
    place = Place(CelestialWcs(wcs, SHAPE), "solved")
    return PlacedFrame(make_frame(name, f"/sky/{name}.fits", SHAPE), measured, place)


@pytest.mark.parametrize("center_deg", [(0.001, 10.0), (359.999, -30.0), (123.0, 89.0), (0.0, -89.9)])
@pytest.mark.parametrize("turn_deg", [0.0, 37.0, 180.0])
def test_corners_are_those_of_the_solved_place(
    center_deg: tuple[float, float], turn_deg: float, tmp_path: Path
) -> None:
    item = placed("a", center_deg, turn_deg)
    treated = {"a": Treatment(PhotoScale.neutral(1), np.array([0.04]), 0.125)}
    write_frames_table(tmp_path / "frames.ecsv", [item], treated, {"a"}, {}, [])
    (row,) = Table.read(tmp_path / "frames.ecsv")
    x, y = item.wcs.wcs.all_world2pix(
        [row[f"ra{k}_deg"] for k in (1, 2, 3, 4)], [row[f"dec{k}_deg"] for k in (1, 2, 3, 4)], 0
    )
    np.testing.assert_allclose(x, [-0.5, 399.5, 399.5, -0.5], atol=1e-3)
    np.testing.assert_allclose(y, [-0.5, -0.5, 299.5, 299.5], atol=1e-3)
    assert 0 <= min(row[f"ra{k}_deg"] for k in (1, 2, 3, 4)) <= max(row[f"ra{k}_deg"] for k in (1, 2, 3, 4)) < 360
    # A frame that is turned by an angle has its columns that far to the east of north.
    apart = (row["position_angle_deg"] - turn_deg + 180) % 360 - 180
    assert abs(apart) < 1e-2
    assert (row["weight"], row["clipped_share"]) == (0.04, 0.125)


def test_a_weight_is_an_inverse_variance_of_the_mosaic() -> None:
    item, grid = placed("a", (10.0, 20.0), 0.0), SkyGrid(make_wcs((10.0, 20.0), 4.0, SHAPE))
    # Four times the area, twice the light: noise of 5 becomes 10.
    scale = PhotoScale(np.array([2.0]), np.zeros((1, 6)))
    np.testing.assert_allclose(frame_weight(item, scale, grid), 1 / 10.0**2, rtol=1e-6)


def test_zero_points_are_those_of_listed_stars() -> None:
    rng = np.random.default_rng(2)
    center, grid = (83.8, 22.0), SkyGrid(make_wcs((83.8, 22.0), 8.0, (1200, 1200)))
    frames, scales = [], {}
    for name, gain in (("a", 1.0), ("b", 1.4)):
        wide = tan_wcs(SHAPE, *center, 20.0, 30.0)
        known = tycho2().cone(*center, 2.0)
        x, y = wide.all_world2pix(known.ra_deg, known.dec_deg, 0)
        inside = (x > 5) & (x < 395) & (y > 5) & (y < 295)
        flux = gain * 10 ** (-0.4 * (known.mag[inside] + rng.normal(0, 0.2, inside.sum()) - 24.5))
        order = np.argsort(-flux)
        chance = rng.uniform(5, 290, (2, 30))  # stars that no list knows
        stars = stars_at(
            np.r_[x[inside][order], chance[0]], np.r_[y[inside][order], chance[1]],
            np.r_[flux[order], np.full(30, 50.0)][None].astype(np.float32),
        )  # fmt: skip
        item = placed(name, center, 30.0, stars)
        frames.append(PlacedFrame(item.frame, item.measured, Place(CelestialWcs(wide, SHAPE), "solved")))
        scales[name] = PhotoScale(np.array([gain]), np.zeros((1, 6)))
    (key, value, told), system = zero_point_cards(frames, scales, grid)
    assert (key, system[0]) == ("PHOTZP", "PHOTSYS")
    assert value == pytest.approx(24.5, abs=0.05)
    assert " stars" in told
    # At another place the stars are none of the list.
    lost = [placed(item.frame.id, (40.0, -10.0), 0.0, item.measured.stars) for item in frames]
    assert zero_point_cards(lost, scales, SkyGrid(make_wcs((40.0, -10.0), 8.0, (1200, 1200)))) == []


def test_a_build_tells_checksums_and_how_frames_count(small_set: Path, built: Path) -> None:
    told = json.loads((built / "provenance.json").read_text(encoding="utf-8"))
    files = sorted(small_set.glob("*.fits"))
    assert [entry["path"] for entry in told["inputs"]] == [str(path) for path in files]
    for entry, path in zip(told["inputs"], files, strict=True):
        assert entry["n_bytes"] == path.stat().st_size
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    acting = (built / "settings.toml").read_bytes().partition(b"\n[output]\n")[0]
    settings_sum = hashlib.sha256(acting).hexdigest()
    with fits.open(built / "mosaic.fits") as hdus:
        assert settings_sum == hdus[0].header["SETHASH"] == told["settings_sha256"]
        assert np.array_equal(hdus["ALPHA"].data, np.where(np.isfinite(hdus[0].data), 255, 0))
        n_samples = hdus["COV"].data.sum()
    frames = Table.read(built / "frames.ecsv")
    assert np.all(frames["weight"] > 0)
    share = np.array(frames["clipped_share"])
    report = report_of(built)["mosaic"]
    assert report["n_samples"] == n_samples
    # Frames of one size hold about as many samples each.
    assert share.mean() == pytest.approx(report["n_rejected"] / n_samples, rel=0.1)
    trails = [bool(truth["trail"]) for truth in json.loads((small_set / "truth.json").read_text())["exposures"]]
    assert share[trails].min() > 2 * np.median(share[~np.array(trails)])
