"""What a survey run has finished, the next one does not do again: tiles, their measurements, blended boxes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mosaic_cases import digest_of, digests_of, run_cli
from zemosaic.cli import main
from zemosaic.pipelines.survey import assembly, blending, tiles
from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames

Capture = pytest.CaptureFixture[str]

OPTIONS = ("--mode", "grid", "--set", "survey.tile_fields=1.1", "--set", "output.preview=false", "--workers", "1")


class Counts:
    """How often tiles were stacked, measured, and boxes blended; may plant an interruption."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = dict.fromkeys(("stacked", "measured", "blended"), 0)
        self.stop_at: tuple[str, int] | None = None
        for room, name, what in (
            (tiles._MakeTile, "_stack", "stacked"),
            (assembly, "measure_frame", "measured"),
            (blending, "blend_patch", "blended"),
        ):
            monkeypatch.setattr(room, name, self._counted(getattr(room, name), what))

    def _counted(self, function, what):  # type: ignore[no-untyped-def]
        def call(*arguments: object, **keywords: object) -> object:
            if self.stop_at == (what, self.n[what]):
                raise KeyboardInterrupt
            self.n[what] += 1
            return function(*arguments, **keywords)

        return call

    def taken(self) -> tuple[int, ...]:
        """Counts since the last call."""
        counts = tuple(self.n.values())
        self.n = dict.fromkeys(self.n, 0)
        return counts


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    recipe = FrameRecipe(shape=(300, 400), trail_fraction=0)
    simulate_frames(folder, SimulatedSky(3, size_deg=0.55), 20, recipe)
    return folder


@pytest.fixture(scope="module")
def stopped(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped when its tiles were made and none was blended; to be copied."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.MonkeyPatch.context() as patch:
        Counts(patch).stop_at = ("blended", 0)
        assert main(["build", str(survey), "-o", str(out), *OPTIONS]) == 130
    return out


@dataclass(frozen=True)
class Whole:
    """What an undisturbed run made."""

    n_tiles: int
    digest: str


@pytest.fixture(scope="module")
def whole(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        counts = Counts(patch)
        assert main(["build", str(survey), "-o", str(out), *OPTIONS]) == 0
        return Whole(counts.n["stacked"], digest_of(out / "mosaic.fits"))


def build(capfd: Capture, frames: Path, out: Path, *options: str) -> int:
    ran = run_cli(capfd, "build", frames, "-o", out, *OPTIONS, *options)
    assert "damaged" not in ran.err
    return ran.code


def test_a_stopped_survey_goes_on_where_it_was(capfd: Capture, survey: Path, tmp_path: Path, counts: Counts) -> None:
    none = ("--set", "match.method=none")
    out, done = tmp_path / "out", []
    for counts.stop_at in (("stacked", 2), ("measured", 1), ("blended", 1), None):
        assert build(capfd, survey, out, *none) == (0 if counts.stop_at is None else 130)
        done.append(counts.taken())
    mosaic, report = digest_of(out / "mosaic.fits"), (out / "report.json").read_text()
    assert not (out / ".zemosaic/tiles").exists()
    # A run that ended is not repeated, nor is any of it when the mosaic is there.
    assert build(capfd, survey, out, *none) == 0
    assert counts.taken() == (0, 0, 0)
    assert digest_of(out / "mosaic.fits") == mosaic
    assert '"tile_photometry_acted": true' in report
    assert '"tile_photometry_acted": true' in (out / "report.json").read_text()
    # And what the four runs did adds up to what one does that takes nothing from before.
    assert build(capfd, survey, out, *none, "--fresh") == 0
    n_tiles, n_measured, n_boxes = counts.taken()
    assert n_measured == n_tiles >= 4
    assert n_boxes >= 2
    assert done == [
        (2, 0, 0), (n_tiles - 2, 1, 0), (0, n_tiles - 1, 1), (0, 0, n_boxes - 1),
    ]  # fmt: skip
    assert digest_of(out / "mosaic.fits") == mosaic


@pytest.mark.parametrize("change", ["survey.blend=feather", "match.surface_order=1"])
def test_a_changed_setting_makes_again_what_hangs_on_it(
    capfd: Capture, survey: Path, stopped: Path, whole: Whole, tmp_path: Path, counts: Counts, change: str
) -> None:
    """Stopped before the blend, then run with another setting: tiles count for the blend alone to be changed."""
    shutil.copytree(stopped, tmp_path / "out")
    assert build(capfd, survey, tmp_path / "out", "--set", change) == 0
    n_stacked, _, n_blended = counts.taken()
    assert n_stacked == (0 if "survey.blend" in change else whole.n_tiles)
    assert n_blended > 0
    assert build(capfd, survey, tmp_path / "alone", "--set", change) == 0
    assert digest_of(tmp_path / "out/mosaic.fits") == digest_of(tmp_path / "alone/mosaic.fits")


def test_a_tile_that_is_not_as_it_was_written_is_made_again(
    capfd: Capture, survey: Path, stopped: Path, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    shutil.copytree(stopped, tmp_path / "out")
    stored = sorted((tmp_path / "out/.zemosaic/tiles").glob("*/data.npy"))
    content = bytearray(stored[0].read_bytes())
    content[-1000] ^= 1
    stored[0].write_bytes(content)
    stored[1].write_bytes(stored[1].read_bytes()[:-1])
    stored[2].unlink()
    assert build(capfd, survey, tmp_path / "out") == 0
    assert counts.taken()[0] == 3
    assert digest_of(tmp_path / "out/mosaic.fits") == whole.digest


def test_tiles_made_in_other_processes_are_the_same(
    capfd: Capture, survey: Path, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    for options in ((), ("--fresh",)):
        assert build(capfd, survey, tmp_path / "there", *options, "--executor", "processes") == 0
        assert counts.taken()[0] == 0
        assert digest_of(tmp_path / "there/mosaic.fits") == whole.digest


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_survey_gives_the_same_bytes(
    capfd: Capture, survey: Path, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    """SIGKILL in the middle of a tile's planes: half of it on the disk counts for nothing."""
    killed = """
import os, signal, sys
from zemosaic.cli import main
from zemosaic.io.write.tile_planes import TilePlanes
write, n = TilePlanes.write, [0]
def dying(self, name, plane):
    n[0] += 1
    if n[0] == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, name, plane)
TilePlanes.write = dying
main(sys.argv[1:])
"""
    before = digests_of(survey)
    command = [sys.executable, "-c", killed, "build", str(survey), "-o", str(tmp_path / "out"), *OPTIONS]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    assert list((tmp_path / "out/.zemosaic/tiles").glob("*/data.npy"))
    assert not (tmp_path / "out/mosaic.fits").exists()
    assert build(capfd, survey, tmp_path / "out") == 0
    assert counts.taken()[0] == whole.n_tiles - 1
    assert digest_of(tmp_path / "out/mosaic.fits") == whole.digest
    assert digests_of(survey) == before
