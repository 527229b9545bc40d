"""The kind ``session``: the user that is logged in to the site; groups and permissions are the roles.

A thread reads the session and the user from the database. They are cached for a few seconds (option ``cache``); a log-out in
another process, a change of groups or a deactivated user takes effect after that. A stream checks again at that interval.
"""

from __future__ import annotations

import functools
import io
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, cast

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.core.handlers.asgi import ASGIRequest
from django.http import QueryDict, parse_cookie
from django.middleware.csrf import CSRF_SESSION_KEY, CsrfViewMiddleware
from django.utils.translation import gettext as _

from kafkaproxy.guards.claims import attribute_text
from kafkaproxy.guards.credential_cache import CredentialCache
from kafkaproxy.guards.options import Option, OptionError, check_options, read_options, seconds, text, text_map
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import GuardConfig

__all__ = ["SessionGuard"]

log = logging.getLogger("kafkaproxy.guards")

_SHORTEST_RECHECK: Final = 5.0
"""The shortest interval, in seconds, at which a stream checks its session again."""
_KEY: Final = re.compile(r"[!-~]{1,4096}")
"""A session key has 32 characters; with the signed-cookies backend it is the whole session."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def _user_field(value: Any) -> str:
    path = text(value)
    if any(name.startswith("_") or name == "password" for name in path.split(".")):
        raise ValueError(_("%(name)s must not be written to a record or a topic.") % {"name": path})
    return path


def _user_fields(value: Any) -> dict[str, str]:
    return {name: _user_field(each) for name, each in text_map(value).items()}


OPTIONS: Final[Mapping[str, Option]] = {
    "identity": Option(_user_field, "pk"),
    "attributes": Option(_user_fields, {}),
    "cache": Option(seconds(0, 3_600), 10.0),
}


@dataclass(frozen=True, slots=True)
class _LoadedSession:
    """What a session key stands for: a principal and the session's CSRF secret, or no user."""

    principal: ClientPrincipal | None = None
    csrf_secret: str | None = None


