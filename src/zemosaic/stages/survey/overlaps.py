"""Which tiles overlap, and what each overlap says: diagnostics, start values, and the simplest match.

Overlaps are found by a spatial index. Their regressions have errors in both variables, and state their own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.stages.survey.photometry import TilePhotometryInfo, erode
from zemosaic.stages.tiles.compare import Relation, relate_images
from zemosaic.stages.tiles.network import group_tiles, solve_differences, solve_gains

__all__ = ["OverlapGraph", "TileOverlap", "build_tile_overlap_graph", "overlapping_boxes"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TileOverlap:
    """One edge of the graph: tile A = `first`, tile B = `second`, by their place in the list of tiles.

    Attributes
    ----------
    first, second : int
    box : Box
        Pixels of the mosaic that both boxes hold; `box_first` and `box_second` are the same in each tile.
    n_samples : int
        Pixels valid in both.
    relations : tuple of Relation
        ``B = a A + b`` for each channel; the slope's error is inf where no structure tells it.
    step : ndarray, shape (c,)
        Median of ``B - A``.
    """

    first: int
    second: int
    box: Box
    box_first: Box
    box_second: Box
    n_samples: int
    relations: tuple[Relation, ...]
    step: F8


@dataclass(frozen=True, slots=True, eq=False)
class OverlapGraph:
    """Tiles and their overlaps.

    Attributes
    ----------
    tile_ids : tuple of int
    edges : tuple of TileOverlap
    n_dropped : int
        Pairs whose boxes overlap but whose valid pixels tell nothing.
    """

    tile_ids: tuple[int, ...]
    edges: tuple[TileOverlap, ...]
    n_dropped: int

    @property
    def n_overlaps(self) -> Ints:
        """Edges of each tile."""
        n = len(self.tile_ids)
        return np.bincount([i for edge in self.edges for i in (edge.first, edge.second)], minlength=n)

    def components(self) -> Ints:
        """Number of the connected group of each tile."""
        return group_tiles(len(self.tile_ids), self._ends())

    def relative_gains(self, channel: int) -> tuple[F8, F8]:
        """Gain (response) of each tile from the edges alone, and its relative error.

        A robust sparse least-squares solve: a single edge that contradicts a ring is weighed down. The geometric mean
        is 1 over the largest group of tiles that edges with structure tie; gain 1 with error inf for all others.

        Returns
        -------
        gain, error : ndarray, shape (n,)
        """
        relations = [edge.relations[channel] for edge in self.edges]
        slope, error = (np.array([getattr(r, name) for r in relations]) for name in ("slope", "slope_error"))
        return solve_gains(len(self.tile_ids), self._ends(), slope, error)

    def relative_levels(self, channel: int) -> F8:
        """Level of each tile from the steps alone, gains taken as 1, mean 0 in each component, shape (n,)."""
        difference = np.array([edge.step[channel] for edge in self.edges])
        error = np.array([edge.relations[channel].intercept_error for edge in self.edges])
        typical = float(np.median(error)) if len(error) else 1.0
        error = np.hypot(error, typical) + 1e-9 * np.abs(difference)
        return solve_differences(len(self.tile_ids), self._ends(), difference, error)[0]

    def _ends(self) -> Ints:
        return np.array([(edge.first, edge.second) for edge in self.edges], np.int64).reshape(-1, 2).T


def build_tile_overlap_graph(tiles: Sequence[TilePhotometryInfo]) -> OverlapGraph:
    """Find all overlaps and compare the tiles in each.

    Parameters
    ----------
    tiles : sequence of TilePhotometryInfo
        Of one number of channels; only windows of their data are read.

    Returns
    -------
    OverlapGraph
        Pairs without a comparison are dropped (never replaced by an equality), with a log line each.
    """
    edges: list[TileOverlap] = []
    n_dropped = 0
    for i, j in overlapping_boxes([tile.bbox for tile in tiles]):
        edge = _compare(tiles, i, j)
        if edge is None:
            n_dropped += 1
            _LOG.info(
                "[GRID] Photometry: overlap of tiles %d and %d dropped: its valid pixels tell nothing",
                tiles[i].tile_id, tiles[j].tile_id,
            )  # fmt: skip
        else:
            edges.append(edge)
    _LOG.info("[GRID] Photometry: built overlap graph with %d edges", len(edges))
    return OverlapGraph(tuple(tile.tile_id for tile in tiles), tuple(edges), n_dropped)


def overlapping_boxes(boxes: Sequence[Box]) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) of boxes that overlap, in order, found in the cells of a coarse grid."""
    size = max(int(np.median([max(box.shape) for box in boxes])), 1) if boxes else 1
    cells: dict[tuple[int, int], list[int]] = {}
    for j, box in enumerate(boxes):
        near: set[int] = set()
        for cy in range(box.y0 // size, (box.y1 - 1) // size + 1):
            for cx in range(box.x0 // size, (box.x1 - 1) // size + 1):
                here = cells.setdefault((cy, cx), [])
                near.update(here)
                here.append(j)
        yield from ((i, j) for i in sorted(near) if boxes[i].overlaps(box))


def _compare(tiles: Sequence[TilePhotometryInfo], i: int, j: int) -> TileOverlap | None:
    a, b = tiles[i], tiles[j]
    box = a.bbox.intersect(b.bbox)
    in_a, in_b = box.relative_to(a.bbox), box.relative_to(b.bbox)
    both = a.usable(*in_a.slices) & b.usable(*in_b.slices)
    if not both.any():
        return None
    both = erode(both)
    x, y = (np.asarray(tile.data[:, *part.slices], np.float32) for tile, part in ((a, in_a), (b, in_b)))
    found = [relate_images(p, q, both) for p, q in zip(x, y, strict=True)]
    relations = tuple(relation for relation in found if relation is not None)
    if len(relations) < len(found):
        return None
    step = np.median((y - x)[:, both], axis=1).astype(float)
    return TileOverlap(i, j, box, in_a, in_b, int(np.count_nonzero(both)), relations, step)
