"""Blind plate solvers that happen to be installed: they tell where a frame without a position may be.

What they say is a hint like one in a header: the frame's own solver then has to accept it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.star_field import BlindSolver, StarField

__all__ = ["SolveField", "installed_solvers"]

CPU_LIMIT_S = 10
"""Processor time for a frame; a field that can be solved takes about one second."""

_WALL_LIMIT_S = 60
"""Where processor time is not counted, or many programs run at once, a frame still takes no longer."""

_BRIGHTEST = 100
"""Stars that are handed over: index files list the brightest of each piece of sky, so fainter ones find no partner."""


_NEAR_DEG = 5.0
"""Radius of the search round a header's position: farther off a header tells nothing."""


class SolveField:
    """The program ``solve-field`` of astrometry.net, called with a star list, with the index files that it has.

    Parameters
    ----------
    program : str
        Path of the executable.
    """

    name = "solve-field (astrometry.net)"

    def __init__(self, program: str) -> None:
        self.program = program

    def locate(self, field: StarField) -> PointingHint | None:
        """Where the stars of a field are on the sky, or None; see `BlindSolver.locate`."""
        order = np.argsort(-field.flux, kind="stable")[:_BRIGHTEST]
        # FITS counts pixels from 1.
        stars = Table({"X": field.xy[order, 0] + 1, "Y": field.xy[order, 1] + 1, "FLUX": field.flux[order]})
        with tempfile.TemporaryDirectory(prefix="zemosaic-") as folder:
            listed, found = Path(folder) / "stars.fits", Path(folder) / "stars.wcs"
            stars.write(listed, format="fits")
            try:
                subprocess.run(
                    [self.program, *self._options(field), str(listed)],
                    cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WALL_LIMIT_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return None
            return _hint_of(found, field.shape) if found.exists() else None

    def _options(self, field: StarField) -> list[str]:
        height, width = field.shape
        options = ["--width", str(width), "--height", str(height), "--x-column", "X", "--y-column", "Y"]
        options += ["--sort-column", "FLUX", "--cpulimit", str(CPU_LIMIT_S), "--no-remove-lines", "--uniformize", "0"]
        options += ["--no-plots", "--no-tweak", "--overwrite", "--temp-dir", "."]
        if field.hint is not None:
            place = [f"{field.hint.ra_deg:.6f}", "--dec", f"{field.hint.dec_deg:.6f}", "--radius", f"{_NEAR_DEG:g}"]
            options += ["--ra", *place]
        return options


def _hint_of(path: Path, shape: tuple[int, int]) -> PointingHint | None:
    header = fits.getheader(path)
    header.remove("NAXIS")  # astropy warns of a WCS without an image
    wcs = CelestialWcs.from_header(header, shape)
    ra, dec = wcs.pixel_to_sky((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return PointingHint(float(ra), float(dec), 2000.0, wcs.pixel_scale_arcsec())


def installed_solvers() -> list[BlindSolver]:
    """The blind solvers that this machine has."""
    program = shutil.which("solve-field")
    return [SolveField(program)] if program else []
