"""Fetch on real Kafka: the rows of the reference's table, and the contract, *Fetch*."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kafkaproxy.core import progress
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.exchange import until
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce

ITEM = "92d0bf92-63e0-4cfc-ae73-71dee92d1544"
OTHER = "beb6ef9e-8da7-451f-b3c4-136d49a058f3"
GADGET = b'{ "name": "gadget" }'
OURS = [("zilla:identity", "test"), ("content-type", "application/json")]


@pytest.fixture(params=["compact", "delete"])
def snapshots(request: pytest.FixtureRequest, topic: TopicFactory) -> str:
    return topic(name=f"items-{request.param}", partitions=2, config={"cleanup.policy": request.param})


@pytest.fixture
def compacted(topic: TopicFactory) -> str:
    return topic(name="items-snapshots", partitions=2, config={"cleanup.policy": "compact"})


def routes(topic: str) -> tuple[object, ...]:
    return (
        fetch("GET /items/{id}", topic=topic, filters=[{"key": "${params.id}", "headers": {"zilla:identity": "test"}}]),
        fetch("GET /items", topic=topic, filters=[{"headers": {"zilla:identity": "test"}}], merge=True, name="all"),
        fetch("/plain/{id}", topic=topic, filters=[{"key": "${params.id}"}], cache_control="max-age=5", name="plain"),
        fetch("/either/{a}/{b}", topic=topic, filters=[{"key": "${params.a}"}, {"key": "${params.b}"}], name="either"),
        fetch("/newest", topic=topic, name="newest"),
        fetch("/ours", topic=topic, filters=[{"headers": {"zilla:identity": "test"}}], name="ours"),
        fetch("/everything", topic=topic, merge=True, name="everything"),
        fetch("/any/{topic}", topic="${params.topic}", merge=True, name="any"),
        produce("PUT /plain/{id}", topic=topic, key="${params.id}", name="put"),
    )


def started(kafka: Cluster, topic: str, folder: Path) -> Proxy:
    return Proxy(folder, configuration(kafka.bootstrap, gateway(*routes(topic))))  # type: ignore[arg-type]


@pytest.fixture
def proxy(kafka: Cluster, snapshots: str, tmp_path: Path) -> Iterator[Proxy]:
    running = started(kafka, snapshots, tmp_path)
    yield running
    running.close()


@pytest.fixture
def compact_proxy(kafka: Cluster, compacted: str, tmp_path: Path) -> Iterator[Proxy]:
    running = started(kafka, compacted, tmp_path)
    yield running
    running.close()


async def get(proxy: Proxy, path: str, **headers: str) -> httpx.Response:
    return await proxy.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def eventually(proxy: Proxy, path: str, expected: int, **headers: str) -> httpx.Response:
    """GET until the status is what another client's write makes it."""
    deadline = time.monotonic() + 60
    while (response := await get(proxy, path, **headers)).status_code != expected:
        assert time.monotonic() < deadline, f"{path} stays {response.status_code}"
        await asyncio.sleep(0.02)
    return response


async def waiting_one(proxy: Proxy, path: str, **headers: str) -> asyncio.Task[httpx.Response]:
    """Begin a GET that waits, and return it as soon as it does."""
    waiting = asyncio.create_task(get(proxy, path, **headers))
    await until(lambda: proxy.runtime.worker.waiting == 1)
    assert not waiting.done()
    return waiting


def positions(etag: str) -> dict[int, int]:
    """The partitions of an etag, without what is ours (partitions below zero)."""
    return {p: o for p, o in progress.decode(etag.strip('"').partition("/")[0]).items() if p >= 0}


