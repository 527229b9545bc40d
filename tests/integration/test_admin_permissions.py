"""The permissions of the admin: each opens its own pages and no other, and no form is taken from another site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.test import Client

from kafkaproxy import models
from tests.integration.admin_site import Site, make_gateway, make_route
from tests.support.zilla_samples import BASE

pytestmark = pytest.mark.django_db

Ask = Callable[[Site], Any]

CLOSED: Final = 403
PAGES: Final[dict[str, Ask]] = {
    "gateways": lambda site: site.get("gateway", "changelist"),
    "gateway": lambda site: site.get("gateway", "change", models.Gateway.objects.get().pk),
    "new gateway": lambda site: site.get("gateway", "add"),
    "routes": lambda site: site.get("route", "changelist"),
    "route": lambda site: site.get("route", "change", models.Route.objects.get().pk),
    "route is checked": lambda site: site.post("route", "check", models.Route.objects.get().pk, data={}),
    "new route is checked": lambda site: site.post("route", "check_new", data={}),
    "clusters": lambda site: site.get("cluster", "changelist"),
    "cluster": lambda site: site.get("cluster", "change", models.Cluster.objects.get().pk),
    "try": lambda site: site.get("route", "try_any"),
    "try a route": lambda site: site.get("route", "try", models.Route.objects.get().pk),
    "send": lambda site: site.post("route", "try_any", data={}),
    "topics": lambda site: site.get("cluster", "topics", models.Cluster.objects.get().pk),
    "topic": lambda site: site.get("cluster", "topic", models.Cluster.objects.get().pk, "items"),
    "live": lambda site: site.get("gateway", "live"),
    "live numbers": lambda site: site.get("gateway", "live_data"),
    "live events": lambda site: site.get("gateway", "live_events"),
    "import": lambda site: site.get("gateway", "import"),
    "preview": lambda site: site.post("gateway", "import", data={"text": BASE}),
}
OPENS: Final = {
    "view_gateway": {"gateways", "gateway"},
    "change_gateway": {"gateways", "gateway"},
    "add_gateway": {"new gateway"},
    "view_route": {"routes", "route"},
    "change_route": {"routes", "route", "route is checked"},
    "add_route": {"new route is checked"},
    "view_cluster": {"clusters", "cluster"},
    "change_cluster": {"clusters", "cluster"},
    "try_route": {"try", "try a route", "send"},
    "try_route_as_user": set(),
    "browse_topic": {"topics", "topic"},
    "watch_gateway": {"live", "live numbers", "live events"},
    "import_gateway": {"import", "preview"},
}
TOOLS: Final = {
    "try_route": ("Try a request", "route", "try_any"),
    "watch_gateway": ("Live", "gateway", "live"),
    "import_gateway": ("Import a zilla.yaml", "gateway", "import"),
}


@pytest.fixture(autouse=True)
def route(settings: Any, tmp_path: Any) -> models.Route:
    settings.KAFKAPROXY = {"STORE_DIR": str(tmp_path)}
    route = make_route(make_gateway().ensure_entry(), "put", conditions=[{"method": "PUT", "path": "/items/{id}"}])
    models.Cluster.objects.update(bootstrap_servers="${{env.NOT_SET_ANYWHERE}}")
    return route


@pytest.mark.parametrize("permission", OPENS)
def test_a_permission_opens_its_own_pages_and_no_other(permission: str) -> None:
    site = Site([permission])
    answers = {name: ask(site).status_code for name, ask in PAGES.items()}
    assert {name for name, status in answers.items() if status != CLOSED} == OPENS[permission]
    assert set(answers.values()) <= {200, CLOSED, 501}


@pytest.mark.parametrize("permission", TOOLS)
def test_who_may_use_one_tool_only_finds_it_from_the_index(permission: str) -> None:
    title, model, page = TOOLS[permission]
    site = Site([permission])
    index = site.client.get("/admin/").content.decode()
    assert 'href="/admin/kafkaproxy/"' in index
    start = site.client.get("/admin/kafkaproxy/").content.decode()
    assert f'<a href="{site.url(model, page)}">{title}</a>' in start
    assert start.count("<dt>") == 1


def test_who_may_browse_only_finds_the_topics_of_each_cluster() -> None:
    site = Site(["browse_topic"])
    start = site.client.get("/admin/kafkaproxy/").content.decode()
    assert f'<a href="{site.url("cluster", "topics", models.Cluster.objects.get().pk)}">Topics of main</a>' in start


def test_who_has_no_permission_finds_nothing() -> None:
    site = Site([])
    assert "kafkaproxy" not in site.client.get("/admin/").content.decode()
    assert site.client.get("/admin/kafkaproxy/").status_code == 404


def test_no_page_of_a_tool_links_to_a_list_that_is_closed() -> None:
    site = Site(["try_route", "browse_topic", "watch_gateway", "import_gateway"])
    for name in ("try", "try a route", "topics", "topic", "live", "import"):
        page = PAGES[name](site).content.decode()
        for model in ("gateway", "route", "cluster"):
            assert f'href="{site.url(model, "changelist")}"' not in page, name
            assert f'/{model}/1/change/"' not in page, name


def test_who_may_only_import_is_told_of_it_on_the_same_page() -> None:
    site = Site(["import_gateway"])
    text = BASE.replace("name: shop", "name: other")
    seen = site.post("gateway", "import", data={"text": text}).context["form"]["seen"].value()
    response = site.post("gateway", "import", data={"text": text, "seen": seen, "_apply": "Apply"})
    assert response["location"] == site.url("gateway", "import")
    assert [str(each) for each in get_messages(response.wsgi_request)] == ["Imported: 6 changes."]


def test_the_first_steps_are_shown_until_there_is_a_route(route: models.Route) -> None:
    site = Site()
    assert "First steps" not in site.client.get("/admin/kafkaproxy/").content.decode()
    route.delete()
    start = site.client.get("/admin/kafkaproxy/").content.decode()
    assert f'<a href="{site.url("route", "add")}">A route</a>' in start
    assert f'<a href="{site.url("cluster", "add")}">' not in start.partition("kp-tools")[0]  # there is one
    assert site.url("gateway", "import") in start


@pytest.mark.parametrize("model", ["cluster", "gateway", "entry", "route", "guard", "topic"])
def test_an_empty_list_says_what_its_rows_are_for(model: str) -> None:
    models.Gateway.objects.all().delete()
    models.Cluster.objects.all().delete()
    site = Site()
    said = str(site.get(model, "changelist").context["kafkaproxy_empty"])
    assert len(said) > 40
    page = site.get(model, "changelist").content.decode()
    assert said.partition(":")[0] in page
    filtered = site.get(model, "changelist", q="nothing like this").content.decode()
    assert "Nothing here fits." in filtered
    assert said.partition(":")[0] not in filtered


@pytest.mark.parametrize(
    ("model", "page", "has_object"),
    [
        ("route", "try_any", False),
        ("route", "try", True),
        ("route", "add", False),
        ("route", "change", True),
        ("route", "delete", True),
        ("route", "changelist", False),
        ("route", "check", True),
        ("route", "check_new", False),
        ("gateway", "changelist", False),
        ("gateway", "import", False),
    ],
)
def test_no_form_is_taken_from_another_site(route: models.Route, model: str, page: str, has_object: bool) -> None:
    site = Site()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(site.user)
    data = {"text": BASE, "action": "delete_selected", "_selected_action": route.pk, "post": "yes", "method": "GET"}
    response = strict.post(site.url(model, page, *([route.pk] if has_object else [])), data)
    assert response.status_code == CLOSED
    assert b"CSRF" in response.content
    assert models.Route.objects.count() == 1
    assert not LogEntry.objects.exists()
