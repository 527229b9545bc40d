"""The admin in headless Chromium: fields that come and go, a sentence that follows, errors as one types, two widths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.async_api import Page, expect

from kafkaproxy import models
from tests.browser.conftest import OpenPage
from tests.integration.admin_site import Site, make_gateway, make_route

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

OpenAdmin = Callable[..., Awaitable[Page]]
LONG = "a-name-that-is-long-enough-to-be-troublesome-on-a-narrow-screen"
ERROR = ".errorlist"


@pytest.fixture
def session(transactional_db: None) -> str:
    """The session cookie of a superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client.cookies["sessionid"].value


@pytest.fixture
def open_admin(open_page: OpenPage, live_server: Any, session: str) -> OpenAdmin:
    """Open a page of the admin."""

    async def opened(path: str, **options: Any) -> Page:
        page = await open_page(f"{live_server.url}/site/", **options)
        await page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        await page.goto(f"{live_server.url}/admin/kafkaproxy/{path}")
        return page

    return opened


@pytest.fixture
def entry(transactional_db: None) -> models.Entry:
    return make_gateway().ensure_entry()


@pytest.fixture
def put(entry: models.Entry) -> models.Route:
    fields = {"key": "${params.id}", "conditions": [{"path": "/items/{id}"}], "overrides": [{"name": "kind", "value": "x"}]}
    return make_route(entry, "put", **fields)


@pytest.fixture
def guard(transactional_db: None) -> models.Guard:
    return models.Guard.objects.create(name="jwt", options={"issuer": f"https://{LONG}.example"})


@pytest.fixture
def onlooker(transactional_db: None) -> str:
    """The session cookie of a user with view permissions only."""
    return Site(["view_route", "view_condition"]).client.cookies["sessionid"].value


@pytest.fixture
def crowded(entry: models.Entry, guard: models.Guard) -> list[str]:
    """The pages of a configuration whose names are too long for a screen."""
    entry.conditions.create(path=f"/{LONG}/*", authority=f"{LONG}:443", headers={"x-env": LONG})
    conditions = [{"method": "PUT", "path": f"/{LONG}/{{id}}"}]
    route = make_route(entry, LONG, topic=LONG, conditions=conditions, overrides=[{"name": "a", "value": LONG}])
    route.guarded.create(guard=guard, roles=[LONG])
    make_route(entry, "get", "fetch", topic=LONG, filters=[{"headers": {"kind": LONG}}])
    cluster = entry.gateway.cluster
    cluster.topics.create(name=LONG)
    changed = {"gateway": entry.gateway, "entry": entry, "route": route, "cluster": cluster, "guard": guard}
    pages = [f"{model}/{row.pk}/change/" for model, row in changed.items()]
    return [*pages, *(f"{model}/" for model in (*changed, "topic")), "route/add/", "gateway/add/", "cluster/add/"]


async def _headings(page: Page) -> list[str]:
    return [text.lower() for text in await page.locator("#route_form fieldset:visible > h2").all_inner_texts()]


async def test_a_route_shows_only_the_fields_of_its_capability(open_admin: OpenAdmin, entry: models.Entry) -> None:
    page = await open_admin("route/add/")
    assert await _headings(page) == ["conditions", "guards"]

    await page.get_by_label("fetch: GET serves records").check()
    assert await _headings(page) == ["fetch", "conditions", "filters", "guards"]

    await page.get_by_label("stream: GET opens an event stream").check()
    assert await _headings(page) == ["stream", "conditions", "filters", "guards"]
    await expect(page.locator("#id_start_timestamp_0")).to_be_hidden()
    await page.select_option("#id_start", "timestamp")
    await expect(page.locator("#id_start_timestamp_0")).to_be_visible()

    await page.get_by_label("produce: requests become records").check()
    assert await _headings(page) == ["produce", "conditions", "overrides", "guards"]
    await expect(page.locator("#id_timeout")).to_be_hidden()
    await page.fill("#id_reply_to", "replies")
    await expect(page.locator("#id_timeout")).to_be_visible()
    assert await _headings(page) == ["produce", "conditions", "overrides", "async fields", "guards"]


async def test_a_sentence_and_errors_follow_what_one_types(open_admin: OpenAdmin, entry: models.Entry) -> None:
    page = await open_admin("route/add/")
    await page.get_by_label("produce: requests become records").check()
    fields = {"name": "put-item", "topic": "items-requests", "key": "${params.id}", "reply_to": "items-responses"}
    fields |= {"conditions-0-method": "PUT", "conditions-0-path": "/items/{nr}"}
    for name, value in fields.items():
        await page.fill(f"#id_{name}", value)
    await expect(page.locator(".field-key .errorlist")).to_contain_text("${params.id} is unknown")
    await expect(page.locator("#id_key")).to_have_attribute("aria-invalid", "true")

    await page.fill("#id_conditions-0-path", "/items/{id}")
    said = "PUT /items/{id} → topic items-requests, key = id, waits for items-responses"
    await expect(page.locator("#kp-sentence")).to_have_text(said)
    await expect(page.locator(ERROR)).to_have_count(0)
    await expect(page.locator("#id_key")).not_to_have_attribute("aria-invalid", "true")

    await page.get_by_text("Add another Override").click()
    await page.fill("#id_overrides-0-name", "kind")
    await page.fill("#id_overrides-0-value", "${params.kind}")
    at_value = page.locator("#overrides-0 td.field-value .errorlist")
    await expect(at_value).to_contain_text("${params.kind} is unknown")

    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator(".errornote")).to_be_visible()
    await expect(at_value).to_contain_text("${params.kind} is unknown")
    await page.fill("#id_overrides-0-value", "item")
    await expect(at_value).to_have_count(0)
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#result_list td.field-does")).to_have_text(said)


