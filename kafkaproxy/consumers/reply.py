"""Request-response over a pair of topics: sync, async and idempotent (the contract, *With reply-to*).

Whoever answers, and on whichever host the answer is seen first: the reply is found by its correlation id in the store of this
host. The waiter is registered before the record is produced, so a fast answer cannot be missed.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Final, Protocol
from urllib.parse import quote

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.answer import answer
from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.consumers.fetch import skip_body
from kafkaproxy.consumers.forwarding import forwarded, forwarded_if_match, without_credentials
from kafkaproxy.consumers.produce import record_key, rendered_overrides
from kafkaproxy.consumers.responses import applied
from kafkaproxy.consumers.waiting import Waiting, require_place, waiting
from kafkaproxy.core.correlation import correlation_id, is_owned, owner_digest
from kafkaproxy.core.futures import await_shared
from kafkaproxy.core.prefer import NOTHING, Preferences, parse_prefer
from kafkaproxy.http.problems import Fields, Problem, from_unavailable, retry_after
from kafkaproxy.http.request import Request, Responder
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import ProduceError, TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka.mailbox import late
from kafkaproxy.worker.store.reader import TopicState
from kafkaproxy.worker.types import Delivery, Headers, Record, Role
from kafkaproxy.worker.worker import Worker

__all__ = ["poll", "request_reply"]

_ANONYMOUS_OWNER: Final = owner_digest([], [])


class Produce(Protocol):
    """Hands the request's record over, or joins the one who did."""

    def __call__(self, *, patient: bool = False) -> asyncio.Future[Delivery]:
        """Return the acknowledgement, which is shared: use ``await_shared``."""
        ...


class Replies:
    """The reply topic of one exchange."""

    def __init__(self, exchange: Exchange, worker: Worker, settings: Settings) -> None:
        route = exchange.match.route
        assert route.reply_to is not None
        self.cluster: ClusterWorker = worker.cluster(route.cluster)
        self.topic = render_topic(route.reply_to, exchange.context)
        self.were_ready = False
        """Whether :meth:`ready` has returned."""
        self._patience = settings.ready_timeout_seconds

    def state(self) -> TopicState | None:
        """Return the topic if nobody has to wait for it."""
        return self.cluster.topic(self.topic, Role.REPLY)

    async def ready(self) -> TopicState:
        """Wait until the topic has been read to its end once."""
        state = await self.cluster.ready(self.topic, Role.REPLY, self._patience)
        self.were_ready = True
        return state

    def find(self, state: TopicState, correlation: str) -> Record | None:
        """Return the reply if this host has it."""
        return self.cluster.store.reply(state.key, correlation.encode())

    async def find_anywhere(self, correlation: str) -> Record | None:
        """Return the reply if Kafka has it."""
        if (record := self.find(await self.ready(), correlation)) is not None:
            return record
        return self.find(await self.cluster.read_to_end(self.topic, Role.REPLY, self._patience), correlation)

    def expect(self, correlation: str, *, early: bool = False) -> AbstractContextManager[asyncio.Future[Record]]:
        """Wait for the reply, from now on; look for it, or ask for it, inside the context."""
        return self.cluster.hub().reply(self.topic, correlation.encode(), early=early)


