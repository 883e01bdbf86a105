"""Mosaics of tiles by a pyramid blend in place of a mean."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.io.write.tile_planes import TilePlanes
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import Patch
from zemosaic.pipelines.patches.jobs import MosaicJob, plan_patch
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.survey.blending import BORDER, BlendTile, blend_onto_grid, stored_planes, write_planes
from zemosaic.stages.survey.overlaps import overlapping_boxes
from zemosaic.stages.tiles.blend import border_weights, levels_for_overlap

__all__ = ["blend_tiles"]

BYTES_PER_VALUE = 60
"""Memory for each value of a tile while it is warped: its samples, the sums of the mean, the planes."""


def blend_tiles(job: MosaicJob, file: MosaicFile, folder: Path, run: Run) -> dict[str, Any]:
    """Warp tiles onto a mosaic's pixels and blend them; takes the place of `stack_onto_grid`.

    Parameters
    ----------
    job : MosaicJob
        Its inputs are the tiles; they hold no frame in common.
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
        tile.planes.write(BORDER, border_weights(made.weight.min(axis=0) > 0))
        return tile

    advance = run.log.start("warp tiles", len(inputs))
    tiles: dict[int, BlendTile] = {}
    try:
        largest = max(box.n_pixels for box in boxes) * n_channels
        for k, tile in run.machine.executor_for(largest * BYTES_PER_VALUE).run(warp, range(len(inputs))):
            tiles[k] = tile
            advance(len(tiles))
        overlaps = [boxes[i].intersect(boxes[j]) for i, j in overlapping_boxes(boxes)]
        levels = levels_for_overlap(_typical_width(overlaps))
        run.log.end("warp tiles", f"{len(tiles)} tiles, {len(overlaps)} overlaps")
        neutral = [PhotoScale.neutral(n_channels)] * len(inputs)
        ordered = [tiles[k] for k in range(len(inputs))]
        told = blend_onto_grid(ordered, neutral, grid, file, job.names, levels, run, shared_frames=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    run.log.end("blend", f"{told}; {levels} octaves")
    return {"n_overlaps": len(overlaps), "blend_octaves": levels}


def _typical_width(overlaps: Sequence[Box]) -> float:
    """Narrower side of a typical overlap, pixels; 0 without overlaps."""
    return float(np.median([min(box.shape) for box in overlaps])) if overlaps else 0.0
