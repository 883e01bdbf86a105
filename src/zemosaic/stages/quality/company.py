"""What frames say of each other: a frame that does not show the stars which others show where it lies is a bad one.

A frame may be sharp, dark and well exposed and yet be wrong: clouded to the last star, half behind a roof, moved while
it was exposed. Neither its sky nor its own stars tell that as surely as the frames that overlap it, and a few of those
are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.quality.dimmed import find_dimmed_parts
from zemosaic.stages.quality.triage import Verdict
from zemosaic.stages.quality.views import EXPECTED, View, find_nearest, look_at_each_other, typical_noise, whole_light
from zemosaic.stages.solve.coincide import TOLERANCE_PX
from zemosaic.text import Message, message

__all__ = ["judge_company", "share_covered"]

F8 = npt.NDArray[np.float64]

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

_COVERED = 0.8
"""Share of a frame that others must cover before it is left out for a part of it."""

_MOST_BLOCKED = 0.25
"""Share of the frames that can be blocked: were it more, the frames are of two kinds and none is wrong."""


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
        none in a part of it, or with less light there than in the rest. A good verdict with a reason is a frame that is
        blocked, too, and kept since no other reaches what it shows.

    Notes
    -----
    A frame is blind when it agrees with none. That two frames disagree does not say which is wrong: it is the one that
    shows few stars at all, or the one that the others disagree with.
    """
    views = look_at_each_other(measured, places, log_prior)
    agreed = [any(view.share >= _AGREE for view in own) for own in views]
    out = [_judge_whole(i, own, agreed, measured, cameras, log_prior) for i, own in enumerate(views)]
    trusted = [
        [view for view in own if out[i].use and out[view.other].use and agreed[view.other]]
        for i, own in enumerate(views)
    ]
    dimmed = find_dimmed_parts(trusted, [m.shape for m in measured], cameras)
    parts = {i: why for i, own in enumerate(trusted) if (why := _find_lost_part(own) or dimmed[i])}
    good = [i for i, verdict in enumerate(out) if verdict.use and i not in parts]
    for i, why in parts.items():
        few = len(parts) <= max(_MOST_BLOCKED * len(out), 1)
        spared = few and share_covered(places[i], [places[k] for k in good]) >= _COVERED
        out[i] = Verdict("blocked", why) if spared else Verdict("good", why)
    return out


def _judge_whole(
    i: int,
    views: Sequence[View],
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
    flux, error = whole_light(measured[i].stars)
    few = np.count_nonzero(flux > EXPECTED * error) < _BLIND * len(best.seen)
    if best.share < _BLIND and (few or any(agreed[view.other] for view in asked)):
        return Verdict("blind", message("quality.blind", n_seen=np.count_nonzero(best.seen), n_stars=len(best.seen)))
    thin = [
        typical_noise(measured[i]) / view.light / typical_noise(measured[view.other])
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


def _find_lost_part(views: Sequence[View]) -> Message | None:
    """Whether the stars that a frame does not show lie together, with the numbers; None if not."""
    xy, seen = np.zeros((0, 2)), np.zeros(0, bool)
    for view in sorted(views, key=lambda view: -len(view.seen)):
        new = find_nearest(xy, view.xy)[1] > TOLERANCE_PX
        xy, seen = np.concatenate([xy, view.xy[new]]), np.concatenate([seen, view.seen[new]])
    if len(xy) < 3 * _NEAREST:
        return None
    nearest = scipy.spatial.cKDTree(xy).query(xy, k=_NEAREST)[1]
    lost = np.count_nonzero(seen[nearest], axis=1) <= 1
    if np.count_nonzero(lost) < max(_LEAST_LOST * len(xy), _NEAREST):
        return None
    return message("quality.blocked", n_lost=np.count_nonzero(lost & ~seen), n_stars=len(xy))


def share_covered(place: CelestialWcs, others: Sequence[CelestialWcs]) -> float:
    """Share of a frame that others reach, 0 to 1, by 9 x 9 places of it."""
    height, width = place.shape
    x, y = (q.ravel() for q in np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9)))
    sky = place.pixel_to_sky(x, y)
    reached = np.zeros(len(x), bool)
    for other in others:
        ox, oy = other.sky_to_pixel(*sky)
        reached |= (ox >= 0) & (oy >= 0) & (ox <= other.shape[1] - 1) & (oy <= other.shape[0] - 1)
    return float(np.mean(reached))
