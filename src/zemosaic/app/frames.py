"""The frames of a run as a table, and which of them a person leaves out."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from zemosaic.app.output import WORK, OutputFolder, retell

__all__ = ["read_frames", "save_selection"]


PICTURES = "preview/frames"
"""Where a watched run keeps small pictures of its frames, below the folder of the engine."""

_WHY = {"reason", "code"}
"""Columns that are empty for a frame that is used."""


def read_frames(folder: OutputFolder, language: str = "en") -> list[dict[str, str]]:
    """The rows of ``frames.csv``; none before frames were measured.

    Frames that a person left out are not measured by the run that follows: what was known of them stays. Why frames
    are left out is told in the language given. ``picture`` is the small picture of a frame, below the output folder.
    """
    known = {row["path"]: row for row in _read(_saved(folder))}
    rows = [
        {**known.get(row["path"], {}), **{name: value for name, value in row.items() if value or name in _WHY}}
        for row in _read(folder.path / "frames.csv")
    ]
    drawn = {path.stem for path in (folder.path / WORK / PICTURES).glob("*.jpg")}
    told = {event["path"]: event for event in folder.read_events() if event["event"] == "LeftOut"}
    for row in rows:
        row["picture"] = f"{WORK}/{PICTURES}/{row['id']}.jpg" if row.get("id") in drawn else ""
        why = told.get(row["path"])
        if row["reason"] and why and why["code"] == row.get("code"):
            row["reason"] = retell(why, language)["reason"]
    return rows


def save_selection(folder: OutputFolder, left_out: Collection[str]) -> Path:
    """Write the table that ``--frames`` takes: the paths given are left out, all other frames are used.

    Parameters
    ----------
    folder : OutputFolder
    left_out : collection of str
        Paths as in the table.
    """
    rows, gone = read_frames(folder), set(left_out)
    names = dict.fromkeys(name for row in rows for name in row) or ["path", "use"]
    target = _saved(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".partial").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows({**row, "use": str(row["path"] not in gone)} for row in rows)
    target.with_suffix(".partial").replace(target)
    return target


def _saved(folder: OutputFolder) -> Path:
    return folder.notes / "frames.csv"


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []
