"""The classic pipeline: frames -> groups -> one stack a group -> mosaic of the stacks.

Frames are corrected by the same one-sky solve as in `direct`, so the frames of a tile agree, and tiles with each other.
Matching the tiles once more, by what their overlaps show, was tried and does harm: it knows less than the frames did
(`docs/master-tiles.md`). Each group is stacked by the same patch code onto a tangent plane of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zemosaic.engine.store import make_key
from zemosaic.errors import EnvironmentProblem, NothingToDo
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.read.scan import scan
from zemosaic.io.write.mosaic_file import Card, Plane
from zemosaic.io.write.tile_file import tile_key, write_tile
from zemosaic.model.kind import Kind
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.tile import Tile
from zemosaic.pipelines.corrections.correcting import Corrections, correct_frames
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.grading import leave_out_stacks
from zemosaic.pipelines.frames.pipeline import PlacedFrame, measure_and_place, open_inputs, split_by_kind
from zemosaic.pipelines.measuring.clean_source import CleanSource
from zemosaic.pipelines.modes.existing_tiles import mosaic_of_tiles, settings_for_tiles
from zemosaic.pipelines.modes.mosaics import MosaicGroup, clear_frames, grid_facts, plan_sky, write_tables
from zemosaic.pipelines.outputs.cards import mosaic_cards
from zemosaic.pipelines.outputs.report import write_report, write_settings
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchInput
from zemosaic.pipelines.patches.ledger import forget_the_old
from zemosaic.pipelines.patches.plan import plan_inputs, stellar_width_px
from zemosaic.pipelines.patches.planes import ArrayPlanes
from zemosaic.pipelines.patches.stacking import stack_onto_grid
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.pipelines.run.keys import frame_identity
from zemosaic.settings import GridSettings, InputSettings, Settings
from zemosaic.stages.grid.plan import plan_grid
from zemosaic.stages.tiles.group import TileGroup, describe_plan, group_frames
from zemosaic.stages.tiles.rim import clean_tile

__all__ = ["build_master_tiles"]

TILES = "tiles"
"""Folder of the master tiles inside the output folder."""

TURN_DEG = 2.0
"""Frames of a tile that turn by more than this were taken on an alt-az mount, where no header tells."""

BYTES_PER_PIXEL = 64
"""A tile in memory: its planes, its mask and the distances that make it, the copies while it is written ..."""

BYTES_PER_VALUE = 24
"""... and for each channel of a pixel."""


def build_master_tiles(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    """Make master tiles of groups of frames, and a mosaic of the tiles, one per filter.

    Parameters, result and errors are those of `zemosaic.pipelines.modes.direct.build_direct`. The tiles stay in the
    folder ``tiles`` of the output folder, where `build_existing_tiles` can take them from.
    """
    with output_folder(out, run) as run:
        return _build(inputs, out, settings, run)


def _build(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> dict[str, Path]:
    opened = open_inputs(inputs, settings, run)
    opened = replace(opened, frames=leave_out_stacks(opened.frames, run))
    reference = read_reference(settings.match)
    sky_only = settings.match.method == "none"
    placed = measure_and_place(opened, settings, run, sky_only=sky_only)
    source, grid = placed.source, plan_sky(placed.frames, settings, run)
    made: list[MosaicGroup] = []
    files: list[Path] = []
    facts: dict[str, Any] = {}
    reads = ReadCounts()
    groups = split_by_kind(placed.frames, run)
    for group in groups:
        corrections = correct_frames(group.frames, grid, settings, run, reference)
        clear = group.frames if sky_only else clear_frames(group.frames, corrections, settings, run)
        tag = f"_{group.label}" if len(groups) > 1 else ""
        tiles, used, told, read = _make_tiles(clear, corrections, grid, settings, source, out / TILES, tag, run)
        files += tiles
        reads.update(read)
        made.append(MosaicGroup(group.frames, corrections, used))
        facts[f"tiles{tag}"] = told
    _remove_old_tiles(out / TILES, files)
    if not files:
        raise NothingToDo("no master tile could be made", n_frames=len(opened.frames))
    tiles_made = scan(files, InputSettings())
    for rejected in tiles_made.rejected:
        run.log.leave_out_file(rejected.path, rejected.reason)
    if not tiles_made.frames:
        raise NothingToDo("none of the master tiles has data", n_tiles=len(files))
    tile_reader = FrameReader(run.machine.cache_bytes)
    matched = f"frames before they were stacked: {made[0].corrections.method}"
    mosaics, _, known = mosaic_of_tiles(
        tiles_made.frames, tile_reader, out, _settings_of_coadd(settings), run, grid=grid, matched=matched
    )
    paths = mosaics.paths | write_tables(out, made, {**placed.known, **known}, run) | {"tiles": out / TILES}
    write_settings(out / "settings.toml", settings)
    reads.update(mosaics.reads)
    facts = {"mode": "master-tiles", "grid": grid_facts(grid), **facts, **mosaics.facts, "reading": reads.figures()}
    write_report(out / "report.json", facts, settings, run.log.journal)
    forget_the_old(run, opened.frames)
    return paths | {"report": out / "report.json"}


def _remove_old_tiles(folder: Path, made: Sequence[Path]) -> None:
    """Tiles of an earlier run that grouped otherwise would be taken for tiles of this one; other files stay."""
    for path in folder.glob("tile*.fits"):
        if path not in made and tile_key(path):
            path.unlink(missing_ok=True)


def _settings_of_coadd(settings: Settings) -> Settings:
    """How tiles made here are put together: outliers are gone, values are of one area, the user's cuts have acted."""
    return settings_for_tiles(settings).model_copy(
        update={
            "input": InputSettings(pixel_values="surface"),
            "stack": settings.stack.model_copy(update={"method": "mean"}),
            "quality": type(settings.quality)(triage="off"),
        }
    )


