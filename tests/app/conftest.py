"""A server of the app over a folder of small frames."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from app_cases import Client
from zemosaic.app.guard import Access
from zemosaic.app.history import Home
from zemosaic.app.launch import GOODBYE_S
from zemosaic.app.roots import Roots
from zemosaic.app.runs import Runs
from zemosaic.app.server import make_app, page_policy


@pytest.fixture(scope="module")
def root(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    (root / "frames").mkdir()
    for file in small_set.glob("*.fit*"):
        os.link(file, root / "frames" / file.name)
    (root / "out of here").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    (root / '"><img src=x onerror=alert(1)>\n--json').mkdir()
    return root


@pytest.fixture(scope="module")
def client(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    listener = socket.create_server(("127.0.0.1", 0))
    port, token = listener.getsockname()[1], secrets.token_urlsafe(32)
    access = Access(port, token, frozenset({"127.0.0.1", "localhost"}), page_policy())
    runs = Runs()
    app = make_app(access, Roots([root]), runs, Home(tmp_path_factory.mktemp("home")))
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=GOODBYE_S)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield Client(port, token)
    server.should_exit = True
    thread.join()
    runs.stop_all()
