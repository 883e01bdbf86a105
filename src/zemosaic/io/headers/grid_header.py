"""Read an output grid from a header file: FITS, or text cards as Montage and SWarp use."""

from __future__ import annotations

from pathlib import Path

from astropy.io import fits

from zemosaic.errors import SettingError
from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["read_grid_header"]


def read_grid_header(path: Path) -> CelestialWcs:
    """The grid of a FITS file's first image, or of a text file of header cards, one a line.

    Raises
    ------
    SettingError
        When the file cannot be read, has no celestial WCS or no NAXIS1 and NAXIS2.
    """
    try:
        with path.open("rb") as file:
            start = file.read(240)
        is_fits = start.startswith(b"SIMPLE  =") and b"\n" not in start
        header = _image_header(path) if is_fits else _text_header(path)
        shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
        if min(shape) < 1:
            raise ValueError(f"NAXIS1, NAXIS2 = {shape[1]}, {shape[0]}")
        return CelestialWcs.from_header(header, shape)
    except OSError as problem:
        reason = problem.strerror or problem
        raise SettingError("grid.header-unusable", path=path, problem=reason) from problem
    except (ValueError, KeyError) as problem:
        raise SettingError("grid.header-unusable", path=path, problem=problem) from problem


def _text_header(path: Path) -> fits.Header:
    return fits.Header.fromtextfile(path)


def _image_header(path: Path) -> fits.Header:
    with fits.open(path) as hdus:
        for hdu in hdus:
            if hdu.header.get("NAXIS", 0) >= 2:
                return hdu.header.copy()
    # A header-only file states its grid in the primary header.
    return fits.getheader(path)
