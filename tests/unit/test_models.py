"""What an operator edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction

from kafkaproxy.models import (
    AccessControl,
    Cluster,
    Condition,
    ConfigVersion,
    Entry,
    EntryCondition,
    Filter,
    Gateway,
    Guard,
    Override,
    Route,
    Topic,
)
from kafkaproxy.models.base import ConfigModel
from kafkaproxy.routing.compile import Compiler, read_unchanged
from kafkaproxy.routing.table import Configuration
from kafkaproxy.specs.from_rows import configuration_spec
from tests.unit.build import add_route, everything, gateway

pytestmark = pytest.mark.django_db


class AnyEnvironment(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return name


def compiled() -> dict[str, Any]:
    rows, _ = read_unchanged()
    configuration: Configuration = Compiler(AnyEnvironment()).compile(configuration_spec(rows), 1)
    return {name: getattr(configuration, name) for name in ("gateways", "guards", "clusters", "topics")}


class TestGateways:
    def test_one_made_by_hand_has_the_entry_that_matches_everything(self) -> None:
        cluster = Cluster.objects.create(name="c", bootstrap_servers="b:1")
        made = Gateway.objects.create_with_entry(name="g", cluster=cluster)
        entry = made.entries.get()
        assert entry.name == "all"
        assert not entry.conditions.exists()

    def test_one_made_by_create_has_none(self) -> None:
        cluster = Cluster.objects.create(name="c", bootstrap_servers="b:1")
        assert not Gateway.objects.create(name="g", cluster=cluster).entries.exists()

    def test_the_entry_is_made_once(self) -> None:
        entry = gateway()
        assert entry.gateway.ensure_entry() == entry
        assert Entry.objects.count() == 1

    def test_neither_is_made_where_the_gateway_cannot_be(self) -> None:
        entry = gateway("g")
        with pytest.raises(IntegrityError), transaction.atomic():
            Gateway.objects.create_with_entry(name="g", cluster=entry.gateway.cluster)
        assert Entry.objects.count() == 1

    def test_the_idempotency_field_is_kept_in_lower_case(self) -> None:
        assert gateway(idempotency_header="Idempotency-Key").gateway.idempotency_header == "idempotency-key"


class TestPositions:
    def test_a_row_without_one_comes_last_among_its_siblings(self) -> None:
        first, second = gateway("first"), gateway("second")
        assert [each.gateway.position for each in (first, second)] == [0, 1]
        assert [add_route(first, name).position for name in "abc"] == [0, 1, 2]
        assert add_route(second, "a").position == 0
        route = add_route(second, "b", "/1", "/2")
        assert [each.position for each in route.conditions.all()] == [0, 1]

    def test_a_row_with_one_keeps_it(self) -> None:
        entry = gateway()
        add_route(entry, "a", position=7)
        assert add_route(entry, "b", position=0).position == 0
        assert add_route(entry, "c").position == 8

    def test_conditions_of_an_entry_are_numbered_by_level(self) -> None:
        entry = gateway()
        rows = [EntryCondition.objects.create(entry=entry, level=level, path="/x") for level in (0, 1, 1, 0)]
        assert [each.position for each in rows] == [0, 0, 1, 1]

    def test_a_form_may_leave_it_empty(self) -> None:
        route = Route(entry=gateway(), name="r", capability="fetch", topic="t", position=None)
        route.full_clean()
        route.save()
        assert route.position == 0


class TestNaturalKeys:
    def test_a_fixture_moves_everything_to_another_site(self, tmp_path: Path) -> None:
        everything()
        before = compiled()
        fixture = str(tmp_path / "site.json")
        call_command("dumpdata", "kafkaproxy", natural_foreign=True, natural_primary=True, indent=1, output=fixture)
        for model in (Gateway, Guard, Cluster):
            model.objects.all().delete()
        Cluster.objects.create(name="takes a primary key", bootstrap_servers="x:1").delete()
        call_command("loaddata", fixture, verbosity=0)
        assert compiled() == before

    def test_a_fixture_loaded_twice_changes_nothing(self, tmp_path: Path) -> None:
        everything()
        fixture = str(tmp_path / "site.json")
        call_command("dumpdata", "kafkaproxy", natural_foreign=True, natural_primary=True, output=fixture)
        before = {model: set(model.objects.values_list("pk", flat=True)) for model in _config_models()}
        call_command("loaddata", fixture, verbosity=0)
        assert {model: set(model.objects.values_list("pk", flat=True)) for model in _config_models()} == before

    def test_every_row_is_found_by_its_key(self) -> None:
        everything()
        for model in _config_models():
            for row in model.objects.all():
                assert model.objects.get_by_natural_key(*row.natural_key()) == row

    def test_rows_say_who_they_are(self) -> None:
        everything()
        for model in _config_models():
            for row in model.objects.all():
                assert str(row)


def _config_models() -> list[Any]:
    return [model for model in apps.get_app_config("kafkaproxy").get_models() if issubclass(model, ConfigModel)]


class TestVersion:
    def test_it_is_zero_where_nothing_was_saved(self) -> None:
        assert ConfigVersion.stamp() == (0, None)
        assert ConfigVersion.current() == 0

    def test_each_change_raises_it_and_has_its_own_identity(self) -> None:
        ConfigVersion.bump()
        first = ConfigVersion.stamp()
        ConfigVersion.bump()
        second = ConfigVersion.stamp()
        assert (first.version, second.version) == (1, 2)
        assert None is not first.change != second.change is not None
        assert str(ConfigVersion.objects.get()) == "2"

    def test_a_row_that_another_transaction_made_first_is_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ConfigVersion.bump()
        monkeypatch.setattr("kafkaproxy.models.version._raise", _late(1))
        ConfigVersion.bump()
        assert ConfigVersion.current() == 2


def _late(misses: int) -> Any:
    """``_raise``, blind for the first calls."""
    from kafkaproxy.models import version

    real, calls = version._raise, []

    def raise_version(rows: Any) -> int:
        calls.append(rows)
        return 0 if len(calls) <= misses else real(rows)

    return raise_version


class TestCleaning:
    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({}, set()),
            ({"security_protocol": "SASL_SSL"}, {"sasl_mechanism"}),
            ({"sasl_mechanism": "PLAIN"}, {"security_protocol"}),
            ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"}, set()),
            ({"options": ["x"]}, {"options"}),
            ({"options": {"a": {"b": 1}}}, {"options"}),
            ({"options": {"a": None}}, {"options"}),
            ({"options": {"fetch.min.bytes": 2, "client.rack": "x", "socket.nagle.disable": True, "linger.ms": 0.5}}, set()),
            ({"options": {"linger.ms": "${{env.LINGER}}"}}, set()),
            ({"options": {"no.such.option": "x"}}, {"options"}),
            ({"options": {"linger.ms": "soon"}}, {"options"}),
            ({"options": {"acks": "0"}}, {"options"}),
            ({"options": {"plugin.library.paths": "/tmp/evil"}}, {"options"}),
            ({"name": "1 bad"}, {"name"}),
        ],
    )
    def test_a_cluster(self, fields: dict[str, Any], wrong: set[str]) -> None:
        assert _errors(Cluster(**{"name": "c", "bootstrap_servers": "b:1", **fields})) == wrong

    @pytest.mark.parametrize(("options", "wrong"), [({}, set()), (["x"], {"options"})])
    def test_a_guard(self, options: Any, wrong: set[str]) -> None:
        assert _errors(Guard(name="g", kind="session", options=options)) == wrong

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({}, set()),
            ({"key": "k"}, {"key"}),
            ({"reply_to": "r"}, {"reply_to"}),
            ({"correlation_header": "x"}, {"correlation_header"}),
            ({"capability": "produce", "key": "", "reply_to": "r", "correlation_header": "x"}, set()),
            ({"capability": "stream", "merge": True}, {"merge"}),
            ({"merge": True}, set()),
            ({"capability": "stream", "start": "timestamp"}, {"start_timestamp"}),
            ({"topic": "${correlationId}"}, {"topic"}),
            ({"timeout": 0}, {"timeout"}),
            ({"capability": "nonsense"}, {"capability"}),
        ],
    )
    def test_a_route(self, fields: dict[str, Any], wrong: set[str]) -> None:
        route = Route(**{"entry": gateway(), "name": "r", "capability": "fetch", "topic": "t", **fields})
        assert _errors(route) == wrong

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"key": "k"}, set()),
            ({"headers": {"a": "${params.x}"}}, set()),
            ({}, {"__all__"}),
            ({"headers": {"a": "${idempotencyKey}"}}, {"headers"}),
            ({"headers": ["a"]}, {"headers"}),
        ],
    )
    def test_a_filter(self, fields: dict[str, Any], wrong: set[str]) -> None:
        assert _errors(Filter(route=add_route(gateway()), **fields)) == wrong

    def test_names_are_unique_where_they_have_to_be(self) -> None:
        entry = gateway()
        route = add_route(entry, "r")
        Topic.objects.create(cluster=entry.gateway.cluster, name="t")
        assert _errors(Route(entry=entry, name="r", capability="fetch", topic="t")) == {"__all__"}
        assert _errors(Entry(gateway=entry.gateway, name="all")) == {"__all__"}
        assert _errors(Topic(cluster=entry.gateway.cluster, name="t")) == {"__all__"}
        assert _errors(Override(route=route, name="x", value="y")) == set()


def _errors(row: Any) -> set[str]:
    try:
        row.full_clean()
    except ValidationError as error:
        return set(error.message_dict)
    return set()


def test_rows_are_called_by_what_they_say() -> None:
    route = add_route(gateway(), "r", "/x")
    assert str(Condition.objects.get()) == "GET /x"
    assert str(Condition(route=route)) == "* *"
    assert str(EntryCondition()) == "*"
    assert str(EntryCondition(scheme="https", authority="a", method="GET", path="/x")) == "GET https:// a /x"
    assert str(Filter(key="k", headers={"a": "b"})) == "key and a"
    assert str(AccessControl()) == "same-origin"
