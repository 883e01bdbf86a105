"""The Python door: mosaics from whatever holds an image and a WCS, without a folder of results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.nddata import NDData, VarianceUncertainty
from astropy.wcs import WCS

from zemosaic.engine.events import EventSink
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.io.read.arrays import ArraySource
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.corrections.correcting import correct_frames
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.pipeline import Inputs, measure_and_place, open_inputs
from zemosaic.pipelines.modes.choose import build_mosaic
from zemosaic.pipelines.modes.mosaics import check_grid, clear_frames, plan_sky
from zemosaic.pipelines.patches.output import ArrayPlanes, file_planes
from zemosaic.pipelines.patches.plan import plan_inputs, stellar_width_px
from zemosaic.pipelines.patches.stacking import stack_onto_grid
from zemosaic.pipelines.run.context import Run, RunOptions, start_run
from zemosaic.pipelines.run.log import ignore
from zemosaic.settings import Settings

__all__ = ["CoaddResult", "build", "coadd"]

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class CoaddResult:
    """A mosaic in memory; planes of a mono mosaic are ``(h, w)``, of a colour one ``(3, h, w)``.

    Attributes
    ----------
    data : ndarray, float32
        Values in input units per area of a grid pixel; NaN where there are no data.
    weight, variance : ndarray, float32
        Sum of inverse variances; variance of `data` (NaN where there are no data).
    coverage : ndarray, int16, shape (h, w)
        Number of frames.
    rejected : ndarray, int16
        Number of clipped samples.
    exposure : ndarray, float32, shape (h, w)
        Seconds.
    saturated : ndarray, float32, shape (h, w)
        Share of the samples kept that are saturated, of the channel where it is largest.
    wcs : astropy.wcs.WCS
        Of the grid.
    left_out : tuple of (name, reason)
        Inputs that were not used.
    """

    data: AnyArray
    weight: AnyArray
    variance: AnyArray
    coverage: AnyArray
    rejected: AnyArray
    exposure: AnyArray
    saturated: AnyArray
    wcs: WCS
    left_out: tuple[tuple[str, str], ...]


def coadd(
    inputs: Iterable[Any] | Path,
    output_projection: WCS | fits.Header | None = None,
    shape_out: tuple[int, int] | None = None,
    *,
    match: bool = False,
    settings: Settings | None = None,
    workers: int = 0,
    on_event: EventSink | None = None,
) -> CoaddResult:
    """Warp and combine images that have a WCS.

    Parameters
    ----------
    inputs : iterable
        File or folder paths (a single one need not be in a list), HDUs or HDU lists, ``(array, WCS)`` or
        ``(array, header)`` pairs, `~astropy.nddata.NDData` with a WCS. Arrays are ``(y, x)``, ``(3, y, x)`` or
        ``(y, x, 3)``, NaN where there are no data.
    output_projection : astropy.wcs.WCS or astropy.io.fits.Header, optional
        The grid; by default one that holds all images, north up.
    shape_out : (height, width), optional
        Needed with `output_projection` when that does not know its shape.
    match : bool
        Solve gains and background surfaces of all images first.
    settings : Settings, optional
        ``zemosaic.load_settings(assignments=["stack.method=median"])``.
    workers : int
        Tasks at once; 0 takes the processors there are.
    on_event : callable, optional
        Receives progress and notices (`zemosaic.engine.events`).

    Returns
    -------
    CoaddResult

    Raises
    ------
    NothingToDo
        When no image can be used.
    SettingError
        For inputs of another kind, or images of several filters (coadd them one by one).
    """
    settings = settings or Settings()
    update: dict[str, Any] = {"output": settings.output.model_copy(update={"planes": "all"})}
    if not match:
        update["match"] = settings.match.model_copy(update={"method": "none"})
    settings = settings.model_copy(update=update)
    check_grid(settings.grid)
    run = start_run(RunOptions(workers=workers, yes=True), on_event or ignore)
    measured = measure_and_place(_gather(inputs, settings, run), settings, run, sky_only=not match)
    placed, source = measured.frames, measured.source
    if len({p.frame.n_channels for p in placed}) > 1:
        raise SettingError("the images are mono and colour; coadd them one kind at a time")
    if len(filters := {p.frame.filter for p in placed}) > 1:
        found = ", ".join(sorted(name or "none" for name in filters))
        raise SettingError(f"the images are of {len(filters)} filters ({found}); coadd them one filter at a time")
    grid = plan_sky(placed, settings, run) if output_projection is None else _given(output_projection, shape_out)
    corrections = correct_frames(placed, grid, settings, run, read_reference(settings.match))
    placed = clear_frames(placed, corrections, settings, run) if match else placed
    planned = plan_inputs(placed, corrections.scales, grid, settings, run)
    if not planned:
        raise NothingToDo("no image reaches the output grid")
    planes = file_planes(settings.output, planned[0].frame)
    sink = ArrayPlanes(planes, grid.shape)
    names = [plane.name for plane in planes]
    stack_onto_grid(planned, stellar_width_px(placed, grid), grid, settings, source, sink, names, run)
    one = {name: plane[0] if len(plane) == 1 else plane for name, plane in sink.planes.items()}
    return CoaddResult(
        one["DATA"], one["WHT"], one["VAR"], one["COV"], one["REJ"], one["EXPT"], one["SAT"],
        grid.wcs.wcs, tuple((item.name, item.reason) for item in run.log.journal.left_out),
    )  # fmt: skip


def build(
    inputs: Iterable[str | Path] | str | Path,
    out: str | Path,
    *,
    mode: str = "auto",
    settings: Settings | None = None,
    workers: int = 0,
    on_event: EventSink | None = None,
) -> dict[str, Path]:
    """Make the mosaic of files and folders in an output folder, as the command ``zemosaic build`` does.

    Parameters
    ----------
    inputs : iterable of path, or path
    out : path
        Made when missing.
    mode : {"auto", "direct", "master-tiles", "grid", "existing-tiles"}
        See ``docs/master-tiles.md``.
    settings, workers, on_event
        As for `coadd`.

    Returns
    -------
    dict
        Output files by name: ``mosaic``, ``preview``, ``frames``, ``match``, ``report``.
    """
    run = start_run(RunOptions(workers=workers), on_event or ignore)
    return build_mosaic([Path(p) for p in _listed(inputs)], Path(out), settings or Settings(), run, mode)


def _given(projection: WCS | fits.Header, shape_out: tuple[int, int] | None) -> SkyGrid:
    if not isinstance(projection, WCS | fits.Header):
        raise SettingError(f"output_projection is a WCS or a FITS header, not of type {type(projection).__name__}")
    shape = shape_out or (projection.array_shape if isinstance(projection, WCS) else _shape_of(projection))
    if shape is None:
        raise SettingError("the output WCS does not know its shape; give shape_out=(height, width)")
    height, width = (int(n) for n in shape)
    try:
        if isinstance(projection, WCS):
            return SkyGrid(CelestialWcs(projection, (height, width)))
        return SkyGrid(CelestialWcs.from_header(projection, (height, width)))
    except ValueError as problem:
        raise SettingError(f"output_projection cannot be the grid: {problem}") from problem


def _shape_of(header: fits.Header) -> tuple[int, int] | None:
    return (header["NAXIS2"], header["NAXIS1"]) if "NAXIS1" in header and "NAXIS2" in header else None


class _Sources:
    """Files and arrays behind one face."""

    def __init__(self, files: ImageSource, arrays: ArraySource) -> None:
        self._files, self._arrays = files, arrays

    def read_window(self, frame: Frame, box: Box) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `ImageSource.read_window`."""
        source: ImageSource = self._arrays if frame.path.startswith("memory:") else self._files
        return source.read_window(frame, box)


