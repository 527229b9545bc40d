"""The REST consumer: it calls the handler of a matched request, and answers every error with a problem."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from channels.consumer import AsyncConsumer

from kafkaproxy.conf import get_settings
from kafkaproxy.consumers.context import Exchange, Matched
from kafkaproxy.consumers.fetch import fetch
from kafkaproxy.consumers.merge import fetch_merged
from kafkaproxy.consumers.produce import oneway
from kafkaproxy.consumers.reply import poll, request_reply
from kafkaproxy.http.request import ClientGone, Receive, Responder, Scope, Send
from kafkaproxy.routing.matching import Match
from kafkaproxy.routing.table import Capability
from kafkaproxy.worker.worker import Worker

__all__ = ["RestConsumer"]

Handler = Callable[..., Awaitable[None]]


class RestConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves produce, reply and fetch. One instance serves every request; it has no state of a request.

    It overrides Channels' dispatch by message type, which would take longer than many a request.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer a matched request. ``scope["kafkaproxy"]`` is a :data:`Matched`.

        It is removed from the scope: request and scope would refer to each other, and wait for the cyclic garbage collector.
        """
        matched: Matched = scope.pop("kafkaproxy")
        request, match, principals, cache, observer = matched
        responder = Responder(send, head=request.method == "HEAD")
        settings = get_settings()
        users = self._worker.users(match.route.cluster)
        users.add(request)
        try:
            await _handler(match)(Exchange(request, match, principals, cache, observer), self._worker, settings, responder)
        except ClientGone:
            return
        except Exception as error:
            if not await responder.refuse(error, match.route.name, settings.retry_after_seconds):
                raise  # the response has begun: the server closes the connection, so the client sees that it is incomplete
        finally:
            users.discard(request)
            request.close()


def _handler(match: Match) -> Handler:
    route = match.route
    if match.poll:
        return poll
    if route.capability is Capability.PRODUCE:
        return oneway if route.reply_to is None else request_reply
    return fetch_merged if route.merge else fetch
