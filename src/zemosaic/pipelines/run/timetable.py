"""How long a run takes yet: from what its stages cost on this machine, and from how it went so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from zemosaic.engine.events import Event, FramesFound, GridPlanned, Progress, RunPlanned, StageEnded, StageStarted

__all__ = ["FRAMES", "LOOK", "Cost", "Timetable", "Work", "whole_s"]

COMPILE = "compile"
"""Kernels are compiled beside the stages, in other processes, and hold them up."""

LOOK = ("scan", "measure", "thumbnails", "solve")
"""Stages of a run that looks at frames and makes no mosaic."""

FRAMES = (*LOOK, "match", "plan", "stack", "preview", "checksums")
"""Stages of a run that makes mosaics straight from frames."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much there is to do, in the units that costs follow.

    Attributes
    ----------
    n_frames : int
    n_values : float
        In the files of all frames.
    n_samples : float
        In all frames, once they have their colours.
    n_out : float
        Values of one plane of all mosaics.
    n_mosaics : int
        Some stages have a turn for each.
    """

    n_frames: int = 0
    n_values: float = 0.0
    n_samples: float = 0.0
    n_out: float = 0.0
    n_mosaics: int = 1

    @classmethod
    def of_frames(cls, n_frames: int, n_values: float, n_samples: float) -> Work:
        """The work of frames whose mosaic is not planned yet."""
        return cls(n_frames, n_values, n_samples, n_samples / max(n_frames, 1) ** _DEPTH_POWER)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a stage: at once, and a unit of work (`Work`); values, samples and output in millions."""

    start: float = 0.0
    frame: float = 0.0
    value: float = 0.0
    sample: float = 0.0
    out: float = 0.0

    def seconds(self, work: Work) -> float:
        """What an amount of work takes."""
        by_numbers = self.value * work.n_values + self.sample * work.n_samples + self.out * work.n_out
        return self.start + self.frame * work.n_frames + by_numbers / 1e6


PRODUCTS = {
    "report": Cost(start=2.0, frame=0.003),
    "edit": Cost(out=0.03),
    "tiff": Cost(out=0.06),
    "aesthetic": Cost(out=0.3),
    "regions": Cost(start=0.1),
    "viewer": Cost(start=0.4, out=0.1),
    "hips": Cost(start=1.0, out=0.6),
    "hips-png": Cost(start=1.0, out=0.8),
}
"""What is made of the finished mosaic."""

BESIDE = "report"
"""It is made beside all other products: of the two lanes the longer one counts."""

USUAL = {
    "scan": Cost(start=0.6, frame=0.001),
    "measure": Cost(start=0.5, value=0.026, sample=0.004),
    "thumbnails": Cost(start=0.1, value=0.0045),
    "solve": Cost(start=0.1, frame=0.015),
    "match": Cost(start=0.8, frame=0.02),
    "plan": Cost(start=0.05, frame=0.003),
    "stack": Cost(start=1.2, sample=0.02, out=0.06),
    "stack tiles": Cost(start=1.2, sample=0.02, out=0.06),
    "match tiles": Cost(start=0.2, out=0.05),
    "warp tiles": Cost(start=0.2, out=0.1),
    "blend": Cost(start=0.2, out=0.2),
    "preview": Cost(start=0.5, out=0.01),
    "checksums": Cost(start=0.2, value=0.004),
}
"""Built-in costs of stages, in the order in which they come, each from the end of the one before: two processors of a
server, as `benchmarks/app_time_left.py` measured them. A machine's own history tells how many times longer it takes."""

_PER_MOSAIC = {"match", "plan", "stack", "preview"}
"""Stages that have a turn for each mosaic."""

_DEPTH_POWER = 0.6
"""Frames over each place, as a power of their number, until the grid is planned: 10 of 50, 36 of 400."""

_TRUSTED_AT = 0.3
"""Share of a stage at which its own rate weighs as much as what was expected of it: the first frames and patches
wait for files and for loaded modules, and those at the rim have less to do."""

_TAKEN_OVER = 0.2
"""A stage that took less than this part of what was to be expected found its work done by an earlier run."""

_UNSURE = 0.4
"""How much more what was expected of the stages to come weighs than what those before say of them: a stage that took
longer may have had more to do than its like, on a machine that is as fast as ever."""

_TAIL = 0.1
"""Of a stage that takes longer than expected and counts nothing: what it takes yet, as a share of what it took."""

