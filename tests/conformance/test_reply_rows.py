"""Produce with reply-to on real Kafka: the rows of the reference's table, adapted (the contract, *With reply-to*).

Rows 12 and 18 differ from rows 1 and 14 by a flush of the client's *stream* before its end, which has no counterpart in HTTP:
it changes no byte of the request, and none of the response. So rows 1 and 14 stand for them, as section 4 of the reference's
description says of every ``*.write.flush``. Row 10, once it waits for Kafka, is in ``test_reply_waits``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import pytest

from kafkaproxy.worker.types import Acks
from tests.conformance.conftest import StartProxy, StartService
from tests.conftest import TopicFactory
from tests.kafka import Consumed
from tests.support.exchange import Exchange, assert_nobody_waits, until
from tests.support.proxy import Proxy, produce
from tests.support.service import Asked, Reply, Service

ITEM: Final = "92d0bf92-63e0-4cfc-ae73-71dee92d1544"
DELETE_KEY: Final = "7101a8ea-5745-43c8-8d0c-b2f9baba7004"
COMMAND_KEY: Final = "59410e57-3e0f-4b61-9328-f645a7968ac8"
PUT_KEY: Final = "3f96592e-c8f1-4167-8c46-85f2aabb70a5"
JSON: Final = ("content-type", "application/json")
WIDGET: Final = b'{ "name": "widget" }'
NO_CONTENT: Final = Reply(None, [(":status", "204")])
FAILED: Final = Reply(None, [(":status", "412")])
CREATED: Final = Reply(WIDGET, [(":status", "201"), ("location", f"/items/{ITEM}")])
Consume = Callable[[str], list[Consumed]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A scenario: what is sent, what the service replies, and what stands in the record beside what every row has."""

    method: str
    path: str
    key: str
    fields: tuple[tuple[str, str], ...] = ()
    pieces: tuple[bytes, ...] = (b"",)
    reply: Reply = NO_CONTENT
    status: int = 204
    forwarded: tuple[tuple[str, str], ...] = ()
    overrides: Mapping[str, str] = field(default_factory=lambda: {"zilla:identity": "test"})

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def delete(**options: object) -> Row:
    return Row(method="DELETE", path=f"/items/{ITEM}", key=DELETE_KEY, **options)  # type: ignore[arg-type]


def command(**options: object) -> Row:
    fields = {"forwarded": (JSON,), **options}
    return Row(
        method="POST",
        path=f"/items/{ITEM}/rename",
        key=COMMAND_KEY,
        pieces=(WIDGET,),
        overrides={"zilla:identity": "test", "zilla:command": "rename"},
        **fields,  # type: ignore[arg-type]
    )


def post(**options: object) -> Row:
    pieces = (b'{ "name"', b" : ", b'"widget" }')
    return Row(method="POST", path="/items", key=ITEM, pieces=pieces, reply=CREATED, status=201, forwarded=(JSON,), **options)  # type: ignore[arg-type]


def put(**options: object) -> Row:
    return Row(method="PUT", path=f"/items/{ITEM}", key=PUT_KEY, pieces=(WIDGET,), forwarded=(JSON,), **options)  # type: ignore[arg-type]


def if_match(revision: int) -> dict[str, object]:
    return {"fields": (("if-match", f"AQQABAIC/revision={revision}"),), "forwarded": (("if-match", f"revision={revision}"),)}


def json_if_match(revision: int) -> dict[str, object]:
    options = if_match(revision)
    return {**options, "forwarded": (JSON, ("if-match", f"revision={revision}"))}


ASYNC: Final = ("prefer", "respond-async")


