"""Frames into groups, each of which becomes one master tile: by pointing, and by whatever else the settings ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.frame import Frame
from zemosaic.model.sky.celestial import CelestialWcs, ra_dec_of, unit_vectors
from zemosaic.settings import GroupKey
from zemosaic.text import Message, message

__all__ = [
    "TileGroup",
    "describe_plan",
    "group_frames",
    "position_angle_deg",
    "turn_deg",
]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAST_FRAMES = 5
"""A smaller group cannot tell an outlier by itself: it joins its nearest neighbour, where one is near."""

NIGHT_GAP_S = 4 * 3600.0
"""A pause this long begins another night."""

ANGLE_GAP_DEG = 10.0
"""Position angles that leave out this much belong to different groups."""


@dataclass(frozen=True, slots=True)
class TileGroup:
    """The frames of one master tile.

    Attributes
    ----------
    number : int
        Place in the plan, from 1; groups are sorted by declination, then right ascension, of their centre.
    members : tuple of int
        Indices of the frames, in the order of their ids.
    ra_deg, dec_deg : float
        Mean direction of the frames' centres, ICRS.
    turn_deg : float
        Range of the frames' position angles (`turn_deg`).
    label : str
        What else these frames have in common ("night 2, altaz"); "" where only the pointing counts.
    """

    number: int
    members: tuple[int, ...]
    ra_deg: float
    dec_deg: float
    turn_deg: float
    label: str = ""


def group_frames(frames: Sequence[Frame], places: Sequence[CelestialWcs], key: GroupKey) -> list[TileGroup]:
    """Put every frame into exactly one group.

    Parameters
    ----------
    frames : sequence of Frame
    places : sequence of CelestialWcs
        The WCS of each.
    key : GroupKey
        Radius, and what else splits groups.

    Returns
    -------
    list of TileGroup
        The same for any order of the frames; sizes follow from the sky and `key` alone.

    Notes
    -----
    The pointing with most others within the radius founds a group, then the next among those left; every frame then
    goes to the nearest founder. Distances are chords between unit vectors, so neither RA 0h nor a pole is special.
    """
    order = sorted(range(len(frames)), key=lambda i: frames[i].id)
    vectors = np.array([_center(places[i]) for i in order]).reshape(-1, 3)
    angles = np.array([position_angle_deg(places[i]) for i in order])
    labels = _labels([frames[i] for i in order], angles, key.split)
    groups: list[TileGroup] = []
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.array([name == label for name in labels]))
        field_deg = float(np.median([_shorter_side_deg(places[order[row]]) for row in rows]))
        for part in _by_pointing(vectors[rows], np.deg2rad(key.radius * field_deg)):
            inside = rows[part]
            ra, dec = ra_dec_of(vectors[inside].mean(axis=0))
            members = tuple(order[row] for row in inside)
            groups.append(TileGroup(0, members, float(ra), float(dec), turn_deg(angles[inside]), label))
    groups.sort(key=lambda g: (round(g.dec_deg, 6), round(g.ra_deg, 6), g.label))
    return [
        TileGroup(number, g.members, g.ra_deg, g.dec_deg, g.turn_deg, g.label) for number, g in enumerate(groups, 1)
    ]


def describe_plan(groups: Sequence[TileGroup]) -> list[Message]:
    """The plan in words, one line a group."""
    return [
        message(
            "tiles.plan",
            number=g.number, n_frames=len(g.members), ra_deg=g.ra_deg, dec_deg=g.dec_deg, turn_deg=g.turn_deg,
            label=message("tiles.plan-label", label=g.label) if g.label else None,
        )
        for g in groups
    ]  # fmt: skip


def position_angle_deg(wcs: CelestialWcs) -> float:
    """Position angle of an image's y axis at its centre, degrees east of north, 0 to 360.

    At a celestial pole north is where the image's RA 0h meridian points: differences between images stay right.
    """
    x, y = (wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2
    here, up = (unit_vectors(*wcs.pixel_to_sky(x, y + step)) for step in (0.0, 1.0))
    along = up - here
    # On the plane of the sky that touches RA and Dec of the centre; within a second of arc of a pole RA means nothing.
    ra = np.arctan2(here[1], here[0]) if np.hypot(here[0], here[1]) > 5e-6 else 0.0
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(here, east)
    return float(np.rad2deg(np.arctan2(along @ east, along @ north)) % 360)


def turn_deg(angles_deg: npt.ArrayLike) -> float:
    """The smallest arc that holds all angles, degrees."""
    angles = np.sort(np.asarray(angles_deg, float) % 360)
    gaps = np.diff(angles, append=angles[:1] + 360)
    return float(360 - gaps.max()) if len(angles) > 1 else 0.0


def _center(wcs: CelestialWcs) -> Array:
    return unit_vectors(*wcs.pixel_to_sky((wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2))


def _shorter_side_deg(wcs: CelestialWcs) -> float:
    return min(wcs.shape) * wcs.pixel_scale_arcsec() / 3600


def _by_pointing(vectors: Array, radius_rad: float) -> list[Ints]:
    """Rows of each group, in the order of the rows."""
    chord = 2 * np.sin(radius_rad / 2)
    tree = scipy.spatial.cKDTree(vectors)
    crowd = tree.query_ball_point(vectors, chord, return_length=True)
    free = np.ones(len(vectors), bool)
    founders = []
    for row in np.argsort(-crowd, kind="stable"):
        if free[row]:
            founders.append(row)
            free[tree.query_ball_point(vectors[row], chord)] = False
    nearest = scipy.spatial.cKDTree(vectors[founders]).query(vectors)[1]
    parts = [np.flatnonzero(nearest == k) for k in range(len(founders))]
    return _join_small([part for part in parts if len(part)], vectors, 2 * chord)


def _join_small(parts: list[Ints], vectors: Array, reach: float) -> list[Ints]:
    """Groups too small to reject outliers joined to the nearest other one within `reach`."""
    while len(parts) > 1:
        middles = np.array([vectors[part].mean(axis=0) for part in parts])
        small = sorted((len(part), k) for k, part in enumerate(parts) if len(part) < LEAST_FRAMES)
        for _, k in small:
            distance = np.linalg.norm(middles - middles[k], axis=1)
            distance[k] = np.inf
            if distance.min() <= reach:
                other = int(np.argmin(distance))
                parts[other] = np.sort(np.concatenate([parts[other], parts[k]]))
                del parts[k]
                break
        else:
            break
    return parts


def _labels(frames: Sequence[Frame], angles: Array, split: frozenset[str]) -> list[str]:
    """What frames of one group must share besides their pointing."""
    columns: list[list[str]] = []
    if "filter" in split:
        columns.append([f"filter {frame.decided.filter or 'none'}" for frame in frames])
    if "mount" in split:
        columns.append([frame.decided.mount or "mount unknown" for frame in frames])
    if "night" in split:
        seconds = np.array([frame.header.time_s for frame in frames])
        columns.append([f"night {k}" if k else "undated" for k in _runs(seconds, NIGHT_GAP_S)])
    if "angle" in split:
        columns.append([f"angle {k}" for k in _arcs(angles)])
    return [", ".join(words) for words in zip(*columns, strict=True)] if columns else [""] * len(frames)


def _runs(values: Array, gap: float) -> Ints:
    """Number of the run, from 1, that each value lies in: sorted values with no gap between; 0 for NaN."""
    numbers = np.zeros(len(values), np.int64)
    rows = np.flatnonzero(np.isfinite(values))
    rows = rows[np.argsort(values[rows], kind="stable")]
    numbers[rows] = 1 + np.concatenate([[0], np.cumsum(np.diff(values[rows]) > gap)])[: len(rows)]
    return numbers


def _arcs(angles: Array) -> Ints:
    """Number of the arc, from 1, that each angle lies in; the circle is cut in its widest gap."""
    ordered = np.sort(angles % 360)
    gaps = np.diff(ordered, append=ordered[:1] + 360)
    first = ordered[(int(np.argmax(gaps)) + 1) % len(ordered)]
    return _runs((angles - first) % 360, ANGLE_GAP_DEG)
