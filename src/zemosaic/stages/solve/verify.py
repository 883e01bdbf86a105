"""From a hypothesis about a frame's pointing to a fitted plate with its chance probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.tan_sip import sky_to_plane

__all__ = ["PlateFit", "SkyPlane", "fit_plate", "log_chance_of", "match_nearest"]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

_LOG_FLOOR = -300.0
"""Chances below the smallest float are told as this one."""


class SkyPlane:
    """Catalogue stars on the tangent plane of one point.

    Attributes
    ----------
    ra_deg, dec_deg : float
        The tangent point.
    xy : ndarray, shape (n, 2)
        East and north, arcsec; in the catalogue's order, brightest first.
    error_arcsec : float
        Error of one coordinate.
    tree : scipy.spatial.cKDTree
        Over `xy`.
    """

    def __init__(self, stars: CatalogueStars, ra_deg: float, dec_deg: float) -> None:
        self.ra_deg, self.dec_deg = ra_deg, dec_deg
        self.stars = stars
        self.xy = sky_to_plane(stars.ra_deg, stars.dec_deg, ra_deg, dec_deg) * 3600
        self.error_arcsec = stars.error_arcsec
        self.tree = scipy.spatial.cKDTree(self.xy)


@dataclass(frozen=True, slots=True, eq=False)
class PlateFit:
    """A linear plate fitted to matched stars.

    Attributes
    ----------
    linear : ndarray, shape (2, 3)
        ``[xi, eta] = linear @ [x, y, 1]``: pixels from the frame's centre -> arcsec on the plane.
    star, ref : ndarray of int, shape (k,)
        Matched stars of the frame and of the catalogue.
    rms_arcsec : float
        Root mean square distance of the matched stars.
    log_chance : float
        See `log_chance_of`.
    """

    linear: Array
    star: Index
    ref: Index
    rms_arcsec: float
    log_chance: float

    def apply(self, xy: Array) -> Array:
        """Plane positions of pixel positions from the frame's centre, both of shape ``(n, 2)``."""
        return np.asarray(xy @ self.linear[:, :2].T + self.linear[:, 2])


def match_nearest(points: Array, tree: scipy.spatial.cKDTree, radius: float) -> tuple[Index, Index, Array]:
    """One-to-one matches: every point with its nearest reference, the closest point where several claim it.

    Returns
    -------
    point, ref : ndarray of int, shape (k,)
        Matched rows.
    distance : ndarray, shape (k,)
    """
    distance, ref = (np.asarray(column) for column in tree.query(points, distance_upper_bound=radius))
    point = np.flatnonzero(np.isfinite(distance))
    point = point[np.argsort(distance[point], kind="stable")]
    _, first = np.unique(ref[point], return_index=True)
    point = point[first]
    return point, ref[point], distance[point]


def log_chance_of(
    distances: Array, n_tried: int, n_refs: int, field_area: float, floor: float, n_used: int = 2
) -> float:
    """Log10 of the chance that one wrong pointing matches as well.

    Parameters
    ----------
    distances : ndarray, shape (k,)
        Of the matched stars from their catalogue stars.
    n_tried : int
        Stars of the frame that were tried.
    n_refs : int
        Catalogue stars inside the frame.
    field_area : float
        Of the frame, in the square of the unit of `distances`.
    floor : float
        Smallest distance that counts as different from zero.
    n_used : int
        Matches that the pointing itself was made from: 2 for the four numbers of a similarity.

    Notes
    -----
    The other matches are a binomial count: each of the remaining ``n_tried - n_used`` stars
    falls within r of a catalogue star with probability ``n_refs pi r^2 / field_area``. The
    least likely count over all r is taken, times the number of radii looked at.
    """
    k = len(distances)
    if k <= n_used:
        return 0.0
    counts = np.arange(n_used + 1, k + 1)
    radius = np.maximum(np.sort(distances)[n_used:], floor)
    p = np.minimum(n_refs * np.pi * radius**2 / field_area, 1.0)
    chance = float(np.min(scipy.special.bdtrc(counts - n_used - 1, max(n_tried, k) - n_used, p))) * len(counts)
    return min(max(float(np.log10(chance)), _LOG_FLOOR), 0.0) if chance > 0 else _LOG_FLOOR


