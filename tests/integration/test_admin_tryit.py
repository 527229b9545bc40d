"""Try it: the admin sends requests through routes, says why a route serves, and keeps users from acting as others."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import AsyncClient, Client
from django.urls import reverse

from kafkaproxy import models
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.table import Configuration, EntryCondition, GuardConfig
from kafkaproxy.serving import runtime
from tests.conftest import TopicFactory
from tests.integration.admin_site import Site, make_gateway, make_route
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce, stream

pytestmark = pytest.mark.django_db(transaction=True)

Send = Callable[..., Any]
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Configuration], Proxy]]:
    """Put a configuration in service in this process."""
    running: list[Proxy] = []

    def serve(config: Configuration) -> Proxy:
        proxy = Proxy(tmp_path, config)
        running.append(proxy)
        monkeypatch.setattr(runtime, "_runtime", proxy.runtime)
        return proxy

    yield serve
    for proxy in running:
        proxy.close()


@pytest.fixture
def send() -> Send:
    """Send the form of a site's user; return the response."""

    def post(site: Site, method: str, target: str, **fields: Any) -> Any:
        data = {"method": method, "target": target, "scheme": "https", "host": "example.com", "client": "anonymous"}
        return site.client.post(site.url("route", "try_any"), {**data, "seconds": 5, **fields})

    return post


def _text(response: Any) -> str:
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def _steps(response: Any) -> dict[str, str]:
    return {
        step.name: step.reason for one in response.context["steps"] for entry in one.entries for step in [entry, *entry.routes]
    }


def _guarded(*routes: Any, **guards: dict[str, Any]) -> Configuration:
    config = configuration(NOWHERE, gateway(*routes))
    return replace(config, guards={name: GuardConfig(name=name, **each) for name, each in guards.items()})


SESSION = {"kind": "session", "options": {"cache": 0}}


@pytest.mark.parametrize("permissions", [[], ["view_route", "change_route", "browse_topic", "try_route_as_user"]])
def test_nobody_tries_without_the_permission(send: Send, permissions: list[str]) -> None:
    route = make_route(make_gateway().ensure_entry(), "get", "fetch")
    site = Site(permissions)
    assert site.get("route", "try_any").status_code == 403
    assert site.get("route", "try", route.pk).status_code == 403
    assert send(site, "GET", "/items").status_code == 403
    assert not LogEntry.objects.exists()


def test_a_form_from_another_site_is_refused(send: Send) -> None:
    site = Site(["try_route"])
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(site.user)
    assert strict.post(site.url("route", "try_any"), {"method": "GET", "target": "/"}).status_code == 403


def test_the_form_of_a_route_begins_with_its_first_condition() -> None:
    route = make_route(make_gateway().ensure_entry(), "put", conditions=[{"method": "PUT", "path": "/items/{id}"}])
    form = Site(["try_route"]).get("route", "try", route.pk).context["form"]
    assert (form["method"].value(), form["target"].value()) == ("PUT", "/items/{id}")


def test_a_produced_record_is_read_back_from_kafka(
    send: Send, serving: Any, kafka: Cluster, topic: TopicFactory, kcat_consume: Any
) -> None:
    name = topic()
    route = produce("PUT /items/{id}", topic=name, key="${params.id}", overrides={"kind": "x"}, name="put")
    serving(configuration(kafka.bootstrap, gateway(fetch("GET /items/{id}", topic=name, name="get"), route)))
    stored = make_route(make_gateway("gateway").ensure_entry(), "put")
    stored.entry.name = "all"
    stored.entry.save()

    site = Site(["try_route"])
    fields = {"fields_text": "Content-Type: application/json", "body": '{"a":1}'}
    response = send(site, "PUT", "/items/4%202?token=secret", **fields)

    trial = response.context["trial"]
    assert (trial.ended, trial.status) == ("complete", 204)
    (record,) = kcat_consume(name)
    assert (record.key, record.value) == ("4 2", '{"a":1}')
    (sent,) = response.context["sent"]
    shown = sent["record"]
    assert (shown.topic, shown.partition, shown.offset) == (name, 0, record.offset)
    assert (shown.key.text, shown.value.text) == ("4 2", '{\n  "a": 1\n}')
    assert [(key, value.text) for key, value in shown.headers] == [("content-type", "application/json"), ("kind", "x")]
    assert _steps(response) == {
        "all": "its conditions match and its guards pass",
        "get": "for this path it serves GET, HEAD",
        "put": "serves the request",
    }
    assert "Served by" in _text(response)
    (entry,) = LogEntry.objects.all()
    assert (entry.user, entry.object_id, entry.change_message) == (
        site.user,
        str(stored.pk),
        "Tried PUT /items/4%202 as anonymous.",
    )


