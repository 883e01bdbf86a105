"""What each way to install ZeMosaic costs, and whether it works for a person who has nothing yet.

    python benchmarks/installs.py --folder build/packed/zemosaic --wheel build/zemosaic-X.Y.Z-py3-none-any.whl \\
        --wheels WHEELHOUSE --uv PATH/TO/uv

Each way is tried in a home folder of its own, with nothing in the environment but HOME, PATH and the language, and in a
network that holds the machine alone: the version, the demo twice (the first compiles the kernels, the second must find
them), and the app, answered through its page by Chromium up to the finished mosaic. ``--folder`` is what PyInstaller
made; ``--wheel`` is installed with ``uv tool install --offline`` from WHEELHOUSE, a folder with the wheels of all
dependencies. The figures go to ``docs/measured/installs.md``.

Needs Linux, ``unshare``, ``ip``, Chromium, and playwright in the Python that runs this.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from page import add_page_option, page_section

CHROMIUM = Path("/usr/bin/chromium")
LONGEST_S = 600
"""Of one step; the first run compiles."""

ALONE = "ZEMOSAIC_BENCHMARK_ALONE"
"""Set in the environment of the benchmark once it is in a network of its own."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock and by the processor, of a command and all that it started."""

    wall_s: float
    cpu_s: float

    def __str__(self) -> str:
        return f"{self.wall_s:.1f} s, processor {self.cpu_s:.1f} s"


class Home:
    """The home folder of somebody who has nothing yet."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.environment = {
            "HOME": str(folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
            "BROWSER": "true",  # the page is opened by the Chromium that answers it, and by no other
        }  # fmt: skip

    def run(self, *command: object) -> tuple[Cost, str]:
        """Run a command there; its cost and what it printed."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(time.perf_counter() - begun, cpu_s), done.stdout + done.stderr


def count_files(folder: Path, pattern: str = "*") -> tuple[int, float]:
    """Files below a folder, and their MB."""
    sizes = [path.stat().st_size for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink()]
    return len(sizes), sum(sizes) / 1e6


def find_kernels(*folders: Path) -> dict[Path, int]:
    """Compiled kernels and when each was written."""
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*.nbc")}


def try_app(program: Path, home: Home) -> float:
    """Seconds from the link to the mosaic of simulated frames, asked for on the app's page; Ctrl-C ends the app."""
    from playwright.sync_api import sync_playwright

    server = subprocess.Popen(
        [program, "gui"], env=home.environment, cwd=home.folder, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        link = re.findall(r"http\S+", server.stderr.readline())[0]
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            page = browser.new_page(locale="en")
            page.set_default_timeout(LONGEST_S * 1000)
            begun = time.perf_counter()
            page.goto(link)
            page.get_by_role("button", name="Try with simulated frames").click()
            page.get_by_role("button", name="Make the mosaic").click()
            page.get_by_role("heading", name="Files", exact=True).wait_for()
            wall_s = time.perf_counter() - begun
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    return wall_s


def try_program(program: Path, home: Home, places: tuple[Path, ...]) -> list[tuple[str, str]]:
    """The three tries, as rows of the table."""
    version, said = home.run(program, "--version")
    print(f"{program}: {said.strip()}, {version}", flush=True)
    first, _ = home.run(program, "demo", "-o", home.folder / "first")
    kernels = find_kernels(*places)
    size = sum(path.stat().st_size for path in kernels) / 1e6
    print(f"demo: {first}; {len(kernels)} kernels", flush=True)
    second, _ = home.run(program, "demo", "-o", home.folder / "second")
    compiled = [path for path, when in find_kernels(*places).items() if kernels.get(path) != when]
    print(f"demo again: {second}; {len(compiled)} kernels compiled", flush=True)
    same = (home.folder / "first/mosaic/mosaic.fits").read_bytes() == (
        home.folder / "second/mosaic/mosaic.fits"
    ).read_bytes()
    app_s = try_app(program, home)
    print(f"app: {app_s:.1f} s", flush=True)
    return [
        ("`zemosaic --version`", str(version)),
        ("`zemosaic demo`, the first time", str(first)),
        ("kernels that were compiled and kept", f"{len(kernels)}, {size:.1f} MB"),
        ("`zemosaic demo`, the second time", str(second)),
        ("kernels compiled then", str(len(compiled))),
        ("the two mosaics have the same bytes", "yes" if same else "no"),
        ("`zemosaic gui`: from the link to the mosaic of twelve frames, 2 clicks", f"{app_s:.1f} s"),
    ]


def try_folder(packed: Path, home: Home) -> list[tuple[str, str]]:
    """The folder that PyInstaller made, copied into the home folder as a person would unpack it."""
    place = home.folder / "zemosaic"
    shutil.copytree(packed, place, symlinks=True)
    n_files, size = count_files(place)
    return [("on the disk", f"{n_files} files, {size:.0f} MB"), *try_program(place / "zemosaic", home, (home.folder,))]


def try_wheel(wheel: Path, wheels: Path, uv: Path, home: Home) -> list[tuple[str, str]]:
    """The wheel, by ``uv tool install``."""
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    cost, _ = home.run(
        uv, "tool", "install", "--offline", "--no-index", "--find-links", wheels, "--python", python, wheel
    )
    n_files, size = count_files(home.folder / ".local/share/uv/tools/zemosaic")
    rows = [
        ("the wheel alone", f"{wheel.stat().st_size / 1e6:.1f} MB"),
        ("`uv tool install`", str(cost)),
        ("on the disk", f"{n_files} files, {size:.0f} MB"),
    ]
    return rows + try_program(home.folder / ".local/bin/zemosaic", home, (home.folder,))


ABOUT = """Tried in an empty home folder, without a network; the module tells what is done. MB are millions of
bytes. The load says how much else the cores had to do: where it is high, only the seconds of the processor say what
a quiet machine needs."""


def print_rows(rows: list[tuple[str, str]]) -> None:
    """A way's figures as a table."""
    print("\n".join(["| what | seen |", "|---|---|", *(f"| {what} | {seen} |" for what, seen in rows)]))


def main() -> None:
    """Try what is given, in a network of its own, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--uv", type=Path, default=Path(shutil.which("uv") or "uv"))
    add_page_option(parser, "installs.md")
    given = parser.parse_args()
    if ALONE not in os.environ:
        alone = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        os.execvpe(alone[0], [*alone, sys.executable, *sys.argv], {**os.environ, ALONE: "1"})
    with tempfile.TemporaryDirectory() as scratch:
        if given.folder:
            with page_section(given.page, __file__, "A folder that runs without Python", ABOUT):
                print_rows(try_folder(given.folder.resolve(), Home(Path(scratch) / "a")))
        if given.wheel:
            home = Home(Path(scratch) / "b")
            with page_section(given.page, __file__, "The wheel, by uv", ABOUT):
                print_rows(try_wheel(given.wheel.resolve(), given.wheels.resolve(), given.uv.resolve(), home))


if __name__ == "__main__":
    main()
