"""The admin of clusters, topics and guards: above all, that a stored secret is never shown again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from kafkaproxy import guard_kinds, models
from tests.integration.admin_site import Site, add_row, make_gateway, make_route

pytestmark = pytest.mark.django_db

SECRETS = [
    "hunter2-password",
    "-----BEGIN KEY",
    "key-pass-123",
    "client-secret-456",
    "c2lnbmluZy1rZXktb2YtdGhpcnR5LXR3by1ieXRlcy0",
]


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def cluster() -> models.Cluster:
    return models.Cluster.objects.create(
        name="main",
        bootstrap_servers="localhost:9092",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="proxy",
        sasl_password=SECRETS[0],
        ssl_key=SECRETS[1],
        ssl_key_password=SECRETS[2],
        options={"client.rack": "eu-1", "sasl.oauthbearer.client.secret": SECRETS[3]},
    )


@pytest.fixture
def guard() -> models.Guard:
    keys = [
        {"kty": "oct", "kid": "a", "alg": "HS256", "k": SECRETS[4]},
        {"kty": "OKP", "kid": "b", "alg": "EdDSA", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ]
    options = {"issuer": "https://auth.example", "audience": "items", "keys": keys}
    return models.Guard.objects.create(name="jwt", options=options)


def _assert_no_secret(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


def test_a_stored_secret_is_on_no_page(site: Site, cluster: models.Cluster, guard: models.Guard) -> None:
    clerk = Site(["view_cluster", "view_guard"])
    for row, model in ((cluster, "cluster"), (guard, "guard")):
        for viewer in (site, clerk):
            for page, args in (("changelist", []), ("change", [row.pk]), ("history", [row.pk])):
                response = viewer.get(model, page, *args)
                assert response.status_code == 200
                _assert_no_secret(response.content.decode())
        _assert_no_secret(site.get(model, "delete", row.pk).content.decode())
    assert "A value is stored. It is not shown again." in clerk.get("cluster", "change", cluster.pk).content.decode()


def test_a_stored_secret_stays_off_the_page_that_tells_an_error(
    site: Site, cluster: models.Cluster, guard: models.Guard
) -> None:
    data = site.form("cluster", "change", cluster.pk) | {"name": "no spaces", "sasl_password": "brand-new"}
    response = site.post("cluster", "change", cluster.pk, data=data)
    assert list(site.errors(response)) == ["name"]
    _assert_no_secret(response.content.decode())
    assert "brand-new" not in response.content.decode()

    response = site.post("guard", "change", guard.pk, data=site.form("guard", "change", guard.pk) | {"name": "no spaces"})
    assert list(site.errors(response)) == ["name"]
    _assert_no_secret(response.content.decode())


def test_saving_without_touching_the_secrets_keeps_them(site: Site, cluster: models.Cluster, guard: models.Guard) -> None:
    site.save("cluster", "change", cluster.pk, data=site.form("cluster", "change", cluster.pk) | {"sasl_username": "other"})
    site.save("guard", "change", guard.pk, data=site.form("guard", "change", guard.pk) | {"name": "renamed"})

    kept = models.Cluster.objects.get()
    assert kept.sasl_username == "other"
    assert [kept.sasl_password, kept.ssl_key, kept.ssl_key_password] == SECRETS[:3]
    assert kept.options == cluster.options
    assert models.Guard.objects.get(name="renamed").options == guard.options
    changed = [json.loads(each.change_message)[0]["changed"]["fields"] for each in LogEntry.objects.order_by("pk")]
    assert changed == [["SASL user name"], ["Name"]]


def test_a_secret_is_replaced_and_cleared(site: Site, cluster: models.Cluster) -> None:
    data = site.form("cluster", "change", cluster.pk) | {"sasl_password": " new one ", "ssl_key_password-clear": "on"}
    site.save("cluster", "change", cluster.pk, data=data)
    changed = models.Cluster.objects.get()
    assert (changed.sasl_password, changed.ssl_key_password, changed.ssl_key) == (" new one ", "", SECRETS[1])
    log = LogEntry.objects.get()
    assert "new one" not in log.change_message + log.object_repr
    assert json.loads(log.change_message)[0]["changed"]["fields"] == ["SASL password", "Client key password"]


def test_a_reference_to_the_environment_is_shown_and_warned_of_where_it_is_not_set(
    site: Site, cluster: models.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IS_SET", "x")
    data = site.form("cluster", "change", cluster.pk)
    data |= {"sasl_password": "${{env.IS_SET}}", "ssl_key_password": "${{env.IS_NOT_SET}}"}

    (warning,) = site.save("cluster", "change", cluster.pk, data=data)

    assert "IS_NOT_SET" in warning
    page = site.get("cluster", "change", cluster.pk).content.decode()
    assert "Stored: ${{env.IS_SET}}" in page
    assert "Stored: ${{env.IS_NOT_SET}}" in page


def test_a_text_around_a_reference_is_a_secret(site: Site, cluster: models.Cluster) -> None:
    models.Cluster.objects.update(sasl_password="prefix-9911${{env.REST}}")
    assert "prefix-9911" not in site.get("cluster", "change", cluster.pk).content.decode()


def test_marks_stand_for_the_secrets_wherever_they_move(site: Site, guard: models.Guard) -> None:
    data = site.form("guard", "change", guard.pk)
    options = json.loads(data["options"])
    assert options["keys"][1] == guard.options["keys"][1]
    options["keys"].reverse()
    options["keys"].append({"kty": "oct", "kid": "new", "alg": "HS256", "k": "another-" * 6})
    site.save("guard", "change", guard.pk, data=data | {"options": json.dumps(options)})

    guard.refresh_from_db()
    assert [key["kid"] for key in guard.options["keys"]] == ["b", "a", "new"]
    assert [key.get("k") for key in guard.options["keys"]] == [None, SECRETS[4], "another-" * 6]


def test_a_mark_of_nothing_is_an_error(site: Site, guard: models.Guard) -> None:
    marked = site.form("guard", "change", guard.pk)["options"]
    assert "stored, not shown" in marked
    errors = site.errors(site.post("guard", "add", data={"name": "copy", "kind": "jwt", "options": marked}))
    assert list(errors) == ["options"]


def test_options_are_an_object(site: Site) -> None:
    errors = site.errors(site.post("guard", "add", data={"name": "g", "kind": "jwt", "options": "[1]"}))
    assert list(errors) == ["options"]


def test_sasl_without_a_mechanism_is_an_error_at_the_mechanism(site: Site) -> None:
    data = site.form("cluster", "add") | {"name": "c", "bootstrap_servers": "k:9092", "security_protocol": "SASL_SSL"}
    assert list(site.errors(site.post("cluster", "add", data=data))) == ["sasl_mechanism"]


@pytest.mark.parametrize(
    ("name", "warned"), [("items", False), ("itmes", True), ("replies", False), ("user-7", False), ("user-", True)]
)
def test_a_tuned_topic_that_no_route_names_is_warned_of(site: Site, name: str, warned: bool) -> None:
    entry = make_gateway().ensure_entry()
    make_route(entry, "put", topic="items", reply_to="replies")
    make_route(entry, "user", topic="user-${params.id}", conditions=[{"path": "/{id}"}])
    cluster = models.Cluster.objects.get()
    data = site.form("cluster", "change", cluster.pk)
    add_row(data, "topics", name=name, default_offset="historical", cleanup_policy="broker")

    warnings = site.save("cluster", "change", cluster.pk, data=data)

    assert [name in warning for warning in warnings] == [True] * warned


def test_a_topic_that_is_read_from_the_start_needs_no_route(site: Site) -> None:
    cluster = models.Cluster.objects.create(name="main", bootstrap_servers="localhost:9092")
    data: dict[str, Any] = {"cluster": cluster.pk, "name": "t", "default_offset": "live", "cleanup_policy": "broker"}
    assert len(site.save("topic", "add", data=data)) == 1
    assert site.save("topic", "add", data=data | {"name": "u", "bootstrap": "on"}) == []


@pytest.mark.parametrize("model", ["cluster", "guard"])
def test_a_form_for_something_new_begins_with_options_that_can_be_saved(site: Site, model: str) -> None:
    form = site.get(model, "add").context["adminform"].form
    assert form["options"].value() == "{}"


def test_a_guard_offers_the_kinds_that_are_known(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(guard_kinds._kinds, "mtls", lambda config: None)
    choices = [value for value, _label in _kind(site, "add").choices]
    assert choices == ["jwt", "simplejwt", "session", "mtls"]


def test_a_kind_that_nobody_knows_any_more_is_not_changed_unseen(site: Site) -> None:
    guard = models.Guard.objects.create(name="old", kind="mtls")
    assert ("mtls", "mtls") in _kind(site, "change", guard.pk).choices
    data = site.form("guard", "change", guard.pk)
    assert data["kind"] == "mtls"
    assert list(site.errors(site.post("guard", "change", guard.pk, data=data))) == ["kind"]


def _kind(site: Site, page: str, *args: Any) -> Any:
    return site.get("guard", page, *args).context["adminform"].form.fields["kind"].widget
