"""The app's server: what it refuses, and a run from start to stop to the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from app_cases import Client
from zemosaic.app.history import Home
from zemosaic.app.launch import _addresses
from zemosaic.app.output import OutputFolder
from zemosaic.app.roots import Roots
from zemosaic.app.runs import Runs
from zemosaic.app.server import _Routes


def test_the_link_lets_in_once_and_leaves_no_secret_in_the_address(client: Client) -> None:
    status, headers, _ = client.ask("GET", f"/?token={client.token}", Cookie="")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"].lower()
    assert cookie.startswith(f"zemosaic-{client.port}=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.ask("GET", "/?token=wrong", Cookie="")[0] == 401
    status, headers, content = client.ask("GET", "/")
    assert status == 200
    assert b"importmap" in content
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (421, {"Host": "evil.example:80"}),
        (421, {"Host": "evil.example"}),
        (403, {"Origin": "http://evil.example"}),
        (403, {"Origin": "null"}),
        (403, {"Sec_Fetch_Site": "cross-site"}),
        (403, {"Sec_Fetch_Site": "same-site"}),
        (401, {"Cookie": ""}),
        (401, {"Cookie": "zemosaic-1=x"}),
    ],
)
def test_strangers_are_refused(client: Client, status: int, headers: dict[str, str]) -> None:
    assert client.ask("GET", "/api/start", **headers)[0] == status
    assert client.ask("POST", "/api/runs", {}, **headers)[0] == status


def test_a_write_needs_its_header_and_is_short(client: Client) -> None:
    assert client.ask("POST", "/api/runs", {}, X_ZeMosaic="")[0] == 403
    assert client.ask("POST", "/api/runs", b"x" * (65 << 10))[0] == 413
    assert client.ask("POST", "/api/runs", b"no json")[0] == 400
    assert client.ask("POST", "/api/runs", b"[1]")[0] == 400


@pytest.mark.parametrize("path", ["/etc", "ROOT/..", "ROOT/frames/../../x", "ROOT/out%20of%20here", "frames", ""])
def test_no_folder_outside_of_the_roots_is_shown(client: Client, root: Path, path: str) -> None:
    status, _, content = client.ask("GET", "/api/folder?path=" + path.replace("ROOT", str(root)))
    assert status == 403
    assert json.loads(content)["code"].startswith("app.path-")


def test_a_folder_is_shown_whatever_its_names(client: Client, root: Path) -> None:
    view = client.get(f"/api/folder?path={root}")
    assert view["parent"] is None
    assert '"><img src=x onerror=alert(1)>\n--json' in view["folders"]
    view = client.get(f"/api/folder?path={root}/frames")
    assert (view["n_images"], view["parent"]) == (8, str(root))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"inputs": ["/etc"]}, 403),
        ({"inputs": []}, 400),
        ({"out": "ROOT/frames/out"}, 409),
        ({"out": "ROOT/taken"}, 409),
        ({"out": "/tmp/elsewhere-mosaic"}, 403),
        ({"settings": {"stack": {"no_such_key": 1}}}, 422),
        ({"settings": {"calibrate": {"darks": "/etc"}}}, 403),
    ],
)
def test_runs_that_must_not_start(client: Client, root: Path, change: dict[str, Any], status: int) -> None:
    (root / "taken").mkdir(exist_ok=True)
    (root / "taken" / "letter.txt").write_text("mine")
    asked = {"inputs": [str(root / "frames")], "out": str(root / "new"), **change}
    asked["out"] = asked["out"].replace("ROOT", str(root))
    got, answer = client.post("/api/runs", asked)
    assert got == status, answer
    assert answer["message"]
    assert not (root / "new").exists()


def wait_for(state: Callable[[], dict[str, Any]], *wanted: str) -> dict[str, Any]:
    end = time.monotonic() + 300
    while (found := state())["state"] not in wanted:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def test_a_run_from_looking_to_the_mosaic(client: Client, root: Path, built: Path) -> None:
    """Looked at, stopped, killed, gone on, and in the end the bytes of the command; one frame is then left out."""
    asked = {"inputs": [str(root / "frames")], "out": str(root / "m"), "settings": {"output": {"also": []}}}
    status, answer = client.post("/api/runs", {**asked, "look": True})
    assert status == 201
    run = f"/api/runs/{answer['id']}"
    assert client.post("/api/runs", asked)[0] == 409  # one run a folder
    assert client.post(f"{run}/stop")[1]["state"] in {"stopped", "looked"}
    client.post(f"{run}/go")
    wait_for(lambda: client.get(run), "looked")
    frames = client.get(f"{run}/frames")
    assert len(frames) == 8

    status, answer = client.post("/api/runs", asked)
    assert status == 201
    os.kill(child_of(root / "m"), signal.SIGKILL)
    wait_for(lambda: client.get(run), "died")
    assert client.post(f"{run}/go")[1]["state"] == "running"
    assert wait_for(lambda: client.get(run), "done", "failed")["state"] == "done"
    assert client.ask("GET", f"{run}/files/mosaic.fits")[2] == (built / "mosaic.fits").read_bytes()
    assert client.ask("GET", f"{run}/files/..%2Fframes%2Fframe_0000.fits")[0] == 403

    stream = client.ask("GET", f"{run}/events")[2].decode()
    told = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    assert [event["event"] for event in told].count("RunStarted") >= 3
    assert (told[-1]["event"], told[-1]["state"]) == ("State", "done")
    assert any(event["event"] == "PatchFinished" for event in told)
    later = client.ask("GET", f"{run}/events", Last_Event_ID=str(told[-2]["end"]))[2].decode()
    assert later.count("data: ") == 1

    status, _ = client.post(f"{run}/selection", {"left_out": [frames[0]["path"]]})
    assert status == 201
    wait_for(lambda: client.get(run), "done")
    assert [row["use"] for row in client.get(f"{run}/frames")].count("False") == 1
    (state,) = client.get("/api/start")["runs"]
    assert state["name"] == "m"
    assert client.post(f"{run}/forget") == (200, {})
    assert client.get("/api/start")["runs"] == []
    assert (root / "m" / "mosaic.fits").exists()


def child_of(out: Path) -> int:
    """Process id of the run in a folder, as its lock tells."""
    (child,) = [p for p in psutil.Process().children() if f"--out={out}" in p.cmdline()]
    return child.pid


def test_the_server_is_light() -> None:
    heavy = "{'numpy', 'scipy', 'numba', 'astropy'}"
    script = f"import sys, zemosaic.cli.commands, zemosaic.app.launch; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("lan", [False, True])
def test_other_machines_may_connect_only_when_that_is_asked_for(tmp_path: Path, lan: bool) -> None:
    command = [sys.executable, "-m", "zemosaic", "serve", f"--root={tmp_path}", *["--lan"] * lan]
    env = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = [server.stderr.readline()]
        while "Ctrl-C" not in said[-1]:
            said.append(server.stderr.readline())
        heard = {found.laddr.ip for found in psutil.Process(server.pid).net_connections("inet")}
        server.send_signal(signal.SIGINT)
    assert heard == {"0.0.0.0" if lan else "127.0.0.1"}
    assert all(line.startswith("On your network, for whoever has this link: http://") for line in said[1:-1])
    assert len(said) == 2 + (len(_addresses()) if lan else 0)


def test_ten_pages_lose_none_of_ten_thousand_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come in pieces while pages read; one page goes away in the middle and comes back."""
    folder, runs = OutputFolder(tmp_path), Runs()
    at_work = threading.Event()
    monkeypatch.setattr(runs, "is_running", lambda folder: at_work.is_set())
    monkeypatch.setattr("zemosaic.app.server.LOOK_S", 0.001)
    routes = _Routes(Roots([tmp_path]), runs, Home(tmp_path / "home"))
    folder.write_request({"look": False})
    text = "".join(json.dumps({"event": "Progress", "stage": "stack", "done": k}) + "\n" for k in range(10_000))
    at_work.set()

    def write() -> None:
        with folder.events.open("ab", buffering=0) as file:
            for start in range(0, len(text), 4099):
                file.write(text[start : start + 4099].encode())
        at_work.clear()

    async def read(start: int, most: int) -> tuple[list[int], int]:
        done = []
        async for piece in routes._follow(folder, start, "fr"):
            event = json.loads(piece[piece.index("data: ") + 6 :])
            if event["event"] == "Progress":
                done.append(event["done"])
                start = event["end"]
            if len(done) == most:
                break
        return done, start

    async def read_all() -> list[list[int]]:
        writer = threading.Thread(target=write)
        pages = [asyncio.create_task(read(0, 10_001)) for _ in range(9)]
        early = asyncio.create_task(read(0, 3_000))
        writer.start()
        first, end = await early
        found = [done for done, _ in await asyncio.gather(*pages)]
        writer.join()
        return [*found, first + (await read(end, 10_001))[0]]

    for done in asyncio.run(read_all()):
        assert done == list(range(10_000))


def test_simulated_frames_are_made_once(client: Client, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = "import sys, pathlib; folder = pathlib.Path(sys.argv[2][6:]); folder.mkdir(); (folder / 'a').write_text('')"
    monkeypatch.setattr("zemosaic.app.server.own_command", lambda: [sys.executable, "-c", maker])
    for _ in range(2):
        assert client.post("/api/demo") == (200, {"path": str(root / "ZeMosaic demo")})
    assert (root / "ZeMosaic demo" / "a").exists()
