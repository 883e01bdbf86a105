"""Frames in units whose inverse variance single precision barely holds are stacked as any others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mosaic_cases import noise, tan_wcs, write_frame
from zemosaic.model.kind import Kind
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import Patch
from zemosaic.pipelines.frames.pipeline import measure_and_place, open_inputs
from zemosaic.pipelines.modes.session import Guide, plan_sky
from zemosaic.pipelines.patches.jobs import MosaicJob
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.patches.plan import plan_inputs, unit_of
from zemosaic.pipelines.run.context import RunOptions, start_run
from zemosaic.pipelines.run.need import Need
from zemosaic.settings import Settings
from zemosaic.stages.stack.stack import StackedPatch

N_FRAMES, SHAPE = 30, (48, 48)
FACTOR = 2.0**-61


def stack_in(folder: Path, factor: float) -> StackedPatch:
    """The stack of frames of noise 1, one with a bar across, all times a factor."""
    folder.mkdir()
    for k in range(N_FRAMES):
        image = noise(SHAPE, k, sigma=1.0, level=50.0)
        image[20:24] += 30.0 * (k == 7)
        write_frame(folder / f"{k}.fits", image * np.float32(factor), tan_wcs(SHAPE))
    run, settings = start_run(RunOptions(workers=1)), Settings()
    opened = open_inputs([folder], settings, run)
    placed = measure_and_place(opened, Need("match", "header"), settings, run)
    grid = plan_sky(placed.frames, Guide(solved=False), settings, run)
    scales = {item.frame.id: PhotoScale.neutral(1) for item in placed.frames}
    inputs = plan_inputs(placed.frames, scales, grid, settings, run).frames
    assert len(inputs) == N_FRAMES
    kind = Kind("", 1, "adu")
    job = MosaicJob(inputs, grid, 3.0, kind, (), settings.warp, settings.stack, placed.source, unit_of(inputs))
    return make_patch(job, job.plan(Patch(grid.box, grid.box)), lambda: None)


def test_a_stack_of_tiny_units_is_that_of_usual_ones_to_the_bit(tmp_path: Path) -> None:
    plain, tiny = stack_in(tmp_path / "plain", 1.0), stack_in(tmp_path / "tiny", FACTOR)
    assert plain.rejected.sum() > 4 * SHAPE[1]
    np.testing.assert_array_equal(tiny.rejected, plain.rejected)
    np.testing.assert_array_equal(tiny.data / np.float32(FACTOR), plain.data)
    np.testing.assert_array_equal(tiny.weight * np.float32(FACTOR) * np.float32(FACTOR), plain.weight)
    np.testing.assert_allclose(tiny.variance / np.float32(FACTOR) / np.float32(FACTOR), plain.variance, rtol=1e-5)
