"""Which paths the site serves before a configuration has been loaded; any other path may be a route's.

Routes take precedence over the site, so without routes this can only be judged by the site's own settings. A path is the site's

- below ``STATIC_URL`` and ``MEDIA_URL``, and where the setting ``SITE_PATHS`` names it;
- where the URLconf resolves it to a specific pattern: one that does not match with another first segment, nor with more
  segments at the end. ``admin/login/`` and ``blog/<slug>/`` are specific; ``<path:page>``, ``<slug:page>/``, ``^.*$`` and
  ``api/<path:rest>`` are not.

So the admin and health checks that are views answer. Everything else is answered 503 with ``retry-after``, not 404: a 404
tells clients that the resource does not exist, and a reverse proxy does not try another process after it.
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
from kafkaproxy.http.problems import Problem, retry_after
from kafkaproxy.http.request import Request, Responder, Scope, Send

__all__ = ["is_site_path", "refuse_unconfigured"]

log = logging.getLogger("kafkaproxy.asgi")

_RANDOM_SEGMENTS: Final = (f"k{secrets.token_hex(8)}", str(10**9 + secrets.randbelow(10**9)))
"""Path segments that no site has: one that text converters match, one that number converters match."""


def is_site_path(scope: Scope) -> bool:
    """True if the path of an HTTP request is the site's own, whatever routes there may be."""
    path: str = scope["path"]
    if any(_is_below(path, each) for each in _configured_paths()):
        return True
    return _resolves(path.removeprefix(scope.get("root_path", "")))


async def refuse_unconfigured(request: Request, send: Send) -> None:
    """Answer 503 to a request whose path may be a route's."""
    detail = "The routes of this site are not known yet, as its database cannot be read. Try again."
    problem = Problem(503, "not-configured-yet", detail, [retry_after(get_settings().retry_after_seconds)])
    await Responder(send, head=request.method == "HEAD").problem(problem, "")


def _configured_paths() -> Iterator[str]:
    yield from get_settings().site_paths
    for url in (settings.STATIC_URL, settings.MEDIA_URL):
        parts = urlsplit(str(url or ""))
        if not parts.netloc and parts.path.strip("/"):
            yield f"/{parts.path.strip('/')}/"


def _is_below(path: str, configured: str) -> bool:
    return path.startswith(configured) if configured.endswith("/") else path == configured


def _resolves(path: str) -> bool:
    try:
        # i18n_patterns() resolve in the language of the path, which LocaleMiddleware sets for a request.
        with translation.override(translation.get_language_from_path(path) or settings.LANGUAGE_CODE):
            pattern = _pattern(path)
            return pattern is not None and all(_pattern(each) != pattern for each in _probe_paths(path))
    except Exception:
        log.exception("urlconf_unusable")
        return True  # the site answers with its own error


def _pattern(path: str) -> str | None:
    try:
        return resolve(path).route
    except Resolver404:
        return None


def _probe_paths(path: str) -> Iterator[str]:
    """Yield paths that a pattern matches as well as ``path`` only if it is a catch-all."""
    _first_lines, slash, rest = path.removeprefix("/").partition("/")
    end = "/" if path.endswith("/") else ""
    for word in _RANDOM_SEGMENTS:
        yield f"/{word}{slash}{rest}"
        yield f"{path.rstrip('/')}/{word}/{word}{end}"
