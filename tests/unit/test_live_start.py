"""A process that starts while its database does not answer, fails, or holds nothing that can be compiled."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from kafkaproxy.models import ConfigVersion, Gateway, Route
from kafkaproxy.models.version import Stamp
from kafkaproxy.routing.announce import touch
from kafkaproxy.routing.live import LiveConfiguration
from kafkaproxy.routing.table import Configuration
from tests.unit.build import add_route, gateway
from tests.unit.test_live import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _settings(settings: Any, tmp_path: Path) -> None:
    settings.KAFKAPROXY = {"STORE_DIR": tmp_path / "store", "RELOAD_SECONDS": 0, "START_TIMEOUT_SECONDS": 30}


@pytest.fixture
def start() -> Iterator[Callable[[], LiveConfiguration]]:
    """Start a configuration as another process would; all are stopped at the end."""
    started: list[LiveConfiguration] = []

    def begin() -> LiveConfiguration:
        started.append(LiveConfiguration())
        started[-1].start()
        return started[-1]

    yield begin
    for each in started:
        each.stop()


@pytest.fixture
def kept(start: Callable[[], LiveConfiguration], tmp_path: Path) -> str:
    """A configuration that another process of this host served, and has kept: its gateway."""
    add_route(gateway("kept"), "a", "/a")
    served = start()
    wait_for(lambda: list((tmp_path / "store" / "_configuration").glob("*.jsonl")))
    served.stop()
    return "kept"


def fail(*_: object) -> Stamp:
    raise OperationalError("gone away")


def names(configuration: LiveConfiguration) -> list[str]:
    return [each.name for each in configuration.current.gateways]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite's lock keeps readers out")
def test_a_database_that_is_locked_holds_up_the_start_no_longer_than_it_may(
    settings: Any, start: Callable[[], LiveConfiguration]
) -> None:
    gateway("g")
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "START_TIMEOUT_SECONDS": 0.1}
    connection.close()
    lock = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        configuration = start()
        assert configuration.current == Configuration(known=False)
        assert configuration.error == "The database does not answer."
        lock.execute("ROLLBACK")
    finally:
        lock.close()
    wait_for(lambda: configuration.current.known)
    assert names(configuration) == ["g"]
    assert configuration.error == ""


def test_a_question_that_is_never_answered_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, settings: Any, start: Callable[[], LiveConfiguration]
) -> None:
    gateway("g")
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "START_TIMEOUT_SECONDS": 0}
    monkeypatch.setattr("kafkaproxy.routing.live._STUCK_SECONDS", 0.0)
    monkeypatch.setattr("kafkaproxy.routing.live._WATCH_SECONDS", 0.01)
    answers, hung = threading.Event(), threading.Event()
    ask = ConfigVersion.stamp

    def hang_once() -> Stamp:
        if not hung.is_set():
            hung.set()
            answers.wait()
            raise OperationalError("timed out")
        return ask()

    monkeypatch.setattr(ConfigVersion, "stamp", hang_once)
    configuration = start()
    try:
        wait_for(lambda: configuration.current.known)
        assert hung.is_set()
        assert names(configuration) == ["g"]
    finally:
        answers.set()
    wait_for(lambda: not configuration.error)


def test_stopping_does_not_wait_for_the_database(
    monkeypatch: pytest.MonkeyPatch, settings: Any, start: Callable[[], LiveConfiguration]
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "START_TIMEOUT_SECONDS": 0}
    answers = threading.Event()

    def hang() -> Stamp:
        answers.wait()
        return fail()

    monkeypatch.setattr(ConfigVersion, "stamp", hang)
    try:
        start().stop()  # the test's own time limit ends it otherwise
    finally:
        answers.set()
    wait_for(lambda: "kafkaproxy-configuration" not in {each.name for each in threading.enumerate()})


def test_the_database_is_asked_often_until_it_has_answered(
    monkeypatch: pytest.MonkeyPatch, settings: Any, start: Callable[[], LiveConfiguration]
) -> None:
    gateway("g")
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "RELOAD_SECONDS": 3600}
    with monkeypatch.context() as patch:
        patch.setattr(ConfigVersion, "stamp", fail)
        configuration = start()
        assert not configuration.current.known
    wait_for(lambda: configuration.current.known)


def test_a_configuration_that_cannot_be_compiled_leaves_the_process_without_one(
    start: Callable[[], LiveConfiguration],
) -> None:
    route = add_route(gateway("g"), "a", "/a")
    Route.objects.update(topic="${")
    touch()
    configuration = start()
    assert configuration.current == Configuration(known=False)
    assert configuration.error.startswith("g / all / a: ")
    route.topic = "mended"
    route.save()
    wait_for(lambda: configuration.current.known)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Says whether the tables are missing; they are not before a test says so."""
    missing = threading.Event()
    ask, introspection = ConfigVersion.stamp, type(connection.introspection)
    listed = introspection.table_names
    monkeypatch.setattr(ConfigVersion, "stamp", lambda: fail() if missing.is_set() else ask())
    monkeypatch.setattr(introspection, "table_names", lambda each: [] if missing.is_set() else listed(each))
    yield missing
    missing.clear()


