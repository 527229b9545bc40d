"""Request-response over a pair of topics: sync, async and idempotent (the contract, section *Produce*, with reply-to).

Whoever answers, and on whichever host the answer is seen first: the reply is found by its correlation id in the store of this
host. The waiter is registered before the record is produced, so a fast answer cannot be missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final
from urllib.parse import quote

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.consumers.fetch import skip_body
from kafkaproxy.consumers.http import Request, Responder
from kafkaproxy.consumers.problems import Fields, Problem, retry_after
from kafkaproxy.consumers.produce import record_key, rendered_overrides
from kafkaproxy.consumers.responses import applied
from kafkaproxy.consumers.waiting import Waiting
from kafkaproxy.core.correlation import correlation_id
from kafkaproxy.core.etags import parse_if_match
from kafkaproxy.core.fields import CREDENTIAL_FIELDS, HOP_BY_HOP, connection_fields, is_field_name, is_field_value
from kafkaproxy.core.prefer import NOTHING, Preferences, parse_prefer
from kafkaproxy.routing.table import Gateway
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.types import Delivery, Headers, Record, Role
from kafkaproxy.worker.worker import Worker

__all__ = ["poll", "request_reply"]

log = logging.getLogger("kafkaproxy.reply")

_NEVER_FORWARDED: Final = HOP_BY_HOP | {b"content-length", b"prefer", b"host"}


class Reply:
    """One exchange with a reply: what goes out, under which id, and where the answer will be."""

    def __init__(self, exchange: Exchange, worker: Worker, settings: Settings, body: bytes) -> None:
        route, request = exchange.match.route, exchange.request
        assert route.reply_to is not None
        self.exchange = exchange
        self.worker = worker
        self.settings = settings
        self.cluster: ClusterWorker = worker.cluster(route.cluster)
        self.topic = render_topic(route.topic, exchange.context)
        self.reply_topic = render_topic(route.reply_to, exchange.context)
        self.key = record_key(exchange)
        self.overrides = rendered_overrides(exchange)
        # Not null for DELETE: the service gets a request, and a request has a body, if an empty one.
        self.value = b"" if request.method == "DELETE" else body
        self.id = correlation_id(
            exchange.context.idempotency_key,
            identity=exchange.identity,
            method=request.method,
            target=request.target,
            key=self.key,
            content_type=request.field(b"content-type"),
            reply_to=self.reply_topic,
            overrides=self.overrides,
            body=self.value,
        )
        exchange.context.correlation_id = self.id

    async def replay(self) -> Record | None:
        """Return the reply of an earlier request of this id; only who brings an idempotency key can have made one."""
        if not self.exchange.has_key:
            return None
        state = await self.cluster.read_to_end(self.reply_topic, Role.REPLY, self.settings.ready_timeout_seconds)
        return self.cluster.store.reply(state.key, self.id.encode())

    def shared(self) -> AbstractContextManager[Callable[[], Awaitable[Delivery]]]:
        """Produce the request by calling what this yields; duplicates that wait in this process share one record."""
        return self.cluster.hub().exchange(f"{self.topic}\n{self.id}", self._produce)

    async def _produce(self) -> Delivery:
        route = self.exchange.match.route
        return await self.cluster.produce(route.acks, self.topic, self.key, self.value, self._headers())

    def _headers(self) -> Headers:
        gateway, route = self.exchange.match.gateway, self.exchange.match.route
        special = [(gateway.reply_to_header, self.reply_topic), *self.overrides]
        correlation = route.correlation_header or gateway.correlation_header
        taken = {name.lower() for name, _ in special} | {correlation.lower()}
        headers = [(name, value) for name, value in forwarded(self.exchange.request, gateway) if name not in taken]
        headers += [(name, value.encode()) for name, value in special]
        headers.append((correlation, self.id.encode()))
        return tuple(headers)


async def request_reply(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Produce, then answer with the reply, or with 202 and where it will be."""
    request, route = exchange.request, exchange.match.route
    preferences = parse_prefer(request.lines(b"prefer")) if request.field(b"prefer") is not None else NOTHING
    reply = Reply(exchange, worker, settings, await request.body(settings.max_body_bytes))
    if route.async_fields and preferences.respond_async:
        await _accept(reply, responder, preferences)
    else:
        await _answer(reply, responder, preferences)


