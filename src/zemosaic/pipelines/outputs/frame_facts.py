"""What went into a run and what came of it, in numbers, for report.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zemosaic.engine.events import LeftOut
from zemosaic.pipelines.frames.pipeline import PlacedFrame

__all__ = ["count_frames", "describe_frames"]

N_EXAMPLES = 3
"""Frames of each reason that the report shows."""


def count_frames(frames: Sequence[PlacedFrame], used: frozenset[str], left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """How many frames and files were looked at, and how many are in a mosaic.

    Parameters
    ----------
    frames : sequence of PlacedFrame
        Those that had a place.
    used : frozenset of str
        Ids of those in a mosaic.
    left_out : sequence of LeftOut
        One frame may be named twice.
    """
    looked_at = {str(item.frame.id) for item in frames} | {item.frame_id or item.path for item in left_out} | used
    return {
        "n_in": len(looked_at),
        "n_used": len(used),
        "n_left_out": len(looked_at - used),
        "reasons": _group_reasons(left_out),
    }


def _group_reasons(left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """Codes of reasons, the most frequent first: how many frames, and the rows of some in the list of all."""
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(left_out):
        rows.setdefault(item.told.code, []).append(row)
    ordered = sorted(rows.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [{"code": code, "n": len(found), "rows": found[:N_EXAMPLES]} for code, found in ordered]


def describe_frames(frames: Sequence[PlacedFrame]) -> dict[str, Any]:
    """Light and sharpness of the frames of one mosaic; None for what no frame tells."""
    exposures = [item.frame.decided.exposure_s for item in frames if item.frame.decided.exposure_s]
    widths = [item.measured.fwhm_px * item.wcs.pixel_scale_arcsec() for item in frames]
    known = [width for width in widths if np.isfinite(width)]
    return {
        "n_frames": len(frames),
        "exposure_s": float(sum(exposures)) if exposures else None,
        "fwhm_arcsec": float(np.median(known)) if known else None,
    }