_KERNEL_S = 0.48
"""Seconds a kernel takes to be compiled beside a run, by 70 of them."""

_KERNELS_SLOW_DOWN = 1.6
"""The largest kernels are compiled last: of 70, 57 took .6 of the time, which is this power of their share."""

_SHORT_S = 3.0
"""Of a stage that takes no longer, the time says little of its cost: it is loaded modules and waiting."""


def whole_s(work: Work, stages: Sequence[str], products: Sequence[str], paces: Mapping[str, float]) -> float:
    """Seconds that stages, and products of the finished mosaic, take on a machine with such paces (`Timetable`)."""
    return sum(_usual_s(stage, work, products) * paces.get(stage, 1.0) for stage in _with_products(stages, products))


def _with_products(stages: Sequence[str], products: Sequence[str]) -> tuple[str, ...]:
    return (*stages, "products") if products else tuple(stages)


def _usual_s(stage: str, work: Work, products: Sequence[str]) -> float:
    """Seconds that all turns of a stage take by built-in costs."""
    if stage != "products":
        return USUAL[stage].seconds(work)
    beside = PRODUCTS[BESIDE].seconds(work) if BESIDE in products else 0.0
    return max(beside, sum(PRODUCTS[name].seconds(work) for name in products if name != BESIDE))


@dataclass(slots=True)
class _Turns:
    """How far a stage is.

    Attributes
    ----------
    spent_s : float
        In turns that ended, each from the end of the stage before.
    n_ended : int
    is_alone : bool
        No kernel was compiled beside it, so its time is its own.
    """

    spent_s: float = 0.0
    n_ended: int = 0
    is_alone: bool = True


@dataclass(slots=True)
class _Counted:
    """Units of a stage at work; `total` is 0 where it is not known."""

    total: int = 0
    begun_s: float = 0.0
    done: int = 0

    @property
    def share(self) -> float:
        """Of the work; a few units are half done, about as much as one whole unit."""
        return min((self.done + 1) / (self.total + 1), 1.0) if self.done and self.total else 0.0

    def left_s(self, at_s: float) -> float:
        """By its own rate, where anything is done."""
        return (at_s - self.begun_s) * (1 / self.share - 1)


