"""Filters: which records a route serves, and an index that finds the matching filters without trying each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from kafkaproxy.worker.types import Record

__all__ = ["FilterIndex", "RecordFilter", "passes"]

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """A rendered filter. It matches if the key and every header are equal, byte for byte."""

    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def matches(self, record: Record) -> bool:
        """Return True if the record matches. If a header occurs several times in the record, one of them has to be equal."""
        return (self.key is None or record.key == self.key) and all(each in record.headers for each in self.headers)


def passes(filters: tuple[RecordFilter, ...], record: Record) -> bool:
    """Return True if any filter matches the record. Without filters every record passes."""
    return not filters or any(each.matches(record) for each in filters)


class FilterIndex(Generic[T]):
    """Values, each with filters. Finding the values for a record costs look-ups of its key and headers only."""

    def __init__(self) -> None:
        self._all: set[T] = set()
        self._by_key: dict[bytes, set[tuple[RecordFilter, T]]] = defaultdict(set)
        self._by_header: dict[tuple[str, bytes | None], set[tuple[RecordFilter, T]]] = defaultdict(set)

    def add(self, filters: tuple[RecordFilter, ...], value: T) -> None:
        """Add a value; it is found for records that match any of ``filters``, or for every record if there are none."""
        if _passes_all(filters):
            self._all.add(value)
            return
        for each in filters:
            self._bucket(each).add((each, value))

    def remove(self, filters: tuple[RecordFilter, ...], value: T) -> None:
        """Remove what :meth:`add` added."""
        if _passes_all(filters):
            self._all.discard(value)
            return
        for each in filters:
            bucket = self._bucket(each)
            bucket.discard((each, value))
            if bucket:
                continue
            if each.key is not None:
                self._by_key.pop(each.key, None)
            else:
                self._by_header.pop(each.headers[0], None)

    def find(self, record: Record) -> Iterator[T]:
        """Yield each value whose filters match the record, once."""
        yield from self._all
        found: set[T] = set()
        if record.key is not None and self._by_key:
            found |= _passing(self._by_key.get(record.key), record)
        if self._by_header:
            for header in set(record.headers):
                found |= _passing(self._by_header.get(header), record)
        yield from found

    def _bucket(self, each: RecordFilter) -> set[tuple[RecordFilter, T]]:
        if each.key is not None:
            return self._by_key[each.key]
        return self._by_header[each.headers[0]]


def _passes_all(filters: tuple[RecordFilter, ...]) -> bool:
    return not filters or any(each.key is None and not each.headers for each in filters)


def _passing(bucket: set[tuple[RecordFilter, T]] | None, record: Record) -> set[T]:
    return {value for each, value in bucket if each.matches(record)} if bucket else set()
