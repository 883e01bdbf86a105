"""VAR against the scatter of bright pixels, end to end: frames of known electrons per ADU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import zemosaic
from mosaic_cases import F4, F8, tan_wcs, write_frame
from zemosaic.settings import load_settings
from zemosaic.simulate.exposure import add_noise

SHAPE = (360, 420)
SKY, READ, ADU_PER_ELECTRON, N_FRAMES = 600.0, 8.0, 0.25, 24


def true_light() -> F8:
    """Wide glows over a dark sky, so smooth that no kernel changes them."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    glows = [(80, 90, 1800.0, 12), (250, 300, 5000.0, 11)]
    return np.sum([p * np.exp(-((y - j) ** 2 + (x - i) ** 2) / 2 / s**2) for j, i, p, s in glows], axis=0)


def exposures() -> Iterator[F4]:
    """Frames whose pixels have read noise and that of their electrons."""
    light = true_light()
    for k in range(N_FRAMES):
        image = (SKY + light).astype(np.float32)
        variance = (READ**2 + ADU_PER_ELECTRON * image).astype(np.float32)
        add_noise(image, np.random.default_rng(k), variance)
        yield image


def scatter_over_var(folder: Path, method: str, **cards: object) -> dict[str, float]:
    """Mean square of (DATA - truth) over VAR, on the bright glows and on the sky, and the share clipped in the glow."""
    wcs = tan_wcs(SHAPE)
    paths = [write_frame(folder / f"f{k:02d}.fits", image, wcs, **cards) for k, image in enumerate(exposures())]
    settings = load_settings(assignments=[f"stack.method={method}"])
    made = zemosaic.coadd(paths, wcs, shape_out=SHAPE, settings=settings)
    light = true_light()
    square = np.square(made.data - SKY - light) / made.variance
    glow, dark, inside = light > 1000, light < 1, np.s_[20:-20, 20:-20]
    return {
        "glow": float(np.mean(square[inside][glow[inside]])),
        "sky": float(np.mean(square[inside][dark[inside]])),
        "clipped": float(made.rejected[glow].mean() / N_FRAMES),
    }


@pytest.mark.parametrize("method", ["kappa_sigma", "mean", "esd"])
def test_var_holds_the_noise_of_light(tmp_path: Path, method: str) -> None:
    found = scatter_over_var(tmp_path, method, EGAIN=1 / ADU_PER_ELECTRON)
    assert 0.8 < found["glow"] < 1.25
    assert 0.8 < found["sky"] < 1.25
    assert found["clipped"] < 0.01


def test_without_electrons_per_adu_var_is_the_skys(tmp_path: Path) -> None:
    """The test above can fail: with the term off the glows scatter by more than VAR says."""
    found = scatter_over_var(tmp_path, "kappa_sigma")
    assert found["glow"] > 1.8
    assert 0.8 < found["sky"] < 1.25


def test_a_gain_that_is_a_setting_says_nothing(tmp_path: Path) -> None:
    assert scatter_over_var(tmp_path, "mean", GAIN=80)["glow"] > 1.8
