"""The classic pipeline: frames -> groups -> one stack a group -> mosaic of the stacks.

Frames are corrected by the same one-sky solve as in `direct`, so the frames of a tile agree, and tiles with each other.
Matching the tiles once more, by what their overlaps show, was tried and does harm: it knows less than the frames did
(`docs/method/master-tiles.md`). Each group is stacked by the same patch code onto a tangent plane of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zemosaic.engine.events import LeftOut
from zemosaic.errors import EnvironmentProblem, NothingToDo
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.read.scan import scan
from zemosaic.io.write.mosaic_file import Card, Plane
from zemosaic.io.write.tile_file import tile_key, write_tile
from zemosaic.model.kind import Kind
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.tile import Tile
from zemosaic.pipelines.corrections.correcting import Corrections
from zemosaic.pipelines.frames.pipeline import Inputs, KindGroup, PlacedFrame
from zemosaic.pipelines.modes.existing_tiles import fill_with_tiles, open_tiles
from zemosaic.pipelines.modes.finish import Outputs, finish_outputs
from zemosaic.pipelines.modes.mosaics import MadeMosaics, MosaicGroup, write_mosaics
from zemosaic.pipelines.modes.session import (
    Corrected,
    Guide,
    Session,
    begin_session,
    correct_group,
    open_frames,
    read_guide,
)
from zemosaic.pipelines.outputs.cards import mosaic_cards
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchInput
from zemosaic.pipelines.patches.plan import plan_inputs, plan_witnesses, stellar_width_px, unit_of
from zemosaic.pipelines.patches.planes import ArrayPlanes
from zemosaic.pipelines.patches.stacking import Filled, stack_onto_grid
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.pipelines.run.kept import Kept
from zemosaic.pipelines.run.keys import make_key
from zemosaic.pipelines.run.need import need_of_frames
from zemosaic.settings import GridSettings, InputSettings, Settings
from zemosaic.stages.grid.plan import plan_grid
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.tiles.group import TileGroup, describe_plan, group_frames
from zemosaic.stages.tiles.rim import clean_tile
from zemosaic.text import message

__all__ = ["build_master_tiles"]

TILES = "tiles"
"""Folder of the master tiles inside the output folder."""

TURN_DEG = 2.0
"""Frames of a tile that turn by more than this were taken on an alt-az mount, where no header tells."""

FEWEST = 3
"""Fewer samples than this tell no outlier among themselves: then the frames of other tiles judge."""

TILE_BYTES_PER_PIXEL = 64
"""A tile in memory: its planes, its mask and the distances that make it, the copies while it is written ..."""

TILE_BYTES_PER_VALUE = 24
"""... and for each channel of a pixel."""


def build_master_tiles(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> Outputs:
    """Make master tiles of groups of frames, and a mosaic of the tiles, one per filter.

    Parameters, result and errors are those of `zemosaic.pipelines.modes.direct.build_direct`. The tiles stay in the
    folder ``tiles`` of the output folder, where `build_existing_tiles` can take them from.
    """
    with output_folder(out, run) as run:
        return _build(inputs, out, settings, run)


def _build(inputs: Sequence[Path], out: Path, settings: Settings, run: Run) -> Outputs:
    opened = open_frames(inputs, settings, run)
    guide = read_guide(settings, opened.frames)
    session = begin_session(opened, guide, need_of_frames(settings, solved=guide.solved), settings, run)
    stacked = [_stack_kind(group, session, out / TILES, settings, run) for group in session.groups]
    files = [path for kind in stacked for path in kind.files]
    _remove_old_tiles(out / TILES, files)
    if not files:
        raise NothingToDo("tiles.none-made", n_frames=len(opened.frames))
    mosaics = _coadd_tiles(files, session.grid, stacked[0].group.corrections.method, out, settings, run)
    made = MadeMosaics(
        groups=[kind.group for kind in stacked],
        paths={**mosaics.paths, "tiles": out / TILES},
        facts={**{f"tiles{kind.tag}": kind.facts for kind in stacked}, **mosaics.facts},
        reads=_add_up([*(kind.reads for kind in stacked), mosaics.reads]),
        left_out=tuple(item for kind in stacked for item in kind.left_out) + mosaics.left_out,
        known=mosaics.known,
    )
    return finish_outputs("master-tiles", inputs, session, made, out, settings, run)


def _add_up(parts: Sequence[ReadCounts]) -> ReadCounts:
    """What was read of files in all."""
    total = ReadCounts()
    for part in parts:
        total.update(part)
    return total


def _remove_old_tiles(folder: Path, made: Sequence[Path]) -> None:
    """Tiles of an earlier run that grouped otherwise would be taken for tiles of this one; other files stay."""
    for path in folder.glob("tile*.fits"):
        if path not in made and tile_key(path):
            path.unlink(missing_ok=True)


def _coadd_tiles(
    files: Sequence[Path], grid: SkyGrid, matched: str, out: Path, settings: Settings, run: Run
) -> MadeMosaics:
    """The mosaics of tiles that were made of frames; `matched` says how those were corrected."""
    found = scan(files, InputSettings())
    rejected = tuple(run.log.leave_out_file(item.path, item.told) for item in found.rejected)
    if not found.frames:
        raise NothingToDo("tiles.no-data", n_tiles=len(files))
    reader = FrameReader(run.machine.cache_bytes)
    opened = Inputs(list(found.frames), reader, reader, rejected)
    settings = _settings_of_coadd(settings)
    session = open_tiles(opened, Guide(solved=False), settings, run, grid)
    words = f"frames before they were stacked: {matched}"

    def correct(frames: Sequence[PlacedFrame]) -> Corrected:
        neutral = {str(item.frame.id): PhotoScale.neutral(item.frame.n_channels, words) for item in frames}
        return Corrected(Corrections(neutral, words, {}), frames)

    fill = fill_with_tiles(session, out, settings, run, cleaned=True)
    made = write_mosaics(session, correct, fill, out, settings, run)
    return replace(made, left_out=session.placed.left_out + made.left_out, known=session.placed.known)


def _settings_of_coadd(settings: Settings) -> Settings:
    """How tiles made here are put together: outliers are gone, and values are of one area."""
    mean = settings.stack.model_copy(update={"method": "mean"})
    return settings.model_copy(update={"input": InputSettings(pixel_values="surface"), "stack": mean})


@dataclass(frozen=True, slots=True, eq=False)
class _StackedKind:
    """The tiles of one kind of frames.

    Attributes
    ----------
    tag : str
        Tells their files from those of other kinds.
    group : MosaicGroup
        Their frames, corrections, and which frames the tiles hold.
    files : list of Path
    facts : list
        The report on each.
    reads : ReadCounts
    left_out : tuple of LeftOut
    """

    tag: str
    group: MosaicGroup
    files: list[Path]
    facts: list[dict[str, Any]]
    reads: ReadCounts
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Recipe:
    """What all tiles of one kind share."""

    kind: Kind
    frames: Sequence[PlacedFrame]
    corrections: Corrections
    session: Session
    settings: Settings


def _stack_kind(group: KindGroup, session: Session, folder: Path, settings: Settings, run: Run) -> _StackedKind:
    """Correct the frames of one kind, group them, and stack each group into a tile file."""
    corrected = correct_group(group.frames, session, settings, run)
    placed, tag = corrected.frames, session.tag(group)
    recipe = _Recipe(group.kind, placed, corrected.corrections, session, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem("output.cannot-write-tiles", folder=folder, problem=problem.strerror) from problem
    tiles = group_frames([p.frame for p in placed], [p.wcs for p in placed], settings.tiles.group)
    for told in describe_plan(tiles):
        run.log.notice(told)
    files, facts, used = [], [], set()
    reads, left_out = ReadCounts(), corrected.left_out
    clipped: dict[str, float] = {}
    for tile in tiles:
        members = [placed[i] for i in tile.members]
        path = folder / f"tile{tag}_{tile.number:04d}.fits"
        planned, filled = _make_tile(path, tile, members, recipe, run)
        left_out += planned.left_out
        if not planned.frames:
            continue
        files.append(path)
        reads.update(filled.reads)
        clipped |= filled.clipped
        used |= {str(item.frame.id) for item in planned.frames}
        facts.append(_tile_facts(path, tile, planned.frames, altaz=_is_altaz(tile, members, settings)))
    n_altaz = sum(bool(fact["altaz"]) for fact in facts)
    run.log.notice(message("tiles.made", n_frames=len(used), n_tiles=len(files), n_altaz=n_altaz))
    n_few = sum(fact["n_frames"] < FEWEST for fact in facts)
    if n_few and METHODS[settings.stack.method].grows:
        run.log.notice(message("tiles.few-frames", n_few=n_few, fewest=FEWEST))
    made = MosaicGroup(group.frames, corrected.corrections, frozenset(used), clipped)
    return _StackedKind(tag, made, files, facts, reads, left_out)


def _tile_facts(path: Path, tile: TileGroup, inputs: Sequence[PatchInput], *, altaz: bool) -> dict[str, Any]:
    return {
        "name": path.name,
        "n_frames": len(inputs),
        "ra_deg": tile.ra_deg,
        "dec_deg": tile.dec_deg,
        "turn_deg": tile.turn_deg,
        "altaz": altaz,
        "frames": [item.frame.name for item in inputs],
    }


def _make_tile(
    path: Path, group: TileGroup, members: Sequence[PlacedFrame], recipe: _Recipe, run: Run
) -> tuple[Kept[PatchInput], Filled]:
    """Stack a group into a tile file, unless an earlier run has made the same.

    The frames in it, what was read, and how much of each frame was clipped, which the store keeps beside the file.
    """
    settings, source = recipe.settings, recipe.session.placed.source
    own = plan_grid([p.wcs for p in members], GridSettings(scale_arcsec=recipe.session.grid.scale_arcsec))
    planned = plan_inputs(members, recipe.corrections.scales, own, settings, run)
    inputs = planned.frames
    if not inputs:
        return planned, Filled({}, ReadCounts())
    fwhm_px = stellar_width_px(members, own)
    altaz = _is_altaz(group, members, settings)
    cleaning = settings.tiles.model_dump(exclude={"group", "cleanup", "blend", "two_pass", "two_pass_debug_delta_map"})
    every = _with_witnesses(inputs, own, recipe)
    key = make_key("master_tile", every, own, fwhm_px, settings.warp, settings.stack, cleaning, altaz, source)
    key = key.rpartition("/")[2]
    clipped_key = make_key("tile_clipped", key)
    if not run.options.fresh and tile_key(path) == key:
        known = run.store.get(clipped_key) if run.store else None
        return planned, Filled({}, ReadCounts(), known or {})
    planes, unit = _planes(recipe.kind), unit_of(inputs)
    job = MosaicJob(every, own, fwhm_px, recipe.kind, planes, settings.warp, settings.stack, source, unit)
    tile, filled = _stack(job, run)
    tile = clean_tile(tile, settings.tiles, path.stem, altaz=altaz)
    cards, history = mosaic_cards(inputs, own, settings, recipe.session.need.place, recipe.corrections.method)
    write_tile(path, tile, key, [*cards, *_saturation_card(inputs, own)], history)
    if run.store:
        run.store.put(clipped_key, dict(filled.clipped))
    return planned, filled


def _with_witnesses(inputs: Sequence[PatchInput], own: SkyGrid, recipe: _Recipe) -> list[PatchInput]:
    """The frames of a tile, sorted by FrameId, with those of other tiles beside them where they are too few to clip."""
    settings = recipe.settings
    if len(inputs) >= FEWEST or not METHODS[settings.stack.method].grows:
        return list(inputs)
    inside = {item.frame.id for item in inputs}
    others = [placed for placed in recipe.frames if placed.frame.id not in inside]
    witnesses = plan_witnesses(others, recipe.corrections.scales, own, settings)
    return sorted([*inputs, *witnesses], key=lambda item: item.frame.id)


def _planes(kind: Kind) -> tuple[Plane, ...]:
    """What a tile holds."""
    n = kind.n_channels
    return Plane("DATA", "f4", n), Plane("WHT", "f4", n), Plane("COV", "i2"), Plane("EXPT", "f4"), Plane("SAT", "f4")


def _stack(job: MosaicJob, run: Run) -> tuple[Tile, Filled]:
    """The frames of a group on their own grid, by the patch code of all modes."""
    grid = job.grid
    need = grid.box.n_pixels * (TILE_BYTES_PER_PIXEL + TILE_BYTES_PER_VALUE * job.kind.n_channels)
    run.machine.plan(need)  # refuses what the memory cap does not hold
    sink = ArrayPlanes(job.planes, grid.shape)
    filled = stack_onto_grid(job, sink, run)
    made = sink.planes
    tile = Tile(
        wcs=grid.wcs,
        data=np.nan_to_num(made["DATA"], copy=False, nan=0.0),
        weight=made["WHT"],
        coverage=made["COV"][0],
        exposure=made["EXPT"][0],
        saturated=made["SAT"][0],
        alpha=np.ones(grid.shape, np.float32),
        frames=tuple(item.frame.id for item in job.inputs if not item.is_witness),
    )
    own = {name: share for name, share in filled.clipped.items() if name in tile.frames}
    return tile, replace(filled, clipped=own)


def _is_altaz(group: TileGroup, members: Sequence[PlacedFrame], settings: Settings) -> bool:
    """Whether the thin rim of a tile is cleaned up."""
    if settings.tiles.cleanup != "auto":
        return settings.tiles.cleanup == "on"
    mounts = {item.frame.decided.mount for item in members}
    return "altaz" in mounts or (mounts == {""} and group.turn_deg > TURN_DEG)


def _saturation_card(inputs: Sequence[PatchInput], grid: SkyGrid) -> list[Card]:
    """The lowest level, in units of the tile, at which a frame saturates."""
    levels = []
    for item in inputs:
        if item.plan.saturation_adu is not None:
            to_tile = grid.area_ref_deg2 / (item.plan.scale.gain * item.plan.wcs.pixel_area_deg2())
            levels.append(float(np.min(to_tile * item.plan.saturation_adu - item.plan.scale.surface[:, 0])))
    return [("SATURATE", min(levels), "lowest saturation level of a frame")] if levels else []
