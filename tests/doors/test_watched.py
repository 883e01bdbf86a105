"""A run that another program watches: frames looked at first, a picture that grows, an end with standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from PIL import Image

from zemosaic.cli import main


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def watched(frames: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "zemosaic", "build", str(frames), "-o", str(out), "--watched", "--json"]


def test_frames_that_were_looked_at_are_not_measured_again(small_set: Path, built: Path, tmp_path: Path) -> None:
    assert main(["build", str(small_set), "-o", str(tmp_path), "--until", "frames", "--json"]) == 0
    assert not (tmp_path / "mosaic.fits").exists()
    table = Table.read(tmp_path / "frames.ecsv")
    assert len(table) == 8
    assert table["use"].all()
    assert set(table["fwhm_px"] > 1) == {True}
    command = [*watched(small_set, tmp_path), "--set", "output.also="]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        told = events_of(run.stdout.read())
    taken = [e["message"] for e in told if e["event"] == "Notice" and e["message"].startswith("taken from")]
    assert "8 measured frame(s)" in taken[0]
    assert (tmp_path / "mosaic.fits").read_bytes() == (built / "mosaic.fits").read_bytes()

    boxes = [e["box"] for e in told if e["event"] == "PatchFinished"]
    height, width = next(e["shape"] for e in told if e["event"] == "PatchFinished")
    assert sum((y1 - y0) * (x1 - x0) for y0, y1, x0, x1 in boxes) == height * width
    picture = Image.open(tmp_path / ".zemosaic" / "preview" / "growing.png")
    assert picture.size == (width, height)
    assert picture.getextrema()[0][1] == 255  # a star, white
    (found,) = [event for event in told if event["event"] == "FramesFound"]
    assert (found["n_frames"], found["n_values"], found["n_samples"]) == (8, 8 * 300 * 400, 8 * 300 * 400)
    left = [e for e in told if e["event"] == "TimeLeft"]
    assert all(e["seconds"] >= 0 and 0 <= e["share"] <= 1 for e in left)
    assert left[-1]["seconds"] < 0.2 * left[0]["seconds"]
    drawn = sorted((tmp_path / ".zemosaic" / "preview" / "frames").iterdir())
    assert [path.stem for path in drawn] == sorted(table["id"])
    small = np.asarray(Image.open(drawn[0]))
    assert small.shape == (300, 400)
    assert 40 < np.median(small) < 110  # sky, dark grey
    assert small.max() > 150


def test_another_step_to_stop_at_is_refused(small_set: Path, tmp_path: Path) -> None:
    assert main(["build", str(small_set), "-o", str(tmp_path), "--until", "mosaic"]) == 2


def test_a_watched_run_stops_when_standard_input_ends(small_set: Path, tmp_path: Path) -> None:
    command = watched(small_set, tmp_path)
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 130, ended.stderr
    assert events_of(ended.stdout)[-1]["event"] == "Failed"
    assert not (tmp_path / "mosaic.fits").exists()
