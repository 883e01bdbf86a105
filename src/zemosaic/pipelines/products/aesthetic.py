"""A picture made to be looked at: gradient taken off, small holes closed, stretched. Nothing of it is science."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.io.write.avm_tags import avm_packet
from zemosaic.io.write.mosaic_file import Card, MosaicFile, Plane
from zemosaic.io.write.picture_file import write_picture
from zemosaic.model.box import Box
from zemosaic.pipelines.outputs.preview import reduce_rows, reduction
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.picture.background import Gradient, find_gradient
from zemosaic.stages.picture.holes import HOLE_REACH_PX, close_holes
from zemosaic.stages.picture.stretch import Stretch, find_stretch, star_white
from zemosaic.text import message

__all__ = ["write_aesthetic_files"]

F4 = npt.NDArray[np.float32]

COPY_PX = 2400
"""Longest side of the reduced copy that gradient and stretch are found on, and of the JPEG: that of the preview."""

COPIES = 12
"""A band of the mosaic is in memory so many times while its holes are closed and it is stretched."""


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What is done to a mosaic, found on a reduced copy.

    Attributes
    ----------
    factor : int
        Side of the copy's pixels in pixels of the mosaic.
    gradient : Gradient or None
        Taken off; None where it cannot be told from nebulae.
    stretch : Stretch
        Its islands reach into holes.
    """

    factor: int
    gradient: Gradient | None
    stretch: Stretch

    def gradient_at(self, box: Box) -> F4:
        """What is taken off a box of the mosaic, ``(c, h, w)``."""
        if self.gradient is None:
            return np.zeros((len(self.stretch.factor), 1, 1), np.float32)
        rows, columns = ((np.arange(*ends) + 0.5) / self.factor - 0.5 for ends in ((box.y0, box.y1), (box.x0, box.x1)))
        return self.gradient.at(rows, columns)


def write_aesthetic_files(folder: FinishedFolder, run: Run) -> dict[str, Path]:
    """Write ``aesthetic.fits`` (0 to 1) and ``aesthetic.jpg`` of each mosaic, and what was taken off it as
    ``aesthetic_background.fits``, in units of the mosaic."""
    paths = {}
    for mosaic in folder.mosaics:
        found = _find_look(mosaic, folder.out / f"aesthetic{mosaic.tag}.jpg", run)
        if found is None:
            continue
        if found.gradient is not None:
            path = folder.out / f"aesthetic_background{mosaic.tag}.fits"
            _write_background(path, mosaic, found, run)
            paths[f"aesthetic_background{mosaic.tag}"] = path
        path = folder.out / f"aesthetic{mosaic.tag}.fits"
        _write_picture(path, mosaic, found, run)
        paths[f"aesthetic{mosaic.tag}"] = path
        paths[f"aesthetic_jpeg{mosaic.tag}"] = path.with_suffix(".jpg")
    return paths


def _find_look(mosaic: FolderMosaic, picture: Path, run: Run) -> _Look | None:
    """Find what is to be done, and write the JPEG; None of a mosaic without data."""

    def read_rows(y0: int, y1: int) -> npt.NDArray[Any]:
        run.cancel.check()
        return mosaic.read("DATA", Box(y0, y1, 0, mosaic.shape[1]))

    factor = reduction(mosaic.shape, COPY_PX)
    data, covered = reduce_rows(read_rows, mosaic.shape, factor)
    if not covered.any():
        return None
    white = star_white(data, covered)
    islands = find_stretch(data, covered, white).islands
    gradient = find_gradient(data, islands)
    if gradient.is_sky:
        data = np.where(covered, data - gradient.at(*(np.arange(n, dtype=float) for n in covered.shape)), 0)
    else:
        told = message("picture.no-gradient", file=mosaic.path.name, share=gradient.share, scatter=gradient.scatter)
        run.log.notice(told)
    stretch = find_stretch(data, covered, white)
    rgb = stretch.apply(data, stretch.islands)
    write_picture(picture, rgb if rgb.shape[-1] == 3 else rgb[..., 0], avm_packet(mosaic.wcs, factor))
    reach = 2 * -(-HOLE_REACH_PX // factor) + 1
    wide = np.where(stretch.islands > 0, stretch.islands, scipy.ndimage.maximum_filter(stretch.islands, reach))
    return _Look(factor, gradient if gradient.is_sky else None, replace(stretch, islands=wide))


def _write_background(path: Path, mosaic: FolderMosaic, look: _Look, run: Run) -> None:
    history = [f"gradient of {mosaic.path.name}: subtract it; a surface of degree 2, 0 on average over dark sky"]
    plane = Plane("DATA", "f4", mosaic.n_channels, str(mosaic.header.get("BUNIT", "")))
    with MosaicFile(path, mosaic.wcs, [plane], (), history) as file:
        for box in mosaic.bands(COPIES * 4 * mosaic.n_channels * mosaic.shape[1]):
            run.cancel.check()
            file.write("DATA", box, look.gradient_at(box))
        file.finish()


def _write_picture(path: Path, mosaic: FolderMosaic, look: _Look, run: Run) -> None:
    width = mosaic.shape[1]
    cards: list[Card] = [("ROWORDER", "BOTTOM-UP", "the first row is the lowest")]
    plane = Plane("DATA", "f4", mosaic.n_channels)
    with MosaicFile(path, mosaic.wcs, [plane], cards, _tell_steps(mosaic, look)) as file:
        for box in mosaic.bands(COPIES * 4 * mosaic.n_channels * width):
            run.cancel.check()
            wide = box.expand(HOLE_REACH_PX).intersect(Box.of_shape(mosaic.shape))
            data, seen = close_holes(mosaic.read("DATA", wide) - look.gradient_at(wide))
            rows, columns = np.arange(wide.y0, wide.y1) // look.factor, np.arange(width) // look.factor
            grey = look.stretch.grey(data, look.stretch.islands[rows[:, None], columns] * seen)
            file.write("DATA", box, grey[:, *box.relative_to(wide).slices])
        file.finish()


def _tell_steps(mosaic: FolderMosaic, look: _Look) -> list[str]:
    """HISTORY of the picture."""
    steps = [f"{mosaic.path.name} made to be looked at; not for measuring"]
    if look.gradient is None:
        steps.append("no gradient taken off: it cannot be told from nebulae")
    else:
        spans = ", ".join(f"{span:.4g}" for span in look.gradient.spans)
        steps.append(f"gradient taken off, spans {spans}: aesthetic_background{mosaic.tag}.fits")
    stretch = look.stretch
    factors = ", ".join(f"{factor:.4g}" for factor in stretch.factor)
    return [
        *steps,
        f"holes of up to some {HOLE_REACH_PX} px closed by what surrounds them",
        f"parts that touch no other on one level of sky; channels times {factors}",
        f"stretched by arcsinh: slope {stretch.slope:.4g}, bend {stretch.bend:.4g}, shoulder {stretch.shoulder:.4g}",
    ]
