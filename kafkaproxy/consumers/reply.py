"""Request-response over a pair of topics: sync, async and idempotent (the contract, *With reply-to*).

The service may run anywhere: every host reads the reply topic into its store, and finds the reply there by its correlation id.
The waiter is registered before the record is produced, so a fast reply cannot be missed.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Final, Protocol
from urllib.parse import quote

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.consumers.fetch import skip_body
from kafkaproxy.consumers.forwarded_headers import forwarded_headers, forwarded_if_match, target_without_credentials
from kafkaproxy.consumers.produce import record_key, rendered_overrides
from kafkaproxy.consumers.responses import preference_applied, respond_with_reply
from kafkaproxy.consumers.waiting import BoundedWait, counted_as_waiting, require_free_wait
from kafkaproxy.core.correlation import correlation_id, is_owned, owner_digest
from kafkaproxy.core.futures import await_shared
from kafkaproxy.core.prefer import NO_PREFERENCES, Preferences, parse_prefer
from kafkaproxy.http.problems import Fields, Problem, from_unavailable, retry_after
from kafkaproxy.http.request import Request, Responder
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import ProduceError, TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka.mailbox import unacknowledged_record
from kafkaproxy.worker.store.reader import TopicState
from kafkaproxy.worker.types import Delivery, Headers, Record, Role
from kafkaproxy.worker.worker import Worker

__all__ = ["poll", "request_reply"]

_ANONYMOUS_OWNER: Final = owner_digest([], [])


class ProduceFunction(Protocol):
    """Produces the request's record, or joins an identical request that has produced it."""

    def __call__(self, *, defer_ack: bool = False) -> asyncio.Future[Delivery]:
        """Return the future of the acknowledgement. Requests share it: await it with ``await_shared``."""
        ...


class ReplyTopic:
    """The reply topic of one request."""

    def __init__(self, exchange: Exchange, worker: Worker, settings: Settings) -> None:
        route = exchange.match.route
        assert route.reply_to is not None
        self.cluster: ClusterWorker = worker.cluster(route.cluster)
        self.topic = render_topic(route.reply_to, exchange.context)
        self.was_ready = False
        """True after :meth:`ready` has returned."""
        self._ready_timeout = settings.ready_timeout_seconds

    def state(self) -> TopicState | None:
        """Return the topic if it can be served without a wait; else None."""
        return self.cluster.topic(self.topic, Role.REPLY)

    async def ready(self) -> TopicState:
        """Wait until the topic has been read to its end once; raise :class:`TopicUnavailable` after the timeout."""
        state = await self.cluster.ready(self.topic, Role.REPLY, self._ready_timeout)
        self.was_ready = True
        return state

    def find(self, state: TopicState, correlation: str) -> Record | None:
        """Return the reply if this host's store has it."""
        return self.cluster.store.reply(state.key, correlation.encode())

    async def find_anywhere(self, correlation: str) -> Record | None:
        """Return the reply if Kafka has it: read the topic to its current end if the store does not have it."""
        if (record := self.find(await self.ready(), correlation)) is not None:
            return record
        return self.find(await self.cluster.read_to_end(self.topic, Role.REPLY, self._ready_timeout), correlation)

    def expect(self, correlation: str, *, early: bool = False) -> AbstractContextManager[asyncio.Future[Record]]:
        """Register a waiter for the reply. Look for the reply, or produce the request, inside the context.

        ``early``: complete the future before the reply is committed to the store (early dispatch).
        """
        return self.cluster.hub().reply(self.topic, correlation.encode(), early=early)


