"""The second coverage pass over a mosaic of tiles, where it is asked for: other gains, the same stack."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.engine.memory import resident_bytes
from zemosaic.errors import EnvironmentProblem
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.box import Box
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchInput
from zemosaic.pipelines.patches.planes import ArrayPlanes
from zemosaic.pipelines.patches.stacking import stack_onto_grid
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.survey.blending import try_step
from zemosaic.settings import Settings
from zemosaic.stages.two_pass.gains import CoarseTile, TileGains, find_gains
from zemosaic.stages.two_pass.tell import DELTA_PX, TileStats, compare_coverage, log_gain, make_delta_map, tile_stats
from zemosaic.stages.two_pass.tiles import (
    COARSE_PX,
    PreparedTile,
    cell_means,
    coarse_grid,
    find_levels,
    mosaic_luminance,
    on_cells,
)
from zemosaic.stages.warp.warp import correction_nodes
from zemosaic.text import Message, message

__all__ = ["second_pass"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

SIGMA_PX = 50
"""Width over which the other tiles' coverage is smoothed before it counts as an overlap."""

GAIN_CLIP = 0.85, 1.18
"""Tiles are matched already: a gain beyond these bounds is a mistake, not a remainder."""

ROWS = 64
"""Rows of a tile that are corrected at a time."""

DELTA_MAP = "twopass_delta_map"
COUNTED = {"COV", "EXPT"}
"""Planes that no gain changes: frames and seconds stay as they are counted."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A tile as the pass remembers it, once its pixels are gone.

    Attributes
    ----------
    cells : CoarseTile
        For its gain.
    wide : CoarseTile or None
        For the delta map, where that is wanted.
    level : ndarray, shape (c,)
        Background in mosaic units.
    stats : TileStats or None
        In mosaic units, where they are logged.
    """

    cells: CoarseTile
    wide: CoarseTile | None
    level: F8
    stats: TileStats | None


def second_pass(job: MosaicJob, file: MosaicFile, out: Path, settings: Settings, run: Run) -> ReadCounts:
    """Find what gains the tiles still have, and stack them again without; whatever fails, the first mosaic stays.

    The second stack is made as the first was, by the tiles' own weights, so WHT and VAR are those of what was done.
    It must fit into memory as a whole: nothing of the first is touched before all of it is there. What the second stack
    reads of files is returned.
    """
    reads = ReadCounts()
    need, free = _bytes_needed(job), run.machine.cap_bytes - resident_bytes()
    if need > free:
        run.log.notice(
            message("two-pass.no-room", need_bytes=need, free_bytes=max(free, 0)),
            "warning",
        )
        return reads

    def keep_first(why: str | Message) -> None:
        _log.warning("[TwoPass] not possible, the first pass is kept: %s", why)
        run.log.notice(message("two-pass.failed", why=why), "warning")

    def stack_again() -> dict[str, npt.NDArray[Any]]:
        first = np.asarray(file.read("DATA", job.grid.box), np.float32)
        better = _without_gains(first, job, out / _delta_name(file), settings, run)
        if better is None:
            return {}
        planes = tuple(plane for plane in job.planes if plane.name not in COUNTED)
        sink = ArrayPlanes(planes, job.grid.shape)
        reads.update(stack_onto_grid(replace(job, inputs=better, planes=planes), sink, run).reads)
        covered = np.isfinite(sink.planes["DATA"]).astype(np.float32)
        compare_coverage(list(np.isfinite(first).astype(float)), covered, _log)
        return sink.planes

    made: dict[str, npt.NDArray[Any]] = {}
    try:
        made = try_step(stack_again, dict, keep_first)
    except EnvironmentProblem as problem:
        keep_first(problem.told)
    except MemoryError as problem:
        keep_first(str(problem) or message("run.out-of-memory"))
    for name, plane in made.items():
        file.write(name, job.grid.box, plane)
    return reads


def _bytes_needed(job: MosaicJob) -> int:
    """The largest tile as read, as given and as prepared; the planes of the mosaic."""
    largest = max(item.frame.shape[0] * item.frame.shape[1] for item in job.inputs)
    n_planes = 2 + len(job.planes)
    return job.kind.n_channels * (20 * largest + 4 * n_planes * job.grid.box.n_pixels)


