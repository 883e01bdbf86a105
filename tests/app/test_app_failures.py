"""What ends a run early: one sentence that says what to do, in both languages; no process that stays."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from app_cases import Client, Server
from mosaic_cases import noise, tan_wcs, write_frame
from zemosaic.app.output import OutputFolder
from zemosaic.app.runs import Runs
from zemosaic.engine.lock import locked

Arrange = Callable[[Path, Path, ExitStack], None]


def wait_until_ended(client: Client, run: str) -> dict[str, Any]:
    end = time.monotonic() + 300
    while (found := client.get(run))["state"] == "running":
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return dict(found)


@pytest.fixture
def few_frames(root: Path) -> Iterator[Path]:
    """A folder of two frames of noise."""
    folder = root / "few"
    folder.mkdir()
    for k in range(2):
        write_frame(folder / f"{k}.fits", noise((60, 80), k), tan_wcs((60, 80)), EXPTIME=10.0)
    yield folder
    subprocess.run(["rm", "-rf", folder, root / "failing"], check=True)


def mount(out: Path, size: str, until: ExitStack, *options: str) -> None:
    """A small disk of its own for an output folder."""
    out.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", out]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted here")
    until.callback(unmount, out)


def unmount(out: Path) -> None:
    """Take the disk away; a compiler that the run has ended may hold its log for some moments yet."""
    end = time.monotonic() + 30
    while (done := subprocess.run(["umount", out], check=False, capture_output=True, text=True)).returncode != 0:
        assert time.monotonic() < end, done.stderr
        time.sleep(0.1)


def fill_disk(frames: Path, out: Path, until: ExitStack) -> None:
    mount(out, "100k", until)


def fill_to_the_end(frames: Path, out: Path, until: ExitStack) -> None:
    mount(out, "48k", until)
    (out / ".zemosaic").mkdir()
    fill_up(out)


def fill_up(folder: Path) -> None:
    """Leave no byte."""
    with (folder / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def make_read_only(frames: Path, out: Path, until: ExitStack) -> None:
    mount(out, "1m", until, "ro")


def unplug(frames: Path, out: Path, until: ExitStack) -> None:
    for path in frames.iterdir():
        path.unlink()
    frames.rmdir()


def hide_the_sky(frames: Path, out: Path, until: ExitStack) -> None:
    for path in sorted(frames.iterdir()):
        path.unlink()
        write_frame(path, np.round(noise((60, 80), 5)), None, EXPTIME=10.0)


def occupy(frames: Path, out: Path, until: ExitStack) -> None:
    (out / ".zemosaic").mkdir(parents=True)
    until.enter_context(locked(out / ".zemosaic" / "lock", str(out)))


@pytest.mark.parametrize(
    ("arrange", "english", "french"),
    [
        (fill_disk, "GB are free; make space there, or", "GB sont libres ; faites-y de la place, ou"),
        (fill_to_the_end, "No space left on device; put this right", "plus de place sur le disque ; remédiez-y"),
        (make_read_only, "Read-only file system; ", "disque en lecture seule ; "),
        (unplug, "does not exist; plug its disk in", "n'existe pas ; branchez son disque"),
        (hide_the_sky, "may stand in a file NAME.head", "fichier NOM.head"),
        (occupy, "wait until it is done, or choose another folder", "attendez la fin, ou choisissez un autre dossier"),
    ],
)
def test_a_failure_is_one_sentence_with_what_to_do(
    client: Client, root: Path, few_frames: Path, arrange: Arrange, english: str, french: str
) -> None:
    out = root / "failing"
    with ExitStack() as until:
        arrange(few_frames, out, until)
        told = {}
        for language in ("en", "fr"):
            asked = {"inputs": [str(few_frames)], "out": str(out)}
            status, _, content = client.ask("POST", "/api/runs", asked, X_ZeMosaic=language)
            if status == 201:
                run = f"/api/runs/{client.get('/api/start')['runs'][0]['id']}"
                assert wait_until_ended(client, run)["state"] == "failed"
                told = {name: client.get(f"{run}?language={name}")["problem"] for name in ("en", "fr")}
                break
            told[language] = json.loads(content)["message"]
    assert english in told["en"]
    assert french in told["fr"]
    assert "Traceback" not in "".join(told.values())


def test_a_run_that_could_not_even_say_that_the_disk_is_full(tmp_path: Path) -> None:
    with ExitStack() as until:
        folder = OutputFolder(tmp_path / "out")
        mount(folder.path, "100k", until)
        folder.write_request({"look": False})
        folder.add_event({"event": "RunStarted", "look": False})
        assert Runs().state(folder, "en")["state"] == "died"
        fill_up(folder.path)
        state = Runs().state(folder, "fr")
    assert state["state"] == "failed"
    assert "plus de place sur le disque ; remédiez-y" in state["problem"]


def test_ctrl_c_at_the_server_leaves_no_process_and_the_run_goes_on(root: Path) -> None:
    def at_work(out: Path) -> list[int]:
        found = psutil.process_iter(["cmdline"])
        return [process.pid for process in found if f"--out={out}" in (process.info["cmdline"] or [])]

    out = root / "interrupted"
    server = Server(root)
    try:
        asked = {"inputs": [str(root / "frames")], "out": str(out), "look": True}
        status, answer = server.client.post("/api/runs", asked)
        assert status == 201
        assert len(at_work(out)) == 1
    finally:
        server.stop()
    assert server.process.returncode == 0
    assert at_work(out) == []
    server = Server(root)
    try:
        run = f"/api/runs/{answer['id']}"
        assert server.client.get(run)["state"] == "stopped"
        assert server.client.post(f"{run}/go")[1]["state"] == "running"
        assert wait_until_ended(server.client, run)["state"] == "looked"
    finally:
        server.stop()
    assert at_work(out) == []
