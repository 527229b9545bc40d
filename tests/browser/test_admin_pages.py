"""The admin in headless Chromium: fields that come and go, a sentence that follows, errors as one types, two widths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from kafkaproxy import models
from tests.integration.admin_site import make_gateway, make_route

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("orm_beside_a_browser"),
]

Open = Callable[..., Any]
LONG = "a-topic-with-a-name-that-is-long-enough-to-be-troublesome-on-a-narrow-screen"


@pytest.fixture
def open_page(orm_beside_a_browser: None, transactional_db: None, chromium: Any, live_server: Any) -> Iterator[Open]:
    """Open pages of the admin as a superuser; fail at the end for any error that the browser reports."""
    contexts: list[Any] = []
    complaints: list[str] = []
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    session = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}

    def opened(path: str, width: int = 1280, scheme: str = "light") -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.add_cookies([session])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url} {request.failure}"))
        page.on("response", lambda answer: complaints.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        page.goto(f"{live_server.url}/admin/kafkaproxy/{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [each for each in complaints if "favicon" not in each and "ERR_ABORTED" not in each] == []


@pytest.fixture
def entry(orm_beside_a_browser: None, transactional_db: None) -> models.Entry:
    return make_gateway().ensure_entry()


def test_a_route_is_made_with_only_the_fields_that_count_a_sentence_and_errors_as_one_types(
    open_page: Open, entry: models.Entry
) -> None:
    page = open_page("route/add/")
    headings = "fieldset:visible > h2"
    assert [text.lower() for text in page.locator(headings).all_inner_texts()] == ["conditions", "guards"]

    page.get_by_label("fetch: GET serves records").check()
    assert [text.lower() for text in page.locator(headings).all_inner_texts()] == ["fetch", "conditions", "filters", "guards"]

    page.get_by_label("produce: requests become records").check()
    assert [text.lower() for text in page.locator(headings).all_inner_texts()] == ["produce", "conditions", "overrides", "guards"]
    assert not page.locator("#id_timeout").is_visible()

    page.fill("#id_name", "put-item")
    page.fill("#id_topic", "items-requests")
    page.fill("#id_key", "${params.id}")
    page.fill("#id_reply_to", "items-responses")
    assert page.locator("#id_timeout").is_visible()
    page.fill("#id_conditions-0-method", "PUT")
    page.fill("#id_conditions-0-path", "/items/{nr}")
    page.locator(".field-key .errorlist", has_text="${params.id} is unknown").wait_for()
    assert page.locator("#id_key").get_attribute("aria-invalid") == "true"

    page.fill("#id_conditions-0-path", "/items/{id}")
    said = "PUT /items/{id} → topic items-requests, key = id, waits for items-responses"
    page.locator("#kp-sentence", has_text=said).wait_for()
    assert page.locator(".errorlist").count() == 0
    assert page.locator("#id_key").get_attribute("aria-invalid") is None

    page.get_by_role("link", name="Add another Override").click()
    page.fill("#id_overrides-0-name", "kind")
    page.fill("#id_overrides-0-value", "${params.kind}")
    page.locator("#overrides-0 td.field-value .errorlist", has_text="${params.kind}").wait_for()
    assert not models.Route.objects.exists()

    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("#overrides-0 td.field-value .errorlist", has_text="${params.kind}").wait_for()
    page.fill("#id_overrides-0-value", "item")
    page.locator("#overrides-0 td.field-value .errorlist").wait_for(state="detached")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("td.field-does", has_text=said).wait_for()
    assert models.Route.objects.get().overrides.get().value == "item"


def test_what_another_capability_would_lose_stays_in_sight(open_page: Open, entry: models.Entry) -> None:
    route = make_route(entry, "put", key="${params.id}", conditions=[{"path": "/{id}"}], overrides=[{"name": "a"}])
    page = open_page(f"route/{route.pk}/change/")
    page.get_by_label("stream: GET opens an event stream (SSE)").check()

    page.locator(".field-key .errorlist", has_text="Only a produce route has this").wait_for()
    page.locator("#overrides-group .errorlist", has_text="remove them").wait_for()
    page.fill("#id_key", "")
    page.locator("#id_key").wait_for(state="hidden")
    assert page.locator("#overrides-group").is_visible()


def test_a_select_box_that_searches_is_followed_too(open_page: Open, entry: models.Entry) -> None:
    guard = models.Guard.objects.create(name="jwt")
    route = make_route(entry, "put")
    page = open_page(f"route/{route.pk}/change/")
    page.get_by_role("link", name="Add another Guard").click()
    page.locator("#guarded-0 .select2-selection").click()
    page.locator(".select2-results__option", has_text=guard.name).click()
    page.locator("#kp-sentence", has_text="only for jwt").wait_for()


def test_a_route_is_made_with_the_keyboard_alone(open_page: Open, entry: models.Entry) -> None:
    page = open_page("route/add/")
    page.locator("#id_name").focus()
    page.keyboard.type("list")
    for _key in range(3):  # enabled, position, capability
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")  # of three radio buttons, the second
    page.locator("#id_merge").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("items")
    page.locator("#id_merge").focus()
    page.keyboard.press("Space")
    page.locator("#kp-sentence", has_text="all records of items as one JSON array").wait_for()
    page.keyboard.press("Enter")
    page.locator("td.field-does", has_text="all records of items").wait_for()
    assert models.Route.objects.get().merge


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")])
def test_no_page_is_wider_than_the_screen(open_page: Open, entry: models.Entry, width: int, scheme: str) -> None:
    guard = models.Guard.objects.create(name="jwt", options={"issuer": f"https://{LONG}.example"})
    entry.conditions.create(path=f"/{LONG}/*", authority=f"{LONG}:443", headers={"x-env": LONG})
    conditions = [{"method": "PUT", "path": f"/{LONG}/{{id}}"}]
    route = make_route(entry, LONG, topic=LONG, key="${params.id}", conditions=conditions, overrides=[{"name": "a", "value": LONG}])
    route.guarded.create(guard=guard, roles=[LONG])
    make_route(entry, "get", "fetch", topic=LONG, filters=[{"headers": {"kind": LONG}}])
    cluster = entry.gateway.cluster
    cluster.topics.create(name=LONG)
    paths = [
        *("gateway/", "entry/", "route/", "cluster/", "topic/", "guard/"),
        *(f"gateway/{entry.gateway.pk}/change/", f"entry/{entry.pk}/change/", f"route/{route.pk}/change/"),
        *(f"cluster/{cluster.pk}/change/", f"guard/{guard.pk}/change/", "route/add/", "gateway/add/"),
    ]
    page = open_page("", width, scheme)
    wide = {}
    for path in paths:
        page.goto(page.url.split("/admin/")[0] + f"/admin/kafkaproxy/{path}")
        overflow = page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
        if overflow > 0:
            wide[path] = overflow
    assert wide == {}


def test_the_columns_of_a_row_are_named_where_they_stand_below_each_other(open_page: Open, entry: models.Entry) -> None:
    route = make_route(entry, "put", conditions=[{"path": "/items"}])
    page = open_page(f"route/{route.pk}/change/", 400)
    cell = page.locator("#conditions-0 td.field-path")
    label = cell.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label == '"Path"'
    method, path = page.locator("#conditions-0 td.field-method").bounding_box(), cell.bounding_box()
    assert path["y"] >= method["y"] + method["height"]
