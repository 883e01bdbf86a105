"""What the joint adjustment adjusts: tangent points, matrices, distortions; and its noise model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.sky.celestial import unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip, fit_tan_sip, plane_to_sky, powers_of_degrees, sky_to_plane
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.refine.equations import Change, Equations

__all__ = ["ARCSEC", "AstrometricState", "Noise", "find_leftovers", "local_axes", "start_state"]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

ARCSEC = 3600 * 180 / np.pi
"""Arcseconds in a radian."""

_CAUCHY = 2.4
"""Errors at which a star's weight is halved: keeps 95 % of what Gaussian residuals tell."""


def local_axes(place: Array) -> tuple[Array, Array]:
    """East and north unit vectors at unit vectors, all of shape ``(n, 3)``."""
    x, y, z = place.T
    across = np.maximum(np.hypot(x, y), 1e-12)
    east = np.stack([-y / across, x / across, np.zeros_like(x)], axis=1)
    return east, np.stack([-z * x / across, -z * y / across, across], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class AstrometricState:
    """Plates of all frames in the form that is adjusted.

    A pixel at ``d`` from the middle of its camera's field lies on its frame's tangent
    plane at ``cd (d + D(d / half))``, with D the camera's polynomial.

    Attributes
    ----------
    ra_deg, dec_deg : ndarray, shape (n_frames,)
        Tangent points, at the middle of the field.
    cd, start_cd : ndarray, shape (n_frames, 2, 2)
        Arcsec per pixel, now and before the adjustment.
    camera_of_frame : ndarray of int, shape (n_frames,)
    middle, half : ndarray, shapes (n_cameras, 2), (n_cameras,)
        Middle of the field and half its diagonal, pixels.
    order : int
        Degree of the distortion.
    coefficients : ndarray, shape (n_cameras, 2, n_terms)
        Of D over `powers_of_degrees` (2, order), pixels at the corner.
    mean_shear : ndarray, shape (n_cameras, 2)
        Common departure of the matrices from a similarity.
    """

    ra_deg: Array
    dec_deg: Array
    cd: Array
    start_cd: Array
    camera_of_frame: Index
    middle: Array
    half: Array
    order: int
    coefficients: Array
    mean_shear: Array

    @property
    def scale_arcsec(self) -> float:
        """Median pixel scale."""
        return float(np.median(self.frame_scale_arcsec()))

    def frame_scale_arcsec(self) -> Array:
        """Pixel scale of each frame."""
        return np.asarray(np.sqrt(np.abs(np.linalg.det(self.cd))))

    def project(self, frame: Index, xy: Array) -> tuple[Array, Array, Array]:
        """``(1, u, v)`` with distortion, the distortion's terms, and tangent-plane positions (arcsec) of pixels."""
        camera = self.camera_of_frame[frame]
        half = self.half[camera][:, None]
        u, v = ((xy - self.middle[camera]) / half).T
        basis = np.empty((len(xy), self.coefficients.shape[2]))
        for j, (p, q) in enumerate(powers_of_degrees(2, self.order)):
            basis[:, j] = u**p * v**q
        shift = np.einsum("naj,nj->na", self.coefficients[camera], basis)
        true = xy - self.middle[camera] + shift
        linear = np.concatenate([np.ones((len(xy), 1)), true / half], axis=1)
        return linear, basis, np.einsum("nab,nb->na", self.cd[frame], true)

    def _frame_axes(self, frame: Index) -> tuple[Array, Array, Array]:
        outward = unit_vectors(self.ra_deg, self.dec_deg)
        east, north = local_axes(outward)
        return east[frame], north[frame], outward[frame]

    def vectors(self, frame: Index, xy: Array) -> Array:
        """Unit vectors of pixels."""
        plane = self.project(frame, xy)[2] / ARCSEC
        east, north, outward = self._frame_axes(frame)
        v = outward + plane[:, :1] * east + plane[:, 1:] * north
        return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))

    def project_stars(self, frame: Index, place: Array) -> tuple[Array, Array]:
        """Tangent-plane positions (arcsec) of stars in frames, and how they follow the stars' (east, north)."""
        axes = self._frame_axes(frame)
        depth = np.sum(place * axes[2], axis=1)
        plane = np.stack([np.sum(place * axis, axis=1) for axis in axes[:2]], axis=1) / depth[:, None]
        effect = np.empty((len(frame), 2, 2))
        for i, own in enumerate(local_axes(place)):
            along = np.sum(own * axes[2], axis=1)
            for a in range(2):
                effect[:, a, i] = (np.sum(own * axes[a], axis=1) - plane[:, a] * along) / depth
        return plane * ARCSEC, effect

    def shear_equations(self) -> tuple[Array, Array]:
        """How a frame's two shear numbers follow its (u, v) terms, and their present values.

        With ``G = cd^T cd = s^2 (1 + 2 E)`` and E traceless, the numbers are ``E_xx`` and ``E_xy``: free of
        rotation, scale and parity.
        """
        (a, b), (c, d) = np.moveaxis(self.cd, 0, 2)
        trace = a * a + b * b + c * c + d * d
        half = self.half[self.camera_of_frame]
        effect = np.stack([np.stack([a, -b, c, -d]), np.stack([b, a, d, c])]) / (trace * half)
        value = np.stack([(a * a + c * c - b * b - d * d) / (2 * trace), (a * b + c * d) / trace], axis=1)
        return np.moveaxis(effect, 2, 0), value

    def matrix_drift(self) -> Array:
        """Change (axis; 1, u, v) that would bring each frame's matrix back to its start, arcsec."""
        half = self.half[self.camera_of_frame][:, None, None]
        return np.concatenate([np.zeros((len(self.cd), 2, 1)), (self.start_cd - self.cd) * half], axis=2)

    def camera_numbers(self) -> Array:
        """Distortion and mean shear of each camera as one row."""
        return np.concatenate([self.coefficients.reshape(len(self.half), -1), self.mean_shear], axis=1)

    def camera_sigma(self) -> Array:
        """Width of the prior of `camera_numbers`.

        The distortion's own size, once it is known, keeps terms that the stars do not determine from running away.
        """
        n_terms = self.coefficients[0].size
        size = np.sqrt((self.coefficients**2).mean(axis=(1, 2))) if n_terms else np.zeros(len(self.half))
        width = np.where(size > 0, np.maximum(2 * size, 0.1), 5.0)
        return np.concatenate([np.repeat(width[:, None], n_terms, 1), np.full((len(self.half), 2), 0.01)], axis=1)

    def moved(self, change: Change) -> AstrometricState:
        """The state after a change; each tangent point follows the middle of its field."""
        n_numbers = self.coefficients[0].size
        half = self.half[self.camera_of_frame][:, None, None]
        cd = self.cd + change.frame[:, :, 1:] / half
        shift = change.frame[:, :, 0]
        ra, dec, turned = np.empty_like(self.ra_deg), np.empty_like(self.dec_deg), np.empty_like(cd)
        for k in range(len(ra)):
            # The middle and a step along each pixel axis, seen from the new tangent point.
            steps = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * half[k, 0, 0]
            sky = plane_to_sky((steps @ cd[k].T + shift[k]) / 3600, self.ra_deg[k], self.dec_deg[k])
            ra[k], dec[k] = sky[0][0], sky[1][0]
            turned[k] = (sky_to_plane(*sky, ra[k], dec[k])[1:] * 3600 / half[k, 0, 0]).T
        coefficients = self.coefficients + change.camera[:, :n_numbers].reshape(self.coefficients.shape)
        mean_shear = self.mean_shear + change.camera[:, n_numbers:]
        return replace(self, ra_deg=ra, dec_deg=dec, cd=turned, coefficients=coefficients, mean_shear=mean_shear)

    def plates(self) -> list[TanSip]:
        """The plates that this state stands for."""
        order = self.order if self.order >= 2 else 0
        powers = powers_of_degrees(2, order)
        result = []
        for k, camera in enumerate(self.camera_of_frame):
            unit = np.array([self.half[camera] ** (p + q - 1) for p, q in powers])
            sip = self.coefficients[camera] / self.half[camera] / unit if order else np.zeros((2, 0))
            crpix = (float(self.middle[camera, 0]), float(self.middle[camera, 1]))
            result.append(TanSip(float(self.ra_deg[k]), float(self.dec_deg[k]), crpix, self.cd[k] / 3600, order, sip))
        return result


