"""``stack_plan.csv``: a survey's own list of its frames, and what it says of each."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zemosaic.errors import SettingError
from zemosaic.model.frame import Mount
from zemosaic.text import message

__all__ = ["PLAN_NAME", "PlanRow", "StackPlan", "read_stack_plan"]

PLAN_NAME = "stack_plan.csv"

_ALIASES = {
    "path": ("file_path", "filepath", "path", "file", "filename", "file_name", "fits", "fits_path", "image", "frame"),
    "exposure_s": ("exposure", "exposure_s", "exptime", "exp_time", "exposure_time", "exp", "seconds"),
    "bortle": ("bortle", "bortle_class", "sky_bortle"),
    "filter": ("filter", "filter_name", "filt", "band"),
    "batch": ("batch", "batch_id", "group", "group_id", "session"),
    "order": ("order", "order_id", "stack_order", "sequence", "index", "idx"),
    "mount": ("mount", "mount_mode", "mount_type", "eqmode", "tracking"),
}
_MOUNTS: dict[str, Mount] = {
    **dict.fromkeys(("altaz", "alt-az", "alt_az", "az", "0"), "altaz"),
    **dict.fromkeys(("eq", "equatorial", "equ", "1"), "equatorial"),
}


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One frame of a plan.

    Attributes
    ----------
    path : str
        As written, Windows or Unix, absolute or not.
    exposure_s : float or None
    filter, bortle, batch, order : str
        "" where not given.
    mount : {"", "altaz", "equatorial"}
    """

    path: str
    exposure_s: float | None = None
    filter: str = ""
    bortle: str = ""
    batch: str = ""
    order: str = ""
    mount: Mount = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders and file name, whatever the system they were written on; without a drive."""
        parts = self.path.replace("\\", "/").split("/")
        return tuple(part for part in parts if part not in {"", "."} and not part.endswith(":"))


@dataclass(frozen=True, slots=True)
class StackPlan:
    """A plan as read.

    Attributes
    ----------
    path : Path
    rows : tuple of PlanRow
    ignored : tuple of str
        Columns that mean nothing here.
    unreadable : tuple of str
        Values that were expected to be numbers or mounts and are not, with their line.
    """

    path: Path
    rows: tuple[PlanRow, ...]
    ignored: tuple[str, ...]
    unreadable: tuple[str, ...]

    def find(self, paths: Sequence[str]) -> dict[str, PlanRow]:
        """The row of each file that the plan names: the row that shares most of the path's end with it.

        Parameters
        ----------
        paths : sequence of str
            Absolute paths of files at hand.

        Returns
        -------
        dict
            By path. A row whose file name fits several files equally well is taken for none of them.
        """
        by_name: dict[str, list[str]] = {}
        for path in paths:
            by_name.setdefault(_parts(path)[-1].casefold(), []).append(path)
        found: dict[str, PlanRow] = {}
        for row in self.rows:
            if not row.parts:
                continue
            candidates = by_name.get(row.parts[-1].casefold(), [])
            shared = [_common_end(row.parts, _parts(path)) for path in candidates]
            if shared and shared.count(max(shared)) == 1:
                found.setdefault(candidates[shared.index(max(shared))], row)
        return found


def read_stack_plan(path: Path) -> StackPlan:
    """Read a plan: comma, semicolon or tab between columns, one line a frame, columns under their usual names.

    Raises
    ------
    SettingError
        When it cannot be read or has no column of paths.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingError("plan.unreadable", path=path, problem=problem) from problem
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator)
    titles = {name: " ".join(name.split()).casefold().replace(" ", "_") for name in reader.fieldnames or () if name}
    columns = {known: name for known, aliases in _ALIASES.items() for name, title in titles.items() if title in aliases}
    if "path" not in columns:
        there = list(titles) or message("plan.none")
        raise SettingError("plan.no-paths", path=path, known=_ALIASES["path"][:4], columns=there)
    unreadable: list[str] = []
    rows = []
    for line in reader:
        given = {known: (line.get(name) or "").strip() for known, name in columns.items()}
        if given["path"]:
            rows.append(_row(given, reader.line_num, unreadable))
    ignored = tuple(name for name in titles if name not in columns.values())
    return StackPlan(path, tuple(rows), ignored, tuple(unreadable))


def _row(given: Mapping[str, str], line: int, unreadable: list[str]) -> PlanRow:
    exposure = None
    if text := given.get("exposure_s", ""):
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if math.isfinite(value) and value > 0:
            exposure = value
        else:
            unreadable.append(f"exposure '{text}' in line {line}")
    mount = given.get("mount", "").casefold()
    if mount and mount not in _MOUNTS:
        unreadable.append(f"mount '{mount}' in line {line}")
    return PlanRow(
        path=given["path"],
        exposure_s=exposure,
        filter=given.get("filter", ""),
        bortle=given.get("bortle", ""),
        batch=given.get("batch", ""),
        order=given.get("order", ""),
        mount=_MOUNTS.get(mount, ""),
    )


def _parts(path: str) -> tuple[str, ...]:
    return PlanRow(path).parts


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many last parts of two paths are the same, whatever their case."""
    n = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a.casefold() != b.casefold():
            break
        n += 1
    return n
