"""The pages of topics: what the store of this host holds, and which users may see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy import models
from kafkaproxy.admin.pages.topic_records import show
from kafkaproxy.worker.store.writer_lock import WriterLock, writer_pid
from tests.conftest import TopicFactory
from tests.integration.admin_site import Site, make_route
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway

NAME = "default"


@pytest.fixture
def store_dir(settings: Any, tmp_path: Path) -> Path:
    settings.KAFKAPROXY = {"STORE_DIR": str(tmp_path)}
    return tmp_path


@pytest.fixture
def cluster(db: None, kafka: Cluster) -> models.Cluster:
    return models.Cluster.objects.create(name=NAME, bootstrap_servers=kafka.bootstrap)


@pytest.fixture
def clerk(db: None) -> Site:
    return Site(["browse_topic"])


@pytest.fixture
async def started(kafka: Cluster, store_dir: Path) -> Any:
    """Run a worker that reads a topic: ``await started(topic)``."""
    running: list[Proxy] = []

    async def start(topic: str) -> Proxy:
        routes = fetch("/items/{id}", topic=topic, filters=[{"key": "${params.id}"}])
        proxy = Proxy(store_dir, configuration(kafka.bootstrap, gateway(routes)))
        running.append(proxy)
        assert (await proxy.request("GET", "/items/nobody")).status_code == 404  # it was read to its end
        return proxy

    yield start
    for proxy in running:
        proxy.close()


@pytest.fixture
def page(clerk: Site) -> Callable[..., Any]:
    return lambda cluster, name, **query: clerk.get("cluster", "topic", cluster.pk, name, **query)


def _text(response: Any) -> str:
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


@pytest.mark.parametrize("permissions", [[], ["view_cluster", "change_cluster", "view_topic", "try_route"]])
def test_nobody_browses_without_the_permission(cluster: models.Cluster, permissions: list[str]) -> None:
    other = Site(permissions)
    assert other.get("cluster", "topics", cluster.pk).status_code == 403
    assert other.get("cluster", "topic", cluster.pk, "items").status_code == 403


def test_without_a_store_the_page_says_what_is_missing_and_makes_none(
    cluster: models.Cluster, clerk: Site, page: Any, store_dir: Path
) -> None:
    said = "This host has no store of this cluster"
    assert said in _text(clerk.get("cluster", "topics", cluster.pk))
    assert said in _text(page(cluster, "items"))
    assert list(store_dir.iterdir()) == []


@pytest.mark.django_db(transaction=True)
async def test_a_topic_shows_partitions_and_its_last_records(
    cluster: models.Cluster, page: Any, started: Any, topic: TopicFactory, produce: Any
) -> None:
    from asgiref.sync import sync_to_async

    name = topic(partitions=2)
    produce(name, b'{"b":1,"a":[2]}', key="k1", headers=[("kind", "x"), ("raw", b"\xff\x00"), ("none", None)], partition=0)
    produce(name, b"\x00\x01\xfe", key="k2", partition=1)
    produce(name, None, key="k1", partition=0)
    await started(name)

    response = await sync_to_async(page)(cluster, name)

    rows = response.context["rows"]
    assert [(row.log_start, row.next_offset, row.high_watermark, row.lag) for row in rows] == [(0, 2, 2, 0), (0, 1, 1, 0)]
    assert [row.held.records for row in rows] == [2, 1]
    assert all(row.held.size > 0 for row in rows)
    by_place = {(each.partition, each.offset): each for each in response.context["records"]}
    assert by_place[0, 0].value.text == '{\n  "b": 1,\n  "a": [\n    2\n  ]\n}'
    assert [(key, value.kind, value.text) for key, value in by_place[0, 0].headers] == [
        ("kind", "text", "x"),
        ("raw", "hex", "ff 00"),
        ("none", "null", ""),
    ]
    assert by_place[0, 1].value.kind == "null"
    assert (by_place[1, 0].value.kind, by_place[1, 0].value.text) == ("hex", "00 01 fe")
    assert "No process of this host reads Kafka" not in _text(response)

    filtered = await sync_to_async(page)(cluster, name, key="k1")
    assert {(each.partition, each.offset) for each in filtered.context["records"]} == {(0, 0), (0, 1)}
    in_hex = await sync_to_async(page)(cluster, name, key="0x6b32")
    assert [(each.partition, each.offset) for each in in_hex.context["records"]] == [(1, 0)]
    assert "pairs of hexadecimal digits" in _text(await sync_to_async(page)(cluster, name, key="0xzz"))


@pytest.mark.django_db(transaction=True)
async def test_a_topic_that_is_marked_sensitive_shows_no_record(
    cluster: models.Cluster, page: Any, started: Any, topic: TopicFactory, produce: Any
) -> None:
    from asgiref.sync import sync_to_async

    name = topic()
    produce(name, b"a secret value", key="k1")
    await sync_to_async(cluster.topics.create)(name=name, sensitive=True)
    await started(name)

    response = await sync_to_async(page)(cluster, name)

    assert "its records are never shown" in _text(response)
    assert "a secret value" not in _text(response)
    assert [row.next_offset for row in response.context["rows"]] == [1]


@pytest.mark.django_db(transaction=True)
async def test_a_large_record_among_very_many_does_not_break_the_page(
    cluster: models.Cluster, page: Any, started: Any, topic: TopicFactory, kafka: Cluster
) -> None:
    from asgiref.sync import sync_to_async

    name = topic(partitions=3)
    kafka.produce_many(name, [{"value": b"x" * 100, "key": f"k{number % 100}"} for number in range(10_000)])
    kafka.produce(name, b"<" * 1_000_000, key="large")
    kafka.produce(name, b"\xff" * 1_000_000, key="binary")
    await started(name)

    response = await sync_to_async(page)(cluster, name)

    assert sum(row.held.records for row in response.context["rows"]) == 10_002
    records = response.context["records"]
    assert len(records) == 50
    left_out = {each.key.text: each.value.left_out for each in records if each.value.left_out}
    assert left_out == {"large": 1_000_000 - 65_536, "binary": 1_000_000 - 2048}
    assert "934464 more bytes are not shown" in _text(response)
    assert len(response.content) < 2 << 20
    (found,) = (await sync_to_async(page)(cluster, name, key="large")).context["records"]
    assert found.key.text == "large"


@pytest.mark.django_db(transaction=True)
async def test_without_a_worker_the_store_is_shown_as_what_may_be_old(
    cluster: models.Cluster, clerk: Site, page: Any, started: Any, topic: TopicFactory, produce: Any
) -> None:
    from asgiref.sync import sync_to_async

    name = topic()
    produce(name, b"one", key="k1")
    (await started(name)).close()
    produce(name, b"two", key="k2")

    response = await sync_to_async(page)(cluster, name)

    assert "No process of this host reads Kafka at the moment" in _text(response)
    assert [each.value.text for each in response.context["records"]] == ["one"]
    assert [(row.next_offset, row.high_watermark, row.lag) for row in response.context["rows"]] == [(1, 2, 1)]
    listed = await sync_to_async(clerk.get)("cluster", "topics", cluster.pk)
    assert [(state.name, lag) for state, lag in listed.context["rows"]] == [(name, 1)]


def test_a_cluster_that_cannot_be_used_says_why(cluster: models.Cluster, clerk: Site, store_dir: Path) -> None:
    cluster.bootstrap_servers = "${{env.NOT_SET_ANYWHERE}}"
    cluster.save()
    assert "NOT_SET_ANYWHERE is not set" in _text(clerk.get("cluster", "topics", cluster.pk))


def test_topics_that_routes_name_and_the_store_lacks_are_listed(cluster: models.Cluster, clerk: Site, store_dir: Path) -> None:
    cluster.topics.create(name="tuned")
    cluster.topics.create(name="secret", sensitive=True)
    listed = clerk.get("cluster", "topics", cluster.pk)
    assert listed.context["absent"] == [("secret", True), ("tuned", False)]
    assert f'href="{clerk.url("cluster", "topic", cluster.pk, "tuned")}"' in _text(listed)


def test_a_name_that_kafka_could_not_have_breaks_no_page(
    cluster: models.Cluster, page: Any, clerk: Site, store_dir: Path
) -> None:
    models.Topic.objects.bulk_create([models.Topic(cluster=cluster, name="a/b c")])
    assert "a/b%20c/" in _text(clerk.get("cluster", "topics", cluster.pk))
    assert "Kafka did not give all of them: " in _text(page(cluster, "a/b c"))


def test_the_list_of_topics_links_their_records(cluster: models.Cluster, clerk: Site) -> None:
    cluster.topics.create(name="tuned")
    url = f'href="{clerk.url("cluster", "topic", cluster.pk, "tuned")}"'
    assert url in _text(Site().get("topic", "changelist"))
    clerk.user.delete()
    assert url not in _text(Site(["view_topic"]).get("topic", "changelist"))


@pytest.fixture
def post(cluster: models.Cluster, topic: TopicFactory) -> str:
    """A topic that a route writes to, and that no route reads."""
    name = topic(partitions=2)
    entry = models.Gateway.objects.create_with_entry(name="shop", cluster=cluster).ensure_entry()
    make_route(entry, "post", topic=name)
    return name


def test_what_a_route_only_writes_to_is_read_from_kafka(cluster: models.Cluster, page: Any, post: str, produce: Any) -> None:
    for number in range(60):
        produce(post, f"{number}".encode(), key="k", headers=[("n", b"x")], partition=number % 2, timestamp=1000 + number)

    response = page(cluster, post)

    assert [each.value.text for each in response.context["records"]] == [str(number) for number in reversed(range(10, 60))]
    assert [name for name, _value in response.context["records"][0].headers] == ["n"]
    assert "Read from Kafka itself" in _text(response)
    assert "There are, or may be, older records than these." in _text(response)


def test_an_empty_topic_says_so(cluster: models.Cluster, page: Any, post: str) -> None:
    assert "Kafka holds no record of this topic." in _text(page(cluster, post))


def test_large_records_leave_room_for_the_newest(cluster: models.Cluster, page: Any, post: str, produce: Any) -> None:
    for number in range(12):
        produce(post, bytes([number]) * 900_000, key=str(number), partition=0, timestamp=1000 + number)
    response = page(cluster, post)
    assert [each.key.text for each in response.context["records"]] == [str(number) for number in range(11, 2, -1)]
    assert not response.context["all_shown"]


def test_neither_a_sensitive_topic_nor_one_that_nothing_names_is_read_from_kafka(
    cluster: models.Cluster, page: Any, post: str, topic: TopicFactory, produce: Any
) -> None:
    cluster.topics.create(name=post, sensitive=True)
    produce(post, b"a secret value")
    assert "a secret value" not in _text(page(cluster, post))
    assert "its records are never shown" in _text(page(cluster, post))
    other = topic()
    produce(other, b"nobody asked")
    assert "nobody asked" not in _text(page(cluster, other))


def test_kafka_that_cannot_be_asked_is_told(cluster: models.Cluster, page: Any, store_dir: Path) -> None:
    cluster.topics.create(name="tuned")
    models.Cluster.objects.update(bootstrap_servers="${{env.NOT_SET_ANYWHERE}}")
    assert "NOT_SET_ANYWHERE is not set" in _text(page(cluster, "tuned"))


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (b'{"a": 1.10}', "text", '{"a": 1.10}'),
        (b'{"a": 1, "a": 2}', "text", '{"a": 1, "a": 2}'),
        (b'["\\ud800"]', "text", '["\\ud800"]'),
        (b"[" * 100_000, "text", "[" * 65_536),
        (b'{"a": 12345678901234567890}', "json", '{\n  "a": 12345678901234567890\n}'),
        (b"plain", "text", "plain"),
        (b"", "empty", ""),
        (b"\x1b[31m", "hex", "1b 5b 33 31 6d"),
    ],
)
def test_what_is_shown_is_what_is_there(data: bytes, kind: str, text: str) -> None:
    shown = show(data, pretty=True)
    assert (shown.kind, shown.text) == (kind, text)
    assert shown.left_out == max(len(data) - 65_536, 0)


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Path]:
    lock = WriterLock(tmp_path)
    assert lock.acquire()
    yield tmp_path
    lock.release()


def test_who_writes_is_known_while_it_writes(writing: Path) -> None:
    import os

    assert writer_pid(writing) == os.getpid()
    assert writer_pid(writing / "other") is None
