"""The live page: which users may watch, what it says, and that it holds no database connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import AsyncClient
from django.urls import reverse

from kafkaproxy import metrics
from kafkaproxy.admin.pages import live
from kafkaproxy.metrics import BROKER_UP, RECORDS, RESPONSES
from kafkaproxy.serving import runtime
from tests.conftest import TopicFactory
from tests.integration.admin_site import Site
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce

PAGES = ["live", "live_data", "live_events"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_answers", {})
    for metric in (RESPONSES, RECORDS, BROKER_UP):
        monkeypatch.setattr(metric, "cells", {})


@pytest.fixture
def proxy(kafka: Cluster, topic: TopicFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    name = topic(name="live")
    routes = [
        fetch("GET /items/{id}", topic=name, filters=[{"key": "${params.id}"}], name="get"),
        produce("PUT /items/{id}", topic=name, key="${params.id}", name="put"),
    ]
    made = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(*routes, name="shop")))
    monkeypatch.setattr(runtime, "_runtime", made.runtime)
    yield made
    made.close()


async def _poller(*permissions: str) -> AsyncClient:
    user = await User.objects.acreate(username="watcher", is_staff=True)
    await user.user_permissions.aset([each async for each in Permission.objects.filter(codename__in=permissions)])
    client = AsyncClient()
    await client.aforce_login(user)
    return client


@pytest.mark.django_db
@pytest.mark.parametrize("page", PAGES)
def test_nobody_watches_without_the_permission(page: str) -> None:
    assert Site(["view_gateway", "change_gateway", "browse_topic", "try_route"]).get("gateway", page).status_code == 403


@pytest.mark.django_db
def test_without_asgi_the_page_asks_instead_of_listening() -> None:
    site = Site(["watch_gateway"])
    assert site.get("gateway", "live_events").status_code == 501
    assert {"streams", "waiting", "routes"} <= site.get("gateway", "live_data").json().keys()
    assert b"live.js" in site.get("gateway", "live").content


@pytest.mark.django_db(transaction=True)
async def test_events_tell_what_happens(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_SECONDS", 0.01)
    client = await _poller("watch_gateway")
    assert (await proxy.request("GET", "/items/1")).status_code == 404
    response: Any = await client.get(reverse("admin:kafkaproxy_gateway_live_events"))
    assert (response.status_code, response["content-type"]) == (200, "text/event-stream")
    assert "no-store" in response["cache-control"]

    events = aiter(response.streaming_content)
    assert await anext(events) == b"retry: 1000\n\n"
    first = _data(await anext(events))
    assert first["routes"] == [
        {"gateway": "shop", "route": "get", "capability": "fetch", "2xx": 0, "3xx": 0, "4xx": 1, "5xx": 0}
    ]
    (cluster,) = first["clusters"]
    assert (cluster["name"], cluster["own"], cluster["broker"], cluster["topics"], cluster["ready"]) == (
        "default",
        True,
        1,
        1,
        1,
    )
    assert (cluster["error"], cluster["errors"]) == ("", [])

    assert (await proxy.request("PUT", "/items/1", content=b"x")).status_code == 204
    second = _data(await anext(events))
    assert (second["produced"] - first["produced"], second["responses"] - first["responses"]) == (1, 1)
    assert second["at"] > first["at"]

    proxy.runtime.streams.draining = True
    assert [each async for each in events] == []


def _data(event: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
    return found


@pytest.mark.django_db(transaction=True)
async def test_no_database_connection_is_held(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    from asgiref.sync import sync_to_async

    monkeypatch.setattr(live, "_SECONDS", 0.01)
    client = await _poller("watch_gateway")
    response: Any = await client.get(reverse("admin:kafkaproxy_gateway_live_events"))
    events = aiter(response.streaming_content)
    for _ in range(3):
        await anext(events)
    held = await sync_to_async(lambda: [each.alias for each in connections.all() if each.connection is not None])()
    await events.aclose()
    assert held == []


@pytest.mark.django_db(transaction=True)
async def test_a_page_has_to_come_back_and_is_looked_at_again(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_LONGEST", 0.0)
    client = await _poller("watch_gateway")
    url = reverse("admin:kafkaproxy_gateway_live_events")
    response: Any = await client.get(url)
    assert [each async for each in response.streaming_content] == [b"retry: 1000\n\n"]
    await User.objects.filter(username="watcher").aupdate(is_active=False)
    assert (await client.get(url)).status_code == 302
