"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["MosaicView", "ReportData"]

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class MosaicView:
    """Small pictures of one mosaic, all of its whole grid, first row at the bottom.

    Attributes
    ----------
    key : str
        Of its figures in report.json: ``mosaic``, ``mosaic_Ha``.
    label : str
        Its filter, where the run has several mosaics; else "".
    wcs : CelestialWcs
        Of the mosaic in full size.
    picture : ndarray, shape (h, w, 3), uint8, or None
    coverage : ndarray, shape (h, w), float32, or None
        Frames over each place.
    clipped : ndarray, shape (h, w), float32, or None
        Share of the samples that were clipped.
    unit : str
        Of values: BUNIT.
    """

    key: str
    label: str
    wcs: CelestialWcs
    picture: npt.NDArray[np.uint8] | None
    coverage: npt.NDArray[np.float32] | None
    clipped: npt.NDArray[np.float32] | None
    unit: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """Everything on the page.

    Attributes
    ----------
    report : mapping
        ``report.json``.
    frames : mapping of str to ndarray
        Columns of the table of frames, shape (n,): numbers are float64, NaN where unknown; the rest is text.
    mosaics : sequence of MosaicView
    defaults : mapping
        Settings as they are when nobody sets any, stage by stage.
    title : str
        Name of the folder.
    """

    report: Mapping[str, Any]
    frames: Mapping[str, Column]
    mosaics: Sequence[MosaicView]
    defaults: Mapping[str, Mapping[str, Any]]
    title: str
