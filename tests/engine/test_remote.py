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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from mosaic_cases import digest_of, digests_of, run_cli, tan_wcs
from zemosaic.engine.code import package_digest
from zemosaic.engine.events import CancelToken
from zemosaic.engine.remote import ProcessExecutor, RemoteExecutor, check_executor, make_remote
from zemosaic.engine.values import digest_of as value_digest
from zemosaic.errors import Cancelled, EnvironmentProblem, SettingError
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.read.scan import scan
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import InputSettings

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")


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
            raise SettingError("setting.no-size", text=str(n))
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


def test_a_lost_worker_costs_its_task_only(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    executor = make()
    found = sorted(executor.run(Task(tmp_path, fatal=3, deaths=1), range(8)))
    assert found == [(n, n * n) for n in range(8)]
    again = [path.name for path in tmp_path.iterdir() if path.suffix != ".0"]
    assert "3.1" in again
    assert len(again) <= 2  # dask may lose a result that was not fetched yet
    is_dask = not isinstance(executor, ProcessExecutor)
    assert ("1 dask worker(s) were lost; what they were at was done again" in caplog.text) == is_dask


def test_an_error_is_raised_here_with_its_facts(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'-7' is not a size") as caught:
        list(make().run(Task(tmp_path), [1, -7, 2]))
    assert caught.value.facts == {"text": "-7"}


def test_a_task_that_kills_all_workers_ends_the_run(make: Make, tmp_path: Path) -> None:
    executor = make()
    said = (
        "3 workers died on one task, the last with exit code -9" if type(executor) is ProcessExecutor else "4 workers"
    )
    with pytest.raises(EnvironmentProblem, match=f"{said}.*; give fewer --workers"):
        list(executor.run(Task(tmp_path, fatal=3, deaths=99), range(5)))


def test_a_stop_does_not_wait_for_tasks(make: Make, tmp_path: Path) -> None:
    cancel = CancelToken()
    executor = make(cancel.check)
    timer = threading.Timer(4.0, cancel.cancel)
    timer.start()
    begun = time.perf_counter()
    with pytest.raises(Cancelled):
        list(executor.run(Task(tmp_path, seconds=600), range(4)))
    assert time.perf_counter() - begun < 600


def test_workers_run_the_same_code_and_see_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from zemosaic.engine.dask import _Work

    executor = make_remote("dask", 1, never)
    assert executor is not None
    executor.check_shared([tmp_path])
    with pytest.raises(EnvironmentProblem, match=r"does not see .*gone; inputs and output must lie on storage"):
        executor.check_shared([tmp_path, tmp_path / "gone"])
    # Another package here than there.
    monkeypatch.setattr("zemosaic.engine.code._ROOT", tmp_path)
    package_digest.cache_clear()
    try:
        with pytest.raises(EnvironmentProblem, match="1 of 1 dask workers run another version of zemosaic, numpy"):
            list(executor.run(Task(tmp_path), range(2)))
    finally:
        monkeypatch.undo()
        package_digest.cache_clear()
        executor.close()
    assert list(tmp_path.iterdir()) == []
    # Workers that join later look for themselves before their first task.
    with pytest.raises(EnvironmentProblem, match="dask worker late runs another version"):
        _Work(Task(tmp_path), "another digest", []).do(2, "late")
    with pytest.raises(EnvironmentProblem, match="dask worker late does not see /nowhere"):
        _Work(Task(tmp_path), package_digest(), ["/nowhere"]).do(2, "late")
    assert _Work(Task(tmp_path), package_digest(), [str(tmp_path)]).do(2, "late") == 4


def test_a_scheduler_that_is_there_already_is_left_as_it_was(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"memory_limit": None, "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        for k in range(2):
            (tmp_path / f"{k}").mkdir()
            executor = make_remote(f"dask:{cluster.scheduler_address}", 1, never)
            assert executor is not None
            assert sorted(executor.run(Task(tmp_path / f"{k}"), range(3))) == [(0, 0), (1, 1), (2, 4)]
            executor.close()
        with distributed.Client(cluster) as client:
            (plugins,) = client.run(plugins_of).values()
            assert [name for name in plugins if name.startswith("zemosaic")] == []


def plugins_of(dask_worker: Any) -> list[str]:
    """What a worker was told, by name."""
    return list(dask_worker.plugins)


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


def kill_a_worker() -> int:
    """Kill the first spawned child that works (multiprocessing keeps a tracker of shared resources beside them)."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # another's child that has just ended
            if any("spawn_main" in word for word in child.cmdline()):
                child.kill()
                return child.pid
    raise AssertionError("no worker to kill")


@pytest.mark.parametrize(
    ("kind", "executor"), [("plain", "threads"), ("plain", "processes"), ("plain", "dask"), ("raw", "processes")]
)
def test_the_bytes_are_the_same_everywhere_and_with_a_worker_lost(
    capfd: Capture,
    small_set: Path,
    raw_set: Path,
    mosaics: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    executor: str,
) -> None:
    if executor == "dask":
        pytest.importorskip("distributed")
    frames = small_set if kind == "plain" else raw_set
    before = digests_of(frames)
    killed: list[int] = []

    def lose_one(name: str, workers: int, check: Callable[[], None]) -> RemoteExecutor | None:
        """The executor of that name, which loses a worker once its first task is done and others run."""
        made = make_remote(name, workers, check)
        if made is not None:
            monkeypatch.setattr(made, "run", partial(run_and_lose, made.run))
        return made

    def run_and_lose(run: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
        for item in run(*arguments):
            if not killed:
                killed.append(kill_a_worker())
            yield item

    monkeypatch.setattr("zemosaic.pipelines.run.context.make_remote", lose_one)
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out", "--executor", executor, "--workers", 2)
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
