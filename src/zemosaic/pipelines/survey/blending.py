"""Tiles into one mosaic, a box at a time: any tiles whose planes lie on the mosaic's own pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zemosaic.errors import Cancelled, EnvironmentProblem
from zemosaic.io.write.tile_planes import TilePlanes
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.pipelines.patches.jobs import BoxIndex
from zemosaic.pipelines.patches.ledger import PatchCounts, PatchLedger
from zemosaic.pipelines.patches.planes import PlaneSink, write_patch
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.stack.stack import StackedPatch
from zemosaic.stages.survey.overlaps import overlapping_boxes
from zemosaic.stages.tiles.blend import (
    are_alike,
    bend_shares,
    blend_border_px,
    blend_feather,
    blend_pyramid,
    normalise_weights,
)
from zemosaic.text import Message, message

__all__ = [
    "BLEND_PX",
    "BORDER",
    "BlendTile",
    "BlendWay",
    "blend_onto_grid",
    "blend_patch",
    "blend_patches",
    "log_and_notice",
    "stored_planes",
    "try_step",
    "write_planes",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
T = TypeVar("T")

_LOG = logging.getLogger(__name__)

BLEND_PX = 512
"""Side of the boxes that are blended at a time: a multiple of the coarsest pixel of every pyramid. Smaller ones are
mostly border, and are written in as many more pieces."""

BORDER = "border"
"""The plane that tells how far a pixel is from its tile's own border, in pixels; 0 where it is invalid."""

_MADE_OF = {
    "DATA": ("data",), "WHT": ("weight",), "VAR": ("variance",), "COV": ("coverage",), "REJ": ("rejected",),
    "EXPT": ("exposure",), "SAT": ("saturated", "coverage", "rejected"), "ALPHA": ("weight",),
}  # fmt: skip
"""Planes of a mosaic and the arrays of a `StackedPatch` that they are written from."""


@dataclass(frozen=True, slots=True, eq=False)
class BlendTile:
    """A tile on the pixels of the mosaic.

    Attributes
    ----------
    box : Box
        On the mosaic; it may reach beyond.
    planes : TilePlanes
        Those of `stored_planes`, and `BORDER`.
    """

    box: Box
    planes: TilePlanes


@dataclass(frozen=True, slots=True)
class BlendWay:
    """How tiles are blended.

    Attributes
    ----------
    levels : int
        Octaves of the pyramid; 0 feathers.
    shared_frames : bool
        Whether tiles that overlap hold the same frames: their noise is then one and the same, so sigmas are added, and
        coverage, exposure and counts are those of one tile. Otherwise variances are added, and so are the counts.
    is_bent : bool
        Whether shares change along a curve (`bend_shares`), for tiles of unlike seeing.
    """

    levels: int
    shared_frames: bool
    is_bent: bool = False


def stored_planes(names: Sequence[str]) -> tuple[str, ...]:
    """The arrays of a `StackedPatch` that a tile keeps for the named planes of a mosaic."""
    wanted = {"data", "weight", *(made for name in names for made in _MADE_OF[name])}
    return tuple(field.name for field in fields(StackedPatch) if field.name in wanted)


def write_planes(planes: TilePlanes, stack: StackedPatch, names: Sequence[str]) -> dict[str, int]:
    """Store a stack's arrays; their checksums by name."""
    return {name: planes.write(name, getattr(stack, name)) for name in names}


def log_and_notice(run: Run, line: str, told: Message, level: str = "info") -> None:
    """Log a line, and tell it in plain words to whoever watches the run."""
    _LOG.log(logging.WARNING if level == "warning" else logging.INFO, line)
    run.log.notice(told, level)


def try_step(step: Callable[[], T], simpler: Callable[[], T], tell: Callable[[str], None]) -> T:
    """The result of a step; if it fails, `tell` hears why and a simpler one's result is taken.

    The one place of the survey that catches everything: whatever goes wrong in making a picture finer, it can be made.
    """
    try:
        return step()
    except (Cancelled, EnvironmentProblem, MemoryError):
        raise
    except Exception as problem:  # noqa: BLE001
        tell(f"{type(problem).__name__}: {problem}")
        return simpler()


def blend_patches(grid: SkyGrid, levels: int) -> list[Patch]:
    """The boxes of a mosaic that are blended one at a time, as wide round as the pyramid reaches."""
    return list(grid.patches(BLEND_PX, blend_border_px(levels)))


