"""Operations of an API and those on Kafka, as routes of an http-kafka or sse-kafka binding."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from kafkaproxy.core.covering import may_overlap
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.zilla.expand.extensions import filters, key, overrides
from kafkaproxy.zilla.expand.guards import OperationGuard
from kafkaproxy.zilla.expand.operations import Source, Target
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, mapping, row, text

__all__ = ["Rule", "RuleCondition", "later_path", "make_rule"]

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