class SessionGuard:
    """Authenticates by Django's session cookie, wherever the gateway locates other credentials."""

    fields: tuple[str, ...] | None = ("cookie",)
    scheme: str | None = "Session"

    def __init__(self, config: GuardConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._options = read_options(config.options, OPTIONS)
        self._name = config.name
        self._clock = clock
        self._cache: CredentialCache[_LoadedSession] = CredentialCache()
        self._csrf = _CsrfCheck(_no_response)
        _require_sessions()
        user_logged_out.connect(self._logged_out)  # a weak reference: disconnected with the guard

    @staticmethod
    def check(options: Mapping[str, Any]) -> None:
        """Check options as they are written; raise :class:`OptionError`."""
        check_options(options, OPTIONS)
        _require_sessions()

    async def authenticate(self, request: Request, credential: str | None) -> ClientPrincipal | Refusal:  # noqa: ARG002
        """Return the principal of the user that is logged in. Unsafe methods have to pass Django's CSRF check."""
        key = _session_key(request)
        if not key:
            return Refusal.MISSING
        loaded = await self._load(key)
        if loaded.principal is None:
            log.info("credential_refused guard=%s reason=no_such_session", self._name)
            return Refusal.INVALID
        if request.method not in _SAFE and not self._passes_csrf(request, loaded):
            log.info("credential_refused guard=%s reason=csrf", self._name)
            return Refusal.FORBIDDEN
        return loaded.principal

    def _logged_out(self, *, request: Any, **_kwargs: Any) -> None:
        """Remove a session from the cache when its user logs out in this process; other processes take ``cache`` seconds."""
        key = getattr(getattr(request, "session", None), "session_key", None)
        if key:
            self._cache.remove(key)

    async def _load(self, key: str) -> _LoadedSession:
        loaded = self._cache.get(key, self._clock())
        if loaded is None:
            loaded = await database_sync_to_async(self._read)(key)
            now, cache_seconds = self._clock(), self._options["cache"]
            if loaded.principal is not None:
                # Not the end of the session: the time at which a stream checks it again.
                recheck_at = now + max(cache_seconds, _SHORTEST_RECHECK)
                principal = replace(loaded.principal, expires_at=recheck_at, renew=functools.partial(self._renew, key))
                loaded = replace(loaded, principal=principal)
            self._cache.put(key, loaded, now + cache_seconds)
        return loaded

    async def _renew(self, key: str) -> ClientPrincipal | None:
        return (await self._load(key)).principal

    def _read(self, key: str) -> _LoadedSession:
        """Read session and user from the database. Blocks."""
        from django.contrib.auth import get_user

        session = _Session(import_module(settings.SESSION_ENGINE).SessionStore(key).load())
        user: Any = get_user(cast(Any, _RequestWithSession(session)))
        if not user.is_authenticated or not user.is_active:
            return _LoadedSession()
        return _LoadedSession(self.principal(user), session.get(CSRF_SESSION_KEY))

    def principal(self, user: Any) -> ClientPrincipal:
        """Return the principal of a user. Blocks on the database."""
        return ClientPrincipal(
            identity=_attribute(user, self._options["identity"]) or "",
            roles=frozenset(_roles(user)),
            attributes=MappingProxyType(
                {
                    name: value
                    for name, path in self._options["attributes"].items()
                    if (value := _attribute(user, path)) is not None
                }
            ),
        )

    def _passes_csrf(self, request: Request, loaded: _LoadedSession) -> bool:
        """Run the check of Django's CSRF middleware: cookie or session secret, token field, origin and referer."""
        # HTTP/2 may split cookies into several lines (RFC 9113 section 8.2.3), which Django would join with commas.
        headers = [*(each for each in request.fields if each[0] != b"cookie"), (b"cookie", _cookies(request).encode("latin-1"))]
        django_request = ASGIRequest({**request.scope, "query_string": b"", "headers": headers}, io.BytesIO())
        django_request.POST = QueryDict()  # the body is a record, not a form: the token has to be in a field
        secret = loaded.csrf_secret
        django_request.session = _Session({} if secret is None else {CSRF_SESSION_KEY: secret})  # type: ignore[assignment]
        self._csrf.process_request(django_request)
        return self._csrf.process_view(django_request, cast(Any, None), (), {}) is None


class _CsrfCheck(CsrfViewMiddleware):
    """Returns the reason of a refusal instead of rendering Django's page."""

    def _reject(self, request: Any, reason: str) -> Any:  # noqa: ARG002
        log.info("csrf_failed reason=%r", reason.partition(" - ")[0])  # the part after the dash may contain a URL
        return reason


def _no_response(_request: Any) -> Any:
    raise AssertionError("The CSRF middleware is only used for its check.")


class _Session(dict[str, Any]):
    """A session's content. Changes that Django makes are not saved, as no response could set the new session cookie."""

    def cycle_key(self) -> None:
        """Do nothing: the key stays."""

    def flush(self) -> None:
        """Do nothing: the session stays."""


@dataclass(slots=True)
class _RequestWithSession:
    """The part of a request that Django's ``get_user`` reads."""

    session: _Session


def _session_key(request: Request) -> str:
    key = parse_cookie(_cookies(request)).get(settings.SESSION_COOKIE_NAME, "")
    return key if _KEY.fullmatch(key) else ""


def _cookies(request: Request) -> str:
    return "; ".join(request.lines(b"cookie"))


def _roles(user: Any) -> list[str]:
    """Return the names of the user's permissions (``app.codename``) and groups, if the user model has them."""
    roles = list(user.get_all_permissions()) if hasattr(user, "get_all_permissions") else []
    groups = getattr(user, "groups", None)
    return roles if groups is None else roles + list(groups.values_list("name", flat=True))


def _attribute(user: Any, path: str) -> str | None:
    value = user
    for name in path.split("."):
        value = getattr(value, name, None)
    if value is None or callable(value):
        return None
    return attribute_text(value) if isinstance(value, (str, int, float)) else str(value)


def _require_sessions() -> None:
    from django.apps import apps

    for name in ("django.contrib.auth", "django.contrib.contenttypes"):
        if not apps.is_installed(name):
            raise OptionError([_("The kind session needs %(name)s in INSTALLED_APPS.") % {"name": name}])
