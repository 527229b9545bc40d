"""The configuration in service follows the database: in this process at once, in others soon, never half."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import override_settings

from kafkaproxy.models import Cluster, Condition, ConfigVersion, Gateway, Route
from kafkaproxy.routing import live as live_module
from kafkaproxy.routing.announce import touch
from kafkaproxy.routing.live import LiveConfiguration, live
from kafkaproxy.routing.table import Configuration
from kafkaproxy.signals import configuration_changed
from tests.unit.build import add_route, gateway
from tests.unit.other_process import run

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30


@pytest.fixture(autouse=True)
def _own_store(settings: Any, tmp_path: Path) -> None:
    """A store in which no other test has kept a configuration."""
    settings.KAFKAPROXY = {"STORE_DIR": tmp_path / "store"}


def changed(**names: object) -> override_settings:
    return override_settings(KAFKAPROXY={**django_settings.KAFKAPROXY, **names})


@pytest.fixture
def serving() -> Iterator[LiveConfiguration]:
    """This process's configuration, started; it asks the database so rarely that only the process's own saves are seen."""
    with changed(RELOAD_SECONDS=3600):
        live().start()
        yield live()
        live().stop()


@pytest.fixture
def following() -> Iterator[LiveConfiguration]:
    """A configuration that follows the database and is not told of saves, as in another process."""
    with changed(RELOAD_SECONDS=0):
        configuration = LiveConfiguration()
        configuration.start()
        yield configuration
        configuration.stop()


def names(configuration: LiveConfiguration) -> list[str]:
    return [route.name for each in configuration.current.gateways for entry in each.entries for route in entry.routes]


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds; the test's own time limit ends it otherwise."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)


def take_back(work: Callable[[], object]) -> None:
    """Do the work in an atomic block that is rolled back."""
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        work()
        _ = 1 / 0


class TestThisProcess:
    def test_a_save_is_in_service_when_it_returns(self, serving: LiveConfiguration) -> None:
        entry = gateway()
        assert [each.name for each in serving.current.gateways] == ["g"]
        route = add_route(entry, "a", "/a")
        assert names(serving) == ["a"]
        Condition.objects.get(route=route).delete()
        assert serving.current.gateways[0].entries[0].routes[0].conditions == ()

    def test_a_transaction_is_in_service_whole_when_it_commits(self, serving: LiveConfiguration) -> None:
        entry = gateway()
        generation = serving.generation
        with transaction.atomic():
            add_route(entry, "a", "/a")
            add_route(entry, "b", "/b")
            assert names(serving) == []
        assert names(serving) == ["a", "b"]
        assert serving.generation == generation + 1

    def test_what_is_rolled_back_reloads_nothing(self, serving: LiveConfiguration) -> None:
        entry = gateway()
        before = (serving.generation, ConfigVersion.stamp())
        take_back(lambda: add_route(entry, "a", "/a"))
        assert (serving.generation, ConfigVersion.stamp()) == before

    def test_a_change_after_one_that_a_savepoint_took_back_is_seen(self, serving: LiveConfiguration) -> None:
        entry = gateway()
        with transaction.atomic():
            take_back(lambda: add_route(entry, "a", "/a"))
            add_route(entry, "b", "/b")
        assert names(serving) == ["b"]

    def test_a_change_after_one_that_was_taken_back_by_hand_is_seen(self, serving: LiveConfiguration) -> None:
        entry = gateway()
        with transaction.atomic():
            # Its name until Django 6.1, and since.
            create = getattr(transaction, "savepoint_create", None) or transaction.savepoint
            savepoint = create()
            add_route(entry, "a", "/a")
            transaction.savepoint_rollback(savepoint)
            add_route(entry, "b", "/b")
        assert names(serving) == ["b"]

    def test_a_change_before_a_savepoint_that_is_rolled_back_is_seen(self, serving: LiveConfiguration) -> None:
        entry = gateway()
        with transaction.atomic():
            add_route(entry, "a", "/a")
            take_back(lambda: add_route(entry, "b", "/b"))
        assert names(serving) == ["a"]

    def test_many_changes_in_one_transaction_are_asked_for_once(
        self, serving: LiveConfiguration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry = gateway()
        asked: list[bool] = []
        refresh = serving.refresh
        monkeypatch.setattr(serving, "refresh", lambda: asked.append(True) or refresh())
        with transaction.atomic():
            for name in "abc":
                add_route(entry, name, f"/{name}")
        assert asked == [True]
        add_route(entry, "d", "/d")
        assert names(serving) == ["a", "b", "c", "d"]

    def test_a_change_after_a_commit_whose_callbacks_failed_is_seen(self, serving: LiveConfiguration) -> None:
        entry = gateway()
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            transaction.on_commit(lambda: 1 / 0)  # Django calls none of those that were registered after it
            add_route(entry, "a", "/a")
        before = ConfigVersion.current()
        add_route(entry, "b", "/b")
        assert ConfigVersion.current() > before
        assert names(serving) == ["a", "b"]

    def test_deleting_by_query_is_seen(self, serving: LiveConfiguration) -> None:
        add_route(gateway(), "a", "/a")
        Route.objects.filter(name="a").delete()
        assert names(serving) == []

    def test_what_sends_no_signals_is_seen_once_it_is_said(self, serving: LiveConfiguration) -> None:
        gateway()
        Gateway.objects.update(name="renamed")
        assert serving.current.gateways[0].name == "g"
        touch()
        assert serving.current.gateways[0].name == "renamed"

    def test_a_fixture_is_in_service_when_it_is_loaded(self, serving: LiveConfiguration, tmp_path: Any) -> None:
        gateway()
        fixture = tmp_path / "fixture.json"
        call_command("dumpdata", "kafkaproxy", output=str(fixture))
        version = ConfigVersion.current()
        Gateway.objects.update(name="renamed")
        touch()
        call_command("loaddata", str(fixture), verbosity=0)
        assert serving.current.gateways[0].name == "g"
        assert ConfigVersion.current() > version

    def test_callbacks_run_inside_a_test_case_see_every_change(
        self, serving: LiveConfiguration, django_capture_on_commit_callbacks: Any
    ) -> None:
        entry = gateway()
        with transaction.atomic():
            for name in ("a", "b"):
                with django_capture_on_commit_callbacks(execute=True):
                    add_route(entry, name, f"/{name}")
                assert names(serving)[-1] == name

    def test_a_process_that_does_not_serve_loads_nothing(self) -> None:
        generation = live().generation
        gateway()
        assert live().generation == generation


class TestOtherProcesses:
    CHILD = """
