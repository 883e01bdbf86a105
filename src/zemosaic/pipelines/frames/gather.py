"""Whatever holds an image and a WCS as frames: files, HDUs, arrays beside their WCS or header, NDData."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.nddata import NDData, VarianceUncertainty
from astropy.wcs import WCS, WcsError

from zemosaic.engine.events import LeftOut
from zemosaic.errors import FrameRejected, NothingToDo, SettingError
from zemosaic.io.read.arrays import ArraySource
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.frames.check_pixels import check_pixels
from zemosaic.pipelines.frames.pipeline import Inputs, check_found, open_scanned, scan_inputs
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings
from zemosaic.text import message

__all__ = ["gather_inputs", "list_inputs"]

AnyArray = npt.NDArray[Any]

_IN_MEMORY = "memory:"
"""Begins the path of a frame that is no file; its place among the inputs, from 0, follows."""


_N_TOLD = 3
"""Reasons that an error names where nothing can be used: more is no line to read."""


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """An image in memory, as `ArraySource.add` takes it."""

    data: Any
    wcs: WCS | None = None
    header: fits.Header | None = None
    weight: AnyArray | None = None


class _Sources:
    """Files and arrays behind one face."""

    def __init__(self, files: ImageSource, arrays: ArraySource) -> None:
        self._files, self._arrays = files, arrays

    def read_window(self, frame: Frame, box: Box) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `ImageSource.read_window`."""
        source: ImageSource = self._arrays if frame.storage.path.startswith(_IN_MEMORY) else self._files
        return source.read_window(frame, box)


def list_inputs(inputs: Any) -> list[Any]:
    """A single path, HDU or NDData is one input; a text is no sequence of letters."""
    return [inputs] if isinstance(inputs, str) or not isinstance(inputs, Iterable) else list(inputs)


def gather_inputs(inputs: Iterable[Any] | str | Path, settings: Settings, run: Run) -> Inputs:
    """The frames that inputs hold, in the order of their ids, and where to read their pixels.

    What cannot be a frame is left out with its reason, a file and an array alike.

    Parameters
    ----------
    inputs : iterable, or a path
        See `zemosaic.coadd`.
    settings : Settings
    run : Run

    Raises
    ------
    NothingToDo
        When no input is a frame.
    SettingError
        For inputs of another kind.
    """
    given = list_inputs(inputs)
    if not given:
        raise NothingToDo("input.none")
    arrays, paths = ArraySource(), [Path(item) for item in given if isinstance(item, str | Path)]
    frames: list[Frame] = []
    left_out: list[LeftOut] = []
    for name, make in _walk_images(given):
        try:
            image = make()
            frame = arrays.add(image.data, image.wcs, image.weight, image.header, settings.input.bayer)
            frames.append(replace(frame, storage=replace(frame.storage, path=name)))
        except FrameRejected as problem:
            left_out.append(run.log.leave_out_file(name, problem.told))
        except WcsError as problem:
            why = message("array.wcs-unusable", problem=str(problem).splitlines()[-1])
            left_out.append(run.log.leave_out_file(name, why))
    frames = check_pixels(frames, arrays, settings.input, run)
    files: ImageSource = arrays
    reader = None
    if paths:
        found = scan_inputs(paths, settings.input, run)
        if found.frames or not frames:
            opened = open_scanned(check_found(found), settings, run)
            files, reader = opened.source, opened.files
            frames += opened.frames
            left_out += opened.left_out
        else:
            if found.problem:
                run.log.notice(found.problem, "warning")
            left_out += found.left_out
    if not frames:
        told = list(dict.fromkeys(item.told for item in left_out))
        more = message("input.other-reasons", n=len(told) - _N_TOLD) if len(told) > _N_TOLD else None
        raise NothingToDo("input.no-picture", reasons=told[:_N_TOLD], more=more)
    return Inputs(sorted(frames, key=lambda frame: frame.id), _Sources(files, arrays), reader, tuple(left_out))


def _walk_images(given: Iterable[Any]) -> Iterator[tuple[str, Callable[[], _Image]]]:
    """The name of each image that is no file, and what makes it an image or raises FrameRejected."""
    for number, item in enumerate(given):
        name = f"{_IN_MEMORY}{number}"
        if isinstance(item, fits.HDUList):
            pictures = [(k, hdu) for k, hdu in enumerate(item) if hdu.is_image and hdu.data is not None]
            for k, hdu in pictures:
                yield (f"{name}[{k}]" if len(pictures) > 1 else name), partial(_image_of, hdu)
            if not pictures:
                yield name, partial(_image_of, fits.PrimaryHDU())
        elif not isinstance(item, str | Path):
            yield name, partial(_image_of, item)


def _image_of(item: Any) -> _Image:
    match item:
        case fits.PrimaryHDU() | fits.ImageHDU() | fits.CompImageHDU():
            if item.data is None:
                raise FrameRejected("file.no-image")
            return _Image(item.data, header=item.header)
        case NDData():
            return _of_nddata(item)
        case (data, WCS() as wcs):
            return _Image(_numbers(data), _celestial(wcs))
        case (data, fits.Header() as header):
            return _Image(_numbers(data), header=header)
        case _:
            raise SettingError("input.no-image-type", type=type(item).__name__)


def _celestial(wcs: Any) -> WCS:
    if not isinstance(wcs, WCS):
        raise FrameRejected("array.wcs-type", type=type(wcs).__name__)
    if not wcs.has_celestial:
        raise FrameRejected("array.wcs-not-celestial")
    return wcs


def _numbers(data: Any) -> AnyArray:
    """An array; masked pixels are NaN."""
    try:
        if isinstance(data, np.ma.MaskedArray):
            return _masked(np.asarray(data.data), np.ma.getmaskarray(data))
        return np.asarray(data)
    except ValueError as problem:
        raise FrameRejected("array.unusable", problem=problem) from problem


def _masked(data: AnyArray, mask: AnyArray) -> AnyArray:
    if data.dtype.kind not in "iuf":
        return data  # which `ArraySource.add` refuses
    try:
        hidden = np.broadcast_to(mask, data.shape)
    except ValueError:
        raise FrameRejected("array.mask-shape", mask_shape=np.shape(mask), shape=data.shape) from None
    return np.where(hidden, np.nan, data)


def _of_nddata(image: NDData) -> _Image:
    """Data with masked pixels as NaN, the WCS, and weights where the uncertainty tells them."""
    if image.wcs is None:
        raise FrameRejected("array.no-wcs")
    data, wcs = np.asarray(image.data), _celestial(image.wcs)
    if image.mask is not None:
        data = _masked(data, np.asarray(image.mask))
    if image.uncertainty is None:
        return _Image(data, wcs)
    try:
        variance = image.uncertainty.represent_as(VarianceUncertainty).array
    except TypeError as problem:
        raise FrameRejected("array.no-uncertainty") from problem
    weight = np.where(variance > 0, 1 / np.where(variance > 0, variance, 1), 0)
    # Relative: the frame's own measured noise sets the scale, as for weight maps in files.
    seen = weight[weight > 0]
    return _Image(data, wcs, weight=weight / np.median(seen) if len(seen) else weight)