class ServiceCall:
    """One request to a service: its record and its correlation id."""

    def __init__(self, exchange: Exchange, worker: Worker, settings: Settings, body: bytes) -> None:
        request, gateway = exchange.request, exchange.match.gateway
        self.exchange = exchange
        self.reply_topic = ReplyTopic(exchange, worker, settings)
        self.topic = render_topic(exchange.match.route.topic, exchange.context)
        self.key = record_key(exchange)
        self.overrides = rendered_overrides(exchange)
        self.if_match = forwarded_if_match(request)
        # Not null for DELETE: the record is a request here, not a tombstone.
        self.value = b"" if request.method == "DELETE" else body
        self.delivery: asyncio.Future[Delivery] | None = None
        self.id = correlation_id(
            exchange.context.idempotency_key,
            owner=_owner(exchange),
            method=request.method,
            target=target_without_credentials(request, gateway),
            key=self.key,
            content_type=request.field(b"content-type"),
            if_match=self.if_match,
            reply_to=self.reply_topic.topic,
            overrides=self.overrides,
            body=self.value,
        )
        exchange.context.correlation_id = self.id

    @property
    def is_delivered(self) -> bool:
        """True if Kafka has acknowledged the request."""
        delivery = self.delivery
        return delivery is not None and delivery.done() and not delivery.cancelled() and delivery.exception() is None

    async def replay(self) -> Record | None:
        """Return the reply to an earlier request of this id. Without an idempotency key there was none."""
        return await self.reply_topic.find_anywhere(self.id) if self.exchange.has_idempotency_key else None

    def shared(self) -> AbstractContextManager[ProduceFunction]:
        """Yield the function that produces. Identical requests inside the context at the same time share one record."""
        if not self.exchange.has_idempotency_key:
            return nullcontext(partial(self._send, None))
        return self.reply_topic.cluster.hub().exchange(f"{self.topic}\n{self.id}", self._send)

    def produce(self, send: ProduceFunction, *, defer_ack: bool = False) -> asyncio.Future[Delivery]:
        """Produce, once, and free the body: many requests may wait long for their replies."""
        self.delivery = send(defer_ack=defer_ack)
        self.value = b""
        return self.delivery

    async def produce_and_wait(self, send: ProduceFunction, reply: asyncio.Future[Record]) -> Record:
        """Produce; return the reply when both reply and acknowledgement have arrived.

        Awaits the reply first: it usually comes last, so the acknowledgement does not wake this task.
        """
        delivery = self.produce(send, defer_ack=True)
        delivery.add_done_callback(partial(_fail_reply, reply))
        try:
            record = await reply
        finally:
            self.reply_topic.cluster.deliver_ack(delivery)
        await self.acknowledged()
        return record

    async def acknowledged(self) -> None:
        """Wait until Kafka has acknowledged the request, if one was produced."""
        if self.delivery is not None:
            # A request that shares the record may have deferred its acknowledgement.
            self.reply_topic.cluster.deliver_ack(self.delivery)
            await await_shared(self.delivery)

    def _send(self, failed: asyncio.Future[Delivery] | None, *, defer_ack: bool = False) -> asyncio.Future[Delivery]:
        """Produce, unless the record of an earlier request of this id was acknowledged late, or still may be."""
        cluster, acks = self.reply_topic.cluster, self.exchange.match.route.acks
        sent = None if failed is None else unacknowledged_record(failed)
        if sent is not None and not isinstance(sent.outcome, ProduceError):
            return cluster.wait_again(acks, sent, defer_ack=defer_ack)
        delivery = cluster.send(acks, self.topic, self.key, self.value, self._headers(), defer_ack=defer_ack)
        if self.exchange.observer is not None:
            self.exchange.observer.produced(self.exchange.match.route.cluster, self.topic, delivery)
        return delivery

    def _headers(self) -> Headers:
        gateway, route = self.exchange.match.gateway, self.exchange.match.route
        proxy_headers = [(gateway.reply_to_header, self.reply_topic.topic), *self.overrides]
        correlation = route.correlation_header or gateway.correlation_header
        reserved = {name.lower() for name, _ in proxy_headers} | {correlation.lower()}
        fields = forwarded_headers(self.exchange.request, gateway, self.if_match)
        headers: list[tuple[str, bytes]] = [field for field in fields if field[0] not in reserved]
        headers += [(name, value.encode()) for name, value in proxy_headers]
        headers.append((correlation, self.id.encode()))
        return tuple(headers)


