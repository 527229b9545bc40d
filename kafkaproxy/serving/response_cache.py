"""Answers that the next request of the same line gets as they are: a GET of one key, while its topic does not change.

Only what depends on nothing but path, scheme and host is kept, and only under the topic's stamp, which any change of the topic
replaces. Everything not that simple (a body, ``prefer``, a foreign ``origin``, a tag that is not exactly ours) takes the
usual way. It exists because it was measured: the usual way costs several times what a small answer does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kafkaproxy import metrics
from kafkaproxy.consumers.context import Exchange
from kafkaproxy.http.problems import Fields
from kafkaproxy.http.request import Scope, Send
from kafkaproxy.routing.matching import Match
from kafkaproxy.serving.fast_path import Lane
from kafkaproxy.worker.cluster import ClusterWorker

__all__ = ["HotFetches", "Plan", "Plans"]

_MAX_BODY: Final = 1 << 16
_MAX_BYTES: Final = 64 << 20
_MAX_PLANS: Final = 4096
_MAX_LINE: Final = 512
_NOT_SIMPLE: Final = frozenset({b"content-length", b"transfer-encoding", b"prefer", b"origin"})
Line = tuple[bytes, str, bytes]


class _Kept:
    """An answer, and what it was read under."""

    __slots__ = ("_answers", "_body", "_etag", "_fields", "_not_modified", "cluster", "stamp", "topic")

    def __init__(self, match: Match, cluster: ClusterWorker, topic: str, stamp: object, fields: Fields, body: bytes) -> None:
        self._answers = metrics.answers(match.gateway.name, match.route.name, match.route.capability)
        self.cluster = cluster
        self.topic = topic
        self.stamp = stamp
        self._etag = next(value for name, value in fields if name == b"etag")
        self._not_modified = [field for field in fields if field[0] != b"content-type"]
        self._fields = [*fields, (b"content-length", str(len(body)).encode())]
        self._body = body

    def answers(self, tag: bytes | None) -> bool:
        """Whether this answers a request with that ``if-none-match``."""
        if tag is not None and tag != self._etag:
            return False
        return self.cluster.cache_generations.get(self.topic) is self.stamp and self.cluster.is_fresh

    async def respond(self, scope: Scope, send: Send) -> None:
        """Send 200, or 304 to who has it."""
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            self._answers[3].value += 1
            await send({"type": "http.response.start", "status": 304, "headers": self._not_modified.copy()})
            await send({"type": "http.response.body", "body": b""})
            return
        self._answers[2].value += 1
        await send({"type": "http.response.start", "status": 200, "headers": self._fields.copy()})
        await send({"type": "http.response.body", "body": self._body})


class HotFetches:
    """The kept answers of one table. Bounded in bytes; the oldest go first."""

    def __init__(self) -> None:
        self._kept: dict[Line, _Kept] = {}
        self._bytes = 0

    def find(self, scope: Scope) -> _Kept | None:
        """Return the kept answer for a scope, if there is one that still holds."""
        if scope["method"] != "GET" or not self._kept:
            return None
        host = b""
        tag: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"if-none-match":
                if tag is not None:
                    return None
                tag = value
            elif name in _NOT_SIMPLE:
                return None
        kept = self._kept.get((scope.get("raw_path") or b"", scope["scheme"], host))
        return kept if kept is not None and kept.answers(tag) else None

    def keep(self, exchange: Exchange, cluster: ClusterWorker, topic: str, stamp: object, fields: Fields, body: bytes) -> None:
        """Keep an answer that was read after ``stamp`` was taken."""
        request = exchange.request
        raw: bytes | None = request.scope.get("raw_path")
        if raw is None or len(body) > _MAX_BODY or topic not in cluster.config.topics:
            return
        line = (raw, request.scheme, request.field(b"host") or b"")
        self._drop(line)
        self._kept[line] = _Kept(exchange.match, cluster, topic, stamp, fields, body)
        self._bytes += _size(line, body)
        while self._bytes > _MAX_BYTES:
            self._drop(next(iter(self._kept)))

    def adding(self, change: Callable[[Fields], Fields]) -> HotFetches:
        """Return what keeps answers here with their fields changed, as every such answer's are on their way."""
        return _Adding(self, change)

    def _drop(self, line: Line) -> None:
        kept = self._kept.pop(line, None)
        if kept is not None:
            self._bytes -= _size(line, kept._body)  # noqa: SLF001 - of one family


class _Adding(HotFetches):
    """Keeps elsewhere, with more fields."""

    def __init__(self, inner: HotFetches, change: Callable[[Fields], Fields]) -> None:
        super().__init__()
        self._inner = inner
        self._change = change

    def keep(self, exchange: Exchange, cluster: ClusterWorker, topic: str, stamp: object, fields: Fields, body: bytes) -> None:
        """Keep an answer as it is seen by clients."""
        self._inner.keep(exchange, cluster, topic, stamp, self._change(fields), body)


class Plan:
    """How a method and path is served. ``lane`` is made when they come again: many a path comes once."""

    __slots__ = ("has_come_again", "lane", "match")

    def __init__(self, match: Match) -> None:
        self.match = match
        self.has_come_again = False
        self.lane: Lane | None = None


class Plans:
    """Which route serves a method and path, where nothing else decides. Bounded in number."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], Plan] = {}

    def find(self, scope: Scope) -> Plan | None:
        """Return the plan that an earlier request of this line left."""
        return self._kept.get((scope["method"], scope.get("raw_path") or b""))

    def keep(self, scope: Scope, match: Match) -> None:
        """Keep a match."""
        raw: bytes = scope.get("raw_path") or b""
        if not 0 < len(raw) <= _MAX_LINE:
            return
        if len(self._kept) >= _MAX_PLANS:
            self._kept.pop(next(iter(self._kept)))
        self._kept[scope["method"], raw] = Plan(match)


def _size(line: Line, body: bytes) -> int:
    """What an entry takes, roughly: its text, and a kilobyte for the objects around it."""
    return 1024 + len(line[0]) + len(body)
