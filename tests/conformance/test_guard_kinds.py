"""A kind of guard that another app adds, on real routes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kafkaproxy import guard_kinds
from kafkaproxy.guards import register
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import GuardConfig
from tests.conformance.conftest import Begin
from tests.kafka import Cluster, Consumed
from tests.support.guarded import EVERYWHERE, bearer
from tests.support.proxy import gateway, produce, stream
from tests.support.streams import asgi_stream
from tests.support.tokens import fresh

Consume = Callable[[str], list[Consumed]]


class Badge:
    """A kind of guard as another app adds it: it admits clients with a badge, for as long as its options say."""

    fields: tuple[str, ...] | None = ("x-badge",)
    scheme: str | None = "Badge"

    def __init__(self, config: GuardConfig) -> None:
        self._seconds = config.options["seconds"]

    async def authenticate(self, request: Request, _credential: str | None) -> ClientPrincipal | Refusal:
        name = request.field(b"x-badge")
        if name is None:
            return Refusal.MISSING
        end = time.time() + self._seconds
        return ClientPrincipal(identity=name.decode(), roles=frozenset({"visitor"}), expires_at=end)


class TestAKindOfAnotherApp:
    """It decides as ours do."""

    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard_kinds, "_kinds", dict(guard_kinds._kinds))
        register("badge", Badge)

    async def test_on_routes_and_in_templates(self, begin: Begin, topics: dict[str, str], kcat_consume: Consume) -> None:
        key = "${guarded['door'].identity}"
        write = produce("POST /visits", topic=topics["commands"], key=key, guarded={"door": ["visitor"]}, name="visit")
        staff = produce("POST /staff", topic=topics["commands"], guarded={"door": ["staff"]}, name="staff")
        proxy = begin(gateway(write, staff), guards={"door": {"kind": "badge", "options": {"seconds": 60}}})
        missing = await proxy.request("POST", "/visits")
        assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Badge realm="gateway"')
        assert missing.headers["vary"] == "x-badge"
        assert (await proxy.request("POST", "/visits", headers={"x-badge": "eve"}, content=b"hi")).status_code == 204
        assert (await proxy.request("POST", "/staff", headers={"x-badge": "eve"})).status_code == 403
        assert [record.key for record in kcat_consume(topics["commands"])] == ["eve"]

    async def test_a_stream_ends_with_the_credential_that_it_needs_and_with_no_other(
        self, begin: Begin, kafka: Cluster, topics: dict[str, str]
    ) -> None:
        """The guard of another route of the path was asked too; what it says has nothing to do with the stream."""
        read = stream("GET /events", topic=topics["commands"], guarded={"g": []})
        write = produce("POST /events", topic=topics["commands"], guarded={"door": []}, name="write")
        door = stream("GET /door", topic=topics["commands"], guarded={"door": []}, name="door")
        guards = {"door": {"kind": "badge", "options": {"seconds": 1}}}
        proxy = begin(gateway(read, write, door, credentials=EVERYWHERE), guards=guards)
        headers = {**bearer(fresh()), "x-badge": "eve"}
        async with asgi_stream(proxy.app, "/events", headers) as kept, asgi_stream(proxy.app, "/door", headers) as lost:
            assert await lost.rest() == []
            kafka.produce(topics["commands"], "still here")
            assert (await kept.next()).data == "still here"
