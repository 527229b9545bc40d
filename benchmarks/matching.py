"""What finding a route costs with 10 and with 10,000 routes: ``python -m benchmarks.matching [--write FILE]``."""

from __future__ import annotations

import argparse
import os
import timeit
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from benchmarks.common import markdown_table, median, report  # noqa: E402
from kafkaproxy.http.request import Request  # noqa: E402
from kafkaproxy.routing.matching import Match, Matcher  # noqa: E402
from tests.support.proxy import configuration, gateway, produce  # noqa: E402

SHAPES = {
    "/service-N/items/{id}": ("/service-%d/items/{id}", "/service-%d/items/42"),
    "/{tenant}/service-N/{id}": ("/{tenant}/service-%d/{id}", "/acme/service-%d/42"),
    "/items-N-{id}": ("/items-%d-{id}", "/items-%d-42"),
    "/files-N/*": ("/files-%d/*", "/files-%d/a/b/c"),
}
METHOD = "Microseconds to find and resolve a route, median of 9 runs of 2,000 requests to the middle route; ratio 10,000 to 10."


def cost(pattern: str, path: str, count: int) -> float:
    """Return the microseconds of one match among ``count`` routes."""
    routes = [produce(pattern % number, topic="t", name=f"r{number}") for number in range(count)]
    matcher = Matcher(configuration("localhost:9092", gateway(*routes)))
    raw = (path % (count // 2)).encode()
    scope = {"type": "http", "method": "POST", "scheme": "http", "raw_path": raw, "headers": [], "query_string": b""}

    def once() -> None:
        request = Request(scope, None)  # type: ignore[arg-type]
        found = matcher.resolve(matcher.find(request.path), request, {})
        assert isinstance(found, Match)
        assert found.route.name == f"r{count // 2}"

    return median(timeit.repeat(once, number=2000, repeat=9)) / 2000 * 1e6


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    results = {}
    for shape, (pattern, path) in SHAPES.items():
        few, many = cost(pattern, path, 10), cost(pattern, path, 10_000)
        results[shape] = {"10 routes": few, "10,000 routes": many, "ratio": many / few}
    rows = [(shape, *(f"{value:.2f}" for value in each.values())) for shape, each in results.items()]
    page = report("Matching", METHOD, markdown_table(["routes", "10, µs", "10,000, µs", "ratio"], rows), results)
    print(page)
    if options.write:
        options.write.write_text(page)


if __name__ == "__main__":
    main()
