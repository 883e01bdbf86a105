"""Saturated samples give way to those of other frames that say more."""

from __future__ import annotations

import numpy as np
import pytest

from zemosaic.settings import StackSettings
from zemosaic.stages.stack.stack import Cube, FrameNoise, stack_cube

SHAPE = (24, 24)
STAR = np.s_[10:14, 10:14]
RIM = np.s_[8:16, 8:16]
NOISE = np.array([1.0, 1, 10, 10, 10])


def stack(values, saturated, method="kappa_sigma"):
    """Frames (n, h, w) of noise `NOISE`, those samples flagged where `saturated`."""
    n = len(values)
    weights = np.broadcast_to((1 / NOISE[:n] ** 2)[:, None, None], values.shape).astype(np.float32).copy()
    alpha = np.where(saturated, 127 + 128, 127).astype(np.uint8)
    cube = Cube(
        values[None].astype(np.float32),
        weights[None],
        alpha[None],
        FrameNoise.of_sky((1, n)),
        np.ones(n, np.float32),
        np.zeros(n, bool),
    )
    return stack_cube(cube, 3.0, StackSettings(method=method))


def star(peaks):
    """Frames of a sky of 100 with a flat star of such peaks."""
    rng = np.random.default_rng(1)
    values = 100 + rng.normal(0, 1, (len(peaks), *SHAPE)) * NOISE[: len(peaks), None, None]
    values[:, *STAR] += np.array(peaks)[:, None, None]
    return values


def flags(*frames, n=5):
    saturated = np.zeros((n, *SHAPE), bool)
    saturated[list(frames), *STAR] = True
    return saturated


@pytest.mark.parametrize("method", ["kappa_sigma", "winsorized", "median", "ccdclip"])
def test_short_frames_tell_what_long_ones_cannot_hold(method):
    out = stack(star([500, 500, 1000, 1000, 1000]), flags(0, 1), method)
    np.testing.assert_allclose(out.data[0][STAR], 1100, atol=30)
    assert not out.saturated[0][STAR].any()
    np.testing.assert_array_equal(out.rejected[0][STAR], 2)
    assert np.median(out.rejected[0][:6]) == 0


def test_what_a_kernel_mixed_with_saturated_samples_gives_way_too():
    values = star([500, 500, 1000, 1000, 1000])
    values[:2, 8:16, 8:10] += 40
    out = stack(values, flags(0, 1))
    assert np.abs(out.data[0, 8:16, 8:10].mean() - 100) < 5
    assert (out.rejected[0][RIM] >= 2).all()


def test_frames_that_saturate_by_turns_all_stay():
    """Of a star that reaches the level in some frames by chance, those that do not saw less: they know no better."""
    out = stack(star([1000, 1000, 930, 940, 950]), flags(0, 1))
    np.testing.assert_array_equal(out.rejected[0][STAR], 0)
    assert (out.data[0][STAR] > 1090).all()


def test_where_all_are_saturated_all_stay():
    out = stack(star([500, 500, 500, 500, 500]), flags(0, 1, 2, 3, 4))
    np.testing.assert_array_equal(out.saturated[0][STAR], 5)
    np.testing.assert_array_equal(out.rejected[0][STAR], 0)
