"""Parts of a camera's frames where all of them show less of the stars than a catalogue knows.

An obstacle that every frame has in its light, a shutter that always lags, rows that are shifted in every read-out: no
frame lacks what another shows, so they agree with each other. A catalogue tells: stars of a part are missing, or are
fainter than their magnitudes, beside those of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.model.measurements import Measurements, Stars
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.quality.views import Sight, View, find_nearest, look_at, whole_light
from zemosaic.stages.solve.coincide import TOLERANCE_PX

__all__ = ["DimPart", "find_shared_fault"]

F8 = npt.NDArray[np.float64]

_DIM = 0.6
"""Light over that of the clear part below which a part is dim, vignetting taken away: lenses that are not centred on
their sensor, and what headers' scales leave, stay above 0.75."""

_CLEAR = 85.0
"""Percentile of the light round the stars that is that of the clear part: a seventh of the field is never dim."""

_NEAREST = 8
"""Stars, itself with them, whose median light is the light round a star: catalogues err by 0.2 mag, and one star in ten
is a double, variable, or hidden by a brighter one."""

_LEAST_SHARE = 0.08
"""Share of the stars, but no fewer than `_NEAREST`, that a dim part holds."""

_SAMPLES_A_SIDE = 4
"""A star tells once for each part of this size in which frames show it: one wrong magnitude must count once."""

_FEWEST_SEEN = 5
"""Stars of the catalogue that a frame must show before it is asked."""

_REFERENCE = 75.0
"""Percentile of the light of a frame's stars that is its zero: where half of a frame is dim it is that of the rest."""

_DEPTH = 80.0
"""Percentile of the magnitudes of the stars that a frame shows, down to which it should show all: what is found of
fainter ones hangs on blends and on the sky. Behind an obstacle fewer are shown, but those beside it tell the depth."""

_UNSEEN = float(np.log(0.1))
"""ln of the light of a star that is expected and not seen."""

_MOST_SCATTER = 0.5
"""Scatter of ln light in the clear part from which magnitudes say nothing of it: another sky, or another band."""

_MOST_FRAMES = 60
"""Frames of a camera that are asked, spread evenly: what all share, these share."""


@dataclass(frozen=True, slots=True)
class DimPart:
    """Where all frames of a camera show less than there is.

    Attributes
    ----------
    box : Box
        Round the stars there, pixels of a frame.
    share : float
        Their light over that of the others; a star that is not seen counts as a tenth.
    n_dim, n_stars : int
        Stars that tell, and all that were asked.
    """

    box: Box
    share: float
    n_dim: int
    n_stars: int


