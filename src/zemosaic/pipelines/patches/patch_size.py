"""How big patches may be under a memory cap, and how many are made at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zemosaic.engine.memory import cap_too_small

__all__ = ["PATCH_SIZES", "PatchCost", "PatchPlan", "plan_patch_size"]

PATCH_SIZES = (1024, 768, 640, 512, 448, 384, 320, 288, 256, 224, 192, 176, 160, 144, 128, 112, 96, 80, 64)
"""Sides to choose from, pixels: beyond the first a patch gains nothing, below the last it is little but border. In
between each has two thirds to four fifths of the pixels of the one before, so little more of the memory than a third is
left idle."""

WINDOW_PX = 20_000
"""What opening a frame's window costs whatever its size, about a millisecond, in values resampled in that time."""

COMFORTABLE_PX, COMFORTABLE_BYTES = 512, 256 << 20
"""Patches of a larger side save less than a tenth of the work, but the deeper the stack the more fresh memory they
take, which the system clears no faster than it is filled: they are made where a task takes no more than this."""

SHARED_SPEED = 0.85
"""How fast threads that share a patch are beside threads with a patch each."""


@dataclass(frozen=True, slots=True)
class PatchCost:
    """What patches of a mosaic take.

    Attributes
    ----------
    task_bytes : callable
        Bytes one task needs for a patch of a given side, with a number of threads that share it.
    border_px : int
        Pixels round a patch that are computed too.
    n_channels : int
        Of the mosaic.
    strip_bytes : callable
        Bytes of the finished patches that wait to be written, for patches of a given side; as often as there are tasks
        at once, and taken again from one patch to the next.
    """

    task_bytes: Callable[[int, int], int]
    border_px: int = 0
    n_channels: int = 1
    strip_bytes: Callable[[int], int] = lambda size: 0


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """What was decided.

    Attributes
    ----------
    patch_px : int
        Side of a patch.
    workers : int
        Tasks in flight; fewer than asked for when the cap wants it.
    threads : int
        Threads that share the work of one task.
    task_bytes : int
        Estimated need of one task.
    spare_bytes : int
        What is left of the cap with all workers at a task.
    """

    patch_px: int
    workers: int
    threads: int
    task_bytes: int
    spare_bytes: int


def plan_patch_size(
    cap_bytes: int,
    workers: int,
    fixed_bytes: int,
    cost: PatchCost,
    sizes: Sequence[int] = PATCH_SIZES,
    *,
    can_share: bool = True,
) -> PatchPlan:
    """The size of patches and the number of workers that fit and will be done first.

    A frame's part in a patch costs its pixels in each channel, with the patch's border, shared among all threads, and
    `WINDOW_PX` whatever their number. Patches that would take much memory for little gain are not considered, however
    high the cap. Where fewer tasks fit than there are workers, the others help with those.

    Parameters
    ----------
    cap_bytes : int
        Memory the whole process may use.
    workers : int
        Wanted tasks in flight.
    fixed_bytes : int
        What the process holds anyway (interpreter, libraries, plans).
    cost : PatchCost
    sizes : sequence of int
        Sides to choose from, largest first.
    can_share : bool
        Whether several threads can work on one task.

    Raises
    ------
    EnvironmentProblem
        When not even one worker with the smallest patch fits.
    """
    free = cap_bytes - fixed_bytes
    comfortable = [size for size in sizes if size <= COMFORTABLE_PX or cost.task_bytes(size, 1) <= COMFORTABLE_BYTES]
    plans = []
    for size in comfortable or sizes:
        for n in range(workers, 0, -1):
            threads = workers // n if can_share else 1
            task_bytes = cost.task_bytes(size, threads)
            spare = free - n * (task_bytes + cost.strip_bytes(size))
            if spare < 0:
                continue
            at_once = n if threads == 1 else SHARED_SPEED * n * threads
            pixels = (size + 2 * cost.border_px) ** 2 * cost.n_channels
            plans.append(((pixels / at_once + WINDOW_PX) / size**2, PatchPlan(size, n, threads, task_bytes, spare)))
            break
        if plans and plans[-1][1].workers == workers:
            break  # smaller patches only have more border
    if not plans:
        raise cap_too_small(cap_bytes, fixed_bytes + cost.task_bytes(sizes[-1], 1) + cost.strip_bytes(sizes[-1]))
    return min(plans, key=lambda plan: plan[0])[1]
