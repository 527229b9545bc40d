"""From documents with asyncapi, openapi and openapi-asyncapi bindings to documents without them.

Everything behind this step sees the bindings that they stand for. A composite binding that has nothing to do with HTTP and
Kafka stays as it is, and is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.specs.types import Line
from kafkaproxy.zilla.bindings.grammar import CLIENT, COMPOSITE_SHAPES, COMPOSITES, PROXY, SERVER
from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.expand.checks import Checks
from kafkaproxy.zilla.expand.clients import client_nodes
from kafkaproxy.zilla.expand.composite import Composite, Key
from kafkaproxy.zilla.expand.mappings import check_answers, mapping_node, proxy_rules, rules_of_group
from kafkaproxy.zilla.expand.pairs import Proxy, read_proxy
from kafkaproxy.zilla.expand.rules import Rule
from kafkaproxy.zilla.expand.servers import Group, Server, front_nodes, http_node, read_servers
from kafkaproxy.zilla.expand.specification import Catalogs, ExpandError, Specification, reported
from kafkaproxy.zilla.names import Names
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.documents import Document
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row, mapping, text

__all__ = ["expand_composites"]

_KINDS: Final = (*COMPOSITE_SHAPES, ("openapi", CLIENT))


def expand_composites(documents: list[Document], catalogs: Catalogs, report: ImportReport, *, schemas: bool) -> list[Document]:
    """Return the documents with their composite bindings written out; what cannot be is refused in ``report``.

    ``schemas``: refuse specifications whose schemas would have to be checked; otherwise only warn of them.
    """
    found = [each for document in documents for each in _composites(document)]
    if not found:
        return documents
    others = {(document.name, name) for document in documents for name in _names(document)}
    expansion = _Expansion({each.key: each for each in found}, others, catalogs, report, Checks(report, not schemas))
    expansion.run()
    if report.is_refused():
        return documents
    return [expansion.document(each) for each in documents]


def _names(document: Document) -> list[str]:
    bindings = document.body.branch("bindings")
    return [name.text for name, _ in bindings.pairs] if bindings is not None else []


def _composites(document: Document) -> Iterator[Composite]:
    bindings = document.body.branch("bindings")
    for name, node in bindings.pairs if bindings is not None else ():
        if isinstance(node, Branch) and node.text("type") in COMPOSITES:
            yield Composite(document, name, node)


@dataclass(slots=True)
class _Expansion:
    """One run over all documents."""

    composites: dict[Key, Composite]
    names: set[Key]
    """All bindings."""
    catalogs: Catalogs
    report: ImportReport
    checks: Checks
    nodes: dict[Key, list[tuple[str, Branch]]] = field(default_factory=dict)
    """What each composite binding has become."""
    _proxies: dict[Key, Proxy] = field(default_factory=dict)
    _clients: dict[tuple[Key, tuple[str, str]], str] = field(default_factory=dict)
    """The binding that a proxy leads to, by client and by catalog and subject."""
    _reached: set[Key] = field(default_factory=set)
    _taken: dict[str, Names] = field(default_factory=dict)

    def run(self) -> None:
        """Expand everything."""
        self._check_kinds()
        for proxy in self._of(PROXY):
            self._read(proxy)
        self._check_schemas()
        for key, read in self._proxies.items():
            self.nodes[key] = []
            for exit_, specification in read.targets:
                with reported(self.report):
                    self._client(read.composite, exit_, specification)
        for server in self._of(SERVER):
            self._expand_server(server)
        for key, read in self._proxies.items():
            apart = key not in self._reached  # in a part of a configuration, or where nothing leads to it
            if apart and not self.report.is_refused():
                self._map(read, proxy_rules(read, None, self.report))
        self._list_left()
        self._check_others()

    def _of(self, kind: str) -> list[Composite]:
        return [each for each in self.composites.values() if each.kind == kind]

    def _check_kinds(self) -> None:
        """Refuse what is misspelt: it would be left out like a binding that has nothing to do with HTTP and Kafka."""
        for composite in self.composites.values():
            known = [kind for type_, kind in _KINDS if type_ == composite.type]
            if composite.kind not in known:
                place = composite.at(composite.node.line_of("kind"))
                self.report.refuse(
                    place,
                    gettext("There is no %(composite)s.") % {"composite": composite},
                    suggest(composite.kind, known),
                )
        for server in self._of(SERVER):
            for choice in server.choices():
                if server.target(choice.exit.text) not in self.names:
                    known = [name for namespace, name in self.names if namespace == server.document.name]
                    message = gettext("There is no binding %(exit)r.") % {"exit": choice.exit.text}
                    self.report.refuse(server.at(choice.exit.line), message, suggest(choice.exit.text, known))

    def _fits(self, composite: Composite) -> bool:
        """Check the properties of a binding that is about to be expanded."""
        problems = list(COMPOSITE_SHAPES[composite.type, composite.kind].problems(composite.node, composite.name.text))
        for problem in problems:
            self.report.refuse(composite.at(problem.line), problem.message, problem.advice)
        return not problems

    def _read(self, composite: Composite) -> None:
        if (composite.type, PROXY) not in COMPOSITE_SHAPES or not self._fits(composite):
            return
        with reported(self.report):
            proxy = read_proxy(composite, self.catalogs, self.report)
            if proxy.sources and not proxy.pairs and not self.report.is_refused():
                message = gettext("No operation of %(name)r has one on Kafka.") % {"name": composite.name.text}
                raise ExpandError(composite.place, message, gettext("Give them the same names, or pair them in routes."))
            if proxy.pairs:
                self._proxies[composite.key] = proxy

    def _check_schemas(self) -> None:
        """Look at the schemas of what is served, and of the topics that are used."""
        for read in self._proxies.values():
            self.checks.of_sources(pair.source for pair in read.pairs)
        used: dict[tuple[str, str], tuple[Specification, set[str]]] = {}
        for target in (pair.target for read in self._proxies.values() for pair in read.pairs):
            _, topics = used.setdefault(target.specification.origin, (target.specification, set()))
            topics.update(leaf.text for leaf in (target.topic, target.reply_to) if leaf is not None)
        for specification, topics in used.values():
            self.checks.of_topics(specification, topics)

    def _client(self, proxy: Composite, exit_: Leaf, specification: Specification) -> None:
        """Expand the client that a proxy leads to, for one specification."""
        key = proxy.target(exit_.text)
        if key not in self.names or (key, specification.origin) in self._clients:
            return  # no such binding: refused where exits are, unless the Kafka side was left out on purpose
        composite = self.composites.get(key)
        if composite is None or (composite.type, composite.kind) != ("asyncapi", CLIENT):
            raise ExpandError(
                proxy.at(exit_.line), gettext("%(exit)r is no asyncapi client.") % {"exit": exit_.text}, gettext("Lead to one.")
            )
        if not self._fits(composite):
            return
        known = composite.specifications(self.catalogs, "asyncapi")
        own = next((each for each in known if each.origin == specification.origin), None)
        if own is None:
            message = gettext("%(composite)s has no specification from the subject %(subject)r.") % {
                "composite": composite,
                "subject": specification.origin[1],
            }
            raise ExpandError(proxy.at(exit_.line), message, gettext("Name the same catalog and subject in both."))
        node = composite.specs().branch(own.label) or Branch((), own.root.line)
        name = composite.name.text if len(known) == 1 else f"{composite.name.text}.{own.label}"
        nodes = list(client_nodes(composite, own, node, name))
        self.nodes.setdefault(composite.key, []).extend(nodes)
        namespace = f"{composite.document.name}:" if composite.document is not proxy.document else ""
        self._clients[composite.key, own.origin] = namespace + nodes[0][0]

    def _expand_server(self, composite: Composite) -> None:
        targets = {composite.target(choice.exit.text) for choice in composite.choices()}
        if not targets & self._proxies.keys() or not self._fits(composite):
            return
        with reported(self.report):
            servers = read_servers(composite, self.catalogs, self.report)
            self.nodes[composite.key] = [each for server in servers for each in self._server_nodes(server)]

    def _server_nodes(self, server: Server) -> Iterator[tuple[str, Branch]]:
        rules: dict[Key, list[Rule]] = {}
        routes: list[tuple[Group, str]] = []
        behind: list[tuple[str, Branch]] = []
        for group in server.groups(self.report):
            proxy = self._proxies.get(group.exit)
            if proxy is not None and group.exit not in rules:
                _check_neighbours(server, proxy)
                self._reached.add(group.exit)
                rules[group.exit] = proxy_rules(proxy, server, self.report)
            found = rules_of_group(rules[group.exit], group, server) if proxy is not None else []
            if proxy is None or not found:
                routes.append((group, self._unserved(server, behind)))
                continue
            name = self._map(proxy, found)
            if group.is_stream:
                name = self._stream(server, name, behind)
            routes.append((group, name))
        yield from front_nodes(server)
        yield server.name, http_node(server, routes)
        yield from behind

    def _map(self, proxy: Proxy, rules: list[Rule]) -> str:
        """Make the bindings of a proxy and return the name of the first."""
        with reported(self.report):
            check_answers(rules)
        composite = proxy.composite
        rules = [replace(rule, exit=self._exit(composite, rule)) for rule in rules]
        made = []
        for is_stream in (False, True):
            if some := [rule for rule in rules if rule.source.is_stream is is_stream]:
                name = self._name(composite, composite.name.text)
                self.nodes[composite.key].append((name, mapping_node(composite, some, is_stream=is_stream)))
                made.append(name)
        return made[0]

    def _exit(self, proxy: Composite, rule: Rule) -> Leaf:
        specification = next(pair.target.specification for pair in self._proxies[proxy.key].pairs if pair.exit is rule.exit)
        entry = self._clients.get((proxy.target(rule.exit.text), specification.origin))
        return rule.exit if entry is None else text(entry, rule.exit.line)

    def _unserved(self, server: Server, behind: list[tuple[str, Branch]]) -> str:
        """Return the name of something that is not imported: what leads to it is a barrier."""
        name = f"{server.name}.unserved"
        if all(name != known for known, _ in behind):
            line = server.composite.name.line
            behind.append((name, mapping(line, {"type": server.composite.type, "kind": "proxy"})))
        return name

    def _stream(self, server: Server, mapping_name: str, behind: list[tuple[str, Branch]]) -> str:
        name = self._name(server.composite, f"{server.name}.sse")
        node = mapping(server.composite.name.line, {"type": "sse", "kind": "server", "exit": mapping_name})
        behind.append((name, node))
        return name

    def _name(self, composite: Composite, wish: str) -> str:
        return self._taken.setdefault(composite.document.name, Names()).take(wish)

    def _list_left(self) -> None:
        """List the composite bindings that have nothing to do with HTTP and Kafka."""
        for key, composite in self.composites.items():
            if key not in self.nodes and not self.report.is_refused():
                message = gettext("The %(composite)s is not imported: it does not lead from HTTP to Kafka.") % {
                    "composite": composite
                }
                self.report.ignore(composite.place, message)

    def _check_others(self) -> None:
        """Refuse other bindings that lead to expanded ones: in the reference they would not understand each other."""
        for document in {id(each.document): each.document for each in self.composites.values()}.values():
            bindings = document.body.branch("bindings")
            for name, node in bindings.pairs if bindings is not None else ():
                if isinstance(node, Branch) and (document.name, name.text) not in self.composites:
                    for choice in Composite(document, name, node).choices():
                        self._check_other(document, name, choice.exit)

    def _check_other(self, document: Document, name: Leaf, exit_: Leaf) -> None:
        first, colon, rest = exit_.text.partition(":")
        composite = self.composites.get((first, rest) if colon else (document.name, first))
        if composite is not None and composite.key in self.nodes:
            message = gettext("%(name)r cannot lead to the %(composite)s: only asyncapi and openapi bindings do.") % {
                "name": name.text,
                "composite": composite,
            }
            self.report.refuse(document.place(exit_.line), message, gettext("Lead to a binding that is written out."))

    def document(self, document: Document) -> Document:
        """Return a document with its composite bindings written out."""
        bindings = document.body.branch("bindings")
        if bindings is None:
            return document
        pairs = [pair for name, node in bindings.pairs for pair in self._pairs(document, name, node)]
        self._check_expressions(document, pairs)
        self._check_names(document, pairs)
        changed = Branch(tuple(pairs), bindings.line)
        used = "catalogs" if document.name in self.catalogs.used else ""
        body = [(key, changed if value is bindings else value) for key, value in document.body.pairs if key.text != used]
        return replace(document, body=Branch(tuple(body), document.body.line))

    def _pairs(self, document: Document, name: Leaf, node: Node) -> Iterator[tuple[Leaf, Node]]:
        made = self.nodes.get((document.name, name.text))
        if made is None:
            yield name, node
        for each, branch in made or ():
            yield text(each, name.line), branch

    def _check_names(self, document: Document, pairs: Iterable[tuple[Leaf, Node]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name.text in seen:
                message = gettext("The name %(name)r is needed for a part of an expanded binding.") % {"name": name.text}
                self.report.refuse(document.place(name.line), message, gettext("Rename the binding that has it."))
            seen.add(name.text)

    def _check_expressions(self, document: Document, pairs: Iterable[tuple[Leaf, Node]]) -> None:
        """Refuse expressions that come from files: the reference fills them in in the zilla.yaml only."""
        for leaf in (leaf for _, node in pairs for leaf in _leaves(node)):
            if "${{" in leaf.text and isinstance(leaf.line, Line) and leaf.line.file != document.file:
                message = gettext("%(leaf)r is not filled in: expressions belong to the zilla.yaml.") % {"leaf": leaf.text}
                self.report.refuse(
                    document.place(leaf.line), message, gettext("Write the value, or use a catalog of type inline.")
                )


def _check_neighbours(server: Server, proxy: Proxy) -> None:
    """Raise where a proxy does not know what the server serves, or would look for its guards elsewhere."""
    place = server.specification.place
    if server.composite.document is not proxy.composite.document:
        message = gettext("%(server)r and %(proxy)r are in different documents.") % {
            "server": server.composite.name.text,
            "proxy": proxy.composite.name.text,
        }
        raise ExpandError(place, message, gettext("Put both into one."))
    if all(source.specification.origin != server.specification.origin for source in proxy.sources):
        message = gettext("%(name)r has no specification from the subject %(subject)r.") % {
            "name": proxy.composite.name.text,
            "subject": server.specification.origin[1],
        }
        raise ExpandError(place, message, gettext("Name the same catalog and subject in both."))


def _leaves(node: Node) -> Iterator[Leaf]:
    match node:
        case Leaf():
            yield node
        case Row():
            for item in node.items:
                yield from _leaves(item)
        case Branch():
            for _, value in node.pairs:
                yield from _leaves(value)
