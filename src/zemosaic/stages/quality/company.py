"""What frames say of each other: a frame that does not show the stars which others show where it lies is a bad one.

A frame may be sharp, dark and well exposed and yet be wrong: clouded to the last star, half behind a roof, moved while
it was exposed. Neither its sky nor its own stars tell that as surely as the frames that overlap it, and a few of those
are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.measurements import Measurements, Stars
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.quality.triage import Verdict
from zemosaic.stages.solve.coincide import TOLERANCE_PX, neighbours
from zemosaic.text import Message, message

__all__ = ["judge_company"]

F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SHOWN = 30.0
"""Signal to noise of stars that a frame shows beyond doubt: what is looked for in the others."""

_EXPECTED = 15.0
"""Signal to noise that such a star must have in the other frame, by its depth, to be missed: three times the limit."""

_EDGE_PX = 12
"""Stars nearer to a frame's edge may lie outside of it by a small error of its place."""

_NEAR_BLOCK = 1.2
"""Sides of a block from the nearest one within which a frame has pixels: a bright star hides its own block."""

_CROWDED = 0.4
"""Stars within three widths of each star from which a field is crowded: in worse seeing they merge, and none is missing
that is not seen. A bulge field of 300 stars in 512 x 512 px with stars 4.3 px wide has 0.6."""

_FEWEST = 8
"""Expected stars from which a frame is judged by those it shows."""

_FEWEST_ALIKE = 5
"""Stars that two frames must both show to compare their light."""

_CHANCE = 0.2
"""Share of the stars that must be met for them to tell the light: detections of noise meet fewer."""

_AGREE = 0.7
"""Share of the expected stars that a good frame shows at least; the others are lost in glare and blends."""

_BLIND = 0.5
"""Share below which a frame is blind, for all frames that it meets."""

_THIN = 4.0
"""Noise over light, against frames of the same camera and exposure, from which a frame adds a sixteenth of their weight
or less, and has nothing to say of their gains and surfaces."""

_SAME_EXPOSURE = 0.3
"""ln of expected gains within which two frames have one exposure."""

_NEAREST = 6
"""Expected stars, itself with them, by which a star's part of the frame counts as lost: five of six are not shown."""

_LEAST_LOST = 0.08
"""Share of a frame's expected stars, but no fewer than `_NEAREST`, that lie in a lost part."""

_COVERED = 0.9
"""Share of a frame that others must cover before it is left out for a part of it."""

