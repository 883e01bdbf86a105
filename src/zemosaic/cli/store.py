"""``zemosaic store``: what an output folder keeps for the next run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from zemosaic.engine.lock import locked
from zemosaic.engine.store import Store
from zemosaic.errors import EnvironmentProblem, NothingToDo, SettingError
from zemosaic.pipelines.run.context import WORK_FOLDER

ACTIONS = ("list", "verify", "clean")


def store(out: Path, action: str, *, as_json: bool) -> None:
    """List, verify or remove the stored results of an output folder.

    Raises
    ------
    SettingError
        For another action.
    NothingToDo
        When the folder holds no stored results.
    EnvironmentProblem
        When results are damaged (verify), or a run is at work in the folder (clean).
    """
    if action not in ACTIONS:
        raise SettingError("store.unknown-action", action=action, known=ACTIONS)
    work = out / WORK_FOLDER
    if not (work / "store").is_dir():
        raise NothingToDo("store.nothing-stored", folder=out)
    found = Store(work / "store")
    if action == "list":
        _list(found, as_json)
    elif action == "verify":
        _verify(found, as_json)
    else:
        with locked(work / "lock", str(out)):
            _clean(found, work, as_json)


def _list(found: Store, as_json: bool) -> None:
    number, n_bytes = Counter[str](), Counter[str]()
    for entry in found.entries():
        number[entry.stage] += 1
        n_bytes[entry.stage] += entry.n_bytes
    if as_json:
        stages = {stage: {"n_results": number[stage], "n_bytes": n_bytes[stage]} for stage in sorted(number)}
        print(json.dumps({"event": "Stored", "stages": stages}))
        return
    for stage in sorted(number):
        print(f"{stage:<10} {number[stage]:>7} results {n_bytes[stage] / 1e6:>10.1f} MB")
    print(f"{'all':<10} {number.total():>7} results {n_bytes.total() / 1e6:>10.1f} MB")


def _verify(found: Store, as_json: bool) -> None:
    n_results, damaged = 0, {}
    for entry in found.entries():
        n_results += 1
        if problem := found.problem_of(entry.key):
            damaged[entry.key] = problem
    if as_json:
        print(json.dumps({"event": "Verified", "n_results": n_results, "damaged": damaged}))
    else:
        for key, problem in damaged.items():
            print(f"{key}: {problem}")
    if damaged:
        told = [f"{key}: {problem}" for key, problem in damaged.items()]
        raise EnvironmentProblem("store.damaged", n_damaged=len(damaged), n_results=n_results, damaged=told)
    if not as_json:
        print(f"all of {n_results} stored results are whole")


def _clean(found: Store, work: Path, as_json: bool) -> None:
    found.sweep()
    n_bytes = sum(entry.n_bytes for entry in found.entries())
    n_results = found.evict(0)
    for partial in work.glob("*.partial"):
        n_bytes += partial.stat().st_blocks * 512 if hasattr(partial.stat(), "st_blocks") else partial.stat().st_size
        partial.unlink()
    if as_json:
        print(json.dumps({"event": "Cleaned", "n_results": n_results, "n_bytes": n_bytes}))
    else:
        print(f"removed {n_results} stored results and unfinished mosaics, {n_bytes / 1e6:.1f} MB")
