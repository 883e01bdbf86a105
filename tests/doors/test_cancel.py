"""Ctrl-C in mid-run: a quick end, nothing half done under a final name, and a second run that completes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from mosaic_cases import digest_of, digests_of, noise, partial_files, tan_wcs, write_frame
from zemosaic.engine.events import CancelToken
from zemosaic.engine.store import Store
from zemosaic.errors import Cancelled
from zemosaic.pipelines.modes.direct import build_direct
from zemosaic.pipelines.run.context import RunOptions, start_run
from zemosaic.settings import load_settings

# Not on Windows, where no SIGINT reaches one process alone.
resource = pytest.importorskip("resource")

LIMIT_S = 5.0
"""Seconds until a stopped run has ended. Counted as processor time, which other work on the machine does not change."""

PATIENCE_S = 600
"""What takes longer hangs."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that takes long enough to be stopped."""
    folder = tmp_path_factory.mktemp("frames")
    for k in range(8):
        shape = (800, 900)
        wcs = tan_wcs(shape, 150 + 0.05 * (k % 3), 30 + 0.05 * (k // 3), rotation_deg=5.0 * k)
        write_frame(folder / f"{k:02d}.fits", noise(shape, k), wcs, EXPTIME=10.0)
    return folder


def arguments(frames: Path, out: Path) -> list[str]:
    """Small patches, so that there is much to stop."""
    return ["build", str(frames), "-o", str(out), "--json", "--ram", "600M", "--set", "warp.kernel=drizzle"]


def start(frames: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zemosaic", *arguments(frames, out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupt_in(process: subprocess.Popen[str], stage: str) -> tuple[int, float, str, list[dict[str, object]]]:
    """Send SIGINT at a stage's first progress; exit code, processor seconds until the end, standard error, events."""
    assert process.stdout is not None
    assert process.stderr is not None
    events = []
    others_s = ended_children_s()
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "Progress" and events[-1]["stage"] == stage:
            break
    times = psutil.Process(process.pid).cpu_times()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    events += [json.loads(line) for line in out.splitlines()]
    return process.returncode, ended_children_s() - others_s - times.user - times.system, err, events


def ended_children_s() -> float:
    """Processor seconds of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def undisturbed(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The mosaic of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("undisturbed")
    run = start(frames, out)
    run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0
    return digest_of(out / "mosaic.fits")


@pytest.mark.parametrize("stage", ["measure", "stack"])
def test_ctrl_c_ends_in_good_order_and_the_next_run_completes(
    frames: Path, undisturbed: str, tmp_path: Path, stage: str
) -> None:
    before = digests_of(frames)
    code, seconds, err, events = interrupt_in(start(frames, tmp_path / "out"), stage)
    assert code == 130
    assert seconds < LIMIT_S
    assert err.strip() == "zemosaic: stopped on request; start the same run again to go on"
    failed = {"event": "Failed", "code": "run.stopped", "message": err.strip()[10:], "exit_code": 130, "facts": {}}
    assert events[-1] == failed
    assert not list((tmp_path / "out").glob("[!.]*"))
    assert partial_files(tmp_path / "out") == []
    assert digests_of(frames) == before
    stored = len(list(Store(tmp_path / "out/.zemosaic/store").entries()))
    assert stored >= 1
    again = start(frames, tmp_path / "out")
    again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0
    assert digest_of(tmp_path / "out/mosaic.fits") == undisturbed


def test_a_step_that_does_not_look_is_interrupted(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A long solve cannot ask the cancel token: after a while it is interrupted."""
    from zemosaic.cli import commands, main

    def solve_for_ever(*inputs: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100 * PATIENCE_S):
            time.sleep(0.01)
        raise AssertionError("nobody interrupted it")

    n_threads = threading.active_count()
    monkeypatch.setattr("zemosaic.pipelines.corrections.match_frames.match", solve_for_ever)
    monkeypatch.setattr(commands, "HURRY_S", 0.3)
    assert main(["match", str(frames), "-o", str(tmp_path / "out")]) == 130
    assert "zemosaic: stopped" in capfd.readouterr().err
    assert threading.active_count() <= n_threads


def test_the_python_door_can_be_stopped_too(frames: Path, tmp_path: Path) -> None:
    cancel = CancelToken()

    def stop(event: object) -> None:
        if type(event).__name__ == "Progress":
            cancel.cancel()

    run = start_run(RunOptions(workers=2), stop, cancel)
    with pytest.raises(Cancelled, match="start the same run again"):
        build_direct([frames], tmp_path / "out", load_settings(), run)
    assert not list((tmp_path / "out").glob("[!.]*"))
