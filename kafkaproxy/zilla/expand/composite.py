"""A binding that stands for others: its specifications, where its servers are, and where it leads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.core.env import mask_env
from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.expand.specification import Catalogs, ExpandError, Specification
from kafkaproxy.zilla.yaml.documents import Document
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Row

__all__ = ["Address", "Choice", "Composite", "Selection", "addresses", "glob"]

Key = tuple[str, str]


def glob(pattern: str) -> re.Pattern[str]:
    """Return a pattern in which ``*`` is any run of characters."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Selection:
    """Operations: of one specification (empty: of any), by name, where ``*`` may stand in it, and by tag."""

    spec: Leaf | None = None
    operation: Leaf | None = None
    tag: Leaf | None = None

    @classmethod
    def read(cls, node: Branch) -> Selection:
        """Read ``when`` or ``with``, in the words of either dialect."""
        return cls(_either(node, "spec", "api-id"), _either(node, "operation", "operation-id"), _either(node, "tag"))

    def admits(self, label: str, name: str, tags: frozenset[str]) -> bool:
        """Return True if an operation is among these."""
        if self.spec is not None and self.spec.text != label:
            return False
        if self.operation is not None and not (name and glob(self.operation.text).fullmatch(name)):
            return False
        return self.tag is None or self.tag.text in tags


