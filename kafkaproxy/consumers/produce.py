"""Produce: a request becomes a record (the contract, *Produce*).

This module is the oneway case; :mod:`kafkaproxy.consumers.reply` is the one with a reply.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.http.request import Responder
from kafkaproxy.worker.types import Headers
from kafkaproxy.worker.worker import Worker

__all__ = ["oneway", "oneway_headers", "record_key", "rendered_overrides"]


async def oneway(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Produce, and answer 204 when Kafka has acknowledged the record by the route's ``acks``."""
    request, route = exchange.request, exchange.match.route
    body = await request.body(settings.max_body_bytes)
    # DELETE produces a tombstone, a record whose value is null; its body has no meaning (RFC 9110 section 9.3.5).
    value = None if request.method == "DELETE" else body
    topic = render_topic(route.topic, exchange.context)
    headers = oneway_headers(request.field(b"content-type"), rendered_overrides(exchange))
    delivery = worker.cluster(route.cluster).send(route.acks, topic, record_key(exchange), value, headers)
    if exchange.observer is not None:
        exchange.observer.produced(route.cluster, topic, delivery)
    await delivery
    await responder.respond(204, [])


def record_key(exchange: Exchange) -> bytes | None:
    """Render the record key; None if the route has no key."""
    template = exchange.match.route.key
    return None if template is None else template.render(exchange.context).encode()


def rendered_overrides(exchange: Exchange) -> list[tuple[str, str]]:
    """Render the overrides."""
    return [(name, value.render(exchange.context)) for name, value in exchange.match.route.overrides]


def oneway_headers(content_type: bytes | None, overrides: Sequence[tuple[str, str]]) -> Headers:
    """Return the request's ``content-type``, if any, and the overrides, which replace a field of the same name (D6)."""
    if not overrides:
        return () if content_type is None else (("content-type", content_type),)
    headers = [(name, value.encode()) for name, value in overrides]
    if content_type is not None and not any(name.lower() == "content-type" for name, _ in overrides):
        headers.insert(0, ("content-type", content_type))
    return tuple(headers)
