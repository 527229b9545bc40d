"""The demo's service answers requests from Kafka, whoever wrote them."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from project import responder
from project.responder import Responder
from tests.kafka import Cluster, Consumed


@pytest.fixture
def topics(topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Two request topics, the second of them answered late, and a reply topic."""
    prompt, late, replies = topic(2, name="prompt"), topic(1, name="late"), topic(2, name="replies")
    monkeypatch.setattr(responder, "DELAYS", {prompt: 0.0, late: 1.0})
    return prompt, late, replies


@pytest.fixture(params=[None, "group"])
def running(request: pytest.FixtureRequest, topics: tuple[str, str, str], kafka: Cluster) -> Iterator[tuple[str, str, str]]:
    group = request.param and f"{request.param}-{uuid.uuid4().hex[:8]}"
    stop = threading.Event()
    service = Responder(kafka.bootstrap, group=group)
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    yield topics
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def _ask(kafka: Cluster, topics: tuple[str, str, str], method: str, body: str = "", *, late: bool = False) -> str:
    correlation_id = uuid.uuid4().hex
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
