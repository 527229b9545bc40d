"""CORS: the policy of a gateway or of django-cors-headers' settings, preflights, and the fields it adds to responses."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any, Final

from corsheaders.conf import conf
from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from kafkaproxy.core.cors import CorsPolicy, Preflight, normal_origin, origin_in
from kafkaproxy.core.fields import is_field_name
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Request, Send
from kafkaproxy.routing.table import AccessControl, Capability, Gateway, Route

__all__ = ["Cors", "compile_policy", "is_preflight", "own_origin", "requested_method", "site_policy", "with_changed_fields"]

FieldChange = Callable[[Fields], Fields]
OriginTest = Callable[[str], bool]

_REQUEST_METHOD: Final = b"access-control-request-method"
_REQUEST_HEADERS: Final = b"access-control-request-headers"
_MAX_REQUESTED: Final = 100
"""How many fields a preflight may ask for; browsers send a few names."""
_LONGEST_NAME: Final = 256
"""The longest method or field name in a preflight, in characters."""


def is_preflight(request: Request) -> bool:
    """True for a preflight (Fetch standard, "CORS-preflight request")."""
    return (
        request.method == "OPTIONS"
        and request.field(b"origin") is not None
        and (request.field(_REQUEST_METHOD) is not None or request.field(_REQUEST_HEADERS) is not None)
    )


def requested_method(request: Request) -> str | None:
    """Return the method that a preflight asks for."""
    given = request.field(_REQUEST_METHOD)
    return None if given is None else given.decode("latin-1")


def with_changed_fields(send: Send, changes: Iterable[FieldChange]) -> Send:
    """Return a ``send`` that applies the changes, in order, to the fields of the response."""

    async def send_changed(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            fields: Fields = list(message["headers"])
            for change in changes:
                fields = change(fields)
            message = {**message, "headers": fields}
        await send(message)

    return send_changed


class Cors:
    """The CORS policy of one gateway, applied to requests."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        own = gateway.access_control
        self._policy = None if own is None else compile_policy(own)

    def policy(self, request: Request) -> CorsPolicy | None:
        """Return the policy for a request: the gateway's own, else the site's if it covers the path; None for no policy."""
        if self._policy is not None:
            return self._policy
        site = site_policy()
        if site is None:
            return None
        pattern, policy = site
        # The raw path too: "." in a pattern does not match a decoded line feed, and routes match the raw path.
        return policy if pattern.match(request.scope["path"]) or pattern.match(request.path) else None

    def preflight(self, request: Request, routes: Iterable[Route]) -> Fields:
        """Return the fields of the 204 for a preflight; raise the 403 :class:`Problem` that refuses it."""
        policy = self.policy(request)
        if policy is None:
            return []
        origin = _origin(request)
        asked = self._asked(request, routes)
        fields = None if origin is None or asked is None else policy.preflight(asked, origin, own_origin(request))
        if fields is None:
            raise _refusal("This origin may not send such a request here: check its origin, method and fields.")
        return fields

    def admit(self, request: Request) -> FieldChange | None:
        """Return how to change the response's fields, None for no change; raise a 403 :class:`Problem` for a refused origin."""
        policy = self.policy(request)
        if policy is None:
            return None
        if request.field(b"origin") is None:
            return self.change_without_origin(request)
        own, origin = own_origin(request), _origin(request)
        if origin is None or not policy.allows(origin, own):
            raise _refusal("Requests of this origin are refused here.")
        return lambda fields: policy.added(fields, origin, own)

    def change_without_origin(self, request: Request) -> FieldChange | None:
        """Return how to change the fields of the response to a request without ``origin``; None for no change."""
        policy = self.policy(request)
        return None if policy is None or not policy.cross_origin else functools.partial(policy.added, origin=None, own="")

    def _asked(self, request: Request, routes: Iterable[Route]) -> Preflight | None:
        names = [name.strip().lower() for line in request.lines(_REQUEST_HEADERS) for name in line.split(",")]
        method = requested_method(request)
        tokens = [name for name in (method, *names) if name]
        if len(names) > _MAX_REQUESTED or not all(map(_is_name, tokens)):
            return None  # the response may repeat them, so they have to be tokens
        streams = [route for route in routes if route.capability is Capability.STREAM]
        return Preflight(
            method=method,
            headers=tuple(name for name in names if name),
            # A challenge response is a POST.
            needed_methods=frozenset({"GET", "POST"}) if streams else frozenset(),
            needed_headers=self._needed_headers() if streams else frozenset(),
            private_network=request.field(b"access-control-request-private-network") == b"true",
        )

    def _needed_headers(self) -> frozenset[str]:
        """Return the fields that resuming a stream and responding to a challenge need, whatever the policy allows."""
        credentials = self._gateway.credentials
        own = frozenset() if credentials is None else frozenset(name.lower() for name in credentials.headers)
        return own | {"authorization", "content-type", "last-event-id", "x-challenge-session"}


