"""Options of the kind ``jwt``: what is good, and what is said about the rest when a guard is saved."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core.exceptions import ValidationError
from jwt import algorithms

from kafkaproxy.guard_kinds import check_guard
from kafkaproxy.guards.jwt import JwtGuard
from kafkaproxy.guards.keys import read_key
from kafkaproxy.guards.principals import ClientPrincipal
from kafkaproxy.routing.table import GuardConfig
from tests.support.tokens import AUDIENCE, ISSUER, NOW, SECRET, b64, jwk, options, token


def _problem(**changes: Any) -> str:
    given = {name: value for name, value in options(**changes).items() if value != "absent"}
    with pytest.raises(ValidationError) as error:
        check_guard("jwt", given)
    assert list(error.value.message_dict) == ["options"]
    return " ".join(error.value.message_dict["options"])


class TestOptions:
    """Options are judged when a guard is saved."""

    @pytest.mark.parametrize(
        "given",
        [
            options(),
            options(audience=["a", "b"], roles="realm_access.roles", identity="email", attributes={"t": "tenant"}),
            options(challenge=30, leeway=2.5, cache=60, timeout=1, allow_http=False, algorithm="RS256"),
            options(challenge=None, issuer=None, audience=None),
            options(keys=[]),
            options(jwk("ES256", alg=None), jwk("RS256")),
            {"issuer": "https://a.example", "audience": "b"},
            {"issuer": "a", "audience": "b", "keys": "https://a.example/keys"},
            {"issuer": "a", "audience": "b", "keys": "http://127.0.0.1:8080/keys"},
            {"issuer": "a", "audience": "b", "keys": "http://[::1]/keys"},
            {"issuer": "a", "audience": "b", "keys": "http://localhost/keys"},
            {"issuer": "a", "audience": "b", "keys": "http://keys.internal/keys", "allow_http": True},
            {"issuer": "${{env.ISSUER}}", "audience": "${{env.AUDIENCE}}", "challenge": 3},
            {"issuer": "a", "audience": "b", "keys": "${{env.KEYS}}"},
            {"issuer": "a", "audience": "b", "keys": [{"kty": "oct", "alg": "HS256", "k": "${{env.SECRET}}"}]},
        ],
    )
    def test_these_are_good(self, given: dict[str, Any]) -> None:
        check_guard("jwt", given)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"isuer": "x"}, "isuer is not an option. Did you mean issuer?"),
            ({"nothing_like_it": 1}, "nothing_like_it is not an option. Known are algorithm, allow_http"),
            ({"issuer": "absent"}, "issuer: Write this option."),
            ({"audience": "absent"}, "audience: Write this option."),
            ({"issuer": ""}, "issuer: Write a text."),
            ({"issuer": 7}, "issuer: Write a text."),
            ({"audience": []}, "audience: Write a text."),
            ({"audience": ["a", 1]}, "audience: Write a text."),
            ({"challenge": "10"}, "challenge: Write a number of seconds"),
            ({"challenge": -1}, "challenge: Write a number of seconds"),
            ({"challenge": True}, "challenge: Write a number of seconds"),
            ({"leeway": 601}, "leeway: Write a number of seconds from 0 to 600."),
            ({"attributes": ["a"]}, "attributes: Write an object"),
            ({"attributes": {"a": 1}}, "attributes: Write a text."),
            ({"allow_http": "yes"}, "allow_http: Write true or false."),
            ({"algorithm": "none"}, "algorithm: Write one of RS256"),
            ({"keys": 7}, "keys: Write a list of JSON Web Keys, or the URL of a JWKS."),
            ({"keys": "ftp://example.com/keys"}, "use https"),
            ({"keys": "http://example.com/keys"}, "use https, or set allow_http"),
            ({"keys": "https:///keys"}, "Write the URL of a JWKS"),
            ({"keys": "https://example.com:99999/"}, "Write the URL of a JWKS"),
            ({"keys": "not a url"}, "Write the URL of a JWKS"),
            ({"keys": "absent", "issuer": "http://auth.example.com"}, "use https"),
            ({"keys": "absent", "issuer": "accounts.example.com"}, "Write the URL of a JWKS"),
            ({"keys": "absent", "issuer": None}, "Write keys"),
            ({"keys": [7]}, "keys[1]: Write keys as JSON Web Keys"),
            ({"keys": [jwk("ES256", alg=None)]}, "keys[1]: The key declares no alg"),
            ({"keys": [jwk("ES256"), jwk("ES256", alg="none")]}, "keys[2]: The alg of the key is none of RS256"),
            ({"keys": [jwk("ES256", alg="RS256")]}, "RS256 needs a key of type RSA"),
            ({"keys": [jwk("ES256", alg="HS256")]}, "HS256 needs a key of type oct"),
            ({"keys": [jwk("RS256", alg="HS256")]}, "HS256 needs a key of type oct"),
            ({"keys": [jwk("HS256", alg="RS256")]}, "RS256 needs a key of type RSA"),
            ({"keys": [jwk("ES256", alg="ES384")]}, "ES384 needs a key on the curve P-384"),
            ({"keys": [jwk("ES256", crv="P-521")]}, "ES256 needs a key on the curve P-256"),
            ({"keys": [jwk("EdDSA", crv="X25519")]}, "EdDSA needs a key on the curve Ed25519"),
            ({"keys": [jwk("EdDSA", crv="Ed448")]}, "EdDSA needs a key on the curve Ed25519"),
            ({"keys": [jwk("ES256", x=None)]}, "The key has no x."),
            ({"keys": [jwk("ES256", x=7)]}, "The key has no x."),
            ({"keys": [jwk("ES256", x="!!!")]}, "The x of the key is not base64."),
            ({"keys": [jwk("ES256", y=jwk("ES256")["x"])]}, "The numbers of the key are not those of a ES256 key."),
            ({"keys": [jwk("EdDSA", x="AAAA")]}, "The numbers of the key are not those of a EdDSA key."),
            ({"keys": [jwk("RS256", use="enc")]}, "its use is not sig"),
            ({"keys": [jwk("RS256", kid=7)]}, "The kid of the key is not a text."),
            ({"keys": [jwk("HS256", k=b64(b"x" * 31))]}, "A HS256 key has at least 32 bytes."),
            ({"keys": [jwk("HS512", k=b64(b"x" * 63))]}, "A HS512 key has at least 64 bytes."),
        ],
    )
    def test_these_are_not(self, changes: dict[str, Any], said: str) -> None:
        assert said in _problem(**changes)

    def test_weak_and_enormous_rsa_keys_are_refused(self) -> None:
        weak = rsa.generate_private_key(65537, 1024)
        assert "2048 to 8192 bits" in _problem(keys=[jwk("RS256", key=weak)])
        assert "2048 to 8192 bits" in _problem(keys=[jwk("RS256", n=b64(b"\xff" * 2049))])
        assert "a small exponent" in _problem(keys=[jwk("RS256", e=b64(b"\xff" * 9))])

    def test_a_secret_is_in_no_error(self) -> None:
        for spoilt in ({"kty": "oct"}, {"use": "enc"}, {"alg": "HS999"}, {"k": SECRET + "!!"}, {"kid": 7}):
            assert SECRET[:12] not in _problem(
                keys=[{"alg": "HS512", **jwk("HS256"), "k": b64(SECRET[:20].encode()), **spoilt}]
            )
        assert SECRET not in repr(read_key(jwk("HS256")))
        assert b64(SECRET.encode()) not in repr(read_key(jwk("HS256")))

    def test_every_problem_is_told_at_once(self) -> None:
        with pytest.raises(ValidationError) as error:
            check_guard("jwt", {"isuer": "x", "challenge": -1})
        assert len(error.value.message_dict["options"]) == 4

    def test_an_unknown_kind_names_the_nearest(self) -> None:
        with pytest.raises(ValidationError) as error:
            check_guard("jtw", {})
        assert error.value.message_dict == {
            "kind": ["jtw is not a kind of guard. Did you mean jwt? Known are jwt, session, simplejwt."]
        }

    def test_without_cryptography_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(algorithms, "has_crypto", False)
        key = {"kty": "EC", "alg": "ES256", "crv": "P-256", "x": "AA", "y": "AA"}
        for given in (options(key), {"issuer": ISSUER, "audience": AUDIENCE}):
            with pytest.raises(ValidationError, match=r"kafkaproxy\[crypto\]"):
                check_guard("jwt", given)
            with pytest.raises(ValueError, match=r"kafkaproxy\[crypto\]"):
                JwtGuard(GuardConfig(name="g", kind="jwt", options=given))

    async def test_hmac_works_without_cryptography(self, monkeypatch: pytest.MonkeyPatch) -> None:
        credential, key = token("HS256"), jwk("HS256")
        monkeypatch.setattr(algorithms, "has_crypto", False)
        guard = JwtGuard(GuardConfig(name="g", kind="jwt", options=options(key)), clock=lambda: NOW)
        assert isinstance(await guard.authenticate(None, credential), ClientPrincipal)  # type: ignore[arg-type]


def test_padding_is_accepted_in_declared_numbers_only() -> None:
    padded = base64.urlsafe_b64encode(b"x" * 32).decode()
    assert padded.endswith("=")
    assert read_key({"kty": "oct", "alg": "HS256", "k": padded}) == read_key(
        {"kty": "oct", "alg": "HS256", "k": padded.rstrip("=")}
    )
