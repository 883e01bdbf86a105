"""A matching solution as a table: one row a frame and channel, readable by people and by ``coadd``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from zemosaic.errors import SettingError
from zemosaic.model.frame import Frame
from zemosaic.model.photo_scale import N_TERMS, PATTERN_ORDER, PhotoScale, n_terms

__all__ = ["read_solution", "write_solution"]

_BASE = ["id", "name", "channel", "gain", "gain_error", "level_error", "component", "note"]
_SURFACE = [f"b{k}" for k in range(n_terms(PATTERN_ORDER))]


def write_solution(path: Path, frames: Sequence[Frame], scales: Sequence[PhotoScale]) -> None:
    """Write gains, surfaces and responses as ECSV, all or nothing.

    Columns: ``id, name, channel, gain, gain_error, level_error, component, note``, the surface
    ``b0..`` (mosaic units, terms of `zemosaic.model.photo_scale.surface_basis`) and the response ``r1..``
    (coefficients of ln F, terms of degree 1 and more).
    """
    n_surface = max((s.surface.shape[1] for s in scales), default=N_TERMS)
    n_response = max((s.response.shape[1] for s in scales if s.response is not None), default=0)
    rows = []
    for frame, scale in zip(frames, scales, strict=True):
        for c in range(len(scale.gain)):
            response = np.zeros(n_response)
            if scale.response is not None:
                response[: scale.response.shape[1]] = scale.response[c]
            surface = np.zeros(n_surface)
            surface[: scale.surface.shape[1]] = scale.surface[c]
            rows.append((
                frame.id, frame.name, c, scale.gain[c], scale.gain_error[c], scale.level_error[c], scale.component,
                scale.note, *surface, *response,
            ))  # fmt: skip
    names = [*_BASE, *_SURFACE[:n_surface], *(f"r{k + 1}" for k in range(n_response))]
    table = Table(rows=rows, names=names) if rows else Table(names=names)
    partial = path.with_name(f".{path.name}.partial")
    table.write(partial, format="ascii.ecsv", overwrite=True)
    partial.replace(path)


def read_solution(path: Path, frames: Sequence[Frame]) -> dict[str, PhotoScale]:
    """Read a table written by `write_solution`, or made by other means with the same columns.

    Rows find their frame by ``id``; where that column is empty or absent, by ``name``. Columns for
    errors, component, note and response may be absent.

    Returns
    -------
    dict
        FrameId -> PhotoScale, for the frames that the table names.

    Raises
    ------
    SettingError
        When the file cannot be read or lacks the columns name, channel, gain and b0.
    """
    try:
        table = Table.read(path, format="ascii.ecsv")
    except OSError as problem:
        raise SettingError("solution.unreadable", path=path, problem=problem.strerror or problem) from problem
    except ValueError as problem:
        raise SettingError("solution.no-ecsv", path=path, problem=problem) from problem
    missing = [n for n in ("name", "channel", "gain", "b0") if n not in table.colnames]
    if missing:
        raise SettingError("solution.no-columns", path=path, columns=missing)
    groups: dict[str, list[int]] = {}
    by_id = "id" in table.colnames
    for i, row in enumerate(table):
        groups.setdefault(str(row["id"]) if by_id and row["id"] else str(row["name"]), []).append(i)
    found = {}
    for frame in frames:
        rows = groups.get(frame.id) or groups.get(frame.name)
        if rows:
            try:
                found[str(frame.id)] = _scale_of(table[rows], frame)
            except ValueError as problem:
                raise SettingError("solution.no-sense", path=path, file=frame.name, problem=problem) from problem
    return found


def _scale_of(table: Table, frame: Frame) -> PhotoScale:
    table.sort("channel")
    n = len(table)
    if n != frame.n_channels:
        raise SettingError("solution.channels", n=n, file=frame.name, n_channels=frame.n_channels)

    def column(name: str, default: float) -> np.ndarray:
        return np.asarray(table[name], float) if name in table.colnames else np.full(n, default)

    n_surface = len(_SURFACE) if any(name in table.colnames for name in _SURFACE[N_TERMS:]) else N_TERMS
    n_response = sum(name[0] == "r" and name[1:].isdigit() for name in table.colnames)
    response = np.stack([column(f"r{k + 1}", 0.0) for k in range(n_response)], axis=1) if n_response else None
    return PhotoScale(
        gain=column("gain", 1.0),
        surface=np.stack([column(name, 0.0) for name in _SURFACE[:n_surface]], axis=1),
        response=response,
        gain_error=column("gain_error", np.inf),
        level_error=column("level_error", np.inf),
        component=int(column("component", 0)[0]),
        note=_text(table["note"][0]) if "note" in table.colnames else "given",
    )


def _text(value: object) -> str:
    """Text of a cell; ECSV reads empty text as masked."""
    return "" if value is np.ma.masked else str(value)
