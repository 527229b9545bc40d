"""The parser that our tests trust, held against a browser's own: the same bytes, the same events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest

from tests.browser.conftest import OpenPage
from tests.support.streams import parse_events
from tests.unit.test_sse_parser import CASES

pytestmark = pytest.mark.browser

_NAMES = list(CASES)
# The stream ends with the last byte: what is left to come is an error.
_READ = """
([count, types]) => Promise.all([...Array(count).keys()].map((number) => new Promise((resolve) => {
  const seen = [];
  const source = new EventSource(`/${number}`);
  for (const each of types)
    source.addEventListener(each, ({ type, data, lastEventId }) => seen.push({ type, data, id: lastEventId }));
  source.onerror = () => { source.close(); resolve(seen); };
})))
"""


@pytest.fixture
async def served() -> AsyncIterator[str]:
    """Serve each case's bytes at its number, to the end of the connection, and an empty page elsewhere."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().removeprefix("/")
        is_case = path.isdigit()
        kind = b"text/event-stream" if is_case else b"text/html"
        body = CASES[_NAMES[int(path)]][0] if is_case else b"<link rel=icon href=data:,>"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nconnection: close\r\n\r\n%b" % (kind, body))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


async def test_a_browser_dispatches_what_our_parser_says(served: str, open_page: OpenPage) -> None:
    page = await open_page(served)
    types = sorted({event.type for _, expected in CASES.values() for event in expected} | {"a", "b"})
    seen = await asyncio.wait_for(page.evaluate(_READ, [len(CASES), types]), 30)
    assert dict(zip(_NAMES, seen, strict=True)) == {
        name: [asdict(event) for event in parse_events(stream)] for name, (stream, _) in CASES.items()
    }
