"""The kind ``simplejwt``: tokens that the site issues with djangorestframework-simplejwt, checked by its settings.

Only the claims are read, as by simplejwt's ``JWTStatelessUserAuthentication``: the access token of a deactivated user is valid
until it expires. With simplejwt's setting ``CHECK_REVOKE_TOKEN`` the user is loaded too, and a changed password revokes the
tokens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from channels.db import database_sync_to_async
from django.utils.translation import gettext as _

from kafkaproxy.guards.claims import number_of, principal_of
from kafkaproxy.guards.credential_cache import CredentialCache
from kafkaproxy.guards.jwt import InvalidToken, read_header
from kafkaproxy.guards.options import Option, OptionError, check_options, nullable, read_options, seconds, text, text_map
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import GuardConfig

__all__ = ["SimpleJwtGuard"]

log = logging.getLogger("kafkaproxy.guards")

OPTIONS: Final[Mapping[str, Option]] = {
    "roles": Option(text, "scope"),
    "identity": Option(text),
    "attributes": Option(text_map, {}),
    "challenge": Option(nullable(seconds(0, 86_400))),
    "cache": Option(seconds(0, 3_600), 60.0),
}


class SimpleJwtGuard:
    """Authenticates by the site's own tokens, of the classes in ``AUTH_TOKEN_CLASSES``."""

    fields: tuple[str, ...] | None = None
    scheme: str | None = None

    def __init__(self, config: GuardConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._options = read_options(config.options, OPTIONS)
        self._name = config.name
        self._clock = clock
        self._cache: CredentialCache[ClientPrincipal] = CredentialCache()
        _require_users()

    @staticmethod
    def check(options: Mapping[str, Any]) -> None:
        """Check options as they are written; raise :class:`OptionError`."""
        check_options(options, OPTIONS)
        _require_users()

    async def authenticate(self, request: Request, credential: str | None) -> ClientPrincipal | Refusal:  # noqa: ARG002
        """Return the principal of the token, from the credential cache if it is there."""
        if credential is None:
            return Refusal.MISSING
        now = self._clock()
        known = self._cache.get(credential, now)
        if known is not None:
            return known
        try:
            read_header(credential)  # rejects malformed tokens before the settings and the database are used
            principal = self._principal(await _claims(credential))
        except InvalidToken as error:
            log.info("credential_refused guard=%s reason=%s", self._name, error.reason)
            return Refusal.INVALID
        until = now + self._options["cache"]
        self._cache.put(credential, principal, min(until, principal.expires_at or until))
        return principal

    def _principal(self, claims: Mapping[str, Any]) -> ClientPrincipal:
        from rest_framework_simplejwt.settings import api_settings

        identity = self._options["identity"] or api_settings.USER_ID_CLAIM
        try:
            return principal_of(claims, self._options, identity=identity, expires_at=number_of(claims, "exp"))
        except ValueError:
            raise InvalidToken("malformed") from None


async def _claims(token: str) -> Mapping[str, Any]:
    """Return the claims of a token that one of the site's classes accepts; raise :class:`InvalidToken`.

    Runs in a thread if it may block: a blacklist and ``CHECK_REVOKE_TOKEN`` query the database, ``JWK_URL`` the network.
    """
    from rest_framework_simplejwt.settings import api_settings

    blocking = bool(api_settings.JWK_URL or api_settings.CHECK_REVOKE_TOKEN)
    blocking |= any(hasattr(each, "check_blacklist") for each in api_settings.AUTH_TOKEN_CLASSES)
    return await database_sync_to_async(_accepted)(token) if blocking else _accepted(token)


def _accepted(token: str) -> Mapping[str, Any]:
    from rest_framework_simplejwt.exceptions import TokenError
    from rest_framework_simplejwt.settings import api_settings

    for kind in api_settings.AUTH_TOKEN_CLASSES:
        try:
            accepted = kind(token)
        except (TokenError, ValueError, TypeError, OverflowError):  # the last three for malformed dates
            continue
        if api_settings.CHECK_REVOKE_TOKEN:
            _check_user(accepted)
        payload: Mapping[str, Any] = accepted.payload
        return payload
    raise InvalidToken("not_ours")


def _check_user(token: Any) -> None:
    """Check the token's user, as simplejwt does for the site's views; raise :class:`InvalidToken`. Blocks."""
    from rest_framework.exceptions import APIException
    from rest_framework_simplejwt.authentication import JWTAuthentication

    try:
        JWTAuthentication().get_user(token)
    except (APIException, ValueError, TypeError, OverflowError):  # the last three for a malformed user id
        raise InvalidToken("revoked") from None


def _require_users() -> None:
    from django.apps import apps

    if not apps.is_installed("django.contrib.auth"):
        raise OptionError([_("The kind simplejwt needs django.contrib.auth in INSTALLED_APPS.")])
