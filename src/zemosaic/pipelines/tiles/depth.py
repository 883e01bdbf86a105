"""How many frames and seconds, and how many saturated samples, lie in each pixel of a mosaic of tiles.

And how much sky the tiles' masks cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.io.write.tile_file import plane_hdus
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings, WarpSettings
from zemosaic.stages.warp.maps import plan_maps
from zemosaic.stages.warp.warp import WarpPlan, warp_window

__all__ = ["write_depth"]

F4 = npt.NDArray[np.float32]

BAND_ROWS = 256
"""Rows of the mosaic that are made at a time; they bound the memory that a band takes."""

MOST_FRAMES = 32767
"""Counts are 16-bit integers."""

NEAREST = WarpSettings(kernel="nearest", taper_px=0)


@dataclass(frozen=True, slots=True, eq=False)
class _Depth:
    """A tile's frames, seconds, saturated frames and reach: an image of four channels that is warped like any other.

    Attributes
    ----------
    frame : Frame
        The tile.
    plan : WarpPlan
        Its place, without correction.
    hdus : dict
        Of COV, EXPT and SAT, where its file has them; else its header speaks for all pixels.
    reader : ImageSource
    """

    frame: Frame
    plan: WarpPlan
    hdus: dict[str, int]
    reader: ImageSource

    def read(self, box: Box) -> tuple[F4, F4]:
        """Frames, seconds, saturated frames, weighed where the tile has weight in all channels; 1 where any reaches."""
        _, weight = self.reader.read_window(self.frame, box)
        seen = (weight > 0).all(axis=0, keepdims=True)
        frames = self._plane("COV", self.frame.header.n_stacked, box)
        seconds = self._plane("EXPT", self.frame.decided.exposure_s, box)
        saturated = frames * self._plane("SAT", 0.0, box)
        reached = frames > 0 if "COV" in self.hdus else seen
        planes = np.concatenate([frames, seconds, saturated, np.ones_like(frames)])
        return planes, np.concatenate([seen, seen, seen, reached]).astype(np.float32)

    def _plane(self, name: str, otherwise: float | None, box: Box) -> F4:
        if name not in self.hdus:
            return np.full((1, *box.shape), otherwise or 0.0, np.float32)
        plane = self.frame.plane_at(self.frame.storage.path, self.hdus[name])
        return self.reader.read_window(plane, box)[0]


def write_depth(
    file: MosaicFile, inputs: Sequence[PatchInput], grid: SkyGrid, reader: ImageSource, settings: Settings, run: Run
) -> float:
    """Put sums over tiles into the planes COV, EXPT and SAT of a mosaic: of frames and seconds, not of tiles.

    SAT stays as the tiles themselves make it where one of them does not tell what its frames were.

    Tiles that hold a frame in common count it twice; those made by `master_tiles` hold none in common.

    Returns
    -------
    float
        Share of the pixels that the tiles' frames reach where no tile has weight; 0 where COV is not written.
    """
    if settings.output.planes != "all":
        return 0.0
    layers = [
        _Depth(item.frame, plan_maps(item.plan, 4), plane_hdus(Path(item.frame.storage.path), item.frame.shape), reader)
        for item in inputs
    ]
    all_tell = all("SAT" in layer.hdus for layer in layers)
    height, width = grid.shape
    bands = [Box(y, min(y + BAND_ROWS, height), 0, width) for y in range(0, height, BAND_ROWS)]

    def make(band: Box) -> tuple[int, int]:
        run.cancel.check()
        depth = np.zeros((4, *band.shape))
        for layer in layers:
            part = layer.plan.lattice.box.intersect(band)
            if part.is_empty:
                continue
            values, weights = np.zeros((2, 4, *part.shape), np.float32)
            warp_window(layer.plan, part, layer.read, NEAREST, values, weights, np.zeros(part.shape, np.uint8))
            depth[:, *part.relative_to(band).slices] += values
        # The kernel that made DATA needs more pixels of a tile than the nearest one.
        bare = file.read("WHT", band).min(axis=0) <= 0
        reached = depth[3] > 0
        depth[:, bare] = 0
        file.write("COV", band, np.rint(np.minimum(depth[:1], MOST_FRAMES)).astype(np.int16))
        file.write("EXPT", band, depth[1:2].astype(np.float32))
        if all_tell:
            file.write("SAT", band, (depth[2:3] / np.maximum(depth[:1], 1)).astype(np.float32))
        return int(reached.sum()), int((reached & bare).sum())

    n_reached, n_bare = np.sum([counts for _, counts in run.machine.make_executor().run(make, bands)], axis=0)
    return float(n_bare / max(n_reached, 1))
