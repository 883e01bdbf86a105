"""Where the stars of a mosaic lie beside a catalogue's, for report.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zemosaic.model.sky.catalogue import Catalogue, CatalogueStars
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.outputs.match_facts import short
from zemosaic.stages.figures.catalogue import figure_catalogue

if TYPE_CHECKING:
    from zemosaic.pipelines.frames.pipeline import PlacedFrame

__all__ = ["describe_catalogue", "stars_over"]

MOST_OF_FRAME = 200
"""Stars of a frame that are looked at, the brightest: a catalogue of bright stars has few others."""

MOST_STARS = 400
"""Stars that are listed one by one, evenly over those found: more only blacken the figure."""


def stars_over(grid: SkyGrid, catalogue: Catalogue) -> CatalogueStars:
    """The catalogue's stars in the circle round a grid."""
    height, width = grid.shape
    ra, dec = grid.wcs.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
    reach_deg = np.hypot(height, width) / 2 * grid.scale_arcsec / 3600
    return catalogue.cone(float(ra), float(dec), min(float(reach_deg), 180.0))


def describe_catalogue(frames: Sequence[PlacedFrame], grid: SkyGrid, catalogue: Catalogue) -> dict[str, Any]:
    """Offsets of the catalogue's stars; without them where too few were found to be sure that it was they."""
    known = stars_over(grid, catalogue)
    places = [np.zeros((2, 0))]
    for item in frames:
        stars = item.measured.stars
        sky = item.wcs.pixel_to_sky(stars.x[:MOST_OF_FRAME], stars.y[:MOST_OF_FRAME])
        places.append(np.stack(grid.wcs.sky_to_pixel(*sky)))
    x, y = np.concatenate(places, axis=1)
    there = np.isfinite(x) & np.isfinite(y)
    found = figure_catalogue(x[there], y[there], grid.wcs, known)
    facts = {
        "name": catalogue.name,
        "n_known": found.n_known,
        "n_found": len(found.x),
        "error_arcsec": known.error_arcsec,
    }
    if not found.is_sure:
        return facts
    listed = np.unique(np.linspace(0, len(found.x) - 1, MOST_STARS).astype(np.int64))
    east, north = found.offset_arcsec
    return facts | {
        "offset_east_arcsec": east,
        "offset_north_arcsec": north,
        "spread_arcsec": found.spread_arcsec,
        "stars": {
            "x_px": short(found.x[listed]), "y_px": short(found.y[listed]),
            "east_arcsec": short(found.east[listed]), "north_arcsec": short(found.north[listed]),
        },
    }  # fmt: skip
