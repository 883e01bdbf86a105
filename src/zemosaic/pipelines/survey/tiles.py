"""Make the tiles of a survey: stack the frames that touch each, keep its planes on the disk until all are blended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.engine.executor import make_executor
from zemosaic.engine.store import Store
from zemosaic.engine.values import digest_of
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.write.tile_planes import TilePlanes
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import Patch
from zemosaic.pipelines.corrections.correcting import gain_priors
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchInput, plan_patch
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.patches.patch_size import PATCH_SIZES
from zemosaic.pipelines.patches.plan import plan_input
from zemosaic.pipelines.patches.reading import Reading, keep_frames
from zemosaic.pipelines.patches.stack_remotely import never_stop
from zemosaic.pipelines.patches.stacking import describe_samples, plan_patches
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.pipelines.survey.blending import BORDER, BlendTile, stored_planes, write_planes
from zemosaic.settings import Settings
from zemosaic.stages.match.match import ImageFacts, match
from zemosaic.stages.stack.stack import StackedPatch
from zemosaic.stages.survey.cut import TileGrid
from zemosaic.stages.survey.photometry import equalize_rgb_medians_inplace
from zemosaic.stages.tiles.blend import border_weights, levels_for_overlap
from zemosaic.text import message

__all__ = ["GridTile", "TileRecipe", "make_tiles"]

F4 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

LARGEST_PIECE_PX = 1536
"""A tile as large as this is stacked in one piece, where memory allows it."""


@dataclass(frozen=True, slots=True, eq=False)
class GridTile(BlendTile):
    """A tile of the survey, its pixels on the disk.

    Attributes
    ----------
    number : int
        Place in the grid, row by row.
    key : str
        Made of all that its pixels follow from.
    n_samples, n_rejected : int
    """

    number: int
    key: str
    n_samples: int
    n_rejected: int


@dataclass(frozen=True, slots=True)
class _Finished:
    """What the store keeps of a tile whose planes lie on the disk."""

    n_samples: int
    n_rejected: int
    checksums: dict[str, int]


@dataclass(frozen=True, eq=False)
class TileRecipe:
    """What all tiles of a survey share.

    Attributes
    ----------
    cut : TileGrid
    frames : sequence of PlacedFrame
        What the job's inputs were made of.
    job : MosaicJob
        The mosaic that the tiles make.
    settings : Settings
    matched : bool
        Whether the frames' corrections come from one solve; otherwise the frames of each tile are matched among
        themselves.
    """

    cut: TileGrid
    frames: Sequence[PlacedFrame]
    job: MosaicJob
    settings: Settings
    matched: bool

    @property
    def n_channels(self) -> int:
        """Of the mosaic."""
        return self.job.kind.n_channels

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes of a tile that the mosaic's are made of."""
        return stored_planes(self.job.names)

    @property
    def levels(self) -> int:
        """Octaves of the pyramid that the tiles are blended by; 0 feathers."""
        return levels_for_overlap(self.cut.overlap_px) if self.settings.survey.blend == "pyramid" else 0

    @cached_property
    def wanted(self) -> list[tuple[int, Box, str]]:
        """Number, box and key of the tiles that any frame reaches, row by row."""
        return [(number, box, self.key(box)) for number, box in enumerate(self.cut.boxes) if self.reaching(box)]

    def reaching(self, box: Box) -> list[PatchInput]:
        """The frames that touch a tile."""
        return [self.job.inputs[k] for k in self.job.index.meeting(box)]

    def key(self, box: Box) -> str:
        """Key of a tile: all that its pixels follow from, never how the work was cut into patches."""
        ids = [item.frame.id for item in self.reaching(box)]
        content = self.job.contents_near(box)
        among = None if self.matched else [digest_of(self._placed[i].measured, self._placed[i].wcs) for i in ids]
        settings = self.settings
        own_match = None if self.matched else (settings.match, settings.input.pixel_values)
        return make_key(
            "tile", content, among, own_match, box, self.job.grid, self.job.fwhm_px, settings.warp, settings.stack,
            settings.survey.equalize_rgb, self.job.source, self.planes,
        )  # fmt: skip

    def matched_inputs(self, box: Box) -> list[PatchInput]:
        """The frames that touch a tile with corrections that make them agree, whatever other tiles hold."""
        inputs = self.reaching(box)
        if self.matched:
            return inputs
        placed = [self._placed[item.frame.id] for item in inputs]
        plain = [item.frame for item in placed]
        if len(placed) == 1:
            scales: Sequence[PhotoScale] = [inputs[0].plan.scale]
        else:
            scales = match(
                [item.measured for item in placed],
                [item.wcs for item in placed],
                self.job.grid,
                self.settings.match,
                ImageFacts(
                    cameras=[frame.header.camera for frame in plain],
                    gain_priors=gain_priors(plain),
                    pixel_values=self.settings.input.pixel_values,
                ),
            ).scales
        return [
            plan_input(item, old.plan.lattice, scale, self.job.grid, self.settings)
            for item, old, scale in zip(placed, inputs, scales, strict=True)
        ]

    @cached_property
    def _placed(self) -> dict[str, PlacedFrame]:
        return {item.frame.id: item for item in self.frames}


