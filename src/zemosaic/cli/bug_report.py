"""What somebody needs who looks for a fault that another person met: a small archive without pixels."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from zemosaic.errors import FrameRejected, NothingToDo
from zemosaic.io.headers.cards import Cards, open_fits, walk_hdus

__all__ = ["pack_bug_report"]

FILES = ("report.json", "settings.toml", "frames.csv", "match.ecsv", "used.txt", "left_out.txt")
"""Of an output folder. A run that failed has left only some of them."""

LINES = Path(".zemosaic/app/events.jsonl")
"""All that a run of the app has told; the end of it says how it ended."""

MOST_LINES_BYTES = 1 << 20
"""Of the end of `LINES`: some thousand lines, and what is attached to a message stays small."""

MOST_HEADERS = 8
"""Headers packed: one frame that was used, and one for each reason why frames were left out, as far as these go."""

_WHERE_ON_EARTH = re.compile(
    r"(SITE|OBS|GEO|GPS|TEL|OBSERVATORY)?[ _-]?(LAT|LON|ELE|HEIGHT)[A-Z]*[ _-]?(OBS|SITE|GEO|TEL)?"
    r"|(SITE|OBS|GEO|GPS|TEL).*(LAT|LON|ALT|ELE|HEIGHT).*"
    r"|OBSGEO.*|GPS.*|ALT[ _-]?OBS|SITENAME|OBSERVER|OBSERVAT|AUTHOR"
    r"|.*ALT(ITUDE)?|.*AZ(IMUTH)?|LST|ST|(OBJCT)?HA|AIRMASS"
)
"""Cards that tell a place on Earth or a name, or from which with the time a place follows: altitude, hour angle."""


def pack_bug_report(out: Path, machine: str) -> Path:
    """Write ``bug_report.zip`` into an output folder, of a run that ended well or not.

    It holds the tables, the report's figures and settings that are there, the end of what a run of the app told, the
    headers of a few frames without cards that tell a place on Earth, and `machine`. The home folder is written as
    ``~``.

    Parameters
    ----------
    out : Path
        An output folder.
    machine : str
        What is known of the machine, as text.

    Raises
    ------
    NothingToDo
        When no run has worked in that folder.
    """
    found = [name for name in FILES if (out / name).is_file()]
    if not found and not (out / ".zemosaic").is_dir():
        raise NothingToDo("doctor.no-run", folder=out)
    texts = {"machine.txt": machine}
    texts |= {name: (out / name).read_text(encoding="utf-8") for name in found}
    if (out / LINES).is_file():
        texts[LINES.name] = _read_end(out / LINES)
    if "frames.csv" in found:
        texts |= {f"headers/{k}.txt": _describe_header(path) for k, path in enumerate(_examples(out / "frames.csv"), 1)}
    path = out / "bug_report.zip"
    partial = path.with_name(f".{path.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text.replace(str(Path.home()), "~"))
    return partial.replace(path)


def _read_end(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - MOST_LINES_BYTES, 0))
        return file.read().decode("utf-8", "replace")


def _examples(table: Path) -> Iterator[str]:
    """The path of the first frame of each code, "" being that of frames that were used."""
    seen: set[str] = set()
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            code = row.get("code") or ""
            if code not in seen and row.get("path"):
                seen.add(code)
                yield row["path"]
            if len(seen) == MOST_HEADERS:
                return


def _describe_header(path: str) -> str:
    """The cards of a FITS file; why there are none, where there are none."""
    lines = [path]
    try:
        with open_fits(path) as source:
            for hdu in walk_hdus(source):
                lines += ["", f"HDU {hdu.index}", *_tell_cards(hdu.cards)]
    except (OSError, EOFError, ValueError, FrameRejected) as problem:
        lines += ["", str(problem)]
    return "\n".join(lines) + "\n"


def _tell_cards(cards: Cards) -> Iterator[str]:
    for key in cards:
        if not _WHERE_ON_EARTH.fullmatch(key):
            yield f"{key} = {cards.written(key)}"
