"""Mosaics of tiles by a pyramid blend in place of a mean."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.io.write.tile_planes import TilePlanes
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.pipelines.patches.jobs import MosaicJob, plan_patch
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.survey.blending import (
    BORDER,
    BlendTile,
    BlendWay,
    blend_onto_grid,
    stored_planes,
    write_planes,
)
from zemosaic.stages.survey.overlaps import overlapping_boxes
from zemosaic.stages.tiles.blend import border_weights, levels_for_overlap, predict_flux_change_mmag
from zemosaic.text import message

__all__ = ["blend_tiles"]

F4 = npt.NDArray[np.float32]

WARPED_TILE_BYTES_PER_VALUE = 60
"""Memory for each value of a tile while it is warped: its samples, the sums of the mean, the planes."""


MOST_MMAG = 2.0
"""Blending may change the flux of a star by so much."""


def blend_tiles(
    job: MosaicJob, fwhm_px: Mapping[str, float], file: MosaicFile, folder: Path, run: Run
) -> dict[str, Any]:
    """Warp tiles onto a mosaic's pixels and blend them; takes the place of `stack_onto_grid`.

    Parameters
    ----------
    job : MosaicJob
        Its inputs are the tiles; they hold no frame in common.
    fwhm_px : mapping
        Of the stars of each tile, mosaic pixels, by its id; NaN where it shows none.
    file : MosaicFile
        Takes the planes.
    folder : Path
        For the warped tiles, while they are needed.
    run : Run

    Returns
    -------
    dict
        Figures for the report.
    """
    alone = replace(job, stack=job.stack.model_copy(update={"method": "mean"}))
    inputs, grid, n_channels, kept = job.inputs, job.grid, job.kind.n_channels, stored_planes(job.names)
    boxes = [item.plan.lattice.box.intersect(grid.box) for item in inputs]

    def warp(k: int) -> BlendTile:
        made = make_patch(alone, plan_patch(Patch(boxes[k], boxes[k]), [inputs[k]]), run.cancel.check)
        tile = BlendTile(boxes[k], TilePlanes(folder / f"{k:05d}"))
        write_planes(tile.planes, made, kept)
        return tile

    advance = run.log.start("warp tiles", len(inputs))
    tiles: dict[int, BlendTile] = {}
    try:
        largest = max(box.n_pixels for box in boxes) * n_channels
        for k, tile in run.machine.executor_for(largest * WARPED_TILE_BYTES_PER_VALUE).run(warp, range(len(inputs))):
            tiles[k] = tile
            advance(len(tiles))
        ordered = [tiles[k] for k in range(len(inputs))]
        for tile in ordered:
            run.cancel.check()
            tile.planes.write(BORDER, _border(tile, [ordered[j] for j in job.index.meeting(tile.box.expand(1))], grid))
        pairs = list(overlapping_boxes(boxes))
        overlaps = [boxes[i].intersect(boxes[j]) for i, j in pairs]
        levels = levels_for_overlap(_typical_width(overlaps))
        widths = [fwhm_px[item.frame.id] for item in inputs]
        is_bent = _choose_ramp([(widths[i], widths[j]) for i, j in pairs], overlaps, run)
        run.log.end("warp tiles", message("done.warp-tiles", n_tiles=len(tiles), n_overlaps=len(overlaps)))
        neutral = [PhotoScale.neutral(n_channels)] * len(inputs)
        way = BlendWay(levels, shared_frames=False, is_bent=is_bent)
        told = blend_onto_grid(ordered, neutral, grid, file, job.names, way, run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    run.log.end("blend", message("done.blend", ways=told, n_octaves=levels))
    return {"n_overlaps": len(overlaps), "blend_octaves": levels, "blend_is_bent": is_bent}


def _border(tile: BlendTile, near: Sequence[BlendTile], grid: SkyGrid) -> F4:
    """Distance of a tile's pixels to the nearest one that another tile has and this one has not, 0 where it has none.

    Where no tile has anything there is nothing to blend with: no rim of the mosaic is a border. No distance is more
    than half of the tile's shorter side, so that a small tile inside a wide one still counts.
    """
    # One pixel more tells whether others go on beyond the tile's box.
    wide = tile.box.expand(1).intersect(grid.box)
    own, anyone = np.zeros((2, *wide.shape), bool)
    for other in near:
        part = other.box.intersect(wide)
        seen = other.planes.read("weight", part.relative_to(other.box)).min(axis=0) > 0
        anyone[part.relative_to(wide).slices] |= seen
        if other is tile:
            own[part.relative_to(wide).slices] = seen
    distance = np.minimum(border_weights(own | ~anyone, sides=(False,) * 4), min(tile.box.shape) / 2)
    return np.where(own, distance, 0)[tile.box.relative_to(wide).slices].astype(np.float32)


def _choose_ramp(fwhm_px: Sequence[tuple[float, float]], overlaps: Sequence[Box], run: Run) -> bool:
    """Whether shares change along a curve, where a straight ramp would change the stars of tiles of unlike seeing.

    Says so where neither keeps them.
    """
    known = [(pair, min(box.shape)) for pair, box in zip(fwhm_px, overlaps, strict=True) if np.isfinite(pair).all()]
    straight, bent = (
        [predict_flux_change_mmag(pair, width, is_bent=is_bent) for pair, width in known] for is_bent in (False, True)
    )
    if max(straight, default=0.0) <= MOST_MMAG:
        return False
    is_bent = max(bent) < max(straight)
    off = bent if is_bent else straight
    n_off, worst = sum(value > MOST_MMAG for value in off), int(np.argmax(off))
    if n_off:
        (one, other), width = known[worst]
        enough = width * (bent[worst] / MOST_MMAG) ** 0.5
        run.log.notice(
            message(
                "tiles.narrow-overlaps",
                n_off=n_off,
                one_px=one,
                other_px=other,
                width_px=width,
                off_mmag=off[worst],
                enough_px=enough,
                limit_mmag=MOST_MMAG,
            ),
            "warning",
        )
    return is_bent


def _typical_width(overlaps: Sequence[Box]) -> float:
    """Narrower side of a typical overlap, pixels; 0 without overlaps."""
    return float(np.median([min(box.shape) for box in overlaps])) if overlaps else 0.0
