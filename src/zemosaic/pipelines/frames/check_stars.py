"""What stars say of parts of placed frames: rows that were shifted, and faults that all frames of a camera share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.quality.fallen_sky import DimPart
from zemosaic.stages.quality.shared_fault import find_shared_fault
from zemosaic.stages.quality.shifted import (
    LonelyPart,
    Look,
    find_lonely_part,
    find_shifted_parts,
    look_round,
    without_part,
)
from zemosaic.text import Message, message

__all__ = ["check_stars"]


def check_stars(
    frames: Sequence[Frame],
    measured: Sequence[Measurements],
    places: Sequence[CelestialWcs],
    catalogue: Catalogue | None,
    run: Run,
) -> dict[FrameId, Box]:
    """Rows of frames that lie beside their place, by the stars of those they overlap; they are told.

    What all frames of a camera have in common is told too: where they show other stars than each other, or less of them
    than the catalogue knows.

    Parameters
    ----------
    frames, measured, places : sequences of one length
    catalogue : Catalogue or None
        None where places were not held against one: frames are only held against each other.
    run : Run
    """
    looks = look_round(measured, places)
    parts = _find_shifted_rows(frames, looks, run)
    if parts:
        pairs = zip(frames, measured, strict=True)
        measured = [without_part(item, parts[f.id]) if f.id in parts else item for f, item in pairs]
        looks = look_round(measured, places)
    _tell_shared_faults(frames, measured, places, looks, catalogue, run)
    return parts


def _find_shifted_rows(frames: Sequence[Frame], looks: Sequence[Look], run: Run) -> dict[FrameId, Box]:
    parts = {}
    for frame, part in zip(frames, find_shifted_parts(looks), strict=True):
        if part is None:
            continue
        parts[frame.id] = part.box
        told = message(
            "quality.shifted-rows",
            path=frame.storage.path,
            n_stars=part.n_stars,
            **_sides(part.box),
            dx_px=part.shift_px[0],
            dy_px=part.shift_px[1],
            share=part.box.n_pixels / np.prod(frame.shape),
        )
        run.log.notice(told, "warning")
    return parts


def _tell_shared_faults(
    frames: Sequence[Frame],
    measured: Sequence[Measurements],
    places: Sequence[CelestialWcs],
    looks: Sequence[Look],
    catalogue: Catalogue | None,
    run: Run,
) -> None:
    cameras: dict[tuple[str, tuple[int, int]], list[int]] = {}
    for k, frame in enumerate(frames):
        cameras.setdefault((frame.header.camera, frame.shape), []).append(k)
    for _, members in sorted(cameras.items()):
        shown, where = [measured[k] for k in members], [places[k] for k in members]
        file = min(frames[k].name for k in members)
        # Frames of other cameras have no say.
        lonely = find_lonely_part(looks if len(cameras) == 1 else look_round(shown, where))
        if lonely is not None:
            run.log.notice(_lonely_part(lonely, len(members), file), "warning")
        dim = find_shared_fault(shown, where, catalogue) if catalogue is not None else None
        if dim is not None and catalogue is not None:
            run.log.notice(_dim_part(dim, len(members), file, catalogue.name), "warning")


def _lonely_part(part: LonelyPart, n_frames: int, file: str) -> Message:
    return message(
        "quality.lonely-part",
        n_frames=n_frames,
        file=file,
        n_alone=part.n_alone,
        n_stars=part.n_stars,
        **_sides(part.box),
    )


def _dim_part(part: DimPart, n_frames: int, file: str, catalogue: str) -> Message:
    return message(
        "quality.shared-fault",
        n_frames=n_frames,
        file=file,
        n_dim=part.n_dim,
        n_stars=part.n_stars,
        catalogue=catalogue,
        **_sides(part.box),
        share=part.share,
    )


def _sides(box: Box) -> dict[str, int]:
    """A box as messages tell it."""
    return {"x0": box.x0, "x1": box.x1, "y0": box.y0, "y1": box.y1}
