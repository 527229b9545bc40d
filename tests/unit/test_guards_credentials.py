"""Where credentials are found (D29), and above all where they are not."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.guards.credentials import AMBIGUOUS, MAX_CREDENTIAL, NO_LOCATIONS, CredentialLocations
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import Credentials

PLAIN = "{credentials}"


def places(**where: dict[str, str]) -> CredentialLocations:
    return CredentialLocations(Credentials(guard="g", **{"cookies": {}, "headers": {}, "query": {}, **where}))


EVERYWHERE = places(
    cookies={"access_token": PLAIN}, headers={"authorization": "Bearer {credentials}"}, query={"access_token": PLAIN}
)


def request(query: str = "", **fields: str | list[str]) -> Request:
    lines = [(name, value) for name, values in fields.items() for value in ([values] if isinstance(values, str) else values)]
    headers = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in lines]
    scope: dict[str, Any] = {"method": "GET", "scheme": "https", "headers": headers, "query_string": query.encode()}
    return Request(scope, None)  # type: ignore[arg-type]


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (request(), None),
        (request(cookie="access_token=T"), "T"),
        (request(cookie="a=1; access_token=T; b=2"), "T"),
        (request(cookie=["a=1", "access_token=T"]), "T"),
        (request(cookie="access_token=first; access_token=second"), "first"),
        (request(cookie="xaccess_token=T"), None),
        (request(cookie="Access_Token=T"), None),
        (request(cookie="access_token="), None),
        (request(cookie="access_token=T x"), None),
        (request(authorization="Bearer T"), "T"),
        (request(authorization="bEARER T"), "T"),
        (request(authorization="Bearer   T"), "T"),
        (request(authorization="Bearer"), None),
        (request(authorization="Bearer "), None),
        (request(authorization="BearerT"), None),
        (request(authorization="Bearer T T"), None),
        (request(authorization="Basic T"), None),
        (request(authorization="x Bearer T"), None),
        (request(authorization=["Bearer T", "Bearer U"]), AMBIGUOUS),
        (request(authorization=["Basic T", "Bearer U"]), AMBIGUOUS),
        (request(proxy_authorization="Bearer T"), None),
        (request(x_authorization="Bearer T"), None),
        (request("access_token=T"), "T"),
        (request("a=1&access_token=T&parameter=value"), "T"),
        (request("access%5Ftoken=T"), "T"),
        (request("access_token=a%2Eb%20"), None),
        (request("access_token=a%2Eb"), "a.b"),
        (request("access_token=a+b"), "a+b"),
        (request("xaccess_token=T"), None),
        (request("Access_Token=T"), None),
        (request("access_token=T&access_token=U"), AMBIGUOUS),
        (request("a=access_token=T"), None),
        (request(authorization="Bearer " + "x" * MAX_CREDENTIAL), "x" * MAX_CREDENTIAL),
        (request(authorization="Bearer " + "x" * (MAX_CREDENTIAL + 1)), AMBIGUOUS),
    ],
)
def test_a_credential_is_found_exactly_where_the_templates_say(sent: Request, found: str | None) -> None:
    assert EVERYWHERE.find(sent) == found


def test_cookie_comes_before_field_before_query() -> None:
    query = "access_token=Q"
    assert EVERYWHERE.find(request(query, cookie="access_token=C", authorization="Bearer H")) == "C"
    assert EVERYWHERE.find(request(query, cookie="other=C", authorization="Bearer H")) == "H"
    assert EVERYWHERE.find(request(query, authorization="Basic H")) == "Q"


@pytest.mark.parametrize(
    ("template", "sent", "found"),
    [
        ("{credentials}", "T", "T"),
        ("Token token={credentials}", "token token=T", "T"),
        ("Token token={credentials}", "Token Token=T", None),
        ("Bearer v1.{credentials}!", "Bearer v1.T!", "T"),
        ("Bearer v1.{credentials}!", "Bearer v1xT!", None),
        ("Basic {credentials}", "Basic T", "T"),
        ("Basic {username}:{password}", f"Basic {basic('key:TOKEN')}", "key:TOKEN"),
        ("Basic {username}:{password}", f"basic {basic('key:with:colons')}", "key:with:colons"),
        ("Basic {username}:{credentials}", f"Basic {basic('key:TOKEN')}", "TOKEN"),
        ("Basic {credentials}:", f"Basic {basic('TOKEN:')}", "TOKEN"),
        ("Basic key:{credentials}", f"Basic {basic('key:TOKEN')}", "TOKEN"),
        ("Basic key:{credentials}", f"Basic {basic('other:TOKEN')}", None),
        ("Basic {username}:{password}", f"Basic {basic('no colon')}", None),
        ("Basic {username}:{password}", "Basic not*base64", None),
        ("Basic {username}:{password}", "Basic a", None),
        ("Basic {username}:{password}", "Basic /////w==", None),
        ("Basic {username}:{password}", f"Bearer {basic('key:TOKEN')}", None),
    ],
)
def test_a_field_is_read_by_its_template(template: str, sent: str, found: str | None) -> None:
    assert places(headers={"Authorization": template}).find(request(authorization=sent)) == found


def test_every_place_of_a_kind_is_looked_at_in_order() -> None:
    two = places(headers={"x-token": PLAIN, "authorization": "Bearer {credentials}"})
    assert two.find(request(authorization="Bearer A")) == "A"
    assert two.find(request(authorization="Bearer A", x_token="X")) == "X"


def test_nothing_is_found_in_a_gateway_that_names_no_place() -> None:
    everything = request("access_token=T", cookie="access_token=T", authorization="Bearer T")
    assert NO_LOCATIONS.find(everything) is None


def test_the_fields_that_answers_vary_on_and_the_scheme_to_ask_for() -> None:
    assert EVERYWHERE.fields == ("cookie", "authorization")
    assert EVERYWHERE.scheme == "Bearer"
    assert places(query={"t": PLAIN}).fields == ()
    assert places(headers={"Authorization": "Basic {username}:{password}"}).scheme == "Basic"
    assert places(headers={"x-token": PLAIN}).scheme == "Bearer"


@given(st.text(max_size=60), st.text(max_size=60), st.binary(max_size=60))
def test_whatever_is_sent_is_no_error(cookie: str, field: str, query: bytes) -> None:
    sent = request(cookie=cookie.encode("utf-8", "replace").decode("latin-1"), authorization=field.encode().decode("latin-1"))
    sent.query = query
    found = EVERYWHERE.find(sent)
    assert found is None or " " not in found
