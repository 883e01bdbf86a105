"""Measurements of frames of a known sky, made without pixels: the match's truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mosaic_cases import tan_wcs
from zemosaic.model.box import Box
from zemosaic.model.measurements import Blocks, Measurements, Stars
from zemosaic.model.photo_scale import surface_basis
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid

SHAPE = (540, 960)
SCALE = 4.0


def tan_place(shape, ra_deg, dec_deg, scale_arcsec, rotation_deg=0.0):
    """`tan_wcs` as frames and grids have it."""
    return CelestialWcs(tan_wcs(shape, ra_deg, dec_deg, scale_arcsec, rotation_deg), shape)


@dataclass
class Survey:
    """A known sky and frames of it.

    ``value = gain * response * (area / A_ref) * (sky + background)`` at every block, plus noise. Frames lie on a
    square of `n_side`, turned and shifted at random, or upright at `centres` (degrees from the middle).
    """

    seed: int = 1
    n_side: int = 4
    pitch_deg: float = 0.28
    n_stars: int = 1500
    nebula: float = 200.0
    gain_sd: float = 0.1
    offset_sd: float = 200.0
    slope_sd: float = 40.0
    curve_sd: float = 7.0
    noise: float = 0.5
    vignetting: float = 0.0
    coarse_every: int = 0
    common: tuple[float, ...] = ()
    cloud: float = 0.0
    shift_deg: tuple[float, ...] = ()
    centres: tuple[tuple[float, float], ...] = ()

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        size = self.n_side * self.pitch_deg + 1.4
        if self.centres:
            size = 2 * float(np.max(np.abs(self.centres))) + 1.4
        n = int(size * 3600 / SCALE) + 2 * int(max((abs(s) for s in self.shift_deg), default=0) * 3600 / SCALE)
        self.grid = SkyGrid(tan_place((n, n), 50.0, 20.0, SCALE))
        self.star_x, self.star_y = rng.uniform(0, n, (2, self.n_stars))
        self.star_flux = np.minimum(2000 * (rng.pareto(0.9, self.n_stars) + 1), 5e5)
        self.waves = rng.normal(0, 1 / 150, (2, 20)), rng.uniform(0, 2 * np.pi, 20), rng.normal(0, 0.32, 20)
        self.wcs, self.measurements, self.gain, self.surface, self.camera = [], [], [], [], []
        for k in range(len(self.centres) or self.n_side**2):
            i, j = divmod(k, self.n_side)
            shift = self.shift_deg[k % len(self.shift_deg)] if self.shift_deg else 0.0
            at = (np.array([i, j]) + 0.5 - self.n_side / 2 + rng.normal(0, 0.1, 2)) * self.pitch_deg
            turn = rng.uniform(-15, 15)
            if self.centres:
                at, turn = np.array(self.centres[k]), 0.0
            coarse = self.coarse_every and k % self.coarse_every == 0
            shape, scale = ((338, 600), 1.6 * SCALE) if coarse else (SHAPE, SCALE)
            wcs = tan_place(shape, 50.0 + (at[0] + shift) / np.cos(np.deg2rad(20)), 20.0 + at[1], scale, turn)
            self.wcs.append(wcs)
            self.camera.append("coarse" if coarse else "fine")
            self.gain.append(float(np.exp(rng.normal(0, self.gain_sd))))
            surface = np.r_[
                rng.normal(0, self.offset_sd), rng.normal(0, self.slope_sd, 2), rng.normal(0, self.curve_sd, 3)
            ]
            surface[: len(self.common)] += self.common
            surface[0] += self.cloud * (k == 0)
            self.surface.append(surface)
            self.measurements.append(self._measure(rng, wcs, self.gain[-1], surface))

    def sky(self, x, y):
        """The sky at grid pixels: a pedestal and a nebula of many scales."""
        k, phase, amplitude = self.waves
        light = sum(a * np.cos(p * x + q * y + f) for p, q, f, a in zip(*k, phase, amplitude, strict=True))
        return 1000.0 + self.nebula * light

    def response(self, x, y, shape):
        u, v = 2 * (x + 0.5) / shape[1] - 1, 2 * (y + 0.5) / shape[0] - 1
        return np.exp(-self.vignetting * (u**2 + v**2) / 2)

    def _measure(self, rng, wcs, gain, surface):
        height, width = shape = wcs.shape
        size = 16
        bx, by = np.meshgrid(np.arange(width // size) * size + 7.5, np.arange(height // size) * size + 7.5)
        x, y = bx.ravel(), by.ravel()
        gx, gy = self.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
        area = wcs.pixel_area_deg2(x, y) / self.grid.area_ref_deg2
        factor = gain * self.response(x, y, shape) * area
        mean = factor * (self.sky(gx, gy) + surface @ surface_basis(x, y, shape)) + rng.normal(0, self.noise, len(x))
        blocks = Blocks(
            x.astype(np.float32), y.astype(np.float32), mean[None].astype(np.float32),
            np.full((1, len(x)), self.noise, np.float32), size,
        )  # fmt: skip
        stars = self._stars(rng, wcs, gain)
        level = np.array([np.median(mean)])
        noise = np.array([self.noise * size])
        return Measurements(shape, level, noise, noise, Box.of_shape(shape), 2.7, 0.05, stars, blocks)

    def _stars(self, rng, wcs, gain):
        height, width = wcs.shape
        x, y = wcs.sky_to_pixel(*self.grid.wcs.pixel_to_sky(self.star_x, self.star_y))
        inside = (x > 10) & (y > 10) & (x < width - 10) & (y < height - 10)
        x, y, flux = x[inside], y[inside], self.star_flux[inside]
        error = np.full(len(x), 80.0)
        flux = gain * self.response(x, y, wcs.shape) * flux * np.exp(rng.normal(0, 0.002, len(x)))
        flux = flux + rng.normal(0, 80.0, len(x))
        order = np.argsort(-flux)
        x, y, flux = x[order] + rng.normal(0, 0.05, len(x)), y[order] + rng.normal(0, 0.05, len(x)), flux[order]
        narrow = flux.astype(np.float32)
        return Stars(
            x, y, narrow[None], error[None].astype(np.float32), 1.02 * narrow[None], narrow / 8,
            np.full(len(x), 2.7, np.float32), np.full(len(x), 0.05, np.float32), np.zeros(len(x), bool),
            np.zeros(len(x), bool),
        )  # fmt: skip

    def log_gain_error(self, solution):
        """ln of found over true gain, the mean of each component taken out."""
        error = np.log([s.gain[0] for s in solution.scales]) - np.log(self.gain)
        component = np.array([s.component for s in solution.scales])
        for c in np.unique(component):
            error[component == c] -= error[component == c].mean()
        return error

    def sky_error(self, solution, least_depth=2):
        """What a mosaic of the corrected frames would be off by, on a lattice that so many frames or more reach.

        Returns grid x, y and the error; the gains' common factor is taken out.
        """
        n = self.grid.shape[0]
        x, y = np.meshgrid(np.arange(0, n, 30.0), np.arange(0, n, 30.0))
        ra, dec = self.grid.wcs.pixel_to_sky(x, y)
        scale = np.exp(np.mean(np.log([s.gain[0] for s in solution.scales]) - np.log(self.gain)))
        total, count = np.zeros(x.shape), np.zeros(x.shape, int)
        for wcs, gain, surface, found in zip(self.wcs, self.gain, self.surface, solution.scales, strict=True):
            shape = wcs.shape
            px, py = wcs.sky_to_pixel(ra, dec)
            inside = (px > 10) & (py > 10) & (px < shape[1] - 10) & (py < shape[0] - 10)
            px, py = px[inside], py[inside]
            response = self.response(px, py, shape) / found.response_at(px, py, shape)[0]
            true = self.sky(x[inside], y[inside]) + surface @ surface_basis(px, py, shape)
            seen = gain * scale / found.gain[0] * response * true - scale * found.surface_at(px, py, shape)[0]
            total[inside] += seen - self.sky(x[inside], y[inside])
            count[inside] += 1
        known = count >= least_depth
        return x[known], y[known], total[known] / count[known]


def without_trend(x, y, value, degree):
    """`value` minus its best polynomial of the given degree."""
    u, v = (x - x.mean()) / np.ptp(x), (y - y.mean()) / np.ptp(y)
    terms = np.stack([u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)], axis=1)
    return value - terms @ np.linalg.lstsq(terms, value, rcond=None)[0]
