"""One gain and one background surface a tile, all tiles at once: the one-sky solve on tiles.

Edges give start values and diagnostics. One that tells nothing is dropped, never taken for equality, and no tile is
shifted to an absolute level: that would take nebulae for sky.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

from zemosaic.model.box import Box
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import N_TERMS, PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.settings import MatchSettings
from zemosaic.stages.match.match import match
from zemosaic.stages.survey.overlaps import OverlapGraph
from zemosaic.stages.survey.photometry import TilePhotometryInfo
from zemosaic.text import Message

__all__ = ["TileSolution", "flat_plane", "measure_steps", "shift_levels", "solve_tiles", "tiles_agree"]

F8 = npt.NDArray[np.float64]

_LOG = logging.getLogger(__name__)

_PIXEL_DEG = 1e-5
"""Pixels of the flat plane: so small that a mosaic of 100,000 of them is flat to 4e-5."""

_PRECISE = 5e-3
"""Relative error of gains from overlaps up to which they are kept."""

_AGREED = 2e-3
"""Steps below this share of a tile's noise, and gains this close to 1, are none."""

_MOST_LINES = 64
"""Rows of an overlap that are looked at for its step."""


@dataclass(frozen=True, slots=True, eq=False)
class TileSolution:
    """What the match of tiles found, tile by tile.

    Attributes
    ----------
    scales : tuple of PhotoScale
        ``corrected = tile / gain - surface``.
    method : str
        How, in words.
    n_neutral : int
        Tiles that keep gain 1 and surface 0.
    notices : tuple of Message
    """

    scales: tuple[PhotoScale, ...]
    method: str
    n_neutral: int
    notices: tuple[Message, ...]


