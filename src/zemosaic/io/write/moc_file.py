"""Write a part of the sky as a MOC, the IVOA's multi-order coverage map, version 2.0 (NUNIQ in a FITS table)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits

__all__ = ["merge_cells", "write_moc"]

I8 = npt.NDArray[np.int64]


def merge_cells(cells: I8, order: int) -> I8:
    """Cells of one order as NUNIQ numbers, each four that fill their parent replaced by it, up to order 0.

    Parameters
    ----------
    cells : ndarray of int64
        HEALPix numbers, nested, each once.
    order : int
        Of the cells.

    Returns
    -------
    ndarray of int64
        ``4 x 4^order + number``, ascending.
    """
    found = []
    cells = np.sort(cells)
    for level in range(order, -1, -1):
        parents, count = np.unique(cells >> 2, return_counts=True)
        full = (count == 4) & (level > 0)
        stays = np.repeat(~full, count)
        found.append(cells[stays] + (4 << (2 * level)))
        cells = parents[full]
    return np.sort(np.concatenate(found))


def write_moc(path: Path, cells: I8, order: int) -> None:
    """Write nested cells of one order as a MOC, all or nothing.

    Parameters
    ----------
    path : Path
    cells : ndarray of int64
        As for `merge_cells`.
    order : int
    """
    column = fits.Column("UNIQ", "1K", array=merge_cells(cells, order))
    table = fits.BinTableHDU.from_columns([column])
    for key, value, comment in (
        ("PIXTYPE", "HEALPIX", "cells of HEALPix"),
        ("ORDERING", "NUNIQ", "order and number in one"),
        ("COORDSYS", "C", "ICRS"),
        ("MOCDIM", "SPACE", "places, no times"),
        ("MOCORD_S", order, "deepest order"),
        ("MOCORDER", order, "deepest order, as version 1 has it"),
        ("MOCVERS", "2.0", "version of the standard"),
        ("MOCTOOL", "zemosaic", "made with"),
    ):
        table.header[key] = (value, comment)
    partial = path.with_name(f".{path.name}.partial")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(partial, overwrite=True)
    partial.replace(path)
