"""Which clients may use an operation: its security schemes, as guards and roles. An unresolved guard is refused."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext

from kafkaproxy.specs.places import FilePlace
from kafkaproxy.zilla.expand.operations import Source
from kafkaproxy.zilla.expand.specification import ExpandError
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, mapping, row

__all__ = ["OperationGuard", "SchemeGuards"]


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
