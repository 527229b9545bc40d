"""The properties of bindings, in both dialects of the reference (1.x and 2.x).

Those on the way from a socket to Kafka, and asyncapi, openapi and openapi-asyncapi bindings. What the latter pass on (``tls``,
``authorization``, ``sasl``) is checked after they are expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from django.utils.translation import gettext_noop as _

from kafkaproxy.zilla.bindings.shape import (
    ANYTHING,
    Flag,
    Items,
    NamedItems,
    Number,
    OneOrMore,
    Properties,
    Shape,
    Switch,
    Text,
    TextOrItems,
)

__all__ = ["BINDINGS", "CLIENT", "COMPOSITES", "COMPOSITE_SHAPES", "JWT_OPTIONS", "MAPPINGS", "PROXY", "SERVER", "TOP"]

MAPPINGS: Final = frozenset({"http-kafka", "sse-kafka"})
"""The binding types that become routes."""
COMPOSITES: Final = frozenset({"asyncapi", "openapi", "openapi-asyncapi"})
"""The binding types that stand for other bindings, generated from an API specification."""

_TEXT: Final = Text()
_ANY_TEXT: Final = re.compile(r".+", re.DOTALL)
_FILLED: Final = Text(pattern=_ANY_TEXT, example="a value")
"""A text that must not be empty: an empty one would read as no condition at all."""
_NAME: Final = Text(pattern=_ANY_TEXT, example="a name", fixed=True)
_TEXTS: Final = Items(_TEXT)
_SOME: Final = Items(_FILLED, least=1)
_ROLES: Final = NamedItems(Items(_FILLED), qualified=True)
_MAP: Final = NamedItems(_TEXT, free=True)
_PATTERNS: Final = NamedItems(_FILLED, free=True)
_PORT: Final = OneOrMore(Text(pattern=re.compile(r"[0-9]+(-[0-9]+)?"), example="7114 or 7000-7010"))
_PATH: Final = Text(pattern=re.compile(r"/.*", re.DOTALL), example="/items/{id}")

TOP: Final = Properties(
    known={
        "name": _TEXT,
        "bindings": NamedItems(NamedItems(ANYTHING, free=True)),
        "guards": NamedItems(
            Properties(known={"type": _NAME, "options": ANYTHING, "kind": ANYTHING, "store": ANYTHING}, needs=("type",))
        ),
        "vaults": NamedItems(Properties(known={"type": _NAME, "options": ANYTHING}, needs=("type",))),
        "catalogs": ANYTHING,
        "stores": ANYTHING,
        "telemetry": ANYTHING,
    }
)
"""One namespace. ``name`` is checked where it is used: a fragment has none."""

_CREDENTIALS: Final = Properties(known={"cookies": _PATTERNS, "headers": _PATTERNS, "query": _PATTERNS})
_SASL: Final = Switch(
    on="mechanism",
    shapes={
        **{
            name: Properties(
                known={"mechanism": ANYTHING, "username": _TEXT, "password": _TEXT}, needs=("username", "password")
            )
            for name in ("plain", "scram-sha-1", "scram-sha-256", "scram-sha-512")
        },
        "oauthbearer": Properties(known={"mechanism": ANYTHING, "token": _TEXT}, needs=("token",)),
    },
)
JWT_OPTIONS: Final = Properties(
    known={
        "issuer": _TEXT,
        "audience": _TEXT,
        "roles": _TEXT,
        "identity": _TEXT,
        "attributes": NamedItems(_TEXT),
        "keys": TextOrItems(
            Text(pattern=re.compile(r"https?://.+"), example="https://example.com/.well-known/jwks.json"),
            Items(NamedItems(ANYTHING, free=True)),
        ),
        "challenge": Number(),
    },
    needs=("issuer", "audience"),
)


def _binding(
    options: Shape | None,
    when: Mapping[str, Shape],
    *,
    with_: Shape | None = None,
    vault: bool = False,
    ends: bool = False,
) -> Properties:
    """Return the shape of a binding from what its kind has of its own. ``ends``: nothing comes after it."""
    route: dict[str, Shape] = {"when": Items(Properties(known=when)), "guarded": _ROLES}
    known: dict[str, Shape] = {"type": ANYTHING, "kind": ANYTHING, "telemetry": ANYTHING}
    if not ends:
        route["exit"] = known["exit"] = _NAME
    if with_ is not None:
        route["with"] = with_
    if vault:
        known["vault"] = _NAME
    if options is not None:
        known["options"] = options
    known["routes"] = Items(Properties(known=route, needs=() if ends else ("exit",)))
    return Properties(known=known)


def _mapping(options: Shape | None, when: Mapping[str, Shape], with_: Shape) -> Properties:
    """Return the shape of a binding that becomes routes: each says by itself where it leads and what it does."""
    known = dict(_binding(options, when).known)
    del known["exit"]
    route: dict[str, Shape] = {"when": Items(Properties(known=when)), "guarded": _ROLES}
    route |= {"exit": _NAME, "with": with_}
    known["routes"] = Items(Properties(known=route, needs=("exit", "with")), least=1)
    advice = _("Write exit and with in each route: an exit alone names no topic.")
    return Properties(known=known, needs=("routes",), forbidden={"exit": advice})


_TCP_OPTIONS: Final = Properties(known={"host": OneOrMore(_TEXT), "port": _PORT})
_TCP_WHEN: Final[Mapping[str, Shape]] = {"port": _PORT, "cidr": _FILLED, "authority": _FILLED}

_TLS_OPTIONS: Final[Mapping[str, Shape]] = {
    "version": _TEXT,
    "keys": _TEXTS,
    "trust": _TEXTS,
    "trustcacerts": Flag(),
    "sni": _TEXTS,
    "alpn": Items(ANYTHING),
    "mutual": Text(choices=("required", "requested", "none")),
    "signers": _TEXTS,
    "authorization": ANYTHING,
}
_TLS_WHEN: Final[Mapping[str, Shape]] = {
    "authority": _FILLED,
    "alpn": _FILLED,
    "port": _PORT,
    "trust": ANYTHING,
    "mutual": ANYTHING,
}

_HTTP_OPTIONS: Final = Properties(
    known={
        "versions": Items(Text(choices=("http/1.1", "h2"))),
        "access-control": Switch(
            on="policy",
            shapes={
                "same-origin": Properties(known={"policy": ANYTHING}),
                "cross-origin": Properties(
                    known={
                        "policy": ANYTHING,
                        "allow": Properties(
                            known={"origins": _SOME, "methods": _SOME, "headers": _SOME, "credentials": Flag()}
                        ),
                        "max-age": Number(),
                        "expose": Properties(known={"headers": _SOME}),
                    }
                ),
            },
        ),
        "authorization": NamedItems(
            Properties(known={"credentials": _CREDENTIALS}, needs=("credentials",)), most=1, qualified=True
        ),
        "overrides": _MAP,
        "requests": ANYTHING,
    }
)

_FILTERS: Final = Items(Properties(known={"key": _TEXT, "headers": _MAP}))
_HTTP_KAFKA_WITH: Final = Switch(
    on="capability",
    shapes={
        "produce": Properties(
            known={
                "capability": ANYTHING,
                "topic": _TEXT,
                "acks": Text(choices=("none", "leader_only", "in_sync_replicas")),
                "key": _TEXT,
                "overrides": _MAP,
                "reply-to": _TEXT,
                "async": _MAP,
                "correlation-id": _NAME,
            },
            needs=("topic",),
        ),
        "fetch": Properties(
            known={
                "capability": ANYTHING,
                "topic": _TEXT,
                "filters": _FILTERS,
                "merge": Properties(
                    known={"content-type": Text(choices=("application/json",)), "patch": ANYTHING}, needs=("content-type",)
                ),
            },
            needs=("topic",),
        ),
    },
)
_HTTP_KAFKA_OPTIONS: Final = Properties(
    known={
        "idempotency": Properties(known={"header": _NAME}, needs=("header",)),
        "correlation": Properties(
            known={"headers": Properties(known={"reply-to": _NAME, "correlation-id": _NAME})},
            needs=("headers",),
        ),
    }
)
_SSE_KAFKA_WITH: Final = Properties(
    known={
        "topic": _TEXT,
        "filters": _FILTERS,
        "event": Properties(known={"id": Text(choices=("${etag}", '["${base64(key)}","${etag}"]'))}),
    },
    needs=("topic",),
)

_KAFKA_CREDENTIALS: Final = Properties(known={"credentials": _SASL}, needs=("credentials",))
_KAFKA_WHEN: Final[Mapping[str, Shape]] = {"topic": _FILLED, "groupId": _FILLED}
_CLIENT_TOPIC: Final[Mapping[str, Shape]] = {"name": _TEXT, "key": ANYTHING, "value": ANYTHING}
_OF_SERVER: Final = _("Write it in the cache_server: a cache_client knows nothing of it.")
_SERVER_TOPIC: Final[Mapping[str, Shape]] = {
    **_CLIENT_TOPIC,
    "defaultOffset": Text(choices=("live", "historical")),
    "deltaType": ANYTHING,
    "transforms": ANYTHING,
}

BINDINGS: Final[Mapping[tuple[str, str], Properties]] = {
    ("tcp", "server"): _binding(_TCP_OPTIONS, _TCP_WHEN),
    ("tcp", "client"): _binding(_TCP_OPTIONS, _TCP_WHEN, ends=True),
    ("tls", "server"): _binding(Properties(known=_TLS_OPTIONS), _TLS_WHEN, vault=True),
    ("tls", "client"): _binding(Properties(known=_TLS_OPTIONS), _TLS_WHEN, vault=True),
    ("http", "server"): _binding(
        _HTTP_OPTIONS,
        {"headers": _PATTERNS},
        with_=Properties(known={"headers": Properties(known={"overrides": _MAP}), "affinity": ANYTHING}),
    ),
    ("sse", "server"): _binding(Properties(known={"retry": Number(), "requests": ANYTHING}), {"path": _FILLED}),
    ("http-kafka", "proxy"): _mapping(_HTTP_KAFKA_OPTIONS, {"method": _NAME, "path": _PATH}, _HTTP_KAFKA_WITH),
    ("sse-kafka", "proxy"): _mapping(None, {"path": _FILLED}, _SSE_KAFKA_WITH),
    ("kafka", "cache_client"): _binding(
        Properties(
            known={
                "topics": Items(
                    Properties(
                        known=_CLIENT_TOPIC, forbidden=dict.fromkeys(("defaultOffset", "deltaType", "transforms"), _OF_SERVER)
                    )
                )
            },
            forbidden={"bootstrap": _OF_SERVER},
        ),
        _KAFKA_WHEN,
    ),
    ("kafka", "cache_server"): _binding(
        Properties(known={"bootstrap": _TEXTS, "topics": Items(Properties(known=_SERVER_TOPIC))}), _KAFKA_WHEN
    ),
    ("kafka", "client"): _binding(
        Properties(
            known={
                "servers": Items(_TEXT),
                "sasl": _SASL,
                "authorization": NamedItems(_KAFKA_CREDENTIALS, most=1, qualified=True),
            }
        ),
        _KAFKA_WHEN,
    ),
}
"""By type and kind. Bindings that are not on the way to a mapping are not looked at."""


SERVER: Final = "server"
PROXY: Final = "proxy"
CLIENT: Final = "client"

_LABEL: Final = Text()
_GUARDED: Final = _("Guard by the security of the specification, or guard the whole server in front of Django.")
_OVERLAY: Final = _("Apply the overlay to the specification, and remove it here.")
_SPECS: Final = NamedItems(
    Properties(
        known={
            "server": _LABEL,
            "servers": Items(ANYTHING, least=1),
            "catalog": NamedItems(ANYTHING, most=1),
            "security": NamedItems(_LABEL, free=True),
            "store": ANYTHING,
        },
        needs=("catalog",),
        forbidden={"overlay": _OVERLAY},
    )
)
_SELECTED: Final[Mapping[str, Shape]] = dict.fromkeys(("spec", "operation", "tag", "api-id", "operation-id"), _LABEL)
_SERVERS: Final = {"servers": _("Select by operation or tag: which server a request came by is not known here.")}
_HTTP: Final = Properties(known={"authorization": ANYTHING})


def _composite(options: Mapping[str, Shape], with_: Shape | None, *, specs: Shape = _SPECS) -> Properties:
    route: dict[str, Shape] = {"when": Items(Properties(known=_SELECTED, forbidden=_SERVERS)), "exit": _LABEL}
    if with_ is not None:
        route["with"] = with_
    routes = Items(Properties(known=route, needs=("exit",), forbidden={"guarded": _GUARDED}))
    known: dict[str, Shape] = {"type": ANYTHING, "kind": ANYTHING, "vault": _LABEL, "telemetry": ANYTHING}
    known |= {"options": Properties(known={"specs": specs, **options}, needs=("specs",)), "exit": _LABEL, "routes": routes}
    return Properties(known=known, needs=("options",))


_LISTENING: Final[Mapping[str, Shape]] = {"tcp": ANYTHING, "tls": ANYTHING, "http": _HTTP}
_WITH: Final = Properties(known=_SELECTED)

COMPOSITE_SHAPES: Final[Mapping[tuple[str, str], Properties]] = {
    ("asyncapi", SERVER): _composite({**_LISTENING, "mqtt": ANYTHING}, None),
    ("openapi", SERVER): _composite(_LISTENING, None),
    ("asyncapi", PROXY): _composite({"mqtt-kafka": ANYTHING}, _WITH),
    ("openapi-asyncapi", PROXY): _composite(
        {}, _WITH, specs=Properties(known={"openapi": _SPECS, "asyncapi": _SPECS}, needs=("openapi", "asyncapi"))
    ),
    ("asyncapi", CLIENT): _composite(
        {
            "tcp": ANYTHING,
            "tls": ANYTHING,
            "http": ANYTHING,
            "mqtt": ANYTHING,
            "kafka": Properties(known={"sasl": ANYTHING, "topics": ANYTHING}),
        },
        None,
    ),
}
"""By type and kind; an openapi client leads to no Kafka."""