def make_tiles(recipe: TileRecipe, folder: Path, run: Run) -> tuple[list[GridTile], ReadCounts]:
    """Stack all tiles; those that an earlier run left finished in the folder are not made again.

    Parameters
    ----------
    recipe : TileRecipe
    folder : Path
        For the tiles' planes.
    run : Run

    Returns
    -------
    (list of GridTile, ReadCounts)
        Those that any frame reaches, row by row; what was read of files.
    """
    largest = max(box.n_pixels for box in recipe.cut.boxes)
    # All planes of the stack, and the masks and distances made of them.
    tile_bytes = largest * (21 * recipe.n_channels + 16)
    plan, border = plan_patches(
        recipe.job, run, _piece_sizes(recipe.cut),
        beside_bytes=tile_bytes + run.machine.beside_bytes,
    )  # fmt: skip
    task = _MakeTile(recipe, folder.absolute(), plan.patch_px, border, plan.threads, run.store, run.cancel.check)
    advance = run.log.start("stack tiles", len(recipe.wanted))
    _make_remotely(task, plan.workers, run, advance)
    tiles = []
    # A frame counts once for each piece: also where only one tile wants it, it is read once.
    readings = {wanted: task.reading(wanted[1]) for wanted in recipe.wanted}
    with keep_frames(recipe.job.source.files, readings, recipe.settings.warp, plan.spare_bytes) as (release, reads):
        for done, (wanted, tile) in enumerate(make_executor(plan.workers).run(task, recipe.wanted), 1):
            release(wanted)
            tiles.append(tile)
            advance(done)
    tiles.sort(key=lambda tile: tile.number)
    n_samples, n_rejected = sum(t.n_samples for t in tiles), sum(t.n_rejected for t in tiles)
    samples = describe_samples(n_samples, n_rejected)
    run.log.end(
        "stack tiles", message("done.parts", parts=[message("done.tiles", n=len(tiles)), samples, *reads.words()])
    )
    return tiles, reads


def _make_remotely(task: _MakeTile, workers: int, run: Run, advance: Callable[[int], None]) -> None:
    """Make the tiles in other processes, where the run has an executor for it: they are found made afterwards.

    Matching stays in this process: a grid's WCS that was made, not read, loses its last digits on the way to another.
    """
    if run.machine.remote is None or run.store is None or not task.recipe.matched:
        return
    there, remote = replace(task, check=never_stop, threads=1), run.machine.remote
    at_once = workers if remote.is_here else None
    for done, (_, tile) in enumerate(remote.run(there, task.recipe.wanted, at_once), 1):
        run.store.adopt([tile.key])
        advance(done)


