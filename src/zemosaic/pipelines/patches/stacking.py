"""Make all patches of a mosaic, inside the memory cap."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zemosaic.engine.executor import make_executor
from zemosaic.engine.memory import ReusedMemory, resident_bytes
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.model.box import Box
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.pipelines.patches.growing import growing_picture
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchJob
from zemosaic.pipelines.patches.ledger import PatchCounts, PatchLedger
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.patches.patch_size import PATCH_SIZES, PatchCost, PatchPlan, plan_patch_size
from zemosaic.pipelines.patches.planes import PlaneSink, write_patch
from zemosaic.pipelines.patches.reading import Reading, keep_frames
from zemosaic.pipelines.patches.stack_remotely import stack_remotely
from zemosaic.pipelines.patches.strips import gather_strips, strip_bytes
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.stack import border_px, bytes_per_pixel, bytes_per_sample
from zemosaic.text import Message, message

__all__ = ["Filled", "describe_samples", "plan_patches", "stack_onto_grid"]

MUCH_CLIPPED = 0.1
"""Share of samples, beyond those that noise puts outside of the limits, from which clipping is told. Of matched frames
trails, cosmic rays and rims of clouds take 3 % at most; of frames far apart a third and more may go."""


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """What is known of a mosaic whose planes have been filled.

    Attributes
    ----------
    figures : dict
        For the report.
    reads : ReadCounts
        What was read of files.
    clipped : mapping
        FrameId -> share of the frame's samples that were clipped; empty where samples were not clipped frame by frame.
    """

    figures: dict[str, Any]
    reads: ReadCounts
    clipped: Mapping[str, float] = field(default_factory=dict)


def stack_onto_grid(job: MosaicJob, sink: PlaneSink, run: Run, ledger: PatchLedger | None = None) -> Filled:
    """Make all patches and write their planes; those that `ledger` finds finished are not made again.

    Returns
    -------
    Filled
        Its figures: ``n_samples``, ``n_rejected`` and the memory plan.
    """
    sizes = ledger.fitting_sizes(PATCH_SIZES) if ledger else PATCH_SIZES
    plan, border = plan_patches(job, run, sizes, beside_bytes=run.machine.beside_bytes)
    if ledger:
        ledger.record_size(plan.patch_px)
    works = job.plan_all(plan.patch_px, border)
    advance = run.log.start("stack", len(works))
    picture = growing_picture(run, job.grid.shape, job.kind.n_channels)
    memory, each = ReusedMemory(plan.task_bytes), make_executor(plan.threads).map

    def task(work: PatchJob) -> PatchCounts:
        run.cancel.check()
        if ledger and (found := ledger.recall(work.patch)):
            if picture:
                run.log.patch(picture.add(work.patch.inner, ledger.read_data(work.patch.inner)))
            strips.skip(work.patch.inner)
            return found
        made = make_patch(job, work, run.cancel.check, memory, each)
        write_patch(strips, work.patch.inner, made, job.names)
        if picture:
            data = np.where(made.weight > 0, made.data, np.float32(np.nan))
            run.log.patch(picture.add(work.patch.inner, data))
        counts = PatchCounts.of(made)
        strips.end(work.patch.inner, lambda: ledger.record(work.patch, counts) if ledger else None)
        return counts

    if ledger:
        stack_remotely(job, works, ledger, run, advance, plan.workers)
    n_samples = n_rejected = 0
    of_frames, clipped = Counter[str](), Counter[str]()
    readings = {work: Reading(_band_of(work.patch, job.grid), work.visits) for work in works}
    boxes = [work.patch.inner for work in works]
    with (
        keep_frames(job.source.files, readings, job.warp, plan.spare_bytes) as (release, reads),
        gather_strips(sink, job.planes, boxes, ledger.note if ledger else None) as strips,
    ):
        for count, (work, counts) in enumerate(make_executor(plan.workers).run(task, works), 1):
            release(work)
            n_samples += counts.n_samples
            n_rejected += counts.n_rejected
            for visit, (n_here, n_clipped) in zip(work.visits, counts.by_frame, strict=False):
                of_frames[visit.item.frame.id] += n_here
                clipped[visit.item.frame.id] += n_clipped
            advance(count)
    if picture:
        picture.finish()
    samples = describe_samples(n_samples, n_rejected)
    patches = message("done.patches", n=len(works), size_px=plan.patch_px)
    run.log.end("stack", message("done.parts", parts=[patches, samples, *reads.words()]))
    _tell_much_clipped(n_samples, n_rejected, job.stack, run)
    figures = {
        "n_samples": n_samples,
        "n_rejected": n_rejected,
        "patch_px": plan.patch_px,
        "workers": plan.workers,
        "threads": plan.threads,
    }
    return Filled(figures, reads, {name: clipped[name] / n for name, n in of_frames.items() if n})


def describe_samples(n_samples: int, n_rejected: int) -> Message:
    """How many samples were stacked and clipped, as a part of a summary."""
    return message("done.samples", n_millions=n_samples / 1e6, share=n_rejected / max(n_samples, 1))


def _tell_much_clipped(n_samples: int, n_rejected: int, settings: StackSettings, run: Run) -> None:
    """Warn where far more was clipped than noise and what crosses the sky explain: then frames do not agree."""
    of_noise = sum(math.erfc(kappa / math.sqrt(2)) / 2 for kappa in (settings.kappa_low, settings.kappa_high))
    share = n_rejected / max(n_samples, 1)
    if share > MUCH_CLIPPED + of_noise:
        run.log.notice(message("stack.much-clipped", share=share), "warning")


def _band_of(patch: Patch, grid: SkyGrid) -> Box:
    """The rows of the grid that a patch and those beside it need."""
    return Box(patch.outer.y0, patch.outer.y1, 0, grid.shape[1])


def plan_patches(
    job: MosaicJob, run: Run, sizes: Sequence[int] = PATCH_SIZES, *, beside_bytes: int = 0
) -> tuple[PatchPlan, int]:
    """Size and border of the patches, and how many at once, that the memory cap allows.

    Parameters
    ----------
    job : MosaicJob
    run : Run
    sizes : sequence of int
        Sides to choose from, largest first.
    beside_bytes : int
        What each worker holds beside its patch.
    """
    border, n_channels = border_px(job.stack, job.fwhm_px), job.kind.n_channels
    n_planes = max(1 if item.frame.storage.bayer else n_channels for item in job.inputs)
    cube = METHODS[job.stack.method].guarded

    def task_bytes(size: int, threads: int) -> int:
        depth = job.count_deepest(job.grid.patches(size, border)) if cube else 1
        pixels = (size + 2 * border) ** 2
        # The window of one frame under a turned patch, as read and as float32 data and weight.
        window = 2 * pixels * 20 * n_planes
        samples = pixels * depth * bytes_per_sample(n_channels)
        stack = n_channels * pixels * bytes_per_pixel(job.stack.method)
        return int(samples + stack + window * threads + beside_bytes)

    machine, files = run.machine, job.source.files
    # The cache of decoded frames may still grow.
    held = resident_bytes() + (files.room_bytes() if files else machine.cache_bytes)
    cost = PatchCost(task_bytes, border, n_channels, lambda size: strip_bytes(job.planes, size, job.grid.shape[1]))
    plan = plan_patch_size(machine.cap_bytes, machine.workers, held, cost, sizes, can_share=machine.remote is None)
    if plan.workers < machine.workers:
        shared = message("patches.threads", n=plan.threads) if plan.threads > 1 else None
        run.log.notice(
            message("patches.fewer-at-once", n_at_once=plan.workers, n_workers=machine.workers, shared=shared)
        )
    return plan, border
