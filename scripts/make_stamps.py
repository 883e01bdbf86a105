"""Make the small stamps in ``tests/data``: simulated frames in the files that real telescopes write.

    python scripts/make_stamps.py

Two raw frames of an alt-az smart telescope (16-bit Bayer, no WCS, Rice-compressed) lie beside two calibrated frames of
a camera on an equatorial mount (float32 with a WCS, gzip). Each pair has its truth beside it.
The tests read them where the real frames of the developers are not at hand.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.simulate import FrameRecipe, RawRecipe, SimulatedSky, simulate_frames, simulate_raws

HERE = Path(__file__).resolve().parents[1] / "tests" / "data"
CENTRE_DEG = 83.8, 22.0
"""A field with many catalogue stars in a small frame."""


def main() -> None:
    """Write both pairs."""
    known = tycho2().cone(*CENTRE_DEG, 2.0)
    sky = SimulatedSky(4, *CENTRE_DEG, 1.0, (known.ra_deg, known.dec_deg, known.mag))
    raws = RawRecipe(shape=(480, 720), panels=(1, 1), cloud_fraction=0, soft_fraction=0, trail_fraction=0)
    with tempfile.TemporaryDirectory() as folder:
        simulate_raws(Path(folder), sky, 2, raws)
        keep(Path(folder), HERE / "raw_stamps", compress=True)
    with tempfile.TemporaryDirectory() as folder:
        simulate_frames(
            Path(folder), SimulatedSky(12, *CENTRE_DEG, 0.42), 2, FrameRecipe(shape=(300, 340), trail_fraction=0)
        )
        keep(Path(folder), HERE / "panel_stamps", compress=False)


def keep(folder: Path, to: Path, *, compress: bool) -> None:
    """Copy a simulated set in as few bytes as hold every value."""
    to.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if not path.name.lower().endswith((".fit", ".fits")):
            (to / path.name).write_bytes(path.read_bytes())
            continue
        with fits.open(path, do_not_scale_image_data=True) as hdus:
            if compress:
                image = fits.CompImageHDU(fits.getdata(path), hdus[0].header, compression_type="RICE_1")
                fits.HDUList([fits.PrimaryHDU(), image]).writeto(to / f"{path.name}.fz", overwrite=True, checksum=True)
            else:
                fits.writeto(to / f"{path.name}.gz", np.asarray(hdus[0].data), hdus[0].header, overwrite=True)


if __name__ == "__main__":
    main()
