"""A frame's WCS as a file of its own: a FITS header without pixels, as plate solvers write it."""

from __future__ import annotations

from pathlib import Path

from astropy.io import fits

from zemosaic.io.read.find_files import stem_of
from zemosaic.model.frame import Frame

__all__ = ["wcs_file_names", "write_wcs_file"]


def wcs_file_names(frames: list[Frame]) -> list[str]:
    """A name ending in ``.wcs`` for each frame: that of its file, numbered where two would share one.

    Names are told apart without case, which some file systems ignore.
    """
    taken: set[str] = set()
    names = []
    for frame in frames:
        base = Path(stem_of(frame.storage.path)).name + (f"_{frame.storage.hdu}" if frame.storage.hdu > 1 else "")
        name, number = base, 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.casefold())
        names.append(f"{name}.wcs")
    return names


def write_wcs_file(path: Path, header: fits.Header, frame: Frame) -> None:
    """Write WCS cards as the header of a FITS file that holds no image, all or nothing.

    Parameters
    ----------
    path : Path
    header : astropy.io.fits.Header
        WCS cards.
    frame : Frame
        Whose pixels they place; IMAGEW and IMAGEH tell its size.
    """
    cards = fits.PrimaryHDU().header
    cards.extend(header, update=True)
    cards["IMAGEW"], cards["IMAGEH"] = (frame.shape[1], "width of the image"), (frame.shape[0], "height of the image")
    cards["SOFTWARE"] = "zemosaic"
    partial = path.with_name(f".{path.name}.partial")
    fits.PrimaryHDU(header=cards).writeto(partial, overwrite=True)
    partial.replace(path)