def test_a_site_that_was_not_migrated_has_no_routes(
    missing: threading.Event, start: Callable[[], LiveConfiguration], caplog: pytest.LogCaptureFixture
) -> None:
    gateway("g")
    missing.set()
    configuration = start()
    assert configuration.current == Configuration()
    assert "run manage.py migrate" in configuration.error
    assert not configuration.refresh()
    assert caplog.text.count("run manage.py migrate") == 1
    missing.clear()
    wait_for(lambda: configuration.current.gateways)
    assert configuration.error == ""


def test_a_database_that_lost_its_tables_while_a_backup_is_restored_is_no_new_one(
    missing: threading.Event, kept: str, start: Callable[[], LiveConfiguration]
) -> None:
    missing.set()
    assert names(start()) == [kept]


class TestKept:
    def test_it_is_served_where_the_database_fails_and_replaced_when_it_answers(
        self, kept: str, start: Callable[[], LiveConfiguration], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ConfigVersion, "stamp", fail)
            Gateway.objects.update(name="newer")
            configuration = start()
            assert names(configuration) == [kept]
            assert configuration.current.version == ConfigVersion.objects.get().version
            assert configuration.error == "The database cannot be read: gone away"
        wait_for(lambda: names(configuration) == ["newer"])
        assert configuration.error == ""

    def test_it_is_served_where_the_database_does_not_answer(
        self, kept: str, settings: Any, start: Callable[[], LiveConfiguration], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.KAFKAPROXY = {**settings.KAFKAPROXY, "START_TIMEOUT_SECONDS": 0.1}
        answers = threading.Event()
        ask = ConfigVersion.stamp
        monkeypatch.setattr(ConfigVersion, "stamp", lambda: ask() if answers.wait() else fail())
        try:
            configuration = start()
            assert names(configuration) == [kept]
            assert configuration.error == "The database does not answer."
        finally:
            answers.set()
        wait_for(lambda: not configuration.error)

    def test_it_is_served_where_the_newest_cannot_be_compiled(self, kept: str, start: Callable[[], LiveConfiguration]) -> None:
        Route.objects.update(topic="${")
        touch()
        configuration = start()
        assert names(configuration) == [kept]
        assert configuration.error.startswith("kept / all / a: ")

    @pytest.mark.usefixtures("kept")
    def test_one_that_cannot_be_compiled_any_more_is_told_and_not_served(
        self,
        start: Callable[[], LiveConfiguration],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        tmp_path: Path,
    ) -> None:
        (path,) = (tmp_path / "store" / "_configuration").glob("*.jsonl")
        path.write_text(path.read_text().replace('"items"', '"${"'))
        with monkeypatch.context() as patch:
            patch.setattr(ConfigVersion, "stamp", fail)
            assert not start().current.known
        assert "kept_configuration_unusable" in caplog.text

    @pytest.mark.usefixtures("kept")
    def test_the_database_goes_before_it(self) -> None:
        Gateway.objects.update(name="newer")
        touch()
        seen: list[str] = []
        configuration = LiveConfiguration()
        configuration.subscribe(lambda table: seen.extend(each.name for each in table.gateways))
        configuration.start()
        configuration.stop()
        assert seen == ["newer"]
