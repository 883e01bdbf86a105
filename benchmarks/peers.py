"""Mosaics of one set of frames by several systems, side by side, with what each run cost.

    python benchmarks/peers.py SETDIR OUTDIR [--runs 3] [--systems zemosaic-build,swarp-clipped]

All systems run in one sitting, taking turns, so that what else the machine does hits all alike.
Of every run: wall time, user + system time, and peak memory (resident sizes summed over all
processes of the run) from the start of its first process to the end of its last. README.md
tells what each system is given. Needs a POSIX system and psutil.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from astropy.io import fits

from machine import machine_facts, store_bytecode
from page import ROOT, add_page_option, list_facts, say_command, write_section
from zemosaic.errors import NothingToDo
from zemosaic.simulate import score_mosaic

HERE = Path(__file__).resolve().parent
MIB = 1024**2
SAMPLING_S = 0.05

Command = list[str]


@dataclass(frozen=True)
class Inputs:
    """One set of frames in the forms that the systems take.

    Attributes
    ----------
    original : Path
        Folder of links to the frames as they are, NaN where they hold no data.
    finite : Path
        Folder of copies without NaN, each with a ``.weight.fits`` of ones and zeros.
    """

    original: Path
    finite: Path


@dataclass(frozen=True)
class System:
    """How a system is run.

    Attributes
    ----------
    needs : tuple of str
        Programs or Python modules (with a leading ``py:``) without which it is missing.
    commands : callable
        ``(inputs, work folder, threads) -> commands``, run one after the other in the work folder.
    product : str
        The mosaic, as a glob pattern in the work folder.
    cache : {"", "warm", "cold"}
        Whether Numba's compiled kernels are kept between runs.
    """

    needs: tuple[str, ...]
    commands: Callable[[Inputs, Path, int], list[Command]]
    product: str
    cache: str = ""


@dataclass
class Cost:
    """What one run took."""

    system: str
    run: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    score: dict[str, object] | None = None


def _swarp(combine: str) -> Callable[[Inputs, Path, int], list[Command]]:
    def commands(inputs: Inputs, work: Path, threads: int) -> list[Command]:
        frames = sorted(str(p) for p in inputs.finite.glob("*.fits") if not p.name.endswith(".weight.fits"))
        options = {
            "IMAGEOUT_NAME": "mosaic.fits",
            "WEIGHTOUT_NAME": "mosaic.weight.fits",
            "WEIGHT_TYPE": "MAP_WEIGHT",
            "WEIGHT_SUFFIX": ".weight.fits",
            "SUBTRACT_BACK": "N",
            "COMBINE_TYPE": combine,
            "RESAMPLING_TYPE": "LANCZOS3",
            "NTHREADS": str(threads),
            "MEM_MAX": "8000",
            "COMBINE_BUFSIZE": "8000",
            "WRITE_XML": "N",
            "VERBOSE_TYPE": "QUIET",
        }
        return [["SWarp", *frames, *(word for key, value in options.items() for word in (f"-{key}", value))]]

    return commands


def _montage(inputs: Inputs, work: Path, threads: int) -> list[Command]:
    for name in ("projected", "differences", "corrected"):
        (work / name).mkdir()
    return [
        ["mImgtbl", str(inputs.original), "raw.tbl"],
        ["mMakeHdr", "raw.tbl", "grid.hdr"],
        ["mProjExec", "-q", "-p", str(inputs.original), "raw.tbl", "grid.hdr", "projected", "stats.tbl"],
        ["mImgtbl", "projected", "projected.tbl"],
        ["mOverlaps", "projected.tbl", "differences.tbl"],
        ["mDiffExec", "-p", "projected", "differences.tbl", "grid.hdr", "differences"],
        ["mFitExec", "differences.tbl", "fits.tbl", "differences"],
        ["mBgModel", "projected.tbl", "fits.tbl", "corrections.tbl"],
        ["mBgExec", "-p", "projected", "projected.tbl", "corrections.tbl", "corrected"],
        ["mImgtbl", "corrected", "corrected.tbl"],
        ["mAdd", "-p", "corrected", "corrected.tbl", "grid.hdr", "mosaic.fits"],
    ]


def _reproject(*flags: str) -> Callable[[Inputs, Path, int], list[Command]]:
    def commands(inputs: Inputs, work: Path, threads: int) -> list[Command]:
        script = str(HERE / "reproject_mosaic.py")
        return [[sys.executable, script, str(inputs.original), "mosaic.fits", *flags]]

    return commands


def _zemosaic(*words: str) -> Callable[[Inputs, Path, int], list[Command]]:
    def commands(inputs: Inputs, work: Path, threads: int) -> list[Command]:
        program = str(Path(sys.executable).with_name("zemosaic"))
        verb, *rest = words
        return [[program, verb, str(inputs.original), "-o", "out", "--workers", str(threads), *rest]]

    return commands


_ALONE = ("--set", "output.also=", "--set", "output.preview=false", "--set", "output.planes=weight")
"""Write what the other programs write, the mosaic and its weight: no pictures, no pages."""

_COADD = ("coadd", *_ALONE, "--set")
SYSTEMS = {
    "swarp-weighted": System(("SWarp",), _swarp("WEIGHTED"), "mosaic.fits"),
    "swarp-clipped": System(("SWarp",), _swarp("CLIPPED"), "mosaic.fits"),
    "montage": System(("mProjExec", "mBgModel", "mAdd"), _montage, "mosaic.fits"),
    "reproject": System(("py:reproject",), _reproject(), "mosaic.fits"),
    "reproject-match": System(("py:reproject",), _reproject("--match"), "mosaic.fits"),
    "zemosaic-mean": System((), _zemosaic(*_COADD, "stack.method=mean"), "out/mosaic*.fits", "warm"),
    "zemosaic-clip": System((), _zemosaic(*_COADD, "stack.method=kappa_sigma"), "out/mosaic*.fits", "warm"),
    "zemosaic-build": System((), _zemosaic("build"), "out/mosaic*.fits", "warm"),
    "zemosaic-build-alone": System((), _zemosaic("build", *_ALONE), "out/mosaic*.fits", "warm"),
    "zemosaic-mean-cold": System((), _zemosaic(*_COADD, "stack.method=mean"), "out/mosaic*.fits", "cold"),
    "zemosaic-build-cold": System((), _zemosaic("build"), "out/mosaic*.fits", "cold"),
}

SCORES = ("star_mmag", "background_sigma", "seam_sigma")
"""Of a mosaic beside the truth: star fluxes, background after a cubic, steps at borders."""

HEADS = (
    "system", "time, s", "shortest to longest", "processor, s", "memory at most, MiB",
    "star fluxes off, mmag", "background off, noise of a frame", "seams, noise of a frame",
)  # fmt: skip

TITLES = {
    "swarp-weighted": "SWarp, weighted mean",
    "swarp-clipped": "SWarp, clipped mean",
    "montage": "Montage",
    "reproject": "reproject, mean",
    "reproject-match": "reproject, mean, backgrounds matched",
    "zemosaic-mean": "ZeMosaic, mean alone",
    "zemosaic-clip": "ZeMosaic, clipped mean alone",
    "zemosaic-build": "ZeMosaic, matched (`build`), with all pictures and pages",
    "zemosaic-build-alone": "ZeMosaic, matched, mosaic and weight alone",
}
"""What the tables call the systems; others by their names."""

RATIOS = [
    ("swarp-weighted", "zemosaic-mean"),
    ("reproject", "zemosaic-mean"),
    ("swarp-clipped", "zemosaic-clip"),
    ("swarp-clipped", "zemosaic-build-alone"),
    ("swarp-clipped", "zemosaic-build"),
    ("montage", "zemosaic-build"),
    ("reproject-match", "zemosaic-build"),
]


class RunError(Exception):
    """A system did not make its mosaic."""


def prepare_inputs(set_dir: Path, out_dir: Path, limit: int) -> Inputs:
    """Links to the frames, and NaN-free copies with weights; outside all timing."""
    frames = sorted(set_dir.glob("*.fits"))[: limit or None]
    if not frames:
        raise SystemExit(f"peers.py: no *.fits in {set_dir}")
    inputs = Inputs(out_dir / "frames", out_dir / "finite")
    for folder in (inputs.original, inputs.finite):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for path in frames:
        (inputs.original / path.name).symlink_to(path.resolve())
        data, header = fits.getdata(path, header=True)
        fits.writeto(inputs.finite / path.name, np.nan_to_num(data), header)
        weight = np.isfinite(data).astype(np.float32)
        fits.writeto((inputs.finite / path.name).with_suffix(".weight.fits"), weight)
    return inputs


def missing_parts(system: System) -> list[str]:
    """What of a system's needs is not installed."""
    from importlib.util import find_spec

    return [
        need.removeprefix("py:")
        for need in system.needs
        if (find_spec(need[3:]) if need.startswith("py:") else shutil.which(need)) is None
    ]


