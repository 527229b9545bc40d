"""Guards, credentials and CORS of an import."""

from __future__ import annotations

import pytest

from kafkaproxy.specs.types import AccessControlSpec
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_samples import BASE, edited, planned, refused, refused_at, said

# The public key of RFC 7515, appendix A.3.
_X = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
_Y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
_JWT = """\
guards:
  jwt:
    type: jwt
    options:
      issuer: https://auth.example
      audience: https://api.example
      roles: realm_access.roles
      identity: email
      attributes:
        tenant: org.id
      keys:
        - kty: EC
          kid: 2011-04-29
          crv: P-256
          alg: ES256
          x: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU
          y: x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0
      challenge: 30
"""
_HTTP = "    type: http\n    kind: server\n"
_AUTHORIZATION = """    options:
      authorization:
        jwt:
          credentials:
            cookies:
              token: "{credentials}"
            headers:
              authorization: Bearer {credentials}
            query:
              access_token: "{credentials}"
"""


def _guarded(text: str = BASE, roles: str = "[read:items]") -> str:
    return edited(text, ("        exit: items\n", f"        guarded:\n          jwt: {roles}\n        exit: items\n"))


def test_a_jwt_guard_is_imported_with_all_its_options_as_written() -> None:
    (guard,) = planned(_guarded() + _JWT)[0].guards
    assert (guard.name, guard.kind) == ("jwt", "jwt")
    assert guard.options == {
        "issuer": "https://auth.example",
        "audience": "https://api.example",
        "roles": "realm_access.roles",
        "identity": "email",
        "attributes": {"tenant": "org.id"},
        "keys": [{"kty": "EC", "kid": "2011-04-29", "crv": "P-256", "alg": "ES256", "x": _X, "y": _Y}],
        "challenge": 30,
    }


def test_keys_may_be_an_address() -> None:
    text = _guarded() + _JWT.partition("      keys:")[0] + "      keys: ${{env.JWKS}}\n"
    plan, report = planned(text)
    assert plan.guards[0].options["keys"] == "${{env.JWKS}}"
    assert "keys of the guard 'jwt' refers to the environment variable JWKS" in said(report, Verdict.WARNING)


@pytest.mark.parametrize(
    ("old", "new", "part", "says"),
    [
        ("    type: jwt\n", "    type: test\n", "  jwt:\n    type", "has the type 'test'"),
        ("    type: jwt\n", "    type: inline\n", "  jwt:\n    type", "protects no route"),
        ("      issuer: https://auth.example\n", "", "      audience", "has no issuer"),
        ("      audience: https://api.example\n", "", "      issuer", "has no audience"),
        ("challenge: 30", "challenge: soon", "challenge", "not a whole number"),
        ("      roles:", "      role:", "role:", "Did you mean 'roles'?"),
        ("challenge: 30", "challenge: ${{env.X}}", "challenge", "cannot come from the environment"),
    ],
)
def test_a_guard_that_would_check_less_is_refused(old: str, new: str, part: str, says: str) -> None:
    assert says in refused_at(_guarded() + edited(_JWT, (old, new)), part)


def test_keys_over_plain_http_are_imported_as_the_file_says_with_a_warning() -> None:
    without_keys = _guarded() + _JWT.partition("      keys:")[0]
    for text in (
        without_keys + "      keys: http://auth.example/keys\n",
        edited(without_keys, ("https://auth.example", "http://auth.example")),
    ):
        plan, report = planned(text)
        assert plan.guards[0].options["allow_http"] is True
        assert "plain HTTP" in said(report, Verdict.WARNING)
    assert "allow_http" not in planned(without_keys)[0].guards[0].options


def test_keys_that_cannot_be_used_are_refused() -> None:
    assert "keys" in refused(_guarded() + edited(_JWT, (f"x: {_X}", "x: AAAA")))[0]


def test_a_guard_that_only_an_expression_names_is_imported_too() -> None:
    text = edited(
        BASE,
        (
            "filters:\n            - key: ${params.id}",
            "filters:\n            - headers: {owner: \"${guarded['jwt'].identity}\"}",
        ),
    )
    plan, _ = planned(text + _JWT)
    assert [guard.name for guard in plan.guards] == ["jwt"]
    assert "There is no guard 'jwt'" in refused(text)[0]


def test_a_guard_that_nothing_uses_is_listed() -> None:
    plan, report = planned(BASE + _JWT)
    assert plan.guards == ()
    assert "The guard 'jwt'" in said(report, Verdict.IGNORED)


def test_two_guards_of_one_name_are_refused() -> None:
    second = _guarded().replace("name: shop", "name: second") + _JWT
    assert "Give the two guards different names" in refused(_guarded() + _JWT + "---\n" + second)[0]