def blend_onto_grid(
    tiles: Sequence[BlendTile],
    scales: Sequence[PhotoScale],
    grid: SkyGrid,
    sink: PlaneSink,
    names: Sequence[str],
    way: BlendWay,
    run: Run,
) -> Message:
    """Blend all tiles, a box of the mosaic at a time.

    Parameters
    ----------
    tiles : sequence of BlendTile
    scales : sequence of PhotoScale
        A correction each.
    grid : SkyGrid
    sink : PlaneSink
        Takes the planes `names`. What a `PatchLedger` finds finished is not blended again.
    names : sequence of str
    way : BlendWay
    run : Run

    Returns
    -------
    Message
        How many overlaps were blended by what.
    """
    border = blend_border_px(way.levels)
    patches = blend_patches(grid, way.levels)
    advance = run.log.start("blend", len(patches))
    n_channels = len(scales[0].gain)
    index = BoxIndex(tile.box for tile in tiles)

    # The planes, weights and pyramids of all tiles that meet.
    n_deepest = max(len(index.meeting(patch.outer)) for patch in patches)
    task_bytes = (BLEND_PX + 2 * border) ** 2 * (n_deepest * (23 * n_channels + 40) + 30 * n_channels)
    ledger = sink if isinstance(sink, PatchLedger) else None
    failed: list[str] = []
    ways: dict[Patch, str] = {}

    def task(patch: Patch) -> None:
        run.cancel.check()
        if ledger and ledger.recall(patch):
            return
        here = index.meeting(patch.outer)
        those, theirs = [tiles[k] for k in here], [scales[k] for k in here]
        made, ways[patch] = blend_patch(patch, those, theirs, n_channels, way, failed, names)
        write_patch(sink, patch.inner, made, names)
        if ledger:
            ledger.record(patch, PatchCounts(0, 0))

    for done, _ in enumerate(run.machine.executor_for(task_bytes).run(task, patches), 1):
        advance(done)
    if failed:
        log_and_notice(
            run,
            f"[GRID] Blending: the pyramid failed ({failed[0]}); {len(failed)} boxes are feathered",
            message("survey.blended-linearly", n_pieces=len(failed), why=failed[0]),
            "warning",
        )
    told = _count_ways([tile.box for tile in tiles], ways)
    _LOG.info("[GRID] Blending: %s", told)
    return told


PYRAMID, ALIKE, FEATHER, FAILED = "pyramid", "alike", "feather", "failed"
"""How a box was blended; where boxes of an overlap differ, the last of these tells."""


def _count_ways(boxes: Sequence[Box], ways: Mapping[Patch, str]) -> Message:
    """How many overlaps were blended by pyramids, and by what the others."""
    order = (ALIKE, PYRAMID, FEATHER, FAILED)
    count = dict.fromkeys((*order, ""), 0)
    patches = [(patch.inner, way) for patch, way in ways.items() if way]
    for i, j in overlapping_boxes(boxes):
        both = boxes[i].intersect(boxes[j])
        here = [way for inner, way in patches if inner.overlaps(both)]
        count[max(here, key=order.index) if here else ""] += 1
    words = [message("done.blend-pyramids", n_overlaps=count[PYRAMID])]
    if count[ALIKE]:
        words.append(message("done.blend-alike", n=count[ALIKE]))
    if count[FEATHER]:
        words.append(message("done.blend-feathered", n=count[FEATHER]))
    if count[FAILED]:
        words.append(message("done.blend-failed", n=count[FAILED]))
    if count[""]:
        words.append(message("done.blend-none", n=count[""]))
    return message("done.blend-ways", parts=words)


