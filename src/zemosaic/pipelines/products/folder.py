"""A finished output folder as a value: what products are made of, after a build or any day later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table

from zemosaic.errors import EnvironmentProblem, NothingToDo
from zemosaic.io.write.finished_mosaic import FinishedMosaic
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import Settings, load_settings

__all__ = ["FinishedFolder", "FolderMosaic", "open_folder"]

BAND_BYTES = 32 << 20
"""Of a mosaic at most this much is read at a time, whatever its size; larger bands are no faster."""


@dataclass(frozen=True, slots=True, eq=False)
class FolderMosaic:
    """One mosaic of a folder.

    Attributes
    ----------
    tag : str
        What tells its files from those of the folder's other mosaics: ``"_Ha"``; "" where there is one alone.
    path : Path
    header : astropy.io.fits.Header
        Of the science image.
    wcs : CelestialWcs
        Of all planes; its ``shape`` is theirs.
    file : FinishedMosaic
        Where the planes lie in the file.
    """

    tag: str
    path: Path
    header: fits.Header
    wcs: CelestialWcs
    file: FinishedMosaic

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of every plane."""
        return self.wcs.shape

    @property
    def n_channels(self) -> int:
        """1, or 3 for red, green and blue."""
        return self.file.planes["DATA"][2][0]

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes that the file holds."""
        return tuple(self.file.planes)

    def read(self, plane: str, box: Box) -> npt.NDArray[Any]:
        """A box of a plane, ``(c, h, w)``: DATA and VAR are NaN where there are no data.

        Raises
        ------
        EnvironmentProblem
            When the file does not hold it, or cannot be read.
        """
        values = self.file.read(plane, box)
        if values is None:
            raise EnvironmentProblem("products.no-plane", box=box, plane=plane, path=self.path, planes=self.planes)
        return values

    def bands(self, bytes_a_row: int = 0) -> Iterator[Box]:
        """Bands of whole rows, bottom up, that together are the grid; `BAND_BYTES` each at most, or one row.

        Parameters
        ----------
        bytes_a_row : int
            What a row takes in memory; 0: one of the science image.
        """
        height, width = self.shape
        n_rows = max(BAND_BYTES // (bytes_a_row or 4 * self.n_channels * width), 1)
        for y0 in range(0, height, n_rows):
            yield Box(y0, min(y0 + n_rows, height), 0, width)


@dataclass(frozen=True, slots=True, eq=False)
class FinishedFolder:
    """An output folder whose run has ended.

    Attributes
    ----------
    out : Path
    mosaics : tuple of FolderMosaic
        One a filter, in the order of the report.
    report : mapping
        ``report.json`` (``docs/reference/output.md``); the figures of a mosaic are under ``"mosaic" + tag``.
    """

    out: Path
    mosaics: tuple[FolderMosaic, ...]
    report: Mapping[str, Any]

    def read_frames(self) -> Table:
        """``frames.ecsv``: a row for every file that was looked at."""
        return Table.read(self.out / "frames.ecsv", format="ascii.ecsv")

    def read_settings(self) -> Settings:
        """The settings of the run.

        Raises
        ------
        SettingError
            When they were written by a version with other keys.
        """
        return load_settings(self.out / "settings.toml")


def open_folder(out: Path) -> FinishedFolder:
    """The results of a run that has ended.

    Raises
    ------
    NothingToDo
        When there are none: no run has ended there, or a mosaic that its report tells of is gone.
    """
    try:
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise NothingToDo("products.no-mosaic", folder=out) from problem
    tags = [name.removeprefix("mosaic") for name in report if name == "mosaic" or name.startswith("mosaic_")]
    return FinishedFolder(out, tuple(_open_mosaic(out / f"mosaic{tag}.fits", tag) for tag in tags), report)


def _open_mosaic(path: Path, tag: str) -> FolderMosaic:
    file = FinishedMosaic.open(path)
    if file is None or "DATA" not in file.planes:
        raise NothingToDo("products.mosaic-missing", path=path)
    header = fits.getheader(path)
    return FolderMosaic(tag, path, header, CelestialWcs.from_header(header, file.planes["DATA"][2][1:]), file)
