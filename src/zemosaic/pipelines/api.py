"""The Python door: mosaics from whatever holds an image and a WCS, without a folder of results."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS

from zemosaic.engine.events import EventSink, LeftOut
from zemosaic.errors import EnvironmentProblem, NothingToDo, SettingError
from zemosaic.io.write.mosaic_file import Card, MosaicFile, Plane
from zemosaic.model.box import Box
from zemosaic.model.kind import Kind
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.gather import gather_inputs, list_inputs
from zemosaic.pipelines.frames.pipeline import PlacedFrame, measure_and_place
from zemosaic.pipelines.modes.build import BuildOptions, BuildResult, find_settings_file, make_run, run_build
from zemosaic.pipelines.modes.mosaics import make_job, plan_group
from zemosaic.pipelines.modes.session import correct_group, lay_out, plan_sky, read_guide
from zemosaic.pipelines.outputs.cards import mosaic_cards, settings_card
from zemosaic.pipelines.outputs.zero_point import zero_point_cards
from zemosaic.pipelines.patches.planes import ArrayPlanes, file_planes
from zemosaic.pipelines.patches.stacking import stack_onto_grid
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.log import ignore_event
from zemosaic.pipelines.run.need import need_of_frames
from zemosaic.settings import GivenSettings, OutputSettings, make_settings
from zemosaic.text import message

if TYPE_CHECKING:
    from astropy.nddata import CCDData

__all__ = ["CoaddResult", "build", "coadd"]

AnyArray = npt.NDArray[Any]

_PLANES = {
    "DATA": "data", "WHT": "weight", "VAR": "variance", "COV": "coverage", "REJ": "rejected", "EXPT": "exposure",
    "SAT": "saturated", "ALPHA": "alpha",
}  # fmt: skip
"""Planes of a mosaic's file, and the attribute of a result that holds each."""

_STORED: dict[str, Literal["f4", "i2", "u1"]] = {"f": "f4", "i": "i2", "u": "u1"}
"""Types of the file's planes by the kinds of their arrays."""


