"""Write each frame's registered, corrected image, for those who want to look at or reuse them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zemosaic.engine.events import LeftOut
from zemosaic.errors import EnvironmentProblem, FrameRejected
from zemosaic.io.write.mosaic_file import MosaicFile, Plane
from zemosaic.model.box import Box
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.pipelines.patches.make_patch import warp_box
from zemosaic.pipelines.run.context import WORK_FOLDER, Run
from zemosaic.settings import Settings
from zemosaic.stages.grid.plan import cut_grid
from zemosaic.text import message

__all__ = ["keep_warps"]

WARP_BYTES_PER_VALUE = 40
"""A warp: values and weights, 8, their copies as written, 8, and the frame's window under a turned box, 20."""


def keep_warps(
    inputs: Sequence[PatchInput], grid: SkyGrid, settings: Settings, source: ImageSource, folder: Path, run: Run
) -> tuple[LeftOut, ...]:
    """Write every frame on the mosaic's grid, cut to its footprint, with its weight as extension WHT.

    What cannot be read is announced and returned.

    Files are named after the frames (``NAME.warp.fits``); two frames of one name are told apart by their id.
    """
    try:
        # The mark of a folder that a run wrote: inside an input folder its files are no frames.
        (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem("output.cannot-write-warps", folder=folder, problem=problem.strerror) from problem
    names = [item.frame.name.split(".")[0] for item in inputs]
    advance = run.log.start("warps", len(inputs))

    def task(k: int) -> FrameRejected | None:
        run.cancel.check()
        item, name = inputs[k], names[k]
        if names.count(name) > 1:
            name = f"{name}-{item.frame.id[:8]}"
        try:
            _write_warp(item, grid, settings, source, folder / f"{name}.warp.fits")
        except FrameRejected as problem:
            return problem
        return None

    need = max(WARP_BYTES_PER_VALUE * item.plan.lattice.box.n_pixels * item.frame.n_channels for item in inputs)
    left_out: list[LeftOut] = []
    for done, (k, failed) in enumerate(run.machine.executor_for(need).run(task, range(len(inputs))), 1):
        if failed is not None:
            left_out.append(run.log.leave_out(inputs[k].frame, failed.told))
        advance(done)
    run.log.end("warps", message("done.warps", n=len(inputs), folder=folder))
    return tuple(left_out)


def _write_warp(item: PatchInput, grid: SkyGrid, settings: Settings, source: ImageSource, path: Path) -> None:
    box = item.plan.lattice.box
    values, weights, _ = warp_box(item, box, source, settings.warp)
    part = cut_grid(grid, box)
    planes = [Plane("DATA", "f4", len(values)), Plane("WHT", "f4", len(values))]
    with MosaicFile(path, part.wcs, planes) as file:
        whole = Box.of_shape(box.shape)
        file.write("DATA", whole, np.where(weights > 0, values, np.float32(np.nan)))
        file.write("WHT", whole, weights)
        file.finish()
