"""The last configuration in service, kept in ``STORE_DIR`` for a start without the database.

The file holds what the compiler reads: the rows as the database holds them, as JSON, a line each. ``${{env.NAME}}`` stays a
reference.
A configuration that holds secrets in clear, by the same rule by which the admin does not show them, is not kept. The file
belongs to one database, and only its user can read it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import stat
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import connections, router
from django.db.models import Model

from kafkaproxy import models
from kafkaproxy.conf import get_settings
from kafkaproxy.masking import holds_secret, is_reference
from kafkaproxy.models.version import ConfigVersion, Stamp
from kafkaproxy.specs.from_rows import Rows
from kafkaproxy.worker.store.writer_lock import make_private

__all__ = ["find_kept", "keep", "kept_path"]

log = logging.getLogger("kafkaproxy.routing")

_FORMAT: Final = 1
_FOLDER: Final = "_configuration"  # no cluster's folder has this name: theirs begin with a letter

_PARTS: Final[dict[str, tuple[type[Model], str]]] = {
    "guards": (models.Guard, ""),
    "clusters": (models.Cluster, ""),
    "topics": (models.Topic, ""),
    "gateways": (models.Gateway, ""),
    "access_controls": (models.AccessControl, "gateway_id"),
    "entries": (models.Entry, "gateway_id"),
    "entry_conditions": (models.EntryCondition, "entry_id"),
    "entry_guards": (models.EntryGuard, "entry_id"),
    "routes": (models.Route, "entry_id"),
    "conditions": (models.Condition, "route_id"),
    "overrides": (models.Override, "route_id"),
    "filters": (models.Filter, "route_id"),
    "async_fields": (models.AsyncField, "route_id"),
    "route_guards": (models.RouteGuard, "route_id"),
}
"""The fields of :class:`Rows`: the model, and the field by which its rows are grouped."""
_BY_KEY: Final = ("guards", "clusters")


def keep(rows: Rows, stamp: Stamp) -> None:
    """Replace the kept configuration. If that fails, or the configuration holds secrets, none is kept.

    Does not raise for errors of the disk: they are logged.
    """
    path = kept_path()
    try:
        if reason := _why_not(rows):
            path.unlink(missing_ok=True)
            log.info("configuration_not_kept version=%s reason=%s", stamp.version, reason)
        elif not _is_kept(path, head := _head(rows, stamp)):
            make_private(path.parent)
            _write(path, chain([head], _lines(rows)))
    except OSError as error:
        log.warning("configuration_not_kept version=%s reason=%s", stamp.version, error)
        with contextlib.suppress(OSError):  # an older one would be served in its place
            path.unlink(missing_ok=True)


def find_kept() -> tuple[Rows, Stamp] | None:
    """Return the kept configuration; None if there is none, or if this version of kafkaproxy cannot use it."""
    if not get_settings().keep_configuration:
        return None
    path = kept_path()
    try:
        lines = _read(path).splitlines()
        return _rows(lines), _stamp(json.loads(lines[0]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, ValidationError) as error:
        log.warning("kept_configuration_unusable path=%s error=%r", path, error)
        return None


def kept_path() -> Path:
    """Return where the configuration of this site's database is kept."""
    database = connections[router.db_for_read(ConfigVersion)].settings_dict
    options = {name: str(each) for name, each in database["OPTIONS"].items() if name in ("service", "options")}
    identity = [str(database.get(name) or "") for name in ("ENGINE", "HOST", "PORT", "NAME")]
    digest = hashlib.sha256(json.dumps([identity, options], sort_keys=True).encode()).hexdigest()
    return get_settings().store_dir / _FOLDER / f"{digest[:32]}.jsonl"


