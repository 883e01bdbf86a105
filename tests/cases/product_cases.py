"""A finished output folder made by hand: products are tested on it without a build."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zemosaic.io.write.mosaic_file import MosaicFile, Plane
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.products.folder import FinishedFolder, open_folder
from zemosaic.stages.grid.plan import make_wcs

__all__ = ["finished_folder"]


def finished_folder(
    out: Path,
    data: NDArray[np.float32],
    coverage: NDArray[np.int16],
    center_deg: tuple[float, float] = (83.8, 22.0),
    scale_arcsec: float = 30.0,
) -> FinishedFolder:
    """A folder with ``mosaic.fits`` (DATA and COV) and ``report.json``.

    Parameters
    ----------
    out : Path
        Is there and empty.
    data : ndarray, float32, shape (c, h, w)
    coverage : ndarray, int16, shape (h, w)
    center_deg, scale_arcsec
        The grid's.
    """
    shape = (coverage.shape[0], coverage.shape[1])
    wcs: CelestialWcs = make_wcs(center_deg, scale_arcsec, shape)
    planes = [Plane("DATA", "f4", len(data)), Plane("COV", "i2")]
    with MosaicFile(out / "mosaic.fits", wcs, planes, [("NCOMBINE", 3, "frames"), ("EXPTIME", 30.0, "[s]")]) as file:
        file.write("DATA", Box.of_shape(shape), data)
        file.write("COV", Box.of_shape(shape), coverage)
        file.finish()
    (out / "report.json").write_text(json.dumps({"mosaic": {"n_frames": 3}}), encoding="utf-8")
    return open_folder(out)