def compile_policy(own: AccessControl) -> CorsPolicy:
    """Compile an access control to a policy. ``*`` in a list allows any value."""
    origins = _none_if_any(own.allow_origins)
    exposed = _none_if_any(own.expose_headers)
    return CorsPolicy(
        cross_origin=own.policy == "cross-origin",
        origins=None if origins is None else origin_in(origins),
        methods=_none_if_any(own.allow_methods),
        headers=_none_if_any(own.allow_headers),
        credentials=own.allow_credentials,
        max_age=own.max_age,
        exposed=None if exposed is None else frozenset(name.encode() for name in exposed),
    )


@lru_cache(maxsize=1)
def site_policy() -> tuple[re.Pattern[str], CorsPolicy] | None:
    """Return the pattern of paths and the policy of django-cors-headers' settings; None if they allow no origin.

    Its signal ``check_request_enabled`` is not sent: receivers expect a Django ``HttpRequest``.
    """
    any_origin = bool(conf.CORS_ALLOW_ALL_ORIGINS)
    if not (any_origin or conf.CORS_ALLOWED_ORIGINS or conf.CORS_ALLOWED_ORIGIN_REGEXES):
        return None
    policy = CorsPolicy(
        cross_origin=True,
        origins=None if any_origin else _site_origins(),
        methods=_none_if_any(frozenset(conf.CORS_ALLOW_METHODS)),
        headers=_none_if_any(frozenset(name.lower() for name in conf.CORS_ALLOW_HEADERS)),
        credentials=bool(conf.CORS_ALLOW_CREDENTIALS),
        max_age=int(conf.CORS_PREFLIGHT_MAX_AGE) or None,
        exposed=frozenset(name.lower().encode() for name in conf.CORS_EXPOSE_HEADERS),
        private_network=bool(conf.CORS_ALLOW_PRIVATE_NETWORK),
    )
    return re.compile(conf.CORS_URLS_REGEX), policy


def _site_origins() -> OriginTest:
    listed = origin_in(tuple(conf.CORS_ALLOWED_ORIGINS))
    patterns = [re.compile(each) for each in conf.CORS_ALLOWED_ORIGIN_REGEXES]
    return lambda origin: listed(origin) or any(pattern.match(origin) for pattern in patterns)


@receiver(setting_changed)
def _clear_site_policy(*, setting: str, **_kwargs: Any) -> None:
    if setting.startswith("CORS_"):
        site_policy.cache_clear()


def own_origin(request: Request) -> str:
    """Return the site's origin, as the request names it; empty if it names none.

    Fields of a reverse proxy count if the site trusts them (``SECURE_PROXY_SSL_HEADER``, ``USE_X_FORWARDED_HOST``).
    """
    scheme, host = request.scheme, (request.field(b"host") or b"").decode("latin-1")
    if settings.SECURE_PROXY_SSL_HEADER:
        name, secure = settings.SECURE_PROXY_SSL_HEADER
        forwarded_scheme = request.field(name.removeprefix("HTTP_").replace("_", "-").lower().encode())
        if forwarded_scheme is not None:
            scheme = "https" if forwarded_scheme.decode("latin-1").split(",", 1)[0].strip() == secure else "http"
    if settings.USE_X_FORWARDED_HOST:
        forwarded = request.field(b"x-forwarded-host")
        host = host if forwarded is None else forwarded.decode("latin-1")
    return normal_origin(f"{scheme}://{host}") or ""


def _origin(request: Request) -> str | None:
    """Return the request's ``origin``; None if it has several different ones."""
    lines = set(request.lines(b"origin"))
    return lines.pop() if len(lines) == 1 else None


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and is_field_name(text.encode("latin-1"))


def _none_if_any(values: frozenset[str] | None) -> frozenset[str] | None:
    return None if values is None or "*" in values else values


def _refusal(detail: str) -> Problem:
    return Problem(403, "cors", detail, [(b"vary", b"origin")])
