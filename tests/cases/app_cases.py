"""Who talks to the app: a client that can lie about where it comes from, and a person at a browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zemosaic

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PAGES = Path(zemosaic.__file__).parent / "app" / "pages"


def words(language: str) -> dict[str, str]:
    """All sentences of the pages."""
    found: dict[str, str] = json.loads((PAGES / f"words-{language}.json").read_text(encoding="utf-8"))
    return found


class Client:
    """Asks the app's server; by default with all that it wants to see."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        given = {"Host": f"127.0.0.1:{self.port}", "Cookie": f"zemosaic-{self.port}={self.token}"}
        if method == "POST":
            given["X-ZeMosaic"] = "en"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        link.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**given, **({"Content-Length": str(len(data))} if data else {})}.items():
            if value:
                link.putheader(name, value)
        link.endheaders(data)
        answer = link.getresponse()
        content = answer.read()
        link.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content

    def get(self, path: str) -> Any:
        status, _, content = self.ask("GET", path)
        assert status == 200, content
        return json.loads(content)

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        status, _, content = self.ask("POST", path, body or {})
        return status, json.loads(content)


class Server:
    """``zemosaic serve`` as a process of its own.

    Parameters
    ----------
    root : Path
        The folder that it may look into; what it remembers is kept beside.
    within : sequence of str
        A command that runs another one elsewhere, as in a network of its own.
    """

    def __init__(self, root: Path, within: Sequence[str] = ()) -> None:
        self._command = [*within, sys.executable, "-m", "zemosaic", "serve", f"--root={root}"]
        self._env = {**os.environ, "XDG_CONFIG_HOME": f"{root}-config"}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self._command, env=self._env, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127.0.0.1:(\d+)/\?token=(\S+)", said)
        assert found, said
        self.link, self.client = found[0], Client(int(found[1]), found[2])
        return process

    def kill(self) -> None:
        """End it as a crash would, and start it again: it has another link then."""
        self.process.kill()
        self._wait()
        self.process = self._start()

    def stop(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        self._wait()

    def _wait(self) -> None:
        self.process.wait(60)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def network_alone() -> Iterator[list[str]]:
    """A network that has nothing but the machine itself, as the command that runs others in it.

    Yields
    ------
    list of str
        Empty where the system allows no such thing: then all runs in the network there is.
    """
    hold = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up && echo up && cat"]
    if not (shutil.which("unshare") and shutil.which("nsenter") and shutil.which("ip")):
        yield []
        return
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        is_up = holder.stdout.readline() == "up\n"
        enter = ["nsenter", f"--target={holder.pid}", "--user", "--net", "--preserve-credentials", "--"]
        yield enter if is_up else []
        holder.stdin.close()


class Person:
    """Finds things on a page by their role and name, and presses them: with a pointer, or by keys alone."""

    def __init__(self, page: Page, *, by_keys: bool) -> None:
        self.page, self.by_keys = page, by_keys

    def press(self, thing: Locator) -> None:
        """Use a button, a link or a box."""
        thing.wait_for()
        if not self.by_keys:
            thing.click()
            return
        self.reach(thing)
        self.page.keyboard.press("Space" if thing.get_attribute("type") == "checkbox" else "Enter")

    def write(self, field: Locator, text: str) -> None:
        """Put a text into a field."""
        self.press(field) if not self.by_keys else self.reach(field)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def reach(self, thing: Locator) -> None:
        """Go from one thing to the next until this one has the focus."""
        for _ in range(400):
            if thing.evaluate("node => node === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"no key leads to {thing}")
