"""A trial: one request through the code that serves real ones, in this process, with everything that came of it.

It is served with an observer, which may impersonate a user before the guards. Nothing of it is kept for real requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.core.futures import await_shared
from kafkaproxy.guards.principals import ANONYMOUS, ClientPrincipal, Principals
from kafkaproxy.http.problems import Problem
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import Match, RolePrincipal
from kafkaproxy.routing.table import Gateway
from kafkaproxy.serving.dispatch import serve
from kafkaproxy.serving.runtime import Runtime, Table
from kafkaproxy.worker.errors import WorkerError
from kafkaproxy.worker.types import Delivery, Record

__all__ = ["Asked", "ProducedRecord", "Trial", "run_trial"]

log = logging.getLogger("kafkaproxy.admin")

_MOST_BODY: Final = 1 << 18
_GRACE: Final = 2.0
_PATH_SAFE: Final = "/%!$&'()*+,;=:@~?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request of a trial. ``principals``: by session guard, the user to impersonate; empty: its own credentials count."""

    method: str
    target: str
    """Path and query, not yet percent-encoded."""
    scheme: str
    host: str
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    seconds: float = 5.0
    principals: Mapping[str, ClientPrincipal] = field(default_factory=dict)

    def scope(self) -> dict[str, Any]:
        """Return the ASGI scope. Nothing in it comes from the request for the page."""
        path, _, query = self.target.partition("?")
        raw = quote(path, safe=_PATH_SAFE)
        fields = [(b"host", self.host.encode("latin-1", "replace"))]
        fields += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in self.fields]
        if self.body:
            fields.append((b"content-length", str(len(self.body)).encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": self.scheme,
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": quote(query, safe=_PATH_SAFE).encode(),
            "root_path": "",
            "headers": fields,
            "client": None,
            "server": None,
        }


@dataclass(slots=True)
class ProducedRecord:
    """A record that was produced, its place in Kafka, and the record as read back from there; ``error``: why that failed."""

    cluster: str
    topic: str
    future: asyncio.Future[Delivery]
    delivery: Delivery | None = None
    record: Record | None = None
    error: str = ""


@dataclass(slots=True)
class Trial:
    """The outcome of a request; the observer while it is served.

    ``ended``: complete, open (a stream goes on), silent (no answer in time), broken, or site.
    """

    request: Request
    table: Table
    impersonated: Mapping[str, RolePrincipal]
    ended: str = "silent"
    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    body_size: int = 0
    milliseconds: int = 0
    match: Match | None = None
    topics: list[str] = field(default_factory=list)
    """The topics that the matched route leads to."""
    seen: dict[str, Principals] = field(default_factory=dict)
    """By gateway, the principals that its guards found."""
    sent: list[ProducedRecord] = field(default_factory=list)

    def authenticated(self, gateway: Gateway, principals: Principals) -> None:
        """Keep what the guards of a gateway said."""
        self.seen[gateway.name] = principals

    def matched(self, match: Match) -> None:
        """Keep the match."""
        self.match = match

    def produced(self, cluster: str, topic: str, delivery: asyncio.Future[Delivery]) -> None:
        """Keep a record that was handed over."""
        self.sent.append(ProducedRecord(cluster, topic, delivery))

    async def send(self, message: Any) -> None:
        """Take a message of the answer, as ASGI's ``send``."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            self.ended = "open"
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self.body_size += len(body)
            self.body += body[: _MOST_BODY - len(self.body)]
            if not message.get("more_body"):
                self.ended = "complete"


class _Client:
    """The sending side of a trial's client: its body once, then a disconnect when ``leaves`` is set."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}


async def run_trial(running: Runtime, table: Table, asked: Asked) -> Trial:
    """Send the request and wait for its answer, up to its time and a little longer."""
    client = _Client(asked.body)
    trial = Trial(Request(asked.scope(), client.receive), table, asked.principals)
    began = time.monotonic()
    work = asyncio.ensure_future(_serve(running, trial))
    await _finish(work, client, asked.seconds)
    trial.milliseconds = round((time.monotonic() - began) * 1000)
    if trial.match is not None:
        trial.topics = _topics(trial.request, trial.match, trial.seen.get(trial.match.gateway.name, ANONYMOUS))
    await asyncio.gather(*(_read_back(running, each) for each in trial.sent))
    return trial


async def _serve(running: Runtime, trial: Trial) -> None:
    candidates = trial.table.matcher.find(trial.request.path)
    try:
        if not candidates or not await serve(running, trial.table, candidates, trial.request, trial.send, trial):
            trial.ended = "site"
    except Exception:
        log.exception("trial_failed path=%s", trial.request.path)
        trial.ended = "broken"


async def _finish(work: asyncio.Future[None], client: _Client, seconds: float) -> None:
    """Wait up to ``seconds``; then the client disconnects, and the work is cancelled if that does not end it."""
    await asyncio.wait((work,), timeout=seconds)
    client.leaves.set()
    await asyncio.wait((work,), timeout=_GRACE)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


def _topics(request: Request, match: Match, principals: Principals) -> list[str]:
    try:
        context = Exchange(request, match, principals).context
        return [render_topic(each, context) for each in (match.route.topic, match.route.reply_to) if each is not None]
    except Problem:
        return []


async def _read_back(running: Runtime, sent: ProducedRecord) -> None:
    """Read the record back from the place that Kafka acknowledged."""
    try:
        async with asyncio.timeout(_GRACE * 2):
            cluster = running.worker.cluster(sent.cluster)
            cluster.deliver_ack(sent.future)
            sent.delivery = at = await await_shared(sent.future)
            if at.offset >= 0:
                found = await cluster.history.read(at.topic, at.partition, at.offset, at.offset + 1)
                sent.record = found[0][0] if found is not None and found[0] else None
    except TimeoutError:
        sent.error = "timed out"
    except WorkerError as error:
        sent.error = str(error)
