"""Shifts by phase correlation, and frames laid on each other by them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as spline_shift

from mosaic_cases import noise, run_cli
from zemosaic.model.box import Box
from zemosaic.stages.solve.by_pixels import FftShift, find_shift, shift_overlap

Capture = pytest.CaptureFixture[str]
LOG = "zemosaic.stages.solve.by_pixels"
SHAPE = 200, 256


def starry(seed: int = 1) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    field = np.zeros((300, 400))
    field[rng.integers(0, 300, 90), rng.integers(0, 400, 90)] = rng.uniform(200, 6000, 90)
    return gaussian_filter(field, 1.4)


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (5, -7), (-31, 40), (12, 0)])
def test_a_shift_is_found(dy: int, dx: int) -> None:
    sky, rng = starry(), np.random.default_rng(2)
    reference = sky[50:250, 70:326] + rng.normal(0, 3, SHAPE) + 1000
    image = sky[50 + dy : 250 + dy, 70 + dx : 326 + dx] + rng.normal(0, 3, SHAPE) + 400 + np.arange(256) * 2
    found = find_shift(reference, image)
    assert (found.dy, found.dx) == pytest.approx((dy, dx), abs=0.15)
    assert found.log10_chance < -8
    back = find_shift(image, reference)
    assert (back.dy, back.dx) == pytest.approx((-dy, -dx), abs=0.15)


def test_a_fraction_of_a_pixel() -> None:
    sky, rng = starry(), np.random.default_rng(2)
    moved = spline_shift(sky, (-3.4, 6.25))
    found = find_shift(*(s[50:250, 70:326] + rng.normal(0, 1, SHAPE) for s in (sky, moved)))
    assert (found.dy, found.dx) == pytest.approx((3.4, -6.25), abs=0.25)


def test_missing_pixels_do_not_enter() -> None:
    sky = starry()
    reference, image = sky[50:250, 70:326] + 100, sky[58:258, 66:322] + 100
    reference[:20] = np.nan
    image[:, 240:] = np.inf
    found = find_shift(reference, image)
    assert (found.dy, found.dx) == pytest.approx((8, -4), abs=0.15)
    with pytest.raises(ValueError, match="none that is finite"):
        find_shift(reference, np.full(SHAPE, np.nan))
    with pytest.raises(ValueError, match="one shape"):
        find_shift(reference, image[:10])


def test_the_chance_is_honest() -> None:
    """Pure noise: a stated chance of p occurs in about a share p of the pairs, never much more often."""
    rng = np.random.default_rng(4)
    stated = np.array([find_shift(*rng.normal(0, 1, (2, 64, 80))).log10_chance for _ in range(300)])
    for p in (0.3, 0.1, 0.03):
        assert p / 4 < (stated < np.log10(p)).mean() < 2 * p + 0.02
    assert stated.min() > -4.5


def test_a_shift_of_five_columns_leaves_out_five(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOG)
    assert shift_overlap(SHAPE, FftShift(0, 5, 20, -50)) == Box(0, 200, 5, 256)
    assert "dy=0.00 dx=5.00" in caplog.text
    assert "overlap_frac=0.9805" in caplog.text
    assert shift_overlap(SHAPE, FftShift(-3.02, -5.0, 20, -50)) == Box(0, 197, 0, 251)
    assert shift_overlap(SHAPE, FftShift(0.0, 4.3, 20, -50)) == Box(0, 200, 5, 256)
    assert shift_overlap(SHAPE, FftShift(0.0, -4.3, 20, -50)) == Box(0, 200, 0, 251)
    assert shift_overlap(SHAPE, FftShift(300.0, 0.0, 20, -50)).is_empty


def test_hot_pixels_do_not_hold_an_image_where_it_was() -> None:
    sky, rng = starry(), np.random.default_rng(3)
    reference, image = sky[50:250, 70:326] + 0.0, sky[59:259, 59:315] + 0.0
    hot = rng.integers(0, 200, 50), rng.integers(0, 256, 50)
    for plane in (reference, image):
        plane += rng.normal(0, 20, SHAPE)
        plane[hot] += 8000
    found = find_shift(reference, image)
    assert (found.dy, found.dx) == pytest.approx((9, -11), abs=0.2)
    assert found.log10_chance < -8


# --- through the pipeline ---------------------------------------------------------------------------------------------

DRIFTS = [(0, 0), (7, -12), (-9, 5), (16, 20)]


def write_nebula(folder: Path, name: str, drift: tuple[int, int], minute: int, *, stars: int = 2) -> Path:
    """A frame of a mottled nebula with too few stars for any pattern, and no WCS."""
    rng = np.random.default_rng(7)
    sky = gaussian_filter(rng.normal(0, 1, (300, 340)), 3) * 500
    spots = np.zeros_like(sky)
    spots[rng.integers(60, 240, stars), rng.integers(60, 280, stars)] = 40000.0
    sky += gaussian_filter(spots, 1.5)
    y, x = 40 + drift[0], 40 + drift[1]
    image = sky[y : y + 220, x : x + 260] + noise((220, 260), minute, 10.0, 1000.0)
    folder.mkdir(exist_ok=True)
    path = folder / name
    fits.writeto(path, image.astype(np.float32), fits.Header({"DATE-OBS": f"2026-01-01T00:{minute:02d}:00"}))
    return path


def test_frames_without_star_patterns_are_laid_on_each_other_by_pixels(capfd: Capture, tmp_path: Path) -> None:
    for k, drift in enumerate(DRIFTS):
        write_nebula(tmp_path / "set", f"n{k}.fits", drift, k)
    blank = noise((220, 260), 50, 10.0, 1000.0).astype(np.float32)
    fits.writeto(tmp_path / "set/blank.fits", blank, fits.Header({"DATE-OBS": "2026-01-01T00:09:00"}))
    out = tmp_path / "out"
    ran = run_cli(capfd, "coadd", tmp_path / "set", "-o", out, "--register-only", "--set", "stack.method=mean")
    assert ran.code == 0, ran.err
    assert "4 frames of 5 to each other, 4 of them by their pixels" in ran.err
    assert "n1.fits is laid on n2.fits by its pixels: dy 1" in ran.err
    assert "blank.fits: not registered" in ran.err
    assert "no shift lays its pixels on theirs" in ran.err
    table = Table.read(out / "frames.ecsv")
    table = table[[name.startswith("n") for name in table["name"]]]
    table.sort("name")
    assert list(table["place"]) == ["registered by pixels"] * 4
    # One arcsecond a pixel, x to the west, y to the north.
    found = np.stack([table["dec_deg"], -((table["ra_deg"] + 180) % 360 - 180)], axis=1) * 3600
    assert np.abs(found - found[0] - np.array(DRIFTS)).max() < 0.3
    with fits.open(out / "mosaic.fits") as hdus:
        assert hdus["COV"].data.max() == 4
