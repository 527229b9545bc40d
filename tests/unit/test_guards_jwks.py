"""Keys from a URL: kept, rotated, and what a location may do without letting anybody in or holding anybody up."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kafkaproxy.guards.jwks import (
    LAST_KEYS_SECONDS,
    LONGEST_PAUSE,
    MAX_BYTES,
    MAX_KEYS,
    REFETCH_SECONDS,
    RemoteKeys,
    check_location,
    parse_key_set,
)
from kafkaproxy.guards.jwt import JwtGuard
from kafkaproxy.guards.keys import KeysUnavailable
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.routing.table import GuardConfig
from tests.kafka.certificates import Certificates, make_certificates
from tests.tokens import AUDIENCE, NOW, KeyServer, jwk, key_server, sign, token
from tests.tokens import claims as good_claims


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server(jwk("ES256")) as serving:
        yield serving


class Source:
    """A location that is asked without a network, and a clock that stands still."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys: Any = keys
        self.now = 1000.0
        self.fetches = 0
        self.remote = RemoteKeys("g", self._fetch, cache_seconds=300, clock=lambda: self.now)

    def _fetch(self) -> bytes:
        self.fetches += 1
        if isinstance(self.keys, Exception):
            raise self.keys
        return json.dumps({"keys": self.keys}).encode()

    async def knows(self, kid: str, algorithm: str = "ES256") -> bool:
        return await self.remote.find(kid, algorithm) is not None


def guard_for(url: str, **more: Any) -> JwtGuard:
    given = {"issuer": "https://auth.example.com", "audience": AUDIENCE, "keys": url, **more}
    return JwtGuard(GuardConfig(name="g", kind="jwt", options=given), clock=lambda: NOW)


async def ask(guard: JwtGuard, credential: str) -> ClientPrincipal | Refusal:
    return await guard.authenticate(None, credential)  # type: ignore[arg-type]


async def test_nothing_is_fetched_before_a_token_comes(server: KeyServer) -> None:
    guard = guard_for(server.url + "/keys")
    await ask(guard, "not a token")
    assert server.asked == []
    assert isinstance(await ask(guard, token()), ClientPrincipal)
    assert isinstance(await ask(guard, token()), ClientPrincipal)
    assert server.asked == ["/keys"]


async def test_the_issuers_well_known_location_is_asked_where_no_keys_are_written(server: KeyServer) -> None:
    for issuer in (server.url, server.url + "/"):
        server.asked.clear()
        config = GuardConfig(name="g", kind="jwt", options={"issuer": issuer, "audience": AUDIENCE})
        answer = await JwtGuard(config, clock=lambda: NOW).authenticate(None, token(iss=issuer))  # type: ignore[arg-type]
        assert isinstance(answer, ClientPrincipal)
        assert server.asked == ["/.well-known/jwks.json"]


async def test_an_object_without_keys_has_none_and_refuses(server: KeyServer) -> None:
    server.say(b"{}")
    assert await ask(guard_for(server.url), token()) is Refusal.INVALID


