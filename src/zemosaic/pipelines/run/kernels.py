"""Which kernels a run calls, and with arguments of which types: what can be compiled before it is called."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match import background, coarse, dense, factors, gains, images, schur
from zemosaic.kernels.match.values import (
    CoarseNodes,
    CoarseSky,
    Coupling,
    ImageNodes,
    NormalParts,
    PlacedBlocks,
    SkyEquations,
    SkyFactors,
)
from zemosaic.kernels.measure import (
    apertures,
    bayer_stars,
    block_means,
    block_noise,
    holes,
    hot_pixels,
    mesh,
    parts,
    peaks,
    repeats,
    superpixels,
)
from zemosaic.kernels.pixels import blocks, lz4, render, stored, surfaces
from zemosaic.kernels.resample import areas, bayer, lattice, points, spikes
from zemosaic.kernels.resample.window import Window
from zemosaic.kernels.select import select_pair
from zemosaic.kernels.solve import cluster, pattern
from zemosaic.kernels.stack import clip, combine, grow, order, pairs, regions, samples, saturated, template, trim
from zemosaic.kernels.tiles import distance, pyramid

__all__ = ["GROUPS", "Known", "list_kernels"]

Known = tuple[Any, tuple[Any, ...]]
"""A kernel, and arguments of the types that it is called with; it is never called with these."""

GROUPS = (
    "raws", "weigh", "gaps", "match", "points", "colours", "spikes", "clip", "regions", "kappa", "stack", "areas",
    "maps", "winsorized", "linear_fit", "mean", "median", "minmax", "esd", "tiles", "xisf", "simulate",
)  # fmt: skip
"""Parts of a run that call kernels, those first that are called first."""

Example = npt.NDArray[Any]


def _array(kind: str, n_axes: int) -> Example:
    return np.zeros((1,) * n_axes, kind)


def _frozen(array: Example) -> Example:
    array.flags.writeable = False
    return array


def _cut(array: Example) -> Example:
    """The same, as a part of a larger array: its elements need not lie one after the other."""
    return np.zeros((*array.shape, 2), array.dtype)[..., 0]


def _turned(array: Example) -> Example:
    """The same, its columns in rows: one pixel alone would lie either way."""
    return np.zeros([2 * n for n in array.shape], array.dtype).T


B1, U1, U4, I4, I8, F4, F8 = "?", "u1", "u4", "i4", "i8", "f4", "f8"
_b2, _u1, _u2, _u4, _i2 = _array(B1, 2), _array(U1, 1), _array(U1, 2), _array(U4, 2), _array("i2", 2)
_short_2 = _array("u2", 2)
_i4, _i4_2, _i4_3, _i8, _i8_2 = _array(I4, 1), _array(I4, 2), _array(I4, 3), _array(I8, 1), _array(I8, 2)
_f4, _f4_2, _f4_3 = _array(F4, 1), _array(F4, 2), _array(F4, 3)
_f8, _f8_2, _f8_3 = _array(F8, 1), _array(F8, 2), _array(F8, 3)
_F: Any = np.float32(0)
_EDGES = mesh.BlockEdges(_i8, _i8)
_NODES = ImageNodes(_i8, _i4)
_PHASES = (0, 0), 0, (0, 0)


@cache
def list_kernels(group: str) -> tuple[Known, ...]:
    """The kernels of one of the groups; no two groups have one in common.

    Raises
    ------
    KeyError
        For another name.
    """
    lists = {
        "weigh": _weigh, "gaps": _gaps, "match": _match, "raws": _raws, "points": _points, "spikes": _spikes,
        "colours": _colours, "areas": _areas, "stack": _stack, "clip": _clip, "regions": _regions, "kappa": _kappa,
        "maps": _maps, "winsorized": _winsorized, "linear_fit": _linear_fit, "mean": _mean, "median": _median,
        "minmax": _minmax, "esd": _esd, "tiles": _tiles, "simulate": _simulate, "xisf": _xisf,
    }  # fmt: skip
    return tuple(lists[group]())


def _weigh() -> list[Known]:
    """Sky and noise; compressed frames, coordinates, the preview and the viewer, which every run may have."""
    levels = mesh.Levels(_f4_2, _f4_2, _i4_2, _i4_2)
    return [
        (mesh.block_levels, (_f4_2, _u2, _EDGES, 0, _F, levels)),
        (mesh.valid_bounds, (_f4_3, _u2)),
        (block_noise.block_noise, (_f4_2, _b2, _EDGES, _f8_2, _f8_2)),
        (block_noise.sum_bands, (_f4_2, _u2, 0, 0, _f8_2, _i8_2)),
        (repeats.find_repeats, (_f4_2, _b2, 0, _array(B1, 1))),
        (repeats.find_repeats, (_turned(_f4_2), _turned(_b2), 0, _array(B1, 1))),
        (repeats.find_lowest, (_f4_2, _b2)),
        (select_pair, (_f4, 0, 0)),
        (stored.unpack_floats, (_u4, _u4, _f4_2)),
        (stored.unpack_shorts, (_short_2, _F, _f4_2, _f4_2)),
        (blocks.sum_blocks, (_f4_3, 0, _f8_3, _i4_3)),
        (surfaces.add_surface, (_f4_3, (0, 0), (0, 0), _i8, _i8, _f4_3)),
        (lattice.find_taper, (lattice.Edges(_f8_3, 0, (0, 0), (0, 0, 0, 0), (0, 0, 0, 0), 0.0), _u2)),
        (lattice.positions_round, (_f8_3, 0, 0, 0, 0, 0)),
    ]


def _gaps() -> list[Known]:
    """Parts of frames without data."""
    return [
        (parts.keep_squares, (_u2, 0, _u2)),
        (parts.grow_squares, (_u2, 0, _u2)),
        (parts.hold_border_parts, (_u2,)),
        (parts.king_steps, (_u2, 0, _u2)),
    ]


def _match() -> list[Known]:
    return [*_stars(), *_surfaces(), *_gains()]


def _stars() -> list[Known]:
    """Stars and block means of a frame."""
    rule, means = block_means.MeanRule(0.0, 0.0, 0.0, 0.0, 0), block_means.Means(_f4_2, _f4_2, _f4_2, _f4_2)
    filled, circles = apertures.Holes(_u2, _u2, 0.0, 0.0, 0.0), apertures.Circles(_f8, 0.0, 0.0)
    fluxes = apertures.Fluxes(_f8_3, _f8_2, _f8, _f8_2, _i8_2, _f8_2, _f8)
    return [
        (apertures.aperture_fluxes, (_f4_3, _u2, filled, _f8, _f8, circles, fluxes)),
        (apertures.weighted_moments, (_f4_2, _f8, _f8, 0.0, _f8_2)),
        (holes.find_holes, (_u2, _u2)),
        (holes.fill_holes, (_f4_2, _u2, _u2)),
        (block_means.block_means, (_f4_2, _u2, _EDGES, rule, means)),
        (mesh.add_above_mesh, (_f4_2, _u2, _f4_2, _f8, _f8, _F, _f4_2)),
        (mesh.paint_discs, (_u2, _f8, _f8, _f8)),
        (mesh.grow_mask, (_u2, 0, _u2)),
        (peaks.smooth, (_f4_2, _f4_2)),
        (peaks.find_peaks, (_f4_2, _f4_2, _EDGES, 0, 0.0, peaks.Peaks(_i8, _i8, _f4))),
        (peaks.take_off_wide, (_f4_2, 0, np.float32(0))),
        (peaks.light_in_line, (_f4_2, _i8, _i8, _f4)),
        (peaks.mark_objects, (_f4_2, _f4_2, _EDGES, 0.0, _u2)),
        (cluster.group_detections, (_f8, _f8, _i8, 0.0, _i8)),
    ]


def _surfaces() -> list[Known]:
    placed = PlacedBlocks(_i8, _i4, _f4, _f4, _f4, _f4, _f4, 0, 0)
    normals, equations = (
        NormalParts(_f8_2, _f8_3, _f8_2, _f8_2, _f8),
        SkyEquations(_f8_2, 0, Coupling(_NODES, _f8_2, _f8_3)),
    )
    found, nodes = SkyFactors(_i4, _i4, _f4, _f8), CoarseNodes(0, 0, 0, 0, 0, 0, _f8_2)
    rough = CoarseSky(nodes, _NODES, _f8_2, _f8_2)
    return [
        (background.list_local_nodes, (_i8, _i4, 0, 0, _i8, _i4)),
        (background.build_normals, (placed, _f4, _f4, _NODES, normals)),
        (background.block_residuals, (placed, _f4, _f8, _f8_2, _f4)),
        (background.project_values, (placed, _f4, _f4, _f8_2, _f8)),
        (background.perturb, (0, placed, _f4, _f4, _f8_2, _f8_2, _f8)),
        (background.sky_at_blocks, (placed, _f8, _f4)),
        (background.beyond_bilinear, (placed, _f8, _f8, _f4)),
        (images.group_images, (_i8, _i4, 0, _i8)),
        (images.image_medians, (_i8, _f4, 0, _f8)),
        (images.list_squares, (_i8, _i4, _f4, 0, _i8, _i8)),
        (images.sum_parts, (placed, _f4, _f4, 0, _f8_2, _f8_2)),
        (images.sum_products, (placed, _f4, _f4, _i8, 0, _f8_3, _i8)),
        (background.clustered_variance, (placed, _f4, _f4, _f8_3, 0, _f8)),
        (coarse.list_coarse_nodes, (_NODES, nodes, _i8, _i4)),
        (coarse.find_reach, (_NODES, nodes)),
        (coarse.gather_cross, (_NODES, nodes, _NODES, _f8_2, _f8_2)),
        (coarse.add_sky, (_f8_2, nodes, _f8_2)),
        (coarse.take_surfaces, (_NODES, _f8_2, _f8_3, _f8_2)),
        (coarse.factorise_band, (0.0, _f8_2)),
        (factors.factorise_sky, (_f8_2, 0)),
        (schur.apply_schur, (_f8_2, equations, _f8_2)),
        (schur.correct_held, (_f8_2, equations, found, _f8_2, _f8_2)),
        (schur.gather_surfaces, (_f8_2, equations, rough, 0, 0, _f8_3, _f8_2)),
        (schur.correct_coarse, (_f8_2, equations, rough, _f8_2, _f8_2, _f8_2)),
        (schur.spread_surfaces, (_f8_2, equations, rough, 0, 0, _f8_3, _f8_2)),
        (schur.recover_surfaces, (_f8_2, equations, _f8_3, _f8_3)),
        (schur.reduced_rhs, (_f8_2, _f8_3, equations, _f8_2)),
        (background.cell_excess, (_i4, _f4, _f4, _f8, 0.0, _f8, _f8)),
        (background.node_depth, (placed, _f4, _f8)),
    ]


def _gains() -> list[Known]:
    seen = gains.Detections(_i8, _i8, _i8, _f8, _f8, 0, 0)
    return [
        (images.group_images, (_i8, _i8, 0, _i8)),
        (gains.log_model, (_f8, seen, _f8)),
        (gains.project_to_unknowns, (_f8, seen, _f8)),
        (gains.remove_star_means, (_f8, _f8, _i8, _f8, _f8)),
        (gains.apply_normal, (_f8, seen, _i8, _f8, _f8, _f8, _f8, _f8)),
        (gains.eliminate, (_i8, _i8, _f8, _f8, _i8, _f8_2)),
        (dense.factorise, (_f8_2,)),
        (dense.add_squares, (_f8_2, _f8_2, 0, _f8)),
    ]


def _raws() -> list[Known]:
    """Raw colour frames without a place: defects, superpixels, stars on one colour, plate solving, colours' planes."""
    cell = superpixels.Cell((0, 0), (0, 0), (0, 0), (0, 0))
    return [
        (bayer_stars.fit_stars, (bayer_stars.RawPlane(_f4_2, _f4_2, _i8_2), _f8, _f8, 0.0, 0, _f8_2)),
        (hot_pixels.find_defects, (_f4_2, _f4_2, _f4_2, 0.0, _u2)),
        (hot_pixels.find_residuals, (_f4_2, _f4_2, _f4_2, _i2)),
        (superpixels.bin_cells, (_f4_2, _f4_2, cell, 0.0, _f4_3, _f4_3)),
        (bayer._colour_plane, (_window(), 0, _PHASES)),
        (pattern.search_pair, (_f8_2, (0, 0), _f8_2, _u2, (0.0, 0.0), 0.0, 0, _f8_2)),
        (pattern.mark_stars, (_f8, _f8, 0)),
    ]