def test_what_a_sensitive_topic_holds_is_not_shown(
    send: Send, serving: Any, kafka: Cluster, topic: TopicFactory, produce: Any
) -> None:
    from tests.support.proxy import produce as produce_route

    name = topic()
    produce(name, b"a secret value", key="1")
    cluster = models.Cluster.objects.create(name="default", bootstrap_servers=kafka.bootstrap)
    cluster.topics.create(name=name, sensitive=True)
    get = fetch("GET /items/{id}", topic=name, filters=[{"key": "${params.id}"}])
    serving(configuration(kafka.bootstrap, gateway(get, produce_route("POST /items", topic=name))))

    fetched = send(Site(["try_route"]), "GET", "/items/1")
    assert fetched.context["trial"].status == 200
    assert fetched.context["trial"].body == b"a secret value"
    assert "a secret value" not in _text(fetched)
    assert f"{name} is marked as sensitive" in _text(fetched)
    assert "etag" not in _text(fetched)

    posted = send(Site(None), "POST", "/items")
    assert [(each["hidden"], each["record"]) for each in posted.context["sent"]] == [(True, None)]


def test_a_stream_is_cut_off_at_the_end_of_the_time(
    send: Send, serving: Any, kafka: Cluster, topic: TopicFactory, produce: Any
) -> None:
    name = topic()
    produce(name, b"one", key="1")
    proxy = serving(configuration(kafka.bootstrap, gateway(stream("GET /events", topic=name))))

    response = send(Site(["try_route"]), "GET", "/events", seconds=2)

    trial = response.context["trial"]
    assert (trial.ended, trial.status) == ("open", 200)
    assert b"data:one" in trial.body.replace(b"data: ", b"data:")
    assert len(proxy.runtime.streams) == 0


def test_a_request_that_nobody_answers_ends_with_the_time(
    send: Send, serving: Any, kafka: Cluster, topic: TopicFactory
) -> None:
    proxy = serving(
        configuration(kafka.bootstrap, gateway(produce("POST /items", topic=topic(), reply_to=topic(), timeout=60)))
    )
    response = send(Site(["try_route"]), "POST", "/items", seconds=3)
    assert "There was no answer within the time" in _text(response)
    assert [each["record"].topic for each in response.context["sent"]] == [response.context["trial"].topics[0]]
    assert proxy.runtime.worker.waiting == 0


def test_a_path_without_a_route_is_not_sent(send: Send, serving: Any) -> None:
    serving(configuration(NOWHERE, gateway(fetch("/items", topic="items"))))
    response = send(Site(["try_route"]), "GET", "/elsewhere")
    assert "the request would go to the site itself, and was not sent" in _text(response)
    assert [one.reason for one in response.context["steps"]] == ["none of its routes has this path"]


def test_why_entries_and_gateways_are_passed_over(send: Send, serving: Any) -> None:
    first = gateway(fetch("/items", topic="items", name="first"), name="one")
    only = EntryCondition(scheme=PathTemplate.parse("http"), method="PUT", headers=((b"x-env", PathTemplate.parse("test")),))
    first = replace(first, entries=(replace(first.entries[0], name="narrow", levels=((only,),)),))
    second = gateway(produce("POST /items", topic="items", name="post"), name="two")
    serving(configuration(NOWHERE, first, second, gateway(fetch("/items", topic="items"), name="three")))

    response = send(Site(["try_route"]), "OPTIONS", "/items")

    assert _steps(response)["narrow"] == "its conditions want another method, scheme, field"
    assert _steps(response)["post"] == "for this path it serves POST"
    assert response.context["trial"].status == 405


