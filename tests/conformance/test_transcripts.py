"""The transcripts in the docs: their commands say what the pages say that they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.demo import demo_site
from tests.support.servers import serve
from tests.support.transcripts import finish, following, need, run, start, steps

HOW_TO = "docs/how-to/answer-requests.md"
ID = re.compile(r"[0-9a-f-]{36}-[0-9a-f]{32}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo on its embedded broker, as ``make demo`` starts it; yield its URL."""
    need("curl")
    with demo_site(tmp_path_factory.mktemp("demo"), None) as (url, _process, _log):
        yield url.removeprefix("http://").rstrip("/")


def at(address: str, command: str) -> str:
    """Return a command for where the test's server is."""
    return command.replace("127.0.0.1:8000", address)


def undated(said: str) -> str:
    """Return output without what differs each time."""
    return re.sub(r"(?m)^date: .*\n", "", re.sub(r"curl/[0-9.]+", "curl/", said), flags=re.IGNORECASE)


class Orders:
    """A server with the how-to's route, on topics of the test."""

    def __init__(self, kafka: Cluster, topic: TopicFactory) -> None:
        self._bootstrap = kafka.bootstrap
        self.requests, self.replies = topic(name="orders-requests"), topic(name="orders-replies")
        self.address = ""

    @contextmanager
    def served(self, folder: Path) -> Iterator[None]:
        """Serve."""
        env = {
            "INSTANCE_BOOTSTRAP": self._bootstrap,
            "INSTANCE_REQUESTS": self.requests,
            "INSTANCE_REPLIES": self.replies,
            "INSTANCE_STORE": str(folder / "store"),
            "INSTANCE_PATH": "/orders/{id}",
        }
        with serve("uvicorn", "tests.faults.reply_instance:application", folder, env=env) as site:
            self.address = site.url.removeprefix("http://")
            yield

    def here(self, text: str) -> str:
        """Return a command, or a script, for the test's server, broker and topics."""
        text = at(self.address, text).replace("127.0.0.1:9092", self._bootstrap).replace('"orders"', f'"{self.requests}"')
        return text.replace("orders-requests", self.requests).replace("orders-replies", self.replies)

    def as_written(self, said: str) -> str:
        """Return output as if the page's server, broker and topics had been there."""
        said = said.replace(self.address, "127.0.0.1:8000").replace(self.requests, "orders-requests")
        return undated(said.replace(self.replies, "orders-replies"))


@pytest.fixture
def orders(kafka: Cluster, topic: TopicFactory, tmp_path: Path) -> Iterator[Orders]:
    made = Orders(kafka, topic)
    with made.served(tmp_path):
        yield made


@contextmanager
def running(script: Path, kafka: Cluster) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_request_is_read_and_answered_by_hand_then_by_the_example(orders: Orders, kafka: Cluster, tmp_path: Path) -> None:
    need("curl", "kcat")
    ask, read, reply, answered, again = steps(HOW_TO, "## 2.", "## 5.")
    asking = start(orders.here(ask.command))
    kafka.wait_for(orders.requests, 1)
    said = run(orders.here(read.command))
    [given] = ID.findall(said)
    [written] = set(ID.findall(read.output))
    # The digest covers the reply-to topic, which is the test's own.
    assert orders.as_written(said.replace(given, written)) == undated(read.output)
    assert run(orders.here(reply.command).replace(written, given)) == reply.output == ""
    assert orders.as_written(finish(asking)) == undated(answered.output)

    [code] = re.findall(r"```python\n(.*?)```", Path(HOW_TO).read_text(), re.DOTALL)
    script = tmp_path / "service.py"
    script.write_text(orders.here(code))
    with running(script, kafka):
        assert orders.as_written(run(orders.here(again.command))) == undated(again.output)


def test_a_request_is_repeated_and_one_is_answered_later(demo: str) -> None:
    for step in steps(HOW_TO, "## 5.", "## 7."):
        said = run(at(demo, step.command))
        assert undated(said.replace(demo, "127.0.0.1:8000")) == step.output, step.command


def test_the_readme_says_what_a_newcomer_sees(demo: str) -> None:
    *requests, stream, event = steps("README.md", "## See it work", "## Add it")
    etags: dict[str, str] = {}
    for step in requests:
        said = run(at(demo, etags_replaced(step.command, etags)))
        etags |= dict(zip(re.findall(r'(?m)^ETag: (".*")$', step.output), re.findall(r'(?m)^ETag: (".*")$', said), strict=True))
        assert shown(etags_replaced(step.output, etags)) <= shown(said), step.command
    with following(at(demo, stream.command.removesuffix(" &"))) as lines:
        assert next(lines) == ":\n"
        assert run(at(demo, event.command)) == ""
        data = next((before, line) for before, line in pairs(lines) if line.startswith("data:"))
        assert "".join(data).strip() == event.output


def etags_replaced(text: str, etags: dict[str, str]) -> str:
    for written, given in etags.items():
        text = text.replace(written, given)
    return text


def shown(said: str) -> set[str]:
    """Return the lines of an answer. The README leaves out fields that say nothing to a newcomer."""
    return set(said.splitlines())


def pairs(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    before = next(lines)
    for line in lines:
        yield before, line
        before = line


def test_a_stream_looks_as_it_does_in_its_how_to(kafka: Cluster, topic: TopicFactory, tmp_path: Path) -> None:
    need("curl")
    text = (Path(__file__).resolve().parents[2] / "docs/how-to/stream.md").read_text()
    [command] = re.findall(r"```sh\n(.*?)\n```", text)
    [output] = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    name = topic()
    kafka.produce(name, '{"celsius": 21.5}', key="sensor-7")
    kafka.produce(name, None, key="sensor-7")
    env = {"STREAM_BOOTSTRAP": kafka.bootstrap, "STREAM_STORE": str(tmp_path / "store")}
    with serve("uvicorn", "tests.support.stream_site:application", tmp_path, env=env) as site:
        here = command.replace("localhost:8000/events", f"{site.url}/any/{name}")
        with following(here) as lines:
            assert "".join(islice(lines, len(output.splitlines()))) == output
