"""What a run is handed does not change under way, and what it tells is told once."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from mosaic_cases import noise, tan_wcs, write_frame
from zemosaic.engine.events import Event, LeftOut, StageEnded
from zemosaic.pipelines.modes.master_tiles import build_master_tiles
from zemosaic.pipelines.patches.patch_size import PatchPlan, plan_patch_size
from zemosaic.pipelines.run.context import RunOptions, start_run
from zemosaic.pipelines.run.log import Log
from zemosaic.settings import load_settings
from zemosaic.text import message


def test_after_a_deep_tile_the_rest_of_the_run_uses_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first tile is planned as one is whose frames leave room for one patch at a time."""
    for dec in (29.9, 30.2):
        for k in range(2):
            write_frame(tmp_path / f"{dec}_{k}.fits", noise((130, 130), k), tan_wcs((130, 130), 150 + 0.001 * k, dec))
    asked, planned = [], []

    def plan(cap_bytes: int, workers: int, *args: Any, **options: Any) -> PatchPlan:
        asked.append(workers)
        made = plan_patch_size(cap_bytes, workers, *args, **options)
        planned.append(made if planned else replace(made, workers=1, threads=workers))
        return planned[-1]

    monkeypatch.setattr("zemosaic.pipelines.patches.stacking.plan_patch_size", plan)
    settings = load_settings(assignments=["match.method=none", "output.preview=false", "tiles.cleanup=off"])
    build_master_tiles([tmp_path], tmp_path / "out", settings, start_run(RunOptions(workers=3, ram_bytes=4 << 30)))
    assert asked == [3, 3, 3]  # two tiles and their mosaic
    assert [plan.workers for plan in planned] == [1, 3, 3]


def test_nothing_can_lower_the_workers_of_what_comes_later() -> None:
    run = start_run(RunOptions(workers=3, ram_bytes=1 << 40))
    with pytest.raises(FrozenInstanceError):
        run.machine.workers = 1  # type: ignore[misc]
    assert run.machine.executor_within(1 << 60).workers == 1
    assert run.machine.make_executor().workers == 3


def test_a_stage_tells_its_own_seconds_and_the_journal_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 10.0, 13.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    events: list[Event] = []
    log = Log(events.append)
    for _ in range(2):
        log.start("work", 1)(1)
        log.end("work", "done")
    assert len(events) == 6
    assert [event.seconds for event in events if isinstance(event, StageEnded)] == [1.0, 3.0]
    assert log.journal.seconds == {"work": 4.0}
    why = message("file.no-image")
    log.leave_out_file("/a/b.fits", why)
    assert events[-1] == LeftOut("/a/b.fits", why, "/a/b.fits")
