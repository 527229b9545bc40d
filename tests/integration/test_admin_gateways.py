"""The admin of gateways and entries, and the actions that switch and copy them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry

from kafkaproxy import models
from kafkaproxy.routing.live import live
from tests.integration.admin_site import Site, add_row, make_gateway, make_route

pytestmark = pytest.mark.django_db


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def shop() -> models.Gateway:
    """A gateway with some of everything."""
    guard = models.Guard.objects.create(name="jwt")
    gateway = make_gateway(guard=guard, credentials_headers={"authorization": "Bearer {credentials}"})
    models.AccessControl.objects.create(gateway=gateway, policy="cross-origin", allow_origins=["https://a.example"])
    entry = gateway.ensure_entry()
    entry.conditions.create(path="/api/*", headers={"x-env": "prod"})
    entry.guarded.create(guard=guard, roles=["user"])
    put = make_route(
        entry,
        "put",
        key="${params.id}",
        reply_to="replies",
        conditions=[{"method": "PUT", "path": "/items/{id}"}],
        overrides=[{"name": "a", "value": "1"}, {"name": "b", "value": "2"}],
        async_fields=[{"value": "/items/${params.id};cid=${correlationId}"}],
    )
    put.guarded.create(guard=guard, roles=["writer"])
    make_route(entry, "get", "fetch", conditions=[{"path": "/items/{id}"}], filters=[{"key": "${params.id}"}])
    gateway.entries.create(name="rest", enabled=False)
    return gateway


def _shape(gateway: models.Gateway) -> Any:
    """Everything below a gateway, without what tells a copy from its original."""
    rows = models.Override, models.Condition, models.Filter, models.AsyncField, models.RouteGuard
    found: list[Any] = [list(models.AccessControl.objects.filter(gateway=gateway).values("policy", "allow_origins"))]
    for entry in gateway.entries.all():
        found.append((entry.name, entry.enabled, entry.position))
        found.append(list(entry.conditions.values("path", "headers", "level", "position")))
        found.append(list(entry.guarded.values("guard", "roles")))
        for route in entry.routes.all():
            found.append((route.name, route.enabled, route.position, route.topic, route.key, route.reply_to))
            for model in rows:
                values = [each.name for each in model._meta.concrete_fields if each.name not in ("id", "route")]
                found.append(list(model.objects.filter(route=route).order_by("pk").values(*values)))
    return found


def test_a_new_gateway_gets_the_entry_that_matches_everything(site: Site) -> None:
    cluster = models.Cluster.objects.create(name="main", bootstrap_servers="localhost:9092")
    site.save("gateway", "add", data=site.form("gateway", "add") | {"name": "shop", "cluster": cluster.pk})

    entry = models.Entry.objects.get()
    assert (entry.gateway.name, entry.name, entry.enabled, entry.conditions.count()) == ("shop", "all", True, 0)


def test_saving_a_gateway_again_makes_no_entry(site: Site, shop: models.Gateway) -> None:
    shop.entries.all().delete()
    site.save("gateway", "change", shop.pk, data=site.form("gateway", "change", shop.pk))
    assert not shop.entries.exists()


def test_lists_and_mappings_are_edited_as_lines(site: Site, shop: models.Gateway) -> None:
    data = site.form("gateway", "change", shop.pk)
    assert data["credentials_headers"] == "authorization: Bearer {credentials}"
    assert data["access_control-0-allow_origins"] == "https://a.example"

    data |= {
        "credentials_headers": "authorization: Bearer {credentials}\r\nx-token: {credentials}",
        "forwarded_fields": "accept\n\n  content-type  ",
        "access_control-0-allow_origins": "",
        "access_control-0-allow_methods": "GET\nPUT",
    }
    site.save("gateway", "change", shop.pk, data=data)

    shop.refresh_from_db()
    assert shop.credentials_headers == {"authorization": "Bearer {credentials}", "x-token": "{credentials}"}
    assert shop.forwarded_fields == ["accept", "content-type"]
    assert shop.dropped_fields == []
    assert (shop.access_control.allow_origins, shop.access_control.allow_methods) == (None, ["GET", "PUT"])

    site.save("gateway", "change", shop.pk, data=site.form("gateway", "change", shop.pk) | {"forwarded_fields": ""})
    shop.refresh_from_db()
    assert shop.forwarded_fields is None


def test_wrong_lines_are_named(site: Site, shop: models.Gateway) -> None:
    data = site.form("gateway", "change", shop.pk) | {
        "forwarded_fields": "accept\nnot a field",
        "credentials_headers": "x-token {credentials}\nx-a: {credentials}\nx-a: {credentials}",
        "access_control-0-allow_methods": "GET\nPUT POST",
    }
    errors = site.errors(site.post("gateway", "change", shop.pk, data=data))
    starts = {name: [message.split(":")[0] for message in messages] for name, messages in errors.items()}
    assert starts == {
        "forwarded_fields": ["Line 2"],
        "credentials_headers": ["Line 1", "Line 3"],
        "access_control-0-allow_methods": ["Line 2"],
    }


def test_a_gateway_shows_its_entries_and_routes_in_order_and_in_words(site: Site, shop: models.Gateway) -> None:
    page = site.get("gateway", "change", shop.pk).content.decode()
    put = page.index("PUT /items/{id} → topic items, key = id")
    assert page.index("/api/*") < put < page.index("the newest record of items with key = id") < page.index(">rest<")
    assert f"{site.url('route', 'add')}?entry={shop.ensure_entry().pk}" in page


def test_a_duplicate_is_deep_disabled_last_and_named_anew(site: Site, shop: models.Gateway) -> None:
    before = _shape(shop)
    make_gateway("after")

    site.act("gateway", "duplicate", shop)
    site.act("gateway", "duplicate", shop)

    assert list(models.Gateway.objects.values_list("name", "enabled")) == [
        ("shop", True),
        ("after", True),
        ("shop-copy", False),
        ("shop-copy-2", False),
    ]
    assert _shape(models.Gateway.objects.get(name="shop-copy")) == _shape(shop) == before
    added = LogEntry.objects.filter(action_flag=ADDITION)
    assert {each.object_repr for each in added} == {"shop-copy", "shop-copy-2"}


def test_a_duplicate_of_the_longest_name_still_has_a_valid_one(site: Site, shop: models.Gateway) -> None:
    models.Gateway.objects.filter(pk=shop.pk).update(name="g" * 100)
    site.act("gateway", "duplicate", shop)
    models.Gateway.objects.get(enabled=False).full_clean()


def test_an_entry_and_a_route_are_copied_beside_their_original(site: Site, shop: models.Gateway) -> None:
    entry = shop.ensure_entry()
    site.act("route", "duplicate", entry.routes.get(name="put"))
    copy = entry.routes.get(name="put-copy")
    assert (copy.enabled, copy.position) == (False, 2)
    assert [row.value for row in copy.overrides.all()] == ["1", "2"]

    site.act("entry", "duplicate", entry)
    assert {route.name for route in shop.entries.get(name="all-copy").routes.all()} == {"put", "get", "put-copy"}


@pytest.mark.django_db(transaction=True)  # the version rises once a transaction
@pytest.mark.parametrize("model", ["gateway", "entry", "route"])
def test_switching_off_and_on_is_announced_and_logged(site: Site, shop: models.Gateway, model: str) -> None:
    row: Any = {"gateway": shop, "entry": shop.ensure_entry(), "route": shop.ensure_entry().routes.get(name="put")}[model]
    for action, enabled in (("disable", False), ("enable", True)):
        version = models.ConfigVersion.current()
        site.act(model, action, row)
        row.refresh_from_db()
        assert row.enabled is enabled
        assert models.ConfigVersion.current() > version
    messages = LogEntry.objects.filter(action_flag=CHANGE).values_list("change_message", flat=True)
    assert [json.loads(message) for message in messages] == [[{"changed": {"fields": ["enabled"]}}]] * 2


def test_only_what_differs_is_switched(site: Site, shop: models.Gateway) -> None:
    make_gateway("off", enabled=False)
    response = site.act("gateway", "disable", *models.Gateway.objects.all())
    assert response.status_code == 302
    assert [each.object_repr for each in LogEntry.objects.all()] == ["shop"]


def test_switching_on_warns_of_what_is_never_reached(site: Site, shop: models.Gateway) -> None:
    entry = shop.entries.get(name="rest")
    greedy = make_route(entry, "greedy", enabled=False, conditions=[{"path": "/*"}])
    make_route(entry, "late", conditions=[{"path": "/late"}])
    response = site.act("route", "enable", greedy)
    page = site.client.get(response.url).content.decode()
    assert "“late”" in page
    assert "never reached" in page


@pytest.mark.parametrize(
    ("permissions", "actions"),
    [
        (["view_gateway"], set()),
        (["view_gateway", "change_gateway"], {"enable", "disable"}),
        (["view_gateway", "add_gateway"], {"duplicate"}),
    ],
)
def test_actions_need_their_permission(shop: models.Gateway, permissions: list[str], actions: set[str]) -> None:
    clerk = Site(permissions)
    form = clerk.get("gateway", "changelist").context["action_form"]
    assert (set() if form is None else {name for name, _label in form.fields["action"].choices} - {""}) == actions
    for action in {"enable", "disable", "duplicate"} - actions:
        clerk.act("gateway", action, shop)
    assert list(models.Gateway.objects.values_list("name", "enabled")) == [("shop", True)]


def test_a_hidden_entry_is_warned_of(site: Site, shop: models.Gateway) -> None:
    rest = shop.entries.get(name="rest")
    data = site.form("entry", "change", rest.pk) | {"enabled": "on"}
    add_row(data, "conditions", path="/api/v1/*", level=0)
    assert site.save("entry", "change", rest.pk, data=data) == []  # the first entry has a guard: not everyone gets in there

    shop.ensure_entry().guarded.all().delete()
    shop.ensure_entry().conditions.update(headers={})
    warnings = site.save("entry", "change", rest.pk, data=site.form("entry", "change", rest.pk))
    assert [("rest" in warning, "never reached" in warning) for warning in warnings] == [(True, True)]


def test_a_wrong_pattern_of_an_entry_is_said_at_its_line(site: Site, shop: models.Gateway) -> None:
    entry = shop.ensure_entry()
    data = site.form("entry", "change", entry.pk) | {"conditions-0-headers": "x-env: {a\nx-b: ok", "conditions-0-path": "/{"}
    errors = site.errors(site.post("entry", "change", entry.pk, data=data))
    assert set(errors) == {"conditions-0-headers", "conditions-0-path"}
    assert errors["conditions-0-headers"][0].startswith("Line 1:")


def test_an_entry_is_checked_while_one_types(site: Site, shop: models.Gateway) -> None:
    data = site.form("entry", "add") | {"gateway": shop.pk, "name": "all"}
    add_row(data, "conditions", path="/x/{", method="GET", level=0)
    answer = site.post("entry", "check_new", data=data).json()
    assert set(answer["errors"]) == {"name", "conditions-0-path"}
    assert answer["sentence"].startswith("GET")


def test_a_configuration_that_does_not_load_is_told_on_every_list(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ("gateway", "entry", "route", "cluster", "topic", "guard"):
        assert "kp-banner" not in site.get(model, "changelist").content.decode()
    monkeypatch.setattr(live(), "error", "shop / all / put: <nonsense>")
    for model in ("gateway", "entry", "route", "cluster", "topic", "guard"):
        page = site.get(model, "changelist").content.decode()
        assert "kp-banner" in page
        assert "shop / all / put: &lt;nonsense&gt;" in page


@pytest.mark.parametrize("page", ["changelist", "change"])
@pytest.mark.parametrize("model", ["gateway", "entry", "route", "cluster", "guard"])
def test_those_who_may_only_look_see_every_page(shop: models.Gateway, model: str, page: str) -> None:
    clerk = Site([f"view_{name}" for name in ("gateway", "entry", "route", "cluster", "guard", "condition", "accesscontrol")])
    entry = shop.ensure_entry()
    rows: dict[str, Any] = {"gateway": shop, "entry": entry, "route": entry.routes.get(name="put"), "cluster": shop.cluster}
    rows["guard"] = shop.guard
    args = [rows[model].pk] if page == "change" else []
    response = clerk.get(model, page, *args)
    assert response.status_code == 200
    assert 'name="_save"' not in response.content.decode()


def test_what_no_form_would_have_saved_can_be_seen_and_mended(site: Site, shop: models.Gateway) -> None:
    entry = shop.ensure_entry()
    get = entry.routes.get(name="get")
    entry.conditions.update(headers=["x"])
    entry.guarded.update(roles="admin")
    get.filters.update(headers={"kind": 1})
    for model, row in (("gateway", shop), ("entry", entry), ("route", get)):
        assert site.get(model, "changelist").status_code == 200
        assert site.get(model, "change", row.pk).status_code == 200

    data = site.form("route", "change", get.pk)
    assert site.post("route", "check", get.pk, data=data | {"filters-0-headers": "kind:\nx"}).status_code == 200
    site.save("route", "change", get.pk, data=data | {"filters-0-headers": "kind: item"})
    assert get.filters.get().headers == {"kind": "item"}


def test_the_pages_of_a_gateway_and_an_entry_show_only_so_many_routes(site: Site, shop: models.Gateway) -> None:
    entry = shop.ensure_entry()
    template = entry.routes.get(name="get")
    fields = {"entry": entry, "capability": "fetch", "topic": "t", "position": 9}
    models.Route.objects.bulk_create(models.Route(name=f"{template.name}-{number}", **fields) for number in range(200))
    for model, row in (("gateway", shop), ("entry", entry)):
        page = site.get(model, "change", row.pk).content.decode()
        assert page.count('class="kp-does"') - (model == "gateway") * 2 == 200
        assert f"?entry__id__exact={entry.pk}" in page
    found = site.get("route", "changelist", entry__id__exact=entry.pk).context["cl"]
    assert found.result_count == 202


def test_a_rule_that_is_never_reached_is_marked_where_it_stands(site: Site) -> None:
    gateway = make_gateway()
    entry = gateway.ensure_entry()
    make_route(entry, "all", "fetch")
    make_route(entry, "hidden", "fetch", conditions=[{"method": "GET", "path": "/items/{id}"}])
    make_route(entry, "off", "fetch", enabled=False, conditions=[{"method": "GET", "path": "/off"}])
    gateway.entries.create(name="behind")
    for model, pk in (("gateway", gateway.pk), ("entry", entry.pk)):
        rules = site.get(model, "change", pk).context["kafkaproxy_rules"]
        routes = rules[0]["routes"] if model == "gateway" else rules
        assert [bool(warning) for _route, _sentence, warning in routes] == [False, True, False]
    assert [bool(rule["warning"]) for rule in site.get("gateway", "change", gateway.pk).context["kafkaproxy_rules"]] == [
        False,
        True,
    ]
    assert "“GET /items/{id}” is never reached" in site.get("entry", "change", entry.pk).content.decode()
