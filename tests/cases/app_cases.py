"""A browser that can lie about where it comes from."""

from __future__ import annotations

import http.client
import json
from typing import Any


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
