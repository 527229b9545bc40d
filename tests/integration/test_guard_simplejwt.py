"""The kind ``simplejwt``: tokens that the site itself issues, by its own settings."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from kafkaproxy.guard_kinds import check_guard
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.guards.simplejwt import SimpleJwtGuard
from kafkaproxy.routing.table import GuardConfig
from tests.support.tokens import sign

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def user() -> Any:
    return get_user_model().objects.create_user("alice")


class TestSimpleJwt:
    """Tokens that the site itself issues."""

    @pytest.fixture
    def site(self, clock: Clock) -> SimpleJwtGuard:
        return SimpleJwtGuard(
            GuardConfig(name="site", kind="simplejwt", options={"roles": "groups", "challenge": 5}), clock=clock
        )

    @staticmethod
    def issue(user: Any, kind: str = "AccessToken", **claims: Any) -> str:
        from rest_framework_simplejwt import tokens

        issued = getattr(tokens, kind).for_user(user)
        for name, value in claims.items():
            issued[name] = value
        return str(issued)

    async def ask(self, site: SimpleJwtGuard, credential: str | None) -> ClientPrincipal | Refusal:
        return await site.authenticate(None, credential)  # type: ignore[arg-type]

    async def test_an_access_token_names_the_user(self, site: SimpleJwtGuard, user: Any) -> None:
        who = await self.ask(site, self.issue(user, groups=["readers"]))
        assert isinstance(who, ClientPrincipal)
        assert (who.identity, who.roles) == (str(user.pk), {"readers"})
        assert who.expires_at is not None
        assert who.challenge_at == who.expires_at - 5
        assert time.time() < who.expires_at <= time.time() + 300

    async def test_no_database_is_asked(self, site: SimpleJwtGuard, user: Any) -> None:
        credential = self.issue(user)
        captured = CaptureQueriesContext(connection)
        await sync_to_async(captured.__enter__)()
        assert isinstance(await self.ask(site, credential), ClientPrincipal)
        await sync_to_async(captured.__exit__)(None, None, None)
        assert await sync_to_async(lambda: len(captured))() == 0

    async def test_what_is_refused(self, site: SimpleJwtGuard, user: Any) -> None:
        assert await self.ask(site, None) is Refusal.MISSING
        good = self.issue(user)
        head, payload, signature = good.split(".")
        bad = [
            self.issue(user, "RefreshToken"),
            self.issue(user, "SlidingToken"),
            self.issue(user, exp=int(time.time()) - 1),
            self.issue(user, exp="soon"),
            self.issue(user, exp=10**30),
            sign({"token_type": "access", "user_id": "1", "jti": "x", "exp": time.time() + 60}, "HS256"),
            sign({"token_type": "access", "user_id": "1", "jti": "x", "exp": time.time() + 60}, "RS256"),
            f"{head}.{payload}.",
            f"{head}.{payload}.{signature[:-2]}AA",
            f"{good}=",
            "",
            "x",
        ]
        for credential in bad:
            assert await self.ask(site, credential) is Refusal.INVALID, credential
        assert isinstance(await self.ask(site, good), ClientPrincipal)

    async def test_the_sites_settings_count(self, user: Any, clock: Clock) -> None:
        from rest_framework_simplejwt.tokens import SlidingToken

        credential = str(SlidingToken.for_user(user))
        config = GuardConfig(name="site", kind="simplejwt", options={})
        with override_settings(
            SIMPLE_JWT={"AUTH_TOKEN_CLASSES": ["rest_framework_simplejwt.tokens.SlidingToken"], "USER_ID_CLAIM": "user_id"}
        ):
            who = await SimpleJwtGuard(config, clock=clock).authenticate(None, credential)  # type: ignore[arg-type]
        assert isinstance(who, ClientPrincipal)
        known = await SimpleJwtGuard(config, clock=clock).authenticate(None, credential)  # type: ignore[arg-type]
        assert known is Refusal.INVALID

    async def test_a_changed_password_revokes_tokens_where_the_site_says_so(
        self, user: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rest_framework_simplejwt import authentication, settings, tokens

        async def judged(credential: str) -> ClientPrincipal | Refusal:
            config = GuardConfig(name="site", kind="simplejwt", options={})
            return await self.ask(SimpleJwtGuard(config, clock=clock), credential)

        with monkeypatch.context() as patch:
            for module in (authentication, settings, tokens):  # each has its own since the settings were overridden once
                patch.setattr(module.api_settings, "CHECK_REVOKE_TOKEN", True)
            credential = self.issue(user)
            assert isinstance(await judged(credential), ClientPrincipal)
            for user_id in ("999999", "x", None):
                assert await judged(self.issue(user, user_id=user_id)) is Refusal.INVALID
            await sync_to_async(user.set_password)("another")
            await sync_to_async(user.save)()
            assert await judged(credential) is Refusal.INVALID
            renewed = self.issue(user)
            assert isinstance(await judged(renewed), ClientPrincipal)
            user.is_active = False
            await sync_to_async(user.save)()
            assert await judged(renewed) is Refusal.INVALID
        assert isinstance(await judged(credential), ClientPrincipal)  # stateless, as simplejwt's own class of that name

    async def test_it_is_verified_again_after_a_minute_and_never_outlives_its_end(
        self, site: SimpleJwtGuard, user: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rest_framework_simplejwt.tokens import AccessToken

        credential = self.issue(user)
        assert isinstance(await self.ask(site, credential), ClientPrincipal)
        monkeypatch.setattr(AccessToken, "lifetime", timedelta(0))
        monkeypatch.setattr(AccessToken, "token_type", "another")
        assert isinstance(await self.ask(site, credential), ClientPrincipal)
        clock.now += 60
        assert await self.ask(site, credential) is Refusal.INVALID

    def test_options_are_checked(self) -> None:
        check_guard("simplejwt", {"roles": "groups", "identity": "sub", "attributes": {"a": "b"}, "challenge": 10, "cache": 5})
        with pytest.raises(ValidationError, match="issuer is not an option"):
            check_guard("simplejwt", {"issuer": "x"})