def test_a_guard_says_why_it_refuses(send: Send, serving: Any) -> None:
    serving(_guarded(fetch("/items", topic="items", guarded={"who": ["admins"]}), who=SESSION))
    site = Site(["try_route"])

    anonymous = send(site, "GET", "/items")
    assert anonymous.context["trial"].status == 401
    assert _steps(anonymous)["fetch"] == "guard who: there is no credential"

    myself = send(site, "GET", "/items", client="user")
    assert myself.context["trial"].status == 403
    assert _steps(myself)["fetch"] == "guard who: the client lacks admins"


def test_the_cookies_of_who_tries_are_nobodys_credential(send: Send, serving: Any) -> None:
    serving(_guarded(fetch("/items", topic="items", guarded={"who": []}), who=SESSION))
    site = Site(None)
    assert site.client.cookies["sessionid"].value
    assert send(site, "GET", "/items").context["trial"].status == 401


def test_a_pasted_token_is_sent_and_never_shown_again(send: Send, serving: Any) -> None:
    jwt = {"kind": "jwt", "options": {"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": "c2VjcmV0"}]}}
    serving(_guarded(fetch("/items", topic="items", guarded={"who": []}), who=jwt))
    response = send(Site(["try_route"]), "GET", "/items", client="token", token="a.pasted.token")
    assert (b"authorization", b"Bearer a.pasted.token") in response.context["trial"].request.fields
    assert "a.pasted.token" not in _text(response)
    assert "a.pasted.token" not in json.dumps(list(LogEntry.objects.values_list("change_message", "object_repr")))


def test_acting_as_somebody_else_needs_its_own_permission(send: Send, serving: Any) -> None:
    serving(_guarded(fetch("/items", topic="items", guarded={"who": ["editors"]}), who=SESSION))
    alice = User.objects.create_user("alice")
    alice.groups.add(Group.objects.create(name="editors"))

    refused = send(Site(["try_route"]), "GET", "/items", client="user", username="alice")
    assert "acting as another user needs a permission" in _text(refused)
    assert "trial" not in refused.context
    assert not LogEntry.objects.exists()

    User.objects.filter(username="clerk").delete()
    allowed = send(Site(["try_route", "try_route_as_user"]), "GET", "/items", client="user", username="alice", seconds=1)
    assert _steps(allowed)["fetch"] == "serves the request"
    assert LogEntry.objects.get().change_message == "Tried GET /items as user alice."


@pytest.mark.parametrize(
    ("who", "said"),
    [("root", "Only a superuser may act as a superuser"), ("gone", "no active user"), ("nobody", "no active user")],
)
def test_nobody_becomes_a_superuser_or_who_is_not_active(send: Send, serving: Any, who: str, said: str) -> None:
    serving(_guarded(fetch("/items", topic="items", guarded={"who": []}), who=SESSION))
    User.objects.create_superuser("root")
    User.objects.create_user("gone", is_active=False)
    response = send(Site(["try_route", "try_route_as_user"]), "GET", "/items", client="user", username=who)
    assert said in _text(response)
    assert "trial" not in response.context


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "items"),
        ("target", "/a b"),
        ("target", "/a#b"),
        ("method", "GE T"),
        ("fields_text", "no colon"),
        ("fields_text", "a: ☃"),
        ("seconds", "3600"),
        ("token", ""),
    ],
)
def test_what_is_no_request_is_refused_beside_its_field(send: Send, field: str, value: str) -> None:
    data = {"method": "GET", "target": "/items", "client": "token", "token": "abc", field: value}
    response = send(Site(["try_route"]), data.pop("method"), data.pop("target"), **data)
    assert list(response.context["form"].errors) == [field]
    assert not LogEntry.objects.exists()