class TestRotation:
    """Keys come and go without a restart."""

    async def test_an_unknown_key_is_looked_for_at_once_but_not_all_the_time(self) -> None:
        source = Source(jwk("ES256", kid="old"))
        assert await source.knows("old")
        source.keys = [jwk("ES256", kid="old"), jwk("ES256", kid="new")]
        assert not await source.knows("new")  # it was fetched this very moment
        source.now += REFETCH_SECONDS
        assert await source.knows("new")
        assert source.fetches == 2
        for number in range(100):
            assert not await source.knows(f"made-up-{number}")
        assert source.fetches == 2
        assert await source.knows("old")

    async def test_a_key_that_was_taken_back_is_gone_after_the_cache_time(self) -> None:
        source = Source(jwk("ES256"))
        assert await source.knows("one")
        source.keys = [jwk("ES256", kid="two")]
        source.now += 300
        assert not await source.knows("one")
        assert await source.knows("two")

    async def test_keys_are_fetched_anew_before_their_time_is_over_without_making_anybody_wait(self) -> None:
        source = Source(jwk("ES256"))
        assert await source.knows("one")
        source.now += 250
        assert await source.knows("one")
        for _ in range(500):
            if source.fetches == 2:
                break
            await asyncio.sleep(0.01)
        assert source.fetches == 2

    async def test_a_token_of_a_key_that_was_taken_back_is_refused_even_if_it_was_verified(self, server: KeyServer) -> None:
        source = Source(jwk("ES256"))
        config = GuardConfig(
            name="g", kind="jwt", options={"issuer": "https://auth.example.com", "audience": AUDIENCE, "keys": []}
        )
        guard = JwtGuard(config, clock=lambda: NOW, keys=source.remote)
        assert isinstance(await ask(guard, token()), ClientPrincipal)
        source.keys = [jwk("ES256", key=ec.generate_private_key(ec.SECP256R1()))]
        source.now += 300
        assert await ask(guard, token()) is Refusal.INVALID

    async def test_many_who_wait_cause_one_fetch(self) -> None:
        source = Source(jwk("ES256"))
        release = threading.Event()
        fetch = source._fetch

        def slow() -> bytes:
            release.wait(10)
            return fetch()

        source.remote._fetch = slow
        waiting = [asyncio.ensure_future(source.knows("one")) for _ in range(50)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()  # a client that leaves takes nothing from the others
        release.set()
        assert await asyncio.gather(*waiting[1:]) == [True] * 49
        assert source.fetches == 1


class TestAFailingLocation:
    """The last keys stay for a while, and the location gets a rest."""

    async def test_without_any_keys_nobody_can_tell(self) -> None:
        source = Source()
        source.keys = OSError("down")
        for _ in range(3):
            with pytest.raises(KeysUnavailable):
                await source.knows("one")
        assert source.fetches == 1

    async def test_it_is_asked_less_and_less_often(self) -> None:
        source = Source()
        source.keys = OSError("down")
        times = []
        for _ in range(400):
            before = source.fetches
            with pytest.raises(KeysUnavailable):
                await source.knows("one")
            if source.fetches > before:
                times.append(source.now)
            source.now += 1
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses[:6] == [1, 2, 4, 8, 16, 32]
        assert set(pauses[6:]) == {LONGEST_PAUSE}

    async def test_one_that_hangs_holds_nobody_up_while_the_last_keys_hold(self) -> None:
        source = Source(jwk("ES256"))
        assert await source.knows("one")
        source.keys = OSError("down")
        source.now += 300
        assert await source.knows("one")
        hung_up = threading.Event()

        def hang() -> bytes:
            hung_up.wait(60)
            return b""

        source.remote._fetch = hang
        source.now += 2
        assert await asyncio.wait_for(source.knows("one"), 30)
        assert source.remote._pending is not None
        hung_up.set()

    async def test_the_last_keys_stay_for_an_hour(self) -> None:
        source = Source(jwk("ES256"))
        assert await source.knows("one")
        source.keys = ValueError("rubbish")
        source.now += 300 + LAST_KEYS_SECONDS - 1
        assert await source.knows("one")
        source.now += 1
        with pytest.raises(KeysUnavailable):
            await source.knows("one")
        source.keys = [jwk("ES256")]
        source.now += LONGEST_PAUSE
        assert await source.knows("one")


def _hang(_request: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


def _drip_fields(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(300):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.1)


def _drip_body(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(300):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.1)


@pytest.mark.parametrize("misbehave", [_hang, _drip_fields, _drip_body])
async def test_a_location_that_hangs_or_drips_is_given_up(
    server: KeyServer, misbehave: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    server.answer = misbehave
    guard = guard_for(server.url, timeout=0.5)
    answer = await asyncio.wait_for(ask(guard, token()), 15)
    assert answer is Refusal.UNAVAILABLE
    assert await asyncio.wait_for(ask(guard, token()), 15) is Refusal.UNAVAILABLE


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"<html>", 200),
        (b"[]", 200),
        (b"null", 200),
        (b'{"keys": {}}', 200),
        (b'{"keys": "x"}', 200),
        (b"\xff\xfe", 200),
        (b"[" * 100_000, 200),
        (json.dumps({"keys": [{"kty": "EC"}] * (MAX_KEYS + 1)}).encode(), 200),
        (b" " * (MAX_BYTES + 1), 200),
        (json.dumps({"keys": [jwk("ES256")]}).encode(), 404),
        (json.dumps({"keys": [jwk("ES256")]}).encode(), 500),
        (json.dumps({"keys": [jwk("ES256")]}).encode(), 204),
    ],
)
async def test_a_location_that_says_something_else_is_as_good_as_none(server: KeyServer, body: bytes, status: int) -> None:
    server.say(body, status)
    assert await ask(guard_for(server.url), token()) is Refusal.UNAVAILABLE


