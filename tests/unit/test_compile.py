"""From rows to the table."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, transaction

from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.models import Cluster, Condition, Entry, Gateway, Guard, Override, Route, RouteGuard, Topic
from kafkaproxy.routing import compile as compiling
from kafkaproxy.routing.announce import touch
from kafkaproxy.routing.compile import Compiler, ConfigurationError, load_configuration, read_unchanged
from kafkaproxy.routing.table import (
    AccessControl,
    Capability,
    Configuration,
    Credentials,
    EntryCondition,
    GuardRequirement,
)
from kafkaproxy.specs.from_rows import configuration_spec, read_rows
from kafkaproxy.worker.types import EMBEDDED, Acks, Role, TopicSettings
from tests.unit.build import add_route, everything, gateway, many_routes

pytestmark = pytest.mark.django_db

ENVIRONMENT = {
    "ISSUER": "https://issuer",
    "KID": "k1",
    "SERVERS": "one:9092,two:9092",
    "SECRET": "s3cret",
    "RACK": "eu-1",
    "HOST": "example.com",
    "ROLE": "admin",
    "STAGE": "prod",
}


def compiled(environ: dict[str, str] | None = None) -> Configuration:
    return compile_with(Compiler(environ or {}))


def compile_with(compiler: Compiler) -> Configuration:
    rows, stamp = read_unchanged()
    return compiler.compile(configuration_spec(rows), stamp.version)


def parse(text: str) -> PathTemplate:
    return PathTemplate.parse(text)


class TestEverything:
    @pytest.fixture
    def table(self) -> Configuration:
        everything()
        return compiled(ENVIRONMENT)

    def test_a_gateway_keeps_what_it_says(self, table: Configuration) -> None:
        (shop,) = table.gateways
        assert (shop.name, shop.cluster) == ("shop", "main")
        assert shop.idempotency_header == b"idempotency-key"
        assert (shop.reply_to_header, shop.correlation_header) == ("x:reply", "x:cid")
        assert shop.forwarded_fields == {b"accept", b"x-a"}
        assert shop.dropped_fields == {b"x-secret"}
        assert shop.forward_credentials
        assert shop.credentials == Credentials(
            guard="jwt",
            cookies={"Token": "{credentials}"},
            headers={"authorization": "Bearer {credentials}"},
            query={"Token": "{credentials}"},
        )
        assert shop.access_control == AccessControl(
            policy="cross-origin",
            allow_origins=frozenset({"https://example.com"}),
            allow_methods=frozenset({"PUT"}),
            allow_headers=frozenset({"x-a"}),
            allow_credentials=True,
            max_age=60,
            expose_headers=frozenset({"etag"}),
        )

    def test_an_entry_keeps_its_levels_and_guards(self, table: Configuration) -> None:
        api, rest = table.gateways[0].entries
        assert (api.name, rest.name) == ("api", "rest")
        assert api.levels == (
            (
                EntryCondition(
                    scheme=parse("https"),
                    authority=parse("example.com:443"),
                    path=parse("/api/*"),
                    headers=((b"content-type", parse("application/json*")),),
                ),
            ),
            (
                EntryCondition(path=parse("/api/items/{x}"), method="PUT"),
                EntryCondition(path=parse("/api/items"), method="POST"),
            ),
        )
        assert api.guarded == (GuardRequirement(guard="jwt", roles=frozenset({"write", "admin"})),)
        assert rest.levels == ()

    def test_a_produce_route_keeps_what_it_says(self, table: Configuration) -> None:
        (put,) = table.gateways[0].entries[0].routes
        assert (put.name, put.capability, put.cluster) == ("put", Capability.PRODUCE, "main")
        assert put.topic.text == "prod-requests"
        assert put.key is not None
        assert put.key.text == "${params.id}"
        assert put.acks is Acks.LEADER_ONLY
        assert [(name, value.text) for name, value in put.overrides] == [
            ("x:who", "${guarded['jwt'].identity}"),
            ("x:stage", "prod"),
        ]
        assert put.reply_to is not None
        assert put.reply_to.text == "replies"
        assert put.correlation_header == "x:own"
        assert put.timeout == 7.0
        assert [(each.method, each.path and each.path.text) for each in put.conditions] == [
            ("PUT", "/api/items/{id}"),
            ("GET", "/api/items/{id};cid={correlationId}"),
        ]
        assert put.async_location is not None
        assert put.async_location.match("/api/items/1;cid=k-2") == {"id": "1", "correlationId": "k-2"}

    def test_reading_routes_keep_what_they_say(self, table: Configuration) -> None:
        get, stream = table.gateways[0].entries[1].routes
        assert (get.merge, get.cache_control, get.cluster) == (True, "max-age=5", "main")
        assert get.filters[0].key is not None
        assert get.filters[0].key.text == "fixed"
        assert [(name, value.text) for name, value in get.filters[0].headers] == [
            ("x:who", "${guarded['jwt'].attributes.tenant}")
        ]
        assert get.filters[1].key is None
        assert get.guarded == (GuardRequirement(guard="jwt", roles=frozenset({"read"})),)
        assert (stream.cluster, stream.event_id_key, stream.base64) == ("second", True, True)
        assert (stream.start, stream.start_timestamp) == ("timestamp", 1767323045678)
        assert (stream.cache_control, stream.conditions) == ("no-cache", ())

    def test_guards_keep_their_options_resolved(self, table: Configuration) -> None:
        assert table.guards["jwt"].kind == "jwt"
        assert table.guards["jwt"].options == {"issuer": "https://issuer", "audience": "shop", "keys": [{"kid": "k1"}]}

    def test_clusters_become_client_options(self, table: Configuration) -> None:
        main = table.clusters["main"]
        assert main.client == {
            "bootstrap.servers": "one:9092,two:9092,other:9092",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "you",
            "sasl.password": "s3cret",
            "ssl.ca.location": "/etc/ca.pem",
            "client.rack": "eu-1",
            "linger.ms": 5,
        }
        assert main.correlation_headers == {"x:cid"}
        assert main.error == ""
        assert "s3cret" not in repr(main)

    def test_topics_with_a_fixed_name_get_their_roles(self, table: Configuration) -> None:
        items = TopicSettings(roles=frozenset({Role.FETCH}), live=True, cleanup_policy="compact", store_bytes=1000)
        boot = TopicSettings(bootstrap=True)
        replies = TopicSettings(roles=frozenset({Role.REPLY}))
        assert table.clusters["main"].topics == {"items": items, "boot": boot, "replies": replies}
        assert table.clusters["second"].topics == {"items": TopicSettings(roles=frozenset({Role.STREAM}))}
        assert table.topics["main", "boot"] == boot

    def test_the_version_is_the_one_it_was_read_at(self, table: Configuration) -> None:
        assert table.version == 1


class TestWhatIsLeftOut:
    def test_disabled_gateways_entries_and_routes(self) -> None:
        entry = gateway("on")
        add_route(entry, "on", "/on")
        add_route(entry, "off", "/off", enabled=False, topic="off")
        add_route(Entry.objects.create(gateway=entry.gateway, name="off", enabled=False), "x", "/x", topic="off")
        add_route(gateway("off", enabled=False), "x", "/x", topic="off")
        table = compiled()
        assert [each.name for each in table.gateways] == ["on"]
        assert [each.name for each in table.gateways[0].entries] == ["all"]
        assert [each.name for each in table.gateways[0].entries[0].routes] == ["on"]
        assert set(table.topics) == {("main", "items")}

    def test_clusters_that_nothing_enabled_uses(self) -> None:
        gateway("g")
        Cluster.objects.create(name="idle", bootstrap_servers="idle:1")
        booting = Cluster.objects.create(name="booting", bootstrap_servers="booting:1")
        Topic.objects.create(cluster=booting, name="t", bootstrap=True)
        assert set(compiled().clusters) == {"main", "booting"}
        assert compiled().clusters["booting"].correlation_headers == {"zilla:correlation-id"}

    def test_topics_whose_name_depends_on_the_request(self) -> None:
        add_route(gateway(), "r", "/{t}", topic="${params.t}")
        assert dict(compiled().topics) == {}


class TestOrder:
    def test_gateways_come_by_position_then_name(self) -> None:
        for name, position in (("c", 1), ("b", 0), ("a", 1)):
            gateway(name, position=position)
        assert [each.name for each in compiled().gateways] == ["b", "a", "c"]

    def test_routes_and_conditions_come_by_position(self) -> None:
        entry = gateway()
        add_route(entry, "last", "/x", position=5)
        first = add_route(entry, "first", "/b", position=1)
        Condition.objects.create(route=first, path="/a", position=0)
        Condition.objects.filter(path="/b").update(position=3)
        (routes,) = [each.routes for each in compiled().gateways[0].entries]
        assert [each.name for each in routes] == ["first", "last"]
        assert [each.path and each.path.text for each in routes[0].conditions] == ["/a", "/b"]

    @pytest.mark.parametrize("method", ["", "*"])
    def test_any_method_is_none(self, method: str) -> None:
        add_route(gateway(), "r", "/x", method=method)
        assert compiled().gateways[0].entries[0].routes[0].conditions[0].method is None


class TestClusters:
    @staticmethod
    def client(environ: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        gateway(cluster=Cluster.objects.create(**{"name": "main", "bootstrap_servers": "b:1", **fields}))
        return dict(compiled(environ).clusters["main"].client)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, {"security.protocol": "PLAINTEXT"}),
            (
                {"security_protocol": "PLAINTEXT", "ssl_ca": "/ca", "sasl_mechanism": "PLAIN", "sasl_username": "u"},
                {"security.protocol": "PLAINTEXT"},
            ),
            (
                {"security_protocol": "SSL", "ssl_ca": "-----BEGIN CERTIFICATE-----\nx", "ssl_verify_hostname": False},
                {
                    "security.protocol": "SSL",
                    "ssl.ca.pem": "-----BEGIN CERTIFICATE-----\nx",
                    "ssl.endpoint.identification.algorithm": "none",
                },
            ),
            (
                {"security_protocol": "SSL", "ssl_certificate": "/c", "ssl_key": "/k", "ssl_key_password": "p"},
                {
                    "security.protocol": "SSL",
                    "ssl.certificate.location": "/c",
                    "ssl.key.location": "/k",
                    "ssl.key.password": "p",
                },
            ),
            (
                {
                    "security_protocol": "SASL_PLAINTEXT",
                    "sasl_mechanism": "PLAIN",
                    "sasl_username": "u",
                    "sasl_password": "p",
                    "ssl_ca": "/ca",
                },
                {
                    "security.protocol": "SASL_PLAINTEXT",
                    "sasl.mechanism": "PLAIN",
                    "sasl.username": "u",
                    "sasl.password": "p",
                },
            ),
            (
                {
                    "security_protocol": "SASL_SSL",
                    "sasl_mechanism": "OAUTHBEARER",
                    "sasl_username": "id",
                    "sasl_password": "secret",
                    "options": {"sasl.oauthbearer.token.endpoint.url": "https://x"},
                },
                {
                    "security.protocol": "SASL_SSL",
                    "sasl.mechanism": "OAUTHBEARER",
                    "sasl.oauthbearer.method": "oidc",
                    "sasl.oauthbearer.client.id": "id",
                    "sasl.oauthbearer.client.secret": "secret",
                    "sasl.oauthbearer.token.endpoint.url": "https://x",
                },
            ),
        ],
    )
    def test_fields_become_librdkafka_options(self, fields: dict[str, Any], expected: dict[str, Any]) -> None:
        assert self.client(**fields) == {"bootstrap.servers": "b:1", **expected}

    def test_a_certificate_from_the_environment_is_told_from_a_path_by_its_value(self) -> None:
        pem = "-----BEGIN CERTIFICATE-----\nx"
        assert self.client({"CA": pem}, security_protocol="SSL", ssl_ca="${{env.CA}}")["ssl.ca.pem"] == pem

    def test_the_embedded_broker_keeps_its_word_and_options(self) -> None:
        client = self.client(bootstrap_servers=" embedded ", options={"test.mock.broker.rtt": 5})
        assert client == {"bootstrap.servers": EMBEDDED, "test.mock.broker.rtt": 5}

    def test_a_missing_variable_is_that_clusters_error_alone(self) -> None:
        gateway("bad", cluster=Cluster.objects.create(name="bad", bootstrap_servers="${{env.NOPE}}"))
        gateway("good")
        clusters = compiled().clusters
        assert clusters["bad"].error.startswith("The environment variable NOPE is not set")
        assert dict(clusters["bad"].client) == {}
        assert clusters["main"].error == ""

    def test_no_servers_are_an_error_that_says_what_to_write(self) -> None:
        gateway(cluster=Cluster.objects.create(name="main", bootstrap_servers="${{env.EMPTY}}"))
        assert "write host:port" in compiled({"EMPTY": " , "}).clusters["main"].error

    def test_correlation_headers_are_those_of_every_gateway_that_uses_it(self) -> None:
        one = gateway("one", correlation_header="x:1")
        two = gateway("two", correlation_header="x:2", cluster=Cluster.objects.create(name="o", bootstrap_servers="o:1"))
        add_route(two, "r", "/x", cluster=one.gateway.cluster)
        clusters = compiled().clusters
        assert clusters["main"].correlation_headers == {"x:1", "x:2"}
        assert clusters["o"].correlation_headers == {"x:2"}


class TestErrors:
    def test_an_unknown_parameter_is_blamed_on_its_route(self) -> None:
        add_route(gateway("shop"), "get", "/items/{id}", topic="${params.nope}")
        with pytest.raises(ConfigurationError, match=r"^shop / all / get: \$\{params.nope\} is unknown"):
            load_configuration()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"topic": "${"}, "is not closed"),
            ({"capability": "nonsense"}, "nonsense"),
            ({"acks": "some"}, "some"),
            ({"topic": "${{env.NOPE}}"}, "NOPE is not set"),
            ({"topic": ".."}, "is not '.' or '..'"),
            ({"topic": "it ems"}, "no “ ”"),
        ],
    )
    def test_what_no_form_would_save_is_blamed_on_its_route(self, change: dict[str, str], message: str) -> None:
        add_route(gateway("shop"), "get", "/items/{id}")
        Route.objects.update(**change)
        with pytest.raises(ConfigurationError, match=rf"^shop / all / get: .*{message}"):
            load_configuration()

    def test_a_broken_entry_is_blamed_on_its_entry(self) -> None:
        gateway("shop").conditions.create(path="/{")
        with pytest.raises(ConfigurationError, match=r"^shop / all: Unbalanced"):
            load_configuration()

    def test_a_broken_gateway_is_blamed_on_itself(self) -> None:
        gateway("shop", credentials_headers=["x"], guard=Guard.objects.create(name="g"))
        with pytest.raises(ConfigurationError, match=r"^shop: "):
            load_configuration()

    def test_a_topic_that_needs_a_missing_variable_is_named(self) -> None:
        Topic.objects.create(cluster=gateway().gateway.cluster, name="${{env.NOPE}}")
        with pytest.raises(ConfigurationError, match=r"^topics: .*NOPE"):
            load_configuration()

    def test_a_guard_that_lacks_a_variable_is_unknown_and_so_refuses(self, caplog: pytest.LogCaptureFixture) -> None:
        guard = Guard.objects.create(name="jwt", options={"issuer": "${{env.NOPE}}"})
        route = add_route(gateway(), "r", "/x")
        RouteGuard.objects.create(route=route, guard=guard)
        table = compiled()
        assert "jwt" not in table.guards
        assert table.gateways[0].entries[0].routes[0].guarded == (GuardRequirement(guard="jwt", roles=frozenset()),)
        assert "guard_unusable guard=jwt" in caplog.text

    def test_a_route_that_reads_an_unknown_guard_requires_it_and_so_refuses(self) -> None:
        add_route(gateway(), "r", "/x", topic="${guarded['gone'].identity}-items")
        (route,) = compiled().gateways[0].entries[0].routes
        assert route.guarded == (GuardRequirement(guard="gone", roles=frozenset()),)


class TestReading:
    @pytest.mark.slow
    def test_the_number_of_queries_does_not_depend_on_the_number_of_routes(self, django_assert_num_queries: Any) -> None:
        entry = gateway()
        many_routes(entry, 3)
        with django_assert_num_queries(16):
            load_configuration()
        Route.objects.all().delete()
        many_routes(entry, 10_000)
        with django_assert_num_queries(16):
            table = load_configuration()
        assert len(table.gateways[0].entries[0].routes) == 10_000

    def test_a_route_that_did_not_change_is_taken_over(self) -> None:
        entry = gateway()
        add_route(entry, "same", "/same")
        changing = add_route(entry, "changing", "/changing")
        compiler = Compiler({})
        before = compile_with(compiler).gateways[0].entries[0].routes
        Override.objects.create(route=add_route(entry, "new", "/new", capability="produce"), name="a", value="b")
        Condition.objects.filter(route=changing).update(path="/changed")
        after = compile_with(compiler).gateways[0].entries[0].routes
        assert after[0] is before[0]
        assert after[1].conditions[0].path == parse("/changed")
        assert [each.name for each in after] == ["same", "changing", "new"]

    def test_a_variable_that_changes_is_seen(self) -> None:
        add_route(gateway(), "r", "/x", topic="${{env.T}}")
        environ = {"T": "a"}
        compiler = Compiler(environ)
        compile_with(compiler)
        environ["T"] = "b"
        assert compile_with(compiler).gateways[0].entries[0].routes[0].topic.text == "b"

    @pytest.mark.django_db(transaction=True)
    def test_a_change_while_reading_makes_it_read_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = gateway()
        reads = []

        def read_and_interfere() -> Any:
            rows = read_rows()
            reads.append(rows)
            if len(reads) == 1:
                add_route(entry, "late", "/late")
            return rows

        monkeypatch.setattr(compiling, "read_rows", read_and_interfere)
        table = load_configuration()
        assert len(reads) == 2
        assert [each.name for each in table.gateways[0].entries[0].routes] == ["late"]

    @pytest.mark.django_db(transaction=True)
    def test_a_configuration_that_never_rests_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiling, "read_rows", touch)
        with pytest.raises(ConfigurationError, match="changed all the while"):
            load_configuration()


@pytest.mark.django_db(transaction=True)
def test_a_half_committed_change_is_never_seen() -> None:
    entry = gateway("shop")
    half_done, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            add_route(entry, "one", "/one")
            Gateway.objects.filter(pk=entry.gateway_id).update(reply_to_header="changed")
            half_done.set()
            go_on.wait(30)
            add_route(entry, "two", "/two")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert half_done.wait(30)
    before = load_configuration()
    go_on.set()
    writer.join()
    after = load_configuration()
    assert before.gateways[0].entries[0].routes == ()
    assert before.gateways[0].reply_to_header == "zilla:reply-to"
    assert [each.name for each in after.gateways[0].entries[0].routes] == ["one", "two"]
    assert after.gateways[0].reply_to_header == "changed"
    assert after.version > before.version
