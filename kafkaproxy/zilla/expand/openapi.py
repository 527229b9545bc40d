"""Operations of an OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.expand.operations import (
    EXTENSIONS,
    JSON,
    OPENAPI,
    Alternative,
    Requirement,
    Source,
    check_keys,
    tag_names,
)
from kafkaproxy.zilla.expand.specification import ExpandError, Specification, reported
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Row, text

__all__ = ["sources"]

_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch", "head", "options", "trace"})
_CORRELATION: Final = "{correlationId}"
_PLAIN: Final = frozenset({"type", "description", "example", "examples", "title", "default"})
"""What a schema of a text may have without checking anything."""


def sources(specification: Specification, report: ImportReport) -> Iterator[Source]:
    """Return the operations, in the order of the document; what is wrong with one is refused."""
    paths = specification.branch(specification.root, "paths")
    for path, value in paths.pairs if paths is not None else ():
        if not path.text.startswith("/"):
            continue
        with reported(report):
            item = specification.follow(value)
            if not isinstance(item, Branch):
                raise ExpandError(
                    specification.at(path.line),
                    gettext("%(path)r is not a mapping.") % {"path": path.text},
                    gettext("Write 'name: value' pairs."),
                )
            for method, operation in item.pairs:
                if method.text in _METHODS:
                    with reported(report):
                        yield _source(specification, path, item, method, specification.follow(operation))


def _source(specification: Specification, path: Leaf, item: Branch, method: Leaf, node: object) -> Source:
    if not isinstance(node, Branch):
        raise ExpandError(
            specification.at(method.line),
            gettext("%(method)r is not a mapping.") % {"method": method.text},
            gettext("Write 'name: value' pairs."),
        )
    check_keys(specification, node, OPENAPI)
    _check_unsupported(specification, item, node)
    responses = list(_responses(specification, node))
    return Source(
        specification=specification,
        name=node.text("operationId"),
        line=method.line,
        method=text(method.text.upper(), method.line),
        path=path,
        is_stream=False,
        tags=tag_names(specification, node),
        security=tuple(_security(specification, node)),
        merges=any(_is_list(specification, response) for _, response in responses),
        answers=tuple(_answers(specification, responses)),
        extension=specification.branch(node, EXTENSIONS[0]),
        checks=tuple(_checks(specification, item, node)),
    )


def _check_unsupported(specification: Specification, item: Branch, node: Branch) -> None:
    for holder in (item, node):
        if "servers" in holder:
            message = gettext("Servers of single operations are not understood.")
            raise ExpandError(
                specification.at(holder.line_of("servers")), message, gettext("Give the whole document one list of servers.")
            )
    for name in EXTENSIONS[1:]:
        if name in node:
            message = gettext("%(name)s: an OpenAPI operation does not become a stream.") % {"name": name}
            raise ExpandError(
                specification.at(node.line_of(name)), message, gettext("Describe streams in an AsyncAPI document.")
            )


def _security(specification: Specification, node: Branch) -> Iterator[Alternative]:
    """Return the requirements of an operation, or else the document's."""
    holder = node if "security" in node else specification.root
    for _, alternative in specification.rows(holder, "security"):
        found = []
        for scheme, scopes in alternative.pairs:
            if specification.scheme(scheme.text) is None:
                message = gettext("There is no security scheme %(scheme)r.") % {"scheme": scheme.text}
                raise ExpandError(
                    specification.at(scheme.line), message, gettext("Define it under components.securitySchemes.")
                )
            items = scopes.items if isinstance(scopes, Row) else ()
            found.append(Requirement(scheme, tuple(each for each in items if isinstance(each, Leaf))))
        yield tuple(found)


def _responses(specification: Specification, node: Branch) -> Iterator[tuple[Leaf, Branch]]:
    yield from specification.branches(node, "responses")


def _is_list(specification: Specification, response: Branch) -> bool:
    """Return True if the first JSON content of a response is a list."""
    for name, content in specification.branches(response, "content"):
        if JSON.fullmatch(name.text):
            schema = specification.branch(content, "schema")
            return schema is not None and schema.text("type") == "array"
    return False


def _answers(specification: Specification, responses: list[tuple[Leaf, Branch]]) -> Iterator[tuple[Leaf, Leaf]]:
    """Return the fields of a 202, if one of them says where the outcome is asked for."""
    found = []
    for status, response in responses:
        if status.text == "202":
            for name, header in specification.branches(response, "headers"):
                schema = specification.branch(header, "schema")
                template = schema.get("format") if schema is not None else None
                if isinstance(template, Leaf):
                    found.append((text(name.text.lower(), name.line), template))
    if any(_CORRELATION in template.text for _, template in found):
        yield from found


def _checks(specification: Specification, item: Branch, node: Branch) -> Iterator[int]:
    for _, content in specification.branches(specification.branch(node, "requestBody"), "content"):
        if "schema" in content:
            yield content.line_of("schema")
    for holder in (item, node):
        for _, parameter in specification.rows(holder, "parameters"):
            if "content" in parameter or not _is_any_text(specification.branch(parameter, "schema")):
                yield parameter.line


def _is_any_text(schema: Branch | None) -> bool:
    """Return True if every value of a parameter fits."""
    return schema is None or (schema.text("type") == "string" and all(key.text in _PLAIN for key, _ in schema.pairs))
