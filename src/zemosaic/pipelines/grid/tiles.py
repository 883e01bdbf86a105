"""Make the tiles of a survey: stack the frames that touch each, measure the stack, keep its planes on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.io.tile_planes import TilePlanes
from zemosaic.model.box import Box
from zemosaic.model.measurements import Measurements
from zemosaic.model.photometry import PhotoScale
from zemosaic.model.sky import Patch, SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.context import Run
from zemosaic.pipelines.correcting import gain_priors
from zemosaic.pipelines.frames.place import PlacedFrame
from zemosaic.pipelines.prepare import plan_input
from zemosaic.pipelines.stacking import plan_patches
from zemosaic.pipelines.tasks import PatchInput, make_patch
from zemosaic.settings import Settings
from zemosaic.stages.blend import border_weights
from zemosaic.stages.geometric_tiles import TileGrid
from zemosaic.stages.match import match
from zemosaic.stages.measure import measure_frame
from zemosaic.stages.stack import StackedPatch
from zemosaic.stages.tile_photometry import equalize_rgb_medians_inplace, estimate_tile_background

__all__ = ["GridTile", "make_tiles"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

PLANES = tuple(field.name for field in fields(StackedPatch))


@dataclass(frozen=True, slots=True, eq=False)
class GridTile:
    """A tile of the survey, its pixels on the disk.

    Attributes
    ----------
    number : int
        Place in the grid, row by row.
    box : Box
        On the mosaic.
    planes : TilePlanes
        Those of `StackedPatch`; "mask" (valid pixels) and "border" (distance to the tile's own border, px).
    measured : Measurements or None
        None when it holds nothing to measure.
    background : ndarray, shape (c,)
        Sigma-clipped median; NaN for an empty tile.
    n_frames : int
    n_samples, n_rejected : int
    """

    number: int
    box: Box
    planes: TilePlanes
    measured: Measurements | None
    background: F8
    n_frames: int
    n_samples: int
    n_rejected: int


def make_tiles(
    cut: TileGrid,
    frames: Sequence[PlacedFrame],
    inputs: Sequence[PatchInput],
    fwhm_px: float,
    grid: SkyGrid,
    settings: Settings,
    source: ImageSource,
    folder: Path,
    run: Run,
    *,
    matched: bool,
) -> list[GridTile]:
    """Stack and measure all tiles.

    Parameters
    ----------
    cut : TileGrid
    frames : sequence of PlacedFrame
        What `inputs` were made of.
    inputs : sequence of PatchInput
        Sorted by FrameId.
    fwhm_px : float
    grid : SkyGrid
    settings : Settings
    source : ImageSource
    folder : Path
        For the tiles' planes.
    run : Run
    matched : bool
        Whether the frames' corrections come from one solve; otherwise the frames of each tile are matched among
        themselves.

    Returns
    -------
    list of GridTile
        Those that any frame reaches, row by row.
    """
    maker = _Maker(cut, frames, inputs, fwhm_px, grid, settings, source, folder, run, matched)
    wanted = [(number, box) for number, box in enumerate(cut.boxes) if maker.reaching(box)]
    advance = run.clock.start("stack tiles", len(wanted))
    tiles = []
    for done, (_, tile) in enumerate(run.executor.run(maker.make, wanted), 1):
        tiles.append(tile)
        advance(done)
    tiles.sort(key=lambda tile: tile.number)
    n_samples, n_rejected = sum(t.n_samples for t in tiles), sum(t.n_rejected for t in tiles)
    run.clock.end(
        "stack tiles",
        f"{len(tiles)} tiles, {n_samples / 1e6:.0f} M samples, {100 * n_rejected / max(n_samples, 1):.2f} % clipped",
    )
    return tiles


class _Maker:
    """The task that makes a tile, with what all tiles share."""

    def __init__(
        self,
        cut: TileGrid,
        frames: Sequence[PlacedFrame],
        inputs: Sequence[PatchInput],
        fwhm_px: float,
        grid: SkyGrid,
        settings: Settings,
        source: ImageSource,
        folder: Path,
        run: Run,
        matched: bool,
    ) -> None:
        self.frames: Mapping[str, PlacedFrame] = {item.frame.id: item for item in frames}
        self.inputs, self.fwhm_px, self.grid, self.settings, self.source = inputs, fwhm_px, grid, settings, source
        self.folder, self.run, self.matched = folder, run, matched
        self.n_channels = inputs[0].frame.n_channels
        largest = max(box.n_pixels for box in cut.boxes)
        # All planes of the stack, the masks made of it, and what measuring it takes.
        tile_bytes = largest * (self.n_channels * 21 + 5 + 16 * self.n_channels)
        plan, self.border = plan_patches(inputs, fwhm_px, grid, settings, run, beside_bytes=tile_bytes)
        self.patch_px = plan.patch_px
        self.measure_settings = settings.measure.model_copy(update={"block_px": cut.block_px})

    def reaching(self, box: Box) -> list[PatchInput]:
        """The frames that touch a tile."""
        return [item for item in self.inputs if item.plan.lattice.box.overlaps(box)]

    def make(self, wanted: tuple[int, Box]) -> GridTile:
        """Stack a tile, measure it, store it."""
        number, box = wanted
        inputs = self.reaching(box)
        if not self.matched:
            inputs = self._match_among_themselves(inputs)
        stack = self._stack(box, inputs)
        valid = stack.weight.min(axis=0) > 0
        self._equalise(stack, valid)
        planes = TilePlanes(self.folder / f"{number:05d}")
        for name in PLANES:
            planes.write(name, getattr(stack, name))
        planes.write("mask", valid)
        planes.write("border", self._border(box, valid, stack))
        return GridTile(
            number, box, planes, self._measure(stack, valid), estimate_tile_background(stack.data, valid),
            len(inputs), int(stack.coverage.sum()), int(stack.rejected.sum()),
        )  # fmt: skip

    def _match_among_themselves(self, inputs: Sequence[PatchInput]) -> list[PatchInput]:
        """The same frames with corrections that make this tile's frames agree, whatever other tiles hold."""
        placed = [self.frames[item.frame.id] for item in inputs]
        plain = [item.frame for item in placed]
        if len(placed) == 1:
            scales: Sequence[PhotoScale] = [inputs[0].plan.scale]
        else:
            scales = match(
                [item.measured for item in placed],
                [item.wcs for item in placed],
                self.grid,
                self.settings.match,
                cameras=[frame.camera for frame in plain],
                gain_priors=gain_priors(plain),
                pixel_values=self.settings.input.pixel_values,
            ).scales
        return [
            plan_input(item, old.plan.lattice, scale, self.grid, self.settings)
            for item, old, scale in zip(placed, inputs, scales, strict=True)
        ]

    def _stack(self, box: Box, inputs: Sequence[PatchInput]) -> StackedPatch:
        """All planes of a tile; what lies beyond the mosaic is empty."""
        out = StackedPatch.empty((self.n_channels, *box.shape))
        for inner in box.intersect(self.grid.box).split(self.patch_px):
            patch = Patch(inner, inner.expand(self.border).intersect(self.grid.box))
            made = make_patch(
                patch, inputs, self.source, self.settings, self.fwhm_px, self.n_channels, self.run.cancel.check
            )
            if made is not None:
                place = inner.relative_to(box).slices
                for name in PLANES:
                    getattr(out, name)[:, *place] = getattr(made, name)
        return out

    def _equalise(self, stack: StackedPatch, valid: npt.NDArray[np.bool_]) -> None:
        method = self.settings.survey.equalize_rgb
        if method == "off":
            return
        change = equalize_rgb_medians_inplace(stack.data, valid, method=method)
        if method == "gain":
            square = np.square(change)[:, None, None].astype(np.float32)
            stack.variance[:] *= square
            stack.weight[:] /= square

    def _border(self, box: Box, valid: npt.NDArray[np.bool_], stack: StackedPatch) -> F4:
        """Distance to the nearest pixel that other tiles may have and this one has not.

        Where no frame reaches, no tile has anything: neither the rim of the mosaic nor a gap in it is a border.
        """
        height, width = self.grid.shape
        sides = (box.y0 > 0, box.y1 < height, box.x0 > 0, box.x1 < width)
        nowhere = stack.coverage.max(axis=0) == 0
        return np.where(valid, border_weights(valid | nowhere, sides=sides), 0).astype(np.float32)

    def _measure(self, stack: StackedPatch, valid: npt.NDArray[np.bool_]) -> Measurements | None:
        try:
            return measure_frame(stack.data, valid[None].astype(np.float32), self.measure_settings)
        except FrameRejected:
            return None


def corrected(scale: PhotoScale, stack: StackedPatch, place: Box, shape: tuple[int, int]) -> StackedPatch:
    """A window of a tile after its correction.

    Parameters
    ----------
    scale : PhotoScale
    stack : StackedPatch
        The window's planes.
    place : Box
        The window in the tile.
    shape : tuple of int
        Of the tile.
    """
    if np.all(scale.gain == 1) and not scale.surface.any():
        return stack
    gain = scale.gain[:, None, None].astype(np.float32)
    y, x = np.mgrid[place.y0 : place.y1, place.x0 : place.x1]
    surface = scale.surface_at(x, y, shape).astype(np.float32)
    data = np.where(stack.weight > 0, stack.data / gain - surface, 0).astype(np.float32)
    return replace(stack, data=data, weight=stack.weight * gain**2, variance=stack.variance / gain**2)