class Stage:
    """A proxy with the routes of the rows, a service behind it, and their topics."""

    def __init__(self, start: StartProxy, service: StartService, topic: TopicFactory, *, asynchronous: bool) -> None:
        self.commands, self.replies = topic(2, name="items-commands"), topic(2, name="items-replies")

        def route(when: str, key: str, location: str, **overrides: str) -> object:
            options = {"async_": {"location": location}} if asynchronous else {}
            given = {"zilla:identity": "test", **{f"zilla:{name}": value for name, value in overrides.items()}}
            return produce(
                when,
                topic=self.commands,
                key=key,
                acks=Acks.LEADER_ONLY,
                reply_to=self.replies,
                overrides=given,
                **options,
            )

        self.proxy: Proxy = start(
            route("/items/{id}", "${params.id}", "/items/${params.id};${correlationId}"),
            route("POST /items", "${idempotencyKey}", "/items;${correlationId}"),
            route(
                "POST /items/{id}/{command}",
                "${params.id}",
                "/items/${params.id}/${params.command};${correlationId}",
                command="${params.command}",
            ),
        )
        self.service: Service = service(self.commands)

    def ask(self, row: Row) -> Exchange:
        fields = [*([JSON] if JSON in row.forwarded else []), *row.fields, ("idempotency-key", row.key)]
        if row.body:
            fields.insert(1, ("content-length", str(len(row.body))))
        asked = Exchange(self.proxy.app, row.method, row.path, fields)
        for number, piece in enumerate(row.pieces, 1):
            asked.send(piece, more=number < len(row.pieces))
        return asked

    async def get(self, path: str, *fields: tuple[str, str], body: bytes = b"") -> Exchange:
        asked = Exchange(self.proxy.app, "GET", path, [*fields, ("content-length", str(len(body)))] if body else fields)
        asked.send(body)
        await asked.end()
        return asked

    async def get_reply(self, path: str) -> Exchange:
        """Ask until the reply is there."""
        async with asyncio.timeout(30):
            while (answer := await self.get(path)).status == 202:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
            return answer


def assert_record(record: Consumed, row: Row, replies: str) -> str:
    """The record is what the row says; return its correlation id."""
    assert record.key == ITEM
    assert record.value == row.body.decode()
    *headers, (last, correlation) = record.headers
    assert headers == [
        (":method", row.method),
        (":scheme", "https"),
        (":authority", "example.com:9090"),
        (":path", row.path),
        *row.forwarded,
        ("idempotency-key", row.key),
        ("zilla:reply-to", replies),
        *row.overrides.items(),
    ]
    assert last == "zilla:correlation-id"
    assert correlation is not None
    assert re.fullmatch(rf"{row.key}-[0-9a-f]{{32}}", correlation)
    return correlation


def assert_answer(answer: Exchange, row: Row) -> None:
    assert answer.status == row.status
    assert answer.body == (row.reply.value or b"")
    fields = dict(answer.fields)
    assert not [name for name in fields if name.startswith((b"zilla:", b":"))]
    if row.status == 201:
        assert fields[b"location"] == f"/items/{ITEM}".encode()
        assert fields[b"content-length"] == str(len(row.reply.value or b"")).encode()
    if row.status == 204:
        assert b"content-length" not in fields


