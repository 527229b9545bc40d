"""``manage.py importzilla``: what it writes, what it leaves alone, and what it refuses, against a database."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkaproxy.models import AccessControl, Cluster, ConfigVersion, Entry, Gateway, Guard, ImportedObject, Route, Topic
from kafkaproxy.zilla.sync.apply import apply_plan, preview
from tests.support.zilla_samples import BASE, SSE, edited, line_of, planned

pytestmark = pytest.mark.django_db

FIXTURES = Path(__file__).parents[2] / "fixtures"
SAMPLES = ["crud", "cache", "oneway", "sync", "async", "sse"]


def _run(text: str, folder: Path, *arguments: str, **options: Any) -> str:
    path = folder / "zilla.yaml"
    path.write_text(text)
    return _run_file(path, *arguments, **options)


def _run_file(path: Path, *arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("importzilla", str(path), "--env", "BROKERS=a:1", *arguments, stdout=out, **options)
    return out.getvalue()


def _refused(text: str, folder: Path, *arguments: str) -> str:
    errors = io.StringIO()
    with pytest.raises(CommandError) as caught:
        _run(text, folder, *arguments, stderr=errors)
    assert caught.value.returncode == 1
    return errors.getvalue() + str(caught.value)


def test_a_file_becomes_rows(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    gateway = Gateway.objects.get()
    assert (gateway.name, gateway.enabled, gateway.access_control.policy) == ("shop", True, "same-origin")
    cluster = Cluster.objects.get()
    assert (cluster.name, cluster.bootstrap_servers) == ("kafka", "${{env.BROKERS}}")
    topic = Topic.objects.get()
    assert (topic.name, topic.bootstrap, topic.cleanup_policy) == ("items", True, "broker")
    entry = gateway.entries.get()
    assert [(row.level, row.path) for row in entry.conditions.all()] == [(0, "/items/*")]
    produce, fetch = entry.routes.all()
    assert (produce.name, produce.position, produce.key, produce.timeout) == ("put-items-id", 0, "${params.id}", 30)
    assert [(row.method, row.path) for row in produce.conditions.all()] == [("PUT", "/items/{id}")]
    assert (fetch.position, [row.key for row in fetch.filters.all()]) == (1, ["${params.id}"])


def test_what_was_imported_passes_the_models_own_validation(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    for row in [
        *Cluster.objects.all(),
        *Topic.objects.all(),
        *Gateway.objects.all(),
        *Entry.objects.all(),
        *Route.objects.all(),
    ]:
        row.full_clean()


def test_a_dry_run_shows_everything_and_writes_nothing(tmp_path: Path) -> None:
    shown = _run(BASE, tmp_path, "--dry-run")
    assert "PUT /items/{id} → produce items, key ${params.id}" in shown
    assert "create gateway shop" in shown
    assert f"variable  zilla.yaml:{line_of(BASE, 'BROKERS')}: BROKERS\n" in shown
    assert "would be made" in shown
    assert (Gateway.objects.count(), Cluster.objects.count(), ImportedObject.objects.count()) == (0, 0, 0)


def test_importing_twice_changes_nothing_and_says_so(tmp_path: Path) -> None:
    _run(SSE, tmp_path)
    version, rows = ConfigVersion.current(), list(Route.objects.values())
    assert "Nothing to change" in _run(SSE, tmp_path)
    assert (ConfigVersion.current(), list(Route.objects.values())) == (version, rows)


def test_an_edited_file_changes_what_was_edited_and_nothing_else(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    before = {row.pk: row.name for row in Route.objects.all()}
    shown = _run(edited(BASE, ("key: ${params.id}\n      -", "key: id-${params.id}\n      -")), tmp_path)
    assert 'update route shop/items-any/put-items-id: key: "${params.id}" → "id-${params.id}"' in shown
    assert "1 changes made" in shown
    assert {row.pk: row.name for row in Route.objects.all()} == before
    assert Route.objects.get(name="put-items-id").key == "id-${params.id}"


def test_what_left_the_file_leaves_the_database(tmp_path: Path) -> None:
    _run(SSE, tmp_path)
    text = edited(SSE, ("      - when:\n          - headers:\n              :path: /live/*\n        exit: sse\n", ""))
    shown = _run(text, tmp_path)
    assert "delete entry live/live-any-live-events" in shown
    assert [entry.name for entry in Entry.objects.all()] == ["all"]
    assert "Nothing to change" in _run(text, tmp_path)


def test_what_an_operator_sets_and_a_file_cannot_say_is_kept(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    Route.objects.update(timeout=5, cache_control="max-age=3")
    Gateway.objects.update(enabled=False, dropped_fields=["x-secret"])
    Topic.objects.update(store_bytes=1000, sensitive=True)
    assert "Nothing to change" in _run(BASE, tmp_path)
    _run(edited(BASE, ("        - items\n", "        - items\n        - more\n")), tmp_path)
    assert set(Route.objects.values_list("timeout", "cache_control")) == {(5, "max-age=3")}
    assert Gateway.objects.get().enabled is False
    assert Topic.objects.get(name="items").store_bytes == 1000


def test_a_change_by_hand_is_a_conflict_until_it_is_overwritten(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    Route.objects.filter(name="put-items-id").update(topic="by-hand")
    message = _refused(edited(BASE, ("        - items\n", "        - items\n        - more\n")), tmp_path)
    assert "conflict  update route shop/items-any/put-items-id" in message
    assert "Changed by hand: topic." in message
    assert "--overwrite" in message
    assert Route.objects.get(name="put-items-id").topic == "by-hand"
    assert not Topic.objects.filter(name="more").exists()
    _run(BASE, tmp_path, "--overwrite")
    assert Route.objects.get(name="put-items-id").topic == "items"
    assert "Nothing to change" in _run(BASE, tmp_path)


def test_a_change_by_hand_that_the_file_agrees_with_is_no_conflict(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    Route.objects.filter(name="put-items-id").update(key="x")
    text = edited(BASE, ("key: ${params.id}\n      -", "key: x\n      -"))
    assert "Nothing to change" in _run(text, tmp_path)
    _run(BASE, tmp_path)
    assert Route.objects.get(name="put-items-id").key == "${params.id}"


def test_a_dry_run_shows_conflicts_and_fails(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    Entry.objects.update(position=7)
    assert "Changed by hand: position." in _refused(BASE, tmp_path, "--dry-run")


def test_what_was_added_by_hand_is_a_conflict_and_goes_only_when_overwritten(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    Route.objects.create(entry=Entry.objects.get(), name="mine", capability="fetch", topic="t")
    Entry.objects.create(gateway=Gateway.objects.get(), name="own")
    message = _refused(BASE, tmp_path)
    assert message.count("It was added by hand.") == 2
    _run(BASE, tmp_path, "--overwrite")
    assert not Route.objects.filter(name="mine").exists()
    assert not Entry.objects.filter(name="own").exists()


def test_what_was_removed_by_hand_is_a_conflict(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    Route.objects.get(name="put-items-id").delete()
    assert "It was removed by hand." in _refused(BASE, tmp_path)
    _run(BASE, tmp_path, "--overwrite")
    assert Route.objects.filter(name="put-items-id").exists()


def test_a_gateway_of_that_name_made_by_hand_is_a_conflict(tmp_path: Path) -> None:
    cluster = Cluster.objects.create(name="main", bootstrap_servers="a:1")
    Gateway.objects.create(name="shop", cluster=cluster)
    assert "was not made by an import of this file" in _refused(BASE, tmp_path)
    _run(BASE, tmp_path, "--gateway", "imported")
    assert set(Gateway.objects.values_list("name", flat=True)) == {"shop", "imported"}


def test_an_error_applies_nothing_and_names_the_line(tmp_path: Path) -> None:
    text = edited(BASE, ("capability: fetch", "capability: fetsch"))
    message = _refused(text, tmp_path)
    assert f"refused  zilla.yaml:{line_of(text, 'fetsch')}:" in message
    assert "Nothing was imported." in message
    assert (Gateway.objects.count(), Cluster.objects.count()) == (0, 0)


def test_files_of_one_kafka_share_its_cluster_and_an_edited_one_gets_its_own(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    second = edited(BASE, ("name: shop", "name: second"))
    _run(second, tmp_path)
    assert Cluster.objects.count() == 1
    _run(edited(second, ("${{env.BROKERS}}", "other:9092")), tmp_path)
    assert dict(Gateway.objects.values_list("name", "cluster__bootstrap_servers")) == {
        "shop": "${{env.BROKERS}}",
        "second": "other:9092",
    }
    _run(edited(BASE, ("${{env.BROKERS}}", "third:9092")), tmp_path)
    assert set(Cluster.objects.values_list("name", "bootstrap_servers")) == {
        ("kafka", "third:9092"),
        ("second.kafka", "other:9092"),
    }


def test_a_cluster_that_a_person_uses_too_is_not_changed_by_a_file(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    Gateway.objects.create(name="own", cluster=Cluster.objects.get())
    _run(edited(BASE, ("${{env.BROKERS}}", "other:9092")), tmp_path)
    assert Gateway.objects.get(name="own").cluster.bootstrap_servers == "${{env.BROKERS}}"
    assert Gateway.objects.get(name="shop").cluster.bootstrap_servers == "other:9092"


def test_a_cluster_that_trusts_more_is_not_shared(tmp_path: Path) -> None:
    Cluster.objects.create(name="lax", bootstrap_servers="${{env.BROKERS}}", ssl_verify_hostname=False)
    _run(BASE, tmp_path)
    assert Gateway.objects.get().cluster.name == "kafka"


def test_a_fragment_uses_the_cluster_that_is_named(tmp_path: Path) -> None:
    fragment = "  items:\n" + BASE.split("  items:\n")[1].split("  cache_client:\n")[0]
    assert "There is no cluster main" in _refused(fragment, tmp_path, "--cluster", "main")
    main = Cluster.objects.create(name="main", bootstrap_servers="a:1")
    _run(fragment, tmp_path, "--cluster", "main")
    assert Gateway.objects.get().cluster == main
    assert "Nothing to change" in _run(fragment, tmp_path, "--cluster", "main")


def test_a_topic_that_somebody_tuned_before_gets_what_the_file_says(tmp_path: Path) -> None:
    cluster = Cluster.objects.create(name="kafka", bootstrap_servers="${{env.BROKERS}}")
    Topic.objects.create(cluster=cluster, name="items", cleanup_policy="compact")
    _run(BASE, tmp_path)
    topic = Topic.objects.get()
    assert (topic.bootstrap, topic.cleanup_policy) == (True, "compact")


def test_a_topic_that_left_the_file_goes_back_to_its_defaults_unless_another_file_has_it(tmp_path: Path) -> None:
    without = edited(BASE, ("    options:\n      bootstrap:\n        - items\n", ""))
    _run(BASE, tmp_path)
    _run(edited(BASE, ("name: shop", "name: second")), tmp_path)
    _run(without, tmp_path)
    assert Topic.objects.get().bootstrap is True
    _run(edited(without, ("name: shop", "name: second")), tmp_path)
    assert Topic.objects.get().bootstrap is False


def test_guards_and_credentials_become_rows(tmp_path: Path) -> None:
    server = "    type: http\n    kind: server\n"
    options = "    options:\n      authorization:\n        jwt:\n          credentials:\n"
    options += "            headers: {authorization: 'Bearer {credentials}'}\n"
    guarded = "        guarded: {jwt: [write]}\n        exit: items\n"
    text = edited(BASE, (server, server + options), ("        exit: items\n", guarded))
    text += "guards:\n  jwt:\n    type: jwt\n    options: {issuer: 'https://a.example', audience: b, challenge: 30}\n"
    _run(text, tmp_path)
    guard = Guard.objects.get()
    assert (guard.kind, guard.options) == ("jwt", {"issuer": "https://a.example", "audience": "b", "challenge": 30})
    gateway = Gateway.objects.get()
    assert (gateway.guard, gateway.credentials_headers) == (guard, {"authorization": "Bearer {credentials}"})
    assert [(row.guard, row.roles) for row in Entry.objects.get().guarded.all()] == [(guard, ["write"])]
    assert "Nothing to change" in _run(text, tmp_path)
    assert "keep guard jwt" in _run(BASE, tmp_path)
    assert (Guard.objects.count(), Gateway.objects.get().guard) == (1, None)


def test_a_guard_of_another_file_is_not_changed_unnoticed(tmp_path: Path) -> None:
    guard = "guards:\n  jwt:\n    type: jwt\n    options: {issuer: 'https://a.example', audience: b}\n"
    text = edited(BASE, ("        exit: items\n", "        guarded: {jwt: []}\n        exit: items\n")) + guard
    _run(text, tmp_path)
    second = text.replace("name: shop", "name: second")
    _run(second, tmp_path)
    message = _refused(second.replace("https://a.example", "https://evil.example"), tmp_path)
    assert "conflict  update guard jwt: options changed. It is also imported as part of shop." in message
    assert Guard.objects.get().options["issuer"] == "https://a.example"


def test_secrets_are_neither_shown_nor_kept_beside_their_field(tmp_path: Path) -> None:
    servers = "      servers:\n        - ${{env.BROKERS}}\n"
    text = edited(BASE, (servers, servers + "      sasl: {mechanism: plain, username: me, password: hunter2}\n"))
    shown = _run(text, tmp_path) + _run(text.replace("hunter2", "hunter3"), tmp_path)
    assert Cluster.objects.get().sasl_password == "hunter3"
    assert "hunter" not in shown
    assert "sasl_password changed" in shown
    assert "hunter" not in str(list(ImportedObject.objects.values()))


def test_a_new_secret_key_alone_makes_no_conflict(tmp_path: Path) -> None:
    _run(BASE, tmp_path)
    with override_settings(
        SECRET_KEY="another one, as long as it has to be", SECRET_KEY_FALLBACKS=[django_settings.SECRET_KEY]
    ):
        assert "Nothing to change" in _run(BASE, tmp_path)
        _run(edited(BASE, ("key: ${params.id}\n      -", "key: x\n      -")), tmp_path)
    assert Route.objects.get(name="put-items-id").key == "x"


def test_values_given_with_env_are_not_stored(tmp_path: Path) -> None:
    _run(BASE, tmp_path, "--env", "BROKERS=secret.example:9092")
    assert Cluster.objects.get().bootstrap_servers == "${{env.BROKERS}}"
    assert "NAME=VALUE" in _refused(BASE, tmp_path, "--env", "BROKERS")


def test_a_quiet_import_says_nothing(tmp_path: Path) -> None:
    assert _run(BASE, tmp_path, verbosity=0) == ""


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        _run_file(tmp_path / "missing.yaml", stderr=io.StringIO())


def test_the_six_samples_live_in_one_site_and_share_one_cluster() -> None:
    for name in SAMPLES:
        _run_file(FIXTURES / f"{name}.yaml")
    assert list(Gateway.objects.order_by("position").values_list("name", flat=True)) == SAMPLES
    assert Cluster.objects.get().bootstrap_servers == "${{env.KAFKA_BOOTSTRAP_SERVERS}}"
    assert set(AccessControl.objects.values_list("gateway__name", "policy")) >= {
        ("crud", "same-origin"),
        ("sse", "cross-origin"),
    }
    for name in SAMPLES:
        assert "Nothing to change" in _run_file(FIXTURES / f"{name}.yaml")


_PATHS = st.sampled_from(["/a", "/a/*", "/b/{x}", "/items/*"])


@st.composite
def _configurations(draw: st.DrawFn) -> str:
    """Return an edited sample: other http routes, other methods, other topics."""
    routes = draw(st.lists(st.tuples(_PATHS, st.sampled_from(["items", "side"])), min_size=1, max_size=4))
    lines = [
        f"      - when:\n          - headers:\n              :path: {path}\n        exit: {exit_}\n" for path, exit_ in routes
    ]
    old = "      - when:\n          - headers:\n              :path: /items/*\n        exit: items\n"
    text = edited(BASE, (old, "".join([*lines, "      - exit: items\n"])))
    text = text.replace("method: PUT", f"method: {draw(st.sampled_from(['PUT', 'POST', 'DELETE']))}")
    text = text.replace("        - items\n", draw(st.sampled_from(["        - items\n", "        - items\n        - more\n"])))
    return text + "  side:\n    type: echo\n    kind: server\n"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_configurations(), min_size=1, max_size=3))
def test_after_any_edits_the_database_says_what_the_file_says(texts: list[str]) -> None:
    for text in texts:
        plan, _ = planned(text, environ={"BROKERS": "a:1"})
        apply_plan(plan)
        assert preview(plan).visible == ()
        (gateway,) = plan.gateways
        assert [entry.name for entry in Entry.objects.filter(gateway__name="shop")] == [entry.name for entry in gateway.entries]
