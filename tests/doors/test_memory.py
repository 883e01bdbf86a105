"""A run stays under its memory cap when its frames do not fit in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mosaic_cases import noise, report_of, run_cli, tan_wcs, write_frame
from zemosaic.engine.executor import ThreadExecutor
from zemosaic.engine.memory import resident_bytes
from zemosaic.pipelines.measuring.measure_frames import MEASURE_BYTES_PER_VALUE

CAP = 520 * 2**20
N_FRAMES, SIDE = 18, 2000

# On Linux ru_maxrss outlives exec: a child of a large test process starts with that process's peak. VmHWM does not.
RUN = """
import re, resource, sys
from pathlib import Path
from zemosaic.cli import main
code = main(sys.argv[1:])
status = Path("/proc/self/status")
if status.exists():
    peak = 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1])
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print("ENDED", code, peak)
"""


@pytest.fixture(scope="module")
def large_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of 2000 x 2000 16-bit pixels on one field, 576 MB as float32 with weights."""
    folder = tmp_path_factory.mktemp("large_set")
    rng = np.random.default_rng(0)
    sky = rng.normal(1000, 12, (SIDE, SIDE)).astype(np.int16)
    for k in range(N_FRAMES):
        # Rolled by an odd number of pixels the noise of one frame is as good as new.
        image = np.roll(sky, 7919 * k + 13)
        wcs = tan_wcs((SIDE, SIDE), 150 + 0.01 * (k % 5), 30 + 0.01 * (k // 5), rotation_deg=3.0 * k)
        write_frame(folder / f"{k:02d}.fits", image, wcs)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_the_peak_stays_under_the_cap(large_set: Path, small_set: Path, tmp_path: Path) -> None:
    # The first run on a machine also compiles the kernels, once: that is not what is asked here.
    subprocess.run([sys.executable, "-c", RUN, "build", str(small_set), "-o", str(tmp_path / "warm")], check=True)
    frames_bytes = N_FRAMES * SIDE * SIDE * 8
    assert frames_bytes > CAP
    arguments = ["build", str(large_set), "-o", str(tmp_path / "out"), "--ram", str(CAP), "--workers", "2"]
    arguments += ["--set", "grid.crop=0,0,2048,2048"]
    found = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    _, code, peak = found.stdout.splitlines()[-1].split()
    assert code == "0", found.stderr
    assert int(peak) < 1.2 * CAP
    assert report_of(tmp_path / "out")["mosaic"]["n_frames"] == N_FRAMES


def test_large_frames_are_measured_one_at_a_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cap holds one frame with all that measuring needs, not two."""
    wanted: list[int] = []

    def make(workers: int) -> ThreadExecutor:
        wanted.append(workers)
        return ThreadExecutor(workers)

    for k in range(2):
        write_frame(tmp_path / f"{k}.fits", noise((2000, 1500), k), tan_wcs((2000, 1500)))
    monkeypatch.setattr("zemosaic.pipelines.run.machine.make_executor", make)
    need = MEASURE_BYTES_PER_VALUE * 2000 * 1500
    cap = int((resident_bytes() + 1.9 * need) * 8 / 7)
    # After a look at a part of each, the frames are measured.
    for given, n_measure in ((cap, 1), (2 * cap, 2)):
        wanted.clear()
        ran = run_cli(capfd, "coadd", tmp_path, "-o", tmp_path / "out", "--workers", 2, "--ram", given)
        assert ran.code == 0
        assert wanted[1] == n_measure
