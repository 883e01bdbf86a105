"""The picture without the match, against frames made one by one by its formula."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zemosaic.model.photo_scale import PATTERN_ORDER, n_terms, surface_terms
from zemosaic.pipelines.products.viewer_before import undo_match

SHAPE = (90, 110)


def turned(center_x: float, center_y: float, half_width: float, half_height: float, degrees: float) -> np.ndarray:
    """Corners of a frame, counted as the table of frames does; a negative height mirrors it."""
    at = np.deg2rad(degrees)
    turn = np.array([[np.cos(at), -np.sin(at)], [np.sin(at), np.cos(at)]])
    sides = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [half_width, half_height]
    return sides @ turn.T + [center_x, center_y]


def as_it_was(corner: np.ndarray, gain: float, surface: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a frame with straight sides shows of the mosaic, and where."""
    y, x = np.mgrid[: data.shape[0], : data.shape[1]]
    middle, along, up = corner.mean(axis=0), corner[1] - corner[0], corner[3] - corner[0]
    u, v = (2 * ((x - middle[0]) * side[0] + (y - middle[1]) * side[1]) / (side @ side) for side in (along, up))
    own = np.tensordot(surface, surface_terms(u, v, PATTERN_ORDER), 1)
    return gain * (data + own), np.maximum(np.abs(u), np.abs(v)) <= 1


@pytest.mark.parametrize("angles", [(0, 90), (31, -12), (180, 7)])
def test_frames_as_they_were_are_averaged_by_their_noise(angles: tuple[float, float]) -> None:
    """Turned, mirrored, partly outside, one wholly outside; surfaces with all the terms that a sensor's pattern has."""
    rng = np.random.default_rng(3)
    corners = [
        turned(40.3, 45.2, 38, 30, angles[0]),
        turned(75.4, 60.1, 40, -33, angles[1]),
        turned(300, 45, 30, 30, 0),
    ]
    noise, gain = np.array([1.0, 2.0, 1.0]), np.array([0.8, 1.3, 1.0])
    surfaces = rng.normal(0, 20, (3, n_terms(PATTERN_ORDER)))
    columns = {f"b{k}": surfaces[:, k] for k in range(surfaces.shape[1])}
    data = rng.normal(100, 5, SHAPE).astype(np.float32)
    before = undo_match(
        data[None], np.ones(SHAPE, bool), Table({"noise": noise, "gain": gain, **columns}), np.array(corners)
    )
    assert before is not None
    total, weight = np.zeros((2, *SHAPE))
    for corner, sigma, factor, surface in zip(corners, noise, gain, surfaces, strict=True):
        shown, here = as_it_was(corner, factor, surface, data.astype(float))
        total += here * shown / sigma**2
        weight += here / sigma**2
    seen = weight > 0
    expected = total[seen] / weight[seen]
    wrong = (before[0][seen] - data[seen]) - (expected - data[seen])
    # Lines between the nodes of a lattice stand for the surfaces, and levels are as in the mosaic.
    wrong -= np.median(wrong)
    assert np.abs(wrong).max() < 0.03 * np.std(expected - data[seen])
    assert np.array_equal(before[0][~seen], data[~seen])
    assert np.median(before[0][seen] - data[seen]) == pytest.approx(0, abs=1e-3)
