"""What an import would change: the file, the database and the last import are compared, so that no change by hand is lost.

A field that differs from the file is *edited in the file* if it still is as the last import left it, and *changed by hand* if
it is not. What was changed, added or removed by hand is a conflict, which is overwritten only if the user asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from django.conf import settings
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from kafkaproxy.models import ImportedObject
from kafkaproxy.specs.types import TopicSpec
from kafkaproxy.zilla.plan import SAID, Plan
from kafkaproxy.zilla.sync.items import (
    KINDS,
    Fields,
    Item,
    ObjectKey,
    Stored,
    cluster_items,
    items_of,
    name_clusters,
    stored_objects,
)

__all__ = ["Action", "Change", "Changes", "compare", "digest"]

_SECRET: Final = frozenset({"sasl_password", "sasl_username", "ssl_ca", "options"})
"""Fields whose values are never shown."""
_SALT: Final = "kafkaproxy.zilla.imported"

_PARENT: Final = {"entry": "gateway", "route": "entry"}


class Action(StrEnum):
    """What happens to an object."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RESET = "reset"
    """A topic that the file no longer mentions: its fields go back to their defaults."""
    KEEP = "keep"
    """A cluster or guard that the file no longer has; it stays, as others may need it."""
    FORGET = "forget"
    """The file no longer has it, and it is not in the database either, or belongs to another import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change. ``conflict`` says why it is only made with ``overwrite``; empty: it is none."""

    action: Action
    kind: str
    key: str
    source: str
    fields: Fields = field(default_factory=dict, repr=False)
    """The fields that are written, by name."""
    writes: Stored | None = field(default=None, repr=False)
    """The object that the fields are taken from."""
    new: Fields = field(default_factory=dict, repr=False)
    old: Fields = field(default_factory=dict, repr=False)
    conflict: str = ""

    def __str__(self) -> str:
        shown = [_shown(name, self.old.get(name), value) for name, value in self.new.items()]
        details = f": {'; '.join(shown)}" if self.action is Action.UPDATE else ""
        return f"{self.action} {self.kind} {self.key}{details}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """All changes of an import, in the order in which they can be made, and what to remember afterwards."""

    changes: tuple[Change, ...]
    items: tuple[tuple[Item, bool], ...]
    """The objects of the file under their real names, and whether the import owns each."""

    @property
    def visible(self) -> tuple[Change, ...]:
        """The changes to rows, without those that only forget a record."""
        return tuple(change for change in self.changes if change.action is not Action.FORGET)

    @property
    def conflicts(self) -> tuple[Change, ...]:
        """The changes that would overwrite what was done by hand."""
        return tuple(change for change in self.changes if change.conflict)


def digest(value: Any, secret: str | bytes | None = None) -> str:
    """Return a keyed digest of a field's value, which may be a secret itself; ``SECRET_KEY`` is the key by default."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return salted_hmac(_SALT, text, secret, algorithm="sha256").hexdigest()[:32]


def _is_as_imported(record: ImportedObject, name: str, value: Any) -> bool:
    """Return True if a field still is what the last import made it; ``SECRET_KEY`` may have changed in between."""
    digests = (digest(value, secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))
    return record.digests.get(name) in digests


def compare(plan: Plan) -> Changes:
    """Compare the plan with the database. Nothing is written."""
    clusters = {cluster.origin: cluster.name for cluster in plan.clusters if cluster.existing}
    items: list[tuple[Item, bool]] = []
    for item, name, owned in name_clusters(cluster_items(plan)):
        clusters[item.origin] = name
        items.append((replace(item, key=name), owned))
    items += [(item, True) for item in items_of(plan, clusters)]
    comparison = _Comparison.of(plan, [item for item, _ in items])
    changes = [change for item, owned in items if (change := comparison.change(item, owned=owned)) is not None]
    changes += comparison.removals()
    return Changes(changes=tuple(sorted(changes, key=_order)), items=tuple(items))


