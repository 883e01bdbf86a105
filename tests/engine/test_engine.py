"""Executors, memory, the store."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io.fits import Header

from zemosaic.engine.events import CancelToken
from zemosaic.engine.executor import SerialExecutor, ThreadExecutor, make_executor
from zemosaic.engine.lock import locked
from zemosaic.engine.memory import ReusedMemory, keep_freed_memory, parse_bytes, plan_workers
from zemosaic.engine.store import Store, remember
from zemosaic.engine.values import decode, digest_of, encode, types_within
from zemosaic.errors import Cancelled, EnvironmentProblem, SettingError
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.run.keys import make_key

MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's malloc.h."""


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
    with pytest.raises(Cancelled, match="start the same run"):
        token.check()


@pytest.mark.parametrize(
    ("text", "value"), [("4G", 4 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("100", 100), ("2GiB", 2 << 30)]
)
def test_sizes_are_read(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "lots", "-1G", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="4G"):
        parse_bytes(text)


@pytest.mark.parametrize("most_bytes", [32 << 20, 1 << 30])
def test_an_allocator_is_asked_for_less_where_it_takes_no_more(
    most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[int, int] = {}

    def set_option(option: int, value: int) -> int:
        allowed = option != MMAP_THRESHOLD or value <= most_bytes
        if allowed:
            taken[option] = value
        return int(allowed)

    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(mallopt=set_option))
    keep_freed_memory()
    assert taken[MMAP_THRESHOLD] == min(most_bytes, 256 << 20)


def test_memory_is_lent_to_one_task_at_a_time_and_used_again() -> None:
    memory = ReusedMemory()
    with memory.block(500) as one, memory.block(1000) as two:
        assert (one.size, two.size) == (500, 1000)
        assert not np.shares_memory(one, two)
    with memory.block(400) as three, memory.block(2000) as four:
        assert np.shares_memory(three, one)
        assert four.size == 2000
    with memory.block(300) as five:
        assert np.shares_memory(five, three)
    wide = ReusedMemory(5000)
    with wide.block(300) as six:
        assert six.size == 300
    with wide.block(5000) as seven:
        assert np.shares_memory(six, seven)


def test_tasks_of_a_known_need_share_the_cap() -> None:
    assert plan_workers(1000, 4, 200, 100) == 4
    assert plan_workers(1000, 4, 200, 300) == 2
    with pytest.raises(EnvironmentProblem, match="too small"):
        plan_workers(1000, 4, 200, 801)


@dataclass(frozen=True)
class Point:
    """A value that checks itself and makes a field of its own."""

    x: float
    names: tuple[str, ...]
    grid: np.ndarray
    norm: float = field(init=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")
        object.__setattr__(self, "norm", abs(self.x))


def a_value() -> dict[str, object]:
    return {
        "point": Point(1.5, ("a", "é"), np.arange(6, dtype=">i2").reshape(2, 3)),
        "list": [None, True, 1, -0.0, float("inf"), "x\n"],
        "scalar": np.float32(0.1),
        "empty": np.zeros((0, 4), np.float32),
        "odd": np.arange(3, dtype=np.uint8),
        "after": np.array(2.0),
    }


def assert_same(one: object, two: object) -> None:
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        assert isinstance(two, np.ndarray)
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        assert one.tobytes() == two.tobytes()
    elif isinstance(one, Point):
        assert_same(vars(one), vars(two))
    elif isinstance(one, dict):
        assert list(one) == list(two)  # type: ignore[call-overload]
        for key, item in one.items():
            assert_same(item, two[key])  # type: ignore[index]
    elif isinstance(one, list | tuple):
        for left, right in zip(one, two, strict=True):  # type: ignore[call-overload]
            assert_same(left, right)
    else:
        assert repr(one) == repr(two)


def test_values_survive_as_bytes() -> None:
    again = decode(encode(a_value(), Point), Point)
    assert_same(a_value(), again)
    again["after"][...] = 3  # what was stored may be worked on


def test_bytes_make_only_the_types_that_were_named() -> None:
    with pytest.raises(ValueError, match="no stored value of plain types"):
        decode(encode(a_value(), Point))
    broken = encode(Point(1.0, (), np.zeros(2)), Point).replace(b"1.0", b"-10")
    with pytest.raises(ValueError, match="x is negative"):
        decode(broken, Point)
    for torn in (b"", broken[:5], broken[:30], broken[:-3]):
        with pytest.raises(ValueError, match="no stored value"):
            decode(torn, Point)
    for what in (object(), {1, 2}, np.array([object()])):
        with pytest.raises(TypeError, match="cannot be stored"):
            encode(what)


@dataclass(frozen=True)
class Line:
    ends: tuple[Point, Point]
    label: str | None = None


@dataclass(frozen=True)
class Stranger:
    number: int


def test_what_a_type_leads_to_is_read_from_its_annotations(tmp_path: Path) -> None:
    line = Line((Point(1.0, (), np.zeros(2)), Point(2.0, ("a",), np.ones(2))))
    assert set(types_within(list[Line] | None)) == {"Line", "Point"}
    assert_same(line.ends, decode(encode(line, Line), Line).ends)
    store = Store(tmp_path)
    assert remember(store, KEY, lambda: line, Line) is line
    again = remember(store, KEY, lambda: pytest.fail("it is stored"), Line)
    assert_same(line.ends, again.ends)


def test_a_value_of_an_unknown_type_cannot_be_stored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(TypeError, match="a value of type Stranger cannot be stored as one of Line, Point"):
        remember(store, KEY, lambda: Stranger(1), Line)
    with pytest.raises(TypeError, match="a value of type Stranger cannot be stored as one of plain values"):
        store.put(KEY, {"x": Stranger(1)})
    assert store.get(KEY) is None


def test_two_types_of_one_name_cannot_be_told_apart() -> None:
    other = make_dataclass("Point", [("x", float)])
    with pytest.raises(TypeError, match="two types are called Point"):
        types_within(tuple[Point, other])  # type: ignore[valid-type]


def test_digests_tell_all_differences() -> None:
    values: list[object] = [
        None, 0, 0.0, -0.0, False, "", "0", (), [], {}, np.zeros(1), np.zeros((1, 1)), np.zeros(1, np.float32),
        np.zeros(2), np.float64(0), ((),), {"a": 1}, {"b": 1}, {"a": 2}, float("nan"), Point(0, (), np.zeros(1)),
        Point(1, (), np.zeros(1)), Point(1, (), np.ones(1)), Point(1, ("a",), np.ones(1)),
    ]  # fmt: skip
    digests = [digest_of(value) for value in values]
    assert len(set(digests)) == len(values)
    assert digests == [digest_of(value) for value in values]
    assert digest_of(1, 2) != digest_of((1, 2)) != digest_of(12)


def test_what_has_an_identity_counts_by_it_alone() -> None:
    def wcs(**cards: float) -> CelestialWcs:
        header = Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, **cards})
        return CelestialWcs.from_header(header, (100, 200))

    one = wcs(CD1_1=-0.001, CD2_2=0.001)
    assert digest_of(one) == digest_of(wcs(CDELT1=-0.001, CDELT2=0.001))
    assert digest_of(one) != digest_of(wcs(CD1_1=-0.001, CD2_2=0.0010000001))
    assert digest_of(one) != digest_of(CelestialWcs(one.wcs, (100, 201)))