async def _accept(reply: Reply, responder: Responder, preferences: Preferences) -> None:
    """202 once Kafka has the request; with ``wait``, the reply if it comes within that time (RFC 7240 section 4.3)."""
    if preferences.wait:
        await _answer(reply, responder, preferences)
        return
    with reply.shared() as produce:
        if await reply.exchange.request.unless_gone(reply.replay()) is None:
            await produce()
    await _respond_accepted(reply.exchange, reply.settings, responder, applied(preferences, respond_async=True))


async def _answer(reply: Reply, responder: Responder, preferences: Preferences) -> None:
    route, settings = reply.exchange.match.route, reply.settings
    waiting = Waiting(reply.exchange.request, reply.worker, settings, preferences.wait or route.timeout)
    accepted = asyncio.Event()

    async def exchange() -> Record:
        await reply.cluster.ready(reply.reply_topic, Role.REPLY, settings.ready_timeout_seconds)
        with reply.cluster.hub().reply(reply.reply_topic, reply.id.encode()) as future, reply.shared() as produce:
            if (replayed := await reply.replay()) is not None:
                return replayed
            await produce()
            accepted.set()
            return await future

    try:
        record = await waiting.run(exchange())
    except TimeoutError:
        if route.async_fields and preferences.wait and accepted.is_set():
            asked = applied(preferences, respond_async=preferences.respond_async)
            await _respond_accepted(reply.exchange, settings, responder, asked)
            return
        raise _no_answer(waiting.seconds, accepted=accepted.is_set()) from None
    await _respond(record, reply.exchange.match.gateway, responder, applied(preferences))


