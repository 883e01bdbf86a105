"""Figures of a match for report.json: steps at borders, stars and places over their frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zemosaic.model.sky.grid import SkyGrid
from zemosaic.stages.figures.borders import PULL_EDGES, SHARES, BorderFigure, figure_borders

if TYPE_CHECKING:
    from zemosaic.pipelines.frames.pipeline import PlacedFrame
    from zemosaic.stages.figures.stars import FluxFigure, PlaceFigure
    from zemosaic.stages.match.match import MatchSolution
    from zemosaic.stages.match.seams import SeamFigure

__all__ = ["describe_match", "short"]

N_WORST = 10
"""Places, and frames, that the report names."""

MAP_CELLS = 24
"""Cells along the longer side of the map of slow trends, which are smooth."""

DIGITS = 4
"""Significant digits of the points of curves: finer than any figure is drawn."""


def describe_match(found: MatchSolution, frames: Sequence[PlacedFrame], grid: SkyGrid) -> dict[str, Any]:
    """What report.json tells of the match of one mosaic's frames, in the order in which they were matched."""
    before = [_borders(figure, len(frames)) for figure in found.seams_before]
    after = [_borders(figure, len(frames)) for figure in found.seams_after]
    return {
        "n_shared_stars": found.n_ties,
        "n_components": len({scale.component for scale in found.scales}),
        "slow_rms": found.slow_rms,
        "slow_map": _slow_map(found, grid),
        "prior_sd": found.prior_sd,
        "frame_noise": np.median(found.noise, axis=1),
        "seams": [
            {
                "before": _steps(found.seams_before[c], before[c]),
                "after": _steps(found.seams_after[c], after[c])
                | {
                    "worst": _worst_places(found.seams_after[c], after[c], frames),
                    "frames": _worst_frames(after[c], frames),
                },
            }
            for c in range(len(after))
        ],
        "borders": {
            "step": _largest(border.rms for border in after),
            "sure_step": _largest(border.sure_rms for border in after),
            "step_before": _largest(border.rms for border in before),
            "sure_place": _largest(border.sure.max(initial=0.0) for border in after if len(border.sure)),
            "sure_frame": _largest(np.nanmax(border.frame_sure) for border in after if _tells(border)),
            "shares": SHARES,
            "pull_edges": PULL_EDGES,
        },
        "stars": _stars(found.stars.fluxes),
        "places": _places(found.stars.places, grid),
    }  # fmt: skip


def _slow_map(found: MatchSolution, grid: SkyGrid) -> list[list[float | None]]:
    """Expected size of slow trends over cells of the grid, bottom row first, over the noise of a typical frame's pixel.

    Of the middle channel: the others show the same picture.
    """
    channel = len(found.slow_error) // 2
    cell_px = max(grid.shape) / MAP_CELLS
    y, x = ((np.arange(np.ceil(n / cell_px)) + 0.5) * cell_px for n in grid.shape)
    nodes = found.nodes
    rows = np.rint((y - nodes.y0) / nodes.spacing_px).astype(np.int64).clip(0, nodes.shape[0] - 1)
    columns = np.rint((x - nodes.x0) / nodes.spacing_px).astype(np.int64).clip(0, nodes.shape[1] - 1)
    cells = found.slow_error[channel][rows[:, None], columns] / np.median(found.noise[channel])
    told: list[list[float | None]] = short(cells)
    return told


def _borders(figure: SeamFigure, n_frames: int) -> BorderFigure:
    return figure_borders(figure.image, figure.step, figure.error, figure.noise, figure.count, n_frames)


def _tells(border: BorderFigure) -> bool:
    return bool(np.isfinite(border.frame_sure).any())


def _largest(values: Any) -> float | None:
    """The largest of the channels' figures; None where there is none."""
    known = [float(value) for value in values if np.isfinite(value)]
    return max(known) if known else None


def _steps(figure: SeamFigure, border: BorderFigure) -> dict[str, Any]:
    """Size and distribution of the steps at frames' borders, mosaic units; the curve is over the mosaic's noise."""
    if len(figure.step) == 0:
        return {"n_border_cells": 0}
    shares = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "largest": 1.0}
    return {
        "n_border_cells": len(figure.step),
        "rms": figure.rms,
        **{name: figure.quantile(share) for name, share in shares.items()},
        "curve": short(border.curve),
        "pulls": border.pulls,
    }


def _worst_places(figure: SeamFigure, border: BorderFigure, frames: Sequence[PlacedFrame]) -> list[dict[str, Any]]:
    """The largest steps: whose border, against whom, where in the frame (-1 to 1) and on the sky."""
    worst = []
    for k in figure.worst(N_WORST):
        item = frames[figure.image[k]]
        height, width = item.frame.shape
        at = item.wcs.pixel_to_sky((figure.u[k] + 1) / 2 * width - 0.5, (figure.v[k] + 1) / 2 * height - 0.5)
        worst.append({
            "frame": item.frame.name, "other": frames[figure.other[k]].frame.name,
            "u": figure.u[k], "v": figure.v[k], "step": figure.step[k], "error": figure.error[k],
            "step_noise": border.step[k], "sure_noise": border.sure[k],
            "ra_deg": float(at[0]), "dec_deg": float(at[1]),
        })  # fmt: skip
    return worst


def _worst_frames(border: BorderFigure, frames: Sequence[PlacedFrame]) -> list[dict[str, Any]]:
    """The frames whose borders are too bright or too dark all along, the worst first."""
    size = np.where(np.isfinite(border.frame_sure), border.frame_sure, -1.0)
    order = np.lexsort((-np.nan_to_num(np.abs(border.frame_step)), -size))[:N_WORST]
    return [
        {"frame": frames[k].frame.name, "step_noise": border.frame_step[k], "sure_noise": border.frame_sure[k]}
        for k in order
        if size[k] >= 0
    ]


def _stars(fluxes: Sequence[FluxFigure]) -> dict[str, Any]:
    """Repeatability; single stars of the middle channel only, as the others show the same picture."""
    middle = fluxes[len(fluxes) // 2]
    return {
        "n_stars": middle.n_stars,
        "n_detections": middle.n_detections,
        "floor_mmag": [_plain(figure.floor_mmag) for figure in fluxes],
        "floor_worst_mmag": _largest(figure.floor_mmag for figure in fluxes),
        "curves": [
            {"flux": short(figure.curve_flux), "scatter_mmag": short(figure.curve_mmag),
             "noise_mmag": short(figure.noise_mmag)}
            for figure in fluxes
        ],
        "single": {"flux": short(middle.star_flux), "scatter_mmag": short(middle.star_mmag)},
        "field_mmag": short(middle.field_mmag),
    }  # fmt: skip


def _places(figure: PlaceFigure, grid: SkyGrid) -> dict[str, Any]:
    return {
        "n_detections": figure.n_detections,
        "rms_px": _plain(figure.rms_px),
        "rms_arcsec": _plain(figure.rms_px * grid.scale_arcsec),
        "edges_px": short(figure.edges_px),
        "count_x": figure.count_x,
        "count_y": figure.count_y,
        "field_px": short(figure.field_px),
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def short(values: npt.NDArray[np.float64]) -> Any:
    """Numbers with few digits as nested lists; None for those that are not finite."""
    if values.ndim > 1:
        return [short(row) for row in values]
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values]
