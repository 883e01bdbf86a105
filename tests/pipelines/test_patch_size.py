"""The size of patches by arithmetic: what fits under a cap, and what is done first."""

from __future__ import annotations

import pytest

from zemosaic.errors import EnvironmentProblem
from zemosaic.pipelines.patches.patch_size import PatchCost, plan_patch_size


def need(size: int, threads: int) -> int:
    """Bytes of a patch with a thousand at each pixel, and a fiftieth of it for each thread."""
    return size * size * (1000 + 20 * threads)


NEED = PatchCost(need)


def test_a_smaller_cap_gives_smaller_patches_then_fewer_workers() -> None:
    plenty = plan_patch_size(10 << 30, 4, 0, NEED, can_share=False)
    less = plan_patch_size(512 << 20, 4, 0, NEED, can_share=False)
    little = plan_patch_size(100 << 20, 4, 0, NEED, can_share=False)
    assert (plenty.patch_px, plenty.workers) == (512, 4)
    assert (less.patch_px, less.workers) == (320, 4)
    assert (little.patch_px, little.workers) == (224, 2)
    for cap_bytes, plan in ((10 << 30, plenty), (512 << 20, less), (100 << 20, little)):
        assert plan.workers * need(plan.patch_px, 1) <= cap_bytes
        assert plan.threads == 1


def test_threads_share_the_patches_that_fit_once_those_of_their_own_are_small() -> None:
    plenty, little = plan_patch_size(10 << 30, 4, 0, NEED), plan_patch_size(100 << 20, 4, 0, NEED)
    assert (plenty.patch_px, plenty.workers, plenty.threads) == (512, 4, 1)
    assert (little.patch_px, little.workers, little.threads) == (288, 1, 4)
    three = plan_patch_size(30 << 20, 3, 0, NEED)
    assert (three.patch_px, three.workers, three.threads) == (160, 1, 3)
    assert little.workers * need(little.patch_px, little.threads) <= 100 << 20
    # The more channels a window has, the less it matters that each has to be opened.
    assert plan_patch_size(30 << 20, 3, 0, PatchCost(need, border_px=2, n_channels=30)).patch_px == 96


def test_patches_of_deep_stacks_do_not_fill_the_memory_there_is() -> None:
    def side(bytes_per_pixel: int) -> int:
        cost = PatchCost(lambda size, _threads: size * size * bytes_per_pixel)
        return plan_patch_size(1 << 40, 2, 0, cost).patch_px

    assert [side(depth) for depth in (250, 450, 650, 1000, 100_000)] == [1024, 768, 640, 512, 512]
    # A run that goes on takes the size it had, whatever it was.
    assert plan_patch_size(10 << 30, 4, 0, NEED, (1024,), can_share=False).patch_px == 1024


def test_more_workers_beat_larger_patches_until_patches_are_tiny() -> None:
    def much(size: int, _threads: int) -> int:
        return 30_000_000 + size * size * 1000

    two, one = (plan_patch_size(cap, 2, 0, PatchCost(much), can_share=False) for cap in (200_000_000, 69_000_000))
    assert (two.patch_px, two.workers) == (256, 2)
    assert (one.patch_px, one.workers) == (192, 1)
    assert plan_patch_size(200_000_000, 2, 0, PatchCost(much, border_px=3000)).patch_px == 384


def test_a_cap_too_small_says_how_much_is_needed() -> None:
    with pytest.raises(EnvironmentProblem, match="raise --ram") as caught:
        plan_patch_size(1 << 20, 2, 0, NEED)
    assert caught.value.exit_code == 4
