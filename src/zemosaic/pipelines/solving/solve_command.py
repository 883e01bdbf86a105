"""Where frames point, without a mosaic: a table, and headers on request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from zemosaic.engine.events import LeftOut
from zemosaic.errors import EnvironmentProblem, NothingToDo
from zemosaic.io.write.wcs_file import wcs_file_names, write_wcs_file
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.frames.pipeline import open_inputs
from zemosaic.pipelines.measuring.defects import DefectWatch
from zemosaic.pipelines.measuring.measure_frames import measure_frames
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.warm import compile_beside
from zemosaic.pipelines.solving.known_sky import KnownSky
from zemosaic.pipelines.solving.places import Place
from zemosaic.pipelines.solving.solve_frames import solve_frames
from zemosaic.settings import Settings

__all__ = ["solve_inputs"]


def solve_inputs(
    inputs: Sequence[Path], sky: KnownSky, settings: Settings, run: Run, folder: Path | None
) -> list[dict[str, Any]]:
    """Solve all frames in files and folders and refine them together; nothing is judged or left out for its quality.

    Parameters
    ----------
    inputs : sequence of Path
    sky : KnownSky
    settings : Settings
    run : Run
    folder : Path or None
        Receives a ``.wcs`` file for each solved frame, and the table as ``solve.ecsv``.

    Returns
    -------
    list of dict
        One row a frame: name, path, how, the centre (ra_deg, dec_deg), scale_arcsec, rotation_deg (position angle of
        the array's +y axis, east of north), mirrored (the array shows the sky as in a mirror), n_stars, rms_px, file,
        reason (a `Message`). Numbers are None where the frame has no place, and the reason where it has one.

    Raises
    ------
    NothingToDo
        When no frame can be solved.
    EnvironmentProblem
        When the folder cannot be written.
    """
    opened = open_inputs(inputs, settings, run)
    if folder is not None:
        _make_folder(folder)
    with compile_beside(["match", "raws", "weigh"], run) if run.options.compile_ahead else nullcontext():
        no_camera = DefectWatch([], settings, run)  # places need no defect maps
        measured = measure_frames(opened.frames, opened.source, settings, run, watch=no_camera)
        found = solve_frames(measured.kept, sky, settings, run)
    places = dict(zip((m.frame.id for m in measured.kept), found, strict=True))
    if not any(isinstance(place, Place) for place in places.values()):
        raise NothingToDo("solve.none", n_frames=len(opened.frames))
    frames = sorted(opened.frames, key=lambda frame: (frame.storage.path, frame.storage.hdu))
    places |= {FrameId(item.frame_id): item for item in measured.left_out}
    names = wcs_file_names(frames)
    rows = []
    for frame, name in zip(frames, names, strict=True):
        place = places[frame.id]
        rows.append(_row(frame, place, name if folder else ""))
        if folder is not None and isinstance(place, Place):
            write_wcs_file(folder / name, place.wcs.cards, frame)
    if folder is not None:
        _write_table(folder / "solve.ecsv", [{**row, "reason": str(row["reason"] or "")} for row in rows])
    return rows


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem("output.cannot-write-solved", folder=folder, problem=problem.strerror) from problem


def _row(frame: Frame, place: Place | LeftOut, file: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((
        "ra_deg",
        "dec_deg",
        "scale_arcsec",
        "rotation_deg",
        "mirrored",
        "n_stars",
        "rms_px",
    ))
    reason, code = (place.told, place.told.code) if isinstance(place, LeftOut) else (None, "")
    row = {"name": frame.name, "path": frame.storage.path, "how": "unsolved", **row, "file": ""}
    row |= {"reason": reason, "code": code}
    if isinstance(place, LeftOut):
        return row
    (ra, dec), (rotation_deg, mirrored) = _centre(place.wcs), _attitude(place.wcs)
    return row | {
        "how": place.how, "ra_deg": ra, "dec_deg": dec, "scale_arcsec": place.wcs.pixel_scale_arcsec(),
        "rotation_deg": rotation_deg, "mirrored": mirrored, "n_stars": place.n_stars,
        "rms_px": place.rms_px if np.isfinite(place.rms_px) else None, "file": file,
    }  # fmt: skip


def _centre(wcs: CelestialWcs) -> tuple[float, float]:
    ra, dec = wcs.pixel_to_sky((wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2)
    return float(ra), float(dec)


def _attitude(wcs: CelestialWcs) -> tuple[float, bool]:
    """Position angle of the array's +y axis, and whether the sky is mirrored in array order."""
    x, y = (wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2
    ra, dec = wcs.pixel_to_sky([x, x + 1, x], [y, y, y + 1])
    east = ((ra[1:] - ra[0] + 180) % 360 - 180) * np.cos(np.deg2rad(dec[0]))
    north = dec[1:] - dec[0]
    angle = float(np.rad2deg(np.arctan2(east[1], north[1])))
    return angle, bool(east[0] * north[1] - east[1] * north[0] > 0)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    columns = {name: np.ma.array([row[name] if row[name] is not None else 0 for row in rows]) for name in rows[0]}
    for name, column in columns.items():
        column.mask = [row[name] is None for row in rows]
    Table(columns).write(partial, format="ascii.ecsv", overwrite=True)
    partial.replace(path)