def _piece_sizes(cut: TileGrid) -> list[int]:
    """Sides of the pieces that a tile may be stacked in, largest first: parts of its own side, so none is a sliver."""
    side = max(max(box.shape) for box in cut.boxes)
    return sorted({-(-side // -(-side // size)) for size in (LARGEST_PIECE_PX, *PATCH_SIZES)}, reverse=True)


def _cut_evenly(box: Box, size: int) -> list[Box]:
    """Pieces of a box, at most so long and wide, of nearly one size."""
    rows, columns = (
        np.linspace(low, high, -(-(high - low) // size) + 1).round().astype(int).tolist()
        for low, high in ((box.y0, box.y1), (box.x0, box.x1))
    )
    return [Box(*y, *x) for y in pairwise(rows) for x in pairwise(columns)]


@dataclass(frozen=True, slots=True, eq=False)
class _MakeTile:
    """The task that makes a tile, unless it finds it made."""

    recipe: TileRecipe
    folder: Path
    patch_px: int
    border_px: int
    threads: int
    store: Store | None
    check: Callable[[], None]

    def __call__(self, wanted: tuple[int, Box, str]) -> GridTile:
        number, box, key = wanted
        planes = TilePlanes(self.folder / key.rpartition("/")[2])
        found: _Finished | None = self.store.get(key, _Finished) if self.store else None
        if found is None or not planes.is_whole(found.checksums):
            found = self._make(box, planes)
            if self.store:
                self.store.put(key, found, _Finished)
        return GridTile(box, planes, number, key, found.n_samples, found.n_rejected)

    def pieces(self, box: Box) -> list[Patch]:
        """What of a tile is stacked at a time."""
        whole = self.recipe.job.grid.box
        inner = _cut_evenly(box.intersect(whole), self.patch_px)
        return [Patch(part, part.expand(self.border_px).intersect(whole)) for part in inner]

    def reading(self, box: Box) -> Reading:
        """What of the frames a tile reads, beside those in its rows."""
        grid = self.recipe.job.grid
        band = Box(box.y0 - self.border_px, box.y1 + self.border_px, 0, grid.shape[1]).intersect(grid.box)
        return Reading(band, [visit for patch in self.pieces(box) for visit in self.recipe.job.plan(patch).visits])

    def _make(self, box: Box, planes: TilePlanes) -> _Finished:
        """Stack a tile and write its planes."""
        stack = self._stack(box)
        valid = stack.weight.min(axis=0) > 0
        self._equalise(stack, valid)
        checksums = write_planes(planes, stack, self.recipe.planes)
        checksums[BORDER] = planes.write(BORDER, self._border(box, valid, stack))
        return _Finished(int(stack.coverage.sum()), int(stack.rejected.sum()), checksums)

    def _stack(self, box: Box) -> StackedPatch:
        """All planes of a tile; what lies beyond the mosaic is empty."""
        recipe = self.recipe
        inputs = recipe.matched_inputs(box)
        out = StackedPatch.empty((recipe.n_channels, *box.shape))
        each = make_executor(self.threads).map
        for patch in self.pieces(box):
            made = make_patch(recipe.job, plan_patch(patch, inputs), self.check, each=each)
            place = patch.inner.relative_to(box).slices
            for name in {"coverage", "rejected", *recipe.planes}:
                getattr(out, name)[:, *place] = getattr(made, name)
        return out

    def _equalise(self, stack: StackedPatch, valid: Flags) -> None:
        method = self.recipe.settings.survey.equalize_rgb
        if method == "off":
            return
        change = equalize_rgb_medians_inplace(stack.data, valid, method=method)
        if method == "gain":
            square = np.square(change)[:, None, None].astype(np.float32)
            stack.variance[:] *= square
            stack.weight[:] /= square

    def _border(self, box: Box, valid: Flags, stack: StackedPatch) -> F4:
        """Distance to the nearest pixel that other tiles may have and this one has not.

        Where no frame reaches, no tile has anything: neither the rim of the mosaic nor a gap in it is a border.
        """
        height, width = self.recipe.job.grid.shape
        sides = (box.y0 > 0, box.y1 < height, box.x0 > 0, box.x1 < width)
        nowhere = stack.coverage.max(axis=0) == 0
        return np.where(valid, border_weights(valid | nowhere, sides=sides), 0).astype(np.float32)
