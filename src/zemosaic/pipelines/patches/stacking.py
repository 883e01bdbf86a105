"""Make all patches of a mosaic, inside the memory cap."""

from __future__ import annotations

from collections.abc import Sequence

from zemosaic.engine.executor import make_executor
from zemosaic.engine.memory import PATCH_SIZES, MemoryPlan, ReusedMemory
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.model.box import Box
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.pipelines.measuring.clean_source import CleanSource
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.pipelines.patches.ledger import PatchCounts, PatchLedger
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.patches.planes import PlaneSink, write_patch
from zemosaic.pipelines.patches.reading import Reach, frames_kept
from zemosaic.pipelines.patches.stack_remotely import stack_remotely
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.stack import StackedPatch, border_px, bytes_per_pixel, bytes_per_sample

__all__ = ["plan_patches", "stack_onto_grid"]


def stack_onto_grid(
    inputs: Sequence[PatchInput],
    fwhm_px: float,
    grid: SkyGrid,
    settings: Settings,
    source: CleanSource,
    sink: PlaneSink,
    names: Sequence[str],
    run: Run,
    ledger: PatchLedger | None = None,
) -> tuple[dict[str, float], ReadCounts]:
    """Make all patches and write their planes; those that `ledger` finds finished are not made again.

    Returns
    -------
    (dict, ReadCounts)
        ``n_samples``, ``n_rejected`` and the memory plan, for the report; what was read of files.
    """
    n_channels = inputs[0].frame.n_channels
    sizes = ledger.fitting_sizes(PATCH_SIZES) if ledger else PATCH_SIZES
    beside = run.machine.beside_bytes
    plan, border = plan_patches(inputs, fwhm_px, grid, settings, source, run, sizes, beside_bytes=beside)
    if ledger:
        ledger.record_size(plan.patch_px)
    patches, reach = list(grid.patches(plan.patch_px, border)), Reach(inputs)
    reaching = {patch: reach(patch.outer) for patch in patches}
    advance = run.log.start("stack", len(patches))
    memory, each = ReusedMemory(plan.task_bytes), make_executor(plan.threads).map

    def band_of(patch: Patch) -> Box:
        return Box(patch.outer.y0, patch.outer.y1, 0, grid.shape[1])

    def task(patch: Patch) -> PatchCounts:
        run.cancel.check()
        if ledger and (found := ledger.recall(patch)):
            return found
        made = make_patch(
            patch, reaching[patch], source, settings, fwhm_px, n_channels, run.cancel.check, memory, each
        )  # fmt: skip
        made = made or StackedPatch.empty((n_channels, *patch.inner.shape))
        write_patch(ledger or sink, patch.inner, made, names)
        counts = PatchCounts(int(made.coverage.sum()), int(made.rejected.sum()))
        if ledger:
            ledger.record(patch, counts)
        return counts

    if ledger:
        stack_remotely(patches, inputs, source, settings, fwhm_px, ledger, run, advance, plan.workers)
    n_samples = n_rejected = 0
    with frames_kept(source.files, reaching, band_of, settings.warp, plan.spare_bytes) as (release, reads):
        for count, (patch, counts) in enumerate(make_executor(plan.workers).run(task, patches), 1):
            release(patch)
            n_samples += counts.n_samples
            n_rejected += counts.n_rejected
            advance(count)
    samples = f"{n_samples / 1e6:.0f} M samples, {100 * n_rejected / max(n_samples, 1):.2f} % clipped"
    run.log.end("stack", ", ".join([f"{len(patches)} patches of {plan.patch_px} px", samples, *reads.words()]))
    return {
        "n_samples": n_samples,
        "n_rejected": n_rejected,
        "patch_px": plan.patch_px,
        "workers": plan.workers,
        "threads": plan.threads,
    }, reads


def plan_patches(
    inputs: Sequence[PatchInput],
    fwhm_px: float,
    grid: SkyGrid,
    settings: Settings,
    source: CleanSource,
    run: Run,
    sizes: Sequence[int] = PATCH_SIZES,
    *,
    beside_bytes: int = 0,
) -> tuple[MemoryPlan, int]:
    """Size and border of the patches, and how many at once, that the memory cap allows.

    Parameters
    ----------
    inputs, fwhm_px, grid, settings, source, run
        As for `stack_onto_grid`.
    sizes : sequence of int
        Sides to choose from, largest first.
    beside_bytes : int
        What each worker holds beside its patch.
    """
    border = border_px(settings.stack, fwhm_px)
    n_channels = inputs[0].frame.n_channels
    n_planes = max(1 if item.frame.bayer else n_channels for item in inputs)
    cube, reach = METHODS[settings.stack.method].guarded, Reach(inputs)

    def task_bytes(size: int, threads: int) -> int:
        depth = reach.deepest(patch.outer for patch in grid.patches(size, border)) if cube else 1
        pixels = (size + 2 * border) ** 2
        # The window of one frame under a turned patch, as read and as float32 data and weight.
        window = 2 * pixels * 20 * n_planes
        samples = pixels * depth * bytes_per_sample(n_channels)
        stack = n_channels * pixels * bytes_per_pixel(settings.stack.method)
        return int(samples + stack + window * threads + beside_bytes)

    room_bytes = source.files.room_bytes() if source.files else None
    plan = run.machine.plan_patches(task_bytes, sizes, border, n_channels, room_bytes)
    if plan.workers < run.machine.workers:
        shared = f", {plan.threads} threads each" if plan.threads > 1 else ""
        run.log.notice(f"{plan.workers} of {run.machine.workers} patches at once{shared}, to stay under the memory cap")
    return plan, border