_MOST_BLOCKED = 0.25
"""Share of the frames that can be blocked: were it more, the frames are of two kinds and none is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """What one frame shows of the stars of another.

    Attributes
    ----------
    other : int
        The frame whose stars are looked for.
    xy : ndarray, shape (n, 2)
        Places of those that should be seen, in the frame's own pixels.
    seen : ndarray, shape (n,), bool
    light : float
        The frame's flux of a star over the other's; NaN where too few are shown by both.
    """

    other: int
    xy: F8
    seen: Flags
    light: float

    @property
    def share(self) -> float:
        """Of the expected stars, those that are seen; NaN for too few."""
        return float(np.mean(self.seen)) if len(self.seen) >= _FEWEST else math.nan


def judge_company(
    measured: Sequence[Measurements], places: Sequence[CelestialWcs], cameras: Sequence[str], log_prior: F8
) -> list[Verdict]:
    """Judge frames of one filter by the stars of those they overlap.

    Parameters
    ----------
    measured : sequence of Measurements
    places : sequence of CelestialWcs
        Where each frame is.
    cameras : sequence of str
        Frames of one camera and exposure are expected to be equally deep.
    log_prior : ndarray, shape (n,)
        ln of the gain that its header lets expect.

    Returns
    -------
    list of Verdict
        "blind": it shows few of the stars that others show; "cloud": it shows them, with hardly any light; "blocked":
        none in a part of it. A good verdict with a reason is a frame that is blocked, too, and kept since no other
        reaches what it shows.

    Notes
    -----
    A frame is blind when it agrees with none. That two frames disagree does not say which is wrong: it is the one that
    shows few stars at all, or the one that the others disagree with.
    """
    views = _look(measured, places, log_prior)
    agreed = [any(view.share >= _AGREE for view in own) for own in views]
    out = [_judge_whole(i, own, agreed, measured, cameras, log_prior) for i, own in enumerate(views)]
    parts = {
        i: why
        for i, own in enumerate(views)
        if out[i].use and (why := _find_lost_part([view for view in own if out[view.other].use and agreed[view.other]]))
    }
    good = [i for i, verdict in enumerate(out) if verdict.use and i not in parts]
    for i, why in parts.items():
        few = len(parts) <= max(_MOST_BLOCKED * len(out), 1)
        spared = few and _covered(places[i], [places[k] for k in good]) >= _COVERED
        out[i] = Verdict("blocked", why) if spared else Verdict("good", why)
    return out


def _look(measured: Sequence[Measurements], places: Sequence[CelestialWcs], log_prior: F8) -> list[list[_View]]:
    """What every frame shows of the stars of those round it."""
    out: list[list[_View]] = [[] for _ in measured]
    for pair in neighbours(places):
        for i, j in (pair, pair[::-1]):
            prior = float(np.exp(log_prior[i] - log_prior[j]))
            out[i].append(_View(j, *_look_at(measured[i], places[i], measured[j], places[j], prior)))
    return out


def _look_at(
    own: Measurements, place: CelestialWcs, other: Measurements, other_place: CelestialWcs, prior: float
) -> tuple[F8, Flags, float]:
    """Places of the stars of `other` that `own` should show, which are seen, and the light."""
    stars, (flux, error) = other.stars, _total(other.stars)
    shown = ~(stars.saturated | stars.blended) & (flux > _SHOWN * error)
    if _is_crowded(other):
        shown = np.zeros_like(shown)
    x, y = place.sky_to_pixel(*other_place.pixel_to_sky(stars.x[shown], stars.y[shown]))
    box = own.valid_box
    inside = (
        (x > box.x0 + _EDGE_PX) & (x < box.x1 - 1 - _EDGE_PX) & (y > box.y0 + _EDGE_PX) & (y < box.y1 - 1 - _EDGE_PX)
    )
    # Where pixels have no weight there is no block: nothing can be seen there.
    blocks = np.column_stack([own.blocks.x, own.blocks.y]).astype(float)
    inside &= _nearest(blocks, np.column_stack([x, y]))[1] < _NEAR_BLOCK * own.blocks.size_px
    xy, flux, error = np.column_stack([x, y])[inside], flux[shown][inside], error[shown][inside]
    if len(xy) == 0:
        return xy, np.zeros(0, bool), math.nan
    own_flux, own_error = _total(own.stars)
    nearest, distance = _nearest(np.column_stack([own.stars.x, own.stars.y]), xy)
    # Of two telescopes the coarser one says how well a place is known.
    seen = distance < TOLERANCE_PX * max(other_place.pixel_scale_arcsec() / place.pixel_scale_arcsec(), 1)
    light = math.nan
    if np.count_nonzero(seen) >= max(_FEWEST_ALIKE, _CHANCE * len(xy)):
        light = float(np.median(own_flux[nearest[seen]] / flux[seen]))
    if len(own.stars) >= _FEWEST_ALIKE:
        noise = float(np.median(own_error))
    else:
        noise = float(np.median(error)) * _noise(own) / _noise(other)
    ratio = light if light > 0 else prior
    expected = flux * ratio > _EXPECTED * noise
    return xy[expected], seen[expected], light


def _is_crowded(measured: Measurements) -> bool:
    """Whether stars stand so near to each other that worse seeing merges them."""
    box = measured.valid_box
    area_px = (box.y1 - box.y0) * (box.x1 - box.x0)
    return len(measured.stars) * np.pi * (3 * measured.fwhm_px) ** 2 > _CROWDED * area_px


def _nearest(places: F8, xy: F8) -> tuple[npt.NDArray[np.int64], F8]:
    """For each of `xy`, shape (n, 2), the number of the nearest of some places and its distance; inf where none is."""
    if len(places) == 0 or len(xy) == 0:
        return np.zeros(len(xy), np.int64), np.full(len(xy), np.inf)
    distance, nearest = scipy.spatial.cKDTree(places).query(xy)
    return np.asarray(nearest, np.int64), np.asarray(distance, float)


def _total(stars: Stars) -> tuple[F8, F8]:
    """Flux of all colours together, and its error."""
    error = np.sqrt(np.sum(np.square(stars.flux_error, dtype=np.float64), axis=0))
    return np.sum(stars.flux, axis=0, dtype=np.float64), error


def _noise(measured: Measurements) -> float:
    return float(np.sqrt(np.mean(measured.noise**2)))


def _judge_whole(
    i: int,
    views: Sequence[_View],
    agreed: Sequence[bool],
    measured: Sequence[Measurements],
    cameras: Sequence[str],
    log_prior: F8,
) -> Verdict:
    """Blind, or hardly any light."""
    asked = [view for view in views if not math.isnan(view.share)]
    if not asked:
        return Verdict()
    best = max(asked, key=lambda view: view.share)
    flux, error = _total(measured[i].stars)
    few = np.count_nonzero(flux > _EXPECTED * error) < _BLIND * len(best.seen)
    if best.share < _BLIND and (few or any(agreed[view.other] for view in asked)):
        return Verdict("blind", message("quality.blind", n_seen=np.count_nonzero(best.seen), n_stars=len(best.seen)))
    thin = [
        _noise(measured[i]) / view.light / _noise(measured[view.other])
        for view in asked
        if view.light > 0
        and agreed[view.other]
        and cameras[i] == cameras[view.other]
        and abs(log_prior[i] - log_prior[view.other]) < _SAME_EXPOSURE
    ]
    if thin and min(thin) > _THIN:
        light = max(view.light for view in asked if view.light > 0)
        return Verdict("cloud", message("quality.cloud-by-company", share=light, noise_ratio=min(thin)))
    return Verdict()


def _find_lost_part(views: Sequence[_View]) -> Message | None:
    """Whether the stars that a frame does not show lie together, with the numbers; None if not."""
    xy, seen = np.zeros((0, 2)), np.zeros(0, bool)
    for view in sorted(views, key=lambda view: -len(view.seen)):
        new = _nearest(xy, view.xy)[1] > TOLERANCE_PX
        xy, seen = np.concatenate([xy, view.xy[new]]), np.concatenate([seen, view.seen[new]])
    if len(xy) < 3 * _NEAREST:
        return None
    nearest = scipy.spatial.cKDTree(xy).query(xy, k=_NEAREST)[1]
    lost = np.count_nonzero(seen[nearest], axis=1) <= 1
    if np.count_nonzero(lost) < max(_LEAST_LOST * len(xy), _NEAREST):
        return None
    return message("quality.blocked", n_lost=np.count_nonzero(lost & ~seen), n_stars=len(xy))


def _covered(place: CelestialWcs, others: Sequence[CelestialWcs]) -> float:
    """Share of a frame that others reach."""
    height, width = place.shape
    x, y = (q.ravel() for q in np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9)))
    sky = place.pixel_to_sky(x, y)
    reached = np.zeros(len(x), bool)
    for other in others:
        ox, oy = other.sky_to_pixel(*sky)
        reached |= (ox >= 0) & (oy >= 0) & (ox <= other.shape[1] - 1) & (oy <= other.shape[0] - 1)
    return float(np.mean(reached))
