"""``manage.py exportzilla``: what a gateway becomes, what comes back from it, and what Zilla lacks."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings

from kafkaproxy.models import AccessControl, Cluster, Gateway, Guard, ImportedObject, Topic
from kafkaproxy.zilla.exporter.exporting import Export, differences, export_gateway
from kafkaproxy.zilla.exporter.stored import plan_of, read_gateway
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Verdict
from kafkaproxy.zilla.sync.apply import apply_plan, preview
from tests.integration.admin_site import make_gateway, make_route
from tests.support.export_gateways import plans
from tests.support.zilla_samples import BASE, SSE, edited, planned
from tests.support.zilla_schema import schema_errors

pytestmark = pytest.mark.django_db

FIXTURES = Path(__file__).parents[2] / "fixtures"
SAMPLES = ["crud", "cache", "oneway", "sync", "async", "sse"]
JWT = {"issuer": "https://issuer.example", "audience": "shop"}


@pytest.fixture
def gateway() -> Gateway:
    """A gateway that Zilla could serve: one route, and a CORS policy of its own."""
    made = make_gateway()
    AccessControl.objects.create(gateway=made)
    make_route(made.ensure_entry(), "put-items-id", key="${params.id}", conditions=[{"method": "PUT", "path": "/items/{id}"}])
    return made


def _imported(text: str, name: str = "") -> Gateway:
    plan, _report = planned(text, **({"gateway": name} if name else {}))
    apply_plan(plan)
    return Gateway.objects.get(name=plan.gateways[0].name)


def _said(export: Export, severity: Verdict) -> str:
    return "\n".join(str(each) for each in export.report.findings if each.verdict is severity)


def _run(*arguments: str) -> tuple[str, str]:
    out, errors = io.StringIO(), io.StringIO()
    call_command("exportzilla", *arguments, stdout=out, stderr=errors)
    return out.getvalue(), errors.getvalue()


@pytest.mark.parametrize("dialect", [1, 2])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_comes_back_as_it_went_out(name: str, dialect: int) -> None:
    export = export_gateway(_imported((FIXTURES / f"{name}.yaml").read_text()), dialect)
    assert [each for each in export.report.findings if each.verdict is not Verdict.WARNING] == []
    plan, _report = planned(export.text)
    assert preview(plan).visible == ()


@pytest.mark.parametrize("name", SAMPLES)
def test_an_exported_sample_is_what_the_schema_of_zilla_wants(name: str) -> None:
    export = export_gateway(_imported((FIXTURES / f"{name}.yaml").read_text()))
    assert schema_errors(export.text) == []


@pytest.mark.parametrize("text", [BASE, SSE], ids=["base", "sse"])
def test_entries_behind_an_sse_server_and_barriers_come_back(text: str) -> None:
    export = export_gateway(_imported(text))
    plan, _report = planned(export.text)
    assert preview(plan).visible == ()
    assert schema_errors(export.text) == []


GUARDS = """\
guards:
  users:
    type: jwt
    options:
      issuer: https://issuer.example
      audience: live
bindings:
"""

TLS = """\
    exit: tls
  tls:
    type: tls
    kind: server
    vault: keys
    options:
      keys: [a]
    routes:
      - when:
          - authority: shop.example
        exit: http
