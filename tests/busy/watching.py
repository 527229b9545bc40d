"""Clients that ask all the time while something changes, and what they were answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.faults.asking import get
from tests.support.proxy import Proxy
from tests.support.streams import EventStream, asgi_stream

__all__ = ["Answers", "answered", "asking", "moves_past", "opened"]

_PAUSE = 0.01
_PATIENCE = 60


@dataclass
class Answers:
    """What the clients of one path were answered."""

    path: str
    statuses: Counter[int] = field(default_factory=Counter)
    values: list[int] = field(default_factory=list)
    """The bodies of the answers with status 200."""
    refused: str = ""
    """The body of the first answer that was not 200."""

    def assert_served(self) -> None:
        """Check that every answer was 200, and that no answer was older than one before it."""
        assert set(self.statuses) == {200}, f"{self.path}: {self.statuses}: {self.refused}"
        assert self.values == sorted(self.values), f"{self.path}: older values came after newer ones"


@asynccontextmanager
async def asking(proxy: Proxy, paths: Iterable[str]) -> AsyncIterator[list[Answers]]:
    """GET each path again and again until the block ends; the answers are checked then, with :meth:`Answers.assert_served`."""
    answers = [Answers(path) for path in paths]
    done = asyncio.Event()
    tasks = [asyncio.ensure_future(_ask(proxy, each, done)) for each in answers]
    try:
        yield answers
    finally:
        done.set()
        await asyncio.gather(*tasks)
    for each in answers:
        each.assert_served()


async def moves_past(answers: Answers, value: int) -> None:
    """Wait until the clients were answered with more than ``value``."""
    async with asyncio.timeout(_PATIENCE):
        while not answers.values or answers.values[-1] <= value:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_PAUSE)


async def answered(proxy: Proxy, path: str, body: bytes, **fields: str) -> httpx.Response:
    """POST until the answer is 200, and check that it is the body, as a service that echoes gives it."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    async with asyncio.timeout(_PATIENCE):
        while (response := await proxy.request("POST", path, content=body, headers=headers)).status_code != 200:
            assert response.status_code == 503, response.text
    assert response.content == body
    return response


@asynccontextmanager
async def opened(proxy: Proxy, path: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[EventStream]:
    """Open a stream as soon as it is served: it is 503 until its topic has been read for it."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        async with asgi_stream(proxy.app, path, headers) as s:
            if s.status == 200:
                yield s
                return
            assert s.status == 503
            assert asyncio.get_running_loop().time() < deadline, f"{path} stays 503"


async def _ask(proxy: Proxy, answers: Answers, done: asyncio.Event) -> None:
    while not done.is_set():
        response = await get(proxy, answers.path)
        answers.statuses[response.status_code] += 1
        if response.status_code == 200:
            answers.values.append(int(response.content))
        elif not answers.refused:
            answers.refused = response.text
        await asyncio.sleep(_PAUSE)
