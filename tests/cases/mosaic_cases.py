"""Small sets of frames and runs of the command line that several test files share."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zemosaic.cli import main

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, object]]:
        """The lines of standard output as JSON objects."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def last_line(self) -> str:
        """The last line of standard error."""
        return self.err.strip().splitlines()[-1]


def run_cli(capfd: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run the command line in this process and take what it prints."""
    capfd.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert "Traceback" not in err, err
    return Ran(code, out, err)


def digest_of(path: Path) -> str:
    """Of a file's content."""
    return hashlib.blake2b(path.read_bytes()).hexdigest()


def mosaic_bytes(mosaic: Path) -> bytes:
    """All of a mosaic's file but the checksum of the settings: for runs whose settings differ in what acts on no pixel,
    as where the grid comes from."""
    return re.sub(rb"SETHASH = '[0-9a-f]{64}'", b"", mosaic.read_bytes())


def digests_of(folder: Path) -> dict[str, str]:
    """Of all files of a folder tree, by relative name."""
    return {str(p.relative_to(folder)): digest_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def report_of(out: Path) -> dict[str, Any]:
    """What a run reports in an output folder."""
    found: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return found


def partial_files(folder: Path) -> list[Path]:
    """Files that look unfinished."""
    return [p for p in folder.rglob("*") if p.is_file() and p.name.startswith(".")]


def tan_wcs(
    shape: tuple[int, int],
    ra_deg: float = 150.0,
    dec_deg: float = 30.0,
    scale_arcsec: float = 2.0,
    rotation_deg: float = 0.0,
) -> WCS:
    """A plain TAN WCS of an image, centred."""
    angle, s = np.deg2rad(rotation_deg), scale_arcsec / 3600
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cd = [[-s * np.cos(angle), s * np.sin(angle)], [s * np.sin(angle), s * np.cos(angle)]]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.array_shape = shape
    wcs.wcs.set()
    return wcs


def cut(image: F4, wcs: WCS, y0: int, y1: int, x0: int, x1: int) -> tuple[F4, WCS]:
    """A piece of an image with its WCS on the same grid."""
    part = wcs.deepcopy()
    part.wcs.crpix = [wcs.wcs.crpix[0] - x0, wcs.wcs.crpix[1] - y0]
    part.array_shape = (y1 - y0, x1 - x0)
    return image[y0:y1, x0:x1].copy(), part


def write_frame(path: Path, image: npt.NDArray[np.generic], wcs: WCS | None, **cards: object) -> Path:
    """A FITS file of an image with a WCS and further cards."""
    header = wcs.to_header() if wcs is not None else fits.Header()
    header.update(cards)
    fits.writeto(path, image, header)
    return path


def noise(shape: tuple[int, ...], seed: int, sigma: float = 10.0, level: float = 1000.0) -> F4:
    """A sky of one level with noise."""
    return np.random.default_rng(seed).normal(level, sigma, shape).astype(np.float32)


def draw_stars(wcs: WCS, shape: tuple[int, int], ra: F8, dec: F8, flux: F8, fwhm_arcsec: float) -> F8:
    """Gaussian stars of given total flux, sampled at the pixels; wide enough stars keep their flux to 1e-6."""
    area = wcs.proj_plane_pixel_area().value * 3600**2
    sigma = fwhm_arcsec / np.sqrt(8 * np.log(2))
    y, x = np.mgrid[: shape[0], : shape[1]]
    scale = np.sqrt(area)
    image = np.zeros(shape)
    for xs, ys, f in zip(*wcs.world_to_pixel_values(ra, dec), flux, strict=True):
        r2 = ((x - xs) ** 2 + (y - ys) ** 2) * scale**2
        image += f * area / (2 * np.pi * sigma**2) * np.exp(-r2 / (2 * sigma**2))
    return image
