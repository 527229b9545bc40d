"""What of a request reaches the service, and what never does (the contract, *With reply-to*; D5, D6)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from kafkaproxy.routing.table import Credentials
from tests.kafka import Cluster, Consumed
from tests.support.exchange import Exchange
from tests.support.proxy import Proxy, configuration, gateway, produce
from tests.support.service import Service

Consume = Callable[[str], list[Consumed]]
PSEUDO = [":method", ":scheme", ":authority", ":path"]
CREDENTIALS = Credentials(
    guard="jwt",
    cookies={"token": "{credentials}"},
    headers={"X-Token": "{credentials}"},
    query={"access_token": "{credentials}", "a b": "{credentials}"},
)
GATEWAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "credentials": {"credentials": CREDENTIALS},
    "forwards": {"credentials": CREDENTIALS, "forward_credentials": True},
    "drops": {"dropped_fields": frozenset({b"x-private", b"user-agent"})},
    "allows": {"forwarded_fields": frozenset({b"accept", b"authorization"})},
}


class Stage:
    """A proxy with a gateway for each way to forward, and a service that answers all."""

    def __init__(self, proxy: Proxy, requests: str, service: Service) -> None:
        self.proxy = proxy
        self.requests = requests
        self.service = service

    async def sent(
        self,
        name: str,
        fields: Iterable[tuple[str, str]] = (),
        path: str = "/",
        method: str = "POST",
        body: bytes = b"x",
        **scope: Any,
    ) -> list[tuple[str, bytes | None]]:
        """Send a request to a gateway and return the headers that the service got."""
        asked = Exchange(self.proxy.app, method, f"/{name}{path}", fields, **scope)
        asked.send(body)
        await asked.end()
        assert asked.status == 200
        return self.service.asked[-1].headers

    async def forwarded(self, name: str, *fields: tuple[str, str], **options: Any) -> dict[str, str]:
        """Return the headers that came from fields of the request."""
        headers = await self.sent(name, fields, **options)
        return {n: (v or b"").decode("latin-1") for n, v in headers if n not in PSEUDO and not n.startswith("zilla:")}


@pytest.fixture(scope="module")
def stage(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    requests, replies = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("requests", "replies"))
    for each in (requests, replies):
        kafka.create_topic(each)

    def route(name: str) -> Any:
        overrides = {"x-static": "ours", "Content-Type": "application/x-ours"} if name == "overrides" else {}
        return produce(f"/{name}/", f"/{name}/*", topic=requests, reply_to=replies, overrides=overrides)

    gateways = [gateway(route(name), name=name, **options) for name, options in {**GATEWAYS, "overrides": {}}.items()]
    proxy = Proxy(tmp_path_factory.mktemp("forwarding"), configuration(kafka.bootstrap, *gateways))
    service = Service(kafka.bootstrap, requests)
    yield Stage(proxy, requests, service)
    service.close()
    proxy.close()
    kafka.delete_topics([requests, replies])


async def test_the_request_line_comes_first_and_the_id_last(stage: Stage) -> None:
    headers = await stage.sent("plain", [("accept", "*/*"), ("x-a", "1")], "/a%20b?q=%2F&r", "PATCH")
    assert [name for name, _ in headers] == [*PSEUDO, "accept", "x-a", "zilla:reply-to", "zilla:correlation-id"]
    assert [value for _, value in headers][:4] == [b"PATCH", b"https", b"example.com:9090", b"/plain/a%20b?q=%2F&r"]


async def test_fields_keep_their_order_and_their_duplicates(stage: Stage) -> None:
    given = [("x-b", "1"), ("accept", "text/html"), ("x-b", "2"), ("x-a", "3"), ("x-b", "1")]
    headers = await stage.sent("plain", given)
    assert [(name, (value or b"").decode()) for name, value in headers][4:-2] == given


async def test_bytes_beyond_ascii_are_forwarded_as_they_are(stage: Stage) -> None:
    headers = await stage.sent("plain", [("x-name", "caf\xe9")])
    assert dict(headers)["x-name"] == b"caf\xe9"


async def test_what_is_for_this_hop_is_not_forwarded(stage: Stage) -> None:
    names = ["keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "http2-settings", "x-hop"]
    fields = [(name, "1") for name in names] + [("connection", "close, X-Hop"), ("content-length", "1"), ("prefer", "wait=9")]
    assert await stage.forwarded("plain", *fields, ("x-end", "1")) == {"x-end": "1"}


async def test_credentials_never_reach_kafka(stage: Stage, kcat_consume: Consume) -> None:  # D5
    secret = "s3cr3t"
    fields = [(name, secret) for name in ("authorization", "cookie", "proxy-authorization", "x-token")]
    path = f"/?a=1&access_token={secret}&b=2&a+b={secret}&a%20b={secret}&access%5Ftoken={secret}&c"
    headers = await stage.sent("credentials", [*fields, ("x-end", "1")], path)
    assert dict(headers)[":path"] == b"/credentials/?a=1&b=2&c"
    assert [name for name, _ in headers[4:-2]] == ["x-end"]
    assert secret not in repr(kcat_consume(stage.requests)[-1])


async def test_a_query_of_nothing_but_a_credential_is_none(stage: Stage) -> None:
    assert dict(await stage.sent("credentials", path="/?access_token=s3cr3t"))[":path"] == b"/credentials/"


async def test_standard_credentials_are_dropped_where_no_guard_reads_any(stage: Stage) -> None:
    forwarded = await stage.forwarded("plain", ("authorization", "Bearer x"), ("cookie", "a=b"), ("x-token", "mine"))
    assert forwarded == {"x-token": "mine"}


async def test_a_gateway_may_forward_credentials(stage: Stage) -> None:
    fields = [("authorization", "Bearer x"), ("cookie", "a=b"), ("x-token", "t")]
    headers = await stage.sent("forwards", fields, "/?access_token=q")
    assert dict(headers)[":path"] == b"/forwards/?access_token=q"
    assert [(name, (value or b"").decode()) for name, value in headers][4:-2] == fields


async def test_a_gateway_may_drop_more(stage: Stage) -> None:
    assert await stage.forwarded("drops", ("x-private", "1"), ("user-agent", "curl"), ("x-public", "2")) == {"x-public": "2"}


async def test_a_gateway_may_allow_few_and_credentials_are_not_among_them(stage: Stage) -> None:
    fields = [("accept", "*/*"), ("authorization", "Bearer x"), ("x-other", "1"), ("if-match", "*"), ("idempotency-key", "k")]
    assert await stage.forwarded("allows", *fields) == {"accept": "*/*"}


async def test_overrides_replace_forwarded_fields_of_their_name(stage: Stage) -> None:  # D6
    headers = await stage.sent("overrides", [("content-type", "text/plain"), ("x-static", "theirs"), ("x-kept", "1")])
    assert [(name, value) for name, value in headers if not name.startswith((":", "zilla:"))] == [
        ("x-kept", b"1"),
        ("x-static", b"ours"),
        ("Content-Type", b"application/x-ours"),
    ]
    assert [name for name, _ in headers][-4:] == ["zilla:reply-to", "x-static", "Content-Type", "zilla:correlation-id"]


async def test_a_client_cannot_say_where_the_reply_goes(stage: Stage) -> None:
    fields = [("zilla:reply-to", "theirs"), ("zilla:correlation-id", "theirs")]
    headers = await stage.sent("plain", fields)
    assert b"theirs" not in dict(headers).values()
    assert [name for name, _ in headers].count("zilla:correlation-id") == 1


@pytest.mark.parametrize(
    ("given", "forwarded"),
    [
        (["AQQABAIC/revision=42"], "revision=42"),
        (['"AQQABAIC/revision=42"'], "revision=42"),
        (['W/"AQQABAIC/revision=42"'], "revision=42"),
        (['"AQQABAIC/a%20b%22%C3%A9"'], 'a b"é'),
        (["AQ==/1"], "AQ==/1"),  # not a progress: it is the service's own
        (["AQA=/"], ""),
        (["AQQABAIC"], None),
        (['"AQQABAIC"'], None),
        (['"AQQABAIC", "AQQABAIC/1"'], "1"),
        (['"AQQABAIC"', '"AQQABAIC/2"'], "2"),
        (["*"], "*"),
        (['"the-services-own"'], "the-services-own"),
        (["revision=42"], "revision=42"),
        (['"a/b"'], "a/b"),
    ],
)
async def test_if_match_is_forwarded_as_the_services_own_etag(stage: Stage, given: list[str], forwarded: str | None) -> None:
    headers = await stage.sent("plain", [("if-match", each) for each in given])
    found = [(value or b"").decode() for name, value in headers if name == "if-match"]
    assert found == ([] if forwarded is None else [forwarded])


@pytest.mark.parametrize(
    ("host", "authority"),
    [("example.com", "example.com:443"), ("example.com:1", "example.com:1"), ("[::1]", "[::1]:443"), ("[::1]:2", "[::1]:2")],
)
async def test_the_authority_has_its_port(stage: Stage, host: str, authority: str) -> None:
    assert dict(await stage.sent("plain", host=host))[":authority"] == authority.encode()


async def test_a_server_that_does_not_tell_the_raw_path_is_served_too(stage: Stage) -> None:
    headers = await stage.sent("plain", path="/日本 %", raw_path=None)
    assert dict(headers)[":path"] == b"/plain/%E6%97%A5%E6%9C%AC%20%25"


async def test_delete_has_an_empty_value_and_not_a_null_one(stage: Stage, kcat_consume: Consume) -> None:
    await stage.sent("plain", method="DELETE", body=b"a body that has no meaning")
    assert kcat_consume(stage.requests)[-1].value == ""


async def test_a_chunked_body_is_put_together(stage: Stage) -> None:
    asked = Exchange(stage.proxy.app, "POST", "/plain/", [("transfer-encoding", "chunked")])
    for number in range(100):
        asked.send(b"%03d" % number, more=True)
        await asyncio.sleep(0)
    asked.send()
    await asked.end()
    assert asked.body == b"".join(b"%03d" % number for number in range(100))
    assert stage.service.asked[-1].value == asked.body
