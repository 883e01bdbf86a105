"""The frames of a run as a table, and which of them a person leaves out."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from zemosaic.app.output import OutputFolder

__all__ = ["read_frames", "save_selection"]


def read_frames(folder: OutputFolder) -> list[dict[str, str]]:
    """The rows of ``frames.csv``; none before frames were measured."""
    try:
        with (folder.path / "frames.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def save_selection(folder: OutputFolder, left_out: Collection[str]) -> Path:
    """Write the table that ``--frames`` takes: the paths given are left out, all other frames as they stand.

    Parameters
    ----------
    folder : OutputFolder
    left_out : collection of str
        Paths as in the table.
    """
    rows = read_frames(folder)
    gone = set(left_out)
    target = folder.notes / "frames.csv"
    folder.notes.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".partial").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["path", "use"])
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "use": str(row["path"] not in gone and row["use"] == "True")})
    target.with_suffix(".partial").replace(target)
    return target