async def poll(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Answer for the location of a 202: the reply, or 202 again after ``prefer: wait``."""
    request, route = exchange.request, exchange.match.route
    assert route.reply_to is not None
    await skip_body(request)
    preferences = parse_prefer(request.lines(b"prefer")) if request.field(b"prefer") is not None else NOTHING
    cluster = worker.cluster(route.cluster)
    topic = render_topic(route.reply_to, exchange.context)
    correlation = exchange.context.params["correlationId"]
    exchange.context.correlation_id = correlation
    state = await cluster.ready(topic, Role.REPLY, settings.ready_timeout_seconds)
    record = cluster.store.reply(state.key, correlation.encode())
    if record is None and preferences.wait:
        record = await _await_reply(exchange, worker, settings, cluster, topic, correlation.encode(), preferences.wait)
    if record is not None:
        await _respond(record, exchange.match.gateway, responder, applied(preferences))
    else:
        await _respond_accepted(exchange, settings, responder, applied(preferences))


async def _await_reply(
    exchange: Exchange,
    worker: Worker,
    settings: Settings,
    cluster: ClusterWorker,
    topic: str,
    correlation: bytes,
    seconds: int,
) -> Record | None:
    async def found() -> Record:
        with cluster.hub().reply(topic, correlation) as future:
            state = await cluster.ready(topic, Role.REPLY, settings.ready_timeout_seconds)
            return cluster.store.reply(state.key, correlation) or await future

    try:
        return await Waiting(exchange.request, worker, settings, seconds).run(found())
    except TimeoutError:
        return None


async def _respond_accepted(exchange: Exchange, settings: Settings, responder: Responder, more: Fields) -> None:
    """202 with the async fields; values from the request are percent-encoded (D2)."""
    fields: Fields = [
        (name.lower().encode(), template.render_quoted(exchange.context, _quoted).encode("latin-1", "replace"))
        for name, template in exchange.match.route.async_fields
    ]
    fields += [retry_after(settings.retry_after_seconds), (b"cache-control", b"no-store"), *more]
    await responder.respond(202, fields)


def _quoted(value: str) -> str:
    return quote(value, safe="!$&'()*+,=:@-._~")


async def _respond(record: Record, gateway: Gateway, responder: Responder, more: Fields) -> None:
    """Turn a reply into a response (the contract, *Reply → response*)."""
    status = 200
    fields: Fields = []
    hop_by_hop = HOP_BY_HOP | connection_fields(v for n, v in record.headers if n.lower() == "connection" and v)
    for name, value in record.headers:
        if name == ":status":
            status = _status(value)
        elif (field := _response_field(name, value, gateway, hop_by_hop)) is not None:
            fields.append(field)
    body = record.value or b""
    if status in (204, 304):
        body = b""
    await responder.respond(status, fields + more, body)


def _status(value: bytes | None) -> int:
    if value is not None and len(value) == 3 and value.isdigit() and 200 <= int(value) <= 599:
        return int(value)
    log.warning("bad_reply reason=status")
    raise Problem(502, "bad-reply", "The service's reply has no usable :status: it has to be 200 to 599.")


def _response_field(
    name: str, value: bytes | None, gateway: Gateway, hop_by_hop: frozenset[bytes]
) -> tuple[bytes, bytes] | None:
    """Return the field of a reply header, None for what is ours, hop-by-hop, or no field at all (D12)."""
    lower = name.lower()
    if lower == gateway.correlation_header.lower() or lower.startswith("zilla:"):
        return None
    raw = lower.encode(errors="surrogateescape")
    if raw in hop_by_hop or raw == b"content-length":
        return None
    if value is None or not is_field_name(raw) or not is_field_value(value):
        log.warning("reply_header_dropped")
        return None
    return raw, value


def _no_answer(seconds: float, *, accepted: bool) -> Problem:
    if accepted:
        detail = f"No reply within {seconds:g} seconds. The request was delivered; repeat it with the same idempotency key."
    else:
        detail = f"Kafka did not take the request within {seconds:g} seconds. Repeat it with the same idempotency key."
    return Problem(504, "no-reply", detail)


def forwarded(request: Request, gateway: Gateway) -> list[tuple[str, bytes]]:
    """Return the headers that a request brings into its record, pseudo-headers first.

    Not among them: hop-by-hop fields, ``content-length``, ``prefer``, and credentials (D5). ``if-match`` goes in as its etag
    part.
    """
    headers = [
        (":method", request.method.encode()),
        (":scheme", request.scheme.encode()),
        (":authority", request.authority.encode("latin-1")),
        (":path", _scrubbed_target(request, gateway).encode("latin-1")),
    ]
    dropped = _dropped(request, gateway)
    for name, value in request.fields:
        if name in dropped or (gateway.forwarded_fields is not None and name not in gateway.forwarded_fields):
            continue
        if name == b"if-match":
            own = parse_if_match([value.decode("latin-1")])
            headers += [] if own is None else [("if-match", own.encode("latin-1"))]
        else:
            headers.append((name.decode("latin-1"), value))
    return headers


def _dropped(request: Request, gateway: Gateway) -> frozenset[bytes]:
    dropped = _NEVER_FORWARDED | gateway.dropped_fields
    dropped |= connection_fields(value for name, value in request.fields if name == b"connection")
    if not gateway.forward_credentials:
        dropped |= CREDENTIAL_FIELDS
        if gateway.credentials is not None:
            dropped |= {name.lower().encode() for name in gateway.credentials.headers}
    return dropped


def _scrubbed_target(request: Request, gateway: Gateway) -> str:
    """Return the target without the query parameters that a guard reads its credential from."""
    names = gateway.credentials.query if gateway.credentials is not None and not gateway.forward_credentials else ()
    if not names or not request.query:
        return request.target
    pairs = request.query.decode("latin-1").split("&")
    kept = [pair for pair in pairs if pair.partition("=")[0] not in names]
    return f"{request.path}?{'&'.join(kept)}" if kept else request.path
