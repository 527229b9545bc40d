"""Continuous authorization without a stream: sessions, challenges and answers, by a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from kafkaproxy.consumers.http import Request
from kafkaproxy.consumers.problems import Problem
from kafkaproxy.guards.challenges import answer_challenge, is_challenge_answer
from kafkaproxy.guards.principals import ClientPrincipal, Principals, Refusal
from kafkaproxy.guards.renewals import Renewals
from kafkaproxy.guards.sessions import AuthorizationSessions, StreamAuthorization
from kafkaproxy.routing.matching import Match, Refused
from tests.proxy import gateway, stream

NOW = 1_700_000_000.0
HTTP2 = {"http_version": "2", "client": ("192.0.2.1", 5001), "server": ("192.0.2.9", 443)}
OTHER_CONNECTION = {**HTTP2, "client": ("192.0.2.1", 5002)}
HTTP1 = {**HTTP2, "http_version": "1.1"}


class Process:
    """A process with its sessions; several share a cache or do not."""

    def __init__(self, cache: Any = None) -> None:
        self.now = NOW
        self.cache = cache or LocMemCache(f"cache-{id(self)}", {})
        clock = lambda: self.now  # noqa: E731
        self.sessions = AuthorizationSessions(renewals=Renewals(clock, self.cache), clock=clock)

    def open(self, principal: ClientPrincipal, scope: dict[str, Any] = HTTP2, wake: Any = None) -> StreamAuthorization:
        return self.sessions.open({"jwt": principal}, scope, wake or (lambda: None))

    async def answer(
        self, principal: ClientPrincipal | Refusal, scope: dict[str, Any] = HTTP2, signed: str | None = None, guard: str = "jwt"
    ) -> int:
        """Send an answer; return its status."""
        fields = [(b"content-type", b"application/x-challenge-response")]
        if signed is not None:
            fields.append((b"x-challenge-session", signed.encode("latin-1")))
        full = {"method": "POST", "scheme": "https", "raw_path": b"/events", "headers": fields, **scope}
        request = Request(full, None)  # type: ignore[arg-type]
        assert is_challenge_answer(request)
        known = isinstance(principal, ClientPrincipal)
        principals = Principals({guard: principal} if known else {}, {} if known else {guard: principal})  # type: ignore[dict-item]
        route = stream("/events", topic="events")
        one = gateway(route)
        outcome = await answer_challenge(request, Match(one, one.entries[0], route, {}, False), principals, self.sessions)
        if outcome is None:
            return 204
        return outcome.status if isinstance(outcome, Problem) else 401 if isinstance(outcome, Refused) else 0


def who(
    expires: float | None = 60, challenge: float | None = 50, roles: str = "a b", identity: str = "alice"
) -> ClientPrincipal:
    """Return a principal; times are seconds from NOW."""
    return ClientPrincipal(
        identity=identity,
        roles=frozenset(roles.split()),
        expires_at=None if expires is None else NOW + expires,
        challenge_at=None if challenge is None else NOW + challenge,
    )


@pytest.fixture
def process() -> Process:
    return Process()


async def challenge(stream: StreamAuthorization) -> str:
    """Take the challenge and return the signed id of its session."""
    event = await stream.challenge_event()
    assert event["method"] == "POST"
    assert event["headers"]["content-type"] == "application/x-challenge-response"
    signed: str = event["headers"]["x-challenge-session"]
    return signed


class TestDeadlines:
    """When there is something to do."""

    def test_first_the_challenge_then_the_end(self, process: Process) -> None:
        alone = process.open(who())
        assert alone.next_deadline() == NOW + 50
        assert not alone.take_challenge(NOW + 49.9)
        assert alone.take_challenge(NOW + 50)
        assert not alone.take_challenge(NOW + 50)
        assert alone.next_deadline() == NOW + 60
        assert not alone.expired(NOW + 59.9)
        assert alone.expired(NOW + 60)

    def test_a_credential_that_is_about_to_end_is_challenged_at_once(self, process: Process) -> None:
        alone = process.open(who(expires=5, challenge=-5))
        assert alone.next_deadline() == NOW - 5
        assert alone.take_challenge(NOW)

    def test_nothing_is_asked_after_the_end(self, process: Process) -> None:
        alone = process.open(who())
        assert not alone.take_challenge(NOW + 60)

    def test_without_challenge_seconds_it_just_ends(self, process: Process) -> None:
        alone = process.open(who(challenge=None))
        assert alone.next_deadline() == NOW + 60
        assert not alone.take_challenge(NOW + 59)

    def test_without_an_identity_it_just_ends(self, process: Process) -> None:
        alone = process.open(who(identity=""))
        assert alone.next_deadline() == NOW + 60
        assert not alone.take_challenge(NOW + 59)

    def test_without_an_end_there_is_nothing_to_do(self, process: Process) -> None:
        for alone in (process.open(who(expires=None)), process.sessions.open({}, HTTP2)):
            assert alone.next_deadline() is None
            assert not alone.expired(NOW + 10**9)

    async def test_each_guard_has_a_session_and_the_first_to_end_ends_the_stream(self, process: Process) -> None:
        both = process.sessions.open({"jwt": who(60, 50), "site": who(40, 30)}, HTTP2)
        assert both.next_deadline() == NOW + 30
        assert both.take_challenge(NOW + 55) is True
        first = await challenge(both)
        assert both.take_challenge(NOW + 55) is False
        assert both.expired(NOW + 40)
        assert process.sessions.renewals.verify(first)


class TestOneConnection:
    """Streams of one HTTP/2 connection with the same guard and identity share a session."""

    async def test_one_gets_the_challenge_and_one_answer_keeps_all(self, process: Process) -> None:
        woken: list[int] = []
        streams = [process.open(who(), wake=lambda n=number: woken.append(n)) for number in range(20)]
        assert len(process.sessions) == 1
        process.now = NOW + 50
        assert [each.take_challenge(process.now) for each in streams].count(True) == 1
        assert {each.next_deadline() for each in streams} == {NOW + 60}
        assert await process.answer(who(120, 110)) == 204
        assert woken == list(range(20))
        assert not any(each.expired(NOW + 60) for each in streams)
        assert {each.next_deadline() for each in streams} == {NOW + 110}
        assert [each.take_challenge(NOW + 110) for each in streams].count(True) == 1

    async def test_without_an_answer_all_end(self, process: Process) -> None:
        streams = [process.open(who()) for _ in range(20)]
        assert streams[7].take_challenge(NOW + 50)
        process.now = NOW + 60
        for each in streams:
            await each.refresh()
        assert all(each.expired(process.now) for each in streams)

    @pytest.mark.parametrize(
        ("fresh", "status"),
        [
            (who(120, identity="bob"), 403),
            (who(120, identity=""), 403),
            (who(120, roles="a"), 403),
            (who(120, roles=""), 403),
            (who(120, roles="a c d"), 403),
            (who(60), 403),
            (who(59), 403),
            (Refusal.INVALID, 401),
            (Refusal.MISSING, 401),
            (who(120), 204),
            (who(120, roles="a b c"), 204),
            (who(None), 204),
            (who(60.001), 204),
        ],
        ids=str,
    )
    async def test_an_answer_is_accepted_or_changes_nothing(
        self, process: Process, fresh: ClientPrincipal | Refusal, status: int
    ) -> None:
        streams = [process.open(who()) for _ in range(2)]
        assert await process.answer(fresh) == status
        assert [each.expired(NOW + 60) for each in streams] == [status != 204] * 2

    async def test_an_answer_that_comes_too_late_changes_nothing(self, process: Process) -> None:
        alone = process.open(who())
        process.now = NOW + 60
        assert await process.answer(who(120)) == 403
        assert alone.expired(process.now)

    async def test_of_another_guard_it_changes_nothing(self, process: Process) -> None:
        alone = process.open(who())
        assert await process.answer(who(120), guard="other") == 403
        assert alone.expired(NOW + 60)

    async def test_from_another_connection_it_changes_nothing(self, process: Process) -> None:
        alone = process.open(who())
        for scope in (OTHER_CONNECTION, HTTP1, {**HTTP2, "client": None}, {}):
            assert await process.answer(who(120), scope) == 403
        assert alone.expired(NOW + 60)

    async def test_no_connection_is_shared_without_http_2(self, process: Process) -> None:
        streams = [process.open(who(), HTTP1) for _ in range(2)]
        assert len(process.sessions) == 2
        assert [each.take_challenge(NOW + 50) for each in streams] == [True, True]

    def test_another_identity_or_guard_has_a_session_of_its_own(self, process: Process) -> None:
        process.open(who())
        process.open(who(identity="bob"))
        process.sessions.open({"other": who()}, HTTP2)
        process.open(who(), OTHER_CONNECTION)
        assert len(process.sessions) == 4

    async def test_a_stream_with_fewer_roles_has_a_session_of_its_own(self, process: Process) -> None:
        wide, narrow = process.open(who(roles="a b")), process.open(who(roles="a"))
        assert len(process.sessions) == 2
        assert await process.answer(who(120, roles="a")) == 204
        assert (wide.expired(NOW + 60), narrow.expired(NOW + 60)) == (True, False)
        assert await process.answer(who(121, roles="a b")) == 204
        assert not wide.expired(NOW + 60)

    async def test_a_stream_with_more_roles_raises_what_an_answer_needs(self, process: Process) -> None:
        first, second = process.open(who(roles="a")), process.open(who(roles="a b"))
        assert len(process.sessions) == 1
        assert await process.answer(who(120, roles="a")) == 403
        assert await process.answer(who(120, roles="a b")) == 204
        assert not first.expired(NOW + 60)
        assert not second.expired(NOW + 60)

    def test_a_stream_that_opens_with_a_fresher_credential_prolongs_the_others(self, process: Process) -> None:
        first = process.open(who(60))
        process.open(who(90, 80))
        assert first.next_deadline() == NOW + 80
        process.open(who(30, 20))
        assert first.next_deadline() == NOW + 80

    def test_when_the_challenged_stream_leaves_another_one_is_asked(self, process: Process) -> None:
        woken: list[str] = []
        first = process.open(who(), wake=lambda: woken.append("first"))
        second = process.open(who(), wake=lambda: woken.append("second"))
        assert first.take_challenge(NOW + 50)
        assert not second.take_challenge(NOW + 50)
        first.close()
        assert woken == ["second"]
        assert second.take_challenge(NOW + 51)

    def test_the_last_stream_takes_the_session_along(self, process: Process) -> None:
        streams = [process.open(who()) for _ in range(3)] + [process.open(who(), HTTP1)]
        for each in streams:
            each.close()
            each.close()
        assert len(process.sessions) == 0
        assert process.sessions.of_connection(HTTP2, "jwt", "alice") == ()


class TestBySignedId:
    """With the id of its challenge an answer may arrive anywhere."""

    @pytest.fixture
    def hosts(self) -> tuple[Process, Process]:
        first = Process()
        return first, Process(first.cache)

    async def test_on_another_connection_of_the_process(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await process.answer(who(120, 110), OTHER_CONNECTION, signed) == 204
        assert streaming.next_deadline() == NOW + 110

    async def test_on_another_host(self, hosts: tuple[Process, Process]) -> None:
        streaming = hosts[0].open(who(), HTTP1)
        assert streaming.take_challenge(NOW + 50)
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
            assert streaming.take_challenge(NOW + end - 70)
            signed = await challenge(streaming)
            assert await hosts[1].answer(who(end, end - 10), HTTP1, signed) == 204
            hosts[0].now = NOW + end - 60
            await streaming.refresh()
            assert streaming.next_deadline() == NOW + end - 10

    @pytest.mark.parametrize(
        ("fresh", "status"),
        [
            (who(120, identity="bob"), 403),
            (who(120, identity=""), 403),
            (who(120, roles="a"), 403),
            (who(60), 403),
            (Refusal.INVALID, 401),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("elsewhere", [0, 1])
    async def test_what_is_refused_changes_nothing(
        self, hosts: tuple[Process, Process], elsewhere: int, fresh: ClientPrincipal | Refusal, status: int
    ) -> None:
        streaming = hosts[0].open(who())
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await hosts[elsewhere].answer(fresh, HTTP1, signed) == status
        hosts[0].now = NOW + 60
        await streaming.refresh()
        assert streaming.expired(hosts[0].now)

    async def test_a_forged_id_changes_nothing(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        session_id, _, signature = signed.partition(":")
        other = "0" * len(session_id)
        for forged in (session_id, f"{other}:{signature}", f"{session_id}:", signed + "x", signed[:-1], "", ":", "\xff\xfe"):
            assert await process.answer(who(120), OTHER_CONNECTION, forged) == 403
        assert streaming.expired(NOW + 60)

    async def test_an_id_signed_by_another_site_changes_nothing(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.take_challenge(NOW + 50)
        with override_settings(SECRET_KEY="another site's"):
            signed = await challenge(streaming)
        assert await process.answer(who(120), OTHER_CONNECTION, signed) == 403

    async def test_a_rotated_secret_key_still_verifies(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.take_challenge(NOW + 50)
        with override_settings(SECRET_KEY="the old one"):
            signed = await challenge(streaming)
        with override_settings(SECRET_KEY="the new one", SECRET_KEY_FALLBACKS=["the old one"]):
            assert await process.answer(who(120), OTHER_CONNECTION, signed) == 204

    async def test_where_the_cache_is_not_shared_the_answer_is_not_taken_for_given(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await Process().answer(who(120), HTTP1, signed) == 403

    async def test_after_the_stream_is_over(self, process: Process) -> None:
        streaming = process.open(who())
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        streaming.close()
        process.cache.clear()
        assert await process.answer(who(120), HTTP1, signed) == 403

    @pytest.mark.parametrize("elsewhere", [0, 1])
    async def test_at_the_end_it_is_too_late(self, hosts: tuple[Process, Process], elsewhere: int) -> None:
        streaming = hosts[0].open(who(), HTTP1)
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        hosts[elsewhere].now = NOW + 60
        assert await hosts[elsewhere].answer(who(120), HTTP1, signed) == 403

    async def test_a_renewal_that_came_too_late_does_not_bring_a_stream_back(self, hosts: tuple[Process, Process]) -> None:
        streaming = hosts[0].open(who())
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await hosts[1].answer(who(61), HTTP1, signed) == 204
        hosts[0].now = NOW + 62
        await streaming.refresh()
        assert streaming.expired(hosts[0].now)

    async def test_what_stands_in_the_cache_is_judged_again(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.take_challenge(NOW + 50)
        session_id = process.sessions.renewals.verify(await challenge(streaming))
        assert session_id is not None
        await process.sessions.renewals.publish(session_id, "jwt", who(120, identity="bob"))
        process.now = NOW + 60
        await streaming.refresh()
        assert streaming.expired(process.now)


class _Broken(LocMemCache):
    """A cache that is down."""

    def _fail(self, *_args: Any, **_kwargs: Any) -> Any:
        raise ConnectionError("the cache is down")

    get = set = _fail


class TestWithoutACache:
    """A cache that is down takes nothing from streams that can do without."""

    @pytest.fixture
    def process(self) -> Process:
        return Process(_Broken("broken", {}))

    async def test_streams_of_the_process_are_prolonged_all_the_same(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await process.answer(who(120), OTHER_CONNECTION, signed) == 204
        assert not streaming.expired(NOW + 60)

    async def test_an_answer_that_cannot_be_passed_on_is_503(self, process: Process) -> None:
        streaming = process.open(who(), HTTP1)
        assert streaming.take_challenge(NOW + 50)
        signed = await challenge(streaming)
        assert await Process(_Broken("broken", {})).answer(who(120), HTTP1, signed) == 503

    async def test_a_stream_ends_in_time(self, process: Process) -> None:
        streaming = process.open(who())
        process.now = NOW + 60
        await streaming.refresh()
        assert streaming.expired(process.now)


class TestAGuardThatCanTellByItself:
    """A session guard asks the database again, and the client is left alone."""

    @pytest.fixture
    def renewable(self) -> Callable[[ClientPrincipal | None], ClientPrincipal]:
        def make(then: ClientPrincipal | None) -> ClientPrincipal:
            async def renew() -> ClientPrincipal | None:
                return then

            return ClientPrincipal(identity="7", roles=frozenset({"a"}), expires_at=NOW + 10, renew=renew)

        return make

    async def test_a_stream_goes_on_while_the_session_is_there(self, process: Process, renewable: Any) -> None:
        again = renewable(None)
        streaming = process.open(
            renewable(ClientPrincipal(identity="7", roles=again.roles, expires_at=NOW + 20, renew=again.renew))
        )
        process.now = NOW + 10
        await streaming.refresh()
        assert not streaming.expired(process.now)
        process.now = NOW + 20
        await streaming.refresh()
        assert streaming.expired(process.now)

    @pytest.mark.parametrize(
        "then",
        [
            None,
            ClientPrincipal(identity="8", roles=frozenset({"a"}), expires_at=NOW + 20),
            ClientPrincipal(identity="7", roles=frozenset(), expires_at=NOW + 20),
        ],
        ids=["logged out", "another user", "left the group"],
    )
    async def test_it_ends_with_what_it_stood_on(self, process: Process, renewable: Any, then: ClientPrincipal | None) -> None:
        streaming = process.open(renewable(then))
        process.now = NOW + 10
        await streaming.refresh()
        assert streaming.expired(process.now)

    async def test_two_logins_of_a_user_share_nothing(self, process: Process, renewable: Any) -> None:
        process.open(renewable(None))
        process.open(renewable(None))
        assert len(process.sessions) == 2


@pytest.mark.parametrize(
    ("method", "fields", "answer"),
    [
        ("POST", [(b"content-type", b"application/x-challenge-response")], True),
        ("PUT", [(b"content-type", b"application/x-challenge-response")], False),
        ("POST", [(b"content-type", b"application/x-challenge-response; charset=utf-8")], False),
        ("POST", [(b"content-type", b"application/json")], False),
        ("POST", [], False),
        ("POST", [(b"content-type", b"application/x-challenge-response"), (b"content-type", b"text/plain")], False),
    ],
)
def test_what_an_answer_looks_like(method: str, fields: Any, answer: bool) -> None:
    request = Request({"method": method, "scheme": "https", "headers": fields}, None)  # type: ignore[arg-type]
    assert is_challenge_answer(request) is answer
