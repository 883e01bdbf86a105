"""The picture to look at: what is taken off the mosaic is kept, and the mosaic is not touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from PIL import Image

from product_cases import finished_folder
from zemosaic.pipelines.products.aesthetic import write_aesthetic_files
from zemosaic.pipelines.run.context import start_run


def test_the_gradient_is_kept_beside_the_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    height, width = 240, 320
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    gradient = 150 * (u + 0.3 * v * v)
    cloud = 200 * np.exp(-((u - 0.3) ** 2 + v**2) / 2 / 0.15**2)
    data = (1000 + gradient + cloud + rng.normal(0, 8, (3, height, width))).astype(np.float32)
    data[:, 100:104, 40:44] = data[:, :, :20] = np.nan
    folder = finished_folder(tmp_path, data, np.isfinite(data[0]).astype(np.int16))
    before = (tmp_path / "mosaic.fits").read_bytes()
    made = write_aesthetic_files(folder, start_run())
    assert set(made) == {"aesthetic", "aesthetic_background", "aesthetic_jpeg"}
    assert (tmp_path / "mosaic.fits").read_bytes() == before
    off = fits.getdata(tmp_path / "aesthetic_background.fits")
    left = data - off
    dark = (cloud < 4) & np.isfinite(data[0])
    assert np.std((gradient - off[1])[dark]) < 3  # of 90
    assert np.nanmedian(left[1, 95:145, 200:216]) - np.nanmedian(left[1][dark]) > 150  # the cloud's core
    with fits.open(tmp_path / "aesthetic.fits") as hdus:
        picture, told = hdus[0].data, str(hdus[0].header["HISTORY"])
    assert (picture.min(), len(hdus)) == (0, 1)
    assert picture.max() <= 1
    for words in ("gradient taken off", "holes of up to", "stretched by arcsinh"):
        assert words in told
    assert picture[:, 100:104, 40:44].min() > 0.05  # the small hole is closed
    assert not picture[:, :, :15].any()  # the rim is not
    # Dark sky is as grey on the left as on the right.
    assert abs(np.median(picture[1, :, 30:90]) - np.median(picture[1, :, 290:])) < 0.03
    with Image.open(tmp_path / "aesthetic.jpg") as image:
        assert image.size == (width, height)


def test_a_mosaic_of_nothing_but_nebula_keeps_its_light(tmp_path: Path) -> None:
    v, u = np.meshgrid(np.linspace(-1, 1, 200), np.linspace(-1, 1, 240), indexing="ij")
    data = 100 + 500 * np.exp(-(u * u + v * v) / 2 / 0.5**2) + np.random.default_rng(1).normal(0, 5, u.shape)
    folder = finished_folder(tmp_path, data[None].astype(np.float32), np.ones(u.shape, np.int16))
    assert set(write_aesthetic_files(folder, start_run())) == {"aesthetic", "aesthetic_jpeg"}
    assert "no gradient taken off" in str(fits.getheader(tmp_path / "aesthetic.fits")["HISTORY"])
