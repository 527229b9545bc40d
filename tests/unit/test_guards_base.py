"""Kinds of guards, and what happens when one of another app misbehaves."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from kafkaproxy import guard_kinds
from kafkaproxy.guard_kinds import check_guard, kinds, register
from kafkaproxy.guards.base import ConfiguredGuards
from kafkaproxy.guards.options import OptionError
from kafkaproxy.guards.principals import ANONYMOUS, ClientPrincipal, Principals, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.models import Guard
from kafkaproxy.routing.table import Credentials, GuardConfig
from tests.support.proxy import gateway
from tests.support.tokens import jwk, options

PLACES = Credentials(guard="g", cookies={}, headers={"authorization": "Bearer {credentials}"}, query={})


class Fixed:
    """A kind of another app: it says whatever its options say."""

    fields: tuple[str, ...] | None = ("x-client",)
    scheme: str | None = None
    made = 0

    def __init__(self, config: GuardConfig) -> None:
        if config.options.get("broken"):
            raise ValueError("broken")
        type(self).made += 1
        self._answer = config.options.get("answer")

    @staticmethod
    def check(given: Any) -> None:
        if "answer" not in given:
            raise OptionError(["Write an answer."])

    async def authenticate(self, request: Request, credential: str | None) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer or ClientPrincipal(identity=credential or "nobody")


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_kinds, "_kinds", dict(guard_kinds._kinds))
    monkeypatch.setattr(Fixed, "made", 0)
    register("fixed", Fixed)


def request(**fields: str) -> Request:
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    return Request({"method": "GET", "scheme": "https", "headers": headers}, None)  # type: ignore[arg-type]


def config(name: str = "g", **given: Any) -> dict[str, GuardConfig]:
    return {name: GuardConfig(name=name, kind="fixed", options=given)}


async def answer(guards: ConfiguredGuards, *names: str, **fields: str) -> Principals:
    return await guards.authenticate(names or ("g",), request(**fields), gateway(credentials=PLACES))


def guards(configs: dict[str, GuardConfig], last: ConfiguredGuards | None = None) -> ConfiguredGuards:
    return ConfiguredGuards(configs, [gateway(credentials=PLACES)], last)


async def test_another_app_adds_a_kind() -> None:
    assert kinds() == ["fixed", "jwt", "session", "simplejwt"]
    found = await answer(guards(config()), authorization="Bearer bob")
    assert found["g"].identity == "bob"
    assert found.refusals == {}


def test_its_options_are_checked_by_itself() -> None:
    check_guard("fixed", {"answer": 1})
    with pytest.raises(ValidationError) as error:
        Guard(name="g", kind="fixed", options={}).full_clean(validate_unique=False, validate_constraints=False)
    assert error.value.message_dict == {"options": ["Write an answer."]}


@pytest.mark.parametrize(
    ("said", "refusal"),
    [(RuntimeError("bug"), Refusal.UNAVAILABLE), (Refusal.MISSING, Refusal.MISSING), (Refusal.FORBIDDEN, Refusal.FORBIDDEN)],
)
async def test_a_guard_that_refuses_or_fails_gives_no_principal(said: Any, refusal: Refusal) -> None:
    found = await answer(guards(config(answer=said)))
    assert len(found) == 0
    assert found.refusals == {"g": refusal}


async def test_a_guard_that_returns_none_gives_no_principal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: Any) -> None:
        return None

    monkeypatch.setattr(Fixed, "authenticate", silent)
    assert len(await answer(guards(config()))) == 0


async def test_a_guard_that_cannot_be_built_gives_no_principal(caplog: pytest.LogCaptureFixture) -> None:
    configs = config("broken", broken=True) | {"odd": GuardConfig(name="odd", kind="odd", options={})}
    found = await answer(guards(configs), "broken", "odd", "missing", authorization="Bearer bob")
    assert len(found) == 0
    assert set(found.refusals) == {"broken", "odd", "missing"}
    assert "guard_unusable guard=broken" in caplog.text
    assert "guard_kind_unknown guard=odd kind=odd" in caplog.text


def test_what_did_not_change_is_taken_over() -> None:
    first = guards(config("a", answer=1) | config("b", answer=1))
    second = guards(config("a", answer=1) | config("b", answer=2), first)
    assert second._guards["a"][1] is first._guards["a"][1]
    assert second._guards["b"][1] is not first._guards["b"][1]
    assert Fixed.made == 3


def test_the_fields_that_an_answer_depends_on() -> None:
    both = config("own") | {"g": GuardConfig(name="g", kind="jwt", options=options(jwk("ES256")))}
    one = gateway(credentials=PLACES)
    assert guards(both).varies_on(["g", "own", "missing"], one) == ["authorization", "x-client"]
    assert guards(both).varies_on([], one) == []


def test_what_a_refusal_asks_for() -> None:
    one = gateway(credentials=PLACES)
    known = guards(config() | {"site": GuardConfig(name="site", kind="session", options={})})
    assert known.challenges(["g"], one, invalid=False) == [(b"www-authenticate", b'Bearer realm="gateway"')]
    assert known.challenges(["g", "site"], one, invalid=True) == [
        (b"www-authenticate", b'Bearer realm="gateway", error="invalid_token"'),
        (b"www-authenticate", b'Session realm="gateway"'),
    ]
    assert known.challenges(["missing"], one, invalid=False) == [(b"www-authenticate", b'Bearer realm="gateway"')]


def test_principals_remember_which_guards_were_looked_up() -> None:
    who = ClientPrincipal(identity="a")
    found = Principals({"g": who, "h": who}, {})
    assert "g" in found
    assert found.keys() & {"g"} == {"g"}
    assert len(found) == 2
    assert found.asked == set()
    assert found.get("missing") is None
    assert found["g"] is who
    assert found.asked == {"g", "missing"}
    assert len(ANONYMOUS) == 0
