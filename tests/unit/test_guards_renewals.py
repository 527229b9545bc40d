"""Answers that name their session by its signed id: from anywhere, through Django's cache."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from tests.support.sessions import HTTP1, NOW, OTHER_CONNECTION, Process, challenge, who


@pytest.fixture
def process() -> Process:
    return Process()


class TestBySignedId:
    """With the id of its challenge an answer may arrive anywhere."""

    @pytest.fixture
    def hosts(self) -> tuple[Process, Process]:
        first = Process()
        return first, Process(first.cache)

    async def test_on_another_connection_of_the_process(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await process.answer(who(120, 110), OTHER_CONNECTION, signed) == 204
        assert streaming.next_deadline() == NOW + 110

    async def test_on_another_host(self, hosts: tuple[Process, Process]) -> None:
        streaming = hosts[0].open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await hosts[1].answer(who(120, 110), HTTP1, signed) == 204
        hosts[0].now = NOW + 60
        assert streaming.expired(hosts[0].now)
        await streaming.refresh()
        assert not streaming.expired(hosts[0].now)
        assert streaming.next_deadline() == NOW + 110

    async def test_again_and_again_on_another_host(self, hosts: tuple[Process, Process]) -> None:
        streaming = hosts[0].open(who(60, 50))
        for end in (120, 180, 240):
            assert streaming.claim_challenge(NOW + end - 70)
            signed = await challenge(streaming)
            assert await hosts[1].answer(who(end, end - 10), HTTP1, signed) == 204
            hosts[0].now = NOW + end - 60
            await streaming.refresh()
            assert streaming.next_deadline() == NOW + end - 10

    @pytest.mark.parametrize(
        ("fresh", "status"),
        [
            pytest.param(who(120, identity="bob"), 403, id="another identity"),
            pytest.param(who(120, identity=""), 403, id="no identity"),
            pytest.param(who(120, roles="a"), 403, id="fewer roles"),
            pytest.param(who(60), 403, id="the same end"),
            pytest.param(Refusal.INVALID, 401, id="an invalid one"),
        ],
    )
    @pytest.mark.parametrize("elsewhere", [0, 1])
    async def test_what_is_refused_changes_nothing(
        self, hosts: tuple[Process, Process], elsewhere: int, fresh: ClientPrincipal | Refusal, status: int
    ) -> None:
        streaming = hosts[0].open(who())
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await hosts[elsewhere].answer(fresh, HTTP1, signed) == status
        hosts[0].now = NOW + 60
        await streaming.refresh()
        assert streaming.expired(hosts[0].now)

    async def test_a_forged_id_changes_nothing(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        session_id, _, signature = signed.partition(":")
        other = "0" * len(session_id)
        for forged in (session_id, f"{other}:{signature}", f"{session_id}:", signed + "x", signed[:-1], "", ":", "\xff\xfe"):
            assert await process.answer(who(120), OTHER_CONNECTION, forged) == 403
        assert streaming.expired(NOW + 60)

    async def test_an_id_signed_by_another_site_changes_nothing(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.claim_challenge(NOW + 50)
        with override_settings(SECRET_KEY="another site's"):
            signed = await challenge(streaming)
        assert await process.answer(who(120), OTHER_CONNECTION, signed) == 403

    async def test_a_rotated_secret_key_still_verifies(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.claim_challenge(NOW + 50)
        with override_settings(SECRET_KEY="the old one"):
            signed = await challenge(streaming)
        with override_settings(SECRET_KEY="the new one", SECRET_KEY_FALLBACKS=["the old one"]):
            assert await process.answer(who(120), OTHER_CONNECTION, signed) == 204

    async def test_where_the_cache_is_not_shared_the_answer_is_not_taken_for_given(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await Process().answer(who(120), HTTP1, signed) == 403

    async def test_after_the_stream_is_over(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        streaming.close()
        process.cache.clear()
        assert await process.answer(who(120), HTTP1, signed) == 403

    @pytest.mark.parametrize("elsewhere", [0, 1])
    async def test_at_the_end_it_is_too_late(self, hosts: tuple[Process, Process], elsewhere: int) -> None:
        streaming = hosts[0].open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        hosts[elsewhere].now = NOW + 60
        assert await hosts[elsewhere].answer(who(120), HTTP1, signed) == 403

    async def test_a_renewal_that_came_too_late_does_not_bring_a_stream_back(self, hosts: tuple[Process, Process]) -> None:
        streaming = hosts[0].open(who())
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await hosts[1].answer(who(61), HTTP1, signed) == 204
        hosts[0].now = NOW + 62
        await streaming.refresh()
        assert streaming.expired(hosts[0].now)

    async def test_what_stands_in_the_cache_is_judged_again(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        session_id = process.sessions.renewals.verify(await challenge(streaming))
        assert session_id is not None
        renewals = process.sessions.renewals
        state = await renewals.state(session_id)
        assert state is not None
        await renewals.publish(session_id, state, who(120, identity="bob"))
        process.now = NOW + 60
        await streaming.refresh()
        assert streaming.expired(process.now)

    @pytest.mark.parametrize("elsewhere", [0, 1])
    async def test_attributes_that_the_stream_reads_have_to_stay(self, hosts: tuple[Process, Process], elsewhere: int) -> None:
        streaming = hosts[0].open(replace(who(), attributes={"tenant": "one"}), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        moved = replace(who(120), attributes={"tenant": "two"})
        assert await hosts[elsewhere].answer(moved, HTTP1, signed) == 403
        stayed = replace(who(120), attributes={"tenant": "one", "mail": "a@example.com"})
        assert await hosts[elsewhere].answer(stayed, HTTP1, signed) == 204
        hosts[0].now = NOW + 60
        await streaming.refresh()
        assert not streaming.expired(hosts[0].now)

    @pytest.mark.parametrize("found", ["x", 7, [], {}, {"guard": "jwt", "identity": "alice", "roles": ["a", "b"], "end": 1}])
    async def test_what_another_version_put_into_the_cache_prolongs_nothing(
        self, hosts: tuple[Process, Process], found: Any
    ) -> None:
        streaming = hosts[0].open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        session_id = hosts[0].sessions.renewals.verify(signed)
        for kind in ("session", "renewal"):
            hosts[0].cache.set(f"kafkaproxy:{kind}:{session_id}", found)
        assert await hosts[1].answer(who(120), HTTP1, signed) == 403
        hosts[0].now = NOW + 60
        await streaming.refresh()
        assert streaming.expired(hosts[0].now)


class _Broken(LocMemCache):
    """A cache that is down."""

    def _fail(self, *_args: Any, **_kwargs: Any) -> Any:
        raise ConnectionError("the cache is down")

    get = set = _fail


class _Hanging(LocMemCache):
    """A cache that never answers."""

    async def _hang(self, *_args: Any, **_kwargs: Any) -> Any:
        await asyncio.Event().wait()

    aget = aset = _hang


class TestACacheThatHangs:
    """It is given up: a stream that waits for it would neither end nor go on."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kafkaproxy.guards.renewals._CACHE_TIMEOUT_SECONDS", 0.01)

    async def test_a_stream_is_challenged_and_ends_all_the_same(self) -> None:
        process = Process(_Hanging("hanging", {}))
        streaming = process.open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await asyncio.wait_for(challenge(streaming), 30)
        assert await asyncio.wait_for(Process(process.cache).answer(who(120), HTTP1, signed), 30) == 503
        process.now = NOW + 60
        await asyncio.wait_for(streaming.refresh(), 30)
        assert streaming.expired(process.now)


class TestWithoutACache:
    """A cache that is down takes nothing from streams that can do without."""

    @pytest.fixture
    def process(self) -> Process:
        return Process(_Broken("broken", {}))

    async def test_streams_of_the_process_are_prolonged_all_the_same(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await process.answer(who(120), OTHER_CONNECTION, signed) == 204
        assert not streaming.expired(NOW + 60)

    async def test_an_answer_that_cannot_be_passed_on_is_503(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.claim_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await Process(_Broken("broken", {})).answer(who(120), HTTP1, signed) == 503

    async def test_a_stream_ends_in_time(self, process: Process) -> None:
        streaming = process.open(who())
        process.now = NOW + 60
        await streaming.refresh()
        assert streaming.expired(process.now)
