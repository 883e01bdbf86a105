"""What a person sees the first time: how long a command takes with no kernel compiled yet, and how long nothing moves.

``python benchmarks/first_run.py`` runs ``zemosaic demo`` twice on a terminal of its own, with a fresh copy of the
package that holds no kernel the first time, and tells for each run the seconds, the processor time and the longest
times in which nothing on the screen changed. ``--seen FILE`` keeps what was shown, each piece with its time. Another
command follows ``--``.
"""

from __future__ import annotations

import argparse
import compileall
import os
import pty
import re
import resource
import select
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zemosaic

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x07]")
"""Where the cursor goes and in which colour it writes: no change that a person reads."""


@dataclass
class Seen:
    """What a command showed.

    Attributes
    ----------
    pieces : list of (float, str)
        Seconds from the start, and what came then.
    wall_s, cpu_s : float
        Of the command and of all processes that it started.
    code : int
        How it ended.
    """

    pieces: list[tuple[float, str]] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    code: int = 0

    def stills(self) -> list[tuple[float, float, str]]:
        """``(seconds, when, last words)`` of times in which nothing changed, the longest first."""
        ends = [when for when, _ in self.pieces[1:]] + [self.wall_s]
        first = [(self.pieces[0][0] if self.pieces else self.wall_s, 0.0, "(nothing yet)")]
        gaps = [(end - when, when, text.strip()[-60:]) for (when, text), end in zip(self.pieces, ends, strict=True)]
        return sorted(first + gaps, reverse=True)


def watch(command: Sequence[str], environment: dict[str, str]) -> Seen:
    """Run a command on a terminal of 120 columns and note when what it shows changes."""
    seen, before = Seen(), resource.getrusage(resource.RUSAGE_CHILDREN)
    begun, shown = time.perf_counter(), ""
    number, master = pty.fork()
    if number == 0:
        os.execvpe(command[0], list(command), {**environment, "COLUMNS": "120", "LINES": "40", "TERM": "xterm"})
    while True:
        if not select.select([master], [], [], 0.05)[0]:
            continue
        try:
            chunk = os.read(master, 1 << 16)
        except OSError:  # how Linux tells that the other side is gone
            break
        if not chunk:
            break
        text = _CONTROL.sub("", chunk.decode("utf-8", "replace"))
        if text.strip() and text != shown:
            seen.pieces.append((time.perf_counter() - begun, text))
            shown = text
    seen.code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    os.close(master)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen.wall_s = time.perf_counter() - begun
    seen.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seen


def install_copy(folder: Path) -> dict[str, str]:
    """Copy the package as an installer leaves it: modules as bytes, no kernel; the environment that runs the copy.

    Kernels lie beside their source, whatever ``NUMBA_CACHE_DIR`` says: they would be found there.
    """
    copy = folder / "zemosaic"
    shutil.copytree(Path(zemosaic.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(copy, quiet=1)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment.pop("NUMBA_CACHE_DIR", None)
    return environment


def main() -> None:
    """Run, cold and warm, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seen", type=Path)
    parser.add_argument("command", nargs="*", help="another command than zemosaic demo; OUT is a new folder")
    given = parser.parse_args()
    command = given.command or [sys.executable, "-m", "zemosaic", "demo", "-o", "OUT"]
    with tempfile.TemporaryDirectory() as folder:
        environment = install_copy(Path(folder))
        for name in ("cold", "warm"):
            out = Path(folder) / "out"
            seen = watch([str(out) if word == "OUT" else word for word in command], environment)
            print(f"{name}: {seen.wall_s:.1f} s, processor {seen.cpu_s:.1f} s, exit code {seen.code}")
            for seconds, when, words in seen.stills()[:3]:
                print(f"  nothing changed for {seconds:.1f} s from {when:.1f} s on, after: {words}")
            if given.seen:
                lines = [f"{when:.2f} {text!r}\n" for when, text in seen.pieces]
                given.seen.with_suffix(f".{name}.txt").write_text("".join(lines), encoding="utf-8")
            shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