live().subscribe(lambda table: print(table.version, *[each.name for each in table.gateways]))
live().start()
sys.stdin.read()
"""

    def test_a_saved_change_reaches_another_process(self) -> None:
        gateway("one")
        with run(self.CHILD) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == f"{ConfigVersion.current()} one\n"
            with transaction.atomic():
                gateway("two")
                gateway("three")
            assert child.stdout.readline() == f"{ConfigVersion.current()} one two three\n"

    def test_nothing_starts_by_itself(self) -> None:
        code = "import threading; print(live().started, live().generation, threading.active_count())"
        with run(code) as child:
            assert child.stdout is not None
            assert child.stdout.read() == "False 0 1\n"

    def test_a_forked_process_follows_with_a_thread_of_its_own(self) -> None:
        code = """
import warnings
from django.db import connections
live().start()
connections.close_all()
warnings.simplefilter("ignore")  # forking with threads: that is the point
if os.fork() == 0:
    try:
        print("child", live().started)
        live().start()
        print("child", live().started, live().current.gateways[0].name)
        live().stop()
    finally:
        os._exit(0)
os.wait()
print("parent", live().started)
"""
        gateway("one")
        with run(code) as child:
            assert child.stdout is not None
            assert child.stdout.read().splitlines() == ["child False", "child True one", "parent True"]

    def test_the_database_is_followed(self, following: LiveConfiguration) -> None:
        entry = gateway()
        add_route(entry, "a", "/a")
        wait_for(lambda: names(following) == ["a"])
        with transaction.atomic():
            add_route(entry, "b", "/b")
            add_route(entry, "c", "/c")
        wait_for(lambda: len(names(following)) != 1)
        assert names(following) == ["a", "b", "c"]

    def test_a_flushed_database_is_followed(self, following: LiveConfiguration) -> None:
        gateway()
        wait_for(lambda: following.current.gateways)
        call_command("flush", interactive=False, verbosity=0)
        wait_for(lambda: not following.current.gateways)


class TestTrouble:
    def test_a_broken_configuration_leaves_the_last_table_in_service(
        self, serving: LiveConfiguration, caplog: pytest.LogCaptureFixture
    ) -> None:
        route = add_route(gateway(), "a", "/a")
        table = serving.current
        Route.objects.update(topic="${")
        touch()
        assert serving.current is table
        assert serving.error.startswith("g / all / a: ")
        assert "configuration_not_in_service" in caplog.text
        route.topic = "mended"
        route.save()
        assert serving.error == ""
        assert serving.current.gateways[0].entries[0].routes[0].topic.text == "mended"

    def test_a_broken_configuration_is_compiled_and_told_once(
        self, following: LiveConfiguration, caplog: pytest.LogCaptureFixture
    ) -> None:
        add_route(gateway(), "a", "/a")
        Route.objects.update(topic="${")
        touch()
        wait_for(lambda: following.error)
        assert not following.refresh()
        assert not following.reload()
        assert caplog.text.count("configuration_not_in_service") == 1

    def test_a_database_that_fails_leaves_the_table_in_service_and_is_asked_again(
        self, following: LiveConfiguration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gateway("before")
        wait_for(lambda: following.current.gateways)

        def fail(*_args: object) -> None:
            raise OperationalError("gone away")

        with monkeypatch.context() as patch:
            patch.setattr(ConfigVersion, "stamp", fail)
            wait_for(lambda: following.error)
            assert following.error == "The database cannot be read: gone away"
            assert [each.name for each in following.current.gateways] == ["before"]
            assert not following.reload()
        wait_for(lambda: not following.error)  # though nothing changed meanwhile
        gateway("after")
        wait_for(lambda: len(following.current.gateways) == 2)
        assert following.error == ""

    def test_a_mistake_of_ours_does_not_fail_the_save_that_met_it(
        self, serving: LiveConfiguration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serving, "refresh", lambda: 1 / 0)
        gateway("g")
        assert Gateway.objects.filter(name="g").exists()

    def test_a_mistake_of_ours_does_not_end_the_thread(
        self, following: LiveConfiguration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(following, "refresh", lambda: 1 / 0)
            wait_for(lambda: "configuration_poll_failed" in caplog.text)
        gateway()
        wait_for(lambda: following.current.gateways)

    def test_a_database_that_fails_at_the_start_does_not_stop_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_args: object) -> None:
            raise DatabaseError("no such table")

        configuration = LiveConfiguration()
        with monkeypatch.context() as patch, changed(RELOAD_SECONDS=0):
            patch.setattr(ConfigVersion, "stamp", fail)
            configuration.start()
            assert configuration.current == Configuration(known=False)
            assert "no such table" in configuration.error
        wait_for(lambda: configuration.generation)
        configuration.stop()

    def test_an_unset_variable_of_a_cluster_leaves_the_others_alone(self, serving: LiveConfiguration) -> None:
        gateway("bad", cluster=Cluster.objects.create(name="bad", bootstrap_servers="${{env.NOT_SET_IN_TESTS}}"))
        gateway("good")
        assert serving.error == ""
        assert "NOT_SET_IN_TESTS" in serving.current.clusters["bad"].error
        assert serving.current.clusters["main"].error == ""


class TestSubscribers:
    def test_they_get_each_new_table_after_it_is_in_service(self, serving: LiveConfiguration) -> None:
        seen: list[tuple[Configuration, Configuration]] = []
        leave = serving.subscribe(lambda table: seen.append((table, serving.current)))
        gateway("one")
        leave()
        gateway("two")
        assert seen
        assert all(given is current for given, current in seen)
        assert [each.name for each in seen[-1][0].gateways] == ["one"]

    def test_one_that_fails_does_not_keep_the_others_from_it(
        self, serving: LiveConfiguration, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[int] = []

        def fail(_table: Configuration) -> None:
            raise ValueError("mine")

        ways_out = [serving.subscribe(fail), serving.subscribe(lambda table: seen.append(table.version))]
        gateway()
        for leave in ways_out:
            leave()
        assert seen[-1] == serving.current.version
        assert "configuration_subscriber_failed" in caplog.text

    def test_the_signal_tells_the_table_and_its_generation(self, serving: LiveConfiguration) -> None:
        seen: list[tuple[int, int]] = []

        def receive(*, configuration: Configuration, generation: int, **_kwargs: Any) -> None:
            seen.append((configuration.version, generation))

        configuration_changed.connect(receive)
        try:
            gateway()
        finally:
            configuration_changed.disconnect(receive)
        assert seen[-1] == (serving.current.version, serving.generation)


class TestLife:
    def test_starting_again_changes_nothing(self, serving: LiveConfiguration) -> None:
        threads = threading.active_count()
        serving.start()
        assert threading.active_count() == threads

    def test_stopping_ends_the_thread_and_keeps_the_table(self) -> None:
        gateway()
        configuration = LiveConfiguration()
        configuration.start()
        assert configuration.started
        configuration.stop()
        configuration.stop()
        assert not configuration.started
        assert "kafkaproxy-configuration" not in {each.name for each in threading.enumerate()}
        assert configuration.current.gateways

    def test_starting_once_more_catches_up_before_it_returns(self) -> None:
        configuration = LiveConfiguration()
        configuration.start()
        configuration.stop()
        gateway("late")
        configuration.start()
        assert [each.name for each in configuration.current.gateways] == ["late"]
        configuration.stop()

    def test_a_subscriber_may_stop_it(self) -> None:
        configuration = LiveConfiguration()
        with changed(RELOAD_SECONDS=0):
            configuration.start()
            configuration.subscribe(lambda _table: configuration.stop())
            gateway()
            wait_for(lambda: not configuration.started)

    def test_reloading_loads_whether_or_not_the_version_moved(self, serving: LiveConfiguration) -> None:
        gateway()
        Gateway.objects.update(name="renamed")
        generation = serving.generation
        assert serving.refresh()
        assert serving.generation == generation
        assert serving.reload()
        assert serving.current.gateways[0].name == "renamed"

    def test_many_threads_that_ask_at_once_load_once(self) -> None:
        gateway()
        configuration = LiveConfiguration()

        def refresh() -> None:
            configuration.refresh()
            connection.close()

        threads = [threading.Thread(target=refresh) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(PATIENCE)
        assert configuration.generation == 1

    def test_there_is_one_a_process(self) -> None:
        assert live() is live()
        assert live() is live_module.live()