def blend_patch(
    patch: Patch,
    tiles: Sequence[BlendTile],
    scales: Sequence[PhotoScale],
    n_channels: int,
    way: BlendWay,
    failed: list[str],
    names: Sequence[str],
) -> tuple[StackedPatch, str]:
    """The planes `names` of a box of the mosaic, from the tiles that meet there, and how it was blended.

    Arrays that are not asked for are empty, and so is the word where no two tiles meet.

    A reason is put into `failed` when the pyramid could not be made and the box was feathered.
    """
    kept = [made for name in names for made in _MADE_OF[name]]
    meeting = list(zip(tiles, scales, strict=True))
    empty = StackedPatch.empty((n_channels, *patch.inner.shape))
    if not meeting:
        return empty, ""
    if len(meeting) == 1:
        tile, scale = meeting[0]
        return replace(empty, **_window(tile, scale, patch.inner, {"weight", *kept})), ""
    wide = [_window(tile, scale, patch.outer, {"data", "weight", BORDER}) for tile, scale in meeting]
    share = normalise_weights(np.stack([part[BORDER] * part["weight"].mean(axis=0) for part in wide]))
    share = bend_shares(share) if way.is_bent else share
    images = np.stack([part["data"] for part in wide])
    data, how = try_step(
        lambda: _blend(images, share, way.levels), lambda: (blend_feather(images, share), FAILED), failed.append
    )  # fmt: skip
    inner = patch.inner.relative_to(patch.outer).slices
    own = share[:, *inner]
    weights = [part["weight"][:, *inner] for part in wide]
    rest = [_window(tile, scale, patch.inner, set(kept) - {"data", "weight"}) for tile, scale in meeting]
    made = _blend_counts(own, rest, way.shared_frames)
    return replace(empty, data=data[:, *inner], weight=_blend_weight(own, weights, way.shared_frames), **made), how


def _blend(images: F4, share: F4, levels: int) -> tuple[F4, str]:
    """The tiles blended in the finest way that their overlap bears and that makes a difference, and which that is."""
    if not ((share > 0).sum(axis=0) > 1).any():
        return blend_feather(images, share), ""
    if are_alike(images, share):
        return blend_feather(images, share), ALIKE
    return (blend_pyramid(images, share, levels), PYRAMID) if levels else (blend_feather(images, share), FEATHER)


def _blend_weight(share: F4, weights: Sequence[F4], shared_frames: bool) -> F4:
    """Inverse of the variance that the tiles' weights state for a weighted mean, shape (c, h, w)."""
    total = np.zeros(weights[0].shape)
    for part, weight in zip(share, weights, strict=True):
        variance = 1 / np.maximum(weight, 1e-30, dtype=np.float64)
        total += part * np.sqrt(variance) if shared_frames else np.square(part, dtype=np.float64) * variance
    inverse = 1 / np.where(total > 0, total, np.inf)
    return np.asarray(np.square(inverse) if shared_frames else inverse, np.float32)


def _blend_counts(share: F4, parts: Sequence[Mapping[str, F4]], shared_frames: bool) -> dict[str, Any]:
    """Variance, counts of samples and exposure of a weighted mean, as far as the parts tell them."""
    made: dict[str, Any] = {}
    for name, first in parts[0].items():
        planes = [part[name] for part in parts]
        if name != "variance":
            made[name] = np.asarray((np.max if shared_frames else np.sum)(planes, axis=0), first.dtype)
        elif shared_frames:
            made[name] = np.square(sum(w * np.sqrt(v) for w, v in zip(share, planes, strict=True))).astype(np.float32)
        else:
            made[name] = np.asarray(sum(w * w * v for w, v in zip(share, planes, strict=True)), np.float32)
    return made


def _window(tile: BlendTile, scale: PhotoScale, box: Box, names: set[str]) -> dict[str, Any]:
    """Corrected arrays of a tile on a box of the mosaic, 0 beyond the tile."""
    part = tile.box.intersect(box)
    nothing = Box(0, 0, 0, 0)
    inside, place = (nothing if part.is_empty else part.relative_to(whole) for whole in (tile.box, box))
    out = {}
    for name in names:
        read = _corrected(name, tile, scale, inside)
        if part != box:
            read, piece = np.zeros((*read.shape[:-2], *box.shape), read.dtype), read
            read[..., *place.slices] = piece
        out[name] = read
    return out


def _corrected(name: str, tile: BlendTile, scale: PhotoScale, place: Box) -> F4:
    """A window of one of a tile's arrays after its correction."""
    plane = tile.planes.read(name, place)
    if name not in {"data", "weight", "variance"} or (np.all(scale.gain == 1) and not scale.surface.any()):
        return plane
    gain = scale.gain[:, None, None].astype(np.float32)
    if name == "weight":
        return np.asarray(plane * gain**2)
    if name == "variance":
        return np.asarray(plane / gain**2)
    y, x = np.mgrid[place.y0 : place.y1, place.x0 : place.x1]
    surface = scale.surface_at(x, y, tile.box.shape).astype(np.float32)
    weight = tile.planes.read("weight", place)
    return np.where(weight > 0, plane / gain - surface, 0).astype(np.float32)
