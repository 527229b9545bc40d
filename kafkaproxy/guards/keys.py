"""Keys that verify signatures: JSON Web Keys (RFC 7517), each for one algorithm."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _
from jwt import algorithms
from jwt.exceptions import PyJWTError

__all__ = ["ALGORITHMS", "InlineKeys", "KeyProblem", "KeySet", "KeysUnavailable", "MissingCryptography"]
__all__ += ["UndeclaredAlgorithm", "VerificationKey", "read_key"]

ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    **{f"HS{bits}": ("oct", None) for bits in (256, 384, 512)},
}
"""Algorithm → type and curve of its keys. ``none`` is not accepted."""

_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
_RSA_BITS: Final = range(2048, 8193)  # RFC 7518 section 3.3; the upper end bounds the work of a verification
_MAX_EXPONENT: Final = 1 << 32


class KeyProblem(ValueError):
    """The key cannot be used; the message says why."""


class UndeclaredAlgorithm(KeyProblem):
    """The key declares no algorithm, so no token can match it."""

    def __init__(self) -> None:
        super().__init__(_("The key declares no alg, so no token can match it: add it, or the option algorithm."))


class MissingCryptography(KeyProblem):
    """The package ``cryptography`` is missing, which RSA, EC and Ed25519 need."""

    def __init__(self) -> None:
        super().__init__(_("Signatures other than HS256, HS384 and HS512 need cryptography: pip install 'kafkaproxy[crypto]'."))


class KeysUnavailable(Exception):
    """There are no keys at the moment, so tokens cannot be verified."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key, and the one algorithm that it verifies."""

    kid: str | None
    algorithm: str
    members: tuple[str, ...]
    """The normalised public numbers, by which keys are compared. For ``oct`` this is the secret: not in ``repr``."""
    material: Any

    def __repr__(self) -> str:
        return f"VerificationKey(kid={self.kid!r}, algorithm={self.algorithm!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VerificationKey):
            return NotImplemented
        return (self.kid, self.algorithm, self.members) == (other.kid, other.algorithm, other.members)

    def __hash__(self) -> int:
        return hash((self.kid, self.algorithm, self.members))


class KeySet:
    """A set of keys."""

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self._keys = tuple(keys)

    def select(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key with the token's ``kid`` and algorithm; without ``kid`` the only key of that algorithm; else None."""
        fitting = [each for each in self._keys if each.algorithm == algorithm and (kid is None or each.kid == kid)]
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    def __len__(self) -> int:
        return len(self._keys)


class InlineKeys:
    """Keys that are written in the options."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key for a token; None without one."""
        return self._keys.select(kid, algorithm)


def read_key(jwk: Any, algorithm: str | None = None) -> VerificationKey:
    """Read a JSON Web Key; raise :class:`KeyProblem`. ``algorithm`` is for a key that declares none.

    Numbers may be base64url or base64, padded or not. Private members are ignored.
    """
    if not isinstance(jwk, dict):
        raise KeyProblem(_('Write keys as JSON Web Keys: {"kty": "RSA", "kid": "1", "alg": "RS256", "n": "…", "e": "AQAB"}.'))
    declared = jwk.get("alg") or algorithm
    if declared is None:
        raise UndeclaredAlgorithm
    if declared not in ALGORITHMS:
        raise KeyProblem(_("The alg of the key is none of %(known)s.") % {"known": ", ".join(ALGORITHMS)})
    if jwk.get("use", "sig") != "sig":
        raise KeyProblem(_("The key is not for signatures: its use is not sig."))
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeyProblem(_("The kid of the key is not a text."))
    members = _public_members(jwk, declared)
    return VerificationKey(kid, declared, tuple(members.values()), _material(members, declared))


def _public_members(jwk: Mapping[str, Any], algorithm: str) -> dict[str, str]:
    """Return the members that the algorithm needs, numbers as base64url without padding.

    Raises :class:`KeyProblem` for a key of another type or curve.
    """
    kty, curve = ALGORITHMS[algorithm]
    if jwk.get("kty") != kty:
        raise KeyProblem(_("%(alg)s needs a key of type %(kty)s.") % {"alg": algorithm, "kty": kty})
    if curve is not None and jwk.get("crv") != curve:
        raise KeyProblem(_("%(alg)s needs a key on the curve %(crv)s.") % {"alg": algorithm, "crv": curve})
    members = {"kty": kty}
    for name in _MEMBERS[kty]:
        value = jwk.get(name)
        if not isinstance(value, str) or not value:
            raise KeyProblem(_("The key has no %(name)s.") % {"name": name})
        members[name] = value if name == "crv" else _base64url(value, name)
    return members


def _base64url(value: str, name: str) -> str:
    plain = value.strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise KeyProblem(_("The %(name)s of the key is not base64.") % {"name": name}) from None
    return plain


def _material(members: Mapping[str, str], algorithm: str) -> Any:
    if members["kty"] != "oct" and not algorithms.has_crypto:
        raise MissingCryptography
    reader = algorithms.get_default_algorithms()[algorithm]
    try:
        material = reader.prepare_key(reader.from_jwk(dict(members)))
    except (PyJWTError, ValueError, TypeError):
        raise KeyProblem(_("The numbers of the key are not those of a %(alg)s key.") % {"alg": algorithm}) from None
    _check_strength(material, algorithm)
    return material


def _check_strength(material: Any, algorithm: str) -> None:
    if algorithm.startswith("HS"):
        needed = int(algorithm[2:]) // 8  # RFC 7518 section 3.2
        if len(material) < needed:
            raise KeyProblem(_("A %(alg)s key has at least %(bytes)s bytes.") % {"alg": algorithm, "bytes": needed})
    elif algorithm[:2] in {"RS", "PS"}:
        limits = {"least": _RSA_BITS.start, "most": _RSA_BITS.stop - 1}
        if material.key_size not in _RSA_BITS or material.public_numbers().e >= _MAX_EXPONENT:
            raise KeyProblem(_("An RSA key has %(least)s to %(most)s bits, and a small exponent.") % limits)
