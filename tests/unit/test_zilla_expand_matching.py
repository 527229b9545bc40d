"""Whatever the operations are: a request gets where the reference's generated bindings would send it.

There each operation is a route of the http server, and all of them lead to one http-kafka binding with all its routes. Here
operations are grouped, and each group has only the routes that it can reach.
"""

from __future__ import annotations

import json
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.specs.types import EntrySpec
from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_apis import PETS

Operation = tuple[str, str, bool, bool]
"""A path, a method, whether it is guarded, and whether it has an operation on Kafka."""

_PATHS = ["/a", "/a/b", "/a/{x}", "/{x}/b", "/{x}/{y}", "/a{x}", "/{x}"]
_METHODS = ["get", "put"]
_REQUESTS = ["/a", "/a/b", "/a/c", "/c/b", "/c/d", "/ab", "/c"]
_OPERATIONS = st.lists(
    st.tuples(st.sampled_from(_PATHS), st.sampled_from(_METHODS), st.booleans(), st.booleans()),
    min_size=1,
    max_size=7,
    unique_by=lambda each: each[:2],
).filter(lambda found: any(each[3] for each in found))


def _specification(operations: list[Operation]) -> str:
    paths: dict[str, dict[str, object]] = {}
    for number, (path, method, guarded, mapped) in enumerate(operations):
        name = ("listPets" if method == "get" else "savePet") if mapped else f"other{number}"
        security: dict[str, object] = {"security": [{"keepers": []}]} if guarded else {}
        paths.setdefault(path, {})[method] = {"operationId": name, **security}
    schemes = {"securitySchemes": {"keepers": {"type": "http"}}}
    return json.dumps({"openapi": "3.0.3", "paths": paths, "components": schemes})


def _in_order(operations: list[Operation]) -> list[Operation]:
    """Return the operations as the document has them: path by path."""
    paths = list(dict.fromkeys(path for path, *_ in operations))
    return [each for path in paths for each in operations if each[0] == path]


def _glob(path: str) -> str:
    return path.replace("{x}", "*").replace("{y}", "*")


def _fits(pattern: str, path: str) -> bool:
    return not pattern or PathTemplate.parse(pattern).match(path) is not None


def _reference(operations: list[Operation], method: str, path: str, *, known: bool) -> str | None:
    """Return the path of the mapping route that serves a request: behind the first http route that lets it in."""
    for pattern, verb, guarded, _ in operations:
        if verb == method and _fits(_glob(pattern), path) and (known or not guarded):
            routes = (each[0] for each in operations if each[3] and each[1] == method and _fits(each[0], path))
            return next(routes, None)
    return None


def _ours(plan: Plan, method: str, path: str, *, known: bool) -> str | None:
    for entry in plan.gateways[0].entries:
        if (known or not entry.guarded) and _lets_in(entry, method, path):
            conditions = (row for route in entry.routes for row in route.conditions)
            return next((row.path for row in conditions if row.method.lower() == method and _fits(row.path, path)), None)
    return None


def _lets_in(entry: EntrySpec, method: str, path: str) -> bool:
    return any(row.method.lower() == method and _fits(row.path, path) for row in entry.conditions)


@settings(max_examples=100, deadline=None)
@given(_OPERATIONS)
def test_a_request_is_served_as_by_the_bindings_that_the_reference_generates(operations: list[Operation]) -> None:
    start, end = PETS.index("          schema: |\n            openapi"), PETS.index("        kafka:\n          schema")
    text = f"{PETS[:start]}          schema: '{_specification(operations)}'\n{PETS[end:]}"
    plan, report = plan_text(text, "zilla.yaml", Options(environ={"BROKERS": "a:1"}))
    assert report.of(Verdict.REFUSED) == []
    ordered = _in_order(operations)
    for method, path, known in product(_METHODS, _REQUESTS, (True, False)):
        expected = _reference(ordered, method, path, known=known)
        assert _ours(plan, method, path, known=known) == expected, (method, path, known)
