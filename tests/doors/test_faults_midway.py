"""What goes wrong when a run is half way: the disk, the inputs, another run, the clock."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mosaic_cases import digest_of, digests_of, noise, partial_files, run_cli, tan_wcs, write_frame
from zemosaic.engine.lock import locked
from zemosaic.pipelines.corrections import match_frames as matching

Capture = pytest.CaptureFixture[str]
SHAPE = (300, 400)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(4):
        write_frame(folder / f"{k}.fits", noise(SHAPE, k), tan_wcs(SHAPE, 150 + 0.05 * k), EXPTIME=10.0)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def midway(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Lets something happen when all frames are measured and placed, before the match."""

    match = matching.match

    def arrange(what: Callable[[], None]) -> None:
        def happen(*inputs: object, **options: object) -> object:
            what()
            return match(*inputs, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(matching, "match", happen)

    return arrange


def test_a_disk_too_small_is_said_before_the_work(capfd: Capture, frames: Path, small_disk: Path) -> None:
    before = digests_of(frames)
    ran = run_cli(capfd, "build", frames, "-o", small_disk / "out", "--set", "grid.scale_arcsec=0.5")
    assert ran.code == 4
    assert f"not enough space in {small_disk / 'out'}: mosaic.fits needs" in ran.last_line
    assert not list(small_disk.glob("out/[!.]*"))
    assert digests_of(frames) == before


def test_a_disk_that_fills_up_midway_ends_the_run_which_then_goes_on(
    capfd: Capture, frames: Path, small_disk: Path, midway: Callable[[Callable[[], None]], None]
) -> None:
    out, ballast = small_disk / "out", small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    midway(fill)
    ran = run_cli(capfd, "build", frames, "-o", out)
    assert ran.code == 4
    assert "No space left on device" in ran.last_line
    assert str(out) in ran.last_line
    assert not list(out.glob("[!.]*"))
    assert partial_files(out) == []
    ballast.unlink()
    midway(lambda: None)
    again = run_cli(capfd, "build", frames, "-o", out)
    assert again.code == 0, again.err
    assert "taken from an earlier run: 4 measured frame(s)" in again.err


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such permissions")
def test_permission_lost_midway_ends_the_run_which_then_goes_on(
    capfd: Capture, frames: Path, tmp_path: Path, midway: Callable[[Callable[[], None]], None]
) -> None:
    out, me = tmp_path / "out", os.geteuid()

    def lose() -> None:
        for folder in (out / ".zemosaic/store", *(out / ".zemosaic/store").rglob("*/")):
            folder.chmod(0o555)
        if me == 0:  # root may do everything
            os.seteuid(65534)

    midway(lose)
    try:
        ran = run_cli(capfd, "build", frames, "-o", out)
    finally:
        os.seteuid(me)
    assert ran.code == 4
    assert f"cannot store results in {out}" in ran.last_line
    assert "Permission denied" in ran.last_line
    assert not list(out.glob("[!.]*"))
    for folder in (out / ".zemosaic/store", *(out / ".zemosaic/store").rglob("*/")):
        folder.chmod(0o755)
    midway(lambda: None)
    again = run_cli(capfd, "build", frames, "-o", out)
    assert again.code == 0
    assert "taken from an earlier run: 4 measured frame(s)" in again.err


def test_a_read_only_output_is_said(capfd: Capture, frames: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ran = run_cli(capfd, "build", frames, "-o", small_disk / "out")
    assert ran.code == 4
    assert (
        f"cannot write to {small_disk / 'out'}: Read-only file system; choose another folder with -o" in ran.last_line
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do everything")
def test_an_output_without_permission_is_said(capfd: Capture, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out")
    assert ran.code == 4
    assert "Permission denied" in ran.last_line


@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_an_input_that_is_lost_midway_is_named_and_the_next_run_does_without(
    capfd: Capture, frames: Path, tmp_path: Path, midway: Callable[[Callable[[], None]], None], how: str
) -> None:
    victim, reason = frames / "2.fits", {"gone": "is gone", "shorter": "shrunk"}[how]

    def lose() -> None:
        if how == "gone":
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes()[:-100_000])

    midway(lose)
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out")
    assert ran.code == 4
    assert str(victim) in ran.last_line
    assert reason in ran.last_line
    assert "start the same run again" in ran.last_line
    assert not list((tmp_path / "out").glob("[!.]*"))
    midway(lambda: None)
    assert run_cli(capfd, "build", frames, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out/mosaic.fits").exists()


def test_two_runs_in_one_folder(capfd: Capture, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".zemosaic").mkdir(parents=True)
    with locked(out / ".zemosaic/lock", str(out)):
        for command in ("build", "coadd", "match"):
            ran = run_cli(capfd, command, frames, "-o", out)
            assert ran.code == 4
            assert f"{out} is in use by process {os.getpid()}" in ran.last_line
            assert "choose another folder with -o" in ran.last_line
    assert run_cli(capfd, "build", frames, "-o", out).code == 0
    with locked(out / ".zemosaic/lock", str(out)):
        assert run_cli(capfd, "store", out, "clean").code == 4
        assert run_cli(capfd, "store", out).code == 0


def test_a_clock_that_jumps_changes_nothing(
    capfd: Capture,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    midway: Callable[[Callable[[], None]], None],
) -> None:
    """Results are found by key, never by time; in the end those of a year ahead and of 1970 are as good as any."""
    out = tmp_path / "out"
    assert run_cli(capfd, "build", frames, "-o", out).code == 0
    mosaic = digest_of(out / "mosaic.fits")
    for k, path in enumerate(p for p in (out / ".zemosaic/store").rglob("*") if p.is_file()):
        os.utime(path, (0, 0) if k % 2 else (time.time() + 3e7, time.time() + 3e7))
    now = time.time
    midway(lambda: monkeypatch.setattr(time, "time", lambda: now() - 1e8))
    ran = run_cli(capfd, "build", frames, "-o", out)
    assert ran.code == 0
    assert "4 measured frame(s), 1 joint adjustment(s), 1 match(es), 1 patch(es)" in ran.err
    midway(lambda: monkeypatch.setattr(time, "time", lambda: now() + 1e8))
    assert run_cli(capfd, "build", frames, "-o", out, "--fresh").code == 0
    assert digest_of(out / "mosaic.fits") == mosaic
