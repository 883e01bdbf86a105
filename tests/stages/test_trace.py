"""One pixel's samples, told for every method: as many are named as clipped as the stack counts."""

from __future__ import annotations

import numpy as np
import pytest

from zemosaic.kernels.stack.samples import FrameNoise
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.stack import Cube, border_px
from zemosaic.stages.stack.trace import trace_pixel

N, SIDE, WILD = 9, 41, 3


def make_cube() -> Cube:
    """Nine frames of noise 10 in two channels; one has a line that is far too bright through the middle."""
    rng = np.random.default_rng(3)
    values = rng.normal(1000, 10, (2, N, SIDE, SIDE)).astype(np.float32)
    values[:, WILD, SIDE // 2] += 400
    weights = np.full_like(values, 0.01)
    weights[:, 0] = 0
    alpha = np.full((N, SIDE, SIDE), 127, np.uint8)
    return Cube(values, weights, alpha, FrameNoise.of_sky((2, N)), np.ones(N, np.float32), np.zeros(N, bool))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_trace_tells_what_the_stack_did(method: str) -> None:
    settings, middle = StackSettings(method=method), SIDE // 2
    assert border_px(settings, 2.0) <= middle
    stacked, traces = trace_pixel(make_cube(), (middle, middle), 2.0, settings)
    for c, trace in enumerate(traces):
        clipped = np.array([bool(word) for word in trace.clipped_by])
        assert clipped.sum() == stacked.rejected[c, 0, 0]
        assert trace.weights[0] == 0
        if METHODS[method].clip is not None:
            assert clipped[WILD]
            kept = ~clipped & (trace.weights > 0)
            assert np.average(trace.values[kept], weights=trace.weights[kept]) == pytest.approx(
                stacked.data[c, 0, 0], rel=1e-6
            )
        if METHODS[method].by_kappa:
            assert trace.values[WILD] > trace.highest[WILD]
            assert trace.sigma[WILD] == pytest.approx(10, rel=1e-3)


def test_limits_are_those_of_the_last_round() -> None:
    """The wilder of two samples goes first, for the other widens the scatter; limits are those without both."""
    cube = make_cube()
    cube.values[:, 5] += 4000
    _, traces = trace_pixel(cube, (SIDE // 2, SIDE // 2), 2.0, StackSettings(method="kappa_sigma"))
    assert (traces[0].highest[1:] < 1100).all()
