"""What a machine remembers of its runs, and the time left as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from zemosaic.cli.pace import Paced, read_paces
from zemosaic.engine.events import Event, FramesFound, Notice, RunPlanned, StageEnded, StageStarted, TimeLeft
from zemosaic.text import message


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("typer.get_app_dir", lambda name: str(tmp_path / name))
    return tmp_path / "zemosaic"


def run(monkeypatch: pytest.MonkeyPatch, took_s: float, *told: Event) -> list[Event]:
    """A run whose measuring takes so long; what it told."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown: list[Event] = []
    paced = Paced(shown.append)
    for event in (RunPlanned(("measure",)), FramesFound(100, 10**9, 10**9), StageStarted("measure"), *told):
        paced(event)
    now[0] += took_s
    paced(StageEnded("measure", took_s))
    paced.keep()
    return shown


def test_the_mean_of_runs_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_paces() == {}
    shown = run(monkeypatch, 60.0)
    first = read_paces()["measure"]
    usual_s = next(event.seconds for event in shown if isinstance(event, TimeLeft))
    assert first == pytest.approx(60 / usual_s, rel=0.15)
    run(monkeypatch, 240.0)
    assert first < read_paces()["measure"] < 4 * first
    told = [event.seconds for event in run(monkeypatch, 60.0) if isinstance(event, TimeLeft)]
    assert usual_s < told[0]  # the history says that this machine is slower
    assert told[-1] == 0


def test_a_run_that_found_work_done_is_not_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, 60.0, Notice(message("run.taken-over", results=())))
    assert read_paces() == {}


@pytest.mark.parametrize("text", ["", "[1]", '{"measure": "fast", "stack": -1}'])
def test_a_history_that_cannot_be_read_is_none(home: Path, text: str) -> None:
    home.mkdir()
    (home / "pace.json").write_text(text)
    assert read_paces() == {}


def test_a_home_that_is_shut_stops_no_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("a file where the folder would be")
    run(monkeypatch, 60.0)
    assert read_paces() == {}
