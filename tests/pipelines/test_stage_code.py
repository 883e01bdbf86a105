"""The key of a stored result names the code that made it: all that runs while it is made."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import zemosaic
from mosaic_cases import run_cli
from zemosaic.engine.code import sources
from zemosaic.engine.store import Store
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.pipelines.run.keys import CODE
from zemosaic.simulate import RawRecipe, SimulatedSky, simulate_raws

ROOT = Path(zemosaic.__file__).parent
ROOMS = ("model", "kernels", "stages", "io", "pipelines")

TELLERS = {"pipelines/run/timetable.py"}
"""What the console's clock asks while a result is made: it reads events and decides no byte."""

Capture = pytest.CaptureFixture[str]


class Watch:
    """Notes whose code runs between the question for a result that is not there and its putting, by stage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: dict[str, set[Path]] = defaultdict(set)
        self._pending: dict[str, set[str]] = {}
        get, put = Store.get, Store.put

        def watched_get(store: Store, key: str, kind: object = None) -> Any:
            found = get(store, key, kind)
            if found is None:
                self._pending[key] = set()
            return found

        def watched_put(store: Store, key: str, value: object, kind: object = None) -> None:
            files = self._pending.pop(key, set())
            self.ran[key.partition("/")[0]] |= {Path(name) for name in files}
            put(store, key, value, kind)

        monkeypatch.setattr(Store, "get", watched_get)
        monkeypatch.setattr(Store, "put", watched_put)

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            name = frame.f_code.co_filename
            for files in self._pending.values():
                files.add(name)

    def beyond(self, stage: str) -> set[str]:
        """Code that ran for a stage and is not in its keys."""
        inside = {path for path in self.ran[stage] if ROOT in path.parents}
        told = {path for path in inside if path.relative_to(ROOT).parts[0] in ROOMS}
        return {path.relative_to(ROOT).as_posix() for path in told - set(sources(CODE[stage]))} - TELLERS


@pytest.fixture(scope="module")
def six_raws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("six_raws")
    known = tycho2().cone(83.8, 22.0, 2.0)
    sky = SimulatedSky(4, 83.8, 22.0, 1.0, (known.ra_deg, known.dec_deg, known.mag))
    recipe = RawRecipe(shape=(600, 900), panels=(1, 1), cloud_fraction=0, soft_fraction=0)
    simulate_raws(folder, sky, 6, recipe)
    return folder


BUILDS = {
    "plain": (["direct"], {"look", "measure", "refine", "match", "applied", "cut", "patch"}),
    "raw": (["direct"], {"measure", "solve", "refine", "match", "defects", "patch"}),
    "survey": (["grid", "--set", "survey.tile_fields=1.1"], {"tile", "survey"}),
    "tiles": (["master-tiles"], {"measure", "match", "patch"}),
}


@pytest.mark.parametrize("name", BUILDS)
def test_keys_hold_the_code_that_runs(
    capfd: Capture, small_set: Path, six_raws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options, wanted = BUILDS[name]
    frames = six_raws if name == "raw" else small_set
    watch = Watch(monkeypatch)
    sys.setprofile(watch)
    try:
        ran = run_cli(capfd, "build", frames, "-o", tmp_path, "--executor", "serial", "--mode", *options)
    finally:
        sys.setprofile(None)
    assert ran.code == 0, ran.err
    assert wanted <= watch.ran.keys()
    # A patch of a survey is asked for before its tiles are made, and its key holds that of the survey.
    beyond = {stage: watch.beyond(stage) for stage in watch.ran if not (name == "survey" and stage == "patch")}
    assert not {stage: files for stage, files in beyond.items() if files}


def test_every_stage_is_told_and_every_one_that_is_told_is_used() -> None:
    texts = [path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")]
    assert {stage for text in texts for stage in re.findall(r'make_key\(\s*"(\w+)"', text)} == CODE.keys()
