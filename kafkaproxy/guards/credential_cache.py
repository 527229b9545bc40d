"""The credential cache: what verified credentials stand for, by digest. It never stores a credential."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final, Generic, TypeVar

__all__ = ["CredentialCache"]

_MAX_ENTRIES: Final = 10_000

T = TypeVar("T")


class CredentialCache(Generic[T]):
    """A cache by credential. Times are seconds of the caller's clock. Bounded in number; the oldest entry is removed first."""

    def __init__(self, max_entries: int = _MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def get(self, credential: str, now: float) -> T | None:
        """Return the value for a credential; None if there is none or it has expired."""
        digest = _digest(credential)
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if entry[0] <= now:
            del self._entries[digest]
            return None
        return entry[1]

    def put(self, credential: str, value: T, until: float) -> None:
        """Store a value until the time ``until``."""
        digest = _digest(credential)
        self._entries[digest] = until, value
        self._entries.move_to_end(digest)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def remove(self, credential: str) -> None:
        """Remove a credential."""
        self._entries.pop(_digest(credential), None)

    def __len__(self) -> int:
        return len(self._entries)


def _digest(credential: str) -> bytes:
    return hashlib.blake2b(credential.encode("utf-8", "surrogatepass"), digest_size=32).digest()
