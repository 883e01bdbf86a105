"""Tonight's frames into yesterday's mosaic: what a project remembers of its inputs, its frozen grid and corrections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zemosaic.engine.values import digest_of
from zemosaic.errors import NothingToDo
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import HeaderCards
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.sky.tan_sip import TanSip
from zemosaic.pipelines.corrections.correcting import Corrections
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.outputs.report import write_text
from zemosaic.pipelines.patches.plan import stellar_width_px
from zemosaic.pipelines.run.context import WORK_FOLDER, Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.settings import Settings
from zemosaic.stages.gauge.frozen import correction_change, freeze_gauge
from zemosaic.text import message

__all__ = ["MosaicRecord", "frozen_grid", "keep_steady_frames", "read_record", "record_inputs", "restore_frames"]

_RECORD = "inputs.json"

_FLUX_UNIT, _PLACE_UNIT_PX = 0.01, 0.1
"""What a tolerance of 1 means for a star's flux and for a place."""


@dataclass(frozen=True, slots=True, eq=False)
class _Applied:
    """What a frame went into the mosaic with: what its WCS is made of, and its correction."""

    place: TanSip | HeaderCards
    scale: PhotoScale


@dataclass(frozen=True, slots=True, eq=False)
class _Steady:
    """What later runs may keep of one filter's mosaic.

    Attributes
    ----------
    anchor : mapping
        FrameId -> correction in the first run, whose gauge stays.
    applied : mapping
        FrameId -> what the frame went into the mosaic with.
    fwhm_px : float
        Width of stars that patches were stacked with.
    """

    anchor: Mapping[str, PhotoScale]
    applied: Mapping[str, _Applied]
    fwhm_px: float


@dataclass(frozen=True, slots=True)
class MosaicRecord:
    """What the mosaic of an output folder was made of.

    Attributes
    ----------
    mode : str
        Of the run.
    inputs : tuple of Path
        Files and folders.
    solved : bool
        Whether gains and surfaces were solved, so that frames were measured for it.
    """

    mode: str
    inputs: tuple[Path, ...]
    solved: bool


def record_inputs(out: Path, mode: str, inputs: Sequence[Path], *, solved: bool) -> None:
    """Note the files and folders that an output folder's mosaic was made of, in which mode, and by a match or not."""
    record = {"mode": mode, "inputs": [str(path.absolute()) for path in inputs], "solved": solved}
    write_text(out / WORK_FOLDER / _RECORD, json.dumps(record, indent=1) + "\n")