async def test_a_broken_answer_is_no_answer(server: KeyServer) -> None:
    for raw in (b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{}", b""):
        server.answer = lambda request, raw=raw: request.wfile.write(raw)  # type: ignore[misc]
        assert await ask(guard_for(server.url, timeout=2), token()) is Refusal.UNAVAILABLE


async def test_a_location_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    caplog.set_level(logging.DEBUG)
    assert await ask(guard_for(f"http://127.0.0.1:{port}/"), token()) is Refusal.UNAVAILABLE
    assert "jwks_failed guard=g failures=1" in caplog.text


class TestKeysThatLie:
    """What a location says about keys is judged like everything else."""

    @pytest.mark.parametrize(
        "key",
        [
            jwk("HS256"),  # a secret that anybody can fetch is none
            jwk("ES256", alg="HS256"),
            jwk("ES256", alg="none"),
            jwk("ES256", alg=None),
            jwk("ES256", use="enc"),
            jwk("ES256", x=None),
            jwk("ES256", x="AAAA"),
            jwk("ES256", crv="P-384"),
            jwk("ES256", kty="RSA"),
            jwk("ES256", kid=7),
            {},
            {"kty": "RSA"},
        ],
    )
    def test_a_key_that_is_none_is_left_out_and_takes_no_other_along(self, key: dict[str, Any]) -> None:
        keys = parse_key_set(json.dumps({"keys": [key, "x", 7, None, jwk("RS256", kid="good")]}).encode())
        assert len(keys) == 1
        assert keys.select("good", "RS256") is not None

    async def test_a_public_key_published_as_a_secret_signs_nothing(self, server: KeyServer) -> None:
        secret = "a-secret-that-was-published-by-mistake-or-worse-than-that"
        server.serve(jwk("HS256", key=secret), jwk("ES256"))
        assert await ask(guard_for(server.url), sign(good_claims(), "HS256", key=secret)) is Refusal.INVALID

    async def test_a_key_for_which_the_guard_names_the_algorithm(self, server: KeyServer) -> None:
        server.serve(jwk("RS256", alg=None))
        assert isinstance(await ask(guard_for(server.url, algorithm="RS256"), token("RS256")), ClientPrincipal)
        assert await ask(guard_for(server.url, algorithm="RS256"), token("PS256")) is Refusal.INVALID
        assert await ask(guard_for(server.url), token("RS256")) is Refusal.INVALID


class TestWhereKeysMayComeFrom:
    """https, or this machine."""

    @pytest.mark.parametrize(
        "url",
        ["https://a.example/keys", "http://127.0.0.1/keys", "http://127.8.8.8:81/", "http://[::1]:81/", "http://localhost/"],
    )
    def test_these_may(self, url: str) -> None:
        assert check_location(url, allow_http=False) == url

    @pytest.mark.parametrize(
        "url",
        [
            "http://a.example/keys",
            "http://10.0.0.1/keys",
            "http://127.0.0.1.evil.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1@evil.example/",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "//127.0.0.1/",
            "https://",
            "",
            "https://[::1/",
        ],
    )
    def test_these_may_not(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"https|JWKS"):
            check_location(url, allow_http=False)

    def test_an_operator_may_insist(self) -> None:
        assert check_location("http://keys.internal/", allow_http=True)
        with pytest.raises(ValueError, match="https"):
            check_location("file:///etc/passwd", allow_http=True)

    async def test_a_redirect_within_the_rule_is_followed(self, server: KeyServer) -> None:
        keys = json.dumps({"keys": [jwk("ES256")]}).encode()

        def answer(request: BaseHTTPRequestHandler) -> None:
            moved = request.path == "/old"
            request.send_response(302 if moved else 200)
            request.send_header("location", "/new")
            request.send_header("content-length", "0" if moved else str(len(keys)))
            request.end_headers()
            request.wfile.write(b"" if moved else keys)

        server.answer = answer
        assert isinstance(await ask(guard_for(server.url + "/old"), token()), ClientPrincipal)
        assert server.asked == ["/old", "/new"]

    @pytest.mark.parametrize(
        "target", ["http://evil.example/", "file:///etc/passwd", "ftp://127.0.0.1/", "http://192.0.2.1/", "/again", "http://["]
    )
    async def test_a_redirect_to_elsewhere_is_not(self, server: KeyServer, target: str) -> None:
        server.say(b"", 302, location=target)
        assert await ask(guard_for(server.url + "/again", timeout=2), token()) is Refusal.UNAVAILABLE
        assert len(server.asked) <= 5


class TestTls:
    """https means a certificate that this machine trusts."""

    @pytest.fixture
    def certificates(self, tmp_path: Path) -> Certificates:
        return make_certificates(tmp_path)

    async def test_a_certificate_of_nobody_is_not_trusted(self, certificates: Certificates) -> None:
        with key_server(jwk("ES256"), certificate=certificates.server) as server:
            assert await ask(guard_for(server.url), token()) is Refusal.UNAVAILABLE
            assert server.asked == []

    async def test_keys_come_over_tls(self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
        with key_server(jwk("ES256"), certificate=certificates.server) as server:
            assert isinstance(await ask(guard_for(server.url), token()), ClientPrincipal)

    async def test_https_does_not_become_http_on_the_way(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, server: KeyServer
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
        with key_server(certificate=certificates.server) as secure:
            secure.say(b"", 302, location=server.url)
            assert await ask(guard_for(secure.url), token()) is Refusal.UNAVAILABLE
            assert server.asked == []

    async def test_a_location_that_hangs_over_tls_is_given_up(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
        with key_server(certificate=certificates.server) as server:
            server.answer = _drip_body
            assert await asyncio.wait_for(ask(guard_for(server.url, timeout=0.5), token()), 15) is Refusal.UNAVAILABLE
