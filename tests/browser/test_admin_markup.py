"""Markup in names, paths, keys, headers and values stays text, on every page of the admin, also where a script shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
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

EVIL: Final = """"'></textarea></script><script>window.hit=1</script><img src=x onerror="window.hit=1">"""
_FOUND: Final = "window.hit !== undefined || document.querySelector('img[src=x]') !== null"


@pytest.fixture
async def serving(
    kafka: Cluster, topic: TopicFactory, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """A route whose every part is markup is in service; yields its topic, which holds such a record."""
    settings.KAFKAPROXY = {"STORE_DIR": str(tmp_path)}
    name = topic(name="markup")
    routes = [
        fetch("GET /items/{id}", topic=name, filters=[{"key": "${params.id}"}], name=f"get{EVIL}"),
        produce("PUT /items/{id}", topic=name, key="${params.id}", overrides={"x": EVIL}, name=f"put{EVIL}"),
    ]
    one = gateway(*routes, name=f"shop{EVIL}")
    one = replace(one, entries=(replace(one.entries[0], name=f"all{EVIL}"),))
    kafka.produce(name, f'{{"a":"{EVIL}"}}'.encode(), key=EVIL, headers=[(EVIL, EVIL.encode()), ("plain", None)])
    kafka.produce(name, EVIL.encode(), key=b"\xff" + EVIL.encode())
    proxy = Proxy(tmp_path, configuration(kafka.bootstrap, one))
    monkeypatch.setattr(runtime, "_runtime", proxy.runtime)
    assert (await proxy.request("GET", "/items/nobody")).status_code == 404
    yield name
    proxy.close()


def _rows(bootstrap: str) -> dict[str, Any]:
    """Make rows that no form would take; the database may have them from elsewhere."""
    cluster = models.Cluster.objects.create(name="default", bootstrap_servers=bootstrap)
    cluster.topics.create(name=EVIL)
    guard = models.Guard.objects.create(name=EVIL, options={"issuer": EVIL, "audience": EVIL})
    made = models.Gateway.objects.create_with_entry(name=EVIL, cluster=cluster, credentials_headers={EVIL: EVIL})
    entry = made.ensure_entry()
    models.Entry.objects.update(name=EVIL)
    entry.conditions.create(path=EVIL, headers={EVIL: EVIL})
    entry.guarded.create(guard=guard, roles=[EVIL])
    rows = {"conditions": [{"method": EVIL, "path": EVIL}], "overrides": [{"name": EVIL, "value": EVIL}]}
    route = make_route(entry, EVIL, topic=EVIL, key=EVIL, **rows)
    make_route(entry, f"{EVIL}2", topic=EVIL, key=EVIL, conditions=rows["conditions"])
    route.guarded.create(guard=guard, roles=[EVIL])
    return {"cluster": cluster, "guard": guard, "gateway": made, "entry": entry, "route": route}


def _prepare(bootstrap: str) -> tuple[str, dict[str, Any]]:
    boss = User.objects.create_superuser(EVIL[:150])
    client = Client()
    client.force_login(boss)
    rows = _rows(bootstrap)
    kind = ContentType.objects.get_for_model(models.Route)
    LogEntry.objects.create(
        user=boss,
        content_type=kind,
        object_id=str(rows["route"].pk),
        object_repr=EVIL,
        action_flag=ADDITION,
        change_message=EVIL,
    )
    return client.cookies["sessionid"].value, rows


def _pages(rows: dict[str, Any], topic: str) -> list[str]:
    own = [f"{model}/{row.pk}/{page}/" for model, row in rows.items() for page in ("change", "history", "delete")]
    lists = [f"{model}/" for model in (*rows, "topic")]
    tools = [f"route/{rows['route'].pk}/try/", "route/try/", "gateway/import/", "gateway/live/"]
    topics = [f"cluster/{rows['cluster'].pk}/topics/", f"cluster/{rows['cluster'].pk}/topics/{topic}/"]
    return ["", *own, *lists, *tools, *topics, f"{topics[1]}?key=%3Cimg%20src=x%20onerror=%22window.hit=1%22%3E"]


async def test_markup_stays_text_on_every_page(open_page: OpenPage, live_server: Any, kafka: Cluster, serving: str) -> None:
    session, rows = await sync_to_async(_prepare)(kafka.bootstrap)
    page = await open_page(f"{live_server.url}/site/")
    await page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    admin = f"{live_server.url}/admin/kafkaproxy/"
    found = []
    for path in _pages(rows, serving):
        response = await page.goto(f"{admin}{path}")
        assert response is not None
        assert response.status == 200, path
        if await page.evaluate(_FOUND):
            found.append(path)
    assert found == []
    await _check_what_scripts_show(page, admin, rows)
    await _check_trials(page, admin)
    await _check_imports(page, admin)


async def _check_what_scripts_show(page: Page, admin: str, rows: dict[str, Any]) -> None:
    await page.goto(f"{admin}route/{rows['route'].pk}/change/")
    await page.fill("#id_topic", f"{EVIL}${{params.{EVIL}}}")
    await expect(page.locator(".field-topic .errorlist")).to_be_visible()
    await expect(page.locator("#kp-sentence")).to_contain_text("<script>")
    assert not await page.evaluate(_FOUND)
    await page.goto(f"{admin}gateway/live/")
    await expect(page.locator("[data-kp=routes]")).to_contain_text(f"get{EVIL}")
    assert not await page.evaluate(_FOUND)


async def _check_trials(page: Page, admin: str) -> None:
    await page.goto(f"{admin}route/try/")
    one_segment = EVIL.replace(" ", "%20").replace("/", "%2F")
    for name, value in {"method": "PUT", "target": f"/items/{one_segment}", "body": EVIL}.items():
        await page.fill(f"#id_{name}", value)
    await page.fill("#id_fields_text", f"x-evil: {EVIL}")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".kp-served")).to_contain_text(f"put{EVIL}")
    await expect(page.locator(".kp-value")).to_have_text(EVIL)
    assert not await page.evaluate(_FOUND)


async def _check_imports(page: Page, admin: str) -> None:
    await page.goto(f"{admin}gateway/import/")
    await page.fill("#id_text", f"name: |\n  {EVIL}\nbindings:\n  {EVIL!r}:\n    type: {EVIL!r}\n")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    assert not await page.evaluate(_FOUND)