def _make_tiles(
    placed: Sequence[PlacedFrame],
    corrections: Corrections,
    grid: SkyGrid,
    settings: Settings,
    source: CleanSource,
    folder: Path,
    tag: str,
    run: Run,
) -> tuple[list[Path], frozenset[str], list[dict[str, Any]], ReadCounts]:
    """The tiles of one filter: their files, the frames in them, the report on each; what was read of files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem(f"cannot write tiles to {folder}: {problem.strerror}") from problem
    groups = group_frames([p.frame for p in placed], [p.wcs for p in placed], settings.tiles.group)
    for line in describe_plan(groups):
        run.log.notice(line)
    files, used, facts, reads = [], set(), [], ReadCounts()
    for group in groups:
        members = [placed[i] for i in group.members]
        path = folder / f"tile{tag}_{group.number:04d}.fits"
        inputs, read = _make_tile(path, group, members, corrections, grid, settings, source, run)
        if not inputs:
            continue
        files.append(path)
        reads.update(read)
        used |= {str(item.frame.id) for item in inputs}
        facts.append({
            "name": path.name,
            "n_frames": len(inputs),
            "ra_deg": group.ra_deg,
            "dec_deg": group.dec_deg,
            "turn_deg": group.turn_deg,
            "altaz": _is_altaz(group, members, settings),
            "frames": [item.frame.name for item in inputs],
        })
    n_altaz = sum(bool(fact["altaz"]) for fact in facts)
    run.log.notice(f"{len(used)} frames in {len(files)} master tiles; alt-az clean-up acts on {n_altaz} of them")
    return files, frozenset(used), facts, reads


def _make_tile(
    path: Path,
    group: TileGroup,
    members: Sequence[PlacedFrame],
    corrections: Corrections,
    grid: SkyGrid,
    settings: Settings,
    source: CleanSource,
    run: Run,
) -> tuple[list[PatchInput], ReadCounts]:
    """Stack a group into a tile file, unless an earlier run has made the same; the frames in it, what was read."""
    own = plan_grid([p.wcs for p in members], GridSettings(scale_arcsec=grid.scale_arcsec))
    inputs = plan_inputs(members, corrections.scales, own, settings, run)
    if not inputs:
        return [], ReadCounts()
    fwhm_px = stellar_width_px(members, own)
    altaz = _is_altaz(group, members, settings)
    content = [replace(item, frame=frame_identity(item.frame)) for item in inputs]
    cleaning = settings.tiles.model_dump(exclude={"group", "cleanup", "blend", "two_pass", "two_pass_debug_delta_map"})
    key = make_key("tile", content, own, fwhm_px, settings.warp, settings.stack, cleaning, altaz, source)
    key = key.rpartition("/")[2]
    if not run.options.fresh and tile_key(path) == key:
        return inputs, ReadCounts()
    tile, reads = _stack(inputs, fwhm_px, own, settings, source, run)
    tile = clean_tile(tile, settings.tiles, path.stem, altaz=altaz)
    cards, history = mosaic_cards(inputs, own, settings, corrections.method)
    write_tile(path, tile, key, [*cards, *_saturation_card(inputs, own)], history)
    return inputs, reads


def _stack(
    inputs: Sequence[PatchInput], fwhm_px: float, grid: SkyGrid, settings: Settings, source: CleanSource, run: Run
) -> tuple[Tile, ReadCounts]:
    """The frames of a group on their own grid, by the patch code of all modes."""
    kind = Kind.of(inputs[0].frame)
    n_channels = kind.n_channels
    need = grid.box.n_pixels * (BYTES_PER_PIXEL + BYTES_PER_VALUE * n_channels)
    run.machine.plan(need)  # refuses what the memory cap does not hold
    planes = (
        Plane("DATA", "f4", n_channels),
        Plane("WHT", "f4", n_channels),
        Plane("COV", "i2"),
        Plane("EXPT", "f4"),
        Plane("SAT", "f4"),
    )
    job = MosaicJob(inputs, grid, fwhm_px, kind, planes, settings.warp, settings.stack, source)
    sink = ArrayPlanes(planes, grid.shape)
    _, reads = stack_onto_grid(job, sink, run)
    made = sink.planes
    tile = Tile(
        wcs=grid.wcs,
        data=np.nan_to_num(made["DATA"], copy=False, nan=0.0),
        weight=made["WHT"],
        coverage=made["COV"][0],
        exposure=made["EXPT"][0],
        saturated=made["SAT"][0],
        alpha=np.ones(grid.shape, np.float32),
        frames=tuple(item.frame.id for item in inputs),
    )
    return tile, reads


def _is_altaz(group: TileGroup, members: Sequence[PlacedFrame], settings: Settings) -> bool:
    """Whether the thin rim of a tile is cleaned up."""
    if settings.tiles.cleanup != "auto":
        return settings.tiles.cleanup == "on"
    mounts = {item.frame.mount for item in members}
    return "altaz" in mounts or (mounts == {""} and group.turn_deg > TURN_DEG)


def _saturation_card(inputs: Sequence[PatchInput], grid: SkyGrid) -> list[Card]:
    """The lowest level, in units of the tile, at which a frame saturates."""
    levels = []
    for item in inputs:
        if item.plan.saturation_adu is not None:
            to_tile = grid.area_ref_deg2 / (item.plan.scale.gain * item.plan.wcs.pixel_area_deg2())
            levels.append(float(np.min(to_tile * item.plan.saturation_adu - item.plan.scale.surface[:, 0])))
    return [("SATURATE", min(levels), "lowest saturation level of a frame")] if levels else []