@dataclass(frozen=True, slots=True, eq=False)
class CoaddResult:
    """A mosaic in memory.

    Planes are ``(h, w)`` where the images are mono and ``(3, h, w)``, red, green, blue, where they are colour, unless a
    shape is told.

    Attributes
    ----------
    data : ndarray, float32
        Values in input units in a grid pixel (of the area at the reference point): a star's flux is the sum over it.
        NaN where there are no data.
    weight : ndarray, float32
        Sum of the inverse variances of the samples that were kept, 1 / (input units)^2; 0 where there are no data.
    variance : ndarray, float32
        Of `data`, (input units)^2, as it adds up over areas of many pixels; NaN where there are no data. Resampling
        ties a pixel to its neighbours: single pixels scatter less (``docs/reference/output.md``, VARRATIO).
    coverage : ndarray, int16, shape (h, w)
        Number of images that reach the pixel, those with rejected samples too.
    rejected : ndarray, int16
        Number of samples that were clipped.
    exposure : ndarray, float32, shape (h, w)
        Seconds of what was kept; 0 where no header tells the time.
    saturated : ndarray, float32, shape (h, w)
        Share of the samples kept that are saturated, 0 to 1, of the channel where it is largest.
    alpha : ndarray, uint8, shape (h, w)
        255 where all channels have data, else 0.
    wcs : astropy.wcs.WCS
        Of the grid; its ``array_shape`` is ``(h, w)``.
    left_out : tuple of LeftOut
        Inputs that were not used: ``name``, ``reason``, ``path``. An input that is no file is named by its place among
        the inputs, from 0: ``memory:2``.
    cards : tuple of (keyword, value, comment)
        What the mosaic is made of, for a header.
    history : tuple of str
        How it is made.
    """

    data: AnyArray
    weight: AnyArray
    variance: AnyArray
    coverage: AnyArray
    rejected: AnyArray
    exposure: AnyArray
    saturated: AnyArray
    alpha: AnyArray
    wcs: WCS
    left_out: tuple[LeftOut, ...]
    cards: tuple[Card, ...] = field(default=(), repr=False)
    history: tuple[str, ...] = field(default=(), repr=False)

    def to_ccddata(self) -> CCDData:
        """The mosaic as astropy's `CCDData`: data, variance as uncertainty, a mask where there are no data.

        Its WCS is of the grid; of a colour mosaic it is of the last two axes. Its unit is BUNIT, or adu where astropy
        knows no such unit. Cards are in ``meta``.
        """
        from astropy import units
        from astropy.nddata import CCDData, VarianceUncertainty

        header = fits.Header([fits.Card(*card) for card in self.cards])
        unit = units.Unit(header.get("BUNIT") or "adu", parse_strict="silent")
        if isinstance(unit, units.UnrecognizedUnit):
            unit = units.adu
        empty = self.weight == 0
        return CCDData(self.data, VarianceUncertainty(self.variance), mask=empty, wcs=self.wcs, meta=header, unit=unit)

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a FITS file of all planes, laid out as ``mosaic.fits`` (``docs/reference/output.md``).

        Raises
        ------
        SettingError
            When the file is there already and `overwrite` is False.
        EnvironmentProblem
            When the folder cannot be written or has not enough space.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise SettingError("output.exists", path=path)
        by_name: dict[str, AnyArray] = {name: getattr(self, attribute) for name, attribute in _PLANES.items()}
        planes = [
            Plane(name, _STORED[values.dtype.kind], values.size // self.coverage.size)
            for name, values in by_name.items()
        ]
        shape = (self.coverage.shape[0], self.coverage.shape[1])
        with MosaicFile(path, CelestialWcs(self.wcs, shape), planes, self.cards, self.history) as file:
            for name, values in by_name.items():
                file.write(name, Box.of_shape(shape), values.reshape(-1, *shape))
            return file.finish()


def coadd(
    inputs: Iterable[Any] | str | Path,
    output_projection: WCS | fits.Header | None = None,
    shape_out: tuple[int, int] | None = None,
    *,
    match: bool = False,
    settings: GivenSettings = None,
    workers: int = 0,
    ram: str | int = "",
    on_event: EventSink | None = None,
) -> CoaddResult:
    """Warp and combine images that have a WCS.

    Each image is resampled once onto the grid (``warp.kernel``, Lanczos 3), weighted by the inverse variance of its
    sky, and combined with all others (``stack.method``, a kappa-sigma mean): ``docs/method/rejection.md``. With `match`
    gains and backgrounds of all images are solved first: ``docs/method/matching.md``.

    Parameters
    ----------
    inputs : iterable
        File or folder paths (a single input need not be in a list), HDUs or HDU lists, ``(array, WCS)`` or
        ``(array, header)`` pairs, `~astropy.nddata.NDData` with a WCS. Arrays are ``(y, x)``, ``(3, y, x)`` or
        ``(y, x, 3)``, NaN or masked where there are no data.
    output_projection : astropy.wcs.WCS or astropy.io.fits.Header, optional
        The grid; by default one that holds all images, north up.
    shape_out : (height, width), optional
        Needed with `output_projection` when that does not know its shape.
    match : bool
        Solve gains and background surfaces of all images first.
    settings : Settings or dict, optional
        ``{"stack": {"method": "median"}}``, or `load_settings` of a file; ``docs/reference/settings.md`` has all keys.
    workers : int
        Tasks at once; 0 takes the processors there are.
    ram : str or int
        Memory cap, as ``"4G"`` or in bytes; "" takes half of what is free.
    on_event : callable, optional
        Receives progress and notices: the types in ``zemosaic.events``.

    Returns
    -------
    CoaddResult
        With what was left out: an input that cannot be used never ends the run while another one can.

    Raises
    ------
    NothingToDo
        When no image can be used, or none reaches the grid.
    SettingError
        For a setting out of range, inputs that are of none of these kinds, or images of several filters or of mono and
        colour (coadd them one by one).
    EnvironmentProblem
        When the mosaic does not fit under the memory cap.

    See Also
    --------
    build : Writes files and resumes; the mosaic need not fit into memory.
    """
    settings = make_settings(settings)
    if not match:
        unmatched = settings.match.model_copy(update={"method": "none"})
        settings = settings.model_copy(update={"match": unmatched})
    given = None if output_projection is None else _given_grid(output_projection, shape_out)
    run = make_run(BuildOptions(workers=workers, ram=ram, yes=True), on_event or ignore_event)
    opened = gather_inputs(inputs, settings, run)
    guide = read_guide(settings, opened.frames)
    need = need_of_frames(settings, solved=guide.solved)
    placed = measure_and_place(opened, need, settings, run)
    _check_one_kind(placed.frames)
    session = lay_out(opened, guide, need, placed, given or plan_sky(placed.frames, guide, settings, run), run)
    (group,) = session.groups
    corrected = correct_group(group.frames, session, settings, run)
    planned = plan_group(corrected, session, settings, run)
    if not planned.frames:
        raise NothingToDo("grid.no-image")
    job = make_job(group.kind, planned.frames, corrected, session, settings)
    job = replace(job, planes=file_planes(OutputSettings(planes="all"), group.kind.n_channels))
    _check_room(job.planes, job.grid, run)
    sink = ArrayPlanes(job.planes, job.grid.shape)
    stack_onto_grid(job, sink, run)
    cards, history = mosaic_cards(job.inputs, job.grid, settings, need.place, corrected.corrections.method)
    cards += [*zero_point_cards(corrected.frames, corrected.corrections.scales, job.grid), settings_card(settings)]
    one = {_PLANES[name]: plane[0] if len(plane) == 1 else plane for name, plane in sink.planes.items()}
    left_out = placed.left_out + planned.left_out
    return CoaddResult(**one, wcs=job.grid.wcs.wcs, left_out=left_out, cards=tuple(cards), history=tuple(history))


def _check_one_kind(placed: Sequence[PlacedFrame]) -> None:
    if len({p.frame.n_channels for p in placed}) > 1:
        raise SettingError("coadd.mono-and-colour")
    if len(filters := {p.frame.decided.filter for p in placed}) > 1:
        found = [name or message("coadd.no-filter") for name in sorted(filters)]
        raise SettingError("coadd.filters", n_filters=len(filters), filters=found)
    if len(units := {Kind.of(p.frame).unit for p in placed}) > 1:
        raise SettingError("coadd.units", n_units=len(units), units=sorted(units))


def _check_room(planes: Sequence[Plane], grid: SkyGrid, run: Run) -> None:
    """Say that the planes do not fit into memory before any is made."""
    height, width = grid.shape
    need = height * width * sum(plane.n_channels * np.dtype(plane.dtype).itemsize for plane in planes)
    cap_bytes = run.machine.cap_bytes
    if need > cap_bytes:
        raise EnvironmentProblem(
            "coadd.no-room", width_px=width, height_px=height, need_bytes=need, cap_bytes=cap_bytes
        )


def build(
    inputs: Iterable[str | Path] | str | Path,
    out: str | Path,
    options: BuildOptions | None = None,
    *,
    settings: GivenSettings = None,
    on_event: EventSink | None = None,
) -> BuildResult:
    """Make the mosaic of files and folders in an output folder, as the command ``zemosaic build`` does.

    The same inputs, options and settings give the same bytes by either door.

    Parameters
    ----------
    inputs : iterable of path, or path
        Files, or folders to search for them. They are never written to.
    out : path
        Output folder; made when missing.
    options : BuildOptions, optional
        ``zemosaic.BuildOptions(mode="direct", ram="4G")``: the options of the command by the same names.
    settings : Settings or dict, optional
        As for `coadd`. What the command has options for stands here too: ``{"grid": {"header": "grid.hdr"}}`` is
        ``--header``, ``{"input": {"frames": "frames.csv"}}`` is ``--frames``, ``{"calibrate": {"darks": "none"}}`` is
        ``--darks``. With ``options.add`` a dict changes the settings of the mosaic that is there.
    on_event : callable, optional
        As for `coadd`.

    Returns
    -------
    BuildResult
        The files, and what was left out.

    Raises
    ------
    SettingError
        For a setting, option or table that cannot be used, or a grid too large for a run without ``yes``.
    NothingToDo
        When there is no usable frame, none reaches the grid, or no mosaic that frames could be added to.
    EnvironmentProblem
        When the folder cannot be written or is in use, a disk is full, the memory cap is too small, or a package that
        the inputs need is not installed.
    """
    options, out = options or BuildOptions(), Path(out)
    whole = make_settings(settings, find_settings_file(out, options))
    given = list_inputs(inputs)
    if others := [item for item in given if not isinstance(item, str | Path)]:
        raise SettingError("build.no-paths", type=type(others[0]).__name__)
    return run_build([Path(path) for path in given], out, whole, options, on_event or ignore_event)


def _given_grid(projection: WCS | fits.Header, shape_out: tuple[int, int] | None) -> SkyGrid:
    if not isinstance(projection, WCS | fits.Header):
        raise SettingError("coadd.no-projection", type=type(projection).__name__)
    shape = shape_out or (projection.array_shape if isinstance(projection, WCS) else _shape_of(projection))
    if shape is None:
        raise SettingError("coadd.no-shape")
    try:
        height, width = (operator.index(n) for n in shape)
    except (TypeError, ValueError):
        raise SettingError("coadd.shape-no-pixels", shape=shape) from None
    if height < 1 or width < 1:
        raise SettingError("coadd.shape-empty", shape=shape)
    try:
        if isinstance(projection, WCS):
            return SkyGrid(CelestialWcs(projection, (height, width)))
        return SkyGrid(CelestialWcs.from_header(projection, (height, width)))
    except ValueError as problem:
        raise SettingError("coadd.projection-unusable", problem=problem) from problem


def _shape_of(header: fits.Header) -> tuple[int, int] | None:
    return (header["NAXIS2"], header["NAXIS1"]) if "NAXIS1" in header and "NAXIS2" in header else None