def _rows() -> tuple[Any, ...]:
    """Where resampled pixels go."""
    return (_f4, 0, 0), (_f4, 0, 0), (_u1, 0, 0)


def _window() -> Window:
    return Window(_f4_3, _f4_3, (0, 0), _f8_3, _f8_3, _f8_3, 0, (0, 0), _f8, (0, 0, 0, 0), 0.0, _F, _u2)


def _points() -> list[Known]:
    table = _frozen(_array(F4, 2))
    return [
        (points._resample, (_window(), _rows(), (0, 0, 0, 0), 0, points.Lanczos(table, _f4_3, _f4_3, _F))),
    ]


def _colours() -> list[Known]:
    tables = (_frozen(_array(F4, 2)), _frozen(_array(F4, 2)))
    return [(bayer._resample_colours, (_window(), _rows(), (0, 0, 0, 0), _PHASES, 0, tables, _F))]


def _spikes() -> list[Known]:
    return [
        (spikes._steep_blocks, (_f4_2, _F)),
        (spikes._fill_spikes, (_f4_2, _f4_2, _F, _i8_2, _f4_2)),
    ]


def _maps() -> list[Known]:
    """What lies beside an image is interpolated between pixels; so is an image by the kernels of one or two taps."""
    return [(points._resample, (_window(), _rows(), (0, 0, 0, 0), 0, None))]


