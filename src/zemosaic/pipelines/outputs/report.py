"""What a run leaves beside the mosaic: the frames table, the report, the settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tomli_w
from astropy.table import Column, MaskedColumn, Table

from zemosaic.engine.events import LeftOut, event_as_json
from zemosaic.io.tables.frame_list import FrameList, write_frame_list
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.pipelines.run.log import Journal
from zemosaic.settings import Settings

if TYPE_CHECKING:
    from zemosaic.pipelines.frames.pipeline import PlacedFrame
    from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame

__all__ = ["Treatment", "hash_settings", "write_frames_table", "write_report", "write_settings", "write_text"]


@dataclass(frozen=True, slots=True, eq=False)
class Treatment:
    """What was done with a frame.

    Attributes
    ----------
    scale : PhotoScale
        Its correction.
    weight : ndarray, shape (c,)
        Of its pixels; None where no mosaic was made.
    clipped : float or None
        Share of its samples that were clipped.
    """

    scale: PhotoScale
    weight: npt.NDArray[np.float64] | None = None
    clipped: float | None = None


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_settings(path: Path, settings: Settings) -> None:
    """The settings of the run as TOML; ``--config`` with this file reruns the same."""
    write_text(path, tomli_w.dumps(settings.model_dump()))


def hash_settings(settings: Settings) -> str:
    """SHA-256 of the file that `write_settings` writes, in hex, without its last part: what is made beside a mosaic
    changes none of its bytes."""
    return hashlib.sha256(tomli_w.dumps(settings.model_dump(exclude={"output"})).encode()).hexdigest()


def write_frames_table(
    path: Path,
    frames: Sequence[PlacedFrame],
    treated: Mapping[str, Treatment],
    used: set[str],
    known: Mapping[FrameId, MeasuredFrame],
    left_out: Sequence[LeftOut],
) -> None:
    """One row a frame, used or not, with the reason; ECSV and, beside it, CSV and the lists ``used.txt`` and
    ``left_out.txt``, each all or nothing.

    Of a frame without a place the row tells what was measured on it, which `known` holds.
    """
    reasons = {item.frame_id or item.path: item for item in left_out}
    rows: list[dict[str, Any]] = []
    for item in frames:
        frame = item.frame
        gone = reasons.pop(str(frame.id), None)
        ra, dec = item.wcs.pixel_to_sky((frame.shape[1] - 1) / 2, (frame.shape[0] - 1) / 2)
        row: dict[str, Any] = {
            "name": frame.name, "use": frame.id in used, "reason": gone.reason if gone else "",
            "code": gone.told.code if gone else "", "path": frame.storage.path,
            **_measured_columns(frame, item.measured),
            "ra_deg": float(ra), "dec_deg": float(dec), **_corner_columns(item),
            "place": item.place.how, "place_stars": item.place.n_stars, "place_rms_px": item.place.rms_px,
        }  # fmt: skip
        # A frame that was left out before the match has no correction.
        if frame.id in treated:
            row |= _correction_columns(treated[frame.id], _channel_tags(item.measured))
        rows.append(row)
    for gone in reasons.values():
        seen = known.get(FrameId(gone.frame_id))
        columns = _measured_columns(seen.frame, seen.measured) if seen else {}
        why = {"reason": gone.reason, "code": gone.told.code}
        rows.append({"name": Path(gone.name).name, "use": False, **why, "path": gone.path, **columns})
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table([_column(name, [row.get(name) for row in rows]) for name in names], names=names)
    for target, kind in ((path, "ascii.ecsv"), (path.with_suffix(".csv"), "ascii.csv")):
        partial = target.with_name(f".{target.name}.partial")
        table.write(partial, format=kind, overwrite=True)
        partial.replace(target)
    used_paths = dict.fromkeys(str(row["path"]) for row in rows if row["use"])
    others = dict.fromkeys(str(row["path"]) for row in rows if str(row["path"]) not in used_paths)
    write_frame_list(path.with_name("used.txt"), FrameList(True, tuple(used_paths)))
    write_frame_list(path.with_name("left_out.txt"), FrameList(False, tuple(others)))


def _corner_columns(item: PlacedFrame) -> dict[str, float]:
    """Angle of the columns at the centre, from north to east, and where the outer corners of the corner pixels lie:
    from the first pixel along its row, and round."""
    height, width = item.frame.shape
    ra, dec = item.wcs.pixel_to_sky(np.array([0, width, width, 0]) - 0.5, np.array([0, 0, height, height]) - 0.5)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    up_ra, up_dec = item.wcs.pixel_to_sky([middle_x] * 2, [middle_y - 0.5, middle_y + 0.5])
    east = (up_ra[1] - up_ra[0] + 180) % 360 - 180
    angle = np.rad2deg(np.arctan2(east * np.cos(np.deg2rad(up_dec.mean())), up_dec[1] - up_dec[0]))
    corners = (("ra", ra), ("dec", dec))
    columns = {f"{name}{k + 1}_deg": float(values[k]) for k in range(4) for name, values in corners}
    return {"position_angle_deg": float(angle), **columns}


def _measured_columns(frame: Frame, measured: Measurements) -> dict[str, Any]:
    """What is known of a frame before it has a place or a gain."""
    columns: dict[str, Any] = {
        "id": str(frame.id), "filter": frame.decided.filter, "exposure_s": frame.decided.exposure_s,
        "date_obs": frame.header.date_obs,
        "fwhm_px": measured.fwhm_px, "ellipticity": measured.ellipticity, "n_stars": len(measured.stars),
    }  # fmt: skip
    for c, tag in enumerate(_channel_tags(measured)):
        columns |= {f"sky{tag}": measured.sky[c], f"noise{tag}": measured.noise[c]}
    return columns


def _correction_columns(treated: Treatment, tags: Sequence[str]) -> dict[str, Any]:
    """What was solved for a frame, and how it counts in the mosaic."""
    scale = treated.scale
    columns: dict[str, Any] = {"component": scale.component, "note": scale.note}
    if treated.clipped is not None:
        columns["clipped_share"] = treated.clipped
    for c, tag in enumerate(tags):
        if treated.weight is not None:
            columns[f"weight{tag}"] = float(treated.weight[c])
        columns |= {f"gain{tag}": scale.gain[c], f"gain_error{tag}": scale.gain_error[c],
                    f"level_error{tag}": scale.level_error[c]}  # fmt: skip
        columns |= {f"b{k}{tag}": value for k, value in enumerate(scale.surface[c])}
    return columns


def _channel_tags(measured: Measurements) -> list[str]:
    """What tells the columns of the channels apart."""
    return [""] if measured.n_channels == 1 else ["_r", "_g", "_b"]


def _column(name: str, values: list[Any]) -> Column:
    absent = [value is None for value in values]
    if not any(absent):  # a masked column takes four times as long to write
        return Column(values, name)
    present = next((value for value in values if value is not None), "")
    fill: Any = "" if isinstance(present, str) else type(present)(0)
    return MaskedColumn(
        [fill if gone else value for gone, value in zip(absent, values, strict=True)], name, mask=absent
    )


def write_report(
    path: Path, facts: Mapping[str, Any], left_out: Sequence[LeftOut], settings: Settings, journal: Journal
) -> None:
    """The figures of a run as JSON: what was used, what was decided, how long it took."""
    report = {
        "software": f"zemosaic {version('zemosaic')}",
        **facts,
        "left_out": [event_as_json(item) for item in left_out],
        "notices": [event_as_json(notice) for notice in journal.notices],
        "seconds": {stage: round(seconds, 3) for stage, seconds in journal.seconds.items()},
        "settings": settings.model_dump(),
    }
    write_text(path, json.dumps(report, indent=1, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
