"""From documents to the binding graph: names found, references resolved, cycles refused, properties checked.

Bindings lead onward by ``exit``, on each route and, tried last, on the binding. Only the bindings on the way from a socket to
a mapping, and from there to Kafka, are checked against the grammar; other bindings are reported as ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from django.utils.translation import gettext as _

from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.bindings.grammar import BINDINGS, COMPOSITES, MAPPINGS, TOP
from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.documents import Document
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Row

__all__ = ["BUILT_INS", "Binding", "Declaration", "Exit", "Graph", "build_graph"]

Key = tuple[str, str]

_FRONT: Final = frozenset({"tcp", "tls", "http", "sse"})
BUILT_INS: Final = frozenset({"sys:tcp_client", "sys:tls_client", "sys:http_client"})
"""Bindings that the reference offers without declaring them."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A guard or vault of a namespace."""

    name: str
    type: str
    options: Branch | None
    place: FilePlace
    namespace: str


@dataclass(frozen=True, slots=True, eq=False)
class Exit:
    """A route of a binding; the binding's own exit is the last one, without conditions and guards."""

    target: str
    place: FilePlace
    when: tuple[Branch, ...] = ()
    options: Branch | None = None
    """What stands under ``with``."""
    guarded: tuple[tuple[Leaf, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """A binding and its routes, in order."""

    namespace: str
    name: str
    type: str
    kind: str
    node: Branch
    place: FilePlace
    exits: tuple[Exit, ...]

    @property
    def key(self) -> Key:
        """Namespace and name: names repeat between namespaces."""
        return self.namespace, self.name

    @property
    def options(self) -> Branch:
        """The options; an empty mapping where there are none."""
        return self.node.branch("options") or Branch((), self.node.line)

    def at(self, line: int) -> FilePlace:
        """Return a line of the same file."""
        return FilePlace(self.place.file, line)

    def __str__(self) -> str:
        return f"{self.type} {self.kind} binding {self.name!r}"


@dataclass(slots=True)
class Graph:
    """All bindings, guards and vaults of the documents, by namespace and name."""

    bindings: dict[Key, Binding] = field(default_factory=dict)
    guards: dict[Key, Declaration] = field(default_factory=dict)
    vaults: dict[Key, Declaration] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)
    _upstream: set[Key] | None = None

    def target(self, binding: Binding, exit_: Exit) -> Binding | None:
        """Return where an exit leads; None for a built-in binding and for a name that does not exist."""
        return self.bindings.get(_key(exit_.target, binding.namespace))

    def guard(self, name: str, namespace: str) -> Declaration | None:
        """Return a guard by the name a binding of the namespace uses for it."""
        return self.guards.get(_key(name, namespace))

    def vault(self, name: str, namespace: str) -> Declaration | None:
        """Return a vault by the name a binding of the namespace uses for it."""
        return self.vaults.get(_key(name, namespace))

    def next(self, binding: Binding) -> Iterator[Binding]:
        """Return the bindings that follow."""
        for exit_ in binding.exits:
            if (target := self.target(binding, exit_)) is not None:
                yield target

    def of(self, type_: str, kind: str = "") -> list[Binding]:
        """Return the bindings of a type, in the order of the files."""
        return [each for each in self.bindings.values() if each.type == type_ and kind in ("", each.kind)]

    def fronts(self) -> list[Binding]:
        """Return the bindings where requests come in: tcp servers; in a fragment, the bindings that no other one leads to."""
        if tcp_servers := self.of("tcp", "server"):
            return [each for each in tcp_servers if each.key in self.upstream()]
        led_to = {target.key for binding in self.bindings.values() for target in self.next(binding)}
        return [each for key, each in self.bindings.items() if key in self.upstream() and key not in led_to]

    @property
    def is_fragment(self) -> bool:
        """Return True if this is a part of a configuration: it has no server that listens, and no client of Kafka."""
        return not self.of("tcp", "server") and not self.of("kafka")

    def upstream(self) -> set[Key]:
        """Return the bindings that lead to a mapping, mappings included; to be asked once the graph is complete."""
        if self._upstream is None:
            self._upstream = self._find_upstream()
        return self._upstream

    def _find_upstream(self) -> set[Key]:
        before: dict[Key, list[Key]] = {}
        for binding in self.bindings.values():
            for target in self.next(binding):
                before.setdefault(target.key, []).append(binding.key)
        return _closure((each.key for each in self.bindings.values() if each.type in MAPPINGS), before)

    def downstream(self) -> set[Key]:
        """Return the bindings between a mapping and Kafka, mappings included."""
        after = {each.key: [target.key for target in self.next(each)] for each in self.bindings.values()}
        return _closure((each.key for each in self.bindings.values() if each.type in MAPPINGS), after)


def build_graph(documents: list[Document], report: ImportReport) -> Graph:
    """Return the graph of the documents; what is wrong with it is refused in ``report``."""
    graph = Graph(documents=documents)
    for document in documents:
        _read_document(document, graph, report)
    if not report.is_refused():
        _check_cycles(graph, report)
        _check_bindings(graph, report)
    return graph


def _key(name: str, namespace: str) -> Key:
    """Resolve ``name`` or ``namespace:name``."""
    first, colon, rest = name.partition(":")
    return (first, rest) if colon else (namespace, name)


def _closure(start: Iterable[Key], edges: dict[Key, list[Key]]) -> set[Key]:
    found: set[Key] = set()
    waiting = list(start)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting.extend(edges.get(key, ()))
    return found


def _read_document(document: Document, graph: Graph, report: ImportReport) -> None:
    for problem in TOP.problems(document.body, "The configuration"):
        report.refuse(document.place(problem.line), problem.message, problem.advice)
    for section, found in (("guards", graph.guards), ("vaults", graph.vaults)):
        for key, node in _children(document.body, section):
            place = document.place(key.line)
            found[document.name, key.text] = Declaration(
                key.text, node.text("type"), node.branch("options"), place, document.name
            )
    for key, node in _children(document.body, "bindings"):
        binding = _read_binding(document, key, node, report)
        graph.bindings[binding.key] = binding


def _children(body: Branch, section: str) -> Iterator[tuple[Leaf, Branch]]:
    branch = body.branch(section)
    for key, node in branch.pairs if branch is not None else ():
        if isinstance(node, Branch):
            yield key, node


def _read_binding(document: Document, key: Leaf, node: Branch, report: ImportReport) -> Binding:
    place = document.place(key.line)
    for name in ("type", "kind"):
        if not node.text(name):
            report.refuse(
                place,
                _("The binding %(key)r has no %(name)s.") % {"key": key.text, "name": name},
                _("Add %(name)s.") % {"name": name},
            )
    exits = [_read_exit(document, route) for route in node.branches("routes")]
    if default := node.text("exit"):
        exits.append(Exit(default, document.place(node.line_of("exit"))))
    exits = [each for each in exits if each.target or node.text("type") == "tcp"]
    return Binding(document.name, key.text, node.text("type"), node.text("kind"), node, place, tuple(exits))


def _read_exit(document: Document, route: Branch) -> Exit:
    guarded = route.branch("guarded")
    return Exit(
        target=route.text("exit"),
        place=document.place(route.line_of("exit")),
        when=tuple(route.branches("when")),
        options=route.branch("with"),
        guarded=tuple(
            (guard, tuple(item.text for item in roles.items if isinstance(item, Leaf)))
            for guard, roles in (guarded.pairs if guarded is not None else ())
            if isinstance(roles, Row)
        ),
    )


def _check_bindings(graph: Graph, report: ImportReport) -> None:
    """Check the bindings on the way against the grammar, and resolve what they refer to."""
    on_the_way = graph.upstream() | graph.downstream()
    for binding in graph.bindings.values():
        if binding.type in COMPOSITES:
            continue
        if binding.key not in on_the_way:
            if binding.type in _FRONT:  # a misspelt exit may be all that keeps it from being on the way
                _check_exits(binding, graph, report)
            continue
        shape = BINDINGS.get((binding.type, binding.kind))
        if shape is None:
            _refuse_unknown(binding, report)
            continue
        for problem in shape.problems(binding.node, binding.name):
            report.refuse(binding.at(problem.line), problem.message, problem.advice)
        _check_references(binding, graph, report)


def _refuse_unknown(binding: Binding, report: ImportReport) -> None:
    kinds = sorted(kind for type_, kind in BINDINGS if type_ == binding.type)
    if kinds:
        message = _("The binding %(binding)r is on the way to a mapping, and its kind is %(binding_kind)r.") % {
            "binding": binding.name,
            "binding_kind": binding.kind,
        }
        report.refuse(binding.at(binding.node.line_of("kind")), message, suggest(binding.kind, kinds))
        return
    message = _("The binding %(binding)r is on the way to a mapping, and its type %(binding_type)r is not understood.") % {
        "binding": binding.name,
        "binding_type": binding.type,
    }
    advice = suggest(binding.type, {type_ for type_, _ in BINDINGS})
    report.refuse(binding.at(binding.node.line_of("type")), message, _("%(advice)s Or lead around it.") % {"advice": advice})


def _check_exits(binding: Binding, graph: Graph, report: ImportReport) -> None:
    for exit_ in binding.exits:
        if not _leads_somewhere(binding, exit_, graph):
            names = [name for namespace, name in graph.bindings if namespace == binding.namespace]
            report.refuse(
                exit_.place,
                _("There is no binding %(target)r.") % {"target": exit_.target},
                suggest(exit_.target, names),
            )


def _check_references(binding: Binding, graph: Graph, report: ImportReport) -> None:
    _check_exits(binding, graph, report)
    for exit_ in binding.exits:
        for guard, _roles in exit_.guarded:
            if graph.guard(guard.text, binding.namespace) is None:
                names = [name for namespace, name in graph.guards if namespace == binding.namespace]
                advice = suggest(guard.text, names) if names else _("Define it under guards.")
                report.refuse(binding.at(guard.line), _("There is no guard %(guard)r.") % {"guard": guard.text}, advice)


def _leads_somewhere(binding: Binding, exit_: Exit, graph: Graph) -> bool:
    if not exit_.target or exit_.target in BUILT_INS or graph.target(binding, exit_) is not None:
        return True
    return graph.is_fragment and binding.type in MAPPINGS  # its Kafka side is in the part that was not given


def _check_cycles(graph: Graph, report: ImportReport) -> None:
    """Refuse bindings that lead back to themselves. Not recursive: a chain may be longer than Python's stack."""
    done: set[Key] = set()
    for start in graph.bindings.values():
        path: dict[Key, None] = {}
        waiting = [(start, False)]
        while waiting:
            binding, leaving = waiting.pop()
            if leaving:
                path.popitem()
                done.add(binding.key)
            elif binding.key in path:
                _refuse_cycle(binding, list(path), report)
                return
            elif binding.key not in done:
                path[binding.key] = None
                waiting.append((binding, True))
                waiting.extend((target, False) for target in graph.next(binding))


def _refuse_cycle(binding: Binding, path: list[Key], report: ImportReport) -> None:
    circle = [*(name for _, name in path[path.index(binding.key) :]), binding.name]
    message = _("The bindings lead in a circle: %(circle)s.") % {"circle": " → ".join(circle)}
    report.refuse(binding.place, message, _("Change one of their exits."))
