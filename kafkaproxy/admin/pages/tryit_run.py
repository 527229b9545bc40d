"""A trial: one request through the code that serves real ones, in this process, with everything that came of it.

Only the guards may be told who the client is, and what is produced is written down; nothing else differs, and nothing that a
trial finds out is kept for real requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import quote, unquote

from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.consumers.rest import RestConsumer
from kafkaproxy.consumers.stream import StreamConsumer
from kafkaproxy.core.futures import await_shared
from kafkaproxy.guards.base import ConfiguredGuards
from kafkaproxy.guards.principals import ANONYMOUS, ClientPrincipal, Principals, Refusal
from kafkaproxy.guards.session import SessionGuard
from kafkaproxy.http.problems import Problem
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import Match, RolePrincipal
from kafkaproxy.routing.table import Capability, Gateway
from kafkaproxy.serving.dispatch import serve
from kafkaproxy.serving.fast_path import PreparedHandlers
from kafkaproxy.serving.response_cache import ResponseCache
from kafkaproxy.serving.runtime import Runtime, Table
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import WorkerError
from kafkaproxy.worker.types import Acks, Delivery, Record
from kafkaproxy.worker.worker import Worker

__all__ = ["Asked", "Sent", "Trial", "run_trial"]

log = logging.getLogger("kafkaproxy.admin")

_MOST_BODY: Final = 1 << 18
_GRACE: Final = 2.0
_PATH_SAFE: Final = "/%!$&'()*+,;=:@~?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request of a trial. ``principals``: by session guard, the client; empty: its own credentials count."""

    method: str
    target: str
    """Path and query, as one types them."""
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
class Sent:
    """A record that was handed over, where Kafka put it, and what is there; or why that is not known."""

    cluster: str
    topic: str
    future: asyncio.Future[Delivery]
    delivery: Delivery | None = None
    record: Record | None = None
    error: str = ""


@dataclass(slots=True)
class Trial:
    """What came of it. ``ended``: complete, open (a stream goes on), silent (no answer in time), broken, or site."""

    request: Request
    table: Table
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
    """By gateway, the principals that the client's credentials gave."""
    sent: list[Sent] = field(default_factory=list)


class _Guards(ConfiguredGuards):
    """The guards of a table. Session guards take the client for the user that was chosen."""

    def __init__(self, guards: ConfiguredGuards, told: Mapping[str, ClientPrincipal], seen: dict[str, Principals]) -> None:
        self._guards = guards._guards  # noqa: SLF001 - of one family
        self._locations = guards._locations  # noqa: SLF001
        self._told = told
        self._seen = seen

    async def authenticate(self, names: Iterable[str], request: Request, gateway: Gateway) -> Principals:
        """Ask, and note the answer."""
        found = self._seen[gateway.name] = await super().authenticate(names, request, gateway)
        return found

    async def _ask(self, name: str, request: Request, gateway: Gateway) -> RolePrincipal | Refusal | None:
        return self._told.get(name) or await super()._ask(name, request, gateway)


class _Table(Table):
    """A table as it is, with its own guards; its caches are empty and thrown away."""

    def __init__(self, table: Table, guards: ConfiguredGuards) -> None:
        self.configuration = table.configuration
        self.matcher = table.matcher
        self.cors = table.cors
        self.guards = guards
        self.response_cache = ResponseCache()
        self.prepared = PreparedHandlers()


class _Cluster:
    """A cluster's worker that writes down what is produced."""

    def __init__(self, cluster: ClusterWorker, sent: list[Sent]) -> None:
        self._cluster = cluster
        self._sent = sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def send(self, acks: Acks, topic: str, *record: Any, **options: Any) -> asyncio.Future[Delivery]:
        future = self._cluster.send(acks, topic, *record, **options)
        self._sent.append(Sent(self._cluster.config.name, topic, future))
        return future

    async def produce(self, acks: Acks, topic: str, *record: Any) -> Delivery:
        return await self.send(acks, topic, *record)


class _Worker:
    """The worker of the process, whose clusters write down."""

    def __init__(self, worker: Worker, sent: list[Sent]) -> None:
        self._worker = worker
        self._sent = sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    @property
    def waiting(self) -> int:
        return self._worker.waiting

    @waiting.setter
    def waiting(self, count: int) -> None:
        self._worker.waiting = count

    def cluster(self, name: str) -> Any:
        return _Cluster(self._worker.cluster(name), self._sent)


class _Running:
    """As much of a runtime as serving takes. It is asked which consumer serves a match, and notes the match."""

    def __init__(self, running: Runtime, trial: Trial) -> None:
        worker = cast(Worker, _Worker(running.worker, trial.sent))
        self._trial = trial
        self.sessions = running.sessions
        self._rest = RestConsumer(worker)
        self._stream = StreamConsumer(worker, running.streams, running.sessions)

    def consumer(self, match: Match) -> RestConsumer | StreamConsumer:
        self._trial.match = match
        return self._stream if match.route.capability is Capability.STREAM else self._rest


class _Client:
    """The client of a trial: sends its body once, takes the answer, and leaves when told to."""

    def __init__(self, body: bytes, trial: Trial) -> None:
        self._body: bytes | None = body
        self._trial = trial
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        trial = self._trial
        if message["type"] == "http.response.start":
            trial.status = message["status"]
            trial.fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            trial.ended = "open"
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            trial.body_size += len(body)
            trial.body += body[: _MOST_BODY - len(trial.body)]
            if not message.get("more_body"):
                trial.ended = "complete"


async def run_trial(running: Runtime, table: Table, asked: Asked) -> Trial:
    """Send the request and wait for its answer, up to its time and a little longer."""
    scope = asked.scope()
    seen: dict[str, Principals] = {}
    table = _Table(table, _Guards(table.guards, asked.principals, seen))
    trial = Trial(Request(scope, cast(Any, None)), table, seen=seen)
    client = _Client(asked.body, trial)
    trial.request.receive = client.receive
    began = time.monotonic()
    candidates = table.matcher.find(trial.request.path)
    work = asyncio.ensure_future(_serve(cast(Runtime, _Running(running, trial)), table, candidates, trial, client))
    await _finish(work, client, asked.seconds)
    trial.milliseconds = round((time.monotonic() - began) * 1000)
    if trial.match is not None:
        trial.topics = _topics(trial.request, trial.match, seen.get(trial.match.gateway.name, ANONYMOUS))
    await asyncio.gather(*(_read_back(running, each) for each in trial.sent))
    return trial


async def _serve(running: Runtime, table: Table, candidates: list[Any], trial: Trial, client: _Client) -> None:
    try:
        if not candidates or not await serve(running, table, candidates, trial.request, client.send):
            trial.ended = "site"
    except Exception:
        log.exception("trial_failed path=%s", trial.request.path)
        trial.ended = "broken"


async def _finish(work: asyncio.Future[None], client: _Client, seconds: float) -> None:
    """Wait; at the end of the time the client leaves, and what does not notice is cancelled."""
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


async def _read_back(running: Runtime, sent: Sent) -> None:
    """Fetch the record from where Kafka says it is."""
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


def session_guards(table: Table) -> dict[str, SessionGuard]:
    """Return the guards that take Django's session, by name."""
    configured = table.guards._guards  # noqa: SLF001 - as its family above
    return {name: guard for name, (_config, guard) in configured.items() if isinstance(guard, SessionGuard)}
