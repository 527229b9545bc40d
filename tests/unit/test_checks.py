"""System checks, by id."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext, override_settings

from kafkaproxy.asgi import KafkaProxy
from kafkaproxy.models import Cluster, Condition, Entry, EntryCondition, Gateway, Guard, Route
from kafkaproxy.routing.review import review_configuration
from tests.unit.build import add_route, everything, gateway

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "checks.md"
IDS = [
    "kafkaproxy.E001",
    "kafkaproxy.E002",
    "kafkaproxy.W001",
    "kafkaproxy.W002",
    "kafkaproxy.W003",
    "kafkaproxy.W004",
    "kafkaproxy.W005",
    "kafkaproxy.W006",
    "kafkaproxy.W010",
    "kafkaproxy.W011",
    "kafkaproxy.W012",
    "kafkaproxy.W013",
    "kafkaproxy.W014",
    "kafkaproxy.W015",
    "kafkaproxy.W016",
    "kafkaproxy.W017",
]


def run(*, databases: list[str] | None = None, deploy: bool = False) -> list[checks.CheckMessage]:
    """Run the checks of this app; W001 is left out unless it is what a test is about."""
    found = checks.run_checks(databases=databases, include_deployment_checks=deploy)
    return [each for each in found if each.id and each.id.startswith("kafkaproxy.")]


def ids(**options: Any) -> list[str]:
    return [str(each.id).removeprefix("kafkaproxy.") for each in run(**options)]


def configuration() -> list[tuple[str, str]]:
    found = [each for each in run(databases=["default"]) if str(each.id) >= "kafkaproxy.W010"]
    return [(str(each.id).removeprefix("kafkaproxy."), str(each.msg)) for each in found]


@pytest.fixture(autouse=True)
def asgi_site() -> Iterator[None]:
    with override_settings(ASGI_APPLICATION="tests_asgi.application", DEBUG=True):
        yield


def serve(monkeypatch: pytest.MonkeyPatch, application: object) -> None:
    module = types.ModuleType("tests_asgi")
    module.application = application  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_asgi", module)


def test_the_ids_are_these_and_each_is_documented() -> None:
    source = Path(sys.modules["kafkaproxy.checks"].__file__ or "").read_text()
    assert sorted({f"kafkaproxy.{number}" for number in re.findall(r'"([EW]\d{3})"', source)}) == IDS
    assert [f"kafkaproxy.{number}" for number in re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)] == IDS


def test_every_message_leads_to_its_place_in_the_page() -> None:
    with override_settings(KAFKAPROXY={"NOPE": 1}, ASGI_APPLICATION=None):
        for each in run():
            assert str(each.hint).endswith(f"docs/reference/checks.md#{str(each.id)[-4:].lower()}")


def test_a_site_that_is_set_up_has_nothing_to_say() -> None:
    assert ids() == []


def test_they_are_registered_once() -> None:
    every = [*registry.get_checks(), *registry.deployment_checks]
    own = [check for check in every if check.__module__ == "kafkaproxy.checks"]
    assert len(own) == len(set(own)) == 6


class TestSettings:
    def test_a_setting_that_cannot_be_read(self) -> None:
        with override_settings(KAFKAPROXY={"STORE": "/x"}):
            (message,) = run()
            assert message.id == "kafkaproxy.E001"
            assert message.is_serious()
            assert "KAFKAPROXY['STORE'] is not a setting" in message.msg

    def test_a_store_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with override_settings(KAFKAPROXY={"STORE_DIR": tmp_path / "file" / "store"}):
            assert ids() == ["E002"]

    def test_a_store_that_does_not_exist_yet(self, tmp_path: Path) -> None:
        with override_settings(KAFKAPROXY={"STORE_DIR": tmp_path / "a" / "b"}):
            assert ids() == []
        assert not (tmp_path / "a").exists()

    def test_a_store_that_may_not_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != tmp_path)
        with override_settings(KAFKAPROXY={"STORE_DIR": tmp_path / "store"}):
            assert ids() == ["W004"]

    def test_a_store_at_a_relative_path(self) -> None:
        with override_settings(KAFKAPROXY={"STORE_DIR": "store"}):
            assert ids() == ["W005"]

    def test_sockets_whose_path_is_too_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "x" * 60)
        with override_settings(KAFKAPROXY={"STORE_DIR": tmp_path / ("y" * 60)}):
            assert ids() == ["W006"]
        with override_settings(KAFKAPROXY={"STORE_DIR": "/tmp/kafkaproxy-short"}):  # they lie next to the store then
            assert ids() == []

    def test_a_site_for_wsgi(self) -> None:
        with override_settings(ASGI_APPLICATION=None):
            assert ids() == ["W001"]

    def test_a_middleware_that_compresses(self) -> None:
        with override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"]):
            assert ids() == ["W003"]


async def site(*_args: object) -> None:
    """The wrapped site."""


class Around:
    """An ASGI middleware."""

    def __init__(self, app: object) -> None:
        self.app = app


class GZipMiddleware(Around):
    """One that compresses."""


class Router:
    """Takes applications by protocol, as Channels does."""

    def __init__(self, mapping: dict[str, object]) -> None:
        self.application_mapping = mapping


class TestApplication:
    @pytest.mark.parametrize(
        ("application", "expected"),
        [
            (KafkaProxy(site), []),
            (Around(Router({"http": KafkaProxy(site), "websocket": site})), []),
            (Around(GZipMiddleware(KafkaProxy(site))), ["W003"]),
            (KafkaProxy(GZipMiddleware(site)), []),  # type: ignore[arg-type]
            (Around(site), ["W002"]),
        ],
    )
    def test_what_is_around_the_proxy(self, monkeypatch: pytest.MonkeyPatch, application: object, expected: list[str]) -> None:
        serve(monkeypatch, application)
        assert ids(deploy=True) == expected

    def test_an_application_that_cannot_be_imported(self) -> None:
        assert ids(deploy=True) == ["W002"]

    def test_an_application_that_holds_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = Around(None)
        loop.app = loop
        serve(monkeypatch, loop)
        assert ids(deploy=True) == ["W002"]

    def test_no_application_is_told_once(self) -> None:
        with override_settings(ASGI_APPLICATION=None):
            assert ids(deploy=True) == ["W001"]

    def test_it_is_not_imported_without_deploy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        serve(monkeypatch, Around(site))
        assert ids() == []


class ElsewhereRouter:
    """Keeps the configuration in a database that Django does not let checks ask."""

    def db_for_read(self, *_args: object, **_hints: object) -> str:
        return "elsewhere"


@pytest.mark.django_db
class TestConfiguration:
    def test_the_database_is_asked_only_where_django_says_so(self) -> None:
        add_route(gateway(), "r", "/x", topic="${params.nope}")
        with CaptureQueriesContext(connection) as asked:  # Django's own checks ask what SQLite can do
            assert ids() == []
        assert [each["sql"] for each in asked.captured_queries if "kafkaproxy_" in each["sql"]] == []
        assert ids(databases=["default"]) == ["W010"]
        with override_settings(DATABASE_ROUTERS=[ElsewhereRouter()]):
            assert ids(databases=["default"]) == []

    def test_a_good_configuration_has_nothing_to_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        everything()
        for name in ("ISSUER", "KID", "SERVERS", "SECRET", "RACK", "HOST", "ROLE", "STAGE"):
            monkeypatch.setenv(name, "x")
        assert configuration() == []

    def test_every_broken_route_is_named(self) -> None:
        entry = gateway("shop")
        add_route(entry, "a", "/a", topic="${params.nope}")
        add_route(entry, "b", "/b", key="x")
        Route.objects.filter(name="b").update(topic="${")
        assert configuration() == [
            ("W010", "shop / all / a: topic: ${params.nope} is unknown: the path of “GET /a” has no {nope}."),
            ("W010", "shop / all / b: topic: The expression at position 1 of '${' is not closed: add '}'."),
        ]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda: EntryCondition.objects.create(entry=Entry.objects.get(), headers=["x"]),
            lambda: EntryCondition.objects.create(entry=Entry.objects.get(), path="/{"),
            lambda: Route.objects.update(capability="nonsense"),
            lambda: Gateway.objects.update(guard=Guard.objects.create(name="g", kind="session"), credentials_headers=["x"]),
        ],
    )
    def test_what_no_form_would_save_is_named(self, damage: Any) -> None:
        add_route(gateway("shop"), "r", "/x")
        damage()
        ((number, message),) = configuration()
        assert number == "W010"
        assert "shop" in message

    def test_a_cluster_without_servers(self) -> None:
        gateway(cluster=Cluster.objects.create(name="c", bootstrap_servers=","))
        assert configuration() == [("W010", "c: It has no bootstrap servers: write host:port.")]

    def test_missing_variables_are_named_where_they_are_needed(self) -> None:
        everything()
        found = configuration()
        assert {number for number, _ in found} == {"W011"}
        assert sorted(message.split(" is not set")[0] for _, message in found) == [
            "jwt: The environment variable ISSUER",
            "jwt: The environment variable KID",
            "main: The environment variable RACK",
            "main: The environment variable SECRET",
            "main: The environment variable SERVERS",
            "shop / api / put: The environment variable STAGE",
            "shop: The environment variable HOST",
            "shop: The environment variable ROLE",
        ]

    def test_a_guard_that_cannot_be_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Guard.objects.create(name="odd", kind="jtw")
        Guard.objects.create(name="shut", options={"issuer": "https://auth.example"})
        fine = {"issuer": "https://auth.example", "audience": "shop"}
        Guard.objects.create(name="fine", options=fine)
        refuses = "cannot be used, so it refuses every client"
        assert configuration() == [
            ("W017", f"odd {refuses}: jtw is not a kind of guard. Did you mean jwt? Known are jwt, session, simplejwt."),
            ("W017", f"shut {refuses}: audience: Write this option."),
        ]
        monkeypatch.setattr("jwt.algorithms.has_crypto", False)
        Guard.objects.exclude(name="fine").delete()
        ((number, message),) = configuration()
        assert number == "W017"
        assert "pip install 'kafkaproxy[crypto]'" in message

    def test_an_unknown_guard(self) -> None:
        add_route(gateway("shop"), "r", "/x", topic="${guarded['gone'].identity}")
        ((number, message),) = configuration()
        assert number == "W012"
        assert message.startswith("shop / all / r: topic: There is no guard “gone”")

    def test_hidden_entries_and_routes(self) -> None:
        entry = gateway("shop")
        add_route(entry, "wide", "/items/*")
        add_route(entry, "narrow", "/items/{id}")
        EntryCondition.objects.create(entry=Entry.objects.create(gateway=entry.gateway, name="api"), path="/api/*")
        numbers, messages = zip(*configuration(), strict=True)
        assert numbers == ("W013", "W013")
        assert messages[0].startswith("shop / api: position: ")
        assert messages[1].startswith("shop / all / narrow: conditions: ")

    def test_an_outcome_that_cannot_be_asked_for(self) -> None:
        route = add_route(gateway(), "r", "/x", method="POST", capability="produce", reply_to="replies")
        route.async_fields.create(value="/status?cid=${correlationId}")
        assert [number for number, _ in configuration()] == ["W014"]

    def test_rows_at_the_same_position(self) -> None:
        entry = gateway()
        add_route(entry, "r", "/a", "/b")
        Condition.objects.update(position=0)
        for path in ("/a", "/b"):
            EntryCondition.objects.create(entry=entry, path=path, position=3)
        assert [number for number, _ in configuration()] == ["W015", "W015"]

    def test_an_embedded_broker_outside_debug(self) -> None:
        gateway(cluster=Cluster.objects.create(name="demo", bootstrap_servers="embedded"))
        assert configuration() == []
        with override_settings(DEBUG=False):
            ((number, message),) = configuration()
        assert number == "W016"
        assert message.startswith("demo is the embedded broker")

    def test_errors_come_first(self) -> None:
        entry = gateway()
        for name in ("a", "b"):
            add_route(entry, name, "/x")
        add_route(entry, "c", "/y", topic="${params.nope}")
        assert [number for number, _ in configuration()] == ["W010", "W013"]

    def test_a_database_that_is_not_migrated_has_nothing_to_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_environ: object) -> None:
            raise OperationalError("no such table")

        monkeypatch.setattr("kafkaproxy.routing.review.review_configuration", fail)
        assert configuration() == []

    def test_nothing_here_stops_migrate(self) -> None:
        add_route(gateway(), "r", "/x", topic="${params.nope}")
        call_command("migrate", verbosity=0, skip_checks=False)

    def test_no_value_of_the_environment_is_told(self) -> None:
        everything()
        environment = dict.fromkeys(("SERVERS", "SECRET", "ISSUER"), "s3cret")
        assert "s3cret" not in str(review_configuration(environment))
