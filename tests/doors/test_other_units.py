"""The same frames in another unit give the same mosaic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import zemosaic


def in_unit(folder: Path, files: list[Path], factor: float) -> list[Path]:
    """Copies of frames with every value `factor` times as large."""
    folder.mkdir()
    out = []
    for path in files:
        with fits.open(path) as hdus:
            header = hdus[0].header.copy()
            for name in ("BSCALE", "BZERO", "SATURATE", "EGAIN", "GAIN"):
                header.remove(name, ignore_missing=True)
            image = (np.asarray(hdus[0].data, float) * factor).astype(np.float32)
        out.append(folder / path.name)
        fits.writeto(out[-1], image, header)
    return out


@pytest.mark.parametrize("factor", [1e-11, 7e-20, 1e9])
def test_units_change_the_values_alone(small_set: Path, tmp_path: Path, factor: float) -> None:
    """Fluxes in erg or janskys are as good as counts: stars, gains, surfaces and clipping do not see the unit."""
    files = sorted(small_set.glob("*.fits"))[:4]
    plain = zemosaic.coadd(in_unit(tmp_path / "plain", files, 1.0), match=True)
    other = zemosaic.coadd(in_unit(tmp_path / "other", files, factor), match=True)
    sigma = np.sqrt(np.median(plain.variance[plain.coverage > 0]))
    assert np.array_equal(np.isnan(other.data), np.isnan(plain.data))
    assert np.nanstd(other.data / factor - plain.data) < 0.01 * sigma
    assert abs(np.nanmedian(other.data / factor - plain.data)) < 0.01 * sigma
    ratio = other.weight[plain.weight > 0] * np.float64(factor) ** 2 / plain.weight[plain.weight > 0]
    assert np.median(ratio) == pytest.approx(1, rel=1e-3)
