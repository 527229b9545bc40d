"""Try a request, see its record among the topics, watch the numbers: in headless Chromium, at two widths."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client
from playwright.async_api import Page, expect

from kafkaproxy import models
from kafkaproxy.serving import runtime
from tests.browser.conftest import OpenPage
from tests.conftest import TopicFactory
from tests.integration.admin_site import make_route
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LONG = "put-an-item-with-a-name-that-is-troublesome-on-a-narrow-screen"


@pytest.fixture
def name(topic: TopicFactory) -> str:
    return topic(name=LONG)


@pytest.fixture
async def serving(
    kafka: Cluster, name: str, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    settings.KAFKAPROXY = {"STORE_DIR": str(tmp_path)}
    routes = [
        fetch("GET /items/{id}", topic=name, filters=[{"key": "${params.id}"}], name="get"),
        produce("PUT /items/{id}", topic=name, key="${params.id}", overrides={"kind": "x" * 90}, name=LONG),
    ]
    one = gateway(*routes, name="shop")
    one = replace(one, entries=(replace(one.entries[0], name="all"),))
    proxy = Proxy(tmp_path, configuration(kafka.bootstrap, one))
    monkeypatch.setattr(runtime, "_runtime", proxy.runtime)
    assert (await proxy.request("GET", "/items/1")).status_code == 404
    yield proxy
    proxy.close()


def _site(bootstrap: str) -> tuple[str, models.Cluster, models.Route]:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    cluster = models.Cluster.objects.create(name="default", bootstrap_servers=bootstrap)
    entry = models.Gateway.objects.create_with_entry(name="shop", cluster=cluster).ensure_entry()
    route = make_route(entry, LONG, conditions=[{"method": "PUT", "path": "/items/{id}"}])
    return client.cookies["sessionid"].value, cluster, route


async def _fits(page: Page) -> bool:
    return bool(await page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
async def test_a_request_is_tried_and_its_record_seen(
    open_page: OpenPage,
    live_server: Any,
    kafka: Cluster,
    name: str,
    serving: Proxy,
    width: int,
    scheme: str,
    wait_until: Callable[..., Any],
) -> None:
    session, cluster, route = await sync_to_async(_site)(kafka.bootstrap)
    page = await open_page(f"{live_server.url}/site/", width=width, scheme=scheme)
    await page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    admin = f"{live_server.url}/admin/kafkaproxy/"

    await page.goto(f"{admin}route/{route.pk}/change/")
    await page.get_by_role("link", name="Try it").click()
    await expect(page.locator("#id_method")).to_have_value("PUT")
    await expect(page.locator("#id_token")).to_be_hidden()
    await page.get_by_label("with a token").check()
    await expect(page.locator("#id_token")).to_be_visible()
    await page.get_by_label("without credentials").check()
    await page.fill("#id_target", "/items/7")
    await page.fill("#id_body", '{"a":"<b>"}')
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".kp-status")).to_contain_text("204")
    await expect(page.locator(".kp-served")).to_have_text(f"{LONG}: serves the request")
    await expect(page.locator(".kp-record pre")).to_have_text('{\n  "a": "<b>"\n}')
    assert await _fits(page)

    await page.goto(f"{admin}cluster/{cluster.pk}/change/")
    await page.get_by_role("link", name="Topics", exact=True).last.click()
    assert await _fits(page)
    await wait_until(lambda: serving.request("GET", "/items/7"))
    await page.get_by_role("link", name=name).click()
    await page.fill("#kp-key", "7")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator(".kp-record dd").first).to_have_text("7")
    assert await _fits(page)

    await page.goto(f"{admin}gateway/")
    await page.get_by_role("link", name="Live").click()
    await expect(page.locator("[data-kp=routes] th", has_text=LONG)).to_be_visible()
    await expect(page.locator("[data-kp=clusters]")).to_contain_text("this process")
    await expect(page.locator("[data-kp=state]")).to_be_hidden()
    assert await _fits(page)


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    async def wait(ask: Callable[[], Any]) -> None:
        for _ in range(100):
            if (await ask()).status_code == 200:
                return
        pytest.fail("it never came")

    return wait
