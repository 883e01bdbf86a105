"""Trends that all surfaces of a connected group share, taken for sky.

A polynomial over the mosaic, of the surfaces' degree, can move from the sky into all surfaces and no difference between
images changes. The likeliest share is that of the smallest surfaces. The background solve cannot find it by
itself: its sky is bilinear between nodes, so a sky that is curved fits a little worse than a flat one whose curvature
all surfaces hold, block after block, however small the surfaces should be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms, surface_terms
from zemosaic.stages.match.sky_nodes import BlockTable

__all__ = ["CommonTrends"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SAMPLE = 97
"""Blocks of an image that tell how a trend looks in it. A prime: evenly spread blocks do not fall into one column."""


@dataclass(frozen=True, slots=True, eq=False)
class CommonTrends:
    """Polynomials over the mosaic, and what each is in every image.

    Attributes
    ----------
    group : ndarray, shape (n,), int32
        Connected group of each image.
    of_node : ndarray, shape (nodes,), int64
        Group whose blocks reach a node; -1 where there are none.
    in_images : ndarray, shape (n, k, k)
        Column m holds the coefficients of trend m over the surface terms of an image.
    on_nodes : ndarray, shape (k, nodes)
    """

    group: npt.NDArray[np.int32]
    of_node: Ints
    in_images: F8
    on_nodes: F8

    @classmethod
    def of(cls, table: BlockTable, order: int) -> CommonTrends:
        """Trends of the degrees that surfaces of `order` have."""
        group, nx = table.components(), table.nodes.shape[1]
        image, of_node = table.image, np.full(table.nodes.n, -1, np.int64)
        for corner in (0, 1, nx, nx + 1):
            of_node[table.cell + corner] = group[image]
        k = n_terms(order)
        in_images = np.zeros((table.n_images, k, k))
        for i, (first, end) in enumerate(zip(table.start, table.start[1:], strict=False)):
            if end > first:
                used = first + np.unique(np.linspace(0, end - first - 1, _SAMPLE).astype(np.int64))
                at = table.cell[used] % nx + table.fx[used], table.cell[used] // nx + table.fy[used]
                own, trends = surface_terms(table.u[used], table.v[used], order), _over_nodes(*at, table, order)
                in_images[i] = np.linalg.pinv(own @ own.T, hermitian=True) @ (own @ trends.T)
        y, x = np.divmod(np.arange(table.nodes.n), nx)
        return cls(group, of_node, in_images, _over_nodes(x, y, table, order))

    def take_out(self, sky: F8, surfaces: F8, prior: F8) -> tuple[F8, F8]:
        """Sky and surfaces with what the surfaces have in common moved into the sky.

        Parameters
        ----------
        sky : ndarray, shape (nodes,)
        surfaces : ndarray, shape (n, k or more)
            Further columns are kept.
        prior : ndarray, shape (n, k or more)
            Precision of each coefficient: the sum of their squares so weighed becomes the least.
        """
        k = self.in_images.shape[1]
        pulls = np.einsum("ikm,ik,ik->im", self.in_images, prior[:, :k], surfaces[:, :k])
        known = np.linalg.pinv(self._precision(prior), hermitian=True)
        return self._move(sky, surfaces, np.sum(known * self._sums(pulls)[:, None], axis=-1))

    def draw(self, sky: F8, surfaces: F8, prior: F8, seed: int) -> tuple[F8, F8]:
        """A draw from the solve's error distribution with trends as the priors leave them open."""
        variance, axes = np.linalg.eigh(np.linalg.pinv(self._precision(prior), hermitian=True))
        noise = np.random.default_rng(seed).normal(size=variance.shape) * np.sqrt(np.maximum(variance, 0))
        return self._move(*self.take_out(sky, surfaces, prior), np.sum(axes * noise[:, None], axis=-1))

    def _precision(self, prior: F8) -> F8:
        """What priors know of each group's trends, shape (groups, k, k)."""
        return self._sums(
            np.einsum("ikm,ik,ikl->iml", self.in_images, prior[:, : self.in_images.shape[1]], self.in_images)
        )

    def _sums(self, of_images: F8) -> F8:
        """Sums over the images of every group."""
        out = np.zeros((int(self.group.max(initial=-1)) + 1, *of_images.shape[1:]))
        np.add.at(out, self.group, of_images)
        return out

    def _move(self, sky: F8, surfaces: F8, amplitudes: F8) -> tuple[F8, F8]:
        """Trends of every group, (groups, k), moved from the surfaces into the sky."""
        k, moved, reached = self.in_images.shape[1], surfaces.copy(), self.of_node >= 0
        moved[:, :k] -= np.einsum("ikm,im->ik", self.in_images, amplitudes[self.group])
        light = np.sum(amplitudes[self.of_node[reached]] * self.on_nodes[:, reached].T, axis=1)
        out = sky.copy()
        out[reached] += light
        return out, moved


def _over_nodes(x: npt.ArrayLike, y: npt.ArrayLike, table: BlockTable, order: int) -> F8:
    """Terms of a polynomial at node coordinates, scaled to -1..1 along the longer side of all nodes."""
    half = (max(table.nodes.shape) - 1) / 2
    return surface_terms(np.asarray(x, float) / half - 1, np.asarray(y, float) / half - 1, order)