class Call:
    """One request to a service: what goes out, and under which id."""

    def __init__(self, exchange: Exchange, worker: Worker, settings: Settings, body: bytes) -> None:
        request, gateway = exchange.request, exchange.match.gateway
        self.exchange = exchange
        self.replies = Replies(exchange, worker, settings)
        self.topic = render_topic(exchange.match.route.topic, exchange.context)
        self.key = record_key(exchange)
        self.overrides = rendered_overrides(exchange)
        self.if_match = forwarded_if_match(request)
        # Not null for DELETE: the service gets a request, and a request has a body, if an empty one.
        self.value = b"" if request.method == "DELETE" else body
        self.delivery: asyncio.Future[Delivery] | None = None
        self.id = correlation_id(
            exchange.context.idempotency_key,
            owner=_owner(exchange),
            method=request.method,
            target=without_credentials(request, gateway),
            key=self.key,
            content_type=request.field(b"content-type"),
            if_match=self.if_match,
            reply_to=self.replies.topic,
            overrides=self.overrides,
            body=self.value,
        )
        exchange.context.correlation_id = self.id

    @property
    def is_delivered(self) -> bool:
        """Whether Kafka has the request."""
        done = self.delivery
        return done is not None and done.done() and not done.cancelled() and done.exception() is None

    async def replay(self) -> Record | None:
        """Return the reply of an earlier request of this id; only who brings an idempotency key can have made one."""
        return await self.replies.find_anywhere(self.id) if self.exchange.has_key else None

    def shared(self) -> AbstractContextManager[Produce]:
        """Produce by calling what this yields; duplicates that are in the context at once share one record."""
        if not self.exchange.has_key:
            return nullcontext(partial(self._send, None))
        return self.replies.cluster.hub().exchange(f"{self.topic}\n{self.id}", self._send)

    def hand_over(self, send: Produce, *, patient: bool = False) -> asyncio.Future[Delivery]:
        """Produce, once, and let go of the body: who waits for a reply waits long, and with many others."""
        self.delivery = send(patient=patient)
        self.value = b""
        return self.delivery

    async def answered(self, send: Produce, reply: asyncio.Future[Record]) -> Record:
        """Produce; return the reply when it and the acknowledgement are there.

        The reply is waited for first, as it comes last: so the acknowledgement wakes nobody.
        """
        delivery = self.hand_over(send, patient=True)
        delivery.add_done_callback(partial(_pass_failure_on, reply))
        try:
            record = await reply
        finally:
            self.replies.cluster.settle(delivery)
        await self.acknowledged()
        return record

    async def acknowledged(self) -> None:
        """Wait until Kafka has the request, if one was produced."""
        if self.delivery is not None:
            self.replies.cluster.settle(self.delivery)  # who sent it may be patient
            await await_shared(self.delivery)

    def _send(self, failed: asyncio.Future[Delivery] | None, *, patient: bool = False) -> asyncio.Future[Delivery]:
        """Produce, unless Kafka has, or may yet acknowledge, what an earlier request of this id has produced."""
        cluster, acks = self.replies.cluster, self.exchange.match.route.acks
        sent = None if failed is None else late(failed)
        if sent is not None and not isinstance(sent.outcome, ProduceError):
            return cluster.rejoin(acks, sent, patient=patient)
        return cluster.send(acks, self.topic, self.key, self.value, self._headers(), patient=patient)

    def _headers(self) -> Headers:
        gateway, route = self.exchange.match.gateway, self.exchange.match.route
        special = [(gateway.reply_to_header, self.replies.topic), *self.overrides]
        correlation = route.correlation_header or gateway.correlation_header
        taken = {name.lower() for name, _ in special} | {correlation.lower()}
        fields = forwarded(self.exchange.request, gateway, self.if_match)
        headers: list[tuple[str, bytes]] = [field for field in fields if field[0] not in taken]
        headers += [(name, value.encode()) for name, value in special]
        headers.append((correlation, self.id.encode()))
        return tuple(headers)


