"""Boxes of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.model.box import Box

edges = st.integers(-40, 40)
boxes = st.builds(lambda y, x, h, w: Box(y, y + h, x, x + w), edges, edges, st.integers(0, 60), st.integers(0, 60))


@settings(deadline=None)
@given(boxes, st.integers(1, 25))
def test_pieces_partition_a_box_exactly(box: Box, size: int) -> None:
    count = np.zeros((200, 200), int)
    for piece in box.split(size):
        assert max(piece.shape) <= size
        count[piece.shift(60, 60).slices] += 1
    expected = np.zeros_like(count)
    expected[box.shift(60, 60).slices] = 1
    assert np.array_equal(count, expected)


@settings(deadline=None)
@given(boxes, boxes)
def test_intersection_is_what_both_hold(a: Box, b: Box) -> None:
    both = np.zeros((2, 200, 200), bool)
    both[0][a.shift(60, 60).slices] = True
    both[1][b.shift(60, 60).slices] = True
    assert a.intersect(b).n_pixels == (both[0] & both[1]).sum()
    assert a.overlaps(b) == bool((both[0] & both[1]).any())
    assert a.contains(a.intersect(b))


def test_pieces_stay_where_they_are_when_a_box_grows() -> None:
    small, large = set(Box(0, 64, 0, 64).split(32)), set(Box(0, 128, 0, 96).split(32))
    assert small < large


def test_box_of_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(Box(0, 4, 0, 4).split(0))