def test_credentials_are_the_gateways() -> None:
    (gateway,) = planned(_guarded(edited(BASE, (_HTTP, _HTTP + _AUTHORIZATION))) + _JWT)[0].gateways
    assert gateway.guard == "jwt"
    assert gateway.credentials_cookies == {"token": "{credentials}"}
    assert gateway.credentials_headers == {"authorization": "Bearer {credentials}"}
    assert gateway.credentials_query == {"access_token": "{credentials}"}


def test_only_the_first_place_of_a_kind_is_read_as_in_the_reference() -> None:
    more = _AUTHORIZATION.replace(
        "              authorization: Bearer {credentials}\n",
        "              a: '{credentials}'\n              b: '{credentials}'\n",
    )
    plan, report = planned(_guarded(edited(BASE, (_HTTP, _HTTP + more))) + _JWT)
    assert plan.gateways[0].credentials_headers == {"a": "{credentials}"}
    assert "'b': the reference reads only the first place" in said(report, Verdict.WARNING)


def test_user_name_and_password_are_imported_as_they_are_with_a_warning() -> None:
    basic = _AUTHORIZATION.replace("Bearer {credentials}", "Basic {username}:{password}")
    plan, report = planned(_guarded(edited(BASE, (_HTTP, _HTTP + basic))) + _JWT)
    assert plan.gateways[0].credentials_headers == {"authorization": "Basic {username}:{password}"}
    assert "Nobody gets past the guard, as in the reference" in said(report, Verdict.WARNING)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("authorization: Bearer {credentials}", "authorization: Bearer"),
        ("authorization: Bearer {credentials}", "authorization: Basic {username}"),
        ("authorization: Bearer {credentials}", "authorization: Basic {password}:{username}"),
        ("authorization: Bearer {credentials}", "authorization: Basic {credentials}:{credentials}"),
        (' token: "{credentials}"', ' token: "{username}:{password}"'),
        ('access_token: "{credentials}"', 'access_token: "{username}:{password}"'),
    ],
)
def test_a_place_without_credentials_is_refused(old: str, new: str) -> None:
    assert _AUTHORIZATION.count(old) == 1
    text = _guarded(edited(BASE, (_HTTP, _HTTP + _AUTHORIZATION.replace(old, new)))) + _JWT
    assert "has no {credentials}" in refused_at(text, new)


def test_credentials_that_nothing_asks_for_are_a_warning() -> None:
    _, report = planned(edited(BASE, (_HTTP, _HTTP + _AUTHORIZATION)) + _JWT)
    assert "everything is public" in said(report, Verdict.WARNING)


def test_a_guard_whose_credentials_are_nowhere_is_a_warning() -> None:
    assert "nobody gets past" in said(planned(_guarded() + _JWT)[1], Verdict.WARNING)


def test_a_role_with_an_expression_is_a_warning() -> None:
    _, report = planned(_guarded(roles="['read:${path}']") + _JWT)
    assert "compared as it is written" in said(report, Verdict.WARNING)


def test_an_empty_list_of_roles_is_kept() -> None:
    assert planned(_guarded(roles="[]") + _JWT)[0].gateways[0].entries[0].guarded == {"jwt": ()}


def test_without_a_policy_the_references_default_is_imported() -> None:
    assert planned(BASE)[0].gateways[0].access_control == AccessControlSpec(policy="same-origin")


def _cors(lines: str) -> str:
    return edited(BASE, (_HTTP, f"{_HTTP}    options:\n      access-control:\n{lines}"))


def test_all_that_a_policy_can_say_is_imported() -> None:
    lines = """        policy: cross-origin
        allow:
          origins: [https://a.example]
          methods: [GET, PUT]
          headers: [x-one]
          credentials: true
        max-age: 60
        expose: {headers: [x-two]}
"""
    assert planned(_cors(lines))[0].gateways[0].access_control == AccessControlSpec(
        policy="cross-origin",
        allow_origins=("https://a.example",),
        allow_methods=("GET", "PUT"),
        allow_headers=("x-one",),
        allow_credentials=True,
        max_age=60,
        expose_headers=("x-two",),
    )


def test_an_empty_list_of_origins_does_not_read_as_any() -> None:
    errors = refused(_cors("        policy: cross-origin\n        allow: {origins: []}\n"))
    assert "empty list" in errors[0]


def test_credentials_for_every_origin_are_a_warning() -> None:
    _, report = planned(_cors("        policy: cross-origin\n        allow: {credentials: true}\n"))
    assert "every origin" in said(report, Verdict.WARNING)


def test_what_a_policy_does_not_have_is_refused() -> None:
    assert "unknown property 'allow'" in refused(_cors("        policy: same-origin\n        allow: {}\n"))[0]
    assert "has no policy" in refused(_cors("        max-age: 3\n"))[0]
