"""The grid of a survey: overlapping tiles of one size that cover the mosaic."""

from __future__ import annotations

from dataclasses import dataclass

from zemosaic.model.box import Box

__all__ = ["TileGrid", "cut_tiles"]

_BLOCKS_PX, _BLOCKS_ACROSS = (8, 16, 32), 32
"""Sides that a block may have, and blocks along a tile's side at least, as of any image (`measure_frame`)."""

_LEAST_SIZE_PX = 256
"""So that blocks of the smallest side make `_BLOCKS_ACROSS`."""

_LEAST_OVERLAP_BLOCKS = 3
"""So many blocks fit into an overlap at least: fewer tell no slope."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of one size, row by row.

    Attributes
    ----------
    boxes : tuple of Box
        In pixels of the mosaic; those at the far sides may reach beyond it.
    overlap_px : int
        Pixels that neighbours share.
    block_px : int
        Side of the blocks whose means are compared. Boxes begin at multiples of it, so that blocks of all tiles hold
        the same pixels of the mosaic.
    """

    boxes: tuple[Box, ...]
    overlap_px: int
    block_px: int


def cut_tiles(shape: tuple[int, int], field_px: float, fields: float, overlap: float) -> TileGrid:
    """Cut a mosaic into tiles.

    Parameters
    ----------
    shape : tuple of int
        ``(height, width)`` of the mosaic.
    field_px : float
        Side of a typical frame's field, mosaic pixels.
    fields : float
        Side of a tile in fields.
    overlap : float
        Share of a tile's side that it has in common with the next.

    Returns
    -------
    TileGrid
        A mosaic smaller than a tile is one tile.
    """
    wanted = max(fields * field_px, _LEAST_SIZE_PX)
    block = max(b for b in _BLOCKS_PX if b <= max(wanted / _BLOCKS_ACROSS, _BLOCKS_PX[0]))
    shared = max(round(overlap * wanted / block), _LEAST_OVERLAP_BLOCKS) * block
    pitches = []
    for length in shape:
        n = max(-int(-(length - shared) // (wanted - shared)), 1)
        # An even cut: the last tile is no sliver.
        pitches.append((n, -(-(length - shared) // (n * block)) * block))
    (n_y, pitch_y), (n_x, pitch_x) = pitches
    boxes = tuple(
        Box(j * pitch_y, (j + 1) * pitch_y + shared, i * pitch_x, (i + 1) * pitch_x + shared)
        for j in range(n_y)
        for i in range(n_x)
    )
    return TileGrid(boxes, shared, block)
