"""The two sides of the fan-out benchmark, configured by the environment, for any ASGI server.

``FANOUT=ours``: one stream route of the proxy. ``FANOUT=raw``: the least that an ASGI application can do to write the same
bytes to the same clients, its source a timer in the same process.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from benchmarks.fanout_source import Acks, value_of  # noqa: E402 - after the settings
from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.core.progress import encode  # noqa: E402
from kafkaproxy.core.sse import record_frame  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.support.proxy import configuration, gateway, site, stream  # noqa: E402

__all__ = ["application"]


class Raw:
    """A list of frames, and a loop for each client that writes what is new in it.

    It does not listen for clients that leave, and a server may let it write to them for ever: ``/forget`` ends those loops.
    """

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._at: dict[str, int] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._loops: set[asyncio.Task[Any]] = set()
        self._acks = Acks(Path(os.environ["ACKS"]))

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        if scope["path"] == "/produce":
            await self._produce(scope, send)
        elif scope["path"] == "/forget":
            await self._forget(send)
        else:
            await self._stream(scope, send)

    async def _stream(self, scope: Any, send: Any) -> None:
        last = dict(scope["headers"]).get(b"last-event-id")
        at = len(self._frames) if last is None else self._at[last.decode()]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._loops.add(task)
        try:
            while True:
                if at < len(self._frames):
                    frames, at = b"".join(self._frames[at:]), len(self._frames)
                    await send({"type": "http.response.body", "body": frames, "more_body": True})
                else:
                    waiter = loop.create_future()
                    self._waiters.append(waiter)
                    await waiter
        except (OSError, RuntimeError, asyncio.CancelledError):
            pass  # the client has left
        finally:
            self._loops.discard(task)

    async def _forget(self, send: Any) -> None:
        for task in self._loops:
            task.cancel()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def _produce(self, scope: Any, send: Any) -> None:
        query = {name: float(values[0]) for name, values in parse_qs(scope["query_string"].decode()).items()}
        loop = asyncio.get_running_loop()
        begin, first, count = loop.time(), int(query["first"]), int(query["count"])
        added = 0
        while added < count:
            await asyncio.sleep(max(begin + added / query["rate"] - loop.time(), 0))
            due = min(int((loop.time() - begin) * query["rate"]) + 1, count)
            for number in range(added, due):  # all that is due: a loop that is late writes several at once
                self._add(first + number)
            added = due
            self._wake()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _add(self, number: int) -> None:
        event_id = encode({0: number + 1})
        self._acks.note(number)
        self._frames.append(record_frame(event_id, None, value_of(number), as_base64=False))
        self._at[event_id] = len(self._frames)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


_runtime: Runtime | None = None


def _running() -> Runtime:
    global _runtime
    if _runtime is None:
        _runtime = Runtime(store_dir=Path(os.environ["STORE"]))
        route = stream("/events", topic=os.environ["TOPIC"], start="latest")
        _runtime.configure(configuration(os.environ["BOOTSTRAP"], gateway(route)))
    return _runtime


application = Raw() if os.environ["FANOUT"] == "raw" else KafkaProxy(site, running=_running)
