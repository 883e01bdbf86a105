"""Mosaics of tiles by a pyramid blend in place of a mean."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.io.write.tile_planes import TilePlanes
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.survey.blending import BORDER, BlendTile, blend_onto_grid, stored_planes, write_planes
from zemosaic.settings import Settings
from zemosaic.stages.stack.stack import StackedPatch
from zemosaic.stages.survey.overlaps import overlapping_boxes
from zemosaic.stages.tiles.blend import border_weights, levels_for_overlap

__all__ = ["blend_tiles"]

BYTES_PER_VALUE = 60
"""Memory for each value of a tile while it is warped: its samples, the sums of the mean, the planes."""


def blend_tiles(
    inputs: Sequence[PatchInput],
    grid: SkyGrid,
    settings: Settings,
    source: ImageSource,
    file: MosaicFile,
    names: Sequence[str],
    folder: Path,
    run: Run,
) -> dict[str, Any]:
    """Warp tiles onto a mosaic's pixels and blend them; takes the place of `stack_onto_grid`.

    Parameters
    ----------
    inputs : sequence of PatchInput
        The tiles, sorted by FrameId; they hold no frame in common.
    grid, settings, source, run
        As for `stack_onto_grid`.
    file : MosaicFile
        Takes the planes `names`.
    names : sequence of str
    folder : Path
        For the warped tiles, while they are needed.

    Returns
    -------
    dict
        Figures for the report.
    """
    alone = settings.model_copy(update={"stack": settings.stack.model_copy(update={"method": "mean"})})
    n_channels, kept = inputs[0].frame.n_channels, stored_planes(settings.output)
    boxes = [item.plan.lattice.box.intersect(grid.box) for item in inputs]

    def warp(k: int) -> BlendTile:
        patch = Patch(boxes[k], boxes[k])
        made = make_patch(patch, [inputs[k]], source, alone, 0.0, n_channels, run.cancel.check)
        made = made or StackedPatch.empty((n_channels, *boxes[k].shape))
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
        told = blend_onto_grid(ordered, neutral, grid, file, names, levels, run, shared_frames=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    run.log.end("blend", f"{told}; {levels} octaves")
    return {"n_overlaps": len(overlaps), "blend_octaves": levels}


def _typical_width(overlaps: Sequence[Box]) -> float:
    """Narrower side of a typical overlap, pixels; 0 without overlaps."""
    return float(np.median([min(box.shape) for box in overlaps])) if overlaps else 0.0