def _areas() -> list[Known]:
    return [(areas._resample, (_window(), _rows(), (0, 0, 0, 0), 0.0, False))]


def _samples() -> samples.Samples:
    return samples.Samples(_f4_3, _f4_3, _array(U1, 3), samples.FrameNoise(_f4, _f4, _f4), _i4_3)


_MAPS = samples.Maps(_f4_2, _f4_2, _f4_2, _f4_2, _i4_2)
_PLANES = samples.Planes(_f4_2, _f4_2, _f4_2, _i2, _i2, _f4_2, _i2)


def _stack() -> list[Known]:
    """What all methods share that hold the samples of a patch."""
    cube, table = _samples(), _frozen(_array(F4, 1))
    return [
        (combine.combine_rows, (cube, _f4, 0, 0, (0, 0), _PLANES, _i4_3)),
        (order.find_spans, (_f4_3, _i4_2, 0, 0, _i4_3)),
        (template.template_rows, (cube, _MAPS, 0, 0, table, _f4_2)),
        (template.median_rows, (_MAPS, _f4_2, 0, 0, _f4_2, _f4_2)),
        (template.steepness_rows, ((_f4_2, _f4_2), (0, 0), 0.0, 0.0, 0.0, _f4_2)),
        (saturated.yield_rows, (cube, 0, 0, _array(B1, 1))),
        (saturated.yield_rims, (cube, 0, 0, _array(B1, 1))),
    ]


