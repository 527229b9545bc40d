"""The kind ``jwt``: claims, options, what is kept. ``test_guards_jws`` has signatures, ``test_guards_jwks`` keys from URLs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kafkaproxy.guards.credential_cache import CredentialCache
from kafkaproxy.guards.jwt import JwtGuard
from kafkaproxy.guards.keys import KeysUnavailable, VerificationKey, read_key
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.routing.table import GuardConfig
from tests.support.tokens import AUDIENCE, ISSUER, NOW, claims, jwk, options, sign, token


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Counting:
    """Keys that count how often they are asked for, and can be taken away."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = {each.kid: each for each in map(read_key, keys)}
        self.asked = 0
        self.down = False

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        self.asked += 1
        if self.down:
            raise KeysUnavailable
        found = self.keys.get(kid)
        return found if found is not None and found.algorithm == algorithm else None


def make(clock: Clock | None = None, source: Counting | None = None, **more: Any) -> JwtGuard:
    return JwtGuard(GuardConfig(name="g", kind="jwt", options=options(**more)), clock=clock or Clock(), keys=source)


async def ask(guard: JwtGuard, credential: str | None) -> ClientPrincipal | Refusal:
    return await guard.authenticate(None, credential)  # type: ignore[arg-type]


async def named(credential: str, **more: Any) -> ClientPrincipal:
    answer = await ask(make(**more), credential)
    assert isinstance(answer, ClientPrincipal)
    return answer


class TestRowsOfTheReference:
    """The table of the reference's guard tests."""

    async def test_should_authorize(self) -> None:
        who = await named(token("RS256", exp=NOW + 10), keys=[jwk("RS256")], challenge=3)
        assert who.identity == "alice"
        assert (who.expires_at, who.challenge_at) == (NOW + 10, NOW + 7)
        assert who.holds(["read:stream", "write:stream"])

    async def test_with_custom_identity(self) -> None:
        assert (await named(token(username="bob"), identity="username")).identity == "bob"

    async def test_with_custom_role(self) -> None:
        who = await named(token(scope=None, realm_access={"roles": ["a", "b"]}), roles="realm_access.roles")
        assert who.roles == {"a", "b"}
        assert not who.holds(["admin"])

    @pytest.mark.parametrize(
        "credential",
        [
            token(iss="https://other.example.com"),
            token(iss=ISSUER + "/"),
            token(iss=[ISSUER]),
            token(iss=None),
            token(aud="https://other.example.com"),
            token(aud=None),
            token(aud=[]),
            token(aud={AUDIENCE: 1}),
            token(aud=AUDIENCE + "x"),
            token(exp=NOW - 10),
            token(exp=NOW),
            token(nbf=NOW + 10),
            "",
            "x",
        ],
    )
    async def test_not_authorized(self, credential: str) -> None:
        assert await ask(make(), credential) is Refusal.INVALID

    async def test_not_authorized_without_credentials(self) -> None:
        assert await ask(make(), None) is Refusal.MISSING

    async def test_not_verified_when_roles_are_insufficient(self) -> None:
        who = await named(token(scope="read:stream"))
        assert not who.holds(["read:stream", "write:stream"])
        assert who.holds(["read:stream"])
        assert who.holds([])


class TestTimes:
    """``exp`` and ``nbf``, to the fraction of a second."""

    async def test_it_ends_at_exp_and_begins_at_nbf(self) -> None:
        assert (await named(token(exp=NOW + 0.25, nbf=NOW))).expires_at == NOW + 0.25
        assert await ask(make(), token(nbf=NOW + 0.25)) is Refusal.INVALID

    async def test_leeway_stretches_both(self) -> None:
        who = await named(token(exp=NOW - 4, nbf=NOW + 4), leeway=5, challenge=2)
        assert (who.expires_at, who.challenge_at) == (NOW + 1, NOW - 1)
        assert await ask(make(leeway=5), token(exp=NOW - 5)) is Refusal.INVALID
        assert await ask(make(leeway=5), token(nbf=NOW + 6)) is Refusal.INVALID

    async def test_a_token_without_exp_never_ends(self) -> None:
        who = await named(token(exp=None), challenge=3)
        assert (who.expires_at, who.challenge_at) == (None, None)

    @pytest.mark.parametrize("value", ["1", "2999999999", True, [], {}, float("inf"), float("nan"), 10**400])
    @pytest.mark.parametrize("name", ["exp", "nbf"])
    async def test_a_time_is_a_number(self, name: str, value: Any) -> None:
        assert await ask(make(), token(**{name: value})) is Refusal.INVALID

    async def test_null_is_no_time(self) -> None:
        assert await ask(make(), sign(claims() | {"exp": None})) is Refusal.INVALID

    async def test_iat_and_jti_are_not_checked(self) -> None:
        await named(token(iat=NOW + 1000, jti=7))


