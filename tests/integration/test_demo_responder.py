"""The demo's service answers requests from Kafka, whichever client wrote them."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from project import responder
from project.responder import Responder
from tests.kafka import Cluster, Consumed
from tests.support.exchange import until
from tests.support.proxy import Proxy, configuration, gateway, produce


@pytest.fixture
def topics(topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Two request topics, the second of them answered late, and a reply topic."""
    prompt, late, replies = topic(2, name="prompt"), topic(1, name="late"), topic(2, name="replies")
    monkeypatch.setattr(responder, "DELAYS", {prompt: 0.0, late: 1.0})
    return prompt, late, replies


@contextmanager
def _serving(kafka: Cluster, group: str | None) -> Iterator[Responder]:
    stop = threading.Event()
    service = Responder(kafka.bootstrap, group=group)
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    try:
        yield service
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(params=[None, "group"])
def running(request: pytest.FixtureRequest, topics: tuple[str, str, str], kafka: Cluster) -> Iterator[tuple[str, str, str]]:
    with _serving(kafka, request.param and f"{request.param}-{uuid.uuid4().hex[:8]}"):
        yield topics


def _ask(
    kafka: Cluster, topics: tuple[str, str, str], method: str, body: str = "", *, late: bool = False, again: str = ""
) -> str:
    correlation_id = again or uuid.uuid4().hex
    headers = [
        (":method", method),
        ("zilla:reply-to", topics[2]),
        ("zilla:correlation-id", correlation_id),
    ]
    kafka.produce(topics[1 if late else 0], body, key="pear", headers=headers)
    return correlation_id


def _reply(kafka: Cluster, topics: tuple[str, str, str], correlation_id: str, count: int) -> Consumed:
    (reply,) = [each for each in kafka.wait_for(topics[2], count) if each.header("zilla:correlation-id") == correlation_id]
    return reply


def test_an_item_is_put_got_and_deleted(running: tuple[str, str, str], kafka: Cluster) -> None:
    steps = [
        ("GET", "", "404"),
        ("PUT", '{"name": "Pear"}', "201"),
        ("PUT", '{"name": "Conference"}', "200"),
        ("GET", "", "200"),
        ("PUT", "not JSON", "400"),
    ]
    for number, (method, body, status) in enumerate(steps, 1):
        reply = _reply(kafka, running, _ask(kafka, running, method, body), number)
        assert (reply.key, reply.header(":status")) == ("pear", status)
        assert reply.header("content-type") == "application/json"
        assert reply.value is not None
        if method == "GET" and status == "200":
            assert json.loads(reply.value) == {"id": "pear", "item": {"name": "Conference"}}
    gone = _reply(kafka, running, _ask(kafka, running, "DELETE"), len(steps) + 1)
    assert (gone.header(":status"), gone.value) == ("204", "")
    assert "content-type" not in dict(gone.headers)


def test_a_late_answer_does_not_hold_up_a_prompt_one(running: tuple[str, str, str], kafka: Cluster) -> None:
    late = _ask(kafka, running, "PUT", "1", late=True)
    prompt = _ask(kafka, running, "PUT", "2")
    replies = kafka.wait_for(running[2], 2)  # all of one key, so in the order they were made
    assert [each.header("zilla:correlation-id") for each in replies] == [prompt, late]
    assert [each.header(":status") for each in replies] == ["201", "201"]


def test_a_request_that_comes_again_is_answered_as_the_first_time_and_changes_nothing(
    running: tuple[str, str, str], kafka: Cluster
) -> None:
    put = _ask(kafka, running, "PUT", "1")
    _ask(kafka, running, "DELETE")
    _ask(kafka, running, "PUT", "1", again=put)
    _ask(kafka, running, "GET")
    replies = kafka.wait_for(running[2], 4)
    assert [each.header(":status") for each in replies] == ["201", "204", "201", "404"]
    assert replies[0].value == replies[2].value
    assert replies[2].header("zilla:correlation-id") == put


async def test_what_was_accepted_is_answered_though_the_service_was_stopped_before(
    topics: tuple[str, str, str], kafka: Cluster, tmp_path: Path
) -> None:
    _, late, replies = topics
    location = "/late/${params.id};${correlationId}"
    route = produce("/late/{id}", topic=late, key="${params.id}", reply_to=replies, async_={"location": location})
    proxy = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(route)))
    group = f"group-{uuid.uuid4().hex[:8]}"
    try:
        with _serving(kafka, group) as service:
            accepted = await proxy.request("PUT", "/late/pear", content=b"1", headers={"prefer": "respond-async"})
            await until(lambda: service._pending)
        assert kafka.consume(replies) == []
        assert (await proxy.request("GET", accepted.headers["location"])).status_code == 202
        with _serving(kafka, group):
            response = await proxy.request("GET", accepted.headers["location"], headers={"prefer": "wait=30"})
            assert (response.status_code, response.json()) == (201, {"id": "pear", "item": 1})
            _ask(kafka, topics, "GET", late=True)
            kafka.wait_for(replies, 2)
        with _serving(kafka, group):  # and what was answered stays answered
            _ask(kafka, topics, "DELETE", late=True)
            assert [each.header(":status") for each in kafka.wait_for(replies, 3)] == ["201", "200", "204"]
    finally:
        proxy.close()
