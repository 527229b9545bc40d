"""What a matched request offers to expressions, and what it is allowed to be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from kafkaproxy.core.expressions import Context, Template
from kafkaproxy.core.paths import BadPath, decode_params
from kafkaproxy.guards.principals import Principals
from kafkaproxy.http.problems import Problem
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import Match, RolePrincipal
from kafkaproxy.routing.table import Gateway
from kafkaproxy.worker.types import Delivery

__all__ = ["Exchange", "Observer", "render_topic"]

_MAX_IDEMPOTENCY_KEY: Final = 256


class Observer(Protocol):
    """Is told what becomes of one request while it is served. Nothing of such a request is kept for later ones."""

    impersonated: Mapping[str, RolePrincipal]
    """By guard, the principal that counts instead of the guard's own answer."""

    def authenticated(self, gateway: Gateway, principals: Principals) -> None:
        """Take what the guards of a gateway said; called for each gateway that is tried."""
        ...

    def matched(self, match: Match) -> None:
        """Take the route whose consumer is about to serve the request."""
        ...

    def produced(self, cluster: str, topic: str, delivery: asyncio.Future[Delivery]) -> None:
        """Take a record that was handed to the producer of ``cluster``; the acknowledgement is shared: use ``await_shared``."""
        ...


class Exchange:
    """A matched request: its route, its context, and whether the client brought an idempotency key."""

    __slots__ = ("context", "has_key", "match", "observer", "request")

    def __init__(
        self, request: Request, match: Match, principals: Mapping[str, RolePrincipal], observer: Observer | None = None
    ) -> None:
        self.request = request
        self.match = match
        self.observer = observer
        given = request.field(match.gateway.idempotency_header)
        self.has_key = given is not None
        try:
            params = decode_params(match.params) if match.params else {}
        except BadPath as error:
            raise Problem(400, "bad-path", f"{error} Encode the path as UTF-8.") from None
        self.context = Context(params=params, guarded=principals, idempotency_key=_checked_key(given))

    @property
    def identities(self) -> list[tuple[str, str]]:
        """The guards that the entry and the route require or read, with the identity that each found; by name."""
        principals = self.context.guarded
        if not principals:
            return []
        names = self.match.route.guard_names.union(each.guard for each in self.match.entry.guarded)
        return [(name, principals[name].identity) for name in sorted(names) if name in principals]


def _checked_key(given: bytes | None) -> str | None:
    """Return the client's key; None where it brought none, so that one is made when somebody looks at it."""
    if given is None:
        return None
    if not given or len(given) > _MAX_IDEMPOTENCY_KEY:
        detail = f"The idempotency key has to have 1 to {_MAX_IDEMPOTENCY_KEY} characters: use a UUID."
        raise Problem(400, "bad-idempotency-key", detail)
    return given.decode("latin-1")


def render_topic(template: Template, context: Context) -> str:
    """Fill a topic name in; refuse what Kafka (org.apache.kafka.common.internals.Topic) would, before anybody asks it."""
    if template.literal is not None:
        return template.literal
    name = template.render(context)
    if not (
        0 < len(name) <= 249 and name not in (".", "..") and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
    ):
        raise Problem(404, "no-such-topic", "No topic can have the name that this request leads to.")
    return name
