"""The metrics, and their text format for Prometheus."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from kafkaproxy import metrics
from kafkaproxy.metrics import BROKER_UP, RECORDS, RESPONSES, Metric
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce

LINE = re.compile(r'kafkaproxy_[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)*\})? -?\d+')


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_answers", {})
    for metric in (RESPONSES, RECORDS, BROKER_UP):
        monkeypatch.setattr(metric, "cells", {})


def _counts(metric: Metric) -> dict[tuple[str, ...], int]:
    return {labels: cell.value for labels, cell in metric.cells.items() if cell.value}


def test_every_line_is_as_prometheus_reads_it() -> None:
    metrics.answers("shop", "get", "fetch")[2].value += 3
    RECORDS.cell('a"b\\c\nd', "acknowledged").value += 1
    lines = metrics.render(streams=2, waiting=1).splitlines()
    assert [line for line in lines if not line.startswith("#") and not LINE.fullmatch(line)] == []
    assert 'kafkaproxy_responses_total{gateway="shop",route="get",capability="fetch",status="2xx"} 3' in lines
    assert 'kafkaproxy_records_produced_total{cluster="a\\"b\\\\c\\nd",outcome="acknowledged"} 1' in lines
    assert "kafkaproxy_streams_open 2" in lines
    assert "kafkaproxy_requests_waiting 1" in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert sum(line.startswith("# HELP") for line in lines) == len(names)


@pytest.mark.parametrize(("status", "counted"), [(200, "2xx"), (304, "3xx"), (404, "4xx"), (503, "5xx"), (999, "5xx")])
async def test_a_response_counts_once_by_its_class(status: int, counted: str) -> None:
    passed_on: list[Any] = []

    async def send(message: Any) -> None:
        passed_on.append(message)

    counting = metrics.counting(send, metrics.answers("g", "r", "fetch"))
    messages = [{"type": "http.response.start", "status": status, "headers": []}, {"type": "http.response.body", "body": b""}]
    for message in messages:
        await counting(message)

    assert passed_on == messages
    assert _counts(RESPONSES) == {("g", "r", "fetch", counted): 1}


@pytest.mark.urls("kafkaproxy.urls")
def test_the_page_is_text_that_is_not_kept() -> None:
    answer = Client().get("/metrics")
    assert (answer.status_code, answer["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "no-store" in answer["cache-control"]
    assert b"kafkaproxy_streams_open 0" in answer.content
    assert Client().post("/metrics").status_code == 405


def test_a_site_has_no_such_page_unless_it_includes_it() -> None:
    assert b"kafkaproxy_" not in Client().get("/metrics").content


def test_every_metric_is_in_the_how_to() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/watch.md").read_text()
    names = [line.split()[2] for line in metrics.render(streams=0, waiting=0).splitlines() if line.startswith("# TYPE")]
    assert re.findall(r"^\| `(kafkaproxy_\w+)`", page, re.MULTILINE) == names


async def test_requests_and_records_are_counted_by_route_and_never_by_path(
    kafka: Cluster, topic: TopicFactory, tmp_path: Path, produce: Callable[..., Any]
) -> None:
    from tests.support.proxy import produce as produce_route

    name = topic()
    routes = [
        fetch("GET /items/{id}", topic=name, filters=[{"key": "${params.id}"}], name="get"),
        produce_route("PUT /items/{id}", topic=name, key="${params.id}", name="put"),
        fetch("GET /closed", topic=name, guarded={"nobody": []}, name="closed"),
    ]
    proxy = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(*routes, name="shop")))
    try:
        assert (
            await proxy.request("GET", "/items/2")
        ).status_code == 404  # from here on the request sees what this process writes
        assert (await proxy.request("PUT", "/items/1", content=b"x")).status_code == 204
        for _ in range(3):  # the first response, and those from the cache
            answer = await proxy.request("GET", "/items/1")
            assert answer.status_code == 200
        unchanged = await proxy.request("GET", "/items/1", headers={"if-none-match": answer.headers["etag"]})
        assert unchanged.status_code == 304
        assert (await proxy.request("POST", "/items/2")).status_code == 405
        assert (await proxy.request("GET", "/closed")).status_code == 401
        assert (await proxy.request("GET", "/elsewhere")).status_code == 299
    finally:
        proxy.close()

    assert _counts(RESPONSES) == {
        ("shop", "put", "produce", "2xx"): 1,
        ("shop", "get", "fetch", "2xx"): 3,
        ("shop", "get", "fetch", "3xx"): 1,
        ("shop", "get", "fetch", "4xx"): 1,
        ("shop", "", "", "4xx"): 2,
    }
    assert _counts(RECORDS) == {("default", "acknowledged"): 1}
    assert _counts(BROKER_UP) == {("default",): 1}
    assert "/items" not in metrics.render(streams=0, waiting=0)


async def test_cached_responses_are_counted_too(
    kafka: Cluster, topic: TopicFactory, tmp_path: Path, produce: Callable[..., Any]
) -> None:
    name = topic()
    produce(name, b"x", key="1")
    proxy = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(fetch("/{id}", topic=name, filters=[{"key": "1"}]))))
    try:
        table = proxy.runtime.table
        assert table is not None
        scope = {"method": "GET", "raw_path": b"/1", "scheme": "https", "headers": [(b"host", b"example.com:9090")]}
        asked = 0
        while table.response_cache.find(scope) is None:  # not before the topic was still for a moment
            answer = await proxy.request("GET", "/1")
            asked += 1
            assert asked < 1000
        await proxy.request("GET", "/1")
        await proxy.request("GET", "/1", headers={"if-none-match": answer.headers["etag"]})
    finally:
        proxy.close()
    kept = ("gateway", "fetch", "fetch")
    assert _counts(RESPONSES) == {(*kept, "2xx"): asked + 1, (*kept, "3xx"): 1}


async def test_records_that_are_not_acknowledged_are_counted_by_reason(kafka: Cluster, tmp_path: Path) -> None:
    route = produce("POST /items", topic="a-topic-that-nobody-made")
    proxy = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(route)))
    try:
        assert (await proxy.request("POST", "/items")).status_code == 503
    finally:
        proxy.close()
    assert _counts(RECORDS) == {("default", "unknown_topic"): 1}
    assert _counts(RESPONSES) == {("gateway", "produce", "produce", "5xx"): 1}
