"""The response cache: responses of fetch routes that later requests of the same URL get unchanged.

Only a ``GET`` whose response depends on path, scheme and host alone is cached, and an entry is valid only for one generation
of its topic: any change of the topic starts another one. Every other request (one with a body, ``prefer``, ``origin``, or an
``if-none-match`` that is not exactly the cached ``etag``) bypasses the cache. The cache exists because it was measured
(``benchmarks/rest.py``): a small response costs several times as much without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kafkaproxy import metrics
from kafkaproxy.consumers.context import Exchange
from kafkaproxy.http.problems import Fields
from kafkaproxy.http.request import Scope, Send
from kafkaproxy.routing.matching import Match
from kafkaproxy.worker.cluster import ClusterWorker

__all__ = ["ResponseCache"]

_MAX_BODY: Final = 1 << 16
_MAX_BYTES: Final = 64 << 20
_BYPASS_FIELDS: Final = frozenset({b"content-length", b"transfer-encoding", b"prefer", b"origin"})
"""A request with one of these fields may get another response than the cached one."""
CacheKey = tuple[bytes, str, bytes]
"""Raw path with query, scheme, host."""


class CachedResponse:
    """A response, and the generation of the topic that it was read in."""

    __slots__ = ("_counters", "_etag", "_fields", "_not_modified_fields", "body", "cluster", "generation", "topic")

    def __init__(
        self, match: Match, cluster: ClusterWorker, topic: str, generation: object, fields: Fields, body: bytes
    ) -> None:
        self._counters = metrics.answers(match.gateway.name, match.route.name, match.route.capability)
        self.cluster = cluster
        self.topic = topic
        self.generation = generation
        self._etag = next(value for name, value in fields if name == b"etag")
        self._not_modified_fields = [field for field in fields if field[0] != b"content-type"]
        self._fields = [*fields, (b"content-length", str(len(body)).encode())]
        self.body = body

    def is_valid(self, if_none_match: bytes | None) -> bool:
        """True if this is the response to a request with that ``if-none-match``, and the topic has not changed since."""
        if if_none_match is not None and if_none_match != self._etag:
            return False
        return self.cluster.cache_generations.get(self.topic) is self.generation and self.cluster.is_fresh

    async def respond(self, scope: Scope, send: Send) -> None:
        """Send 304 to a request with ``if-none-match``, which :meth:`is_valid` has compared; 200 to others."""
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            self._counters[3].value += 1
            await send({"type": "http.response.start", "status": 304, "headers": self._not_modified_fields.copy()})
            await send({"type": "http.response.body", "body": b""})
            return
        self._counters[2].value += 1
        await send({"type": "http.response.start", "status": 200, "headers": self._fields.copy()})
        await send({"type": "http.response.body", "body": self.body})


class ResponseCache:
    """The cached responses of one routing table. Bounded in bytes; the oldest entry is removed first."""

    def __init__(self) -> None:
        self._entries: dict[CacheKey, CachedResponse] = {}
        self._bytes = 0

    def find(self, scope: Scope) -> CachedResponse | None:
        """Return the valid response for a request; None where there is none, or the request bypasses the cache."""
        if scope["method"] != "GET" or not self._entries:
            return None
        host = b""
        if_none_match: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"if-none-match":
                if if_none_match is not None:
                    return None
                if_none_match = value
            elif name in _BYPASS_FIELDS:
                return None
        found = self._entries.get((scope.get("raw_path") or b"", scope["scheme"], host))
        return found if found is not None and found.is_valid(if_none_match) else None

    def put(
        self, exchange: Exchange, cluster: ClusterWorker, topic: str, generation: object, fields: Fields, body: bytes
    ) -> None:
        """Cache a response. ``generation`` was taken from ``cluster`` before the record was read."""
        request = exchange.request
        raw: bytes | None = request.scope.get("raw_path")
        if raw is None or len(body) > _MAX_BODY or topic not in cluster.config.topics:
            return
        key = (raw, request.scheme, request.field(b"host") or b"")
        self._remove(key)
        self._entries[key] = CachedResponse(exchange.match, cluster, topic, generation, fields, body)
        self._bytes += _size(key, body)
        while self._bytes > _MAX_BYTES:
            self._remove(next(iter(self._entries)))

    def with_changed_fields(self, change: Callable[[Fields], Fields]) -> ResponseCache:
        """Return a view of this cache that applies ``change`` to the fields of a response before it is cached."""
        return _ChangedFieldsCache(self, change)

    def _remove(self, key: CacheKey) -> None:
        removed = self._entries.pop(key, None)
        if removed is not None:
            self._bytes -= _size(key, removed.body)


class _ChangedFieldsCache(ResponseCache):
    """Stores in another cache, with the response fields as CORS changes them on the way to the client."""

    def __init__(self, inner: ResponseCache, change: Callable[[Fields], Fields]) -> None:
        super().__init__()
        self._inner = inner
        self._change = change

    def put(
        self, exchange: Exchange, cluster: ClusterWorker, topic: str, generation: object, fields: Fields, body: bytes
    ) -> None:
        """Cache a response with its fields changed."""
        self._inner.put(exchange, cluster, topic, generation, self._change(fields), body)


def _size(key: CacheKey, body: bytes) -> int:
    """Return roughly how many bytes an entry takes: its text, and a kilobyte for the objects around it."""
    return 1024 + len(key[0]) + len(body)