def start_state(fields: Sequence[StarField], plates: Sequence[TanSip], order: int) -> AstrometricState:
    """State from any plates; a camera's distortion begins as the mean of its frames' own."""
    order = max(order, 1)
    keys = [(field.camera, field.shape) for field in fields]
    cameras = sorted(set(keys))
    camera_of_frame = np.array([cameras.index(key) for key in keys], np.int64)
    own = [fit_tan_sip(plate.pixel_to_sky, field.shape, order) for field, plate in zip(fields, plates, strict=True)]
    half = np.array([float(np.hypot(*shape)) / 2 for _, shape in cameras])
    unit = [(p + q) for p, q in powers_of_degrees(2, order)]
    coefficients = np.zeros((len(cameras), 2, len(unit)))
    for k in range(len(cameras)):
        sips = [plate.sip for plate, camera in zip(own, camera_of_frame, strict=True) if camera == k]
        coefficients[k] = np.mean(sips, axis=0) * half[k] ** np.array(unit, float)
    cd = np.array([plate.cd * 3600 for plate in own])
    return AstrometricState(
        np.array([plate.ra_deg for plate in own]),
        np.array([plate.dec_deg for plate in own]),
        cd,
        cd,
        camera_of_frame,
        np.array([[(shape[1] - 1) / 2, (shape[0] - 1) / 2] for _, shape in cameras]),
        half,
        order,
        coefficients,
        np.zeros((len(cameras), 2)),
    )