async def request_reply(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Produce, then answer with the reply, or with 202 and where it will be."""
    preferences = _preferences(exchange.request, settings)
    asynchronous = bool(exchange.match.route.async_fields and preferences.respond_async and not preferences.wait)
    if exchange.has_key or not asynchronous:
        require_place(worker, settings)  # before a body is taken that would have to wait
    call = Call(exchange, worker, settings, await exchange.request.body(settings.max_body_bytes))
    if asynchronous:
        await _accept(call, worker, settings, responder)
    else:
        patience = Waiting(exchange.request, worker, settings, preferences.wait or exchange.match.route.timeout)
        await _answer(call, patience, settings, responder, preferences)


async def _accept(call: Call, worker: Worker, settings: Settings, responder: Responder) -> None:
    """202 once Kafka has the request, or has its reply already."""

    # Else there is nothing to wait for but the acknowledgement, as for a oneway request.
    looks = call.exchange.has_key or call.replies.state() is None
    with call.shared() as send:
        async with call.exchange.request.cancel_on_disconnect():
            with waiting(worker, settings) if looks else nullcontext():
                await call.replies.ready()  # a location that cannot be served must not be given
                replayed = await call.replay()
            if replayed is None:
                call.hand_over(send)
            await call.acknowledged()
    await _respond_accepted(call.exchange, settings, responder, applied(NOTHING, respond_async=True))


async def _answer(call: Call, patience: Waiting, settings: Settings, responder: Responder, preferences: Preferences) -> None:
    """Answer with the reply. At the end of the time an async route answers 202 to who asked for one (D11), others 504 (D8)."""

    async def replied() -> Record | None:
        """Return the reply; None where the time is over and Kafka has the request, which is what a 202 says."""
        try:
            async with patience.timeout():
                await call.replies.ready()
                # Eager, as who is given the reply has no location where it could be missed; a retry reads the topic to its
                # end first.
                with call.replies.expect(call.id, early=True) as reply, call.shared() as send:
                    if (replayed := await call.replay()) is not None:
                        return replayed
                    return await call.answered(send, reply)
        except TimeoutError:
            if call.delivery is None or not (call.exchange.match.route.async_fields and preferences.wait):
                raise _no_answer(call, patience.seconds, settings) from None
        except TopicUnavailable as error:
            if call.delivery is None:
                raise
            raise _no_more_answers(call, error, settings) from None
        await call.acknowledged()
        return None

    record = await patience.run_without_timeout(replied())
    if record is None:
        asked = applied(preferences, respond_async=preferences.respond_async)
        await _respond_accepted(call.exchange, settings, responder, asked)
    else:
        await answer(record, call.exchange, responder, applied(preferences))


def _pass_failure_on(reply: asyncio.Future[Record], delivery: asyncio.Future[Delivery]) -> None:
    """Nobody answers a request that Kafka does not have."""
    if not delivery.cancelled() and (error := delivery.exception()) is not None and not reply.done():
        reply.set_exception(error)


async def poll(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Answer for the location of a 202: the reply, or 202 again after ``prefer: wait``."""
    await skip_body(exchange.request)
    preferences = _preferences(exchange.request, settings)
    correlation = exchange.context.params["correlationId"]
    if not is_owned(correlation, _owner(exchange)):
        raise Problem(404, "no-such-request", "Nothing was accepted for you at this location: take it from the 202 as it is.")
    exchange.context.correlation_id = correlation
    replies = Replies(exchange, worker, settings)
    state = replies.state()
    record = None if state is None else replies.find(state, correlation)
    if record is None and (state is None or preferences.wait):
        patience = Waiting(exchange.request, worker, settings, preferences.wait or settings.ready_timeout_seconds)
        record = await _await_reply(replies, correlation, patience, until_there=bool(preferences.wait))
    if record is not None:
        # What was answered once is nothing to keep: the location means this one exchange.
        await answer(record, exchange, responder, [*applied(preferences), (b"cache-control", b"no-store")])
    else:
        await _respond_accepted(exchange, settings, responder, applied(preferences))


async def _await_reply(replies: Replies, correlation: str, patience: Waiting, *, until_there: bool) -> Record | None:
    """Return the reply if the topic, once it is read, has it; ``until_there``: as soon as it does."""

    async def replied() -> Record | None:
        with replies.expect(correlation) as reply:
            record = replies.find(await replies.ready(), correlation)
            return await reply if record is None and until_there else record

    try:
        return await patience.run(replied())
    except TimeoutError:
        if not replies.were_ready:  # it may well be there
            raise TopicUnavailable(Unavailable.NOT_READ_YET) from None
        return None


def _preferences(request: Request, settings: Settings) -> Preferences:
    """Return what the client prefers, as far as it is going to be honoured."""
    if request.field(b"prefer") is None:
        return NOTHING
    asked = parse_prefer(request.lines(b"prefer"))
    longest = max(int(settings.max_wait_seconds), 1)  # 0 would be no wait at all
    return asked if asked.wait is None or asked.wait <= longest else replace(asked, wait=longest)


def _owner(exchange: Exchange) -> str:
    """Return whose the exchange is; the same for a request and for asking for its outcome."""
    identities, fields = exchange.identities, exchange.match.route.async_fields
    if not identities and not fields:
        return _ANONYMOUS_OWNER
    return owner_digest(identities, (template.render(exchange.context) for _, template in fields))


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


def _no_answer(call: Call, seconds: float, settings: Settings) -> Problem:
    if call.delivery is None:  # the time was over before there was anything to wait for: no gateway has timed out
        detail = f"The reply topic could not be read within {seconds:g} seconds. Nothing was passed on: try again."
        return Problem(503, "topic-not-read-yet", detail, [retry_after(settings.retry_after_seconds)])
    return Problem(504, "no-reply", f"No reply within {seconds:g} seconds. {_what_became_of(call)}")


def _no_more_answers(call: Call, error: TopicUnavailable, settings: Settings) -> Problem:
    """The reply topic went away meanwhile: what any request hears, and that this one may have been heard."""
    problem = from_unavailable(error, settings.retry_after_seconds)
    return Problem(problem.status, problem.code, f"{problem.detail} {_what_became_of(call)}", problem.fields)


def _what_became_of(call: Call) -> str:
    happened = "The request was delivered" if call.is_delivered else "Kafka may or may not have the request"
    again = (
        "Repeat it with the same idempotency key." if call.exchange.has_key else "With an idempotency key it can be repeated."
    )
    return f"{happened}. {again}"
