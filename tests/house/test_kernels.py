"""How kernels are compiled: who may call them, who compiles them, where they are kept."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core import event
from numba.core.target_extension import jit_registry
from numba.core.types.functions import BaseFunction

import zemosaic
from zemosaic.engine.events import Event, Notice
from zemosaic.kernels import compiled
from zemosaic.pipelines.run.context import start_run
from zemosaic.pipelines.run.kernels import GROUPS, list_kernels
from zemosaic.pipelines.run.warm import choose_groups, compile_ahead, compile_all
from zemosaic.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
KERNELS = Path(zemosaic.__file__).parent / "kernels"


def decorated(tree: ast.AST, *names: str) -> list[ast.FunctionDef]:
    """Functions that one of the decorators makes kernels."""
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        and any(isinstance(by, ast.Name) and by.id in names for by in node.decorator_list)
    ]  # fmt: skip


def calls_from_python(tree: ast.Module, parts: set[str]) -> set[str]:
    """Which parts are named where Python runs: outside of kernels."""
    inside = {id(node) for function in decorated(tree, "kernel", "part", "leaf") for node in ast.walk(function)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in inside} & parts


def test_python_calls_no_part_of_a_kernel() -> None:
    """It would end the process. Outside of the room no part is even imported; in it no function of Python names one."""
    rooms = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(KERNELS.rglob("*.py"))}
    parts = {function.name for tree in rooms.values() for function in decorated(tree, "part", "leaf")}
    assert len(parts) > 90
    kernels = {function.name for tree in rooms.values() for function in decorated(tree, "kernel")}
    assert parts & kernels == set()
    for path, tree in rooms.items():
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
        known = imported | {function.name for function in decorated(tree, "part", "leaf")}
        assert calls_from_python(tree, parts & known) == set(), path
    outside = [p for folder in ("src", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py") if p not in rooms]
    for path in outside:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zemosaic.kernels"):
                assert not parts & {name.name for name in node.names}, path
    planted = ast.parse("@part\ndef f(): pass\n@kernel\ndef g(): f()\ndef h(): f()\n")
    assert calls_from_python(planted, {"f"}) == {"f"}


def test_every_kernel_that_stages_call_can_be_compiled_ahead() -> None:
    """Else `zemosaic warm` leaves some to be compiled by each run anew where a user cannot write."""
    listed = {known[0].__name__ for group in GROUPS for known in list_kernels(group)}
    kernels = {
        node.name for path in KERNELS.rglob("*.py") for node in decorated(ast.parse(path.read_text("utf-8")), "kernel")
    }
    called = {
        name.name
        for path in (ROOT / "src/zemosaic/stages").rglob("*.py")
        if path.name != "trace.py"  # which no run calls: `zemosaic explain` compiles its one small kernel
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zemosaic.kernels")
        for name in node.names
    }
    assert sorted((called & kernels) - listed) == []


def test_groups_are_those_of_the_settings() -> None:
    def groups(*assign: str, matched: bool = True, raw: bool = False) -> set[str]:
        return set(choose_groups(load_settings(assignments=assign), matched=matched, raw=raw))

    assert groups() == {"points", "spikes", "maps", "clip", "kappa", "stack", "match", "weigh", "gaps"}
    assert groups(raw=True) ^ groups() == {"raws", "colours", "points", "gaps", "spikes"}
    assert groups("stack.region_sigma=5") - groups() == {"regions"}
    assert groups(matched=False, raw=False) == groups() - {"match"}
    assert groups("stack.method=mean", "warp.kernel=area") == {"areas", "maps", "mean", "match", "weigh", "gaps"}
    assert "median" in groups("stack.method=median")
    assert choose_groups(Settings(), matched=True, raw=True) == [g for g in GROUPS if g in groups(raw=True)]
    kernels = [kernel.py_func for group in GROUPS for kernel, _ in list_kernels(group)]
    assert len(set(kernels)) > 70


def test_wide_vectors_are_for_processors_that_bear_them() -> None:
    assert str(compiled._features_of("emeraldrapids")).endswith(",-prefer-256-bit")
    assert compiled._features_of("skylake-avx512") is None
    assert compiled._features_of("generic") is None


TWICE = """
import sys
from numba.core import event
from planted import double
with event.install_recorder("numba:compile") as seen:
    assert double(3) == 6
