"""Start the app's server, and open a browser on it."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import psutil
import uvicorn

from zemosaic.app.guard import Access
from zemosaic.app.history import Home, Listening
from zemosaic.app.roots import Roots
from zemosaic.app.runs import Runs
from zemosaic.app.server import make_app, page_policy

__all__ = ["open_running", "serve"]

MOUNTS = "/media", "/mnt", "/run/media", "/Volumes"
"""Where systems put disks that are plugged in."""

GOODBYE_S = 1
"""Pages that still listen to a run are let go after this."""


def default_roots() -> list[Path]:
    """The home folder, and disks that are plugged in."""
    drives = [part.mountpoint for part in psutil.disk_partitions()] if sys.platform == "win32" else MOUNTS
    return [Path.home(), *map(Path, drives)]


def open_running(home: Home) -> bool:
    """Open a browser on the server that is at work already; False where none is."""
    server = home.listening()
    if server is None:
        return False
    _say(f"ZeMosaic is running already: {server.link}")
    webbrowser.open(server.link)
    return True


def serve(home: Home, roots: Sequence[Path] = (), *, port: int = 0, lan: bool = False, browse: bool = False) -> None:
    """Serve until Ctrl-C; runs that are at work stop then, and go on when they are asked to.

    Parameters
    ----------
    home : Home
    roots : sequence of Path
        Folders that may be looked into; by default the home folder and what is plugged in.
    port : int
        0 takes a free one.
    lan : bool
        Whether other machines may connect.
    browse : bool
        Whether a browser is opened.
    """
    listener = socket.create_server(("0.0.0.0" if lan else "127.0.0.1", port))
    server = Listening(os.getpid(), listener.getsockname()[1], secrets.token_urlsafe(32))
    addresses = _addresses() if lan else []
    access = Access(server.port, server.token, frozenset({"127.0.0.1", "localhost", *addresses}), page_policy())
    runs = Runs()
    app = make_app(access, Roots(list(roots) or default_roots()), runs, home)
    home.announce(server)
    _say(f"ZeMosaic is at {server.link}")
    for address in addresses:
        _say(f"On your network, for whoever has this link: {server.link.replace('127.0.0.1', address)}")
    _say("Ctrl-C ends it. A run that is at work then stops, and goes on when you ask for it.")
    if browse:
        webbrowser.open(server.link)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=GOODBYE_S)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        runs.stop_all()
        home.leave()


def _addresses() -> list[str]:
    """The machine's own addresses on its networks."""
    found = [item.address for items in psutil.net_if_addrs().values() for item in items]
    return [address for address in found if address.count(".") == 3 and not address.startswith("127.")]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