class _PeakMemory(threading.Thread):
    """Largest sum of resident sizes over a process and its descendants, sampled."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._root = psutil.Process(pid)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLING_S):
            total = 0
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # one ended between the listing and the look: the next sample will do
            self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.peak_bytes


def measure(command: Command, work: Path, environment: dict[str, str], timeout_s: float) -> tuple[float, float, float]:
    """Run a command; returns wall seconds, user + system seconds, peak MiB.

    Raises
    ------
    RunError
        When it ends with an error, says so as Montage does, or takes longer than `timeout_s`.
    """
    with (work / "log.txt").open("ab") as log:
        seen = log.tell()
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=work, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        memory = _PeakMemory(process.pid)
        memory.start()
        timer = threading.Timer(timeout_s, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            # wait4 counts the process and all descendants that it waited for.
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            # A session of its own is what lets a time-out end all of it, and what keeps Ctrl-C from it.
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        peak_bytes = max(memory.stop(), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    said = (work / "log.txt").read_bytes()[seen:].decode(errors="replace").strip()
    if process.returncode != 0 or 'stat="ERROR"' in said:
        last = said.splitlines()[-1] if said else "no output"
        raise RunError(f"{Path(command[0]).name} ended with {process.returncode} after {wall_s:.0f} s: {last}")
    return wall_s, usage.ru_utime + usage.ru_stime, peak_bytes / MIB


def run_system(name: str, run: int, inputs: Inputs, out_dir: Path, options: argparse.Namespace) -> Cost:
    """One run of one system in a fresh folder; its mosaic stays until the next."""
    system = SYSTEMS[name]
    work = out_dir / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    environment = dict(os.environ)
    if system.cache:
        kept = out_dir / "kernels" if system.cache == "warm" else work / "kernels"
        environment["NUMBA_CACHE_DIR"] = str(kept)
    wall_s, cpu_s, peak_mib = 0.0, 0.0, 0.0
    for command in system.commands(inputs, work, options.threads):
        wall, cpu, peak = measure(command, work, environment, options.timeout)
        wall_s, cpu_s, peak_mib = wall_s + wall, cpu_s + cpu, max(peak_mib, peak)
    if not list(work.glob(system.product)):
        raise RunError(f"{name} left no {system.product}")
    return Cost(name, run, round(wall_s, 3), round(cpu_s, 3), round(peak_mib, 1))


def mark_unseen(mosaic: Path) -> Path:
    """A copy with NaN where the weight map beside it is 0, as SWarp writes there; the mosaic where there is none."""
    weights = mosaic.with_suffix(".weight.fits")
    if not weights.exists():
        return mosaic
    data, header = fits.getdata(mosaic, header=True)
    data[fits.getdata(weights) == 0] = np.nan
    marked = mosaic.with_suffix(".marked.fits")
    fits.writeto(marked, data, header, overwrite=True)
    return marked


def score(set_dir: Path, name: str, out_dir: Path) -> dict[str, object]:
    """How near a mosaic of a simulated set comes to the truth."""
    try:
        found = score_mosaic(set_dir, mark_unseen(min((out_dir / name).glob(SYSTEMS[name].product))))
    except (ValueError, KeyError, IndexError, OSError, NothingToDo) as problem:  # other systems write otherwise
        print(f"{name} is not scored: {problem}", file=sys.stderr)
        return {}
    return {column: round(float(found[column]), 3) for column in SCORES}


def run_all(names: list[str], inputs: Inputs, out_dir: Path, options: argparse.Namespace) -> tuple[list[Cost], dict]:
    """All runs, in turns; a system that fails once is left out of the rest."""
    failures: dict[str, str] = {}
    costs: list[Cost] = []
    for run in range(-1, options.runs):
        for name in names:
            # Run -1 only fills the kernel cache of the systems that are measured warm.
            if name in failures or (run < 0 and SYSTEMS[name].cache != "warm"):
                continue
            try:
                cost = run_system(name, run, inputs, out_dir, options)
            except RunError as problem:
                failures[name] = str(problem)
                print(f"{name}: {problem}", file=sys.stderr)
                continue
            if run < 0:
                continue
            costs.append(cost)
            print(f"{name} run {run}: {cost.wall_s:.1f} s wall, {cost.cpu_s:.1f} s CPU, {cost.peak_mib:.0f} MiB")
    # At the end: a program that starts counts what this one has held as its own memory.
    for cost in costs:
        if cost.run == options.runs - 1:
            cost.score = score(options.set_dir, cost.system, out_dir)
    return costs, failures


ABOUT = """The same simulated frames by all systems; `benchmarks/README.md` tells what each is given. Star fluxes
scatter by so many mmag; background (after a cubic) and steps at borders are in the noise of a frame's pixel."""

