"""Raw frames through the pipeline: what all frames of a camera tell about its pixels."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mosaic_cases import noise, tan_wcs, write_frame
from zemosaic.engine.store import Store
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.frames.pipeline import scan_inputs
from zemosaic.pipelines.measuring.clean_source import CleanSource
from zemosaic.pipelines.measuring.defects import DefectWatch
from zemosaic.pipelines.measuring.measure_frames import Measured, measure_frames
from zemosaic.pipelines.run.context import RunOptions, output_folder, start_run
from zemosaic.pipelines.run.need import Measuring
from zemosaic.settings import InputSettings, Settings, load_settings
from zemosaic.simulate import RawRecipe, SimulatedSky, simulate_raws
from zemosaic.simulate.raws import camera_defects

RECIPE = RawRecipe(shape=(400, 500), panels=(1, 1), cloud_fraction=0, soft_fraction=0)
SEED = 5


@pytest.fixture(scope="module")
def eight_raws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight_raws")
    known = tycho2().cone(83.8, 22.0, 1.0)
    sky = SimulatedSky(SEED, 83.8, 22.0, 0.6, (known.ra_deg, known.dec_deg, known.mag))
    simulate_raws(folder, sky, 8, RECIPE)
    return folder


def watched(
    folder: Path, settings: Settings, workers: int = 1, store: Store | None = None, n: int = 8
) -> tuple[dict[str, np.ndarray], list[Frame], CleanSource]:
    run = start_run(RunOptions(workers=workers), store=store)
    frames = sorted(scan_inputs([folder], settings.input, run).frames, key=lambda frame: frame.storage.path)[:n]
    reader = FrameReader(1 << 26)
    watch = DefectWatch(frames, settings, run)
    measured = measure_frames(frames, reader, settings, run, watch=watch).kept
    known = dict(watch.maps())
    by_id = {item.frame.id: item.measured for item in measured}
    return known, frames, CleanSource(reader, by_id, settings.input.defect_sigma, known)


def test_planted_hot_pixels_are_known_and_get_no_weight(eight_raws: Path) -> None:
    known, frames, clean = watched(eight_raws, Settings())
    (defects,) = known.values()
    hot = camera_defects(SEED, RECIPE) > 0
    assert (defects & hot).sum() > 0.99 * hot.sum()
    assert (defects & ~hot).mean() < 1e-4
    box = Box(101, 350, 50, 433)
    for frame in frames[:2]:
        _, weight = clean.read_window(frame, box)
        assert not weight[0][defects[box.slices]].any()
        assert (weight[0][hot[box.slices]] > 0).mean() < 0.01
        assert (weight[0] > 0).mean() > 0.98


def test_many_frames_of_a_camera_are_not_all_counted(eight_raws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zemosaic.pipelines.measuring.defects.MOST_FRAMES", 4)
    run, settings = start_run(RunOptions(workers=1)), Settings()
    frames = scan_inputs([eight_raws], settings.input, run).frames
    watch = DefectWatch(frames, settings, run)
    wanted = sorted(frame.id for frame in frames if watch.wants(frame))
    assert wanted == sorted(frame.id for frame in frames)[::2]
    measure_frames(frames, FrameReader(1 << 26), settings, run, watch=watch)
    assert not any(map(watch.wants, frames))


def test_the_map_does_not_depend_on_the_order(eight_raws: Path) -> None:
    one, two = (watched(eight_raws, Settings(), workers)[0] for workers in (1, 3))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[camera], two[camera]) for camera in one)


def test_a_stored_map_is_taken_without_reading_a_frame(
    eight_raws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    first = watched(eight_raws, Settings(), store=store)[0]

    def refuse(self: ImageSource, frame: Frame, box: Box) -> None:
        raise AssertionError(f"{frame.name} is read again")

    monkeypatch.setattr(FrameReader, "read_window", refuse)
    second = watched(eight_raws, Settings(), store=store)[0]
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[camera], second[camera]) for camera in first)


def test_few_frames_and_no_wish_make_no_map(eight_raws: Path) -> None:
    assert watched(eight_raws, Settings(), n=4)[0] == {}
    assert watched(eight_raws, load_settings(assignments=["input.defect_sigma=0"]))[0] == {}


@dataclass(frozen=True)
class NotingSource:
    """Reads frames, and notes in a folder how many bytes of which frame, whatever process it is in."""

    folder: Path

    def read_window(self, frame: Frame, box: Box) -> tuple[np.ndarray, np.ndarray]:
        reader = FrameReader(0)
        found = reader.read_window(frame, box)
        (self.folder / f"{frame.id}.{secrets.token_hex(8)}").write_text(str(reader.n_bytes_read))
        return found

    def bytes_read(self, frame: Frame) -> int:
        return sum(int(path.read_text()) for path in self.folder.glob(f"{frame.id}.*"))


def measure_with(
    executor: str, frames: Path, folder: Path, need: Measuring
) -> tuple[Measured, NotingSource, list[Frame], dict[str, np.ndarray]]:
    """Measure all frames of a folder by two workers, and find their cameras' defects."""
    if executor == "dask":
        pytest.importorskip("distributed")
    source = NotingSource(folder / "notes")
    source.folder.mkdir()
    with output_folder(folder / "out", start_run(RunOptions(workers=2, executor=executor))) as run:
        found = scan_inputs([frames], InputSettings(), run).frames
        watch = DefectWatch(found, Settings(), run)
        measured = measure_frames(found, source, Settings(), run, watch=watch, need=need, seeing=True)
        return measured, source, found, dict(watch.maps())


@pytest.mark.parametrize("executor", ["threads", "processes", "dask"])
def test_a_raw_frame_is_read_once_to_be_measured(eight_raws: Path, tmp_path: Path, executor: str) -> None:
    """Its stars and levels, and what it tells of its camera's defects, come from one reading, wherever it is done."""
    _, source, frames, found = measure_with(executor, eight_raws, tmp_path, "match")
    sizes = {frame.name: 2 * frame.shape[0] * frame.shape[1] for frame in frames}
    assert {frame.name: source.bytes_read(frame) for frame in frames} == sizes
    (expected,) = watched(eight_raws, Settings())[0].values()
    assert np.array_equal(*found.values(), expected)
    assert expected.any()


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_frame_is_read_once_to_be_weighed_or_left_out(tmp_path: Path, executor: str) -> None:
    """Stars are tried first, for the typical seeing: neither a frame without any nor one of zeros is read again."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(3):
        pixels = noise((80, 90), k) if k else np.full((80, 90), np.nan, np.float32)
        write_frame(folder / f"{k}.fits", pixels, tan_wcs((80, 90), 150.0))
    measured, source, frames, _ = measure_with(executor, folder, tmp_path, "weigh")
    assert [source.bytes_read(frame) for frame in frames] == [4 * 80 * 90] * 3
    assert [Path(item.path).name for item in measured.left_out] == ["0.fits"]
