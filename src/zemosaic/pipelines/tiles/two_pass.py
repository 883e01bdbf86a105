"""The second coverage pass over a mosaic of tiles, where it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.engine.memory import resident_bytes
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.patches.tasks import PatchInput
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings
from zemosaic.stages.two_pass.renorm import TwoPassDiagnostics, run_second_pass_coverage_renorm
from zemosaic.stages.warp.warp import correction_nodes

__all__ = ["second_pass"]

F4 = npt.NDArray[np.float32]

SIGMA_PX = 50
GAIN_CLIP = 0.85, 1.18
ROWS = 64
DELTA_MAP = "twopass_delta_map"

_log = logging.getLogger(__name__)


def second_pass(
    file: MosaicFile,
    inputs: Sequence[PatchInput],
    grid: SkyGrid,
    source: ImageSource,
    out: Path,
    settings: Settings,
    run: Run,
) -> None:
    """Replace DATA by the second pass' mosaic; where that is not possible, the first stays.

    WHT, VAR and the counts stay those of the first pass: gains near 1 change them by no more than themselves.
    All tiles and the mosaic must fit into memory.
    """
    need = _bytes_needed(inputs, grid)
    free = run.machine.cap_bytes - resident_bytes()
    if need > free:
        run.log.notice(
            f"no second pass: it needs {need / 2**30:.1f} GiB, {max(free, 0) / 2**30:.1f} GiB are left of the memory "
            "cap; the first pass is kept",
            "warning",
        )
        return
    run.log.start("two-pass")
    tiles, masks, places = zip(*(_corrected_tile(item, source, grid) for item in inputs), strict=True)
    first = file.read("DATA", grid.box)
    weight = file.read("WHT", grid.box).max(axis=0) if settings.output.planes != "data" else np.isfinite(first[0])
    diagnostics = TwoPassDiagnostics(want_delta_map=settings.tiles.two_pass_debug_delta_map)
    made = run_second_pass_coverage_renorm(
        tiles,
        places,
        grid.wcs,
        np.asarray(weight),
        grid.shape,
        sigma_px=SIGMA_PX,
        gain_clip=GAIN_CLIP,
        tiles_coverage=masks,
        parallel_plan=run.machine.make_executor(),
        debug_diag=diagnostics,
        mosaic_p1=np.moveaxis(first, 0, -1),
    )
    if made is None:
        run.log.end("two-pass", "not possible; the first pass is kept")
        return
    mosaic, coverage = made
    better = np.moveaxis(mosaic, -1, 0)
    file.write("DATA", grid.box, np.where(np.isfinite(first) & (coverage > 0), better, first))
    if diagnostics.delta_map is not None:
        # mosaic_R.fits: the filter is part of all names where there are several.
        path = out / f"{DELTA_MAP}{file.path.stem.removeprefix('mosaic')}.npy"
        np.save(path, diagnostics.delta_map, allow_pickle=False)
        _log.debug("[TwoPass] delta map: %s", path)
        run.log.notice(f"difference between tiles and first pass: {path}")
    gains = diagnostics.gains if diagnostics.gains is not None else np.ones(1)
    run.log.end("two-pass", f"{len(tiles)} tiles, gains {gains.min():.4f} to {gains.max():.4f}")


def _bytes_needed(inputs: Sequence[PatchInput], grid: SkyGrid) -> int:
    """Tiles as read, as given, as prepared with weights and as corrected; the mosaic before and after."""
    n_channels = inputs[0].frame.n_channels
    pixels = sum(item.frame.shape[0] * item.frame.shape[1] for item in inputs)
    return n_channels * (20 * pixels + 20 * grid.box.n_pixels)


def _corrected_tile(item: PatchInput, source: ImageSource, grid: SkyGrid) -> tuple[F4, F4, CelestialWcs]:
    """A tile ``(h, w, c)`` after the match, in its own pixels' area; which of its pixels have weight; its WCS."""
    plan, (height, width) = item.plan, item.frame.shape
    tile = np.empty((height, width, item.frame.n_channels), np.float32)
    mask = np.empty((height, width), np.float32)
    own_area = float(plan.wcs.pixel_area_deg2()) / grid.area_ref_deg2
    for y in range(0, height, ROWS):
        box = Box(y, min(y + ROWS, height), 0, width)
        data, weight = source.read_window(item.frame, box)
        yy, xx = np.mgrid[box.y0 : box.y1, :width].astype(float)
        scale, offset = correction_nodes(
            np.stack([xx, yy]), plan.wcs.shape, plan.area_terms, plan.area_ref_deg2, plan.scale
        )
        tile[box.slices] = np.moveaxis((data * scale - offset) * own_area, 0, -1)
        mask[box.slices] = (weight > 0).all(axis=0)
    return tile, mask, plan.wcs
