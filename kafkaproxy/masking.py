"""Secrets in JSON values: which members are secrets, replacing them by marks, and putting them back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy

from kafkaproxy.core.env import env_names, mask_env

__all__ = ["holds_secret", "is_reference", "mask", "mask_known", "unmask"]

_JWK_SECRETS: Final = frozenset({"k", "d", "p", "q", "dp", "dq", "qi"})  # RFC 7518 sections 6.2.2, 6.3.2, 6.4.1
_SECRET_NAME: Final = re.compile(r"password|secret|passphrase|private|key\.pem|jaas", re.IGNORECASE)
_MARK: Final = re.compile(r"•••• stored, not shown \(([0-9a-f]{12})\)")


def is_reference(value: Any) -> bool:
    """Return True if the value is nothing but ``${{env.NAME}}``, which is no secret."""
    return isinstance(value, str) and env_names(value) == [mask_env(value).strip()]


def _members(value: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any, bool]]:
    """Yield index, item, and True if the item is a secret."""
    if isinstance(value, list):
        yield from ((index, item, False) for index, item in enumerate(value))
        return
    for name, item in value.items():
        named = bool(_SECRET_NAME.search(name)) or (name in _JWK_SECRETS and "kty" in value)
        plain = isinstance(item, (str, int, float)) and not isinstance(item, bool) and item != ""
        yield name, item, named and plain and not is_reference(item)


def _replace(value: Any, change: Mapping[str, Any]) -> Any:
    """Return the value with every secret replaced whose tag is in ``change``."""
    if not isinstance(value, (dict, list)):
        return value
    copy = value.copy()
    for index, item, secret in _members(value):
        copy[index] = change.get(_tag(item), item) if secret else _replace(item, change)
    return copy


def _secrets(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        for _index, item, secret in _members(value):
            if secret:
                yield item
            else:
                yield from _secrets(item)


def holds_secret(value: Any) -> bool:
    """Return True if the JSON value has a secret member in clear text."""
    return next(_secrets(value), None) is not None


def _tag(secret: Any) -> str:
    # Keyed by SECRET_KEY: the tag distinguishes stored secrets and reveals nothing about them.
    return salted_hmac("kafkaproxy.admin.secrets", json.dumps(secret), algorithm="sha256").hexdigest()[:12]


def _marks(stored: Any) -> dict[str, str]:
    return {tag: f"•••• stored, not shown ({tag})" for tag in map(_tag, _secrets(stored))}


def mask(value: Any) -> Any:
    """Return the JSON value with every secret member replaced by a mark."""
    return _replace(value, _marks(value))


def mask_known(value: Any, stored: Any) -> Any:
    """Return the JSON value with those secrets replaced by marks that ``stored`` holds too."""
    return _replace(value, _marks(stored))


def unmask(value: Any, stored: Any) -> Any:
    """Return the value with every mark replaced by its stored secret; raise ``ValidationError`` for a mark without one."""
    return _unmask(value, {_tag(secret): secret for secret in _secrets(stored)})


def _unmask(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _unmask(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_unmask(item, known) for item in value]
    mark = _MARK.fullmatch(value) if isinstance(value, str) else None
    if mark is None:
        return value
    if mark[1] not in known:
        message = gettext_lazy("Nothing is stored for the mark “%(mark)s”: write the secret itself.")
        raise ValidationError(message, code="mark", params={"mark": value})
    return known[mark[1]]
