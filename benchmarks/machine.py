"""What a benchmark ran on."""

from __future__ import annotations

import compileall
import datetime
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

import zemosaic

PACKAGES = ("zemosaic", "numpy", "scipy", "astropy", "numba", "sep", "reproject")
DEBIAN_PROGRAMS = ("swarp", "montage")


def machine_facts() -> dict[str, object]:
    """Date, processor, memory, system, versions and commit; what is not installed is left out."""
    facts: dict[str, object] = {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor_name(),
        "cores usable": _usable_cores(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "load before": f"{psutil.getloadavg()[0]:.2f}",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return facts | _debian_versions() | {"commit": find_commit()}


def store_bytecode() -> None:
    """Compile the package's modules beside their source, as an installer does.

    A checkout may have none: where the environment forbids Python to write them, each process compiles all anew.
    """
    compileall.compile_dir(Path(zemosaic.__file__).parent, quiet=1)


def find_commit() -> str:
    """The commit of the checkout, and whether the code differs from it; pages that were just written do not count."""
    here = Path(__file__).parents[1]

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=here).stdout.strip()

    commit = ask("rev-parse", "--short", "HEAD")
    if not commit:
        return "not a checkout"
    return f"{commit}-dirty" if ask("status", "--porcelain", "--", "src", "benchmarks", "tests/cases") else commit


def processor_name() -> str:
    """The processor's model, as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _debian_versions() -> dict[str, object]:
    """Montage's programs do not tell their version; Debian's package does."""
    if shutil.which("dpkg-query") is None:
        return {}
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *DEBIAN_PROGRAMS],
        capture_output=True,
        text=True,
        check=False,
    )
    return {name: version for name, _, version in (line.partition(" ") for line in done.stdout.splitlines())}
