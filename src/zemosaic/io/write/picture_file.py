"""Write a picture file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = ["write_picture"]

COMPRESS_LEVEL = 1
"""Of PNG: a third of the time of the usual 6, for a file 40 % larger."""

JPEG = {"quality": 92, "subsampling": 0}
"""One colour for each pixel: stars of two pixels would lose theirs else."""


def write_picture(path: Path, rgba: npt.NDArray[np.uint8], xmp: bytes = b"") -> None:
    """Write 8-bit RGBA pixels, first row at the bottom (north up, as the mosaic's rows run), all or nothing.

    Parameters
    ----------
    path : Path
        The format follows the suffix: ``.png`` keeps transparency, ``.jpg`` has none.
    rgba : ndarray of uint8, shape (h, w, 4), (h, w, 3) or (h, w)
    xmp : bytes
        An XMP packet that goes with it.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        picture = Image.fromarray(np.ascontiguousarray(rgba[::-1]))
        kind = Image.registered_extensions()[path.suffix]
        options: dict[str, Any] = {}
        if kind == "PNG":
            told = PngInfo()
            if xmp:
                told.add_itxt("XML:com.adobe.xmp", xmp.decode())
            options = {"compress_level": COMPRESS_LEVEL, "pnginfo": told}
        elif kind == "JPEG":
            picture = picture if picture.mode == "L" else picture.convert("RGB")
            options = JPEG | ({"xmp": xmp} if xmp else {})
        picture.save(partial, format=kind, **options)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
