"""Keys that come and go, and a location that fails: by a clock that stands still, without a network."""

from __future__ import annotations

import asyncio
import json
import threading
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kafkaproxy.guards.jwks import LAST_KEYS_SECONDS, LONGEST_PAUSE, REFETCH_SECONDS, RemoteKeys
from kafkaproxy.guards.jwt import JwtGuard
from kafkaproxy.guards.keys import KeysUnavailable
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.routing.table import GuardConfig
from tests.support.tokens import AUDIENCE, NOW, jwk, token


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


async def ask(guard: JwtGuard, credential: str) -> ClientPrincipal | Refusal:
    return await guard.authenticate(None, credential)  # type: ignore[arg-type]


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
        async with asyncio.timeout(60):
            while source.fetches < 2:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        assert source.fetches == 2

    async def test_a_token_of_a_key_that_was_taken_back_is_refused_even_if_it_was_verified(self) -> None:
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
