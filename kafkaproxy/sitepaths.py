"""Whose a path is while no configuration was ever loaded: the site's where that is certain, else it may be a route's.

A route stands before the site, so no rule can be strict. The one here asks what the site itself says. A path is the site's

- below ``STATIC_URL`` and ``MEDIA_URL``, and where the setting ``SITE_PATHS`` names it;
- where the URLconf resolves it to a pattern that is about this place: one that does not match with another first segment, nor
  with more segments behind. ``admin/login/`` and ``blog/<slug>/`` are, ``<path:page>``, ``<slug:page>/``, ``^.*$`` and
  ``api/<path:rest>`` are not.

So health checks that are views, and the admin, answer. Everything else is 503 with ``retry-after``: a 404 tells clients that
there is no such thing, and a proxy in front asks no other process after one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import Resolver404, resolve
from django.utils import translation

from kafkaproxy.conf import get_settings
from kafkaproxy.consumers.http import Request, Responder, Scope, Send
from kafkaproxy.consumers.problems import Problem, retry_after

__all__ = ["is_certain", "refuse"]

log = logging.getLogger("kafkaproxy.asgi")

_WORDS: Final = (f"k{secrets.token_hex(8)}", str(10**9 + secrets.randbelow(10**9)))
"""First segments that no site has: one for patterns of texts, one for those of numbers."""


def is_certain(scope: Scope) -> bool:
    """Whether the path of an HTTP request is the site's own, whatever the configuration says."""
    path: str = scope["path"]
    return any(_is_below(path, each) for each in _named()) or _resolves(path.removeprefix(scope.get("root_path", "")))


async def refuse(request: Request, send: Send) -> None:
    """Answer a request whose path may be a route's."""
    detail = "The routes of this site are not known yet, as its database cannot be read. Try again."
    problem = Problem(503, "not-configured-yet", detail, [retry_after(get_settings().retry_after_seconds)])
    await Responder(send, head=request.method == "HEAD").problem(problem, "")


def _named() -> Iterator[str]:
    yield from get_settings().site_paths
    for url in (settings.STATIC_URL, settings.MEDIA_URL):
        parts = urlsplit(str(url or ""))
        if not parts.netloc and parts.path.strip("/"):
            yield f"/{parts.path.strip('/')}/"


def _is_below(path: str, named: str) -> bool:
    return path.startswith(named) if named.endswith("/") else path == named


def _resolves(path: str) -> bool:
    try:
        # As LocaleMiddleware does, for i18n_patterns().
        with translation.override(translation.get_language_from_path(path) or settings.LANGUAGE_CODE):
            pattern = _pattern(path)
            return pattern is not None and all(_pattern(each) != pattern for each in _neighbours(path))
    except Exception:
        log.exception("urlconf_unusable")
        return True  # the site answers with its own error


def _pattern(path: str) -> str | None:
    try:
        return resolve(path).route
    except Resolver404:
        return None


def _neighbours(path: str) -> Iterator[str]:
    """Yield paths that only a pattern which takes everything has in common with this one."""
    _first, slash, rest = path.removeprefix("/").partition("/")
    end = "/" if path.endswith("/") else ""
    for word in _WORDS:
        yield f"/{word}{slash}{rest}"
        yield f"{path.rstrip('/')}/{word}/{word}{end}"