BESIDE = """Simulated frames with known truth, scored by one program ([how, and on which
machine](docs/measured/benchmarks.md)). Siril and Astro Pixel Processor make mosaics of raw frames too and were not
measured: the Siril at hand (1.0.6) has no mosaic commands, the other is not free."""


def write_record(
    facts: dict[str, object], costs: list[Cost], left_out: dict[str, str], out_dir: Path
) -> dict[str, Any]:
    """Keep all that was measured in ``peers.json``."""
    runs = [asdict(cost) for cost in costs]
    record = {"command": say_command(), "facts": facts, "runs": runs, "left_out": left_out}
    (out_dir / "peers.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def write_report(record: dict[str, Any], out_dir: Path, page: Path | None) -> str:
    """Write ``peers.md``, and with a page its section and that of the README; returns the text."""
    facts, left_out = record["facts"], record["left_out"]
    by_name: dict[str, list[Cost]] = {}
    for run in record["runs"]:
        by_name.setdefault(run["system"], []).append(Cost(**run))
    scores = {name: next((c.score for c in runs if c.score), None) for name, runs in by_name.items()}
    lines = ["| " + " | ".join(HEADS) + " |", "|---" + "|---:" * (len(HEADS) - 1) + "|"]
    medians = {}
    for name, runs in by_name.items():
        wall = [c.wall_s for c in runs]
        medians[name] = median(wall)
        figures = [
            TITLES.get(name, name),
            f"{median(wall):.1f}",
            f"{min(wall):.1f} to {max(wall):.1f}",
            f"{median(c.cpu_s for c in runs):.1f}",
            f"{median(c.peak_mib for c in runs):.0f}",
            *(str((scores[name] or {}).get(key, "")) for key in SCORES),
        ]
        lines.append("| " + " | ".join(figures) + " |")
    ratios = {
        f"{TITLES[slow]} / {TITLES[fast]}": round(medians[slow] / medians[fast], 1)
        for slow, fast in RATIOS
        if slow in medians and fast in medians
    }
    parts = [
        "\n".join(f"- {key}: {value}" for key, value in facts.items()),
        "\n".join(lines),
        "\n".join(f"- time of {pair}: {value}" for pair, value in ratios.items()),
        "\n".join(f"- left out: {name}: {why}" for name, why in left_out.items()),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (out_dir / "peers.md").write_text(text, encoding="utf-8")
    if page:
        said = f"{list_facts(facts)}\n- written: by `{record['command']}`"
        write_section(page, __file__, "Time, memory and truth", [ABOUT, said, *parts[1:]])
        write_section(ROOT / "README.md", __file__, "Beside others", [BESIDE, parts[1]])
    return text


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for; 1 when a system that is there failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set_dir", type=Path, help="folder of frames with a WCS (*.fits)")
    parser.add_argument("out_dir", type=Path, help="folder for mosaics, peers.md and peers.json")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="for the systems that take a number")
    parser.add_argument("--limit", type=int, default=0, help="only the first N frames; for trying things out")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one command")
    parser.add_argument("--again", action="store_true", help="measure nothing: the tables anew from peers.json")
    add_page_option(parser)
    options = parser.parse_args(argv)
    if options.again:
        record = json.loads((options.out_dir / "peers.json").read_text(encoding="utf-8"))
        print(write_report(record, options.out_dir, options.page))
        return 0
    names = options.systems.split(",")
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        parser.error(f"unknown systems {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    out_dir = options.out_dir.resolve()
    left_out = {n: f"{', '.join(m)} not installed" for n in names if (m := missing_parts(SYSTEMS[n]))}
    store_bytecode()
    inputs = prepare_inputs(options.set_dir.resolve(), out_dir, options.limit)
    facts = machine_facts() | {
        "frames": len(list(inputs.original.iterdir())),
        "runs": options.runs,
        "threads": options.threads,
    }
    shutil.rmtree(out_dir / "kernels", ignore_errors=True)
    costs, failures = run_all([n for n in names if n not in left_out], inputs, out_dir, options)
    record = write_record(facts, costs, left_out | failures, out_dir)
    print(write_report(record, out_dir, options.page))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