def _delta_name(file: MosaicFile) -> str:
    # mosaic_R.fits: the filter is part of all names where there are several.
    return f"{DELTA_MAP}{file.path.stem.removeprefix('mosaic')}.npy"


def _without_gains(
    first: F4, job: MosaicJob, delta_path: Path, settings: Settings, run: Run
) -> list[PatchInput] | None:
    """The tiles with their remaining gains taken into their corrections; None where there are none."""
    inputs, grid = job.inputs, job.grid
    advance = run.log.start("two-pass", len(inputs))
    coarse = coarse_grid(grid, COARSE_PX)
    wide = coarse_grid(grid, DELTA_PX) if settings.tiles.two_pass_debug_delta_map else None
    seen = []
    for item in inputs:
        run.cancel.check()
        seen.append(_see(item, job.source, grid, coarse, wide))
        advance(len(seen))
    covered = cell_means(np.isfinite(first).all(axis=0).astype(float), COARSE_PX) > 0
    gains = find_gains([tile.cells for tile in seen], coarse.shape, SIGMA_PX / COARSE_PX, GAIN_CLIP, covered)
    _tell(gains, seen, inputs, first, delta_path, run)
    run.log.end("two-pass", gains.describe())
    if np.all(gains.gain == 1):
        run.log.notice(message("two-pass.no-gain"))
        return None
    return [_divided(item, float(g), tile.level) for item, g, tile in zip(inputs, gains.gain, seen, strict=True)]


def _tell(
    gains: TileGains, seen: Sequence[_Seen], inputs: Sequence[PatchInput], first: F4, delta_path: Path, run: Run
) -> None:
    """Log lines a tile, and the delta map where it is wanted."""
    _log.info("[TwoPass] %s", gains)
    for k, (tile, item) in enumerate(zip(seen, inputs, strict=True)):
        if tile.stats is not None:
            log_gain(_log, f"{k} file={item.frame.name}", float(gains.gain[k]), tile.level, tile.stats)
    cells = [tile.wide for tile in seen if tile.wide is not None]
    if cells:
        mean = cell_means(mosaic_luminance(np.moveaxis(first, 0, -1)), DELTA_PX)
        delta = make_delta_map(cells, gains.gain.tolist(), [float(tile.level.mean()) for tile in seen], mean)
        np.save(delta_path, delta, allow_pickle=False)
        _log.debug("[TwoPass] delta map: %s", delta_path)
        run.log.notice(message("two-pass.delta-map", path=delta_path))


def _divided(item: PatchInput, gain: float, level: F8) -> PatchInput:
    """A tile whose structure is divided by a gain, about its background; its weight follows."""
    scale = item.plan.scale
    surface = scale.surface / gain
    surface[:, 0] -= level * (1 - 1 / gain)
    return replace(item, plan=replace(item.plan, scale=replace(scale, gain=scale.gain * gain, surface=surface)))


def _see(item: PatchInput, source: ImageSource, grid: SkyGrid, coarse: SkyGrid, wide: SkyGrid | None) -> _Seen:
    """A tile after the match, in mosaic units of its own pixels' area."""
    plan, (height, width) = item.plan, item.frame.shape
    data, weight = np.zeros((2, item.frame.n_channels, height, width), np.float32)
    for y in range(0, height, ROWS):
        box = Box(y, min(y + ROWS, height), 0, width)
        raw, valid = source.read_window(item.frame, box)
        yy, xx = np.mgrid[box.y0 : box.y1, :width].astype(float)
        scale, offset = correction_nodes(
            np.stack([xx, yy]), plan.wcs.shape, plan.area_terms, plan.area_ref_deg2, plan.scale
        )
        reached = (valid > 0).all(axis=0)
        data[:, *box.slices] = np.where(reached, raw * scale - offset, 0)
        weight[:, *box.slices] = reached
    tile = PreparedTile(data, weight, plan.wcs)
    # Values are of one area already, whatever the tile's own pixels cover.
    area = float(plan.wcs.pixel_area_deg2())
    return _Seen(
        cells=on_cells(tile, coarse, area),
        wide=None if wide is None else on_cells(tile, wide, area),
        level=find_levels(tile),
        stats=tile_stats(tile) if _log.isEnabledFor(logging.DEBUG) else None,
    )
