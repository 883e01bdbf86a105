"""The plane SAT: how many of the samples of a pixel are saturated, in a direct mosaic and through master tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import zemosaic
from mosaic_cases import noise, tan_wcs, write_frame
from zemosaic.settings import load_settings

SHAPE = (160, 200)
BRIGHT = np.s_[60:90, 70:110]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of one field; a bright patch is above the level of saturation in two of them."""
    folder = tmp_path_factory.mktemp("saturated")
    for k in range(6):
        image = noise(SHAPE, k)
        image[BRIGHT] += 9000 if k in {1, 4} else 5000
        write_frame(folder / f"f{k}.fits", image, tan_wcs(SHAPE), SATURATE=8000.0, EXPTIME=10.0)
    return folder


def assert_a_third(saturated: np.ndarray) -> None:
    """A third inside the patch; nothing two pixels beyond it, where no kernel reaches."""
    inside = saturated[63:87, 73:107]
    np.testing.assert_allclose(inside, 1 / 3, rtol=1e-6)
    beyond = saturated.copy()
    beyond[57:93, 67:113] = 0
    assert not beyond.any()


SETTINGS = ["stack.method=mean", "match.method=none", "solve.method=header", "quality.triage=off", "tiles.cleanup=off"]


def test_saturated_samples_are_counted(frames: Path) -> None:
    made = zemosaic.coadd(frames, tan_wcs(SHAPE), shape_out=SHAPE, settings=load_settings(assignments=SETTINGS))
    assert_a_third(made.saturated)


def test_what_is_clipped_does_not_count(frames: Path) -> None:
    settings = load_settings(assignments=["stack.method=ccdclip", "stack.structure_guard=0"])
    made = zemosaic.coadd(frames, tan_wcs(SHAPE), shape_out=SHAPE, settings=settings)
    assert made.rejected[75, 90] == 2
    assert made.saturated[75, 90] == 0


def test_tiles_hand_it_on(frames: Path, tmp_path: Path) -> None:
    settings = load_settings(assignments=[*SETTINGS, "grid.size_px=200,160"])
    made = zemosaic.build(frames, tmp_path / "out", zemosaic.BuildOptions(mode="master-tiles"), settings=settings)
    (tile,) = sorted((tmp_path / "out").rglob("tile*.fits"))
    for path in (tile, made.mosaic):
        saturated = fits.getdata(path, "SAT")
        assert saturated.max() == pytest.approx(1 / 3)
        assert np.mean(saturated > 0.3) == pytest.approx(30 * 40 / saturated.size, rel=0.15)
