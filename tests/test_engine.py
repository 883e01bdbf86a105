"""Executors, the memory plan, the store."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from zemosaic.engine.events import CancelToken, LeftOut, Notice, StageClock, StageEnded
from zemosaic.engine.executor import SerialExecutor, ThreadExecutor, make_executor
from zemosaic.engine.memory import parse_bytes, plan_patch_size, plan_workers
from zemosaic.engine.store import Store, make_key
from zemosaic.errors import Cancelled, EnvironmentProblem, SettingError


@pytest.mark.parametrize("executor", [SerialExecutor(), ThreadExecutor(3)])
def test_every_task_runs_once(executor: SerialExecutor | ThreadExecutor) -> None:
    assert sorted(executor.run(lambda n: n * n, range(50))) == [(n, n * n) for n in range(50)]


def test_threads_hold_no_more_tasks_than_workers() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def task(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return n

    taken = []

    def tasks() -> object:
        for n in range(30):
            taken.append(n)
            yield n

    for count, _ in enumerate(ThreadExecutor(3).run(task, tasks())):
        # The list of tasks is drawn as it is worked off, not all at once.
        assert len(taken) <= count + 1 + 2 * 3
    assert most <= 3


def test_the_first_error_ends_the_run() -> None:
    done = []

    def task(n: int) -> None:
        if n == 3:
            raise Cancelled("stop")
        done.append(n)

    with pytest.raises(Cancelled, match="stop"):
        list(ThreadExecutor(2).run(task, range(1000)))
    assert len(done) < 20


def test_one_worker_is_serial() -> None:
    assert isinstance(make_executor(1), SerialExecutor)
    assert make_executor(4).workers == 4


def test_cancel_token_raises_once_asked() -> None:
    token = CancelToken()
    token.check()
    token.cancel()
    with pytest.raises(Cancelled, match="run the same command"):
        token.check()


def test_stage_clock_adds_up() -> None:
    events: list[object] = []
    clock = StageClock(events.append)
    for _ in range(2):
        clock.start("work", 1)(1)
        clock.end("work", "done")
    assert len(events) == 6
    assert isinstance(events[-1], StageEnded)
    assert clock.seconds.keys() == {"work"}
    assert LeftOut("a", "b") != Notice("a")


@pytest.mark.parametrize(
    ("text", "value"), [("4G", 4 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("100", 100), ("2GiB", 2 << 30)]
)
def test_sizes_are_read(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "lots", "-1G", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="4G"):
        parse_bytes(text)


def test_a_smaller_cap_gives_smaller_patches_then_fewer_workers() -> None:
    def need(size: int) -> int:
        return size * size * 1000

    plenty = plan_patch_size(10 << 30, 4, 0, need)
    less = plan_patch_size(2 << 30, 4, 0, need)
    little = plan_patch_size(100 << 20, 4, 0, need)
    assert (plenty.patch_px, plenty.workers) == (1024, 4)
    assert (less.patch_px, less.workers) == (512, 4)
    assert (little.patch_px, little.workers) == (256, 1)
    for plan in (plenty, less, little):
        assert plan.workers * need(plan.patch_px) <= plan.cap_bytes


def test_a_cap_too_small_says_how_much_is_needed() -> None:
    with pytest.raises(EnvironmentProblem, match="raise --ram") as caught:
        plan_patch_size(1 << 20, 2, 0, lambda size: size * size * 1000)
    assert caught.value.exit_code == 4


def test_tasks_of_a_known_need_share_the_cap() -> None:
    assert plan_workers(1000, 4, 200, 100) == 4
    assert plan_workers(1000, 4, 200, 300) == 2
    with pytest.raises(EnvironmentProblem, match="too small"):
        plan_workers(1000, 4, 200, 801)


def test_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.get("ab" * 20) is None
    store.put("ab" * 20, {"x": np.arange(5), "y": np.eye(2)})
    found = store.get("ab" * 20)
    assert found is not None
    assert np.array_equal(found["x"], np.arange(5))
    assert np.array_equal(found["y"], np.eye(2))
    assert not list(tmp_path.rglob(".*npz*"))


def test_a_damaged_result_counts_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("cd" * 20, {"x": np.arange(1000)})
    path = next(tmp_path.rglob("*.npz"))
    whole = path.read_bytes()
    for torn in (whole[:200], b"", whole[:600] + b"\xff" * 50 + whole[650:]):
        path.write_bytes(torn)
        assert store.get("cd" * 20) is None


def test_keys_depend_on_every_part() -> None:
    keys = {make_key("measure", "a", {"k": 1}), make_key("measure", "a", {"k": 2}), make_key("measure", "b", {"k": 1})}
    keys.add(make_key("stack", "a", {"k": 1}))
    assert len(keys) == 4
    assert make_key("measure", "a", {"k": 1, "l": 2}) == make_key("measure", "a", {"l": 2, "k": 1})