def test_a_trial_leaves_nothing_for_real_requests(
    send: Send, serving: Any, kafka: Cluster, topic: TopicFactory, produce: Any
) -> None:
    name = topic()
    produce(name, b"one", key="1")
    proxy = serving(configuration(kafka.bootstrap, gateway(fetch("GET /items/{id}", topic=name, filters=[{"key": "1"}]))))
    assert send(Site(["try_route"]), "GET", "/items/1").context["trial"].status == 200
    table = proxy.runtime.table
    assert table is not None
    scope = {"method": "GET", "raw_path": b"/items/1", "scheme": "https", "headers": [(b"host", b"example.com")]}
    assert table.response_cache.find(scope) is None
    assert table.prepared.find(scope) is None


async def test_under_asgi_a_trial_runs_in_the_loop_of_real_requests_and_may_ask_the_database(
    serving: Any, kafka: Cluster, topic: TopicFactory, kcat_consume: Any
) -> None:
    name = topic()
    route = produce("PUT /items", topic=name, key="${guarded['who'].identity}", guarded={"who": []})
    config = configuration(kafka.bootstrap, gateway(route))
    who = GuardConfig(name="who", kind="session", options={"cache": 0, "identity": "username"})
    proxy = serving(replace(config, guards={"who": who}))
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate(username="boss", is_staff=True, is_superuser=True))
    cookie = f"cookie: sessionid={client.cookies['sessionid'].value}"
    form = {"target": "/items", "scheme": "https", "host": "example.com", "seconds": 5, "client": "anonymous"}
    url = reverse("admin:kafkaproxy_route_try_any")

    pasted = await client.post(url, {**form, "method": "PUT", "fields_text": cookie})
    assert pasted.context["trial"].status == 403  # the session is read, and a cookie alone is no CSRF token
    myself = await client.post(url, {**form, "method": "PUT", "client": "user"})
    assert myself.context["trial"].status == 204

    assert [record.key for record in kcat_consume(name)] == ["boss"]
    (worker,) = proxy.runtime.worker.clusters().values()
    assert set(worker._hubs.by_loop) <= {asyncio.get_running_loop()}


def test_a_parameter_has_to_be_filled_in(send: Send, serving: Any) -> None:
    serving(configuration(NOWHERE, gateway(fetch("/items/{id}", topic="items"))))
    site = Site(["try_route"])
    refused = send(site, "GET", "/items/{id}")
    assert refused.context["form"].errors["target"] == [
        "Write a value of your own in the place of {id}. (A brace itself is %7B.)"
    ]
    assert "trial" not in refused.context
    assert "trial" in send(site, "GET", "/elsewhere/%7Bid%7D?q={x}").context


def test_the_form_of_a_route_that_produces_begins_with_a_content_type() -> None:
    entry = make_gateway().ensure_entry()
    put, get = make_route(entry, "put"), make_route(entry, "get", "fetch")
    site = Site(["try_route"])
    begun = [site.get("route", "try", each.pk).context["form"]["fields_text"].value() for each in (put, get)]
    assert begun == ["content-type: application/json", None]


@pytest.mark.parametrize("off", ["route", "entry", "gateway"])
def test_a_route_that_is_off_says_so_before_one_tries_it(off: str) -> None:
    route = make_route(make_gateway().ensure_entry(), "put")
    site = Site(["try_route"])
    said = "This route serves nothing at the moment"
    assert said not in _text(site.get("route", "try", route.pk))
    row: Any = {"route": route, "entry": route.entry, "gateway": route.entry.gateway}[off]
    row.enabled = False
    row.save()
    assert said in _text(site.get("route", "try", route.pk))


def test_a_route_that_did_not_serve_its_trial_says_so(serving: Any) -> None:
    serving(configuration(NOWHERE, gateway(fetch("/items", topic="items", name="first"))))
    route = make_route(make_gateway("gateway").ensure_entry(), "second", "fetch", conditions=[{"path": "/items"}])
    data = {"method": "POST", "target": "/items", "scheme": "https", "host": "a", "client": "anonymous", "seconds": 1}
    site = Site(["try_route"])
    assert "second did not serve this request" in _text(site.client.post(site.url("route", "try", route.pk), data))
