"""The time left: runs whose stages take a known time, told as a run tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from zemosaic.engine.events import Event, FramesFound, GridPlanned, Progress, RunPlanned, StageEnded, StageStarted
from zemosaic.pipelines.run.timetable import FRAMES, LOOK, Timetable, Work, whole_s

PRODUCTS = ("report", "edit", "viewer")
SMALL = Work(12, 25e6, 75e6, 9e6, 1)
LARGE = Work(400, 8e8, 24e8, 60e6, 1)
TWO = Work(100, 2e8, 2e8, 40e6, 2)
N_UNITS = 20

Lines = list[tuple[Event, float]]


def seconds_of(stage: str, work: Work, paces: Mapping[str, float]) -> float:
    return whole_s(work, [stage], (), paces)


def run_of(work: Work, paces: Mapping[str, float]) -> Iterator[tuple[Event, float]]:
    """What a run tells whose stages take as long as a machine with such paces has them take."""
    yield RunPlanned(FRAMES, PRODUCTS), 0.0
    yield FramesFound(work.n_frames, int(work.n_values), int(work.n_samples)), 0.1
    now = 0.1
    once, each, last = FRAMES[:4], FRAMES[4:8], FRAMES[8:]
    for turn in (once, *[each] * work.n_mosaics, last):
        for stage in turn:
            took = seconds_of(stage, work, paces) / (work.n_mosaics if turn is each else 1)
            total = None if stage == "match" else N_UNITS
            yield StageStarted(stage, total), now
            for done in range(1, N_UNITS + 1):
                yield Progress(stage, done), now + took * done / N_UNITS
            now += took
            yield StageEnded(stage, took), now
        if turn is once:
            yield GridPlanned(work.n_mosaics, int(work.n_out)), now
    took = whole_s(work, (), PRODUCTS, paces)
    yield StageStarted("report"), now
    yield StageStarted("edit"), now
    yield StageEnded("edit", took / 4), now + took / 4
    yield StageStarted("viewer"), now + took / 4
    yield StageEnded("viewer", took / 2), now + 3 * took / 4
    yield StageEnded("report", took), now + took


def errors_of(lines: Lines, paces: Mapping[str, float]) -> list[float]:
    """Errors of the time left from half way on, as shares of the truth, or of 10 s where that is more."""
    table, end_s, errors = Timetable(paces), lines[-1][1], []
    for event, at_s in lines:
        table.add(event, at_s)
        left_s = table.left_s(at_s)
        if at_s >= end_s / 2:
            assert left_s is not None
            errors.append(abs(left_s - (end_s - at_s)) / max(end_s - at_s, 10.0))
    return errors


def paces_of(lines: Lines) -> dict[str, float]:
    table = Timetable({})
    for event, at_s in lines:
        table.add(event, at_s)
    return table.measured_paces()


@pytest.mark.parametrize("work", [SMALL, LARGE, TWO])
def test_a_usual_machine_needs_no_history(work: Work) -> None:
    assert max(errors_of(list(run_of(work, {})), {})) < 0.1


@pytest.mark.parametrize("slower", [0.3, 3.0])
def test_a_machine_that_is_slow_in_all_is_found_out_by_half_way(slower: float) -> None:
    paces = dict.fromkeys([*FRAMES, "products"], slower)
    assert max(errors_of(list(run_of(LARGE, paces)), {})) < 0.3


def test_one_run_tells_what_another_set_takes() -> None:
    """A disk that is slow and a stack that is fast: the stages do not tell of each other, their history does."""
    paces = {"measure": 2.0, "stack": 0.5, "checksums": 2.0, "products": 2.0}
    lines = list(run_of(LARGE, paces))
    known = paces_of(list(run_of(Work(100, 4e8, 12e8, 40e6, 1), paces)))
    assert known["measure"] == pytest.approx(2.0, rel=0.2)
    assert known["stack"] == pytest.approx(0.5, rel=0.2)
    assert max(errors_of(lines, known)) < 0.3 < max(errors_of(lines, {}))


def test_what_an_earlier_run_had_done_says_nothing_of_the_rest() -> None:
    found = {"measure": 0.01, "solve": 0.01, "match": 0.01}
    assert max(errors_of(list(run_of(LARGE, found)), {})) < 0.1
    assert not set(found) & set(paces_of(list(run_of(LARGE, found))))


def test_kernels_that_are_compiled_hold_up_and_spoil_no_history() -> None:
    lines, compiling_s = list(run_of(LARGE, {})), 30.0
    k = next(
        k for k, (event, _) in enumerate(lines) if event == StageEnded("measure", seconds_of("measure", LARGE, {}))
    )
    ends = [
        (StageStarted("compile", 60), lines[k - 1][1]),
        (StageEnded("compile", 30.0), lines[k - 1][1] + compiling_s),
    ]
    held = [(event, at_s + compiling_s) for event, at_s in lines[k:]]
    assert max(errors_of([*lines[:k], *ends, *held], {})) < 0.2
    table = Timetable({})
    for event, at_s in [
        *lines[: k - N_UNITS - 1],
        (StageStarted("compile", 60), lines[k - N_UNITS - 1][1]),
        *lines[k - N_UNITS - 1 :],
    ]:
        table.add(event, at_s)
    assert "measure" not in table.measured_paces()


def test_a_look_ends_with_the_places() -> None:
    table = Timetable({})
    assert table.left_s(0.0) is None
    table.add(RunPlanned(LOOK), 0.0)
    assert table.left_s(0.0) is None
    table.add(FramesFound(12, int(25e6), int(75e6)), 0.1)
    left_s = table.left_s(0.1)
    assert left_s is not None
    assert left_s < whole_s(SMALL, FRAMES, (), {}) / 2
