"""Patches gathered into strips: the same pixels in few pieces, and nothing told to be written that is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zemosaic.io.write.mosaic_file import Plane
from zemosaic.model.box import Box
from zemosaic.pipelines.patches import strips as module
from zemosaic.pipelines.patches.planes import ArrayPlanes
from zemosaic.pipelines.patches.strips import Strips, gather_strips, strip_bytes

SHAPE, SIDE = (25, 47), 10
PLANES = (Plane("DATA", "f4", 3), Plane("COV", "i2"), Plane("ALPHA", "u1"))
BOXES = list(Box.of_shape(SHAPE).split(SIDE))


class Counted(ArrayPlanes):
    """Planes in memory that know in which boxes they were written."""

    def __init__(self) -> None:
        super().__init__(PLANES, SHAPE)
        self.boxes: list[Box] = []

    def write(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
        super().write(name, box, values)
        self.boxes.append(box)


def truth() -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(1)
    return {p.name: random.integers(0, 99, (p.n_channels, *SHAPE)).astype(p.dtype) for p in PLANES}


def give(strips: Strips, box: Box, told: list[Box]) -> None:
    for name, values in truth().items():
        strips.write(name, box, values[:, *box.slices])
    strips.end(box, lambda: told.append(box))


def test_rows_of_patches_are_written_whole() -> None:
    sink, told = Counted(), list[Box]()
    order = np.random.default_rng(2).permutation(len(BOXES))
    with gather_strips(sink, PLANES, BOXES) as strips, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: give(strips, BOXES[k], told), order))
    assert all(np.array_equal(sink.planes[name], values) for name, values in truth().items())
    assert {(box.x0, box.x1) for box in sink.boxes} == {(0, SHAPE[1])}
    assert len(sink.boxes) == 3 * len(PLANES)
    assert sorted(told) == sorted(BOXES)


def test_a_wide_row_is_cut_into_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRIP_BYTES", 2 * SIDE * SIDE * 15)
    sink, told = Counted(), list[Box]()
    with gather_strips(sink, PLANES, BOXES) as strips:
        for box in BOXES:
            give(strips, box, told)
    assert {box.width for box in sink.boxes if box.y0 == 0} == {10, 20, 17}
    assert strip_bytes(PLANES, SIDE, SHAPE[1]) == 2 * SIDE * SIDE * 15
    assert strip_bytes(PLANES, 2, 3) == 2 * 3 * 15


def test_what_is_there_already_is_left_alone() -> None:
    sink, told = Counted(), list[Box]()
    with gather_strips(sink, PLANES, BOXES) as strips:
        strips.skip(BOXES[1])
        for box in BOXES[:1] + BOXES[2:]:
            give(strips, box, told)
    assert np.isnan(sink.planes["DATA"][:, *BOXES[1].slices]).all()
    sink.write("DATA", BOXES[1], truth()["DATA"][:, *BOXES[1].slices])
    assert np.array_equal(sink.planes["DATA"], truth()["DATA"])
    assert BOXES[1] not in told


def test_patches_that_have_ended_are_not_lost_by_an_error() -> None:
    sink, told = Counted(), list[Box]()

    def stop_early() -> None:
        with gather_strips(sink, PLANES, BOXES) as strips:
            give(strips, BOXES[0], told)
            give(strips, BOXES[2], told)
            strips.write("COV", BOXES[3], truth()["COV"][:, *BOXES[3].slices])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_early()
    assert told == [BOXES[0], BOXES[2]]
    assert set(sink.boxes) == set(told)
    for box in told:
        assert np.array_equal(sink.planes["DATA"][:, *box.slices], truth()["DATA"][:, *box.slices])


def test_what_could_not_be_written_is_not_told() -> None:
    class Full(Counted):
        def write(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
            raise OSError("full")

    told = list[Box]()

    def fill() -> None:
        with gather_strips(Full(), PLANES, BOXES) as strips:
            for box in BOXES:
                give(strips, box, told)

    with pytest.raises(OSError, match="full"):
        fill()
    assert told == []