def read_record(out: Path) -> MosaicRecord:
    """What the mosaic in an output folder was made of.

    Raises
    ------
    NothingToDo
        When no run has ended there.
    """
    try:
        record = json.loads((out / WORK_FOLDER / _RECORD).read_text(encoding="utf-8"))
        inputs = tuple(Path(text) for text in record["inputs"])
        return MosaicRecord(str(record["mode"]), inputs, bool(record.get("solved", True)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise NothingToDo("adding.no-mosaic", folder=out) from problem


def frozen_grid(out: Path) -> Path:
    """The mosaic whose grid stays as it is, but for new rows and columns at its edges.

    Raises
    ------
    NothingToDo
        When there is none.
    """
    found = [path for path in sorted(out.glob("mosaic*.fits")) if not path.name.startswith("mosaic_edit")]
    if not found:
        raise NothingToDo("adding.nothing-there", folder=out)
    return found[0]


def restore_frames(frames: Sequence[PlacedFrame], run: Run) -> tuple[Corrections, Sequence[PlacedFrame]] | None:
    """The frames of one filter that the mosaic holds, where they lie in it, and their corrections, as last applied.

    None where nothing tells: the results were removed, or another version of the code made the mosaic.
    """
    noted: _Steady | None = run.store.get(_applied_key(frames), _Steady) if run.store else None
    if noted is None:
        return None
    held = [_place_as_applied(f, noted.applied[f.frame.id]) for f in frames if f.frame.id in noted.applied]
    scales = {str(item.frame.id): noted.applied[item.frame.id].scale for item in held}
    return Corrections(scales, "as applied", {}, noted.fwhm_px), held


def _applied_key(frames: Sequence[PlacedFrame]) -> str:
    return make_key("applied", frames[0].frame.decided.filter, frames[0].frame.n_channels)


def _place_as_applied(item: PlacedFrame, applied: _Applied) -> PlacedFrame:
    """A frame at the place with which it went into the mosaic."""
    return replace(item, place=replace(item.place, wcs=applied.place.celestial(item.frame.shape)))


def _source_of(item: PlacedFrame) -> TanSip | HeaderCards:
    source = item.wcs.source
    if not isinstance(source, TanSip | HeaderCards):
        raise ValueError(f"nothing tells what the place of {item.frame.name} is made of")
    return source


def keep_steady_frames(
    frames: Sequence[PlacedFrame],
    corrections: Corrections,
    grid: SkyGrid,
    settings: Settings,
    tolerance: float,
    run: Run,
) -> tuple[Corrections, Sequence[PlacedFrame]]:
    """Corrections and places of one filter's frames, those of the last run where they are within the tolerance.

    With a tolerance T the gauge is that of the first run, and a frame that the mosaic holds already stays as it is
    when a pixel of its sky would change by less than T sigma of its noise, a star by less than T per cent, and its
    place by less than T tenths of a pixel. Without one nothing is kept. What is applied is noted for the next run.
    """
    if run.store is None or not frames:
        return corrections, frames
    key = _applied_key(frames)
    noted: _Steady | None = run.store.get(key, _Steady)
    last = noted if tolerance else None
    scales, fwhm_px = dict(corrections.scales), stellar_width_px(frames, grid)
    anchor: Mapping[str, PhotoScale] = {item.frame.id: scales[item.frame.id] for item in frames}
    chosen = list(frames)
    if last is not None:
        anchor, fwhm_px = last.anchor, last.fwhm_px
        ids = [item.frame.id for item in frames]
        moved = freeze_gauge(
            [scales[i] for i in ids],
            [anchor.get(i) for i in ids],
            [item.wcs for item in frames],
            grid,
            settings.match.surface_order,
        )
        scales.update(zip(ids, moved, strict=True))
        kept = 0
        for k, item in enumerate(frames):
            before = last.applied.get(item.frame.id)
            if before is not None and (still := _unless_moved(item, scales[ids[k]], before, grid, tolerance)):
                chosen[k], scales[ids[k]] = still, before.scale
                kept += 1
        n_before = sum(i in last.applied for i in ids)
        run.log.notice(message("adding.steady", n_kept=kept, n_before=n_before, tolerance=tolerance))
    elif tolerance:
        run.log.notice(message("adding.nothing-known"))
    applied = {str(i.frame.id): _Applied(_source_of(i), scales[i.frame.id]) for i in chosen}
    steady = _Steady(anchor, applied, fwhm_px)
    if digest_of(steady) != digest_of(noted):
        run.store.put(key, steady, _Steady)
    return replace(corrections, scales=scales, fwhm_px=fwhm_px), chosen


def _unless_moved(
    item: PlacedFrame, scale: PhotoScale, before: _Applied, grid: SkyGrid, tolerance: float
) -> PlacedFrame | None:
    """The frame at its earlier place, or None where place or correction have changed by more than the tolerance."""
    still, shape = _place_as_applied(item, before), item.frame.shape
    (_, new), (_, old) = item.wcs.identity, still.wcs.identity
    apart_arcsec = 3600 * np.hypot((new[0] - old[0]) * np.cos(np.deg2rad(old[1])), new[1] - old[1]).max()
    measured = item.measured
    area = still.wcs.pixel_area_deg2() / grid.area_ref_deg2
    sky, flux = correction_change(scale, before.scale, shape, measured.sky, measured.noise, area)
    change = max(sky, flux / _FLUX_UNIT, apart_arcsec / still.wcs.pixel_scale_arcsec() / _PLACE_UNIT_PX)
    return still if change <= tolerance else None