def fit_plate(
    stars: Array, linear: Array, plane: SkyPlane, shape: tuple[int, int], radius_arcsec: float, n_affine: int = 10
) -> PlateFit | None:
    """Match, fit, and match again with a shrinking radius.

    Parameters
    ----------
    stars : ndarray, shape (m, 2)
        The frame's stars, pixels from its centre.
    linear : ndarray, shape (2, 3)
        Start: see `PlateFit.linear`.
    plane : SkyPlane
        Catalogue stars.
    shape : tuple of int
        ``(height, width)`` of the frame.
    radius_arcsec : float
        Match radius of the start.
    n_affine : int
        Matches from which on a full linear fit (6 numbers) replaces the similarity (4).

    Returns
    -------
    PlateFit or None
        None when fewer than 3 stars match.
    """
    radius = radius_arcsec
    last: tuple[Index, Index] | None = None
    affine = False
    for _ in range(10):
        point, ref, _distance = match_nearest(stars @ linear[:, :2].T + linear[:, 2], plane.tree, radius)
        if len(point) < 3:
            return None
        if last is not None and np.array_equal(point, last[0]) and np.array_equal(ref, last[1]):
            # Only settled matches may bend the plate: a wide search with more freedom follows any clump of stars.
            if affine or len(point) < n_affine:
                break
            affine = True
        last = point, ref
        handedness = float(np.linalg.det(linear[:, :2]))
        linear = _fit_linear(stars[point], plane.xy[ref], affine, handedness)
        distance = np.hypot(*(plane.xy[ref] - (stars[point] @ linear[:, :2].T + linear[:, 2])).T)
        scale = float(np.sqrt(abs(np.linalg.det(linear[:, :2]))))
        # The median is the spread of the true matches even while a few false ones are still among them.
        radius = min(radius, max(1.5 * scale, 5 * plane.error_arcsec, 3.6 * float(np.median(distance))))
    n_refs = _count_inside(linear, plane, shape)
    chance = log_chance_of(distance, len(stars), n_refs, shape[0] * shape[1] * scale**2, 0.5 * scale)
    return PlateFit(linear, point, ref, float(np.sqrt((distance**2).mean())), chance)


def _count_inside(linear: Array, plane: SkyPlane, shape: tuple[int, int]) -> int:
    """Catalogue stars inside the frame."""
    half = np.array([shape[1], shape[0]]) / 2
    corner = np.abs(linear[:, :2]) @ half
    near = plane.tree.query_ball_point(linear[:, 2], float(np.hypot(*corner)))
    xy = (plane.xy[near] - linear[:, 2]) @ np.linalg.inv(linear[:, :2]).T
    return int(np.sum((np.abs(xy) <= half).all(axis=1)))


def _fit_linear(xy: Array, target: Array, affine: bool, sign: float) -> Array:
    """Least-squares linear map; a similarity of the given handedness unless `affine`."""
    middle, goal = xy.mean(axis=0), target.mean(axis=0)
    a, b = xy - middle, target - goal
    if affine:
        matrix = np.linalg.lstsq(a, b, rcond=None)[0].T
    else:
        parity = 1.0 if sign > 0 else -1.0
        z, w = a[:, 0] + 1j * parity * a[:, 1], b[:, 0] + 1j * b[:, 1]
        c = np.vdot(z, w) / np.vdot(z, z).real
        matrix = np.array([[c.real, -parity * c.imag], [c.imag, parity * c.real]])
    return np.column_stack([matrix, goal - matrix @ middle])