class Timetable:
    """How long a run takes yet, by its events; it is told the time and has no clock.

    Stages follow each other. What is made of the finished mosaic counts as one: parts of it run beside each other.

    Parameters
    ----------
    paces : mapping
        Stage -> how many times longer than usual it takes on this machine; 1 for those that are missing.
    """

    def __init__(self, paces: Mapping[str, float]) -> None:
        self._paces = paces
        self._work: Work | None = None
        self._stages: tuple[str, ...] = ()
        self._products: tuple[str, ...] = ()
        self._turns: defaultdict[str, _Turns] = defaultdict(_Turns)
        self._here = ""
        self._counted: _Counted | None = None
        self._compiled: _Counted | None = None
        self._since_s = 0.0

    def add(self, event: Event, at_s: float) -> None:
        """Take in what a run tells, so many seconds after its start."""
        match event:
            case RunPlanned(stages, products):
                self._stages, self._products = _with_products(stages, products), products
            case FramesFound(n_frames, n_values, n_samples):
                self._work = Work.of_frames(n_frames, n_values, n_samples)
            case GridPlanned(n_mosaics, n_values) if self._work:
                self._work = replace(self._work, n_out=n_values, n_mosaics=n_mosaics)
            case StageStarted(stage, total):
                self._start(stage, _Counted(total or 0, at_s))
            case Progress(stage, done):
                counted = self._compiled if stage == COMPILE else self._counted
                if counted:
                    counted.done = done
            case StageEnded(stage):
                self._end(stage, at_s)

    def _start(self, stage: str, counted: _Counted) -> None:
        if stage == COMPILE:
            self._compiled = counted
        else:
            self._here, self._counted = _phase_of(stage), counted
        if self._compiled:
            self._turns[self._here].is_alone = False

    def _end(self, stage: str, at_s: float) -> None:
        if stage == COMPILE:
            # The stage at work was held up until now.
            self._compiled, self._since_s = None, at_s
            return
        turns = self._turns[_phase_of(stage)]
        turns.spent_s += at_s - self._since_s
        turns.n_ended += 1
        self._since_s, self._counted = at_s, None

    def left_s(self, at_s: float) -> float | None:
        """Seconds left; None before it is known how much there is to do."""
        if self._work is None or not self._stages:
            return None
        slower, in_turn_s = self._slowness(at_s), at_s - self._since_s
        left = {stage: self._turns_left(stage) * slower * self._turn_s(stage) for stage in self._stages}
        if self._counted:
            turn_s = slower * self._turn_s(self._here)
            now_s = self._left_of_turn(turn_s, in_turn_s, at_s)
            after_s = sum(left.values()) - min(turn_s, left.get(self._here, 0.0))
        else:  # what is done between two stages counts for the next one, unless that waits for kernels
            now_s, after_s = 0.0, max(sum(left.values()) - (0.0 if self._compiled else in_turn_s), 0.0)
        return max(now_s, self._compile_left_s(at_s)) + after_s

    def measured_paces(self) -> dict[str, float]:
        """How many times longer than usual each stage took that did all of its work, alone."""
        worked = self._worked(self._usual_s)
        return {stage: (spent_s + _SHORT_S) / (usual + _SHORT_S) for stage, (spent_s, usual) in worked.items()}

    def _usual_s(self, stage: str) -> float:
        """Seconds of all turns of a stage by built-in costs."""
        return _usual_s(stage, self._work or Work(), self._products)

    def _expected_s(self, stage: str) -> float:
        """The same by the history of this machine."""
        return self._usual_s(stage) * self._paces.get(stage, 1.0)

    def _n_turns(self, stage: str) -> int:
        if stage == "products":
            return len(self._products)
        return self._work.n_mosaics if self._work and stage in _PER_MOSAIC else 1

    def _turn_s(self, stage: str) -> float:
        return self._expected_s(stage) / self._n_turns(stage) if stage in self._stages else 0.0

    def _turns_left(self, stage: str) -> int:
        """Turns that did not end; a stage that others have overtaken has none."""
        here = self._stages.index(self._here) if self._here in self._stages else -1
        if self._stages.index(stage) < here and not {stage, self._here} <= _PER_MOSAIC:
            return 0
        return max(self._n_turns(stage) - self._turns[stage].n_ended, 0)

    def _left_of_turn(self, turn_s: float, in_turn_s: float, at_s: float) -> float:
        """Of the stage at work: by its own rate, the more so the more of it is done, and by what was expected."""
        counted = self._counted
        if counted is None or not counted.share:
            return max(turn_s - in_turn_s, _TAIL * in_turn_s)
        expected_s = max((1 - counted.share) * turn_s, turn_s - in_turn_s)
        trust = counted.share / (counted.share + _TRUSTED_AT)
        return trust * counted.left_s(at_s) + (1 - trust) * expected_s

    def _compile_left_s(self, at_s: float) -> float:
        compiled = self._compiled
        if compiled is None:
            return 0.0
        share, in_turn_s = compiled.share**_KERNELS_SLOW_DOWN, at_s - compiled.begun_s
        own_s = in_turn_s * (1 / share - 1) if share else 0.0
        return share * own_s + (1 - share) * max(_KERNEL_S * compiled.total - in_turn_s, 0.0)

    def _worked(self, expected_s: Callable[[str], float]) -> dict[str, tuple[float, float]]:
        """Stage -> seconds it took and was to take, where all of its turns ended and its time was its own work."""
        found = {
            stage: (turns.spent_s, expected_s(stage))
            for stage, turns in self._turns.items()
            if stage in self._stages and turns.is_alone and turns.n_ended >= self._n_turns(stage)
        }
        found = {stage: both for stage, both in found.items() if both[1] > 0}
        most = max((spent_s / expected for spent_s, expected in found.values()), default=0.0)
        return {stage: both for stage, both in found.items() if both[0] >= _TAKEN_OVER * most * both[1]}

    def _slowness(self, at_s: float) -> float:
        """How many times longer than expected this run takes, by what is done of it."""
        pairs = list(self._worked(self._expected_s).values())
        share = self._counted.share if self._counted else 0.0
        if share and self._here in self._stages and self._turns[self._here].is_alone:
            pairs.append((at_s - self._since_s, share * self._turn_s(self._here)))
        if not pairs:
            return 1.0
        spent_s, expected_s = (sum(values) for values in zip(*pairs, strict=True))
        to_come_s = max(sum(map(self._expected_s, self._stages)) - expected_s, 0.0)
        trust = expected_s / (expected_s + _UNSURE * to_come_s)
        return (spent_s / expected_s) ** trust


def _phase_of(stage: str) -> str:
    return "products" if stage in PRODUCTS else stage
