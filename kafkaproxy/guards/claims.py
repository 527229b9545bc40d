"""Read identity, roles and attributes from the claims of a token."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from kafkaproxy.guards.principals import ClientPrincipal

__all__ = ["attribute_text", "attributes_of", "find_claim", "identity_of", "number_of", "principal_of", "roles_of"]


def principal_of(
    claims: Mapping[str, Any], options: Mapping[str, Any], *, identity: str, expires_at: float | None
) -> ClientPrincipal:
    """Return the principal by the claims and a guard's options; raise ``ValueError`` for text that is not valid UTF-8."""
    challenge = options["challenge"]
    made = ClientPrincipal(
        identity=identity_of(claims, identity),
        roles=roles_of(claims, options["roles"]),
        attributes=attributes_of(claims, options["attributes"]),
        expires_at=expires_at,
        challenge_at=None if challenge is None or expires_at is None else expires_at - challenge,
    )
    "".join(
        [made.identity, *made.attributes.values()]
    ).encode()  # raises UnicodeEncodeError, a ValueError, for the lone surrogates that JSON escapes allow
    return made


def find_claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim of that name, else of that dotted path (``realm_access.roles``); None without one."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def roles_of(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return the roles. The claim is a list of texts, or a text of roles separated by spaces."""
    value = find_claim(claims, path)
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(each for each in value if isinstance(each, str)) if isinstance(value, list) else frozenset()


def identity_of(claims: Mapping[str, Any], path: str) -> str:
    """Return the identity; empty if the claim is missing, or neither text nor integer."""
    value = find_claim(claims, path)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def attributes_of(claims: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes as texts, without those whose claims are missing."""
    found = {name: find_claim(claims, path) for name, path in paths.items()}
    return {name: attribute_text(value) for name, value in found.items() if value is not None}


def attribute_text(value: Any) -> str:
    """Return a text as it is, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def number_of(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a NumericDate (RFC 7519 section 2); None if it is missing; raise ``ValueError`` for anything else."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(name)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(name) from None
    if not math.isfinite(number):
        raise ValueError(name)
    return number