def _clip() -> list[Known]:
    cube = _samples()
    return [
        (grow.grow_frames, (cube, _MAPS, 0, 0, _F, 0)),
        (pairs.clip_pairs, (cube, _MAPS, 0, 0, _F)),
    ]


def _regions() -> list[Known]:
    return [(regions.mark_regions, (_samples(), _MAPS, 0, 0, _F))]


def _by_kappa() -> tuple[Any, ...]:
    return clip.ClipRule(0, _F, _F, 0), _samples(), _MAPS, 0, 0, _frozen(_array(F4, 1))


def _kappa() -> list[Known]:
    return [(clip.clip_kappa, _by_kappa())]


def _winsorized() -> list[Known]:
    return [(clip.clip_winsorized, _by_kappa())]


def _linear_fit() -> list[Known]:
    return [(clip.clip_linear_fit, _by_kappa())]


def _mean() -> list[Known]:
    sums, sides = combine.MeanSums(_f8_2, _f8_2, _i2), combine.SideSums(_f8_2, _f8_2, _i2)
    photons = combine.PhotonSums(_f8_2, _f8_2)
    return [
        (combine.add_frame, (_f4_2, _f4_2, (0, 0), sums)),
        (combine.add_samples, (_f4_2, _f4_2, _u2, _F, (0, 0), sums, sides)),
        (combine.add_photons, (_f4_2, _u2, (_F, _F, _F), (0, 0), photons)),
        (combine.finish_mean, (sums, _f4_2, _f4_2)),
        (combine.finish_sides, (sums, sides, photons, _f4_2, _f4_2)),
        (samples.noise_of, (samples.FrameNoise(_f4, _f4, _f4), 0)),
    ]


def _median() -> list[Known]:
    return [(combine.finish_median, (_samples(), _MAPS, 0, 0, (0, 0), _PLANES))]


def _minmax() -> list[Known]:
    return [(trim.trim_minmax_rows, (_samples(), _MAPS, 0, 0, 0, 0))]


def _esd() -> list[Known]:
    limits, table = _frozen(_array(F8, 2)), _frozen(_array(F4, 1))
    return [(trim.trim_esd_rows, (_samples(), _MAPS, 0, 0, 0.0, limits, table))]


def _tiles() -> list[Known]:
    return [
        (distance.border_distance, (_b2, False, False, False, False, _f4_2)),
        (pyramid.reduce, (_f4_2, _f4_2)),
        (pyramid.expand, (_f4_2, _f4_2)),
    ]


def _simulate() -> list[Known]:
    x, y = _cut(_f8), _cut(_f8_2)
    return [
        (render.add_stars, (_f4_2, x, x, _f8_2, _f8, 0.0, _i8_2)),
        (render.add_field, (_f4_2, _f4_2, y, y, 0, _f8, _i8_2)),
    ]


def _xisf() -> list[Known]:
    return [(lz4.unpack_lz4, (_frozen(_array(U1, 1)), _u1))]
