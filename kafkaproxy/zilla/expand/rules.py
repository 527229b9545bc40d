"""Operations of an API and those on Kafka, as routes of an http-kafka or sse-kafka binding, with their guards.

The guards and roles of an operation come from its security schemes. An unresolved scheme is refused, so no operation is open by
mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.core.covering import may_overlap
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.expand.operations import Source, Target, filters, key, overrides
from kafkaproxy.zilla.expand.specification import ExpandError
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, mapping, row, text

__all__ = ["OperationGuard", "Rule", "RuleCondition", "SchemeGuards", "later_path", "make_rule"]


@dataclass(frozen=True, slots=True)
class OperationGuard:
    """A guard, and the roles that it wants."""

    name: Leaf
    roles: tuple[Leaf, ...]

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """Guard and roles: equal for equal requirements, wherever they stand."""
        return self.name.text, tuple(role.text for role in self.roles)

    def node(self) -> Branch:
        """Return it as ``guarded`` of a route has it."""
        line = self.name.line
        return mapping(line, {self.name.text: row(self.roles, line)})


@dataclass(frozen=True, slots=True)
class SchemeGuards:
    """What one binding says of one specification: which guard stands for which scheme."""

    namespace: str
    schemes: Branch | None = None
    credentials: Leaf | None = None
    """The guard whose credentials a server reads: in the 1.x dialect it stands for every scheme."""

    def of(self, source: Source) -> OperationGuard | None:
        """Return the guard of an operation; None where there is none, or where this binding does not say.

        Raise ``ExpandError`` for alternatives, for two guards at once, and for schemes of which only some are known.
        """
        if not source.security:
            return None
        if len(source.security) > 1:
            message = gettext(
                "%(source)s accepts several alternatives of security; the reference does not serve it at all."
            ) % {"source": source}
            raise ExpandError(_place(source), message, gettext("Leave one alternative."))
        guards = [self._guard(each.scheme) for each in source.security[0]]
        known = [guard for guard in guards if guard is not None]
        if not known:
            return None
        _check(source, guards, sorted({guard.text for guard in known}))
        roles = {role.text: role for each in source.security[0] for role in each.roles}
        return OperationGuard(known[0], tuple(roles.values()))

    def _guard(self, scheme: Leaf) -> Leaf | None:
        named = self.schemes.get(scheme.text) if self.schemes is not None else self.credentials
        if not isinstance(named, Leaf):
            return None
        return Leaf(named.text.removeprefix(f"{self.namespace}:"), named.line, plain=False)


def _check(source: Source, guards: list[Leaf | None], names: list[str]) -> None:
    """Raise for schemes of which only some are known, and for several guards."""
    if None in guards:
        pairs = zip(guards, source.security[0], strict=True)
        missing = ", ".join(repr(each.scheme.text) for guard, each in pairs if guard is None)
        message = gettext("%(source)s also needs %(missing)s, for which no guard is named.") % {
            "source": source,
            "missing": missing,
        }
        advice = gettext("Name a guard for it under security of the specification, or remove it.")
        raise ExpandError(_place(source), message, advice)
    if len(names) > 1:
        message = gettext("%(source)s needs several guards at once (%(names)s); a request has the credentials of one.") % {
            "source": source,
            "names": ", ".join(names),
        }
        raise ExpandError(_place(source), message, gettext("Leave one of its security schemes."))


def _place(source: Source) -> FilePlace:
    return source.specification.at(source.security[0][0].scheme.line if source.security[0] else source.line)


_PARAM: Final = re.compile(r"\{([^{}]*)\}")
_CORRELATION: Final = "{correlationId}"


@lru_cache(maxsize=4096)
def _ends(path: str) -> tuple[str, str]:
    """Return what comes before the first placeholder, and what comes after the last."""
    return re.split(r"[{*]", path, maxsplit=1)[0], re.split(r"[}*]", path)[-1]


def _ends_fit(first: str, second: str) -> bool:
    """Return True if two patterns may match one path, as far as their literal ends say."""
    (head, tail), (other_head, other_tail) = _ends(first), _ends(second)
    begins = head.startswith(other_head) or other_head.startswith(head)
    return begins and (tail.endswith(other_tail) or other_tail.endswith(tail))


@dataclass(frozen=True, slots=True)
class RuleCondition:
    """A method and a path, as a specification writes it."""

    method: Leaf
    path: Leaf

    @property
    def key(self) -> tuple[str, str]:
        """Method and path: equal for equal conditions."""
        return self.method.text, _PARAM.sub("{}", self.path.text)

    @property
    def outer(self) -> Leaf:
        """The path as an http server compares it: anything may stand for a parameter."""
        return text(_PARAM.sub("*", self.path.text), self.path.line)

    def meets(self, other: RuleCondition) -> bool:
        """Return True if a request that an http server lets in by this condition may have the other's method and path."""
        if self.method.text != other.method.text:
            return False
        if not _ends_fit(self.path.text, other.path.text):
            return False  # most of them: parsing each pattern again takes its time
        try:
            return may_overlap(self.outer.text, other.path.text)
        except TemplateError:  # refused where the route is read
            return True


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One route."""

    source: Source
    conditions: tuple[RuleCondition, ...]
    with_: Branch
    guard: OperationGuard | None
    exit: Leaf
    later: RuleCondition | None = None
    """The condition of a status poll; it is served even if it is not among the conditions."""

    def node(self) -> Branch:
        """Return the route as a file would have it."""
        line = self.source.line
        conditions = [self._condition(each) for each in self.conditions]
        properties: dict[str, Node | str | None] = {
            "when": row(conditions, line),
            "guarded": self.guard.node() if self.guard is not None else None,
            "exit": text(self.exit.text, line),
            "with": self.with_,
        }
        return mapping(line, properties)

    def _condition(self, condition: RuleCondition) -> Branch:
        method = None if self.source.is_stream else condition.method
        return mapping(condition.path.line, {"method": method, "path": condition.path})

    def also(self, condition: RuleCondition) -> Rule:
        """Return the rule with one more condition."""
        return replace(self, conditions=(*self.conditions, condition))


def make_rule(
    source: Source, target: Target, guard: OperationGuard | None, identity: Leaf | None, base: str, exit_: Leaf
) -> Rule:
    """Return the route of an operation. ``identity`` is the guard whose identity ``{identity}`` stands for."""
    condition = RuleCondition(source.method, text(base + source.path.text, source.path.line))
    if source.is_stream:
        properties = _stream(source, target, identity)
    elif target.sends:
        properties = _produce(source, target, identity, base)
    else:
        properties = _fetch(source, target, identity)
    path = later_path(source, target)
    later = RuleCondition(text("GET", source.line), text(base + path, source.line)) if path else None
    return Rule(source, (condition,), mapping(target.line, properties), guard, exit_, later)


def later_path(source: Source, target: Target) -> str:
    """Return the path by which clients ask for an answer that comes later; empty where none does."""
    if not target.sends or target.reply_to is None:
        return ""
    return next((value.text for _, value in source.answers if _CORRELATION in value.text), "")


def _stream(source: Source, target: Target, identity: Leaf | None) -> dict[str, Node | str | None]:
    return {"topic": target.topic, "filters": _listed(filters(source, identity), source.line)}


def _fetch(source: Source, target: Target, identity: Leaf | None) -> dict[str, Node | str | None]:
    own = [mapping(source.path.line, {"key": f"${{params.{name}}}"}) for name in _last_param(source)]
    return {
        "capability": "fetch",
        "topic": target.topic,
        "filters": _listed([*own, *filters(source, identity)], source.line),
        "merge": mapping(source.line, {"content-type": "application/json"}) if source.merges else None,
    }


def _produce(source: Source, target: Target, identity: Leaf | None, base: str) -> dict[str, Node | str | None]:
    by_path = [text(f"${{params.{name}}}", source.path.line) for name in _last_param(source)]
    later = target.reply_to is not None and bool(later_path(source, target))
    return {
        "capability": "produce",
        "topic": target.topic,
        "acks": "in_sync_replicas",
        "key": key(source, identity) or (by_path or [text("${idempotencyKey}", source.line)])[0],
        "overrides": overrides(source, identity),
        "reply-to": target.reply_to,
        "correlation-id": target.correlation if target.reply_to is not None else None,
        "async": _answers(source, base) if later else None,
    }


def _answers(source: Source, base: str) -> Branch:
    """Return the fields of an answer that comes later."""
    fields = {name.text: _answer(value, base) for name, value in source.answers}
    return mapping(source.answers[0][1].line, dict(fields))


def _answer(value: Leaf, base: str) -> Leaf:
    path = base if value.text.startswith("/") else ""
    return text(path + _PARAM.sub(_expression, value.text), value.line)


def _expression(found: re.Match[str]) -> str:
    return "${correlationId}" if found[0] == _CORRELATION else f"${{params.{found[1]}}}"


def _last_param(source: Source) -> list[str]:
    return _PARAM.findall(source.path.text)[-1:]


def _listed(items: list[Branch], line: int) -> Node | None:
    return row(items, line) if items else None