def _order(change: Change) -> tuple[int, int]:
    """Remove first, innermost first, so that names are free; then make and change, outermost first."""
    depth = KINDS.index(change.kind)
    return (0, -depth) if change.action is Action.DELETE else (1, depth)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The database as it is, what is remembered of imports, and what the file has."""

    sources: tuple[str, ...]
    wanted: frozenset[ObjectKey]
    records: Mapping[ObjectKey, list[ImportedObject]]
    stored: Mapping[ObjectKey, Stored]

    @classmethod
    def of(cls, plan: Plan, items: Iterable[Item]) -> _Comparison:
        """Read what has to be compared."""
        records: dict[ObjectKey, list[ImportedObject]] = {}
        for record in ImportedObject.objects.all():
            records.setdefault((record.kind, record.key), []).append(record)
        wanted = frozenset((item.kind, item.key) for item in items)
        gateways = {key for kind, key in {*wanted, *records} if kind == "gateway"}
        return cls(plan.sources, wanted, records, stored_objects(gateways))

    def change(self, item: Item, *, owned: bool) -> Change | None:
        """Return what has to be done for one object of the file."""
        known = self.records.get((item.kind, item.key), [])
        own = next((record for record in known if record.source == item.source), None)
        stored = self.stored.get((item.kind, item.key))
        if stored is None:
            conflict = _("It was removed by hand.") if own is not None and own.digests else ""
            return _made(Action.CREATE, item, {}, {}, conflict)
        current = stored.fields(item.names)
        new = {name: value for name, value in item.fields.items() if current[name] != value}
        if not new or not owned:
            return None
        old = {name: current[name] for name in new}
        return _made(Action.UPDATE, item, new, old, _conflict(item, old, known, own))

    def removals(self) -> Iterator[Change]:
        """Return what an earlier import of the same source made and the file no longer has, and what was added by hand."""
        gone: set[ObjectKey] = set()
        for key, known in self.records.items():
            for record in known:
                if record.source in self.sources and key not in self.wanted:
                    gone.add(key)
                    yield _removal(record, self.stored.get(key), shared=len(known) > 1)
        for kind, name in self.stored:
            parent = (_PARENT.get(kind, ""), name.rpartition("/")[0])
            if (parent in self.wanted or parent in gone) and (kind, name) not in self.wanted and (kind, name) not in gone:
                yield Change(action=Action.DELETE, kind=kind, key=name, source="", conflict=_("It was added by hand."))


def _made(action: Action, item: Item, new: Fields, old: Fields, conflict: str) -> Change:
    return Change(
        action=action,
        kind=item.kind,
        key=item.key,
        source=item.source,
        fields=item.fields,
        writes=Stored(item.spec, item.position),
        new=new,
        old=old,
        conflict=conflict,
    )


def _conflict(item: Item, old: Fields, known: list[ImportedObject], own: ImportedObject | None) -> str:
    """Return why a change conflicts with the database; empty if it does not."""
    if item.kind == "topic":
        defaults = _unsaid_topic(item.key).fields(SAID["topic"])
        old = {name: value for name, value in old.items() if value != defaults[name]}
        if not old:
            return ""
    others = sorted(record.source for record in known if record.source != item.source)
    if others:
        return _("It is also imported as part of %(others)s.") % {"others": ", ".join(others)}
    if own is None:
        return _("It is there already, and was not made by an import of this file.")
    by_hand = sorted(name for name, value in old.items() if not _is_as_imported(own, name, value))
    return _changed(by_hand)


def _changed(names: list[str]) -> str:
    return _("Changed by hand: %(names)s.") % {"names": ", ".join(names)} if names else ""


def _removal(record: ImportedObject, stored: Stored | None, *, shared: bool) -> Change:
    """Return what becomes of an object that the file no longer has."""
    action = _removing(record, exists=stored is not None, shared=shared)
    known = {} if stored is None else stored.fields(record.digests)
    by_hand = sorted(name for name, value in known.items() if not _is_as_imported(record, name, value))
    reset = _unsaid_topic(record.key) if action is Action.RESET else None
    return Change(
        action=action,
        kind=record.kind,
        key=record.key,
        source=record.source,
        fields={} if reset is None else reset.fields(record.digests),
        writes=reset,
        conflict=_changed(by_hand) if action in (Action.DELETE, Action.RESET) else "",
    )


def _unsaid_topic(key: str) -> Stored:
    """Return a topic of which nothing was said: every field has its default."""
    cluster, _, name = key.rpartition("/")
    return Stored(TopicSpec(cluster=cluster, name=name))


def _removing(record: ImportedObject, *, exists: bool, shared: bool) -> Action:
    if not exists or not record.digests or (shared and record.kind == "topic"):
        return Action.FORGET
    if record.kind in ("cluster", "guard"):
        return Action.KEEP
    return Action.RESET if record.kind == "topic" else Action.DELETE


def _shown(name: str, old: Any, new: Any) -> str:
    if name in _SECRET:
        return f"{name} changed"
    return f"{name}: {_text(old)} → {_text(new)}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
