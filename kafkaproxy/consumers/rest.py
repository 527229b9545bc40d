"""The REST consumer: from a matched request to its handler, and from whatever goes wrong to a problem."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from channels.consumer import AsyncConsumer

from kafkaproxy.conf import get_settings
from kafkaproxy.consumers.context import Exchange, Observer
from kafkaproxy.consumers.fetch import fetch
from kafkaproxy.consumers.merge import fetch_merged
from kafkaproxy.consumers.produce import oneway
from kafkaproxy.consumers.reply import poll, request_reply
from kafkaproxy.http.request import ClientGone, Receive, Request, Responder, Scope, Send
from kafkaproxy.routing.matching import Match, RolePrincipal
from kafkaproxy.routing.table import Capability
from kafkaproxy.worker.worker import Worker

__all__ = ["RestConsumer"]

Handler = Callable[..., Awaitable[None]]


class RestConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves produce, reply and fetch. One instance serves every request: it keeps nothing between them.

    Channels' dispatch by message type is passed over for HTTP, whose path is hot.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer a matched request, which the scope carries with its match and principals under ``kafkaproxy``.

        They are taken out: a request that its own scope refers to would have to wait for the cyclic garbage collector.
        """
        matched: tuple[Request, Match, Mapping[str, RolePrincipal], Observer | None] = scope.pop("kafkaproxy")
        request, match, principals, observer = matched
        responder = Responder(send, head=request.method == "HEAD")
        settings = get_settings()
        users = self._worker.users(match.route.cluster)
        users.add(request)
        try:
            await _handler(match)(Exchange(request, match, principals, observer), self._worker, settings, responder)
        except ClientGone:
            return
        except Exception as error:
            if not await responder.refuse(error, match.route.name, settings.retry_after_seconds):
                raise  # too late for a status: the server cuts the connection, so nobody takes half for whole
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