def find_shared_fault(
    measured: Sequence[Measurements], places: Sequence[CelestialWcs], catalogue: Catalogue
) -> DimPart | None:
    """The part of the frames of one camera, all of one shape, where stars of the catalogue are missing or too faint.

    Parameters
    ----------
    measured : sequence of Measurements
    places : sequence of CelestialWcs
        Where each frame is.
    catalogue : Catalogue

    Returns
    -------
    DimPart or None
        None where there is no such part, and wherever frames show fewer than three times eight stars of the catalogue.

    Notes
    -----
    Light that falls off evenly to all sides is a lens's vignetting, and no fault.
    """
    some = range(0, len(measured), -(-len(measured) // _MOST_FRAMES)) if measured else range(0)
    told = [_ask(measured[i], places[i], catalogue) for i in some]
    place, light = _pool([samples for samples in told if samples is not None])
    if len(place) < 3 * _NEAREST:
        return None
    light = light - _vignetting(place, light)
    near = np.median(light[scipy.spatial.cKDTree(place).query(place, k=_NEAREST)[1]], axis=1)
    clear = float(np.percentile(near, _CLEAR))
    dim = near < clear + np.log(_DIM)
    if np.count_nonzero(dim) < max(_LEAST_SHARE * len(place), _NEAREST):
        return None
    if mad_sigma((light - near)[~dim]) > _MOST_SCATTER:
        return None
    height, width = measured[0].shape
    (x0, y0), (x1, y1) = (edge(place[dim], axis=0) for edge in (np.min, np.max))
    box = Box(int(y0 * height), int(np.ceil(y1 * height)), int(x0 * width), int(np.ceil(x1 * width)))
    share = float(np.exp(np.median(near[dim]) - clear))
    return DimPart(box, share, int(np.count_nonzero(dim)), len(place))


def _ask(measured: Measurements, place: CelestialWcs, catalogue: Catalogue) -> tuple[F8, F8, F8] | None:
    """Sky places, places over the frame's sides and ln light of the catalogue's stars that a frame should show."""
    view = _look_at_catalogue(measured, place, catalogue)
    with_light = np.isfinite(view.log_light)
    if np.count_nonzero(with_light) < _FEWEST_SEEN:
        return None
    zero = np.percentile(view.log_light[with_light], _REFERENCE)
    light = np.maximum(np.where(with_light, view.log_light - zero, _UNSEEN), _UNSEEN)
    height, width = measured.shape
    return np.column_stack(place.pixel_to_sky(*view.xy.T)), view.xy / [width, height], light


def _look_at_catalogue(measured: Measurements, place: CelestialWcs, catalogue: Catalogue) -> View:
    """What a frame shows of the catalogue's stars, from its brightest unsaturated one down to its depth."""
    height, width = place.shape
    ra, dec = place.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
    radius_deg = float(np.hypot(height, width)) / 2 * place.pixel_scale_arcsec() / 3600
    known = catalogue.cone(float(ra), float(dec), radius_deg)
    x, y = place.sky_to_pixel(known.ra_deg, known.dec_deg)
    own = measured.stars
    nearest, distance = find_nearest(np.column_stack([own.x, own.y]), np.column_stack([x, y]))
    met = np.flatnonzero(distance < TOLERANCE_PX)
    clean = met[~own.saturated[nearest[met]] & (whole_light(own)[0][nearest[met]] > 0)]
    brightest, faintest = np.percentile(known.mag[clean], [0, _DEPTH]) if len(clean) else (np.inf, -np.inf)
    used = (known.mag >= brightest) & (known.mag <= faintest)
    used[np.setdiff1d(met, clean)] = False
    n = int(np.count_nonzero(used))
    flux = np.power(10, -0.4 * known.mag[used])[None].astype(np.float32)
    flags = np.zeros(n, bool)
    stars = replace(
        Stars.empty(1), x=x[used], y=y[used], flux=flux, flux_error=np.zeros_like(flux), saturated=flags, blended=flags
    )
    return look_at(Sight.of(measured, place), -1, Sight.of(replace(measured, stars=stars), place), 1.0)


def _pool(told: Sequence[tuple[F8, F8, F8]]) -> tuple[F8, F8]:
    """Place over the sides, shape (n, 2), and ln light of each star in each part of the field, of all frames."""
    if not told:
        return np.zeros((0, 2)), np.zeros(0)
    sky, place, light = (np.concatenate(column) for column in zip(*told, strict=True))
    key = np.column_stack([np.round(sky * 1200), np.floor(place * _SAMPLES_A_SIDE)])
    which = np.unique(key, axis=0, return_inverse=True)[1].ravel()
    count = np.bincount(which)
    order = np.lexsort((light, which))
    middle = light[order][np.cumsum(count) - count + count // 2]
    where = np.column_stack([np.bincount(which, coordinate) / count for coordinate in place.T])
    return where, middle


def _vignetting(place: F8, light: F8) -> F8:
    """What falls off evenly from the middle, by the stars that are seen."""
    radius2 = np.sum((2 * place - 1) ** 2, axis=1)
    terms = np.column_stack([np.ones(len(radius2)), radius2, radius2**2])
    used = light > _UNSEEN
    for _ in range(4):
        if np.count_nonzero(used) < _NEAREST:
            return np.zeros(len(place))
        found = np.linalg.lstsq(terms[used], light[used], rcond=None)[0]
        rest = light - terms @ found
        used = (light > _UNSEEN) & (np.abs(rest - np.median(rest[used])) < 2.5 * mad_sigma(rest[used]) + 0.05)
    return np.asarray(terms[:, 1:] @ found[1:], float)
