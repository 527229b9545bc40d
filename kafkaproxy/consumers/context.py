"""A matched request: what its expressions can refer to, and the checks of what the client sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from kafkaproxy.core.expressions import RenderContext, Template
from kafkaproxy.core.names import is_topic_name
from kafkaproxy.core.paths import BadPath, decode_params
from kafkaproxy.guards.principals import Principals
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import Match, RolePrincipal
from kafkaproxy.routing.table import Gateway
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.types import Delivery

__all__ = ["Exchange", "Matched", "Observer", "ResponseCacheWriter", "render_topic"]

_MAX_IDEMPOTENCY_KEY: Final = 256


class ResponseCacheWriter(Protocol):
    """Where fetch puts responses for later requests of the same URL."""

    def put(
        self, exchange: Exchange, cluster: ClusterWorker, topic: str, generation: object, fields: Fields, body: bytes
    ) -> None:
        """Cache the response to ``exchange``. ``generation`` was taken from ``cluster`` before the record was read."""
        ...


class Observer(Protocol):
    """Follows one request while it is served. Nothing of such a request is cached for later ones."""

    impersonated: Mapping[str, RolePrincipal]
    """Guard → the principal that counts instead of the guard's own answer."""

    def authenticated(self, gateway: Gateway, principals: Principals) -> None:
        """Take what the guards of a gateway returned; called for each gateway that is tried."""
        ...

    def matched(self, match: Match) -> None:
        """Take the match whose consumer is about to serve the request."""
        ...

    def produced(self, cluster: str, topic: str, delivery: asyncio.Future[Delivery]) -> None:
        """Take a record that was handed to the producer of ``cluster``; the acknowledgement is shared: use ``await_shared``."""
        ...


Matched = tuple[Request, Match, Mapping[str, RolePrincipal], ResponseCacheWriter | None, Observer | None]
"""The value of ``kafkaproxy`` in the scope of a matched request: the arguments of :class:`Exchange`."""


class Exchange:
    """A matched request: its route, the context of its expressions, and whether the client sent an idempotency key.

    ``cache`` is None if another request of the same method and path may get another response.
    """

    __slots__ = ("cache", "context", "has_idempotency_key", "match", "observer", "request")

    def __init__(
        self,
        request: Request,
        match: Match,
        principals: Mapping[str, RolePrincipal],
        cache: ResponseCacheWriter | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.request = request
        self.match = match
        self.cache = cache
        self.observer = observer
        given = request.field(match.gateway.idempotency_header)
        self.has_idempotency_key = given is not None
        try:
            params = decode_params(match.params) if match.params else {}
        except BadPath as error:
            raise Problem(400, "bad-path", f"{error} Encode the path as UTF-8.") from None
        self.context = RenderContext(params=params, guarded=principals, idempotency_key=_checked_key(given))

    @property
    def identities(self) -> list[tuple[str, str]]:
        """Name and identity for each guard that the entry or the route requires or reads, sorted by name."""
        principals = self.context.guarded
        if not principals:
            return []
        names = self.match.route.guard_names.union(each.guard for each in self.match.entry.guarded)
        return [(name, principals[name].identity) for name in sorted(names) if name in principals]


def _checked_key(given: bytes | None) -> str | None:
    """Return the client's idempotency key; None without one: the context makes one when an expression reads it."""
    if given is None:
        return None
    if not given or len(given) > _MAX_IDEMPOTENCY_KEY:
        detail = f"The idempotency key has to have 1 to {_MAX_IDEMPOTENCY_KEY} characters: use a UUID."
        raise Problem(400, "bad-idempotency-key", detail)
    return given.decode("latin-1")


def render_topic(template: Template, context: RenderContext) -> str:
    """Render a topic name; raise a 404 :class:`Problem` for a name that Kafka does not allow."""
    if template.literal is not None:
        return template.literal
    name = template.render(context)
    if not is_topic_name(name):
        raise Problem(404, "no-such-topic", "No topic can have the name that this request leads to.")
    return name
