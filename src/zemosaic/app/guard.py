"""Who may talk to the app: the browser of the person who started it, and no page of another site.

A server on 127.0.0.1 is reached by every page that the browser shows, so a token alone is not enough: the name in
``Host`` is looked at (a site may let its own name mean 127.0.0.1), and where a request comes from.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse

__all__ = ["WRITE_HEADER", "Access", "Guard"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 64 << 10
"""Nothing is uploaded: the longest request is a form of settings."""

WRITE_HEADER = "x-zemosaic"
"""A form of another site cannot send a header of its own, so each write must have it; it tells the page's language."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a request must bring.

    Attributes
    ----------
    port : int
        Cookies ignore ports, so the cookie is named by it.
    token : str
        Secret of this server; comes once in the link, then as a cookie.
    hosts : frozenset of str
        Names by which the server is called, without port.
    policy : str
        The Content-Security-Policy of its pages.
    """

    port: int
    token: str
    hosts: frozenset[str]
    policy: str

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return f"zemosaic-{self.port}"

    @property
    def origins(self) -> frozenset[str]:
        """Where its own pages come from."""
        return frozenset(f"http://{host}:{self.port}" for host in self.hosts)


class Guard:
    """Refuses requests before the app sees them, and says to the browser what its answers may do.

    Parameters
    ----------
    app : ASGI application
    access : Access
    """

    def __init__(self, app: App, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (status := self._refusal(scope, headers)) is not None:
            await PlainTextResponse("refused", status)(scope, receive, self._marked(send))
        elif given := parse_qs(scope["query_string"].decode("latin-1")).get("token"):
            await self._let_in(given[0])(scope, receive, self._marked(send))
        elif not self._is_known(headers):
            text = "Start the app with 'zemosaic gui': the link that it opens lets you in."
            await PlainTextResponse(text, 401)(scope, receive, self._marked(send))
        else:
            await self._app(scope, _limited(receive), self._marked(send))

    def _refusal(self, scope: Scope, headers: Headers) -> int | None:
        """The status of a request that must not be served, whoever sends it."""
        access, host = self._access, headers.get("host", "")
        name, _, port = host.rpartition(":")
        if name not in access.hosts or port != str(access.port):
            return 421
        if headers.get("origin", next(iter(access.origins))) not in access.origins:
            return 403
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return 403
        if scope["method"] not in {"GET", "HEAD"} and WRITE_HEADER not in headers:
            return 403
        length = headers.get("content-length", "0")
        return 413 if not length.isdigit() or int(length) > MOST_BODY_BYTES else None

    def _let_in(self, token: str) -> PlainTextResponse | RedirectResponse:
        """The answer to the link: a cookie, and the same page without the token in its address."""
        access = self._access
        if not hmac.compare_digest(token.encode(), access.token.encode()):
            return PlainTextResponse("This link is of another start of the app.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(access.cookie, access.token, httponly=True, samesite="strict", path="/")
        return answer

    def _is_known(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._access.cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._access.token.encode())

    def _marked(self, send: Send) -> Send:
        """Answers with the headers that keep the browser careful."""

        async def marked(told: MutableMapping[str, Any]) -> None:
            if told["type"] == "http.response.start":
                headers = MutableHeaders(scope=told)
                headers["content-security-policy"] = headers.get("content-security-policy", self._access.policy)
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers["cross-origin-resource-policy"] = "same-origin"
            await send(told)

        return marked


def _limited(receive: Receive) -> Receive:
    """A body without a stated length is cut where the limit is: what is left is no JSON."""
    n_read = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal n_read
        told = await receive()
        n_read += len(told.get("body", b""))
        return {**told, "body": b"", "more_body": False} if n_read > MOST_BODY_BYTES else told

    return limited
