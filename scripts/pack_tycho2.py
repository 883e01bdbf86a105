"""Make the packaged star list from Debian's Tycho-2 index for astrometry.net.

    apt-get download astrometry-data-tycho2-07-littleendian
    dpkg-deb -x astrometry-data-tycho2-07-littleendian_*.deb unpacked
    python scripts/pack_tycho2.py unpacked/usr/share/astrometry/index-tycho2-07.littleendian.fits

The index stores its stars as a kd-tree of unit vectors in 32-bit steps
(``xyz = low + step / scale``) with one magnitude column, MAG_VT; it carries
neither BT nor proper motions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from astropy.io import fits

from zemosaic.io.astrometry.catalogue import pack_stars


def read_index(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right ascension, declination (degrees) and VT of all stars of an astrometry.net index file."""
    with fits.open(path) as index:
        tables = {hdu.columns.names[0]: hdu for hdu in index[1:]}
        # The columns are declared as text; their bytes are little-endian numbers.
        scaling = np.frombuffer(tables["kdtree_range_stars"].data.tobytes(), "<f8")
        steps = np.frombuffer(tables["kdtree_data_stars"].data.tobytes(), "<u4").reshape(-1, 3)
        vt = np.array(tables["MAG_VT"].data["MAG_VT"], float)
    xyz = scaling[:3] + steps / scaling[6]
    ra = np.rad2deg(np.arctan2(xyz[:, 1], xyz[:, 0])) % 360
    dec = np.rad2deg(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
    return ra, dec, vt


def main() -> None:
    """Read the index, write ``tycho2.npy`` and ``tycho2_cells.npy``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    default = Path(__file__).resolve().parents[1] / "src" / "zemosaic" / "data"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    stars, starts = pack_stars(*read_index(args.index))
    np.save(args.out / "tycho2.npy", stars)
    np.save(args.out / "tycho2_cells.npy", starts)
    print(f"{len(stars)} stars in {len(starts) - 1} cells")


if __name__ == "__main__":
    main()
