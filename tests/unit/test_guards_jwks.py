"""Keys from a URL: caching, rotation, and locations that fail, hang or send nonsense."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy.guards.jwks import (
    MAX_BYTES,
    MAX_KEYS,
    check_location,
    parse_key_set,
)
from kafkaproxy.guards.jwt import JwtGuard
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.routing.table import GuardConfig
from tests.kafka.certificates import Certificates, make_certificates
from tests.support.tokens import AUDIENCE, NOW, KeyServer, jwk, key_server, sign, token
from tests.support.tokens import claims as good_claims


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server(jwk("ES256")) as serving:
        yield serving


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


async def test_a_location_that_refuses_connections(caplog: pytest.LogCaptureFixture) -> None:
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
            jwk("HS256"),  # a secret that every client can fetch is none
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

    async def test_a_certificate_of_an_unknown_authority_is_not_trusted(self, certificates: Certificates) -> None:
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
