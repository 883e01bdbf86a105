"""The task that makes a patch. All modes share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from zemosaic.engine.memory import ReusedMemory
from zemosaic.model.box import Box
from zemosaic.model.each import Each
from zemosaic.model.frame import Frame
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchInput, PatchJob
from zemosaic.settings import WarpSettings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.stack import (
    Cube,
    FrameNoise,
    MeanStack,
    StackedPatch,
    bytes_per_sample,
    stack_cube,
)
from zemosaic.stages.warp.maps import taper_of_rim, weigh_by_alpha
from zemosaic.stages.warp.warp import warp_window

__all__ = ["make_patch", "warp_box", "warp_cube"]

F4 = npt.NDArray[np.float32]
U1 = npt.NDArray[np.uint8]


def make_patch(
    job: MosaicJob,
    work: PatchJob,
    check: Callable[[], None],
    memory: ReusedMemory | None = None,
    each: Each = map,
) -> StackedPatch:
    """Warp every frame that reaches a patch and stack them.

    Parameters
    ----------
    job : MosaicJob
        The mosaic; its inputs are not looked at.
    work : PatchJob
        The patch and the frames that reach it.
    check : callable
        Asked between slices of work; raises to stop.
    memory : ReusedMemory, optional
        Where the samples lie meanwhile.
    each : callable
        Frames may be warped at once, and channels stacked.

    Returns
    -------
    StackedPatch
        Planes of ``patch.inner`` in mosaic units, empty where no frame reaches it.
    """
    patch, n_channels = work.patch, job.kind.n_channels
    if not work.visits:
        return StackedPatch.empty((n_channels, *patch.inner.shape))
    if not METHODS[job.stack.method].guarded:
        return _mean_patch(job, work, check).times(job.unit)
    n_bytes = patch.outer.n_pixels * len(work.visits) * bytes_per_sample(n_channels)
    with (memory or ReusedMemory()).block(n_bytes) as block:
        return _stack_patch(job, work, check, block, each).times(job.unit)


def _stack_patch(job: MosaicJob, work: PatchJob, check: Callable[[], None], block: U1, each: Each) -> StackedPatch:
    inner = work.patch.inner.relative_to(work.patch.outer)
    return stack_cube(warp_cube(job, work, block, check, each), job.fwhm_px, job.stack, inner, check, each)


def warp_cube(
    job: MosaicJob,
    work: PatchJob,
    block: U1,
    check: Callable[[], None] = lambda: None,
    each: Each = map,
) -> Cube:
    """The samples of a patch, border included, of every frame that reaches it, in the unit of the job.

    Parameters
    ----------
    job, work, check, each
        As for `make_patch`.
    block : ndarray, uint8
        Where the samples lie: `bytes_per_sample` for each frame and pixel of the outer box.
    """
    n, n_channels, patch = len(work.visits), job.kind.n_channels, work.patch
    h, w = patch.outer.shape
    samples, rest = np.split(block, [8 * n_channels * n * h * w])
    values, weights = samples.view(np.float32).reshape(2, n_channels, n, h, w)
    alpha = rest.reshape(n, h, w)
    inputs = [visit.item.in_unit(job.unit) for visit in work.visits]

    def warp(k: int) -> Box:
        check()
        part = work.visits[k].part
        place = part.relative_to(patch.outer)
        into = values[:, k, *place.slices], weights[:, k, *place.slices], alpha[k, *place.slices]
        if not _warp(inputs[k], part, job.source, job.warp, *into):
            place = Box(0, 0, 0, 0)
        # Without weight a sample is not there, whatever its value: that of another patch may stay.
        _clear_beyond(weights[:, k], place)
        return place

    reach = list(each(warp, range(n)))
    witness = np.array([item.is_witness for item in inputs])
    return Cube(values, weights, alpha, _noise_of(inputs), _exposures(inputs), witness, reach)


def _clear_beyond(planes: F4, box: Box) -> None:
    """Set to 0 what of the last two axes lies outside of a box."""
    planes[..., : box.y0, :] = 0
    planes[..., box.y1 :, :] = 0
    planes[..., box.y0 : box.y1, : box.x0] = 0
    planes[..., box.y0 : box.y1, box.x1 :] = 0


def _noise_of(inputs: Sequence[PatchInput]) -> FrameNoise:
    """How the samples of each frame scatter; arrays of shape (c, n)."""
    share = np.stack([item.own_share for item in inputs], axis=1)
    sky = np.stack([item.sky for item in inputs], axis=1)
    return FrameNoise(share, sky, np.stack([item.light for item in inputs], axis=1))


def _mean_patch(job: MosaicJob, work: PatchJob, check: Callable[[], None]) -> StackedPatch:
    # One set of arrays for all frames: fresh pages for each would cost as much as the sums.
    inner, n_channels = work.patch.inner, job.kind.n_channels
    values, weights = np.empty((2, n_channels * inner.n_pixels), np.float32)
    alpha = np.empty(inner.n_pixels, np.uint8)
    mean = MeanStack((n_channels, *inner.shape), sides=not {"DATA", "WHT"}.issuperset(job.names))
    for visit, exposure in zip(work.visits, _exposures([visit.item for visit in work.visits]), strict=True):
        check()
        item, part = visit.item.in_unit(job.unit), visit.part
        shape, n = (n_channels, *part.shape), n_channels * part.n_pixels
        samples = values[:n].reshape(shape), weights[:n].reshape(shape), alpha[: part.n_pixels].reshape(part.shape)
        if _warp(item, part, job.source, job.warp, *samples):
            place = part.relative_to(inner)
            noise = FrameNoise(np.ones_like(item.sky), item.sky, item.light)
            mean.add(*samples, float(exposure), place.y0, place.x0, noise)
    return mean.finish()


def warp_box(item: PatchInput, box: Box, source: ImageSource, settings: WarpSettings) -> tuple[F4, F4, U1]:
    """One frame on a box of the grid: values and weights ``(c, h, w)``, alpha ``(h, w)``."""
    n_channels = item.frame.n_channels
    values = np.zeros((n_channels, *box.shape), np.float32)
    weights = np.zeros((n_channels, *box.shape), np.float32)
    alpha = np.zeros(box.shape, np.uint8)
    _warp(item, box, source, settings, values, weights, alpha)
    return values, weights, alpha


def _warp(
    item: PatchInput, box: Box, source: ImageSource, settings: WarpSettings, values: F4, weights: F4, alpha: U1
) -> bool:
    """`warp_window`, the weights lowered by the image's own alpha where it has one, and towards a slanted rim."""
    is_filled = warp_window(item.plan, box, _reader(source, item.frame), settings, values, weights, alpha)
    if is_filled and (trust := item.frame.storage.alpha) is not None:
        plane = item.frame.plane_at(trust.path, trust.hdu)
        weigh_by_alpha(item.plan, box, _reader(source, plane), trust.full, weights, alpha)
    if is_filled and len(item.outside) and settings.taper_px > 0:
        read = partial(taper_of_rim, item.outside, item.frame.shape, settings.taper_px)
        weigh_by_alpha(item.plan, box, read, 1.0, weights, alpha)
    return is_filled


def _reader(source: ImageSource, frame: Frame) -> Callable[[Box], tuple[F4, F4]]:
    return lambda box: source.read_window(frame, box)


def _exposures(inputs: Sequence[PatchInput]) -> F4:
    return np.array([item.frame.decided.exposure_s or 0.0 for item in inputs], np.float32)