async def request_reply(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Produce, then respond with the reply, or with 202 and the location where the reply will be."""
    preferences = _preferences(exchange.request, settings)
    is_async = bool(exchange.match.route.async_fields and preferences.respond_async and not preferences.wait)
    if exchange.has_idempotency_key or not is_async:
        require_free_wait(worker, settings)  # before the body is read, as it would stay in memory while the request waits
    call = ServiceCall(exchange, worker, settings, await exchange.request.body(settings.max_body_bytes))
    if is_async:
        await _respond_async(call, worker, settings, responder)
    else:
        wait = BoundedWait(exchange.request, worker, settings, preferences.wait or exchange.match.route.timeout)
        await _respond_sync(call, wait, settings, responder, preferences)


async def _respond_async(call: ServiceCall, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Respond 202 when Kafka has acknowledged the request, or has its reply already."""
    # A request that neither looks for an earlier reply nor waits for the topic only waits for the acknowledgement, as a oneway
    # request does: it is not counted as waiting.
    has_to_wait = call.exchange.has_idempotency_key or call.reply_topic.state() is None
    with call.shared() as send:
        async with call.exchange.request.cancel_on_disconnect():
            with counted_as_waiting(worker, settings) if has_to_wait else nullcontext():
                await call.reply_topic.ready()  # the location in the 202 has to be one that can be served
                replayed = await call.replay()
            if replayed is None:
                call.produce(send)
            await call.acknowledged()
    await _respond_accepted(call.exchange, settings, responder, preference_applied(NO_PREFERENCES, respond_async=True))


async def _respond_sync(
    call: ServiceCall, wait: BoundedWait, settings: Settings, responder: Responder, preferences: Preferences
) -> None:
    """Respond with the reply. After the time, an async route responds 202 to ``prefer: wait`` (D11), else 504 (D8)."""

    async def replied() -> Record | None:
        """Return the reply; None if the time is over and Kafka has acknowledged the request, so that 202 is true."""
        try:
            async with wait.timeout():
                await call.reply_topic.ready()
                # Early dispatch is safe: this client has no location at which the uncommitted reply would be missing, and
                # a retry with the same key reads the topic to its end first.
                with call.reply_topic.expect(call.id, early=True) as reply, call.shared() as send:
                    if (replayed := await call.replay()) is not None:
                        return replayed
                    return await call.produce_and_wait(send, reply)
        except TimeoutError:
            if call.delivery is None or not (call.exchange.match.route.async_fields and preferences.wait):
                raise _no_reply(call, wait.seconds, settings) from None
        except TopicUnavailable as error:
            if call.delivery is None:
                raise
            raise _reply_topic_unavailable(call, error, settings) from None
        await call.acknowledged()
        return None

    record = await wait.run_without_timeout(replied())
    if record is None:
        asked = preference_applied(preferences, respond_async=preferences.respond_async)
        await _respond_accepted(call.exchange, settings, responder, asked)
    else:
        await respond_with_reply(record, call.exchange, responder, preference_applied(preferences))


def _fail_reply(reply: asyncio.Future[Record], delivery: asyncio.Future[Delivery]) -> None:
    """End the wait for the reply with the producer's error: Kafka does not have the request, so no reply will come."""
    if not delivery.cancelled() and (error := delivery.exception()) is not None and not reply.done():
        reply.set_exception(error)


async def poll(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Respond at the location of a 202: with the reply, or with 202 again after ``prefer: wait``."""
    await skip_body(exchange.request)
    preferences = _preferences(exchange.request, settings)
    correlation = exchange.context.params["correlationId"]
    if not is_owned(correlation, _owner(exchange)):
        raise Problem(404, "no-such-request", "Nothing was accepted for you at this location: take it from the 202 as it is.")
    exchange.context.correlation_id = correlation
    reply_topic = ReplyTopic(exchange, worker, settings)
    state = reply_topic.state()
    record = None if state is None else reply_topic.find(state, correlation)
    if record is None and (state is None or preferences.wait):
        wait = BoundedWait(exchange.request, worker, settings, preferences.wait or settings.ready_timeout_seconds)
        record = await _await_reply(reply_topic, correlation, wait, until_there=bool(preferences.wait))
    if record is not None:
        # Not to be cached: the location belongs to this one request.
        await respond_with_reply(
            record, exchange, responder, [*preference_applied(preferences), (b"cache-control", b"no-store")]
        )
    else:
        await _respond_accepted(exchange, settings, responder, preference_applied(preferences))


async def _await_reply(reply_topic: ReplyTopic, correlation: str, wait: BoundedWait, *, until_there: bool) -> Record | None:
    """Return the reply if the topic, read to its end, has it; ``until_there``: wait for it."""

    async def replied() -> Record | None:
        with reply_topic.expect(correlation) as reply:
            record = reply_topic.find(await reply_topic.ready(), correlation)
            return await reply if record is None and until_there else record

    try:
        return await wait.run(replied())
    except TimeoutError:
        if not reply_topic.was_ready:  # the reply may be in the unread part
            raise TopicUnavailable(Unavailable.NOT_READ_YET) from None
        return None


def _preferences(request: Request, settings: Settings) -> Preferences:
    """Parse ``prefer``; ``wait`` is limited to the setting ``MAX_WAIT_SECONDS``."""
    if request.field(b"prefer") is None:
        return NO_PREFERENCES
    asked = parse_prefer(request.lines(b"prefer"))
    longest = max(int(settings.max_wait_seconds), 1)  # 0 would mean no wait
    return asked if asked.wait is None or asked.wait <= longest else replace(asked, wait=longest)


def _owner(exchange: Exchange) -> str:
    """Return the digest of the request's owner: a poll for the reply has to have the same."""
    identities, fields = exchange.identities, exchange.match.route.async_fields
    if not identities and not fields:
        return _ANONYMOUS_OWNER
    return owner_digest(identities, (template.render(exchange.context) for _, template in fields))


async def _respond_accepted(exchange: Exchange, settings: Settings, responder: Responder, more: Fields) -> None:
    """Respond 202 with the async fields; values from the request are percent-encoded (D2)."""
    fields: Fields = [
        (name.lower().encode(), template.render_quoted(exchange.context, _quoted).encode("latin-1", "replace"))
        for name, template in exchange.match.route.async_fields
    ]
    fields += [retry_after(settings.retry_after_seconds), (b"cache-control", b"no-store"), *more]
    await responder.respond(202, fields)


def _quoted(value: str) -> str:
    return quote(value, safe="!$&'()*+,=:@-._~")


def _no_reply(call: ServiceCall, seconds: float, settings: Settings) -> Problem:
    if call.delivery is None:  # nothing was produced, so it is no gateway timeout
        detail = f"The reply topic could not be read within {seconds:g} seconds. Nothing was passed on: try again."
        return Problem(503, "topic-not-read-yet", detail, [retry_after(settings.retry_after_seconds)])
    return Problem(504, "no-reply", f"No reply within {seconds:g} seconds. {_delivery_outcome(call)}")


def _reply_topic_unavailable(call: ServiceCall, error: TopicUnavailable, settings: Settings) -> Problem:
    """Return the problem for a reply topic that became unavailable after the request was produced."""
    problem = from_unavailable(error, settings.retry_after_seconds)
    return Problem(problem.status, problem.code, f"{problem.detail} {_delivery_outcome(call)}", problem.fields)


def _delivery_outcome(call: ServiceCall) -> str:
    happened = "The request was delivered" if call.is_delivered else "Kafka may or may not have the request"
    again = (
        "Repeat it with the same idempotency key."
        if call.exchange.has_idempotency_key
        else "With an idempotency key it can be repeated."
    )
    return f"{happened}. {again}"
