"""Parts of maps and repeated values, against scipy and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from zemosaic.kernels.measure.parts import grow_squares, hold_border_parts, keep_squares, king_steps
from zemosaic.kernels.measure.repeats import find_lowest, find_repeats


def some_maps():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.3, 0.6, 0.9, 0.97, 1.0):
        for shape in ((1, 1), (3, 40), (29, 31)):
            one = rng.random(shape) < share
            yield one.view(np.uint8)
            yield np.ascontiguousarray(np.repeat(np.repeat(one, 7, 0), 8, 1)).view(np.uint8)


@pytest.mark.parametrize(("half", "reach"), [(3, 3), (3, 7), (1, 2)])
def test_squares_are_those_of_rank_filters(half, reach):
    for marked in some_maps():
        solid, grown = np.empty((2, *marked.shape), np.uint8)
        least = scipy.ndimage.minimum_filter(marked, 2 * half + 1, mode="constant", cval=1)
        assert keep_squares(marked, half, solid) == least.any()
        np.testing.assert_array_equal(solid, least)
        grow_squares(marked, reach, grown)
        np.testing.assert_array_equal(grown, scipy.ndimage.maximum_filter(marked, 2 * reach + 1, mode="constant"))


def test_what_does_not_reach_the_border_goes():
    wound = np.zeros((9, 9), np.uint8)
    wound[0, 1], wound[1, 1:8], wound[1:8, 7], wound[7, 1:8], wound[3:8, 1], wound[3, 1:6], wound[3:6, 5] = [1] * 7
    alone = np.zeros_like(wound)
    alone[5, 3] = 1
    held = wound | alone
    hold_border_parts(held)
    np.testing.assert_array_equal(held, wound)
    for marked in some_maps():
        labels, _ = scipy.ndimage.label(marked)
        at_border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        held = marked.copy()
        hold_border_parts(held)
        np.testing.assert_array_equal(held, np.isin(labels, at_border[at_border > 0]))


def test_steps_of_a_king_up_to_the_most():
    for marked in some_maps():
        steps = np.empty_like(marked)
        king_steps(marked, 9, steps)
        far = (
            scipy.ndimage.distance_transform_cdt(marked == 0, "chessboard")
            if marked.any()
            else np.full(steps.shape, 10)
        )
        np.testing.assert_array_equal(steps, np.minimum(far, 10))


def test_rows_repeat_where_more_than_half_can_be_compared():
    data = np.arange(60, dtype=np.float32).reshape(6, 10)
    data[2], data[5] = data[1], data[3]
    have, repeats = np.ones(data.shape, bool), np.empty(6, bool)
    find_repeats(data, have, 1, repeats)
    assert repeats.tolist() == [False, False, True, False, False, False]
    find_repeats(data, have, 2, repeats)
    assert repeats.tolist() == [False, False, False, False, False, True]
    have[2, :4], data[2, 0] = False, -1  # what is not there is not compared
    find_repeats(data, have, 1, repeats)
    assert repeats[2]
    have[1, 4] = False
    find_repeats(data, have, 1, repeats)
    assert not repeats[2]


def test_lowest_value_and_the_next():
    data = np.array([[5, 3, 9], [3, 7, 4]], np.float32)
    have = np.ones(data.shape, bool)
    assert find_lowest(data, have) == (3, 4, 2)
    have[0, 1] = have[1, 2] = False
    assert find_lowest(data, have) == (3, 5, 1)
    assert find_lowest(data, have & (data == 9)) == (9, np.inf, 1)
    assert find_lowest(data, ~have & False) == (np.inf, np.inf, 0)