def _why_not(rows: Rows) -> str:
    if not get_settings().keep_configuration:
        return "KEEP_CONFIGURATION is False."
    for cluster in rows.clusters.values():
        fields = [name for name in cluster.SECRET_FIELDS if _is_secret(name, getattr(cluster, name))]
        if fields or holds_secret(cluster.options):
            where = ", ".join(fields or ["options"])
            return f"Cluster {cluster.name} holds a secret in clear ({where}): write ${{{{env.NAME}}}}."
    for guard in rows.guards.values():
        if holds_secret(guard.options):
            return f"Guard {guard.name} holds a secret in clear: write ${{{{env.NAME}}}}."
    return ""


def _is_secret(name: str, value: str) -> bool:
    """Return True if the value is not only a reference; a key may also be the path of a file."""
    return bool(value) and not is_reference(value) and (name != "ssl_key" or "-----BEGIN" in value)


_encode: Final = json.JSONEncoder(default=str, separators=(",", ":")).encode


def _head(rows: Rows, stamp: Stamp) -> str:
    """Return the first line, which says what follows."""
    head = {
        "format": _FORMAT,
        "version": stamp.version,
        "change": stamp.change,
        "fields": {name: _fields(name) for name in _PARTS},
        "counts": {name: sum(1 for _ in _flat(rows, name)) for name in _PARTS},
    }
    return _encode(head)


def _lines(rows: Rows) -> Iterator[str]:
    """Yield each row. All of them in one call of ``json`` would hold up the event loop."""
    for name in _PARTS:
        fields = _fields(name)
        for row in _flat(rows, name):
            yield _encode([getattr(row, field) for field in fields])


def _flat(rows: Rows, name: str) -> Iterator[Any]:
    part = getattr(rows, name)
    if name in _BY_KEY:
        return iter(part.values())
    return chain.from_iterable(part.values()) if _PARTS[name][1] else iter(part)


def _fields(name: str) -> list[str]:
    return [each.attname for each in _PARTS[name][0]._meta.concrete_fields]  # noqa: SLF001 (public, says Django)


def _rows(lines: list[str]) -> Rows:
    """Raise ``ValueError`` or ``LookupError`` for a file that is not whole, or was written for other models."""
    head = json.loads(lines[0])
    if head["format"] != _FORMAT or head["fields"] != {name: _fields(name) for name in _PARTS}:
        raise ValueError("It was written by another version of kafkaproxy.")
    if len(lines) != 1 + sum(head["counts"].values()):
        raise ValueError("It is not whole.")
    rest = iter(lines[1:])
    parts = {name: [_row(model, next(rest)) for _ in range(head["counts"][name])] for name, (model, _parent) in _PARTS.items()}
    return Rows(**{name: _shaped(name, rows) for name, rows in parts.items()})


def _row(model: type[Model], line: str) -> Model:
    fields = model._meta.concrete_fields  # noqa: SLF001 (public, says Django)
    return model(**{each.attname: each.to_python(value) for each, value in zip(fields, json.loads(line), strict=True)})


def _shaped(name: str, rows: list[Model]) -> Any:
    parent = _PARTS[name][1]
    if parent:
        children: defaultdict[int, list[Model]] = defaultdict(list)
        for row in rows:
            children[getattr(row, parent)].append(row)
        return dict(children)
    return {row.pk: row for row in rows} if name in _BY_KEY else rows


def _stamp(head: Any) -> Stamp:
    return Stamp(head["version"], None if head["change"] is None else uuid.UUID(head["change"]))


def _is_kept(path: Path, head: str) -> bool:
    try:
        return _read(path).partition("\n")[0] == head
    except (OSError, ValueError):
        return False


def _read(path: Path) -> str:
    """Read the file; raise ``PermissionError`` for one that another user has, may read or may change."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.getuid()) or found.st_mode & 0o077:
            raise PermissionError(f"{path} is not a file of this user alone.")
        return file.read()


def _write(path: Path, lines: Iterable[str]) -> None:
    """Replace the file atomically: a reader, also after a crash of the machine, finds the old or the new one, complete."""
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.stem}.", dir=path.parent)  # private: mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


assert _PARTS.keys() == {each.name for each in dataclasses.fields(Rows)}
