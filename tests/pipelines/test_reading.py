"""How often files are read while frames are stacked, and what is kept of them meanwhile."""

from __future__ import annotations

import gzip
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from mosaic_cases import digest_of, noise, report_of, run_cli, tan_wcs, write_frame
from zemosaic.errors import FrameRejected
from zemosaic.io.read.frame_cache import FrameCache
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.pipelines.frames.pipeline import measure_and_place, open_inputs
from zemosaic.pipelines.modes.session import Guide, plan_sky
from zemosaic.pipelines.patches.jobs import plan_patch
from zemosaic.pipelines.patches.plan import plan_inputs
from zemosaic.pipelines.patches.reading import Reading, keep_frames
from zemosaic.pipelines.patches.stacking import plan_patches
from zemosaic.pipelines.run.context import RunOptions, start_run
from zemosaic.pipelines.run.need import Need
from zemosaic.settings import InputSettings, Settings, WarpSettings
from zemosaic.stages.warp.warp import source_box

Capture = pytest.CaptureFixture[str]
AnyArray = np.ndarray[Any, np.dtype[Any]]

N_BYTES = 1000
A, B, C, D = KEYS = [(name, 0) for name in "abcd"]


# --- the cache -----------------------------------------------------------------------------------


class Loads:
    """Counts what a cache of arrays of 1000 bytes asks for."""

    def __init__(self, max_bytes: int) -> None:
        self.cache = FrameCache(max_bytes)
        self.loaded: list[tuple[str, int]] = []

    def ask(self, key: tuple[str, int]) -> bool:
        """Whether the array was kept."""

        def load() -> AnyArray:
            self.loaded.append(key)
            return np.full(N_BYTES, ord(key[0]), np.uint8)

        found = self.cache.get(key, N_BYTES, load)
        assert found is None or (found == ord(key[0])).all()
        return found is not None


def test_what_tasks_to_come_want_is_not_driven_out() -> None:
    loads = Loads(0)
    loads.cache.expect([*KEYS, *KEYS], 2 * N_BYTES)
    assert [loads.ask(key) for key in (A, B, C, D)] == [True, True, False, False]
    loads.cache.release(KEYS)
    assert [loads.ask(key) for key in (A, B, C, D)] == [True, True, False, False]
    assert loads.loaded == [A, B]
    loads.cache.release([A, B])
    assert loads.cache.n_bytes == 0


def test_what_goes_makes_room_and_a_last_reading_keeps_nothing() -> None:
    loads = Loads(0)
    loads.cache.expect([A, A, B, B, C], 1 * N_BYTES)
    assert [loads.ask(key) for key in (A, B, C)] == [True, False, False]
    loads.cache.release([A])
    assert not loads.ask(B)
    loads.cache.release([A])
    assert [loads.ask(key) for key in (B, C)] == [True, False]


def test_what_lay_there_before_makes_way_and_the_old_bound_comes_back() -> None:
    loads = Loads(3 * N_BYTES)
    assert all(loads.ask(key) for key in (A, B, C))
    loads.cache.expect([A, A, D, D], 3 * N_BYTES)
    assert loads.ask(A)
    assert loads.ask(D)  # B, the least recently used that nobody expects, went
    assert loads.loaded == [A, B, C, D]
    loads.cache.expect_nothing(N_BYTES)
    assert loads.cache.n_bytes == N_BYTES
    assert loads.ask(C)
    assert loads.loaded == [A, B, C, D]


def test_a_load_that_fails_takes_no_room() -> None:
    cache = FrameCache(N_BYTES)

    def fail() -> AnyArray:
        raise FrameRejected("gone")

    with pytest.raises(FrameRejected):
        cache.get(A, N_BYTES, fail)
    assert cache.room_bytes == N_BYTES
    assert cache.get(B, N_BYTES, lambda: np.zeros(N_BYTES, np.uint8)) is not None


# --- the reader ----------------------------------------------------------------------------------


SHAPE = (40, 30)
LEFT, RIGHT = Box(0, 40, 0, 20), Box(0, 40, 15, 30)


def write_frames(folder: Path, n_frames: int = 4, pack: Callable[[bytes], bytes] = bytes) -> list[Frame]:
    for k in range(n_frames):
        path = folder / f"{k}.fits"
        fits.PrimaryHDU(np.random.default_rng(k).integers(0, 999, SHAPE, np.int16)).writeto(path)
        path.write_bytes(pack(path.read_bytes()))
    return sorted(scan([folder], InputSettings()).frames, key=lambda frame: frame.storage.path)


