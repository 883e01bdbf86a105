"""The addresses of the app, and what they answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from zemosaic.app.frames import read_frames, save_selection
from zemosaic.app.guard import WRITE_HEADER, Access, Guard
from zemosaic.app.history import Home
from zemosaic.app.output import OutputFolder, retell
from zemosaic.app.roots import Refused, Roots
from zemosaic.app.runs import Asked, Runs, own_command
from zemosaic.errors import EnvironmentProblem, ZeMosaicError
from zemosaic.settings import list_keys
from zemosaic.text import LANGUAGES, message, say

__all__ = ["make_app", "page_policy"]

PAGES = Path(__file__).parent / "pages"

LOOK_S = 0.2
"""How often a run's lines are looked for: sooner than a person sees."""

MEMORY_TURNS = 10
"""A run's memory is looked up once in so many looks: it changes slowly, and a look costs 2 ms."""

SCAN_S = 120.0
"""A folder whose headers take longer to read is scanned by the run itself."""

DEMO_FOLDER = "ZeMosaic demo"
"""Where simulated frames go, below the first root."""

VIEWER_POLICY = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""Of a report or viewer in an output folder, whose styles are inside; no script is but those of its own files."""


def page_policy() -> str:
    """The policy of the app's pages: its own files alone, and the one inline map of module names by its digest."""
    found = re.search(r'<script type="importmap">(.*?)</script>', (PAGES / "index.html").read_text("utf-8"), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(found[1].encode() if found else b"").digest()).decode()
    return (
        f"default-src 'self'; script-src 'self' 'sha256-{digest}'; img-src 'self' data:; base-uri 'none'; "
        "frame-src 'self'; form-action 'none'; frame-ancestors 'self'"
    )


