"""Continuous authorization without a stream: sessions, challenges and answers, by a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kafkaproxy.guards.challenges import is_challenge_answer
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.http.request import Request
from tests.support.sessions import HTTP1, HTTP2, NOW, OTHER_CONNECTION, Process, challenge, who


@pytest.fixture
def process() -> Process:
    return Process()


class TestDeadlines:
    """When there is something to do."""

    def test_first_the_challenge_then_the_end(self, process: Process) -> None:
        alone = process.open(who())
        assert alone.next_deadline() == NOW + 50
        assert not alone.claim_challenge(NOW + 49.9)
        assert alone.claim_challenge(NOW + 50)
        assert not alone.claim_challenge(NOW + 50)
        assert alone.next_deadline() == NOW + 60
        assert not alone.expired(NOW + 59.9)
        assert alone.expired(NOW + 60)

    def test_a_credential_that_is_about_to_end_is_challenged_at_once(self, process: Process) -> None:
        alone = process.open(who(expires=5, challenge=-5))
        assert alone.next_deadline() == NOW - 5
        assert alone.claim_challenge(NOW)

    def test_nothing_is_asked_after_the_end(self, process: Process) -> None:
        alone = process.open(who())
        assert not alone.claim_challenge(NOW + 60)

    def test_without_challenge_seconds_it_just_ends(self, process: Process) -> None:
        alone = process.open(who(challenge=None))
        assert alone.next_deadline() == NOW + 60
        assert not alone.claim_challenge(NOW + 59)

    def test_without_an_identity_it_just_ends(self, process: Process) -> None:
        alone = process.open(who(identity=""))
        assert alone.next_deadline() == NOW + 60
        assert not alone.claim_challenge(NOW + 59)

    def test_without_an_end_there_is_nothing_to_do(self, process: Process) -> None:
        for alone in (process.open(who(expires=None)), process.sessions.open({}, HTTP2)):
            assert alone.next_deadline() is None
            assert not alone.expired(NOW + 10**9)

    async def test_each_guard_has_a_session_and_the_first_to_end_ends_the_stream(self, process: Process) -> None:
        both = process.sessions.open({"jwt": who(60, 50), "site": who(40, 30)}, HTTP2)
        assert both.next_deadline() == NOW + 30
        assert both.claim_challenge(NOW + 55) is True
        first = await challenge(both)
        assert both.claim_challenge(NOW + 55) is False
        assert both.expired(NOW + 40)
        assert process.sessions.renewals.verify(first)


class TestOneConnection:
    """Streams of one HTTP/2 connection with the same guard and identity share a session."""

    async def test_one_gets_the_challenge_and_one_answer_keeps_all(self, process: Process) -> None:
        woken: list[int] = []
        streams = [process.open(who(), wake=lambda n=number: woken.append(n)) for number in range(20)]
        assert len(process.sessions) == 1
        process.now = NOW + 50
        assert [each.claim_challenge(process.now) for each in streams].count(True) == 1
        assert {each.next_deadline() for each in streams} == {NOW + 60}
        assert await process.answer(who(120, 110)) == 204
        assert woken == list(range(20))
        assert not any(each.expired(NOW + 60) for each in streams)
        assert {each.next_deadline() for each in streams} == {NOW + 110}
        assert [each.claim_challenge(NOW + 110) for each in streams].count(True) == 1

    async def test_without_an_answer_all_end(self, process: Process) -> None:
        streams = [process.open(who()) for _ in range(20)]
        assert streams[7].claim_challenge(NOW + 50)
        process.now = NOW + 60
        for each in streams:
            await each.refresh()
        assert all(each.expired(process.now) for each in streams)

    @pytest.mark.parametrize(
        ("fresh", "status"),
        [
            pytest.param(who(120, identity="bob"), 403, id="another identity"),
            pytest.param(who(120, identity=""), 403, id="no identity"),
            pytest.param(who(120, roles="a"), 403, id="fewer roles"),
            pytest.param(who(120, roles=""), 403, id="no roles"),
            pytest.param(who(120, roles="a c d"), 403, id="other roles"),
            pytest.param(who(60), 403, id="the same end"),
            pytest.param(who(59), 403, id="an earlier end"),
            pytest.param(Refusal.INVALID, 401, id="an invalid one"),
            pytest.param(Refusal.MISSING, 401, id="none"),
            pytest.param(who(120), 204, id="a later end"),
            pytest.param(who(120, roles="a b c"), 204, id="more roles"),
            pytest.param(who(None), 204, id="no end"),
            pytest.param(who(60.001), 204, id="a little later"),
        ],
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
        assert [each.claim_challenge(NOW + 50) for each in streams] == [True, True]

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

    async def test_more_roles_that_end_earlier_are_not_stretched_by_fewer_that_last(self, process: Process) -> None:
        lasting, brief = process.open(who(3600, roles="a")), process.open(who(60, roles="a b"))
        assert len(process.sessions) == 2
        assert brief.expired(NOW + 60)
        assert not lasting.expired(NOW + 60)
        assert await process.answer(who(7200, roles="a")) == 204
        assert brief.expired(NOW + 60)

    async def test_other_attributes_than_a_stream_reads_do_not_prolong_it(self, process: Process) -> None:
        tenants = [process.open(replace(who(), attributes={"tenant": tenant})) for tenant in ("one", "two")]
        any_tenant = process.open(who())
        assert len(process.sessions) == 3
        assert await process.answer(replace(who(120), attributes={"tenant": "one", "more": "1"})) == 204
        assert [each.expired(NOW + 60) for each in (*tenants, any_tenant)] == [False, True, False]
        process.open(replace(who(600), attributes={"tenant": "one"}))
        assert [each.expired(NOW + 120) for each in (*tenants, any_tenant)] == [False, True, True]

    async def test_an_attribute_that_was_missing_has_to_be_missing_still(self, process: Process) -> None:
        alone = process.open(replace(who(), attributes={"tenant": ""}))
        assert await process.answer(replace(who(120), attributes={"tenant": "one"})) == 403
        assert await process.answer(who(120)) == 204
        assert not alone.expired(NOW + 60)

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
        assert first.claim_challenge(NOW + 50)
        assert not second.claim_challenge(NOW + 50)
        first.close()
        assert woken == ["second"]
        assert second.claim_challenge(NOW + 51)

    def test_the_last_stream_takes_the_session_along(self, process: Process) -> None:
        streams = [process.open(who()) for _ in range(3)] + [process.open(who(), HTTP1)]
        for each in streams:
            each.close()
            each.close()
        assert len(process.sessions) == 0
        assert process.sessions.of_connection(HTTP2, "jwt", "alice") == ()


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

    async def test_it_ends_where_the_guard_cannot_tell(self, process: Process, caplog: pytest.LogCaptureFixture) -> None:
        async def fail() -> ClientPrincipal | None:
            raise ConnectionError("the database is down")

        streaming = process.open(ClientPrincipal(identity="7", expires_at=NOW + 10, renew=fail))
        process.now = NOW + 10
        await streaming.refresh()
        assert streaming.expired(process.now)
        assert "guard_failed guard=jwt" in caplog.text

    async def test_two_logins_of_a_user_share_nothing(self, process: Process, renewable: Any) -> None:
        process.open(renewable(None))
        process.open(renewable(None))
        assert len(process.sessions) == 2


@pytest.mark.parametrize(
    ("method", "fields", "answer"),
    [
        ("POST", [(b"content-type", b"application/x-challenge-response")], True),
        ("POST", [(b"content-type", b"application/x-challenge-response"), (b"content-length", b"0")], True),
        ("POST", [(b"content-type", b"application/x-challenge-response"), (b"content-length", b"1")], False),
        ("POST", [(b"content-type", b"application/x-challenge-response"), (b"transfer-encoding", b"chunked")], False),
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