"""


def test_guards_of_both_levels_of_an_sse_server_come_back() -> None:
    guarded = "        guarded:\n          users: [{role}]\n"
    outer = ("        exit: sse\n", guarded.format(role="outer") + "        exit: sse\n")
    inner = ("        exit: streams\n", guarded.format(role="inner") + "        exit: streams\n")
    gateway = _imported(edited(SSE, ("bindings:\n", GUARDS), outer, inner))
    roles = [list(each.guarded.values_list("roles", flat=True)) for each in gateway.entries.all()]
    assert roles[:2] == [[["outer", "inner"]], [["outer"]]]
    export = export_gateway(gateway)
    plan, _report = planned(export.text)
    assert preview(plan).visible == ()


def test_a_server_name_that_tls_insists_on_becomes_a_condition_of_one_level() -> None:
    vaults = "vaults:\n  keys:\n    type: filesystem\nbindings:\n"
    export = export_gateway(_imported(edited(BASE, ("    exit: http\n", TLS), ("bindings:\n", vaults))))
    assert _said(export, Verdict.LOST) == "entry shop/items-any: conditions would not come back from the file as it is."
    assert ":authority: 'shop.example:*'" in export.text
    assert ":path: /items/*" in export.text


def test_a_gateway_made_by_hand_comes_back_and_its_names_are_explained(gateway: Gateway) -> None:
    make_route(gateway.ensure_entry(), "by-hand", "fetch", conditions=[{"method": "GET", "path": "/items"}], merge=True)
    export = export_gateway(gateway)
    assert not export.is_refused
    assert not export.is_lossy
    assert "route shop/all/by-hand as get-items." in _said(export, Verdict.WARNING)
    assert schema_errors(export.text) == []


def test_everything_about_a_gateway_that_zilla_has_is_written(gateway: Gateway) -> None:
    guard = Guard.objects.create(name="users", options={**JWT, "challenge": 30})
    gateway.guard, gateway.credentials_headers = guard, {"authorization": "Bearer {credentials}"}
    gateway.idempotency_header, gateway.reply_to_header = "x-once", "my:reply"
    gateway.save()
    gateway.access_control.policy = "cross-origin"
    gateway.access_control.allow_origins, gateway.access_control.allow_credentials = ["https://a.example"], True
    gateway.access_control.max_age, gateway.access_control.expose_headers = 0, ["etag"]
    gateway.access_control.save()
    entry = gateway.ensure_entry()
    _set(entry, name="items-any")
    entry.guarded.create(guard=guard, roles=["read"])
    entry.conditions.create(path="/items/*", method="PUT", headers={"x-env": "no"})
    route = entry.routes.get()
    route.overrides.create(name="owner", value="${guarded['users'].identity}")
    route.acks, route.reply_to = "none", "answers"
    route.async_fields.create(name="location", value="/items/${params.id};cid=${correlationId}")
    route.save()
    topic = gateway.cluster.topics.create(name="items", bootstrap=True, default_offset="live")
    export = export_gateway(gateway)
    assert _said(export, Verdict.LOST) == ""
    assert schema_errors(export.text) == []

    for row in (gateway, topic, gateway.cluster, guard):
        row.delete()
    back = _imported(export.text)
    assert back.access_control.max_age == 0
    assert back.cluster.topics.get().default_offset == "live"
    assert back.entries.get().routes.get().overrides.get().value == "${guarded['users'].identity}"
    assert export_gateway(back).text.partition("bindings:")[2] == export.text.partition("bindings:")[2]


def _set(row: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def _route_with(**values: Any) -> Callable[[Gateway], None]:
    return lambda gateway: _set(gateway.ensure_entry().routes.get(), **values)


def _session(gateway: Gateway) -> None:
    guard = Guard.objects.create(name="people", kind="session", options={})
    gateway.ensure_entry().guarded.create(guard=guard, roles=["staff"])


def _second_place(gateway: Gateway) -> None:
    guard = Guard.objects.create(name="users", options=JWT)
    places = {"authorization": "Bearer {credentials}", "x-token": "{credentials}"}
    _set(gateway, guard=guard, credentials_headers=places)


LOSSES: list[tuple[Callable[[Gateway], Any], str]] = [
    (_route_with(timeout=5, reply_to="answers"), "route shop/all/put-items-id: timeout is left out. Zilla waits"),
    (_route_with(cache_control="max-age=1"), "cache_control is left out"),
    (_route_with(start="latest"), "start is left out"),
    (_route_with(encoding="base64"), "encoding is left out"),
    (_route_with(correlation_header="x-id"), "Choose dialect 2"),
    (lambda gateway: _set(gateway, enabled=False), "The gateway is disabled"),
    (lambda gateway: _set(gateway, forwarded_fields=["accept"]), "forwarded_fields is left out"),
    (lambda gateway: _set(gateway, forward_credentials=True), "forward_credentials is left out"),
    (lambda gateway: gateway.access_control.delete(), "Give it an access control of its own."),
    (lambda gateway: _set(gateway.cluster, options={"client.rack": "secret"}), "cluster main: options is left out"),
    (lambda gateway: _set(gateway.cluster, ssl_verify_hostname=False), "Zilla always verifies the name"),
    (lambda gateway: gateway.cluster.topics.create(name="items", sensitive=True), "topic items: sensitive is left out"),
    (lambda gateway: make_route(gateway.ensure_entry(), "off", enabled=False), "route shop/all/off: It is disabled"),
    (_session, "guard people: Zilla has no guards of the kind session. Nobody gets past it"),
    (_second_place, "so x-token is left out"),
]


@pytest.mark.parametrize(("change", "message"), LOSSES)
def test_what_zilla_lacks_is_an_error_unless_it_may_be_lost(
    gateway: Gateway, change: Callable[[Gateway], Any], message: str
) -> None:
    change(gateway)
    gateway = Gateway.objects.get()
    export = export_gateway(gateway)
    assert message in _said(export, Verdict.LOST)
    assert "client.rack" not in export.text
    with pytest.raises(CommandError, match="--lossy"):
        _run("shop")
    text, errors = _run("shop", "--lossy")
    assert message in errors
    assert message in text.partition("bindings:")[0]
    assert schema_errors(text) == []


def test_a_guard_that_zilla_lacks_still_guards_its_routes(gateway: Gateway) -> None:
    _session(gateway)
    text = export_gateway(gateway).text
    assert "guarded:\n          people:\n            - staff\n" in text
    assert "guards:\n" not in text


def _mixed(gateway: Gateway) -> None:
    make_route(gateway.ensure_entry(), "live", "stream")


def _identity_in_reply_to(gateway: Gateway) -> None:
    Guard.objects.create(name="users", options=JWT)
    _route_with(reply_to="answers-${guarded['users'].identity}")(gateway)


REFUSALS: list[tuple[Callable[[Gateway], Any], str]] = [
    (_mixed, "Move the streams to an entry of their own"),
    (_identity_in_reply_to, "reply-to names who the client is"),
    (lambda gateway: gateway.ensure_entry().conditions.create(path="/items/{id}"), "{id} is one segment here"),
    (lambda gateway: gateway.ensure_entry().conditions.create(path="/a+b"), "part of a regular expression"),
    (lambda gateway: gateway.ensure_entry().routes.all().delete(), "It has no route that is enabled"),
    (lambda gateway: _set(gateway.access_control, policy="cross-origin", allow_origins=[]), "Zilla would allow any"),
    (lambda gateway: _set(gateway.cluster, bootstrap_servers="nowhere"), "is not the address of a broker"),
]


@pytest.mark.parametrize(("change", "message"), REFUSALS)
def test_what_would_serve_others_is_never_written(gateway: Gateway, change: Callable[[Gateway], Any], message: str) -> None:
    change(gateway)
    export = export_gateway(Gateway.objects.get())
    assert message in _said(export, Verdict.REFUSED)
    assert export.text == ""
    with pytest.raises(CommandError, match="Nothing was written"):
        _run("shop", "--lossy")


def test_two_levels_that_test_the_same_part_are_refused(gateway: Gateway) -> None:
    entry = gateway.ensure_entry()
    entry.conditions.create(level=0, path="/a/*")
    entry.conditions.create(level=1, path="*/b")
    assert "Write conditions of one level" in _said(export_gateway(gateway), Verdict.REFUSED)


def test_secrets_stay_references_or_are_left_out(gateway: Gateway) -> None:
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "me"}
    _set(gateway.cluster, **sasl, sasl_password="hunter2")
    export = export_gateway(gateway)
    assert "hunter2" not in export.text
    assert "${{env.MAIN_SASL_PASSWORD}}" in export.text
    assert "set the environment variable MAIN_SASL_PASSWORD" in _said(export, Verdict.WARNING)
    assert not export.is_lossy

    _set(gateway.cluster, sasl_password="${{env.MINE}}")
    export = export_gateway(gateway)
    assert "password: ${{env.MINE}}" in export.text
    assert "SASL" not in _said(export, Verdict.WARNING)
    assert schema_errors(export.text) == []


def test_the_second_dialect_keeps_kafkas_credentials_in_a_guard(gateway: Gateway) -> None:
    sasl = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "me"}
    _set(gateway.cluster, **sasl, sasl_password="${{env.MINE}}")
    export = export_gateway(gateway, 2)
    assert not export.is_lossy
    assert "type: inline" in export.text
    plan, _report = planned(export.text)
    assert (plan.clusters[0].sasl_username, plan.clusters[0].sasl_password) == ("me", "${{env.MINE}}")


@pytest.mark.parametrize("key", [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}, {"kty": "RSA", "kid": "a", "d": "c2VjcmV0"}])
def test_a_secret_key_closes_its_guard(gateway: Gateway, key: dict[str, str]) -> None:
    guard = Guard.objects.create(name="users", options={**JWT, "keys": [key]})
    gateway.ensure_entry().guarded.create(guard=guard)
    export = export_gateway(gateway)
    assert "keys cannot be written as Zilla wants it, or is a secret" in _said(export, Verdict.LOST)
    assert "c2VjcmV0" not in export.text
    assert "users: []" in export.text


def test_roles_of_a_guard_need_the_second_dialect(gateway: Gateway) -> None:
    guard = Guard.objects.create(name="users", options={**JWT, "roles": "groups"})
    gateway.ensure_entry().guarded.create(guard=guard)
    assert "Zilla 1.x has no roles" in _said(export_gateway(gateway), Verdict.LOST)
    export = export_gateway(gateway, 2)
    assert _said(export, Verdict.LOST) == ""
    assert "roles: groups" in export.text


def test_certificates_leave_a_store_to_make(gateway: Gateway) -> None:
    _set(gateway.cluster, security_protocol="SSL", ssl_ca="-----BEGIN CERTIFICATE-----")
    export = export_gateway(gateway)
    assert "Make main.p12 of them" in _said(export, Verdict.LOST)
    assert "trust:\n        - ca\n" in export.text
    assert schema_errors(export.text) == []


def test_a_file_is_written_and_an_unknown_gateway_named(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "out.yaml"
    shown, _errors = _run("shop", "--output", str(path))
    assert shown == ""
    assert path.read_text() == _run("shop")[0]
    with pytest.raises(CommandError, match=r"There is no gateway other\. Known are: shop\."):
        _run("other")
    with pytest.raises(CommandError, match="cannot be written: Is a directory"):
        _run("shop", "--output", str(tmp_path))


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(plans())
def test_a_random_gateway_of_the_database_comes_back_from_its_file(plan: Plan) -> None:
    with transaction.atomic():
        apply_plan(plan)
        gateway = Gateway.objects.get()
        assert list(differences(plan, plan_of(read_gateway(gateway.name)))) == []
        export = export_gateway(gateway)
        assert _said(export, Verdict.LOST) == ""
        for model in (Gateway, Topic, Cluster, Guard, ImportedObject):
            model.objects.all().delete()
        apply_plan(planned(export.text)[0])
        assert list(differences(plan, plan_of(read_gateway(Gateway.objects.get().name)))) == []
        transaction.set_rollback(True)
