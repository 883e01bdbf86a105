"""Kill a run again and again, at random moments and in the middle of writes, until it ends; then look at what it made.

``python tests/cases/kill_loop.py --kills 50 --frames 60`` does it on a simulated set and prints the figures of
``docs/measured/scaling.md``; ``test_killed.py`` does a little of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mosaic_cases import digest_of, digests_of
from zemosaic.engine.store import Store

RUN = """
import os, random, signal, sys

from zemosaic.cli import main
from zemosaic.engine.store import Store
from zemosaic.io.write.mosaic_file import MosaicFile

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
chance, dice = float(sys.argv[2]), random.Random(int(sys.argv[3]))
put, replace, write_at = Store.put, os.replace, MosaicFile._write_at


def die_perhaps():
    if dice.random() < chance:
        os.kill(os.getpid(), signal.SIGKILL)


def noted_put(store, key, value, kind=None):
    put(store, key, value, kind)
    os.write(log, (key + chr(10)).encode())


def dying_replace(source, target):
    die_perhaps()  # an entry, or the mosaic, is written but has no name yet
    replace(source, target)


def dying_write(file, offset, content):
    if dice.random() < chance / 100:
        write_at(file, offset, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write_at(file, offset, content)


Store.put, os.replace, MosaicFile._write_at = noted_put, dying_replace, dying_write
sys.exit(main(sys.argv[4:]))
"""
"""A run that writes down each result that it stored, and that may die in the middle of a write."""


@dataclass
class Tally:
    """What a loop of kills has seen."""

    n_kills: int = 0
    n_projects: int = 0
    n_results: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def start(frames: Path, out: Path, log: Path, chance: float, seed: int, ram: str) -> subprocess.Popen[bytes]:
    """Begin a run."""
    command = [sys.executable, "-c", RUN, str(log), str(chance), str(seed)]
    command += ["build", str(frames), "-o", str(out), "--ram", ram, "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def faults_in(out: Path, wanted: dict[str, str]) -> list[str]:
    """What stands under a final name and is not whole."""
    found = []
    for name, digest in wanted.items():
        path = out / name
        if path.exists() and digest_of(path) != digest:
            found.append(f"{name} differs from the undisturbed run's")
    if (report := out / "report.json").exists():
        json.loads(report.read_text())
    if (out / ".zemosaic/store").exists():
        store = Store(out / ".zemosaic/store")
        found += [f"{e.key} {problem}" for e in store.entries() if (problem := store.problem_of(e.key))]
    return found


def kill_loop(frames: Path, work: Path, n_kills: int, seed: int = 1, ram: str = "700M", chance: float = 0.03) -> Tally:
    """Kill runs until `n_kills` is reached and the last project has ended; each project has a folder of its own.

    Half of the runs are killed from outside after a random time; the others die with a `chance` in every write.
    """
    dice, tally = random.Random(seed), Tally()
    inputs = digests_of(frames)
    begun = time.perf_counter()
    run = start(frames, work / "undisturbed", work / "log", 0, 0, ram)
    _, said = run.communicate()
    assert run.returncode == 0, said.decode()
    whole_s = time.perf_counter() - begun
    names = ("mosaic.fits", "preview.png", "match.ecsv", "frames.ecsv", "frames.csv", "settings.toml")
    wanted = {name: digest_of(work / "undisturbed" / name) for name in names}
    n_wanted = len((work / "log").read_text().split())
    while tally.n_kills < n_kills:
        out, log = work / f"out{tally.n_projects}", work / f"log{tally.n_projects}"
        begun, n_before = time.perf_counter(), tally.n_kills
        while True:
            from_inside = dice.random() < 0.5
            may_die = tally.n_kills < n_kills
            fate = chance if from_inside and may_die else 0.0
            run = start(frames, out, log, fate, dice.randrange(2**30), ram)
            try:
                run.communicate(
                    timeout=dice.uniform(0.1, 0.8) * whole_s if may_die and not from_inside else 10 * whole_s
                )
            except subprocess.TimeoutExpired:
                os.kill(run.pid, signal.SIGKILL)
                run.communicate()
            tally.faults += faults_in(out, wanted)
            if run.returncode != -signal.SIGKILL:
                break
            tally.n_kills += 1
        if tally.n_kills == n_before:  # the first run of all may have compiled kernels: it is no measure for the next
            whole_s = min(whole_s, time.perf_counter() - begun)
        if run.returncode != 0:
            tally.faults.append(f"the run ended with {run.returncode}")
        keys = Counter(log.read_text().split())
        tally.faults += [f"{key} was made {n} times" for key, n in keys.items() if n > 1]
        if len(keys) > n_wanted or any(not (out / name).exists() for name in names):
            tally.faults.append(f"{len(keys)} results, {n_wanted} in the undisturbed run")
        tally.stages.update(key.partition("/")[0] for key in keys)
        tally.n_results += len(keys)
        tally.n_projects += 1
    if digests_of(frames) != inputs:
        tally.faults.append("the inputs have changed")
    return tally


def main() -> None:
    """Simulate, kill, print."""
    from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames"
        simulate_frames(frames, SimulatedSky(3, size_deg=0.9), given.frames, FrameRecipe(shape=(300, 400)))
        tally = kill_loop(frames, Path(folder), given.kills, given.seed)
    print(f"{tally.n_kills} kills in {tally.n_projects} projects of {given.frames} frames")
    print(f"{tally.n_results} results stored: {dict(sorted(tally.stages.items()))}")
    print("\n".join(tally.faults) or "no result made twice, none broken, all bytes those of the undisturbed run")
    sys.exit(bool(tally.faults))


if __name__ == "__main__":
    main()