def _listed(inputs: Iterable[Any] | Path) -> Iterable[Any]:
    """A single path is one input, not a sequence of letters."""
    return [inputs] if isinstance(inputs, str | Path) else inputs


def _gather(inputs: Iterable[Any] | Path, settings: Settings, run: Run) -> Inputs:
    arrays, frames, paths = ArraySource(), [], []
    files: ImageSource = arrays
    reader = None
    bayer = settings.input.bayer
    for item in _listed(inputs):
        match item:
            case str() | Path():
                paths.append(Path(item))
            case fits.HDUList():
                frames += [arrays.add(h.data, header=h.header, bayer=bayer) for h in item if h.data is not None]
            case fits.PrimaryHDU() | fits.ImageHDU() | fits.CompImageHDU():
                frames.append(arrays.add(item.data, header=item.header, bayer=bayer))
            case NDData():
                frames.append(arrays.add(*_of_nddata(item), bayer=bayer))
            case (data, WCS() as wcs):
                frames.append(arrays.add(data, wcs, bayer=bayer))
            case (data, fits.Header() as header):
                frames.append(arrays.add(data, header=header, bayer=bayer))
            case _:
                raise SettingError(
                    f"an input of type {type(item).__name__} is not a path, HDU, (array, WCS or header) pair or NDData"
                )
    if paths:
        found = open_inputs(paths, settings, run)
        files, reader = found.source, found.files
        frames += found.frames
    if not frames:
        raise NothingToDo("no inputs were given")
    return Inputs(sorted(frames, key=lambda frame: frame.id), _Sources(files, arrays), reader)


def _of_nddata(image: NDData) -> tuple[AnyArray, WCS, AnyArray | None]:
    """Data with masked pixels as NaN, the WCS, and weights where the uncertainty tells them."""
    if image.wcs is None:
        raise SettingError("an NDData input has no WCS")
    data = np.array(image.data, float)
    if image.mask is not None:
        data[np.broadcast_to(image.mask, data.shape)] = np.nan
    if image.uncertainty is None:
        return data, image.wcs, None
    variance = image.uncertainty.represent_as(VarianceUncertainty).array
    weight = np.where(variance > 0, 1 / np.where(variance > 0, variance, 1), 0)
    # Relative: the frame's own measured noise sets the scale, as for weight maps in files.
    return data, image.wcs, weight / np.median(weight[weight > 0]) if (weight > 0).any() else weight
