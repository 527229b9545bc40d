"""Copies of credentials in fields that are no credential fields."""

from __future__ import annotations

import pytest

from kafkaproxy.consumers.forwarded_headers import CredentialCopies
from kafkaproxy.core.fields import CREDENTIAL_FIELDS
from kafkaproxy.routing.table import Credentials

PLACES = Credentials(
    guard="g",
    cookies={"sid": "{credentials}"},
    headers={"authorization": "Bearer {credentials}", "X-Token": "{credentials}"},
    query={"access_token": "{credentials}", "+t": "{credentials}"},
)
SENT = [
    (b"cookie", b"theme=dark-theme; sid=of-the-cookie; other=1"),
    (b"authorization", b"Bearer of-the-field"),
    (b"x-token", b"of-the-own-field"),
    (b"accept", b"application/json"),
]
QUERY = b"a=1&access%5Ftoken=of%2Dthe-query"


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"https://example.com/?access_token=old&b=2#part", b"https://example.com/?access_token=&b=2#part"),
        (b"/items?a=1&access%5ftoken=old", b"/items?a=1&access%5ftoken="),
        (b"access_token=old&a=1", b"access_token=&a=1"),
        (b"/items?%2Bt=old&+t=old&%2bt=old", b"/items?%2Bt=&+t=&%2bt="),
        (b"of-the-query", None),
        (b"of-the-cookie", None),
        (b"Bearer of-the-field", None),
        (b"<of-the-own-field>", None),
        (b"", b""),
        (b"application/json", b"application/json"),
        (b"dark-theme", b"dark-theme"),
        (b"xaccess_token=1, /?x_access_token=1", b"xaccess_token=1, /?x_access_token=1"),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_a_copy_is_left_out_and_a_parameter_emptied(value: bytes, left: bytes | None) -> None:
    assert CredentialCopies(CREDENTIAL_FIELDS, PLACES, SENT, QUERY).removed_from(value) == left


def test_without_places_the_usual_fields_are_credentials_all_the_same() -> None:
    copies = CredentialCopies(CREDENTIAL_FIELDS, None, SENT, QUERY)
    assert copies.removed_from(b"of-the-field") is None
    assert copies.removed_from(b"of-the-cookie") == b"of-the-cookie"
    assert copies.removed_from(b"/?access_token=old") == b"/?access_token=old"


def test_what_is_too_short_to_be_one_is_not_looked_for() -> None:
    assert CredentialCopies(CREDENTIAL_FIELDS, PLACES, [(b"authorization", b"Bearer 1")], b"").removed_from(b"1, 2") == b"1, 2"
    assert CredentialCopies(CREDENTIAL_FIELDS, PLACES, [(b"authorization", b"")], b"").removed_from(b"anything") == b"anything"