N_FRAME = 2 * SHAPE[0] * SHAPE[1]


@pytest.mark.parametrize(("n_kept", "n_read"), [(4, 4), (3, 5), (0, 8)])
def test_plain_frames_that_fit_are_read_once(tmp_path: Path, n_kept: int, n_read: int) -> None:
    frames = write_frames(tmp_path)
    reader, plain = FrameReader(N_FRAME), FrameReader()
    for frame in frames:
        reader.read_window(frame, LEFT)
    parts = [(frame, Box.of_shape(SHAPE)) for frame in frames]
    with reader.expecting(parts * 2, n_kept * N_FRAME) as counts:
        for box in (LEFT, RIGHT):
            for frame in frames:
                for kept, read in zip(reader.read_window(frame, box), plain.read_window(frame, box), strict=True):
                    np.testing.assert_array_equal(kept, read)
            reader.release(parts)
    assert counts.figures() == {"read_amplification": n_read / 4}
    assert reader.n_bytes_read == (4 + n_read) * N_FRAME
    assert reader.room_bytes() == 0


def test_only_the_part_that_tasks_read_is_kept(tmp_path: Path) -> None:
    (frame,) = write_frames(tmp_path, 1)
    reader, part = FrameReader(), Box(10, 20, 5, 25)
    with reader.expecting([(frame, part)] * 2, N_FRAME // 4) as counts:
        for box in (part, Box(12, 15, 6, 9)):
            reader.read_window(frame, box)
        assert counts.n_read.total() == N_FRAME // 4
        reader.read_window(frame, LEFT)  # beyond what was announced: from the file
    assert counts.n_read.total() == N_FRAME // 4 + N_FRAME


def test_compressed_frames_are_decoded_once_and_counted(tmp_path: Path) -> None:
    frames = write_frames(tmp_path, pack=gzip.compress)
    reader = FrameReader(2 * N_FRAME)
    for frame in frames:  # an LRU cache of two frames would decode all four again in each turn
        reader.read_window(frame, LEFT)
    parts = [(frame, Box.of_shape(SHAPE)) for frame in frames]
    with reader.expecting(parts * 2, N_FRAME) as counts:
        for box in (LEFT, RIGHT):
            for frame in frames:
                reader.read_window(frame, box)
            reader.release(parts)
    # Three find room and stay; the fourth is decoded each time.
    assert counts.figures() == {"decodes_mean": 2.25, "decodes_largest": 3}
    assert reader.n_decodes == 9


def test_maps_of_weights_are_kept_beside_their_frames(tmp_path: Path) -> None:
    image, weight = np.ones(SHAPE, np.float32), np.full(SHAPE, 4, np.float32)
    fits.HDUList([fits.PrimaryHDU(image), fits.ImageHDU(weight, name="WHT")]).writeto(tmp_path / "a.fits")
    (frame,) = scan([tmp_path], InputSettings()).frames
    assert frame.storage.weight is not None
    reader = FrameReader()
    reader.read_window(frame, LEFT)
    with reader.expecting([(frame, Box.of_shape(SHAPE))] * 3, 8 * N_FRAME) as counts:
        for box in (LEFT, RIGHT, LEFT):
            assert (reader.read_window(frame, box)[1] == 1).all()
    assert counts.figures() == {"read_amplification": 1.0}
    assert sum(counts.n_stored.values()) == 4 * N_FRAME


def test_threads_share_one_reading(tmp_path: Path) -> None:
    frames = write_frames(tmp_path)
    reader, barrier = FrameReader(), threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for frame in frames * 3:
            reader.read_window(frame, RIGHT)

    with reader.expecting([(frame, Box.of_shape(SHAPE)) for frame in frames] * 4, 4 * N_FRAME) as counts:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts.figures() == {"read_amplification": 1.0}


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture
def small_patches(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Cuts the sky finely; to be called with what the plan shall say that is left of the memory cap."""
    for place in ("patches.stacking", "survey.tiles"):
        monkeypatch.setattr(f"zemosaic.pipelines.{place}.PATCH_SIZES", (96,))
    monkeypatch.setattr("zemosaic.pipelines.survey.tiles.LARGEST_PIECE_PX", 96)

    def leave(spare_bytes: int) -> None:
        def plan(*args: Any, **options: Any) -> Any:
            found, border = plan_patches(*args, **options)
            return replace(found, spare_bytes=spare_bytes), border

        for place in ("patches.stacking", "survey.tiles"):
            monkeypatch.setattr(f"zemosaic.pipelines.{place}.plan_patches", plan)

    return leave


def build(capfd: Capture, frames: Path, out: Path, *options: str) -> tuple[dict[str, float], str]:
    """What was read for a mosaic, and the digest of its file."""
    # More than this process holds when it has run many other tests; what is left of it for frames, the tests say.
    ran = run_cli(capfd, "build", frames, "-o", out, "--ram", "8G", "--json", *options)
    assert ran.code == 0, ran.err
    return report_of(out)["reading"], digest_of(out / "mosaic.fits")


@pytest.mark.parametrize("mode", ["direct", "grid", "master-tiles"])
def test_every_mode_reads_plain_frames_once_where_they_fit(
    small_set: Path, tmp_path: Path, small_patches: Callable[[int], None], capfd: Capture, mode: str
) -> None:
    found = {}
    for spare in (0, 1_000_000, 100_000_000):
        small_patches(spare)
        found[spare] = build(capfd, small_set, tmp_path / str(spare), "--mode", mode)
    reading = [figures["read_amplification"] for figures, _ in found.values()]
    assert reading[0] > 2
    assert reading[0] > reading[1] > reading[2]
    assert 0.9 < reading[2] <= 1.4  # rims of frames that no pixel of the mosaic needs are not read
    assert len({digest for _, digest in found.values()}) == 1
    assert [list(figures) for figures, _ in found.values()] == [["read_amplification"]] * 3


def test_compressed_files_are_told_beside_plain_ones(
    small_set: Path, tmp_path: Path, small_patches: Callable[[int], None], capfd: Capture
) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    for k, path in enumerate(sorted(small_set.glob("frame*.fits"))):
        if k % 2:
            shutil.copy(path, folder)
        else:
            (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    small_patches(100_000_000)
    reading, _ = build(capfd, folder, tmp_path / "out", "--mode", "existing-tiles")
    assert 0.9 < reading["read_amplification"] <= 1.4
    assert reading["decodes_mean"] == reading["decodes_largest"] == 1  # they are there since they were measured
    ran = run_cli(capfd, "build", folder, "-o", tmp_path / "said")
    assert re.search(r"read 1\.\d\d x, decoded 1\.00 x", ran.err.replace("\n", ""))


def test_what_other_processes_read_is_not_told(small_set: Path, tmp_path: Path, capfd: Capture) -> None:
    reading, there = build(capfd, small_set, tmp_path / "there", "--executor", "processes", "--workers", "1")
    assert reading == {}
    again, here = build(capfd, small_set, tmp_path / "there")
    assert again == {}
    assert here == there


@pytest.mark.parametrize(("spare", "expected"), [(8, "whole"), (7, "bands")])
def test_turned_frames_are_kept_whole_where_they_fit(tmp_path: Path, spare: int, expected: str) -> None:
    """Bands of frames that are turned by 20 degrees have much of them in common."""
    for k in range(2):
        write_frame(tmp_path / f"{k}.fits", noise((300, 300), k), tan_wcs((300, 300), rotation_deg=20.0 + k))
    run = start_run(RunOptions(workers=1))
    opened = open_inputs([tmp_path], Settings(), run)
    source, placed = opened.source, measure_and_place(opened, Need("weigh", "header"), Settings(), run).frames
    grid = plan_sky(placed, Guide(solved=False), Settings(), run)
    neutral = {item.frame.id: PhotoScale.neutral(1) for item in placed}
    inputs = plan_inputs(placed, neutral, grid, Settings(), run).frames
    works = [plan_patch(patch, inputs) for patch in grid.patches(100, 0)]
    reading = keep_frames(
        opened.files,
        {work: Reading(Box(work.patch.outer.y0, work.patch.outer.y1, 0, grid.shape[1]), work.visits) for work in works},
        WarpSettings(),
        spare * 300 * 300,
    )
    with reading as (release, counts):
        for work in works:
            for visit in work.visits:
                source.read_window(visit.item.frame, source_box(visit.item.plan, work.patch.outer, WarpSettings()))
            release(work)
    amplification = counts.figures()["read_amplification"]
    assert amplification == 1 if expected == "whole" else 1.4 < amplification < 3, amplification
