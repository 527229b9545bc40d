"""What is too large is refused as what it is: it is never a 5xx, and never let through."""

from __future__ import annotations

import json
import time
from typing import Final

import pytest

from kafkaproxy.routing.table import AccessControl
from tests.conformance.conftest import Begin
from tests.support.guarded import EVERYWHERE, bearer, items
from tests.support.proxy import Proxy, gateway, produce, stream
from tests.support.tokens import claims, fresh, sign

Case = tuple[str, str, dict[str, str], int]
"""Method, target, fields; the status that answers them."""

HUGE: Final = "x" * 60_000
ANSWER: Final = {"content-type": "application/x-challenge-response", "x-challenge-session": HUGE}
PREFLIGHT: Final = {"origin": "https://a.example", "access-control-request-method": "GET"}

BAD: Final[dict[str, Case]] = {
    "a token": ("GET", "/items/1", {"authorization": f"Bearer {HUGE}"}, 401),
    "a scheme": ("GET", "/items/1", {"authorization": HUGE}, 401),
    "a cookie": ("GET", "/items/1", {"cookie": f"access_token={HUGE}"}, 401),
    "many cookies": ("GET", "/items/1", {"cookie": ";".join(f"c{n}=1" for n in range(9_000))}, 401),
    "many tokens in cookies": ("GET", "/items/1", {"cookie": "access_token=a;" * 4_000}, 401),
    "a token in the query": ("GET", f"/items/1?access_token={HUGE}", {}, 401),
    "many tokens in the query": ("GET", "/items/1?" + "access_token=a&" * 4_000, {}, 401),
    "many parameters": ("GET", "/items/1?" + "&".join(f"p{n}" for n in range(9_000)), {}, 401),
    "a parameter of the path": ("GET", f"/items/{HUGE}", {}, 401),
    "an encoded one": ("GET", "/items/" + "%41" * 20_000, {}, 401),
    "a deep path of nobody": ("GET", "/" + "a/" * 30_000, {}, 299),
    "an answer to a challenge": ("POST", "/events", ANSWER, 401),
    "an origin": ("OPTIONS", "/items/1", {**PREFLIGHT, "origin": f"https://{HUGE}"}, 403),
    "a method": ("OPTIONS", "/items/1", {**PREFLIGHT, "access-control-request-method": HUGE}, 403),
    "many fields": ("OPTIONS", "/items/1", {**PREFLIGHT, "access-control-request-headers": "x," * 20_000}, 403),
}
GOOD: Final[dict[str, Case]] = {
    "a parameter of the path": ("GET", f"/items/{HUGE}", {}, 404),
    "a tag": ("GET", "/items/1", {"if-none-match": HUGE}, 200),
    "a time to wait": ("GET", "/items/1", {"prefer": "wait=" + "9" * 5_000}, 200),
    "an origin": ("GET", "/items/1", {"origin": f"https://{HUGE}"}, 403),
    "an idempotency key": ("POST", "/items/1", {"idempotency-key": HUGE}, 400),
    "a content type": ("POST", "/items/1", {"content-type": HUGE}, 204),
    "a last event id": ("GET", "/events", {"last-event-id": HUGE}, 400),
    "one in the query": ("GET", f"/events?lastEventId={HUGE}", {}, 400),
    "an answer to a challenge": ("POST", "/events", ANSWER, 403),
}


@pytest.fixture
def proxy(begin: Begin, topics: dict[str, str]) -> Proxy:
    write = produce("POST /items/{id}", topic=topics["commands"], key="${params.id}", guarded={"g": []}, name="write")
    read = stream("/events", topic=topics["items"], guarded={"g": []})
    listed = AccessControl(policy="cross-origin", allow_origins=frozenset({"https://a.example"}), allow_credentials=True)
    return begin(gateway(items(topics, guarded={"g": []}), write, read, credentials=EVERYWHERE, access_control=listed))


async def test_without_a_good_credential(proxy: Proxy) -> None:
    for name, (method, target, fields, status) in BAD.items():
        response = await proxy.request(method, target, headers=fields)
        assert response.status_code == status, name


async def test_with_a_good_one(proxy: Proxy) -> None:
    for name, (method, target, fields, status) in GOOD.items():
        response = await proxy.request(method, target, headers={**fields, **bearer(fresh())})
        assert response.status_code == status, name


async def test_a_token_with_more_in_it_than_anybody_needs(proxy: Proxy) -> None:
    brackets = b"[" * 5_000 + b"]" * 5_000
    deep = json.dumps(claims(exp=time.time() + 60)).encode().replace(b'"alice"', brackets)
    for token in (fresh(scope=["r"] * 2_000), fresh(sub="s" * 11_000), sign(deep), sign(brackets)):
        assert len(token) < 16_384
        assert (await proxy.request("GET", "/items/1", headers=bearer(token))).status_code in {200, 401}
    assert (await proxy.request("GET", "/items/1", headers=bearer(fresh(sub="s" * 13_000)))).status_code == 401
