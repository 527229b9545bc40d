"""The ``KAFKAPROXY`` setting: one dictionary with typed defaults, read again when it changes."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

__all__ = ["Settings", "csrf_field", "get_settings", "read_settings"]

_MIB = 1024 * 1024


def _default_store_dir() -> Path:
    return Path(tempfile.gettempdir()) / f"kafkaproxy-{os.getuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings: each field is a name in ``KAFKAPROXY``, in lower case."""

    store_dir: Path = field(default_factory=_default_store_dir)
    """The folder of the store. Every process of a host that serves the same site shares it. It is a cache and safe to delete.
    """
    store_max_bytes: int = 16 * 1024 * _MIB
    """The most bytes of one cluster's store (the size of LMDB's map). The file grows as needed, up to this."""
    stream_store_bytes: int = 1024 * _MIB
    """The quota of a streamed topic: how many bytes of its log the store keeps, unless the topic says otherwise. Older records
    come from Kafka."""
    ingest: bool = True
    """True if this process may read topics into the store. False if ``manage.py runkafkaworker`` does it."""
    writer_timeout_seconds: float = 5.0
    """How long the process that writes the store, which writes a heartbeat every second, may be silent. After that nothing is
    served from the store, and another process takes over, if one may (``INGEST``)."""
    max_topics: int = 1000
    """The most topics that one cluster's store follows; a template with a parameter could otherwise open any number."""
    topic_idle_seconds: float = 600.0
    """How long a topic that only requests name (a topic template) is followed after its last use; a reply topic
    ``MAX_WAIT_SECONDS`` longer."""
    max_body_bytes: int = 10 * _MIB
    """The largest request body; a larger one is answered 413."""
    max_record_bytes: int = 11 * _MIB
    """The largest record the producer sends (librdkafka ``message.max.bytes``)."""
    max_waiting_requests: int = 10_000
    """The most requests of a process that wait for a reply, its topic or a change at once; more are answered 503."""
    max_merges: int = 64
    """The most merged fetches of a cluster that are in progress at once in a process, each with a temporary file. More wait for
    up to ``READY_TIMEOUT_SECONDS``, then are answered 503."""
    max_wait_seconds: float = 300.0
    """The longest wait that ``prefer: wait`` or a route's timeout can ask for."""
    ready_timeout_seconds: float = 10.0
    """How long a request waits until the topic that it fetches or streams, or its reply topic, was read to its end for the
    first time and, if it looks for a reply by an idempotency key, to its present end. After that it is answered 503."""
    produce_timeout_seconds: float = 10.0
    """How long a request waits for the acknowledgement of its record before 503 or 504. The record may still be written later.
    """
    stop_seconds: float = 7.0
    """How long a stop may take from the signal on: waiting requests are answered within a third of it, then the records that
    were accepted go to Kafka. Keep it below what your supervisor allows (Docker: 10), and half a second above
    ``DRAIN_SECONDS``."""
    reload_seconds: float = 0.5
    """How often a process asks the database if the configuration changed."""
    start_timeout_seconds: float = 5.0
    """How long a process that starts waits for the database. After that it serves the configuration that was kept on disk. If
    there is none, it answers 503 for every path that may be a route's, until the database answers."""
    keep_configuration: bool = True
    """True to keep the configuration in service in ``STORE_DIR``, for a start without the database. A configuration that holds
    secrets other than as ``${{env.NAME}}`` is never kept."""
    site_paths: tuple[str, ...] = ()
    """Paths that the site serves before any configuration was loaded, besides those that its URLconf shows to be its own:
    health checks that a middleware answers, for example. A path that ends with a slash includes all paths below it."""
    metadata_seconds: float = 5.0
    """How often the worker polls Kafka for topics that were created, deleted, re-created or have more partitions."""
    retention_seconds: float = 10.0
    """How often the worker polls where logs start, so that records that Kafka's retention removed leave the store."""
    retry_after_seconds: int = 1
    """The value of ``retry-after`` with 202 and 503, in seconds."""
    heartbeat_seconds: float = 15.0
    """How often an idle stream is sent a comment."""
    max_event_id_bytes: int = 4096
    """The longest ``last-event-id`` with a key or an etag; a longer one is answered 400. Ids that would be longer are sent
    without the etag, then without the key. A position alone may be longer: its length depends on the topic's partitions."""
    max_streams: int = 20_000
    """The most open streams of a process; more are answered 503."""
    stream_send_timeout_seconds: float = 60.0
    """How long a client may leave its stream, or a merged fetch, unread before it is closed."""
    drain_seconds: float = 5.0
    """How long closing streams may take when the server stops."""
    drain_retry_ms: int = 3000
    """The upper end of the random ``retry`` that is sent to streams when the server stops, in milliseconds."""


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings; raise ``ImproperlyConfigured`` for unknown names and wrong types."""
    return read_settings(getattr(django_settings, "KAFKAPROXY", {}))


def csrf_field() -> str:
    """Return the name of the field for Django's CSRF token (``CSRF_HEADER_NAME``), in lower case."""
    return django_settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-").lower()


def read_settings(given: Any) -> Settings:
    """Return the settings of a dictionary as it is written in a site's settings."""
    if not isinstance(given, dict):
        raise ImproperlyConfigured(
            f"KAFKAPROXY is {given!r}: write a dictionary, such as {{'STORE_DIR': '/var/lib/kafkaproxy'}}."
        )
    known = {f.name: f for f in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        target = known.get(name.lower()) if isinstance(name, str) and name == name.upper() else None
        if target is None:
            raise ImproperlyConfigured(f"KAFKAPROXY[{name!r}] is not a setting. Known are {_names(known)}.")
        values[target.name] = _coerce(name, value, target.type)
    return Settings(**values)


def _coerce(name: str, value: Any, kind: Any) -> Any:
    if kind == "Path" and isinstance(value, (str, os.PathLike)):
        return Path(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "tuple[str, ...]":
        if isinstance(value, (list, tuple)) and all(isinstance(each, str) and each.startswith("/") for each in value):
            return tuple(value)
        raise ImproperlyConfigured(f"KAFKAPROXY[{name!r}] is {value!r}: write a list of paths that begin with a slash.")
    if kind in ("int", "float") and isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        if kind == "float":
            return float(value)
        if isinstance(value, int):
            return value
    raise ImproperlyConfigured(f"KAFKAPROXY[{name!r}] is {value!r}: write a {kind} that is not negative.")


def _names(known: dict[str, Any]) -> str:
    return ", ".join(name.upper() for name in known)


@receiver(setting_changed)
def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting == "KAFKAPROXY":
        get_settings.cache_clear()