def _either(node: Branch, *names: str) -> Leaf | None:
    return next((found for name in names if isinstance(found := node.get(name), Leaf)), None)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A route of a composite binding; its own exit is the last one, for everything."""

    exit: Leaf
    when: tuple[Selection, ...]
    with_: Selection
    line: int

    def admits(self, label: str, name: str, tags: frozenset[str]) -> bool:
        """Return True if an operation takes this route."""
        return not self.when or any(each.admits(label, name, tags) for each in self.when)


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """One such binding of a document."""

    document: Document
    name: Leaf
    node: Branch

    @property
    def type(self) -> str:
        """Its type."""
        return self.node.text("type")

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.node.text("kind")

    @property
    def key(self) -> Key:
        """Its namespace and name."""
        return self.document.name, self.name.text

    @property
    def options(self) -> Branch:
        """Its options."""
        return self.node.branch("options") or Branch((), self.node.line)

    def at(self, line: int) -> FilePlace:
        """Return a line of its file."""
        return self.document.place(line)

    @property
    def place(self) -> FilePlace:
        """Where it stands."""
        return self.at(self.name.line)

    def __str__(self) -> str:
        return f"{self.type} {self.kind} binding {self.name.text!r}"

    def target(self, name: str) -> Key:
        """Resolve ``name`` or ``namespace:name``."""
        first, colon, rest = name.partition(":")
        return (first, rest) if colon else (self.document.name, name)

    def choices(self) -> Iterator[Choice]:
        """Return its routes, in order."""
        for route in self.node.branches("routes"):
            when = tuple(Selection.read(each) for each in route.branches("when"))
            if isinstance(exit_ := route.get("exit"), Leaf):
                yield Choice(exit_, when, Selection.read(route.branch("with") or Branch((), route.line)), route.line)
        if isinstance(exit_ := self.node.get("exit"), Leaf):
            yield Choice(exit_, (), Selection(), exit_.line)

    def specs(self, kind: str = "") -> Branch:
        """Return what stands under ``specs``: for a proxy between two kinds, what stands there for one of them."""
        specs = self.options.branch("specs") or Branch((), self.options.line)
        return specs.branch(kind) or Branch((), specs.line) if kind else specs

    def specifications(self, catalogs: Catalogs, kind: str, *, nested: bool = False) -> list[Specification]:
        """Return its specifications, read; raise ``ExpandError`` for one that cannot be."""
        found = self.specs(kind) if nested else self.specs()
        pairs = [(label, node) for label, node in found.pairs if isinstance(node, Branch)]
        return [catalogs.specification(self.document, label, node, kind) for label, node in pairs]

    def named(self, label: Leaf, specifications: list[Specification]) -> Specification:
        """Return the specification with a label; raise ``ExpandError`` where there is none."""
        for each in specifications:
            if each.label == label.text:
                return each
        message = gettext("There is no specification %(label)r in %(name)r.") % {"label": label.text, "name": self.name.text}
        raise ExpandError(self.at(label.line), message, suggest(label.text, [each.label for each in specifications]))


_URL: Final = re.compile(r"(?:([a-z][a-z0-9+.-]*)://)?([^/]*)(/.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """One server. ``protocol`` is ``http``, ``https``, ``kafka``, ``kafka-secure`` or that of a sibling."""

    protocol: str
    host: str
    """Host and port."""
    path: str | None
    """The prefix of the paths of operations; None: not given."""
    line: int
    declared: Branch | None = None
    """The server of the document that it is."""

    @property
    def port(self) -> str:
        """The port, empty where there is none."""
        _, colon, port = self.host.rpartition(":")
        return port if colon else ""


def addresses(composite: Composite, specification: Specification, node: Branch) -> list[Address]:
    """Return the servers that an entry under ``specs`` names, or else all that the document declares."""
    declared = list(_declared(specification))
    named = list(_named(composite, node))
    found = [_completed(composite, each, declared) for each in named] if named else declared
    for each in found:
        if "{" in mask_env(f"{each.host}{each.path}"):
            message = gettext("The server %(server)r has variables, which are not filled in.") % {
                "server": each.host + (each.path or "")
            }
            raise ExpandError(composite.at(each.line), message, gettext("Write the address under servers of the binding."))
    return found


def _declared(specification: Specification) -> Iterator[Address]:
    if specification.kind == "openapi":
        for item, _ in specification.rows(specification.root, "servers"):
            url = item.get("url")
            if isinstance(url, Leaf):
                yield _parsed(url, item)
        return
    for _, server in specification.branches(specification.root, "servers"):
        host = server.get("host")
        if not isinstance(host, Leaf):
            raise ExpandError(
                specification.at(server.line), gettext("The server has no host."), gettext("Write host and port.")
            )
        path = server.text("pathname").rstrip("/")
        yield Address(server.text("protocol"), host.text, path, host.line, server)


def _parsed(url: Leaf, declared: Branch | None = None) -> Address:
    found = _URL.fullmatch(url.text)
    assert found is not None  # every text fits
    path = found[3] if found[3] is not None else "" if declared is not None else None
    return Address(found[1] or "", found[2], path if path is None else path.rstrip("/"), url.line, declared)


def _named(composite: Composite, node: Branch) -> Iterator[Address]:
    """Return the servers that the binding names: URLs in 2.x, host and path name in 1.x."""
    one, several = node.get("server"), node.get("servers")
    items = several.items if isinstance(several, Row) else ()
    for item in (*([one] if one is not None else []), *items):
        if isinstance(item, Leaf):
            if item.text.startswith("${{"):
                message = gettext("Whether %(url)r is plain or secure, and its path, is not known here.") % {"url": item.text}
                raise ExpandError(
                    composite.at(item.line),
                    message,
                    gettext("Write the protocol as text, such as http://${{env.HOST}}:8080/v1."),
                )
            yield _parsed(item)
        elif isinstance(item, Branch):
            yield _from_1x(composite, item)
        else:
            raise ExpandError(composite.at(item.line), gettext("This is not a server."), gettext("Write its URL."))


def _from_1x(composite: Composite, item: Branch) -> Address:
    if unknown := [key for key, _ in item.pairs if key.text not in ("url", "host", "pathname")]:
        message = gettext("A server has an unknown property %(key)r.") % {"key": unknown[0].text}
        raise ExpandError(composite.at(unknown[0].line), message, gettext("Known here: host, pathname, url."))
    where = item.get("url") or item.get("host")
    path = item.get("pathname")
    found = _parsed(where) if isinstance(where, Leaf) else Address("", "", None, item.line)
    own = path.text.rstrip("/") if isinstance(path, Leaf) else found.path
    return Address(found.protocol, found.host, own, found.line)


def _completed(composite: Composite, named: Address, declared: list[Address]) -> Address:
    """Complete an address from the server of the document that it stands for."""
    same = [each for each in declared if not named.host or each.host == named.host]
    protocols = {each.protocol for each in same or declared}
    protocol = named.protocol or (protocols.pop() if len(protocols) == 1 else "")
    if not protocol:
        message = gettext("Nothing says which protocol %(host)r speaks.") % {"host": named.host}
        raise ExpandError(
            composite.at(named.line), message, gettext("Write it as a URL, such as http://… or kafka-secure://….")
        )
    meant = next((each for each in same if each.protocol in ("", protocol)), None)
    path = named.path
    if path is None:
        path = meant.path if meant is not None else _common_path(composite, named, protocol, declared)
    host = named.host or (meant.host if meant is not None else "")
    others = [each for each in declared if each.protocol == protocol]
    meant = meant or (others[0] if len(others) == 1 else None)
    return Address(protocol, host, path, named.line, meant.declared if meant is not None else None)


def _common_path(composite: Composite, named: Address, protocol: str, declared: list[Address]) -> str:
    """Return the path of a server that the document does not declare: none, as long as the declared have none."""
    paths = {each.path for each in declared if each.protocol in ("", protocol) and each.path}
    if not paths:
        return ""
    message = gettext("The specification has its operations under %(paths)s, %(host)r names no path.") % {
        "paths": ", ".join(sorted(map(repr, paths))),
        "host": named.host,
    }
    raise ExpandError(composite.at(named.line), message, gettext("Write the path into the URL here; a lone / for none."))
