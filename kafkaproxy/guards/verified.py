"""What was verified lately: credentials by their digest, never the credentials themselves. Bounded; the oldest go first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final, Generic, TypeVar

__all__ = ["CredentialCache"]

_MOST: Final = 10_000

T = TypeVar("T")


class CredentialCache(Generic[T]):
    """A cache by credential. Who asks says until when an entry holds."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._entries: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def get(self, credential: str, now: float) -> T | None:
        """Return what is known of a credential, unless its time is over."""
        digest = _digest(credential)
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if entry[0] <= now:
            del self._entries[digest]
            return None
        return entry[1]

    def keep(self, credential: str, known: T, until: float) -> None:
        """Remember it."""
        digest = _digest(credential)
        self._entries[digest] = until, known
        self._entries.move_to_end(digest)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def forget(self, credential: str) -> None:
        """Forget it."""
        self._entries.pop(_digest(credential), None)

    def __len__(self) -> int:
        return len(self._entries)


def _digest(credential: str) -> bytes:
    return hashlib.blake2b(credential.encode("utf-8", "surrogatepass"), digest_size=32).digest()
