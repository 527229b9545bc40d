"""Specs hold everything that the models hold, with the same defaults, and come back from rows as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from django.db import models as django_models

from kafkaproxy import models
from kafkaproxy.specs.from_rows import configuration_spec, read_rows
from kafkaproxy.specs.to_rows import Spec, child_rows, delete_row, find_row, unsaved_row, write_row
from kafkaproxy.specs.types import (
    AccessControlSpec,
    ClusterSpec,
    ConditionSpec,
    ConfigurationSpec,
    EntryConditionSpec,
    EntrySpec,
    FieldSpec,
    FilePlace,
    FilterSpec,
    GatewaySpec,
    GuardSpec,
    RouteSpec,
    TopicSpec,
)
from kafkaproxy.specs.values import column_names, plain
from tests.unit.build import everything

KINDS: list[tuple[type[Any], type[Any]]] = [
    (models.AccessControl, AccessControlSpec),
    (models.Cluster, ClusterSpec),
    (models.Condition, ConditionSpec),
    (models.EntryCondition, EntryConditionSpec),
    (models.Entry, EntrySpec),
    (models.Override, FieldSpec),
    (models.AsyncField, FieldSpec),
    (models.Filter, FilterSpec),
    (models.Gateway, GatewaySpec),
    (models.Guard, GuardSpec),
    (models.Route, RouteSpec),
    (models.Topic, TopicSpec),
]
ORDER_OR_SWITCH = {"position", "enabled"}


@pytest.mark.parametrize(("model", "spec"), KINDS)
def test_a_spec_has_every_column_of_its_model(model: Any, spec: Any) -> None:
    columns = {each.name for each in model._meta.concrete_fields if not (each.is_relation or each.primary_key)}
    assert set(column_names(spec)) == columns - ORDER_OR_SWITCH


@pytest.mark.parametrize(("model", "spec"), [each for each in KINDS if each[1] not in (FieldSpec, EntrySpec)])
def test_what_is_not_said_has_the_default_of_the_model(model: Any, spec: Any) -> None:
    optional = [each for each in fields(spec) if each.name in column_names(spec) and _default(each) is not MISSING]
    assert optional
    for each in optional:
        column = model._meta.get_field(each.name)
        assert isinstance(column, django_models.Field)
        assert plain(_default(each)) == column.get_default()


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _objects(spec: ConfigurationSpec) -> Iterator[tuple[str, str, Spec, int | None]]:
    """Yield the objects of a configuration in the order in which they can be written."""
    yield from (("cluster", name, each, None) for name, each in spec.clusters.items())
    yield from (("guard", name, each, None) for name, each in spec.guards.items())
    yield from (("topic", f"{each.cluster}/{each.name}", each, None) for each in spec.topics)
    for gateway in spec.gateways:
        yield "gateway", gateway.name, gateway, None
        for number, entry in enumerate(gateway.entries):
            yield "entry", f"{gateway.name}/{entry.name}", entry, number
            for place, route in enumerate(entry.routes):
                yield "route", f"{gateway.name}/{entry.name}/{route.name}", route, place


def _names(spec: Spec) -> list[str]:
    return [each.name for each in fields(spec) if each.compare and each.name not in ("entries", "routes")]


@pytest.mark.django_db
class TestRows:
    def test_what_is_read_and_written_comes_back(self) -> None:
        everything()
        before = configuration_spec(read_rows())
        models.Gateway.objects.all().delete()
        models.Cluster.objects.all().delete()
        models.Guard.objects.all().delete()
        for kind, key, spec, position in _objects(before):
            write_row(kind, key, spec, _names(spec), position)
        assert configuration_spec(read_rows()) == before
        assert models.Route.objects.get(name="put").conditions.count() == 2

    def test_writing_again_changes_nothing(self) -> None:
        everything()
        before = configuration_spec(read_rows())
        keys = [find_row(kind, key).pk for kind, key, _spec, _position in _objects(before)]
        for kind, key, spec, position in _objects(before):
            write_row(kind, key, spec, _names(spec), position)
        assert configuration_spec(read_rows()) == before
        assert [find_row(kind, key).pk for kind, key, _spec, _position in _objects(before)] == keys

    def test_what_is_not_named_stays(self) -> None:
        everything()
        put = RouteSpec(name="put", capability="produce", topic="new", timeout=99)
        write_row("route", "shop/api/put", put, ["topic"])
        row = models.Route.objects.get(name="put")
        assert (row.topic, row.timeout, row.overrides.count()) == ("new", 7, 2)

    def test_a_gateway_without_access_control_follows_the_site(self) -> None:
        everything()
        gateway = configuration_spec(read_rows()).gateways[0]
        write_row("gateway", "shop", replace(gateway, access_control=None), ["access_control"])
        assert not models.AccessControl.objects.exists()

    def test_one_gateway_is_read_with_what_is_disabled_when_asked(self) -> None:
        everything()
        other = models.Gateway.objects.create_with_entry(name="other", cluster=models.Cluster.objects.get(name="main"))
        models.Gateway.objects.filter(name="shop").update(enabled=False)
        models.Route.objects.filter(name="put").update(enabled=False)
        assert [each.name for each in configuration_spec(read_rows()).gateways] == [other.name]
        (shop,) = configuration_spec(read_rows(["shop"])).gateways
        assert [route.name for entry in shop.entries for route in entry.routes] == ["get", "stream"]
        (whole,) = configuration_spec(read_rows(["shop"], enabled=False)).gateways
        assert [route.name for entry in whole.entries for route in entry.routes] == ["put", "get", "stream"]

    def test_a_row_is_found_and_removed_by_its_key(self) -> None:
        everything()
        assert find_row("route", "shop/rest/get").topic == "items"
        assert find_row("route", "shop/rest/none") is None
        delete_row("entry", "shop/rest")
        delete_row("entry", "shop/rest")
        assert find_row("route", "shop/rest/get") is None


def test_a_row_to_validate_has_what_the_spec_says() -> None:
    route = RouteSpec(name="r", capability="fetch", topic="t", merge=True, filters=(FilterSpec("k", {"a": "b"}),))
    assert unsaved_row("route", route).merge is True
    ((name, row),) = child_rows("route", route)
    assert (name, row.key, row.headers) == ("filters", "k", {"a": "b"})


def test_where_a_spec_was_written_is_no_part_of_it() -> None:
    here, there = (EntrySpec(name="e", place=FilePlace("zilla.yaml", line)) for line in (1, 2))
    assert here == there
    assert plain(here) == {"name": "e", "conditions": [], "guarded": {}, "routes": []}


def test_every_text_that_may_hold_a_variable_is_resolved() -> None:
    route = RouteSpec(
        name="r",
        capability="stream",
        topic="a",
        key="a",
        reply_to="a",
        conditions=(ConditionSpec("a", "a"),),
        overrides=(FieldSpec("a", "a"),),
        async_fields=(FieldSpec("a", "a"),),
        filters=(FilterSpec("a", {"a": "a"}), FilterSpec(None, {})),
        guarded={"a": ("a",)},
    ).resolved(str.upper)
    assert (route.topic, route.key, route.reply_to) == ("A", "A", "A")
    assert (route.conditions, route.overrides, route.async_fields) == (
        (ConditionSpec("a", "A"),),
        (FieldSpec("a", "A"),),
        (FieldSpec("a", "A"),),
    )
    assert (route.filters, route.guarded) == ((FilterSpec("A", {"a": "A"}), FilterSpec(None, {})), {"a": ("A",)})
    condition = EntryConditionSpec(scheme="a", authority="a", path="a", method="a", headers={"a": "a"})
    entry = EntrySpec(name="e", conditions=(condition,), guarded={"a": ("a",)}).resolved(str.upper)
    expected = EntryConditionSpec(scheme="A", authority="A", path="A", method="a", headers={"a": "A"})
    assert (entry.conditions, entry.guarded) == ((expected,), {"a": ("A",)})


def test_a_route_uses_its_own_cluster_or_the_gateways() -> None:
    gateway = GatewaySpec(name="g", cluster="main")
    route = RouteSpec(name="r", capability="fetch", topic="t")
    assert gateway.cluster_of(route) == "main"
    assert gateway.cluster_of(replace(route, cluster="other")) == "other"
