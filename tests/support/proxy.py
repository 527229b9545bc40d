"""A proxy in the test's own process: routes as values, no database, no server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from kafkaproxy.asgi import KafkaProxy
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.table import Capability, Condition, Configuration, Entry, Filter, Gateway, GuardRequirement, Route
from kafkaproxy.serving.runtime import Runtime
from kafkaproxy.worker.types import Acks, ClusterConfig, Role, TopicSettings

CLUSTER = "default"


def template(text: str, place: TemplatePlace) -> Template:
    """Parse a template."""
    return Template.parse(text, place)


def conditions(*texts: str) -> tuple[Condition, ...]:
    """Parse conditions: ``"GET /items/{id}"``, ``"/items"``, ``"*"``."""
    parsed = []
    for text in texts:
        method, _, path = text.rpartition(" ")
        parsed.append(Condition(method=method or None, path=None if path == "*" else PathTemplate.parse(path)))
    return tuple(parsed)


def produce(*when: str, topic: str, **options: Any) -> Route:
    """Make a produce route: key, overrides, reply_to, async_ (fields), acks, timeout, guarded."""
    fields = tuple((name, template(value, TemplatePlace.ASYNC)) for name, value in options.pop("async_", {}).items())
    location = next((value.text for _, value in fields if "${correlationId}" in value.text), None)
    key = options.pop("key", None)
    reply_to = options.pop("reply_to", None)
    return Route(
        name=options.pop("name", "produce"),
        capability=Capability.PRODUCE,
        cluster=CLUSTER,
        topic=template(topic, TemplatePlace.TOPIC),
        conditions=conditions(*when),
        key=None if key is None else template(key, TemplatePlace.KEY),
        overrides=tuple(
            (name, template(value, TemplatePlace.OVERRIDE)) for name, value in options.pop("overrides", {}).items()
        ),
        reply_to=None if reply_to is None else template(reply_to, TemplatePlace.REPLY_TO),
        async_fields=fields,
        async_location=None if location is None else PathTemplate.parse(location.replace("${params.", "{").replace("${", "{")),
        guarded=_guarded(options.pop("guarded", {})),
        acks=options.pop("acks", Acks.IN_SYNC_REPLICAS),
        **options,
    )


def fetch(*when: str, topic: str, filters: Iterable[Mapping[str, Any]] = (), **options: Any) -> Route:
    """Make a fetch route: filters (``{"key": ..., "headers": {...}}``), merge, guarded, cache_control."""
    return Route(
        name=options.pop("name", "fetch"),
        capability=options.pop("capability", Capability.FETCH),
        cluster=CLUSTER,
        topic=template(topic, TemplatePlace.TOPIC),
        conditions=conditions(*when),
        filters=tuple(
            Filter(
                key=template(each["key"], TemplatePlace.FILTER) if "key" in each else None,
                headers=tuple((name, template(value, TemplatePlace.FILTER)) for name, value in each.get("headers", {}).items()),
            )
            for each in filters
        ),
        guarded=_guarded(options.pop("guarded", {})),
        **options,
    )


def stream(*when: str, topic: str, **options: Any) -> Route:
    """Make a stream route."""
    return fetch(*when, topic=topic, capability=Capability.STREAM, name=options.pop("name", "stream"), **options)


def gateway(*routes: Route, **options: Any) -> Gateway:
    """Make a gateway with one entry that matches everything."""
    entry = Entry(name="all", levels=(), guarded=(), routes=routes)
    return Gateway(name=options.pop("name", "gateway"), entries=(entry,), cluster=CLUSTER, **options)


def configuration(
    servers: str, *gateways: Gateway, topics: Mapping[str, TopicSettings] | None = None, **client: Any
) -> Configuration:
    """Make a configuration of one cluster; the roles of topics follow from the routes, as when it is compiled.

    ``client`` are options of librdkafka. A topic is ready when its end was met, which a broker says of an idle partition after
    ``fetch.wait.max.ms``: half a second by default, which hundreds of tests would wait for.
    """
    roles: dict[str, set[Role]] = {}
    for each in (route for one in gateways for entry in one.entries for route in entry.routes):
        if each.capability is not Capability.PRODUCE and each.topic.is_literal:
            roles.setdefault(each.topic.text, set()).add(Role.FETCH if each.capability is Capability.FETCH else Role.STREAM)
        if each.reply_to is not None and each.reply_to.is_literal:
            roles.setdefault(each.reply_to.text, set()).add(Role.REPLY)
    settings = {name: TopicSettings(roles=frozenset(each)) for name, each in roles.items()} | dict(topics or {})
    client = {"bootstrap.servers": servers, "fetch.wait.max.ms": 50, **client}
    cluster = ClusterConfig(name=CLUSTER, client=client, topics=settings)
    return Configuration(version=1, gateways=gateways, clusters={CLUSTER: cluster})


async def site(scope: Any, receive: Any, send: Any) -> None:
    """Answer for the wrapped site."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"the site"})


class Proxy:
    """A proxy with a worker of its own and its store in ``folder``: one instance, as if on a host of its own."""

    def __init__(self, folder: Path, config: Configuration) -> None:
        self.runtime = Runtime(store_dir=folder)
        self.runtime.configure(config)
        self.app = KafkaProxy(site, running=lambda: self.runtime)
        transport = httpx.ASGITransport(app=self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="https://example.com:9090", timeout=60)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request."""
        return await self.client.request(method, path, **options)

    def close(self) -> None:
        """Stop the worker."""
        self.runtime.worker.close()


def _guarded(guards: Mapping[str, Iterable[str]]) -> tuple[GuardRequirement, ...]:
    return tuple(GuardRequirement(guard=name, roles=frozenset(roles)) for name, roles in guards.items())
