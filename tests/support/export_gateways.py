"""Random gateways that use only what Zilla has, for tests of the export."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from kafkaproxy.specs.types import (
    AccessControlSpec,
    ConditionSpec,
    EntryConditionSpec,
    EntrySpec,
    FieldSpec,
    FilterSpec,
    RouteSpec,
)
from kafkaproxy.zilla.exporter.stored import guard_names
from kafkaproxy.zilla.names import Names
from kafkaproxy.zilla.plan import ClusterPlan, GatewayPlan, GuardPlan, Plan, TopicPlan

__all__ = ["plans"]

NAMES = st.sampled_from(["users", "a", "yes", "no-1", "tcp_server", "http_server", "all", "unserved", "x.y", "kafka"])
SEGMENTS = st.sampled_from(["items", "{id}", "*", "a.b", "o'clock", "x:y", "#", "é", "%20", "-", "~me", "{a}-{b}"])
FIELDS = st.sampled_from(["x-env", "content-type", "x-a:b", "yes", "n"])
TEXTS = st.one_of(
    st.sampled_from(["no", "1.0", "0x1f", "12:30:45", "2011-04-29", "null", "~", "", " a ", "a: b", "- a", "#a", "'", '"']),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="{}$"), max_size=12),
)
METHODS = st.sampled_from(["", "GET", "PUT", "POST", "DELETE", "M-SEARCH"])
ROLES = st.lists(st.sampled_from(["read", "write:items", "on"]), max_size=2, unique=True).map(tuple)
GUARDED = st.dictionaries(st.sampled_from(["users", "a"]), ROLES, max_size=2)
TOPICS = st.sampled_from(["items", "orders.v1", "1"])
HEADERS = st.dictionaries(FIELDS, TEXTS, max_size=2)


def _path(parts: list[str]) -> str:
    text = "/" + "/".join(parts)
    return text if text.count("{id}") < 2 and text.count("{a}") < 2 and "**" not in text else "/items"


PATHS = st.lists(SEGMENTS, max_size=3).map(_path).filter(lambda path: "#" not in path)
# In the outer rule a parameter takes everything; '' is no condition.
OUTER_PATHS = st.one_of(st.just(""), PATHS.map(lambda path: path.replace("}", "}*").replace("*-", "-")))
PLAIN = st.text(string.ascii_letters + "-. /;=", min_size=1, max_size=8)
SERVERS = st.lists(st.sampled_from(["a:1", "broker.example:9092", "${{env.BROKERS}}", "[::1]:9"]), min_size=1, max_size=3)


def _entry_rows(level: int) -> st.SearchStrategy[tuple[EntryConditionSpec, ...]]:
    row = st.builds(
        EntryConditionSpec,
        level=st.just(level),
        scheme=st.sampled_from(["", "https"]),
        authority=st.sampled_from(["", "shop.example:443", "*:8080"]),
        path=OUTER_PATHS.filter(lambda path: "}-" not in path),
        method=METHODS,
        headers=st.dictionaries(FIELDS, PLAIN, max_size=2),
    )
    return st.lists(row, max_size=2).map(tuple)


@st.composite
def _routes(draw: Any, cluster_names: list[str], *, streams: bool) -> RouteSpec:
    capability = "stream" if streams else draw(st.sampled_from(["produce", "fetch"]))
    methods = st.just("") if streams else METHODS
    conditions = draw(st.lists(st.builds(ConditionSpec, method=methods, path=PATHS), min_size=1, max_size=2))
    filters = st.builds(FilterSpec, key=st.none() | TEXTS, headers=HEADERS).filter(lambda each: each != FilterSpec())
    fields: dict[str, Any] = {}
    if capability == "produce":
        reply_to = draw(st.sampled_from(["", "answers"]))
        fields = {"key": draw(st.none() | TEXTS), "acks": draw(st.sampled_from(["none", "in_sync_replicas"]))}
        fields |= {"overrides": tuple(FieldSpec(*each) for each in draw(HEADERS).items()), "reply_to": reply_to}
    else:
        fields = {"filters": tuple(draw(st.lists(filters, max_size=2)))}
        fields |= {"merge": draw(st.booleans())} if capability == "fetch" else {}
        fields |= {"event_id": draw(st.sampled_from(["etag", "key_and_etag"]))} if streams else {}
    return RouteSpec(
        name="",
        capability=capability,
        cluster=draw(st.sampled_from(cluster_names)),
        topic=draw(TOPICS),
        conditions=tuple(conditions),
        guarded=draw(GUARDED),
        **fields,
    )


@st.composite
def _entries(draw: Any, clusters: list[str]) -> list[EntrySpec]:
    """Entries of one level, and groups such as an sse server makes."""
    names = Names()
    found: list[EntrySpec] = []
    for _number in range(draw(st.integers(0, 3))):
        base, guarded = draw(_entry_rows(0)), draw(GUARDED)
        streams = draw(st.booleans())
        inner = draw(st.integers(0, 2)) if streams and base and all(row != EntryConditionSpec() for row in base) else 0
        for index in range(inner):
            rows = (*base, EntryConditionSpec(level=1, path=f"/inner{index}/*"))
            routes = draw(st.lists(_routes(clusters, streams=True), min_size=0 if index else 1, max_size=1))
            found.append(_entry(names, rows, guarded, routes))
        routes = draw(st.lists(_routes(clusters, streams=streams), max_size=2))
        found.append(_entry(names, base, guarded, routes))
    return [*found, _entry(names, (), {}, [draw(_routes(clusters, streams=False))])]


def _entry(names: Names, rows: Any, guarded: Any, routes: list[RouteSpec]) -> EntrySpec:
    numbered = [_renamed(route, f"route-{number}") for number, route in enumerate(routes)]
    return EntrySpec(name=names.take("entry"), conditions=rows, guarded=guarded, routes=tuple(numbered))


def _renamed(route: RouteSpec, name: str) -> RouteSpec:
    return replace(route, name=name)


@st.composite
def _access(draw: Any) -> AccessControlSpec:
    if draw(st.booleans()):
        return AccessControlSpec()
    some = st.none() | st.lists(st.sampled_from(["https://a.example", "PUT", "yes"]), min_size=1, max_size=2).map(tuple)
    return AccessControlSpec(
        policy="cross-origin",
        allow_origins=draw(some),
        allow_methods=draw(some),
        allow_headers=draw(some),
        allow_credentials=draw(st.booleans()),
        max_age=draw(st.none() | st.integers(0, 10**6)),
        expose_headers=draw(some),
    )


@st.composite
def _clusters(draw: Any) -> list[ClusterPlan]:
    names = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
    found = []
    for number, name in enumerate(names):
        secured = draw(st.booleans())
        sasl = {"sasl_mechanism": "PLAIN", "sasl_username": "yes", "sasl_password": "${{env.P}}"} if secured else {}
        tls = draw(st.booleans())
        protocol = f"SASL_{'SSL' if tls else 'PLAINTEXT'}" if secured else "SSL" if tls else "PLAINTEXT"
        servers = ",".join([*draw(SERVERS), f"c{number}:1"])
        fields = {"bootstrap_servers": servers, "security_protocol": protocol, **sasl}
        found.append(ClusterPlan(origin=name, source="shop", name=name, **fields))
    return found


@st.composite
def plans(draw: Any) -> Plan:
    """Gateways that use only what Zilla has."""
    clusters = draw(_clusters())
    entries = draw(_entries([each.name for each in clusters]))
    used = {route.cluster for entry in entries for route in entry.routes}
    kept = [each for each in clusters if each.name in used]
    guard = draw(st.sampled_from([None, "users"]))
    places = {"credentials_headers": {"authorization": "Bearer {credentials}"}} if guard else {}
    gateway = GatewayPlan(
        source="shop",
        name=draw(st.sampled_from(["shop", "no", "a.b-c"])),
        cluster=kept[0].name,
        entries=tuple(entries),
        access_control=draw(_access()),
        idempotency_header=draw(st.sampled_from(["idempotency-key", "x-once"])),
        guard=guard,
        **places,
    )
    options = {"issuer": "https://issuer.example", "audience": draw(st.sampled_from(["shop", "no", "1"]))}
    guards = [GuardPlan(source="shop", name=each, kind="jwt", options=options) for each in guard_names(gateway)]
    said: dict[str, Any] = {"bootstrap": True, "default_offset": "live"}
    topic = TopicPlan(source="shop", cluster=kept[0].name, name="items", said=frozenset(said), **said)
    topics = (topic,) if draw(st.booleans()) else ()
    return Plan(gateways=(gateway,), clusters=tuple(kept), topics=topics, guards=tuple(guards))
