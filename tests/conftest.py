"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zemosaic.pipelines.run.context import Run
    from zemosaic.settings import OutputSettings

OTHERS = {
    "mocpy": "pipelines/test_regions_product.py",
    "regions": "pipelines/test_regions_product.py",
    "reproject": "doors/test_beside_reproject.py pipelines/test_hips.py",
    "sep": "stages/test_refine.py stages/test_solve.py",
}
"""Files of tests that hold results against another package: without it, as in an install of the least, not read."""

collect_ignore = [file for name in OTHERS if importlib.util.find_spec(name) is None for file in OTHERS[name].split()]

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _no_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What runs of tests cost is no history of this machine, and its history is nothing that tests depend on."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setattr("typer.get_app_dir", lambda name: str(home / name))
        patch.setenv("XDG_CONFIG_HOME", str(home))
        yield


@pytest.fixture(scope="session", autouse=True)
def _products_only_when_asked() -> Iterator[None]:
    """Hundreds of tests build mosaics and look at no product: without this one fixture each would make all of them.

    Builds of this process make what a test itself sets by ``output.also``, and nothing by default.
    """
    from zemosaic.pipelines.modes import finish

    make = finish.make_products

    def make_asked(out: Path, settings: OutputSettings, run: Run) -> dict[str, Path]:
        return make(out, settings, run) if "also" in settings.model_fields_set else {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "make_products", make_asked)
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real frames beside the checkout; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real frames are not here: {SHARED / 'data'} is missing")
    return SHARED


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight simulated frames of 300 x 400 pixels that overlap several times, with their truth; not to be changed."""
    from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames

    folder = tmp_path_factory.mktemp("small_set")
    simulate_frames(folder, SimulatedSky(3, size_deg=0.45), 8, FrameRecipe(shape=(300, 400), trail_fraction=0.25))
    return folder


@pytest.fixture(scope="session")
def built(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a plain build of the small set; not to be changed."""
    from zemosaic.cli import main

    out = tmp_path_factory.mktemp("built") / "out"
    assert main(["build", str(small_set), "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def raw_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four raw colour frames of 600 x 900 pixels of a field rich in catalogue stars; not to be changed."""
    from zemosaic.io.astrometry.catalogue import tycho2
    from zemosaic.simulate import RawRecipe, SimulatedSky, simulate_raws

    folder = tmp_path_factory.mktemp("raw_set")
    known = tycho2().cone(83.8, 22.0, 2.0)
    sky = SimulatedSky(4, 83.8, 22.0, 1.0, (known.ra_deg, known.dec_deg, known.mag))
    recipe = RawRecipe(shape=(600, 900), panels=(1, 1), cloud_fraction=0, soft_fraction=0, hot_fraction=2e-3)
    simulate_raws(folder, sky, 4, recipe)
    return folder


@pytest.fixture(autouse=True)
def _no_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is installed on the machine changes no test."""
    monkeypatch.setattr("zemosaic.pipelines.solving.known_sky.installed_solvers", list)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test pulls the plug: what `fsync` is for cannot be seen here, and a build waits 0.1 s for it."""
    monkeypatch.setattr("os.fsync", lambda number: None)
