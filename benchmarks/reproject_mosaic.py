"""The mosaic that reproject makes: reproject_mosaic.py FRAMES OUT.fits [--match]."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from astropy.io import fits
from reproject import reproject_interp
from reproject.mosaicking import find_optimal_celestial_wcs, reproject_and_coadd


def main() -> None:
    """Coadd all frames of a folder on the grid that reproject finds for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--match", action="store_true", help="match backgrounds by constants")
    options = parser.parse_args()
    frames = [fits.open(path)[0] for path in sorted(options.frames.glob("*.fits"))]
    wcs, shape = find_optimal_celestial_wcs(frames)
    mosaic, footprint = reproject_and_coadd(
        frames, wcs, shape_out=shape, reproject_function=reproject_interp, match_background=options.match
    )
    mosaic[footprint == 0] = np.nan
    fits.writeto(options.out, mosaic.astype(np.float32), wcs.to_header(), overwrite=True)


if __name__ == "__main__":
    main()