class _Routes:
    """The answers, over what the server knows."""

    def __init__(self, roots: Roots, runs: Runs, home: Home) -> None:
        self._roots, self._runs, self._home = roots, runs, home

    async def page(self, request: Request) -> Response:
        """The one page; its script reads the rest of the address."""
        return FileResponse(PAGES / "index.html", headers={"cache-control": "no-store"})

    async def start(self, request: Request) -> Response:
        """What the first page shows: where to look, and runs so far."""
        states = []
        for folder in self._home.runs():
            try:
                states.append(self._runs.state(folder, _language_of(request)))
            except Refused:
                continue
        return JSONResponse({"roots": [str(root) for root in self._roots.folders], "runs": states})

    async def folder(self, request: Request) -> Response:
        """What is in a folder, and where its mosaic would go."""
        view = await run_in_threadpool(self._roots.show, request.query_params.get("path", ""))
        path = Path(view.path)
        answer = {name: getattr(view, name) for name in view.__slots__}
        free_bytes = shutil.disk_usage(path.parent).free
        return JSONResponse({**answer, "out": str(path.parent / f"{path.name}-mosaic"), "free_bytes": free_bytes})

    async def scan(self, request: Request) -> Response:
        """The frames of a folder as ``zemosaic scan`` lists them, and what their mosaic will take."""
        path = self._roots.resolve(request.query_params.get("path", ""))
        command = [*own_command(), "scan", "--json", "--", str(path)]
        run = partial(subprocess.run, command, capture_output=True, timeout=SCAN_S, check=False)
        try:
            ended = await run_in_threadpool(run, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return JSONResponse({"frames": None, "left_out": [], "forecast": None})
        events = [json.loads(line) for line in ended.stdout.splitlines()]
        told = {
            name: [event for event in events if event["event"] == name] for name in ("Frame", "LeftOut", "Forecast")
        }
        forecast = next(iter(told["Forecast"]), None)
        return JSONResponse({"frames": told["Frame"], "left_out": told["LeftOut"], "forecast": forecast})

    async def begin(self, request: Request) -> Response:
        """Start a run."""
        given = await _json_of(request)
        asked = self._read_asked(given)
        folder = await run_in_threadpool(self._runs.start, asked, _language_of(request))
        self._home.remember(folder)
        return JSONResponse(self._runs.state(folder, _language_of(request)), 201)

    def _read_asked(self, given: dict[str, Any]) -> Asked:
        inputs, settings = given.get("inputs"), given.get("settings", {})
        if not isinstance(settings, dict):
            raise Refused(400, "app.bad-request")
        out = self._roots.resolve(str(given.get("out", "")))
        _check_own_settings(settings, self._roots)
        return Asked(self._read_inputs(inputs, out), out, settings, look=bool(given.get("look")))

    def _read_inputs(self, inputs: Any, out: Path) -> tuple[str, ...]:
        """Folders of frames, which lie below the roots and do not hold the mosaic."""
        if not isinstance(inputs, list) or not inputs:
            raise Refused(400, "app.bad-request")
        paths = [self._roots.resolve(str(path)) for path in inputs]
        if any(out.is_relative_to(path) for path in paths):
            raise Refused(409, "app.output-holds-frames", path=str(out))
        return tuple(map(str, paths))

    def _found(self, request: Request) -> OutputFolder:
        for folder in self._home.runs():
            if folder.id == request.path_params["run"]:
                return folder
        raise Refused(404, "app.no-run", path=request.path_params["run"])

    async def state(self, request: Request) -> Response:
        """How a run stands."""
        return JSONResponse(self._runs.state(self._found(request), _language_of(request)))

    async def act(self, request: Request) -> Response:
        """Stop a run, let it go on, make the mosaic of what was looked at, or forget it."""
        folder, action = self._found(request), request.path_params["action"]
        if action == "stop":
            await run_in_threadpool(self._runs.stop, folder)
        elif action == "go":
            await run_in_threadpool(self._runs.go_on, folder, _language_of(request))
        elif action == "forget":
            self._home.forget(folder)
            return JSONResponse({})
        else:
            raise Refused(404, "app.no-page")
        return JSONResponse(self._runs.state(folder, _language_of(request)))

    async def frames(self, request: Request) -> Response:
        """The table of frames."""
        return JSONResponse(await run_in_threadpool(read_frames, self._found(request), _language_of(request)))

    async def select(self, request: Request) -> Response:
        """Leave frames out and make the mosaic of the others."""
        folder, given = self._found(request), await _json_of(request)
        left_out = given.get("left_out")
        if not isinstance(left_out, list):
            raise Refused(400, "app.bad-request")
        table = save_selection(folder, list(map(str, left_out)))
        whole = replace(Asked.last_of(folder), frames=str(table), look=False)
        await run_in_threadpool(self._runs.start, whole, _language_of(request))
        return JSONResponse(self._runs.state(folder, _language_of(request)), 201)

    async def add(self, request: Request) -> Response:
        """Add the frames of more folders to a finished mosaic."""
        folder, given = self._found(request), await _json_of(request)
        last, more = Asked.last_of(folder), self._read_inputs(given.get("inputs"), folder.path)
        whole = replace(last, inputs=tuple(dict.fromkeys([*last.inputs, *more])), look=False, add=True)
        await run_in_threadpool(self._runs.start, whole, _language_of(request))
        return JSONResponse(self._runs.state(folder, _language_of(request)), 201)

    async def events(self, request: Request) -> Response:
        """The lines of a run as they come; a page that was away goes on where it was."""
        start = request.headers.get("last-event-id", "0")
        lines = self._follow(self._found(request), int(start) if start.isdigit() else 0, _language_of(request))
        return StreamingResponse(lines, media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def _follow(self, folder: OutputFolder, start: int, language: str) -> AsyncIterator[str]:
        for turn in itertools.count():
            running = self._runs.is_running(folder)  # asked first: what it wrote last is then read below
            for event in folder.read_events(start):
                start = event["end"]
                yield f"id: {start}\ndata: {json.dumps(retell(event, language))}\n\n"
            if not running:
                state = {"event": "State", **self._runs.state(folder, language)}
                yield f"id: {start}\ndata: {json.dumps(state)}\n\n"
                return
            if turn % MEMORY_TURNS == 0:  # without an id: it is no line of the run
                used = {"event": "MemoryUsed", "used_bytes": self._runs.memory_bytes(folder)}
                yield f"data: {json.dumps(used)}\n\n"
            await asyncio.sleep(LOOK_S)

    async def demo(self, request: Request) -> Response:
        """Make a folder of simulated raw frames to try the app with."""
        folder = self._roots.folders[0] / DEMO_FOLDER
        if not folder.exists():
            command = [*own_command(), "simulate", f"--out={folder}", "--kind=raws", "--frames=12", "--size=1.5"]
            run = partial(subprocess.run, command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
            await run_in_threadpool(run)
        return JSONResponse({"path": str(folder)})

    async def file(self, request: Request) -> Response:
        """A file of an output folder."""
        folder = self._found(request)
        path = (folder.path / request.path_params["path"]).resolve()
        if not path.is_relative_to(folder.path.resolve()):
            raise Refused(403, "app.path-outside", path=request.path_params["path"])
        if not path.is_file():
            raise Refused(404, "app.no-page")
        return FileResponse(path, headers={"cache-control": "no-store", "content-security-policy": VIEWER_POLICY})

    async def settings(self, request: Request) -> Response:
        """Every key with its prose, default and values."""
        stages = {
            stage: {"prose": prose, "keys": [{n: getattr(key, n) for n in key.__slots__} for key in keys]}
            for stage, (prose, keys) in list_keys(_language_of(request)).items()
        }
        return JSONResponse(stages)


def _check_own_settings(settings: dict[str, Any], roots: Roots) -> None:
    """Paths among settings lie below the roots too."""
    for stage in settings.values():
        for value in stage.values() if isinstance(stage, dict) else ():
            if isinstance(value, str) and Path(value).is_absolute():
                roots.resolve(value)


def _language_of(request: Request) -> str:
    """The language of the page that asks; a stream of events cannot send a header, so its address tells it."""
    language = request.headers.get(WRITE_HEADER) or request.query_params.get("language", "")
    return language if language in LANGUAGES else "en"


async def _json_of(request: Request) -> dict[str, Any]:
    try:
        given = json.loads(await request.body())
    except ValueError as problem:
        raise Refused(400, "app.bad-request") from problem
    if not isinstance(given, dict):
        raise Refused(400, "app.bad-request")
    return given


async def _refuse(request: Request, problem: Exception) -> Response:
    """An error of the house, or of the machine: its code, its facts and its sentence."""
    if isinstance(problem, OSError):
        why = problem.strerror or problem
        problem = EnvironmentProblem("run.machine-fault", path=problem.filename or message("run.system"), problem=why)
    if not isinstance(problem, ZeMosaicError):
        raise problem
    status = problem.status if isinstance(problem, Refused) else 422
    text = say(problem.told, _language_of(request))
    return JSONResponse({**problem.told.as_json(), "message": text}, status)


def make_app(access: Access, roots: Roots, runs: Runs, home: Home) -> Guard:
    """The app behind its guard.

    Parameters
    ----------
    access : Access
        What requests must bring.
    roots : Roots
        Folders that may be looked into.
    runs : Runs
    home : Home
    """
    on = _Routes(roots, runs, home)
    get: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/": on.page,
        "/run/{run}": on.page,
        "/run/{run}/{part}": on.page,
        "/settings": on.page,
        "/api/start": on.start,
        "/api/folder": on.folder,
        "/api/scan": on.scan,
        "/api/settings": on.settings,
        "/api/runs/{run}": on.state,
        "/api/runs/{run}/events": on.events,
        "/api/runs/{run}/frames": on.frames,
        "/api/runs/{run}/files/{path:path}": on.file,
    }
    post = {
        "/api/demo": on.demo,
        "/api/runs": on.begin,
        "/api/runs/{run}/selection": on.select,
        "/api/runs/{run}/add": on.add,
    }
    post["/api/runs/{run}/{action}"] = on.act
    routes: list[Route | Mount] = [Route(path, answer) for path, answer in get.items()]
    routes += [Route(path, answer, methods=["POST"]) for path, answer in post.items()]
    routes.append(Mount("/static", StaticFiles(directory=PAGES)))
    return Guard(Starlette(routes=routes, exception_handlers={ZeMosaicError: _refuse, OSError: _refuse}), access)
