"""asyncapi, openapi and openapi-asyncapi bindings become what one would write by hand."""

from __future__ import annotations

import pytest

from kafkaproxy.zilla.importer.importing import Options, plan_file
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_apis import COMPOSITES, DESK, PETS, rules
from tests.support.zilla_samples import edited, line_of, planned, said

_ORDER = "produce shop-orders, key ${idempotencyKey}, reply-to shop-answers, correlation-id order-id"
_ASK = "produce asked, key ${idempotencyKey}, reply-to answers, location /ask;cid=${correlationId}"
_OPENED = "produce desk-tickets, key ${idempotencyKey}, override opened-by: ${guarded['staff'].identity}"

EXPECTED = {
    "asyncapi": [
        "POST /api/tickets or DELETE /api/tickets/* or GET /api/tickets/*, guarded by staff [tickets:write]",
        f"POST /api/tickets → {_OPENED}, guarded by staff [tickets:write]",
        "DELETE /api/tickets/{id} → produce desk-tickets, key ${params.id}, guarded by staff [tickets:write]",
        "GET /api/tickets/{id} → fetch desk-tickets, filter key ${params.id}, guarded by staff [tickets:write]",
        "GET /api/status",
        "GET /api/status → fetch desk-status",
    ],
    "openapi": [
        "GET /v1/items or GET /v1/items/* or PUT /v1/items/* or DELETE /v1/items/* or POST /v1/orders or GET /v1/orders;cid=*",
        "DELETE /v1/items/{id} → produce shop-items, key ${params.id}",
        "GET /v1/items → fetch shop-items, merge",
        "GET /v1/items/{id} → fetch shop-items, filter key ${params.id}",
        "PUT /v1/items/{id} → produce shop-items, key ${params.id}",
        f"POST /v1/orders or GET /v1/orders;cid={{correlationId}} → {_ORDER}, location /v1/orders;cid=${{correlationId}}",
    ],
    "streams": [
        "POST /pay, guarded by login [accounts]",
        "POST /pay → produce payments, key ${guarded['login'].identity}",
        "GET /balance or GET /news/*",
        "* /balance → stream balances, filter key ${guarded['login'].identity}, guarded by login [accounts]",
        "* /news/{topic} → stream news",
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fixture_is_expanded_in_the_order_of_its_document(name: str) -> None:
    plan, report = plan_file(COMPOSITES / name / "zilla.yaml", Options())
    assert report.of(Verdict.REFUSED) == []
    assert rules(plan) == EXPECTED[name]
    (gateway,) = plan.gateways
    assert gateway.access_control.policy == "cross-origin"
    assert gateway.access_control.allow_origins is None


def test_a_route_stands_where_its_operation_does() -> None:
    plan, _ = plan_file(COMPOSITES / "openapi" / "zilla.yaml", Options())
    text = (COMPOSITES / "openapi" / "specs" / "api.yaml").read_text()
    kafka = (COMPOSITES / "openapi" / "specs" / "kafka.yaml").read_text()
    entry = plan.gateways[0].entries[0]
    assert str(entry.routes[0].place) == f"specs/api.yaml:{line_of(text, '    delete:')}"
    assert str(entry.routes[4].at("reply_to")) == f"specs/kafka.yaml:{line_of(kafka, '    address: shop-answers')}"
    assert str(plan.gateways[0].place).startswith("zilla.yaml:")


def test_every_channel_without_a_parameter_is_a_topic_that_is_kept() -> None:
    text = edited(PETS, ("                address: asked\n", "                address: asked-{who}\n"), *_WITHOUT_ASKING)
    plan, _ = planned(text)
    assert [(topic.name, topic.bootstrap) for topic in plan.topics] == [("pets", True), ("answers", True)]
    unnamed = edited(PETS, ("            channels:\n", "            channels:\n              unnamed: {address: null}\n"))
    assert [topic.name for topic in planned(unnamed)[0].topics] == ["pets", "asked", "answers"]


_WITHOUT_ASKING = (
    (
        """\
              ask:
                action: send
                channel:
                  $ref: "#/channels/asked"
                reply:
                  channel:
                    $ref: "#/channels/answers"
""",
        "",
    ),
)


def test_a_guard_stands_for_its_security_scheme_where_the_server_says_so() -> None:
    plan, _ = planned(PETS)
    assert rules(plan) == [
        "GET /pets or GET /pets/*",
        "GET /pets → fetch pets",
        "GET /pets/{id} → fetch pets, filter key ${params.id}",
        "PUT /pets/*, guarded by keeper [write]",
        "PUT /pets/{id} → produce pets, key ${params.id}",
    ]
    assert plan.gateways[0].guard == "keeper"


def test_an_answer_that_comes_later_is_asked_for_by_the_operation_on_its_path() -> None:
    plan, report = planned(DESK)
    assert rules(plan) == [
        "GET /pets or POST /ask",
        "GET /pets → fetch pets",
        f"POST /ask → {_ASK}",
        "GET /feed/*",
        "* /feed/{kind} → stream pets, filter key ${guarded['staff'].identity}, filter kind: all, guarded by staff [desk]",
        "GET /ask;cid=*",
        f"GET /ask;cid={{correlationId}} → {_ASK}",
    ]
    assert "unserved" not in said(report, Verdict.WARNING)


def test_who_asks_for_an_answer_needs_what_that_operation_says() -> None:
    secured = (
        '                  http: {method: GET}\n                security: [{$ref: "#/components/securitySchemes/login"}]\n'
    )
    text = edited(DESK, ("                  http: {method: GET}\n            components:", secured + "            components:"))
    plan, _ = planned(text)
    assert rules(plan)[-2:] == [
        "GET /ask;cid=*, guarded by staff [desk]",
        f"GET /ask;cid={{correlationId}} → {_ASK}",
    ]


def test_each_way_in_has_its_path_before_those_of_the_operations() -> None:
    servers = "            - http://localhost:7114\n"
    text = edited(PETS, (servers, "            - http://localhost:7114/a\n            - https://localhost:7143/b/\n"))
    plan, _ = planned(text)
    assert rules(plan)[-3:] == [
        "PUT /a/pets/* or PUT /b/pets/*, guarded by keeper [write]",
        "PUT /a/pets/{id} → produce pets, key ${params.id}",
        "PUT /b/pets/{id} → produce pets, key ${params.id}",
    ]


def test_a_document_says_the_path_of_a_server_that_is_named_without_one() -> None:
    text = edited(
        DESK,
        ("                protocol: http\n", "                protocol: http\n                pathname: /v2\n"),
    )
    plan, _ = planned(text)
    assert rules(plan)[0] == "GET /v2/pets or POST /v2/ask"
    assert "location /v2/ask;cid=${correlationId}" in rules(plan)[2]


def test_an_operation_without_one_on_kafka_is_a_barrier() -> None:
    text = edited(PETS, ("                  operationId: listPets\n", "                  operationId: allPets\n"))
    text = edited(text, ("                  tags: [reading]\n", "                  security: [{keepers: []}]\n"))
    plan, report = planned(text)
    assert rules(plan)[0] == "GET /pets, guarded by keeper []"
    assert plan.gateways[0].entries[0].routes == ()
    assert f"zilla.yaml:{line_of(text, '                get:')}: allPets (GET /pets) has no operation" in said(
        report, Verdict.WARNING
    )


def test_routes_choose_operations_by_name_with_a_glob_and_by_tag() -> None:
    when = "          - spec: api\n        exit: kafka\n"
    for chosen, paths in (("operation: s*Pet", ["/pets/{id}", "/pets/{id}"]), ("tag: reading", ["/pets"])):
        text = edited(PETS, (when, f"          - spec: api\n            {chosen}\n        exit: kafka\n"))
        plan, _ = planned(text)
        found = [row.path for entry in plan.gateways[0].entries for route in entry.routes for row in route.conditions]
        assert found == paths


def test_one_operation_on_kafka_may_stand_for_another_name() -> None:
    text = edited(PETS, ("                  operationId: listPets\n", "                  operationId: all\n"))
    first = "      - when:\n          - spec: api\n            operation: all\n        exit: kafka\n"
    first += "        with:\n          spec: topics\n          operation: listPets\n"
    text = edited(text, ("    routes:\n", f"    routes:\n{first}"))
    plan, _ = planned(text)
    assert "GET /pets → fetch pets" in rules(plan)


def test_a_proxy_by_itself_is_a_fragment() -> None:
    text = PETS[: PETS.index("  kafka:\n    type: asyncapi")]
    start, end = text.index("  web:"), text.index("  mapping:")
    text = edited(text[:start] + text[end:], ("                  security:\n                    - keepers: [write]\n", ""))
    plan, report = planned(text)
    assert rules(plan)[0] == "*"
    assert [cluster.bootstrap_servers for cluster in plan.clusters] == ["${{env.KAFKA_BOOTSTRAP_SERVERS}}"]
    assert "is not in this fragment" in said(report, Verdict.WARNING)


def test_a_binding_on_other_ways_is_listed_and_left() -> None:
    other = "  mqtt:\n    type: asyncapi\n    kind: server\n    exit: side\n  side:\n    type: mqtt-kafka\n    kind: proxy\n"
    plan, report = planned(edited(PETS, ("bindings:\n", f"bindings:\n{other}")))
    assert len(plan.gateways) == 1
    assert "The asyncapi server binding 'mqtt' is not imported" in said(report, Verdict.IGNORED)


_SCRAM = """\
            components:
              securitySchemes:
                scram:
                  type: scramSha512
            operations:
              listPets:
                action: receive
"""
_SERVICE = "  service:\n    type: inline\n    options:\n      identity: me\n      credentials: secret\n"
_CATALOG = "            - kafka://${{env.BROKERS}}\n          catalog: {own: {subject: kafka}}\n"


def test_credentials_for_kafka_come_from_the_guard_that_stands_for_their_scheme() -> None:
    wanted = '                security:\n                  - $ref: "#/components/securitySchemes/scram"\n'
    text = edited(
        PETS,
        ("                protocol: kafka\n", f"                protocol: kafka-secure\n{wanted}"),
        ("            operations:\n              listPets:\n                action: receive\n", _SCRAM),
        ("guards:\n", f"guards:\n{_SERVICE}"),
        (_CATALOG, _CATALOG.replace("kafka://", "kafka-secure://") + "          security:\n            scram: service\n"),
        ('            servers: ["kafka://', '            servers: ["kafka-secure://'),
    )
    (cluster,) = planned(text)[0].clusters
    assert (cluster.security_protocol, cluster.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (cluster.sasl_username, cluster.sasl_password) == ("me", "secret")


def test_an_import_without_schemas_says_what_is_not_checked() -> None:
    body = "                  requestBody: {content: {application/json: {schema: {type: object}}}}\n"
    text = edited(
        PETS,
        ("                  operationId: savePet\n", f"                  operationId: savePet\n{body}"),
        ("                  pet: {}\n", "                  pet:\n                    payload: {type: object}\n"),
    )
    warnings = said(planned(text, schemas=False)[1], Verdict.WARNING)
    assert "Requests or events are not checked against their schemas here: savePet (PUT /pets/{id})." in warnings
    assert "Records are not checked against the schemas of their topics here: pets." in warnings


def test_an_operation_that_asks_for_an_answer_has_nothing_of_its_own() -> None:
    own = "              answer: {action: send, channel: {$ref: '#/channels/asked'}}\n"
    text = edited(DESK, ("              showPet:\n                action: receive\n                channel:\n", own + _SHOW))
    plan, report = planned(text)
    assert rules(plan) == rules(planned(DESK)[0])
    assert "answer (GET /ask;cid={correlationId}) asks for answers of an operation before it" in said(report, Verdict.IGNORED)


_SHOW = "              showPet:\n                action: receive\n                channel:\n"


def test_a_path_with_a_parameter_that_the_reference_would_take_for_a_question_is_named() -> None:
    text = edited(
        DESK,
        ("              listPets:\n                action: receive\n                channel: {$ref", _LATE),
        ('"#/channels/answer"}\n', '"#/channels/pet"}\n'),
    )
    warnings = said(planned(text)[1], Verdict.WARNING)
    assert "answer (GET /pets/{id}): the reference takes it for asking for answers of ask (POST /ask)" in warnings


_LATE = "              listPets:\n                action: receive\n                channel: {$ref"
