"""Keys from a URL: a JWKS (RFC 7517 section 5), fetched in a thread and cached.

A token with an unknown key id causes another fetch, at most every few seconds. A location that fails is retried at growing
intervals; meanwhile the last keys stay in use, for an hour at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import ipaddress
import json
import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from kafkaproxy.guards.keys import KeyProblem, KeySet, KeysUnavailable, VerificationKey, read_key

__all__ = ["RemoteKeys", "check_location", "download"]

log = logging.getLogger("kafkaproxy.guards")

MAX_BYTES: Final = 512 * 1024
MAX_KEYS: Final = 100
REFETCH_SECONDS: Final = 10.0
"""The shortest interval, in seconds, between two fetches that unknown keys cause."""
LONGEST_PAUSE: Final = 60.0
"""The longest interval, in seconds, after which a location that failed is tried again."""
LAST_KEYS_SECONDS: Final = 3600.0
"""How many seconds beyond the cache time the last keys stay in use while the location fails."""
_REFRESH_AT: Final = 0.8
"""After this part of the cache time, keys are fetched in the background while the old ones are still in use."""

Download = Callable[[], bytes]


class RemoteKeys:
    """The keys of one location, for any number of event loops. The first :meth:`find` starts the first fetch."""

    def __init__(
        self,
        guard: str,
        fetch: Download,
        *,
        cache_seconds: float = 300.0,
        algorithm: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._fetch = fetch
        self._cache_seconds = cache_seconds
        self._algorithm = algorithm
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: Future[None] | None = None
        self._keys = KeySet(())
        self._fetched_at: float | None = None
        self._tried_at = -REFETCH_SECONDS
        self._failures = 0

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key for a token, None without one; raise :class:`KeysUnavailable` if no keys are available now."""
        age = self._age()
        if self._must_wait(age):
            await self._refresh()
        elif age is not None and age >= self._cache_seconds * _REFRESH_AT:
            self._start()
        key = self._select(kid, algorithm)
        if key is None and self._clock() - self._tried_at >= REFETCH_SECONDS:
            await self._refresh()
            key = self._select(kid, algorithm)
        return key

    def _must_wait(self, age: float | None) -> bool:
        """True if a fetch has to end first. While the last keys are in use, requests do not wait for a location that fails."""
        if age is None or age >= self._cache_seconds + LAST_KEYS_SECONDS:
            return True
        return age >= self._cache_seconds and not self._failures

    def _select(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        age = self._age()
        if age is None or age >= self._cache_seconds + LAST_KEYS_SECONDS:
            raise KeysUnavailable
        return self._keys.select(kid, algorithm)

    def _age(self) -> float | None:
        return None if self._fetched_at is None else self._clock() - self._fetched_at

    async def _refresh(self) -> None:
        """Fetch, or wait for the fetch that is running; do nothing until a location that failed may be tried again."""
        if (pending := self._start()) is not None:
            # Shielded: other requests wait for the same fetch, so a disconnect must not cancel it.
            await asyncio.shield(asyncio.wrap_future(pending))

    def _start(self) -> Future[None] | None:
        with self._lock:
            if self._pending is None and self._clock() >= self._tried_at + self._pause():
                self._tried_at = self._clock()
                self._pending = Future()
                # A daemon thread, not a pool: a name lookup that hangs must not keep the process from exiting.
                threading.Thread(target=self._run, args=(self._pending,), name="kafkaproxy-jwks", daemon=True).start()
            return self._pending

    def _pause(self) -> float:
        return 0.0 if not self._failures else min(2.0 ** (self._failures - 1), LONGEST_PAUSE)

    def _run(self, pending: Future[None]) -> None:
        try:
            keys = parse_key_set(self._fetch(), self._algorithm)
        except Exception as error:  # noqa: BLE001 - after any error the last keys stay in use
            self._failures += 1
            log.warning("jwks_failed guard=%s failures=%s error=%.200r", self._guard, self._failures, error)
        else:
            self._keys, self._fetched_at, self._failures = keys, self._clock(), 0
        finally:
            with self._lock:
                self._pending = None
            pending.set_result(None)


def parse_key_set(body: bytes, algorithm: str | None = None) -> KeySet:
    """Return the usable keys of a JWKS; raise ``ValueError`` if the body is no JWKS. Keys that cannot be used are left out.

    So are symmetric keys: a key that every client can download is no secret.
    """
    document = json.loads(body)
    members = document.get("keys", []) if isinstance(document, dict) else None
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ValueError("not a JWKS")
    keys: list[VerificationKey] = []
    for jwk in members:
        with contextlib.suppress(KeyProblem):
            if isinstance(jwk, dict) and jwk.get("kty") != "oct":
                keys.append(read_key(jwk, algorithm))
    return KeySet(keys)


def check_location(url: str, *, allow_http: bool) -> str:
    """Return the URL if it is https, loopback, or http is allowed; raise ``ValueError`` that says what to write instead."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0:
        raise ValueError(_("Write the URL of a JWKS: https://example.com/.well-known/jwks.json."))
    if parts.scheme == "https" or (parts.scheme == "http" and (allow_http or _is_loopback(host))):
        return url
    raise ValueError(_("Keys fetched over plain http can be replaced on the way: use https, or set allow_http."))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def download(url: str, timeout: float, *, allow_http: bool) -> bytes:
    """Fetch a document of up to ``MAX_BYTES``; raise ``OSError`` or ``ValueError``. Blocks for ``timeout`` seconds at most.

    The timeout of a socket is one for each read; a timer closes the socket after ``timeout`` seconds in total.
    """
    holder = _SocketHolder()
    timer = threading.Timer(timeout, holder.close)
    timer.daemon = True
    timer.start()
    try:
        with _opener(url, holder, allow_http=allow_http).open(_request(url), timeout=timeout) as response:
            body: bytes = response.read(MAX_BYTES + 1)
            missing: int | None = response.length
    except http.client.HTTPException as error:
        raise URLError(type(error).__name__) from None
    finally:
        timer.cancel()
    if holder.was_closed:  # the body ended because the timer closed the socket
        raise TimeoutError
    if len(body) > MAX_BYTES:
        raise ValueError("too large")
    if missing:
        raise ValueError("truncated")
    return body


def _request(url: str) -> urllib.request.Request:
    headers = {"accept": "application/jwk-set+json, application/json", "user-agent": "kafkaproxy"}
    return urllib.request.Request(url, headers=headers)  # noqa: S310 - check_location has allowed the URL


def _opener(url: str, holder: _SocketHolder, *, allow_http: bool) -> urllib.request.OpenerDirector:
    """Return an opener for http and https only: no files, no FTP, no cookies, no passwords."""
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        _Http(holder),
        _Https(holder),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(allow_http=allow_http),
    ]
    if not _is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _SocketHolder:
    """The socket of a download, which another thread may close."""

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self.was_closed = False

    def hold(self, sock: socket.socket) -> None:
        """Keep the socket: urllib drops its reference when the response begins."""
        self._sock = sock
        if self.was_closed:
            self.close()

    def close(self) -> None:
        """Close the connection, so that a blocked read returns."""
        self.was_closed = True
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


class _HttpConnection(http.client.HTTPConnection):
    holder: _SocketHolder

    def connect(self) -> None:
        super().connect()
        self.holder.hold(self.sock)


class _HttpsConnection(http.client.HTTPSConnection):
    holder: _SocketHolder

    def connect(self) -> None:
        super().connect()
        self.holder.hold(self.sock)


def _connection(kind: type[_HttpConnection | _HttpsConnection], holder: _SocketHolder, host: str, **options: Any) -> Any:
    connection = kind(host, **options)
    connection.holder = holder
    return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, holder: _SocketHolder) -> None:
        super().__init__()
        self._holder = holder

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_connection, _HttpConnection, self._holder), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, holder: _SocketHolder) -> None:
        super().__init__()
        self._holder = holder

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_connection, _HttpsConnection, self._holder), req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows up to three redirects to locations that :func:`check_location` allows, none of them from https to http."""

    max_redirections = 3

    def __init__(self, *, allow_http: bool) -> None:
        self._allow_http = allow_http

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_location(newurl, allow_http=self._allow_http)
        if req.type == "https" and not newurl.startswith("https:"):
            raise URLError("redirected from https to http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
