"""The real files of the reference's documentation, where they are at hand; they are not part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kafkaproxy.models import Cluster, Gateway, Route
from kafkaproxy.zilla.importer.importing import Options, plan_file
from kafkaproxy.zilla.report import Verdict
from kafkaproxy.zilla.sync.apply import apply_plan, preview

pytestmark = pytest.mark.django_db

FOLDER = Path(os.environ.get("KAFKAPROXY_SHARED") or Path(__file__).parents[3] / "shared") / "zilla"

EXPECTED = {
    "concept-http-kafka.yaml": ("example", [("north_http_kafka_mapping", 5)]),
    "cookbook-sasl-scram.yaml": ("example", [("north_http_kafka_mapping", 1)]),
    "partial-http-kafka.yaml": ("partial-http-kafka", [("all", 3)]),
    "partial-sse-kafka.yaml": ("partial-sse-kafka", [("all", 1)]),
    "quickstart-http.yaml": ("http-quickstart", [("api-stream", 2), ("api-stream-any", 2), ("api-any", 5)]),
    "tutorial-rest.yaml": ("REST-example", [("north_http_kafka_mapping", 5)]),
    "tutorial-sse-fanout.yaml": ("SSE-example", [("events", 1), ("east_http_filesystem_mapping", 0)]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_the_documentation_is_imported_whole(name: str) -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"there is no folder {FOLDER.name} beside this checkout, nor at KAFKAPROXY_SHARED")
    plan, report = plan_file(FOLDER / name, Options(environ={"KAFKA_BOOTSTRAP_SERVER": "kafka:9092"}))
    assert report.of(Verdict.REFUSED) == []
    apply_plan(plan)
    assert preview(plan).visible == ()
    gateway = Gateway.objects.get()
    found = [(entry.name, entry.routes.count()) for entry in gateway.entries.all()]
    assert (gateway.name, found) == EXPECTED[name]
    for row in [*Cluster.objects.all(), *Route.objects.all()]:
        row.full_clean()
