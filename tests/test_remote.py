"""Other processes, here or on a cluster: the same bytes, and a worker that dies costs its task only."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mosaic_cases import digest_of, digests_of, run_cli, tan_wcs
from zemosaic.engine.events import CancelToken
from zemosaic.engine.remote import ProcessExecutor, RemoteExecutor, check_executor, make_remote
from zemosaic.engine.values import digest_of as value_digest
from zemosaic.errors import Cancelled, EnvironmentProblem, SettingError
from zemosaic.io.headers import frame_wcs
from zemosaic.io.scan import scan
from zemosaic.model.celestial import CelestialWcs
from zemosaic.settings import InputSettings

Capture = pytest.CaptureFixture[str]

# The cluster's own libraries warn as they come and go.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")]


def never() -> None:
    """Nobody wants to stop."""


@dataclass(frozen=True)
class Task:
    """Writes down that it ran; kills its worker the first `deaths` times that it is given `fatal`."""

    folder: Path
    fatal: int = -1
    deaths: int = 0
    seconds: float = 0.0

    def __call__(self, n: int) -> int:
        number = len(list(self.folder.glob(f"{n}.*")))
        (self.folder / f"{n}.{number}").touch()
        if n == self.fatal and number < self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        if n == -7:
            raise SettingError("no such number", number=n)
        time.sleep(self.seconds)
        return n * n


@pytest.fixture(params=["processes", "dask"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[], None]], RemoteExecutor]]:
    """Makes executors of two workers, and ends them."""
    if request.param == "dask":
        pytest.importorskip("distributed")
    made: list[RemoteExecutor] = []

    def make_one(check: Callable[[], None] = never) -> RemoteExecutor:
        executor = make_remote(request.param, 2, check)
        assert executor is not None
        made.append(executor)
        return executor

    yield make_one
    for executor in made:
        executor.close()


Make = Callable[..., RemoteExecutor]


def test_every_task_runs_once_and_no_task_is_no_work(make: Make, tmp_path: Path) -> None:
    executor = make()
    assert sorted(executor.run(Task(tmp_path), range(8))) == [(n, n * n) for n in range(8)]
    assert len(list(tmp_path.iterdir())) == 8
    assert list(executor.run(Task(tmp_path), [])) == []


def test_a_lost_worker_costs_its_task_only(make: Make, tmp_path: Path) -> None:
    found = sorted(make().run(Task(tmp_path, fatal=3, deaths=1), range(8)))
    assert found == [(n, n * n) for n in range(8)]
    again = [path.name for path in tmp_path.iterdir() if path.suffix != ".0"]
    assert "3.1" in again
    assert len(again) <= 2  # dask may hand out a second task that waited at the same worker


def test_an_error_is_raised_here_with_its_facts(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no such number") as caught:
        list(make().run(Task(tmp_path), [1, -7, 2]))
    assert caught.value.facts == {"number": -7}


def test_a_task_that_kills_all_workers_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="3 workers died on one task, the last with exit code -9"):
        list(ProcessExecutor(2, never).run(Task(tmp_path, fatal=3, deaths=99), range(5)))


def test_a_stop_does_not_wait_for_tasks(make: Make, tmp_path: Path) -> None:
    cancel = CancelToken()
    executor = make(cancel.check)
    timer = threading.Timer(4.0, cancel.cancel)
    timer.start()
    begun = time.perf_counter()
    with pytest.raises(Cancelled):
        list(executor.run(Task(tmp_path, seconds=60), range(4)))
    assert time.perf_counter() - begun < 30


def test_copies_of_a_wcs_in_other_processes_are_exact(small_set: Path) -> None:
    frame = scan([small_set], InputSettings.model_validate({})).frames[0]
    for wcs in (frame_wcs(frame), CelestialWcs(tan_wcs((100, 200)), (100, 200))):
        copy = pickle.loads(pickle.dumps(wcs))  # noqa: S301 - made here
        assert value_digest(copy) == value_digest(wcs)


@pytest.fixture(scope="module")
def mosaics(small_set: Path, raw_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the mosaics of both sets, made by one thread."""
    from zemosaic.cli import main

    out = tmp_path_factory.mktemp("serial")
    for name, frames in (("plain", small_set), ("raw", raw_set)):
        assert main(["build", str(frames), "-o", str(out / name), "--executor", "serial"]) == 0
    return {name: digest_of(out / name / "mosaic.fits") for name in ("plain", "raw")}


@pytest.mark.parametrize(
    ("kind", "executor"), [("plain", "threads"), ("plain", "processes"), ("plain", "dask"), ("raw", "processes")]
)
def test_the_bytes_are_the_same_everywhere_and_with_a_worker_lost(
    capfd: Capture, small_set: Path, raw_set: Path, mosaics: dict[str, str], tmp_path: Path, kind: str, executor: str
) -> None:
    if executor == "dask":
        pytest.importorskip("distributed")
    frames = small_set if kind == "plain" else raw_set
    before = digests_of(frames)
    killed: list[int] = []
    done = threading.Event()

    def kill_one() -> None:
        """The first process whose parents are as they are while tasks run."""
        while not done.wait(0.1):
            for child in psutil.Process().children(recursive=True):
                if executor != "threads" and (tmp_path / "out/.zemosaic/store/measure").exists() and not killed:
                    child.kill()
                    killed.append(child.pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out", "--executor", executor, "--workers", 2)
    done.set()
    killer.join()
    assert ran.code == 0, ran.err
    assert len(killed) == (executor != "threads")
    assert digest_of(tmp_path / "out/mosaic.fits") == mosaics[kind]
    assert digests_of(frames) == before
    assert not list((tmp_path / "out/.zemosaic/store").glob("planes/*/*"))


def test_executors_have_names(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    assert check_executor("dask:tcp://10.0.0.1:8786")
    ran = run_cli(capfd, "build", small_set, "-o", tmp_path, "--executor", "thread")
    assert ran.code == 2
    assert "executor 'thread' is not one of threads, serial, processes, dask, dask:ADDRESS" in ran.last_line


def test_a_scheduler_that_does_not_answer_is_said(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    code = "from zemosaic.engine.remote import make_remote; make_remote('dask:tcp://127.0.0.1:9', 1, lambda: None)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "EnvironmentProblem: no dask scheduler answers at tcp://127.0.0.1:9" in ran.stderr