print(len(seen.buffer) // 2)
"""


def test_of_two_processes_one_compiles(tmp_path: Path) -> None:
    slow = "\n    ".join(f"y = y + x - {k} + {k} - x" for k in range(150))
    text = "from zemosaic.kernels.compiled import kernel\n@kernel\ndef double(x):\n"
    text += f"    y = x\n    {slow}\n    return y + x\n"
    (tmp_path / "planted.py").write_text(text, encoding="utf-8")
    setting = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", TWICE], env=setting, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    assert sorted(run.communicate()[0].strip() for run in both) == ["0", "1"]


@pytest.fixture
def problems(monkeypatch: pytest.MonkeyPatch) -> dict[str, None]:
    found: dict[str, None] = {}
    monkeypatch.setattr(compiled, "_problems", found)
    return found


def triple(x: int) -> int:
    return 3 * x


def test_without_a_folder_kernels_work_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, problems: dict[str, None]
) -> None:
    def no_folder(function: object) -> None:
        raise RuntimeError("cannot cache function 'triple': no locator available for file 'x.py'")

    monkeypatch.setattr(compiled, "_SharedCache", no_folder)
    assert compiled.kernel(triple)(3) == 9
    assert list(problems) == ["no locator available for file 'x.py'"]
    told: list[Event] = []
    assert compile_ahead(GROUPS, start_run(sink=told.append)) == 0
    assert isinstance(told[0], Notice)
    assert told[0].level == "warning"
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in told[0].message


def test_a_full_disk_ends_no_run(monkeypatch: pytest.MonkeyPatch, problems: dict[str, None], tmp_path: Path) -> None:
    def full(cache: object, key: object, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    tripled = compiled.kernel(triple)
    assert tripled(3) == 9
    assert [problem.partition(": ")[2] for problem in problems] == ["No space left on device"]
    assert not compiled.is_kept(tripled, (3,))


def test_what_is_there_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    first = compiled.kernel(triple)
    assert not compiled.is_kept(first, (3,))
    compiled.compile_kernel(first, (3,))
    second = compiled.kernel(triple)
    assert compiled.is_kept(second, (4,))
    assert not compiled.is_kept(second, (np.zeros(2),))
    # Another file of the room has changed: what is kept may hold code of it.
    monkeypatch.setattr(compiled, "_digest_room", lambda: "another")
    assert not compiled.is_kept(compiled.kernel(triple), (3,))
    # A folder that others have filled and that this user cannot write.
    monkeypatch.undo()
    reader = compiled.kernel(triple)
    monkeypatch.setattr(reader._cache, "_elsewhere", [reader._cache._files_in(first._cache.cache_path)])
    assert compiled.is_kept(reader, (3,))


def test_a_kernel_from_a_file_is_taken_into_one_that_calls_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    compiled.compile_kernel(compiled.kernel(triple), (3,))
    kept = compiled.kernel(triple)
    assert kept(3) == 9
    (found,) = kept.overloads.values()
    assert kept._cache_hits
    assert found.library._shared_module is None  # nobody has asked for it
    monkeypatch.setattr(sys.modules[__name__], "triple", kept)
    assert compiled.kernel(nine_times)(2) == 18
    monkeypatch.undo()
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    caller = compiled.kernel(nine_times)
    assert caller(2) == 18
    assert caller._cache_hits
    assert type(found.library.codegen.create_library("new")) is not type(found.library)


def nine_times(x: int) -> int:
    return triple(triple(x))


def test_all_are_compiled_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zemosaic.pipelines.run.warm.is_kept", lambda *known: True)
    assert compile_all(start_run()).startswith(f"0 of {sum(len(list_kernels(group)) for group in GROUPS)} kernels")


def test_functions_of_numba_become_parts_of_kernels_and_serve_others_as_well() -> None:
    inner = compiled._as_one(njit(_sum_of_zeros))
    with event.install_recorder("numba:compile") as seen:
        assert inner(3) == 0
    borrowed = [ev.data["dispatcher"] for _, ev in seen.buffer if ev.data["dispatcher"] is not inner]
    assert borrowed
    assert all(loop.targetoptions.get("no_cpython_wrapper") for loop in borrowed)
    assert "generic" not in jit_registry
    assert njit(_sum_of_zeros)(4) == 0


def _sum_of_zeros(n: int) -> float:
    return float(np.zeros((n, 1, 1, 1, 1)).sum())


def test_what_a_sum_means_is_found_once_and_only_for_kernels() -> None:
    """The same types at another place are not searched for again; others are, and Numba's own way is left as it was."""
    own = BaseFunction.get_call_type
    add = compiled._as_one(njit(lambda values, other: values[0] + other + values[0] + other))
    whole, real = np.ones(1, np.int64), np.ones(1, np.float64)
    assert (add(whole, 2), add(real, 0.5), add(whole, 0.5)) == (6, 3.0, 3.0)
    n_found = len(compiled._found_calls)
    assert n_found
    assert BaseFunction.get_call_type is own
    njit(lambda a, b: a + b)(np.int16(1), np.int16(2))
    assert len(compiled._found_calls) == n_found
