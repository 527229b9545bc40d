"""Guarded routes for tests: one jwt guard, ``g``, whose credential may stand in any of three places."""

from __future__ import annotations

from typing import Any, Final

import httpx

from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.table import Credentials, Entry, EntryCondition, GuardRequirement, Route
from tests.support.proxy import Proxy, fetch

__all__ = ["EVERYWHERE", "PLAIN", "ask", "bearer", "guarded_by", "items", "under"]

PLAIN: Final = "{credentials}"
EVERYWHERE: Final = Credentials(
    guard="g",
    cookies={"access_token": PLAIN},
    headers={"authorization": "Bearer {credentials}"},
    query={"access_token": PLAIN},
)


def bearer(credential: str) -> dict[str, str]:
    """Return the field that brings a credential."""
    return {"authorization": f"Bearer {credential}"}


def guarded_by(guard: str, *roles: str) -> tuple[GuardRequirement, ...]:
    """Return what an entry or a route requires."""
    return (GuardRequirement(guard=guard, roles=frozenset(roles)),)


def under(name: str, path: str, *routes: Route, guarded: tuple[GuardRequirement, ...] = ()) -> Entry:
    """Return an entry for a path."""
    condition = EntryCondition(path=PathTemplate.parse(path))
    return Entry(name=name, levels=((condition,),), guarded=guarded, routes=routes)


def items(topics: dict[str, str], path: str = "/items/{id}", **more: Any) -> Route:
    """Return a route that fetches an item by its key: 1 is an apple, 2 a pear."""
    return fetch(path, topic=topics["items"], filters=[{"key": "${params.id}"}], **more)


async def ask(proxy: Proxy, place: str, credential: str) -> httpx.Response:
    """Ask for the apple with a credential as cookie, header or query."""
    match place:
        case "cookie":
            return await proxy.request("GET", "/items/1", headers={"cookie": f"a=1; access_token={credential}; b=2"})
        case "header":
            return await proxy.request("GET", "/items/1", headers=bearer(credential))
        case _:
            return await proxy.request("GET", f"/items/1?a=1&access_token={credential}&parameter=value")
