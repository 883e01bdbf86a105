"""Tiles of a known sky with planted gains, offsets and gradients."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter

from zemosaic.model.box import Box
from zemosaic.model.photo_scale import surface_basis
from zemosaic.settings import MeasureSettings
from zemosaic.stages.measure.frame import measure_frame
from zemosaic.stages.survey.photometry import TilePhotometryInfo


@dataclass
class TiledSky:
    """``tile = gain * (sky + surface) + noise`` on a regular grid of overlapping boxes."""

    seed: int = 1
    n_y: int = 4
    n_x: int = 4
    size: int = 320
    overlap: int = 96
    sigma: float = 10.0
    stars_per_mpix: float = 600
    gains: tuple[float, float] = (0.7, 1.4)
    offsets: float = 300.0
    slopes: float = 40.0
    tiles: list[TilePhotometryInfo] = field(default_factory=list)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        pitch = self.size - self.overlap
        self.shape = (pitch * self.n_y + self.overlap, pitch * self.n_x + self.overlap)
        self.sky = self._make_sky(rng)
        n = self.n_y * self.n_x
        self.boxes = [
            Box(j * pitch, j * pitch + self.size, i * pitch, i * pitch + self.size)
            for j in range(self.n_y)
            for i in range(self.n_x)
        ]
        self.gain = np.exp(rng.uniform(*np.log(self.gains), n))
        self.surface = np.column_stack([
            rng.uniform(-self.offsets, self.offsets, n), rng.uniform(-self.slopes, self.slopes, (n, 2))
        ])  # fmt: skip
        y, x = np.mgrid[: self.size, : self.size]
        terms = surface_basis(x, y, (self.size, self.size), 1)
        for k, box in enumerate(self.boxes):
            clean = self.sky[box.slices] + np.tensordot(self.surface[k], terms, 1)
            data = self.gain[k] * clean + rng.normal(0, self.sigma, clean.shape)
            self.tiles.append(TilePhotometryInfo(k, box, data[None].astype(np.float32), np.ones(box.shape, bool)))

    def _make_sky(self, rng):
        n = int(self.stars_per_mpix * self.shape[0] * self.shape[1] / 1e6)
        points = np.zeros(self.shape)
        at = tuple(rng.integers(0, s, n) for s in self.shape)
        np.add.at(points, at, 3e3 * (rng.pareto(1.2, n) + 1).clip(max=100))
        nebula = gaussian_filter(rng.normal(0, 1, self.shape), 40, mode="wrap")
        return gaussian_filter(points, 1.4) + 1000 + 60 * nebula / nebula.std()

    def measure(self):
        settings = MeasureSettings()
        return [measure_frame(t.data, np.ones_like(t.data), settings) for t in self.tiles]

    def corrected(self, scales):
        """Tiles after the correction, on their boxes."""
        out = []
        for tile, scale in zip(self.tiles, scales, strict=True):
            y, x = np.mgrid[: tile.bbox.height, : tile.bbox.width]
            out.append(tile.data / scale.gain[:, None, None] - scale.surface_at(x, y, tile.bbox.shape))
        return out


def without_polynomial(values, boxes, degree):
    """Numbers of tiles less the best polynomial of their places."""
    centre = np.array([[(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2] for b in boxes])
    centre = (centre - centre.mean(axis=0)) / max(np.ptp(centre), 1)
    terms = np.column_stack([
        centre[:, 0] ** (d - j) * centre[:, 1] ** j for d in range(degree + 1) for j in range(d + 1)
    ])
    return values - terms @ np.linalg.lstsq(terms, values, rcond=1e-9)[0]