async def test_what_another_capability_would_lose_stays_in_sight(open_admin: OpenAdmin, put: models.Route) -> None:
    page = await open_admin(f"route/{put.pk}/change/")
    await page.get_by_label("stream: GET opens an event stream").check()

    await expect(page.locator(".field-key .errorlist")).to_contain_text("Only a produce route has this")
    await expect(page.locator("#overrides-group .errorlist")).to_be_visible()
    await page.fill("#id_key", "")
    await expect(page.locator("#id_key")).to_be_hidden()
    await expect(page.locator("#overrides-group")).to_be_visible()


async def test_a_select_box_that_searches_is_followed_too(
    open_admin: OpenAdmin, put: models.Route, guard: models.Guard
) -> None:
    page = await open_admin(f"route/{put.pk}/change/")
    await page.get_by_text("Add another Guard").click()
    await page.locator("#guarded-0 .select2-selection").click()
    await page.locator(".select2-results__option", has_text="jwt").click()
    await expect(page.locator("#kp-sentence")).to_contain_text("only for jwt")


async def test_a_route_is_made_with_the_keyboard_alone(open_admin: OpenAdmin, entry: models.Entry) -> None:
    page = await open_admin("route/add/")
    await page.locator("#id_name").focus()
    await page.keyboard.type("list")
    for _key in ("enabled", "position", "capability"):
        await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    await page.keyboard.press("ArrowDown")  # of three radio buttons, the second
    await expect(page.locator("#id_merge")).to_be_visible()
    await page.keyboard.press("Tab")
    await page.keyboard.type("items")
    while await page.evaluate("document.activeElement.id") != "id_merge":
        await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    said = "GET any path → all records of items as one JSON array"
    await expect(page.locator("#kp-sentence")).to_have_text(said)
    await page.keyboard.press("Enter")
    await expect(page.locator("#result_list td.field-does")).to_have_text(said)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
async def test_no_page_is_wider_than_the_screen(
    open_admin: OpenAdmin, live_server: Any, crowded: list[str], width: int, scheme: str
) -> None:
    page = await open_admin("", width=width, scheme=scheme)
    too_wide = {}
    for path in crowded:
        await page.goto(f"{live_server.url}/admin/kafkaproxy/{path}")
        over = await page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
        if over > 0:
            too_wide[path] = over
    assert too_wide == {}


@pytest.mark.parametrize("width", [1280, 400])
async def test_a_list_hides_none_of_its_columns(
    open_admin: OpenAdmin, live_server: Any, put: models.Route, guard: models.Guard, width: int
) -> None:
    page = await open_admin("", width=width)
    hidden = {}
    for model in ("route", "entry", "gateway", "cluster", "guard"):
        await page.goto(f"{live_server.url}/admin/kafkaproxy/{model}/")
        over = await page.locator("#changelist .results").evaluate("list => list.scrollWidth - list.clientWidth")
        if over > 0:
            hidden[model] = over
    assert hidden == {}


async def test_columns_of_a_list_are_named_on_a_narrow_screen(open_admin: OpenAdmin, put: models.Route) -> None:
    page = await open_admin("gateway/", width=400)
    position = page.locator("#result_list td.field-position")
    assert "Position" in await position.evaluate("cell => getComputedStyle(cell, '::before').content")
    await expect(page.locator("#result_list thead")).to_be_hidden()


async def test_columns_are_named_where_they_stand_below_each_other(open_admin: OpenAdmin, put: models.Route) -> None:
    page = await open_admin(f"route/{put.pk}/change/", width=400)
    cell = page.locator("#conditions-0 td.field-path")
    assert await cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Path"'
    method, path = await page.locator("#conditions-0 td.field-method").bounding_box(), await cell.bounding_box()
    assert method is not None
    assert path is not None
    assert path["y"] >= method["y"] + method["height"]


async def test_a_view_only_page_checks_nothing(open_page: OpenPage, live_server: Any, put: models.Route, onlooker: str) -> None:
    page = await open_page(f"{live_server.url}/site/")
    await page.context.add_cookies([{"name": "sessionid", "value": onlooker, "url": live_server.url}])
    await page.goto(f"{live_server.url}/admin/kafkaproxy/route/{put.pk}/change/")
    await expect(page.locator("#kp-sentence")).to_contain_text("topic items, key = id")
    await expect(page.locator(".field-key .readonly")).to_have_text("${params.id}")