class TestClaims:
    """From claims to identity, roles and attributes."""

    @pytest.mark.parametrize(
        ("claim", "roles"),
        [
            ("a b", {"a", "b"}),
            (" a\t b\n", {"a", "b"}),
            (["a b", "c"], {"a b", "c"}),
            (["a", 1, None, ["b"]], {"a"}),
            ("", set()),
            ([], set()),
            (None, set()),
            ({"a": 1}, set()),
            (7, set()),
        ],
    )
    async def test_roles(self, claim: Any, roles: set[str]) -> None:
        assert (await named(token(scope=claim))).roles == roles

    @pytest.mark.parametrize(
        ("claim", "identity"),
        [("alice", "alice"), (42, "42"), (None, ""), (True, ""), (["alice"], ""), ({"a": 1}, ""), (1.5, "")],
    )
    async def test_an_identity_is_a_text_or_a_whole_number(self, claim: Any, identity: str) -> None:
        assert (await named(token(sub=claim))).identity == identity

    @pytest.mark.parametrize("claims", [{"sub": "\ud800"}, {"tenant": "a\udfff"}, {"tenant": {"a": ["\ud800"]}}])
    async def test_half_a_character_is_no_text(self, claims: dict[str, Any]) -> None:
        assert await ask(make(attributes={"tenant": "tenant"}), token(**claims)) is Refusal.INVALID

    async def test_attributes_are_texts(self) -> None:
        paths = {name: f"u.{name}" for name in ("text", "number", "flag", "list", "object", "missing", "null")} | {
            "deep": "u.a.b"
        }
        value = {"text": "x", "number": 7, "flag": True, "list": ["a", 1], "object": {"k": "v"}, "null": None, "a": {"b": "c"}}
        who = await named(token(u=value), attributes=paths)
        assert who.attributes == {
            "text": "x",
            "number": "7",
            "flag": "true",
            "list": '["a",1]',
            "object": '{"k":"v"}',
            "deep": "c",
        }

    async def test_a_claim_whose_name_has_dots_is_found_before_the_path(self) -> None:
        value = {"https://example.com/tenant": "t1", "a": {"b": "nested"}, "a.b": "flat"}
        who = await named(token(**value), attributes={"tenant": "https://example.com/tenant", "ab": "a.b"})
        assert who.attributes == {"tenant": "t1", "ab": "flat"}

    async def test_one_of_several_audiences_is_enough(self) -> None:
        await named(token(aud=["x", "b"]), audience=["a", "b"])
        assert await ask(make(audience=["a", "b"]), token(aud=["x"])) is Refusal.INVALID

    async def test_null_says_that_a_party_is_not_checked(self) -> None:
        await named(token(iss="anybody", aud="anything"), issuer=None, audience=None)


class TestCredentialCache:
    """A token is verified once, for as long as its key is there."""

    async def test_a_verified_token_is_not_verified_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        guard = make()
        first = await ask(guard, token_once := token())
        monkeypatch.setattr(guard._verifier, "verify", lambda *_: pytest.fail("verified again"))
        assert await ask(guard, token_once) is first

    async def test_until_it_expires(self) -> None:
        clock = Clock()
        guard, credential = make(clock), token(exp=NOW + 60)
        assert isinstance(await ask(guard, credential), ClientPrincipal)
        clock.now = NOW + 59.9
        assert isinstance(await ask(guard, credential), ClientPrincipal)
        clock.now = NOW + 60
        assert await ask(guard, credential) is Refusal.INVALID

    async def test_until_its_key_is_gone_or_another(self) -> None:
        keys = Counting(jwk("ES256"))
        guard, credential = make(source=keys), token()
        assert isinstance(await ask(guard, credential), ClientPrincipal)
        keys.keys = {"one": read_key(jwk("ES256", key=ec.generate_private_key(ec.SECP256R1())))}
        assert await ask(guard, credential) is Refusal.INVALID
        keys.keys = {}
        assert await ask(guard, credential) is Refusal.INVALID

    async def test_without_keys_a_credential_cannot_be_checked(self) -> None:
        keys = Counting(jwk("ES256"))
        keys.down = True
        assert await ask(make(source=keys), token()) is Refusal.UNAVAILABLE
        assert await ask(make(source=keys), "not a token") is Refusal.INVALID

    async def test_an_invalid_token_is_not_cached_and_a_malformed_one_needs_no_key(self) -> None:
        keys = Counting(jwk("ES256"))
        guard = make(source=keys)
        for credential in ("x", "a.b.c", "..", token()[:-2] + "=="):
            assert await ask(guard, credential) is Refusal.INVALID
        assert keys.asked == 0
        assert len(guard._cache) == 0

    def test_the_cache_is_bounded_and_holds_no_credential(self) -> None:
        cache: CredentialCache[int] = CredentialCache(max_entries=3)
        for number in range(10):
            cache.put(f"credential-{number}", number, NOW + 1)
        assert len(cache) == 3
        assert [cache.get(f"credential-{number}", NOW) for number in (6, 7, 8, 9)] == [None, 7, 8, 9]
        assert cache.get("credential-9", NOW + 1) is None
        assert b"credential" not in b"".join(cache._entries)


async def test_a_refusal_is_logged_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials = [
        token(exp=NOW - 1),
        token(iss="x"),
        token("RS256"),
        "not.a.token",
        sign(b"{", "ES256"),
        token()[:-4] + "AAAA",
    ]
    guard = make(algorithm="ES256")
    for credential in credentials:
        assert await ask(guard, credential) is Refusal.INVALID
    reasons = [record.getMessage().partition("reason=")[2] for record in caplog.records]
    assert reasons == ["expired", "issuer", "no_key", "malformed", "malformed", "signature"]
    for credential in credentials:
        assert all(part not in caplog.text for part in credential.split(".") if len(part) > 5)
