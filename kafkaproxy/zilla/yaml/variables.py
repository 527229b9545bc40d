"""Environment references of a file: kept as written, and checked if an unset variable would open or break something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _

from kafkaproxy.core.env import MissingVariable, env_names, mask_env, resolve_env
from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row

__all__ = ["Variables"]


@dataclass(frozen=True, slots=True)
class Variables:
    """The values that references are checked against. They are looked at and never stored."""

    values: Mapping[str, str]
    report: ImportReport

    def resolve(self, text: str) -> str | None:
        """Return the text with its references filled in, None where one is not set here."""
        try:
            return resolve_env(text, self.values)
        except MissingVariable:
            return None

    def require(self, text: str, place: FilePlace, what: str) -> str | None:
        """Do as :meth:`resolve`, and warn of a variable that is not set: ``what`` cannot do without it."""
        for name in env_names(text):
            if name not in self.values:
                self.report.warn(
                    place,
                    _("%(what)s refers to the environment variable %(name)s, which is not set here.")
                    % {"what": what, "name": name},
                    _("Set it where the server and the worker run, or check a value now with --env."),
                )
        return self.resolve(text)

    def note(self, node: Node, file: str) -> None:
        """Remember the variables under a node; refuse expressions that are filled in from anything else."""
        for leaf in _leaves(node):
            if "${{" not in leaf.text:
                continue
            place = FilePlace(file, leaf.line)
            for name in env_names(leaf.text):
                self.report.variables.setdefault(name, place)
            if "${{" in mask_env(leaf.text):
                message = _("%(leaf)r is not filled in from the environment.") % {"leaf": leaf.text}
                self.report.refuse(place, message, _("Only ${{env.NAME}} is known: pass the value by an environment variable."))


def _leaves(node: Node) -> Iterator[Leaf]:
    waiting: list[Node] = [node]
    while waiting:
        match waiting.pop():
            case Leaf() as leaf:
                yield leaf
            case Row(items=items):
                waiting.extend(reversed(items))
            case Branch(pairs=pairs):
                waiting.extend(each for pair in reversed(pairs) for each in reversed(pair))