def find_leftovers(eq: Equations, change: Change) -> tuple[Array, Array]:
    """Residuals (arcsec) of observations, shape (n, 2), and of catalogue stars, shape (m, 2), after a change."""
    model = np.einsum("naj,nj->na", change.frame[eq.frame_of], eq.linear)
    model += np.einsum("naj,nj->na", eq.camera, change.camera[eq.camera_of])
    model -= np.einsum("nai,ni->na", eq.star, change.star[eq.star_of])
    return eq.residual - model, eq.known_offset - change.star[eq.known_star]


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Errors of one coordinate, arcsec.

    Attributes
    ----------
    plain_sigma : ndarray, shape (n,)
        Of observations, from their brightness.
    sigma : ndarray, shape (n,)
        The same widened for outliers: Cauchy weights.
    known_error : float
        Of the catalogue, as it says.
    known_sigma : ndarray, shape (m,)
        The same widened for stars that moved.
    """

    plain_sigma: Array
    sigma: Array
    known_error: float
    known_sigma: Array

    @classmethod
    def start(cls, n: int, n_known: int, sigma: float, known_error: float) -> Noise:
        """Equal errors."""
        return cls(np.full(n, sigma), np.full(n, sigma), known_error, np.full(n_known, known_error))

    def measured(self, left: Array, known_left: Array, brightness: Array) -> Noise:
        """Errors from residuals: a median spread in bins of brightness, then robust weights."""
        n_bins = int(np.clip(len(left) // 50, 1, 8))
        parts = np.array_split(np.argsort(brightness, kind="stable"), n_bins)
        centre = np.array([np.median(np.log(brightness[part])) for part in parts])
        sigma = np.array([mad_sigma(left[part], 0) for part in parts])
        floor = max(0.15 * float(np.median(np.abs(left))), 1e-4)
        plain = np.maximum(np.interp(np.log(brightness), centre, sigma), floor)
        distance = np.hypot(*left.T) / plain
        known_distance = np.hypot(*known_left.T) / self.known_error
        return Noise(
            plain,
            plain * np.sqrt(1 + (distance / _CAUCHY) ** 2),
            self.known_error,
            self.known_error * np.sqrt(1 + (known_distance / _CAUCHY) ** 2),
        )
