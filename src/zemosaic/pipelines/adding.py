"""Tonight's frames into yesterday's mosaic: what a project remembers of its inputs, and its frozen grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from zemosaic.errors import NothingToDo
from zemosaic.pipelines.context import WORK_FOLDER
from zemosaic.pipelines.report import write_text

__all__ = ["frozen_grid", "inputs_so_far", "record_inputs"]

_RECORD = "inputs.json"


def record_inputs(out: Path, inputs: Sequence[Path]) -> None:
    """Note the files and folders that an output folder's mosaic was made of."""
    write_text(out / WORK_FOLDER / _RECORD, json.dumps([str(path.absolute()) for path in inputs], indent=1) + "\n")


def inputs_so_far(out: Path) -> list[Path]:
    """The files and folders that the mosaic in an output folder was made of.

    Raises
    ------
    NothingToDo
        When no run of mode direct has ended there.
    """
    try:
        return [Path(text) for text in json.loads((out / WORK_FOLDER / _RECORD).read_text(encoding="utf-8"))]
    except (OSError, ValueError) as problem:
        raise NothingToDo(
            f"there is no direct mosaic in {out} that frames could be added to; build one without --add first"
        ) from problem


def frozen_grid(out: Path) -> Path:
    """The mosaic whose grid stays as it is, but for new rows and columns at its edges.

    Raises
    ------
    NothingToDo
        When there is none.
    """
    found = sorted(out.glob("mosaic*.fits"))
    if not found:
        raise NothingToDo(f"there is no mosaic in {out}; build one without --add first")
    return found[0]