async def test_get_item(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:  # row 22
    at = kafka.produce(snapshots, GADGET, key=ITEM, headers=[*OURS, ("etag", "revision=42")])
    response = await eventually(proxy, f"/items/{ITEM}", 200)
    assert response.content == GADGET
    assert response.headers["content-length"] == "20"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["etag"].startswith('"')
    assert response.headers["etag"].endswith('/revision=42"')
    assert positions(response.headers["etag"]) == {at[0]: at[1] + 1}
    assert response.headers["cache-control"] == "no-cache"
    assert "zilla:identity" not in response.headers


async def test_get_item_with_a_body_ignores_it(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:  # row 26
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    await eventually(proxy, f"/items/{ITEM}", 200)
    response = await proxy.request("GET", f"/items/{ITEM}", content=b"Ignored content")
    assert response.content == GADGET


async def test_get_item_with_implicit_etag(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:  # row 28
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    etag = (await eventually(proxy, f"/items/{ITEM}", 200)).headers["etag"]
    assert "/" not in etag


async def test_if_none_match_of_an_old_etag_gets_the_new_record(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:  # row 33
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    old = (await eventually(proxy, f"/items/{ITEM}", 200)).headers["etag"]
    assert (await get(proxy, f"/items/{ITEM}", if_none_match=old)).status_code == 304
    kafka.produce(snapshots, b'{ "name": "widget" }', key=ITEM, headers=OURS)
    response = await eventually(proxy, f"/items/{ITEM}", 200, if_none_match=old)
    assert response.content == b'{ "name": "widget" }'
    assert response.headers["etag"] != old


async def test_if_none_match_of_the_present_etag_is_304(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:  # row 34
    kafka.produce(snapshots, GADGET, key=ITEM, headers=[*OURS, ("etag", "revision=42")])
    etag = (await eventually(proxy, f"/items/{ITEM}", 200)).headers["etag"]
    for form in (etag, etag.strip('"'), f"W/{etag}", f'"other", {etag}', "*"):
        response = await get(proxy, f"/items/{ITEM}", if_none_match=form)
        assert (response.status_code, response.content) == (304, b""), form
        assert response.headers["etag"] == etag
        assert "content-length" not in response.headers


async def test_an_etag_stays_when_other_keys_change(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:  # D16
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    etag = (await eventually(proxy, f"/items/{ITEM}", 200)).headers["etag"]
    kafka.produce(snapshots, GADGET, key=OTHER, headers=OURS)
    await eventually(proxy, f"/items/{OTHER}", 200)
    assert (await get(proxy, f"/items/{ITEM}")).headers["etag"] == etag


async def test_an_item_that_is_not_there_is_404(proxy: Proxy) -> None:  # row 35
    response = await get(proxy, f"/items/{ITEM}")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:kafkaproxy:problem:no-record"
    assert response.json()["route"] == "fetch"


async def test_prefer_wait_gets_the_first_record_as_soon_as_it_is_there(
    proxy: Proxy, kafka: Cluster, snapshots: str
) -> None:  # row 37
    waiting = await waiting_one(proxy, f"/items/{ITEM}", prefer="wait=200")
    kafka.produce(snapshots, GADGET, key=OTHER, headers=OURS)
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    response = await asyncio.wait_for(waiting, 30)
    assert (response.status_code, response.content) == (200, GADGET)
    assert response.headers["preference-applied"] == "wait=200"


async def test_prefer_wait_ends_with_404(proxy: Proxy) -> None:  # row 38
    response = await get(proxy, f"/items/{ITEM}", prefer="wait=1")
    assert response.status_code == 404
    assert response.headers["preference-applied"] == "wait=1"


async def test_prefer_wait_with_if_none_match_ends_with_304_or_the_change(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    etag = (await eventually(proxy, f"/items/{ITEM}", 200)).headers["etag"]
    assert (await get(proxy, f"/items/{ITEM}", prefer="wait=1", if_none_match=etag)).status_code == 304
    waiting = await waiting_one(proxy, f"/items/{ITEM}", prefer="wait=200", if_none_match=etag)
    kafka.produce(snapshots, b"{}", key=ITEM, headers=OURS)
    assert (await asyncio.wait_for(waiting, 30)).content == b"{}"


async def test_a_deletion_ends_a_wait_with_404(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    kafka.produce(snapshots, GADGET, key=ITEM)
    etag = (await eventually(proxy, f"/plain/{ITEM}", 200)).headers["etag"]
    waiting = await waiting_one(proxy, f"/plain/{ITEM}", prefer="wait=200", if_none_match=etag)
    kafka.produce(snapshots, None, key=ITEM)
    assert (await asyncio.wait_for(waiting, 30)).status_code == 404


async def test_a_tombstone_is_404_and_an_empty_value_204(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    kafka.produce(snapshots, b"", key=ITEM, headers=[("content-type", "text/plain")])
    response = await eventually(proxy, f"/plain/{ITEM}", 204)
    assert response.headers["content-type"] == "text/plain"
    assert "etag" in response.headers
    kafka.produce(snapshots, None, key=ITEM)
    await eventually(proxy, f"/plain/{ITEM}", 404)


async def test_the_newest_record_is_served_on_every_kind_of_topic(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:  # D14
    for number in range(5):
        kafka.produce(snapshots, b"%d" % number, key=ITEM)
    deadline = time.monotonic() + 60
    while (response := await get(proxy, f"/plain/{ITEM}")).content != b"4":
        assert time.monotonic() < deadline, response.content
        await asyncio.sleep(0.02)
    assert response.headers["etag"]


async def test_an_older_record_never_stands_in_for_a_newer_one_that_fails_the_filter(
    proxy: Proxy, kafka: Cluster, snapshots: str
) -> None:
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    await eventually(proxy, f"/items/{ITEM}", 200)
    kafka.produce(snapshots, GADGET, key=ITEM, headers=[("zilla:identity", "somebody else")])
    await eventually(proxy, f"/items/{ITEM}", 404)
    assert (await get(proxy, "/ours")).status_code == 404


async def test_filters_are_alternatives(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    kafka.produce(snapshots, b"b", key="b", timestamp=2000)
    await eventually(proxy, "/either/a/b", 200)
    kafka.produce(snapshots, b"a", key="a", timestamp=1000)
    await eventually(proxy, "/plain/a", 200)
    assert (await get(proxy, "/either/a/b")).content == b"b"
    assert (await get(proxy, "/either/a/x")).content == b"a"


async def test_without_filter_the_newest_record_of_the_topic_is_served(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    kafka.produce(snapshots, b"first", key="a", timestamp=1000)
    kafka.produce(snapshots, b"second", key="b", timestamp=2000)
    await eventually(proxy, "/plain/b", 200)
    assert (await get(proxy, "/newest")).content == b"second"


async def test_head_is_get_without_a_body(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    kafka.produce(snapshots, GADGET, key=ITEM, headers=OURS)
    get_response = await eventually(proxy, f"/items/{ITEM}", 200)
    for path in (f"/items/{ITEM}", "/items", "/items/none"):
        head = await proxy.request("HEAD", path)
        full = await get(proxy, path)
        assert head.content == b""
        assert (head.status_code, dict(head.headers)) == (full.status_code, dict(full.headers))
    assert get_response.content == GADGET


async def test_a_client_reads_what_it_wrote(proxy: Proxy) -> None:
    for number in range(50):
        await proxy.request("PUT", "/plain/mine", content=b"%d" % number)
        assert (await get(proxy, "/plain/mine")).content == b"%d" % number


async def test_cache_control_is_the_routes(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    kafka.produce(snapshots, GADGET, key=ITEM)
    assert (await eventually(proxy, f"/plain/{ITEM}", 200)).headers["cache-control"] == "max-age=5"


async def test_get_items_merges(compact_proxy: Proxy, kafka: Cluster, compacted: str) -> None:  # row 40
    kafka.produce(compacted, GADGET, key=ITEM, headers=OURS, partition=0)
    kafka.produce(compacted, b'{ "name": "gizmo" }', key=OTHER, headers=OURS, partition=1)
    kafka.produce(compacted, b"{}", key="hidden", headers=[("zilla:identity", "other")], partition=1)
    await eventually(compact_proxy, "/plain/hidden", 200)
    response = await get(compact_proxy, "/items")
    assert response.content == b'[{ "name": "gadget" },{ "name": "gizmo" }]'
    assert response.headers["content-type"] == "application/json"
    assert response.headers["etag"].startswith('"')


async def test_get_items_of_an_empty_topic(compact_proxy: Proxy) -> None:  # row 42
    response = await get(compact_proxy, "/items")
    assert (response.status_code, response.content) == (200, b"[]")
    assert (await get(compact_proxy, "/items", if_none_match=response.headers["etag"])).status_code == 304


async def test_get_items_with_a_body_ignores_it(compact_proxy: Proxy) -> None:  # row 43
    response = await compact_proxy.request("GET", "/items", content=b"Ignored content")
    assert response.content == b"[]"


async def test_get_items_if_none_match(compact_proxy: Proxy, kafka: Cluster, compacted: str) -> None:  # rows 44, 47
    kafka.produce(compacted, GADGET, key=ITEM, headers=OURS, partition=0)
    kafka.produce(compacted, b'{ "name": "gizmo" }', key=OTHER, headers=OURS, partition=1)
    await eventually(compact_proxy, f"/items/{ITEM}", 200)
    await eventually(compact_proxy, f"/items/{OTHER}", 200)
    etag = (await get(compact_proxy, "/items")).headers["etag"]
    unchanged = await get(compact_proxy, "/items", if_none_match=etag, prefer="wait=1")
    assert (unchanged.status_code, unchanged.headers["etag"]) == (304, etag)
    assert unchanged.headers["content-type"] == "application/json"
    kafka.produce(compacted, b"{}", key="hidden", headers=[("zilla:identity", "other")])
    await eventually(compact_proxy, "/plain/hidden", 200)
    assert (await get(compact_proxy, "/items", if_none_match=etag)).status_code == 304  # D16: its set did not change
    waiting = await waiting_one(compact_proxy, "/items", if_none_match=etag, prefer="wait=200")
    kafka.produce(compacted, b'{ "name": "widget" }', key=ITEM, headers=OURS, partition=0)
    response = await asyncio.wait_for(waiting, 30)  # D17
    assert response.content == b'[{ "name": "widget" },{ "name": "gizmo" }]'


async def test_a_merge_waits_for_a_first_record(compact_proxy: Proxy, kafka: Cluster, compacted: str) -> None:  # row 46, D17
    waiting = await waiting_one(compact_proxy, "/items", prefer="wait=200")
    kafka.produce(compacted, GADGET, key=ITEM, headers=OURS)
    assert (await asyncio.wait_for(waiting, 30)).content == b"[" + GADGET + b"]"
    empty = await get(compact_proxy, "/any/" + compacted, prefer="wait=1")
    assert empty.content == b"[" + GADGET + b"]"


async def test_every_retained_record_is_merged_unless_compacted(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    for number in range(3):
        kafka.produce(snapshots, b"%d" % number, key=ITEM)
    kafka.produce(snapshots, None, key="gone")
    kafka.produce(snapshots, b"", key="empty")
    await eventually(proxy, "/plain/empty", 204)
    await eventually(proxy, f"/plain/{ITEM}", 200)
    expected = b"[2]" if "compact" in snapshots else b"[0,1,2]"
    assert (await get(proxy, "/everything")).content == expected


async def test_what_is_not_json_never_breaks_the_array(compact_proxy: Proxy, kafka: Cluster, compacted: str) -> None:  # D15
    values = [b"{", b"NaN", b'"\xff"', b"1,2", b"", b"[1] [2]", b"\xef\xbb\xbf1", b"[" * 100_000, b"9" * 5000, b' {"a": 1} ']
    for number, value in enumerate(values):
        kafka.produce(compacted, value, key=f"k{number}", partition=0)
    await eventually(compact_proxy, f"/plain/k{len(values) - 1}", 200)
    assert (await get(compact_proxy, "/everything")).content == b"[" + b"9" * 5000 + b', {"a": 1} ]'


async def test_record_headers_cannot_inject_fields(proxy: Proxy, kafka: Cluster, snapshots: str) -> None:
    headers = [("content-type", "text/html\r\nset-cookie: a=b"), ("etag", 'x"\r\nset-cookie: c=d')]
    kafka.produce(snapshots, GADGET, key=ITEM, headers=headers)
    response = await eventually(proxy, f"/plain/{ITEM}", 200)
    assert "set-cookie" not in response.headers
    assert "content-type" not in response.headers
    etag = response.headers["etag"]
    assert "\r" not in etag
    assert "\n" not in etag
    assert (await get(proxy, f"/plain/{ITEM}", if_none_match=etag)).status_code == 304


async def test_a_topic_from_the_path_is_read_on_first_use(proxy: Proxy, kafka: Cluster, topic: TopicFactory) -> None:
    other = topic(name="other")
    kafka.produce(other, b"1", key="a")
    assert (await get(proxy, f"/any/{other}")).content == b"[1]"


async def test_an_unknown_topic_is_503(proxy: Proxy) -> None:
    response = await get(proxy, "/any/there-is-no-such-topic")
    assert response.status_code == 503
    assert "retry-after" in response.headers
    assert response.json()["type"] == "urn:kafkaproxy:problem:topic-unknown-topic"


async def test_a_client_that_leaves_ends_its_wait(proxy: Proxy) -> None:  # rows 29, 48
    waiting = await waiting_one(proxy, f"/items/{ITEM}", prefer="wait=200")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert proxy.runtime.worker.waiting == 0