@pytest.mark.parametrize(
    ("row", "asynchronous"),
    [
        pytest.param(delete(), False, id="1-delete-item"),
        pytest.param(delete(), True, id="4-delete-item-on-an-async-route"),
        pytest.param(delete(**if_match(42)), False, id="7-delete-item-if-match"),
        pytest.param(delete(**if_match(41), reply=FAILED, status=412), False, id="8-delete-item-if-match-failed"),
        pytest.param(delete(fields=(("if-match", "AQQABAIC"),)), False, id="delete-item-if-match-no-etag"),
        pytest.param(delete(fields=(ASYNC,)), False, id="21-delete-item-prefer-async-ignored"),
        pytest.param(command(), False, id="57-post-item-command"),
        pytest.param(command(**json_if_match(42)), False, id="60-post-item-command-if-match"),
        pytest.param(command(**json_if_match(41), reply=FAILED, status=412), False, id="61-post-item-command-if-match-failed"),
        pytest.param(command(fields=(ASYNC,)), False, id="65-post-item-command-prefer-async-ignored"),
        pytest.param(post(), False, id="66-post-items"),
        pytest.param(post(fields=(ASYNC,)), False, id="70-post-items-prefer-async-ignored"),
        pytest.param(put(), False, id="71-put-item"),
        pytest.param(put(fields=(ASYNC,)), False, id="77-put-item-prefer-async-ignored"),
    ],
)
async def test_the_request_becomes_a_record_and_the_reply_the_response(
    row: Row, asynchronous: bool, start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:
    stage = Stage(start, service, topic, asynchronous=asynchronous)
    stage.service.answer = lambda _asked: row.reply
    answer = stage.ask(row)
    await answer.end()
    assert_answer(answer, row)
    [record] = kcat_consume(stage.commands)
    correlation = assert_record(record, row, stage.replies)
    [reply] = kcat_consume(stage.replies)
    assert reply.header("zilla:correlation-id") == correlation


@pytest.mark.parametrize("delayed", [False, True], ids=["at-once", "delayed"])
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(delete(fields=(ASYNC,)), id="14-19-delete-item"),
        pytest.param(command(fields=(ASYNC,)), id="62-64-post-item-command"),
        pytest.param(post(fields=(ASYNC,)), id="68-post-items"),
        pytest.param(put(fields=(ASYNC,)), id="75-76-put-item"),
    ],
)
async def test_the_reply_is_at_the_location_of_the_202(
    row: Row, delayed: bool, start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:
    stage = Stage(start, service, topic, asynchronous=True)
    stage.service.answer = lambda _asked: None if delayed else row.reply
    accepted = stage.ask(row)
    await accepted.end()
    [record] = kcat_consume(stage.commands)
    location = f"{row.path};{assert_record(record, row, stage.replies)}"
    assert_accepted(accepted, location)
    if delayed:
        assert_accepted(await stage.get(location), location)
        stage.service.reply(stage.service.asked[0], row.reply)
    assert_answer(await stage.get_reply(location), row)
    assert len(kcat_consume(stage.commands)) == 1


def assert_accepted(answer: Exchange, location: str) -> None:
    fields = dict(answer.fields)
    assert (answer.status, answer.body) == (202, b"")
    assert fields[b"location"] == location.encode()
    assert fields[b"content-length"] == b"0"
    assert int(fields[b"retry-after"]) >= 1  # D10


@pytest.mark.parametrize("fields", [pytest.param((), id="5-sync"), pytest.param((ASYNC,), id="13-prefer-async")])
async def test_a_request_that_the_broker_rejects_is_400(
    fields: tuple[tuple[str, str], ...], start: StartProxy, topic: TopicFactory, kcat_consume: Consume
) -> None:
    compacted = topic(name="compacted", config={"cleanup.policy": "compact"})  # and a record without a key
    location = {"location": "/items/${params.id};${correlationId}"}
    proxy = start(produce("/items/{id}", topic=compacted, reply_to=topic(name="replies"), async_=location))
    asked = Exchange(proxy.app, "DELETE", f"/items/{ITEM}", [*fields, ("idempotency-key", DELETE_KEY)])
    asked.send()
    await asked.end()
    assert asked.status == 400
    assert b"produce-rejected" in asked.body
    assert kcat_consume(compacted) == []
    assert_nobody_waits(proxy)


@pytest.mark.parametrize(
    "row", [pytest.param(delete(), id="10-sync"), pytest.param(delete(fields=(ASYNC,)), id="prefer-async")]
)
async def test_nothing_is_produced_for_a_client_that_has_left(
    row: Row, start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:
    stage = Stage(start, service, topic, asynchronous=True)
    asked = stage.ask(row)
    asked.hang_up()
    await asked.end()
    assert asked.messages == []
    assert kcat_consume(stage.commands) == []


@pytest.mark.parametrize(
    "row", [pytest.param(delete(), id="11-sync"), pytest.param(delete(fields=(ASYNC,)), id="17-prefer-async")]
)
async def test_nothing_is_produced_of_a_request_that_breaks_off(
    row: Row, start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:
    stage = Stage(start, service, topic, asynchronous=True)
    asked = Exchange(stage.proxy.app, row.method, row.path, [*row.fields, ("idempotency-key", row.key)])
    asked.send(b"half a bo", more=True)
    asked.hang_up()
    await asked.end()
    assert asked.messages == []
    assert kcat_consume(stage.commands) == []


async def test_a_client_that_leaves_while_it_asks_for_the_outcome_frees_everything(
    start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:  # row 16
    stage = Stage(start, service, topic, asynchronous=True)
    stage.service.answer = lambda _asked: None
    accepted = stage.ask(delete(fields=(ASYNC,)))
    await accepted.end()
    location = dict(accepted.fields)[b"location"].decode()
    polling = Exchange(stage.proxy.app, "GET", location, [("prefer", "wait=60")])
    polling.send()
    await until(lambda: stage.proxy.runtime.worker.waiting)
    polling.hang_up()
    await polling.end()
    assert polling.messages == []
    assert_nobody_waits(stage.proxy)


async def test_a_replayed_request_produces_nothing(
    start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:  # row 59
    stage = Stage(start, service, topic, asynchronous=True)
    row = command()
    stage.service.answer = lambda _asked: row.reply
    first = stage.ask(row)
    await first.end()
    for again in (command(), command(fields=(("prefer", "wait=5"),))):
        replayed = stage.ask(again)
        await replayed.end()
        assert_answer(replayed, row)
    accepted = stage.ask(command(fields=(ASYNC,)))
    await accepted.end()
    assert accepted.status == 202
    assert len(kcat_consume(stage.commands)) == 1


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "not-yet"])
async def test_a_replayed_async_request_is_given_the_same_location(
    answered: bool, start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:  # the reference's post.item.command.async.replayed
    stage = Stage(start, service, topic, asynchronous=True)
    row = command(fields=(ASYNC,))
    stage.service.answer = lambda _asked: row.reply if answered else None
    locations = []
    for _ in range(2):
        accepted = stage.ask(row)
        await accepted.end()
        locations.append(dict(accepted.fields)[b"location"].decode())
        assert_accepted(accepted, locations[0])
        if answered:
            assert_answer(await stage.get_reply(locations[0]), row)
    [correlation, *others] = {assert_record(record, row, stage.replies) for record in kcat_consume(stage.commands)}
    assert (locations, others) == ([f"{row.path};{correlation}"] * 2, [])
    assert len(kcat_consume(stage.commands)) == (1 if answered else 2)  # without a reply the first one is not known


async def test_the_body_of_who_asks_for_the_outcome_is_ignored(
    start: StartProxy, service: StartService, topic: TopicFactory
) -> None:  # the reference's delete.item.prefer.async.with.body
    stage = Stage(start, service, topic, asynchronous=True)
    row = delete(fields=(ASYNC,))
    stage.service.answer = lambda _asked: row.reply
    accepted = stage.ask(row)
    await accepted.end()
    location = dict(accepted.fields)[b"location"].decode()
    assert_answer(await stage.get(location, ("prefer", "wait=20"), body=b"Ignored content"), row)
    assert_answer(await stage.get(location, body=b"Ignored content"), row)


async def test_a_tag_without_an_etag_makes_no_other_request(
    start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:  # the reference's delete.item.if.match.no.etag
    stage = Stage(start, service, topic, asynchronous=False)
    stage.service.answer = lambda _asked: NO_CONTENT
    for row in (delete(), delete(fields=(("if-match", "AQQABAIC"),))):
        answer = stage.ask(row)
        await answer.end()
        assert_answer(answer, row)
    assert len(kcat_consume(stage.commands)) == 1  # one id, so the second is a replay


async def test_duplicate_replies_are_answered_by_the_first(
    start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:  # the reference's delete.item.repeated
    stage = Stage(start, service, topic, asynchronous=False)

    def twice(asked: Asked) -> Reply:
        stage.service.reply(asked, Reply(b"first"))
        return Reply(b"second")

    stage.service.answer = twice
    for _ in range(2):  # the second is a replay
        answer = stage.ask(put())
        await answer.end()
        assert (answer.status, answer.body) == (200, b"first")
    assert len(kcat_consume(stage.replies)) == 2
    assert len(kcat_consume(stage.commands)) == 1
