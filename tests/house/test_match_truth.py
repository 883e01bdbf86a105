"""What `benchmarks/match_truth.py` takes for the truth of a listed set whose frames have vignetting and cubics."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from astropy.io import fits

from zemosaic.simulate.sky import tangent_wcs, wcs_cards

SEED, SHAPE, SLOPE_ADU = 5, (30, 40), 80.0
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("match_truth", BENCHMARKS / "match_truth.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["match_truth"] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def real_set(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """Two frames as the generator of such sets draws them, and what is added to each beyond its listed gradient."""
    draws = np.random.default_rng(SEED + 77)
    common, facts, added = draws.normal(0, SLOPE_ADU * 0.4, 9), [], []
    v, u = (np.mgrid[: SHAPE[0], : SHAPE[1]] / np.array(SHAPE)[:, None, None] - 0.5).astype(float)
    for k in range(2):
        cubic = draws.normal(0, SLOPE_ADU * 0.3, 4)
        part = common[0] * u + common[1] * v + common[2] * u * u + common[3] * v * v
        added.append(part + cubic[0] * u**3 + cubic[1] * u * u * v + cubic[2] * u * v * v + cubic[3] * v**3)
        for _ in range(150):
            _y, _x, length, _turn = (
                draws.integers(8, SHAPE[0] - 8), draws.integers(8, SHAPE[1] - 8), draws.integers(1, 7),
                draws.uniform(0, np.pi),
            )  # fmt: skip
            for _ in range(length):
                draws.uniform(200, 8000)
        true = wcs_cards(tangent_wcs(80.0, 20.0, 1.0, SHAPE, 2.4))
        header = true.copy()
        for axis, off in zip((1, 2), draws.normal(0, 0.2, 2), strict=True):
            header[f"CRPIX{axis}"] += off
        fits.writeto(tmp_path / f"{k}.fits", np.zeros(SHAPE, np.float32), header)
        facts.append(
            {"name": f"{k}.fits", "gain": 1.1, "off": 1500.0, "grad": [4.0, -3.0, 2.0, 1.0, -1.0], "sigma": 14.0,
             "area": 1.0, "moffat_beta": 2.8, "wcs_true": true.tostring()}
        )  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(facts), encoding="utf-8")
    np.savez(tmp_path / "truth.npz", seed=SEED)
    return tmp_path, added


def test_cubics_and_vignetting_are_part_of_the_truth(
    bench: ModuleType, real_set: tuple[Path, list[np.ndarray]]
) -> None:
    folder, added = real_set
    truths = bench.read_frames(folder, {"0.fits": SHAPE, "1.fits": SHAPE})
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    u, v = x / SHAPE[1] - 0.5, y / SHAPE[0] - 0.5
    listed = 1500 + 4 * u - 3 * v + 2 * u * u + u * v - v * v
    for name, more in zip(("0.fits", "1.fits"), added, strict=True):
        np.testing.assert_allclose(truths[name].background(x, y), listed + more, rtol=1e-12)
        np.testing.assert_allclose(truths[name].response(x, y), 1 - 0.15 * (u * u + v * v) / 0.5, rtol=1e-12)


def test_a_set_of_another_generator_is_refused(bench: ModuleType, real_set: tuple[Path, list[np.ndarray]]) -> None:
    folder, _ = real_set
    np.savez(folder / "truth.npz", seed=SEED + 1)
    with pytest.raises(ValueError, match=r"0\.fits does not lie where its seed puts it"):
        bench.read_frames(folder, {"0.fits": SHAPE})
