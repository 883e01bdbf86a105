"""How well a run tells the time left, with and without a history of the machine.

    python benchmarks/app_time_left.py NAME=FOLDER ... [--lines KEPT] [--page docs/measured/time-left.md]

Each folder of frames is built twice by ``zemosaic build --watched --json``; the lines stay in KEPT, where those of an
earlier call are taken from. The lines of the second run are read again
with three histories: its own (the first run of the same frames), those of the other folders, one by one, and none.
At each event from half way to the end, the time left is held against the truth. It is right within 30 % of the truth,
or within 3 s: whoever reads a page cannot tell these, and below 5 s it says "a few seconds". "Worst" is the largest
error, as a share, of those beyond 3 s.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from page import add_page_option, page_section
from zemosaic.engine import events
from zemosaic.pipelines.run.timetable import Timetable

RIGHT_SHARE = 0.3
RIGHT_S = 3.0

LONGEST_S = 600.0

TOLD = ("RunPlanned", "FramesFound", "GridPlanned", "StageStarted", "Progress", "StageEnded")
"""Events that the time left is guessed from."""

ABOUT = " ".join(__doc__.split("\n\n")[2].split())

Lines = list[tuple[events.Event, float]]


def lines_of(frames: Path, kept: Path) -> Lines:
    """What a run told, and when; standard input stays open while it works."""
    if not kept.exists():
        with tempfile.TemporaryDirectory() as scratch, kept.with_suffix(".partial").open("w") as file:
            command = [sys.executable, "-m", "zemosaic", "build", f"--out={scratch}/out", "--watched", "--json"]
            env = {**os.environ, "XDG_CONFIG_HOME": scratch}
            with subprocess.Popen([*command, "--", str(frames)], stdin=subprocess.PIPE, stdout=file, env=env) as run:
                end_s = time.monotonic() + LONGEST_S
                while run.poll() is None and time.monotonic() < end_s:
                    time.sleep(0.1)
                assert run.returncode == 0
        kept.with_suffix(".partial").rename(kept)
    told = map(json.loads, kept.read_text().splitlines())
    return [(_event_of(line), line["at_s"]) for line in told if line["event"] in TOLD]


def _event_of(line: dict[str, object]) -> events.Event:
    kind = getattr(events, str(line["event"]))
    fields = {name: line[name] for name in kind.__dataclass_fields__ if name in line and name != "told"}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def paces_of(lines: Lines) -> dict[str, float]:
    """What a machine remembers of a run."""
    table = Timetable({})
    for event, at_s in lines:
        table.add(event, at_s)
    return table.measured_paces()


def judge(lines: Lines, paces: Mapping[str, float]) -> tuple[float, int, int]:
    """Worst error as a share, of those beyond 3 s; events that are wrong; events."""
    table, end_s = Timetable(paces), lines[-1][1]
    worst, n_wrong, n_events = 0.0, 0, 0
    for event, at_s in lines:
        table.add(event, at_s)
        true_s, told_s = end_s - at_s, table.left_s(at_s)
        if at_s < end_s / 2:
            continue
        error_s = abs(told_s - true_s) if told_s is not None else float("inf")
        n_events += 1
        n_wrong += error_s > max(RIGHT_SHARE * true_s, RIGHT_S)
        worst = max(worst, error_s / true_s if error_s > RIGHT_S else 0.0)
    return worst, n_wrong, n_events


def main() -> None:
    """Build, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--lines", type=Path, metavar="KEPT")
    add_page_option(parser)
    args = parser.parse_args()
    sets = {name: Path(folder) for name, folder in (text.split("=", 1) for text in args.sets)}
    with tempfile.TemporaryDirectory() as folder, page_section(args.page, __file__, "The time left", ABOUT):
        kept = args.lines or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        first = {name: lines_of(frames, kept / f"{name} 1.jsonl") for name, frames in sets.items()}
        second = {name: lines_of(frames, kept / f"{name} 2.jsonl") for name, frames in sets.items()}
        paces = {name: paces_of(lines) for name, lines in first.items()}
        print("| run | seconds | history | wrong, of events | worst |\n|---|--:|---|--:|--:|")
        for name, lines in second.items():
            others = {f"only of {other}": paces[other] for other in sets if other != name}
            for history, known in {"own": paces[name], **others, "none": {}}.items():
                worst, n_wrong, n_events = judge(lines, known)
                print(f"| {name} | {lines[-1][1]:.0f} | {history} | {n_wrong} of {n_events} | {worst:.0%} |")


if __name__ == "__main__":
    main()
