"""Raw files of cameras: what they say, as FITS cards, and the mosaic of their sensor. Needs rawpy (extra ``raw``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import Value
from zemosaic.io.read.picture import Picture, cards_of
from zemosaic.io.read.tiff import exif_of_file

__all__ = ["decode_raw", "raw_picture"]

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Sensor:
    """What only unpacked pixels tell of a camera."""

    axes: tuple[int, ...]
    bayer: str
    white: float


_sensors: dict[tuple[object, ...], _Sensor] = {}
"""By camera, ISO setting, depth and sizes: unpacking takes tenths of a second, too long for each file of a scan."""


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """An open file, its pixels not yet unpacked; what is wrong with it is a `FrameRejected`.

    Raises
    ------
    FrameRejected
        When LibRaw cannot read it, or rawpy is not installed.
    OSError
        When it cannot be opened.
    """
    try:
        import rawpy
    except ImportError as problem:
        raise FrameRejected("file.needs-rawpy") from problem
    with open(path, "rb"):  # LibRaw tells no missing file from a damaged one
        pass
    try:
        with rawpy.RawPy() as raw:
            raw.open_file(path)
            yield raw
    except (rawpy.LibRawError, RuntimeError, ValueError) as problem:
        text = problem.args[0] if problem.args else type(problem).__name__
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        raise FrameRejected("file.raw-unreadable", problem=text) from problem


def raw_picture(path: str) -> Picture:
    """The picture of a raw file. Pixels are unpacked only for the first file of a camera and setting.

    Facts: camera, exposure, date, ISO setting and focal length of the EXIF tags (of the file's own fields where it is
    not built like a TIFF: CR3, RAF); the colour pattern of the visible area; the white level as SATURATE.

    Raises
    ------
    FrameRejected
        When it cannot be read, or its colour filter has no 2 x 2 pattern.
    OSError
        When the file cannot be opened.
    """
    exif, depths = exif_of_file(path)
    with _opened(path) as raw:
        key = (exif.get("INSTRUME"), exif.get("ISOSPEED"), depths, raw.sizes)
        sensor = _sensors.get(key) if key[0] else None
        if sensor is None:
            sensor = _sensors[key] = _sensor(raw)
        facts = exif or _own_facts(raw)
    facts = facts | {"BAYERPAT": sensor.bayer, "SATURATE": sensor.white}
    return Picture(0, sensor.axes, 16, cards_of(facts))


def decode_raw(path: str) -> AnyArray:
    """The visible area of the sensor, numbers as the camera wrote them: nothing is subtracted, scaled or turned.

    The black level is thus part of the values, as it is of a dark or bias frame of the same camera.

    Returns
    -------
    ndarray of uint16, shape (height, width), or (height, width, 3) where a file holds three colours a pixel

    Raises
    ------
    FrameRejected, OSError
        As `raw_picture`.
    """
    with _opened(path) as raw:
        image = raw.raw_image_visible
        return np.array(image[..., :3] if image.ndim == 3 else image)


def _sensor(raw: Any) -> _Sensor:
    image = raw.raw_image_visible
    axes = image.shape[:2]
    levels = [level for level in raw.camera_white_level_per_channel or () if level > 0]
    white = float(min(levels, default=raw.white_level))
    if image.ndim == 3:
        if raw.num_colors != 3:
            raise FrameRejected("file.raw-colours", n_colours=raw.num_colors)
        return _Sensor((*axes, 3), "NONE", white)
    n_rows, n_columns = raw.raw_pattern.shape
    if (n_rows, n_columns) == (1, 1):
        return _Sensor(axes, "NONE", white)
    if (n_rows, n_columns) != (2, 2):
        raise FrameRejected("file.raw-pattern", n_columns=n_columns, n_rows=n_rows, pattern=[n_rows, n_columns])
    names = raw.color_desc.decode("ascii")
    return _Sensor(axes, "".join(names[colour] for colour in raw.raw_colors_visible[:2, :2].flat), white)


def _own_facts(raw: Any) -> dict[str, Value]:
    stated = raw.other
    numbers = {"EXPTIME": stated.shutter_speed, "ISOSPEED": stated.iso_speed, "FOCALLEN": stated.focal_length}
    facts: dict[str, Value] = {key: float(number) for key, number in numbers.items() if number > 0}
    if stated.timestamp.year > 1990:
        facts["DATE-OBS"] = stated.timestamp.replace(tzinfo=None).isoformat()
    return facts