def flat_plane(box: Box) -> CelestialWcs:
    """The pixels of a box as a piece of a flat sky, on which all pixels of a mosaic have one area.

    Tiles cut from one grid need no other: between them, pixels and their areas are the same.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---CAR", "DEC--CAR"]
    wcs.wcs.crval = [180.0, 0.0]
    wcs.wcs.crpix = [1.0 - box.x0, 1.0 - box.y0]
    wcs.wcs.cdelt = [_PIXEL_DEG, _PIXEL_DEG]
    wcs.wcs.set()
    return CelestialWcs(wcs, box.shape)


def solve_tiles(
    measured: Sequence[Measurements | None],
    boxes: Sequence[Box],
    shape: tuple[int, int],
    settings: MatchSettings,
    graph: OverlapGraph,
    reference: int | None = None,
) -> TileSolution:
    """Gains and surfaces of all tiles, with the frames' solve and its gauge.

    Parameters
    ----------
    measured : sequence of Measurements or None
        Of each tile; None where a tile holds nothing to measure: it stays neutral.
    boxes : sequence of Box
        Places of the tiles on the mosaic.
    shape : tuple of int
        ``(height, width)`` of the mosaic.
    settings : MatchSettings
        Order of the surfaces and spacing of the sky nodes; responses are not solved for.
    graph : OverlapGraph
        Its edges give the gains to start from. Where they tie all tiles to better than half a per cent, as between
        tiles made of the same frames, whose very noise is the same, their gains are kept: the few stars of an overlap
        know less.
    reference : int, optional
        A healthy tile, whose gain starts from 1.

    Returns
    -------
    TileSolution
    """
    known = [i for i, m in enumerate(measured) if m is not None]
    kept = [m for m in measured if m is not None]
    n_channels = kept[0].n_channels if kept else 1
    scales = [PhotoScale.neutral(n_channels, "nothing to measure: left as it is")] * len(measured)
    notices: tuple[Message, ...] = ()
    for i in sorted(set(range(len(measured))) - set(known)):
        _LOG.info("[GRID] Photometry: tile %d: no valid pixels, scaling disabled", graph.tile_ids[i])
    if len(kept) > 1:
        # Channels first: (c, n).
        start, error = (
            np.stack(x)[:, known] for x in zip(*(graph.relative_gains(c) for c in range(n_channels)), strict=True)
        )
        if reference is not None:
            start /= start[:, [known.index(reference)]]
        held = bool(np.isfinite(error).all() and (error < _PRECISE).all())
        found = match(
            [_at_gain(m, gain) for m, gain in zip(kept, start.T, strict=True)],
            [flat_plane(boxes[i]) for i in known],
            SkyGrid(flat_plane(Box.of_shape(shape))),
            settings.model_copy(update={"response_order": 0, "solve_gain": settings.solve_gain and not held}),
        )
        for k, (i, scale) in enumerate(zip(known, found.scales, strict=True)):
            gain_error = error[:, k] if held else scale.gain_error
            scales[i] = _or_neutral(
                replace(scale, gain=scale.gain * start[:, k], gain_error=gain_error), graph.tile_ids[i]
            )
        notices = found.notices
    n_neutral = sum(_is_neutral(scale) for scale in scales)
    _LOG.info("[GRID] Photometry: solved global gain/offset for %d tiles", len(scales) - n_neutral)
    return TileSolution(tuple(scales), "one sky, solved over all tiles", n_neutral, notices)


def tiles_agree(graph: OverlapGraph, noise: Sequence[F8]) -> bool:
    """Whether the tiles are already one picture: no overlap shows a step or a gain, all tiles hang together.

    Parameters
    ----------
    graph : OverlapGraph
    noise : sequence of ndarray, shape (c,)
        Of a pixel of each tile; NaN for a tile that holds nothing, which agrees with none.

    So it is where tiles hold the same frames, matched before they were stacked: overlaps are then equal to the bit, and
    any correction would only add its own error.
    """
    if not graph.edges or not np.isfinite(noise).all() or graph.components().any():
        return False
    least = np.median(noise, axis=0) * _AGREED
    for edge in graph.edges:
        slopes = [(r.slope, r.slope_error) for r in edge.relations if np.isfinite(r.slope_error)]
        if (np.abs(edge.step) > least).any() or any(abs(a - 1) > max(3 * error, _AGREED) for a, error in slopes):
            return False
    return True


def shift_levels(graph: OverlapGraph, n_channels: int) -> TileSolution:
    """The simplest match: one constant a tile and channel, from the steps in the overlaps; gains stay 1.

    Only differences in overlaps enter: a shift to one common background would eat nebulosity.
    """
    levels = np.stack([graph.relative_levels(c) for c in range(n_channels)])
    scales = []
    for column in levels.T:
        surface = np.zeros((n_channels, N_TERMS))
        surface[:, 0] = np.nan_to_num(column)
        scales.append(replace(PhotoScale.neutral(n_channels, "level from overlaps, gain 1"), surface=surface))
    return TileSolution(
        tuple(scales), "levels shifted to agree in overlaps", sum(_is_neutral(scale) for scale in scales), ()
    )


def measure_steps(
    tiles: Sequence[TilePhotometryInfo], graph: OverlapGraph, scales: Sequence[PhotoScale] | None = None
) -> F8:
    """Median of ``B - A`` in every overlap, shape (edges, c): of the tiles as they are, or corrected."""
    steps = np.zeros((len(graph.edges), len(tiles[0].gain) if tiles else 1))
    for row, edge in zip(steps, graph.edges, strict=True):
        rows = slice(None, None, max(edge.box.height // _MOST_LINES, 1))
        a, b = (
            _piece(tiles[i], part, rows, None if scales is None else scales[i])
            for i, part in ((edge.first, edge.box_first), (edge.second, edge.box_second))
        )
        both = tiles[edge.first].usable(*edge.box_first.slices) & tiles[edge.second].usable(*edge.box_second.slices)
        row[:] = np.median((b - a)[:, both[rows]], axis=1)
    return steps


def _piece(tile: TilePhotometryInfo, part: Box, rows: slice, scale: PhotoScale | None) -> F8:
    data = np.asarray(tile.data[:, *part.slices], float)[:, rows]
    if scale is None:
        return data
    y, x = np.mgrid[part.y0 : part.y1, part.x0 : part.x1]
    return np.asarray(data / scale.gain[:, None, None] - scale.surface_at(x[rows], y[rows], tile.bbox.shape))


def _at_gain(measured: Measurements, gain: F8) -> Measurements:
    """Measurements of a tile as if its pixels had been divided by a gain, shape (c,)."""
    column = gain[:, None].astype(np.float32)
    stars = measured.stars
    return replace(
        measured.with_blocks(lambda blocks: blocks.times(1 / gain)),
        sky=measured.sky / gain,
        noise=measured.noise / gain,
        stars=replace(
            stars, flux=stars.flux / column, flux_error=stars.flux_error / column, flux_wide=stars.flux_wide / column
        ),
    )


def _or_neutral(scale: PhotoScale, tile_id: int) -> PhotoScale:
    """A correction fit to use; a tile that nothing ties to others is left alone."""
    if np.isinf(scale.gain_error).all() and not scale.surface.any():
        _LOG.info("[GRID] Photometry: tile %d: %s", tile_id, scale.note or "not determined")
        return PhotoScale.neutral(len(scale.gain), scale.note)
    return scale


def _is_neutral(scale: PhotoScale) -> bool:
    return bool(np.all(scale.gain == 1) and not scale.surface.any())