KEY = "measure/" + "ab" * 20


def test_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.get(KEY) is None
    store.put(KEY, {"x": np.arange(5)})
    assert np.array_equal(store.get(KEY)["x"], np.arange(5))
    assert Store(tmp_path / "store").get(KEY) is not None
    assert [(entry.key, entry.stage) for entry in store.entries()] == [(KEY, "measure")]
    assert not list(tmp_path.rglob(".*"))
    store.discard(KEY)
    store.discard(KEY)
    assert store.get(KEY) is None


def test_a_damaged_result_is_said_and_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    store = Store(tmp_path, say=lambda told: said.append(str(told)))
    store.put(KEY, np.arange(1000))
    path = next(path for path in tmp_path.rglob("*") if path.is_file())
    whole = path.read_bytes()
    damages = {
        b"": "does not begin",
        whole[:20]: "of 8",
        whole[:200]: "bytes",
        whole[:600] + b"\xff" * 50 + whole[650:]: "digest",
        whole + b"x": "bytes",
        b"PK" + whole[2:]: "does not begin",
    }
    for torn, reason in damages.items():
        path.write_bytes(torn)
        assert reason in store.problem_of(KEY)
        assert remember(store, KEY, lambda: np.arange(7)).shape == (7,)
        assert reason in said[-1]
        assert "made again" in said[-1]
        assert store.problem_of(KEY) == ""
        assert remember(store, KEY, lambda: pytest.fail("it is stored")).shape == (7,)
    assert len(said) == len(damages)


def test_a_fresh_store_knows_only_its_own(tmp_path: Path) -> None:
    Store(tmp_path).put(KEY, 1)
    fresh = Store(tmp_path, fresh=True)
    assert fresh.get(KEY) is None
    fresh.put(KEY, 2)
    assert fresh.get(KEY) == 2
    assert Store(tmp_path).get(KEY) == 2


def test_without_a_store_nothing_is_remembered() -> None:
    assert [remember(None, KEY, lambda k=k: k) for k in range(3)] == [0, 1, 2]


def test_the_least_used_goes_first_and_what_is_used_stays(tmp_path: Path) -> None:
    old = Store(tmp_path)
    keys = [make_key("measure", k) for k in range(6)]
    for k, key in enumerate(keys):
        old.put(key, np.zeros(1000))
        os.utime(tmp_path / key.replace("/", f"/{key.partition('/')[2][:2]}/"), (1000 + k, 1000 + k))
    size = next(old.entries()).n_bytes
    run = Store(tmp_path)
    run.get(keys[0])
    run.put(make_key("measure", "new"), np.zeros(1000))
    assert run.evict(4 * size) == 3
    kept = {entry.key for entry in run.entries()}
    assert kept == {keys[0], make_key("measure", "new"), keys[4], keys[5]}
    assert run.evict(0) == 2
    assert run.get(keys[0]) is not None


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(KEY, 1)
    left = next(path for path in tmp_path.rglob("*") if path.is_file()).with_name(".abab.77.ff")
    left.write_bytes(b"half")
    assert len(list(store.entries())) == 1
    store.sweep()
    assert not left.exists()
    assert store.get(KEY) == 1


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "store/measure").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="cannot store results in") as caught:
        store.put(KEY, 1)
    assert caught.value.exit_code == 4


def test_a_folder_is_locked_for_one(tmp_path: Path) -> None:
    said = pytest.raises(EnvironmentProblem, match=rf"in use by process {os.getpid()} on .*-o")
    with locked(tmp_path / "lock", "the folder"), said, locked(tmp_path / "lock", "the folder"):
        pytest.fail("it is locked")
    with locked(tmp_path / "lock", "the folder"):
        pass


def test_keys_depend_on_every_part() -> None:
    keys = {make_key("measure", "a", {"k": 1}), make_key("measure", "a", {"k": 2}), make_key("measure", "b", {"k": 1})}
    keys.add(make_key("patch", "a", {"k": 1}))
    assert len(keys) == 4
