"""What asyncapi and openapi bindings are refused for: each time with the file, the line, and a way out."""

from __future__ import annotations

import pytest

from tests.support.zilla_apis import COMPOSITES, DESK, PETS, rules
from tests.support.zilla_samples import edited, line_of, planned, refused, refused_at

_KEEPERS = "          security:\n            keepers: keeper\n"
_CREDENTIALS = """\
      http:
        authorization:
          keeper: {credentials: {headers: {authorization: "Bearer {credentials}"}}}
"""
_PET_OPERATION = "                  operationId: savePet\n"
_LIST = "              listPets:\n                action: receive\n                channel:\n                  $ref"
_LOGIN = '                  - $ref: "#/components/securitySchemes/login"\n'


@pytest.mark.parametrize(
    ("edits", "part", "says"),
    [
        ([(_KEEPERS, ""), (_CREDENTIALS, "")], "- keepers:", "it would be open. Name one: security: {keepers: GUARD}"),
        ([(_KEEPERS, "          security:\n            other: keeper\n")], "- keepers:", "it would be open"),
        (
            [("- keepers: [write]", "- keepers: [write]\n                    - other: []")],
            "- keepers:",
            "Leave one alternative",
        ),
        ([("- keepers: [write]", "- {keepers: [write], other: []}")], "- {keepers:", "also needs 'other'"),
        (
            [("- keepers: [write]", "- {keepers: [], other: []}"), (_KEEPERS, f"{_KEEPERS}            other: second\n")],
            "- {keepers:",
            "several guards at once (keeper, second)",
        ),
        ([("- keepers: [write]", "- keeprs: [write]")], "- keeprs:", "There is no security scheme 'keeprs'"),
        ([("                  security:\n", "                  securty:\n")], "securty:", "Did you mean 'security'?"),
        (
            [("                  security:\n                    - keepers: [write]\n", "                  security:\n")],
            "                  security:",
            "security is empty.",
        ),
    ],
)
def test_nothing_that_says_that_it_is_guarded_is_served_openly(edits: list[tuple[str, str]], part: str, says: str) -> None:
    assert says in refused_at(edited(PETS, *edits), part)


def test_a_stream_without_a_guard_that_is_named_is_refused() -> None:
    start, end = DESK.index("      http:\n        authorization:"), DESK.index("      specs:\n        api:")
    text = DESK[:start] + DESK[end:]
    errors = refused(text)
    assert len(errors) == 1
    assert errors[0].startswith(f"zilla.yaml:{line_of(text, _LOGIN)}: showPet (GET /feed/{{kind}}) needs")


def test_an_identity_that_nobody_knows_is_refused() -> None:
    text = edited(DESK, (f"                security:\n{_LOGIN}", ""))
    assert "no guard is known for showPet" in refused_at(text, '- key: "{identity}"')


@pytest.mark.parametrize(
    ("edits", "part", "says"),
    [
        ([("openapi: 3.0.3", "swagger: '2.0'")], "swagger", "is not an openapi document"),
        ([("openapi: 3.0.3", "openapi: 2.0.0")], "openapi: 2", "OpenAPI 3.0 and 3.1 are understood"),
        ([("asyncapi: 3.0.0", "asyncapi: 2.6.0")], "asyncapi: 2", "asyncapi convert"),
        (
            [("/pets/{id}:\n", "/pets/{id}:\n                servers: [{url: http://a}]\n")],
            "servers: [{url",
            "single operations",
        ),
        ([(_PET_OPERATION, f"{_PET_OPERATION}                  x-zilla-sse: {{}}\n")], "x-zilla-sse", "AsyncAPI document"),
        (
            [(_PET_OPERATION, f"{_PET_OPERATION}                  x-zilla-http-kfka: {{}}\n")],
            "x-zilla-http-kfka",
            "Did you mean",
        ),
        (
            [(_PET_OPERATION, f"{_PET_OPERATION}                  x-zilla-http-kafka: {{keys: a}}\n")],
            "x-zilla-http-kafka",
            "Did you mean 'key'?",
        ),
        (
            [
                (
                    "                  responses: {}\n            components",
                    "                  responses: 1\n            components",
                )
            ],
            "responses: 1",
            "responses is not a mapping",
        ),
        (
            [("              /pets/{id}:\n                get:\n", "              /pets/{id-no}:\n                get:\n")],
            "/pets/{id-no}",
            "id-no",
        ),
    ],
)
def test_an_openapi_document_is_held_to_what_is_understood(edits: list[tuple[str, str]], part: str, says: str) -> None:
    errors = refused(edited(PETS, *edits))
    assert errors[0].startswith(f"zilla.yaml:{line_of(edited(PETS, *edits), part)}: ")
    assert says in errors[0]


@pytest.mark.parametrize(
    ("edits", "part", "says"),
    [
        (
            [("                address: /feed/{kind}\n", "                address:\n")],
            "                address:\n",
            "The channel has no address",
        ),
        ([("http: {method: POST}", "http: {}")], "http: {}", "no method"),
        ([("http: {method: POST}", "http: {method: post}")], "http: {method: post}", "Write POST."),
        ([("x-zilla-sse: {}", "x-zilla-ssee: {}\n                  http: {method: GET}")], "x-zilla-ssee", "Did you mean"),
        ([("x-zilla-sse-kafka:", "x-zilla-http-kafka:")], "x-zilla-http-kafka:", "Write it as x-zilla-sse-kafka"),
        (
            [
                (
                    "              showPet:\n                action: receive\n                channel:\n                  $ref",
                    "              showPet:\n                action: send\n                channel:\n                  $ref",
                )
            ],
            "              showPet:\n                action: send",
            "Pair it with an operation that receives",
        ),
        ([(_LIST, _LIST.replace("receive", "recieve"))], _LIST.replace("receive", "recieve"), "The action of 'listPets'"),
        ([("                address: asked\n", "                address: asked-{who}\n")], "asked-{who}", "has a parameter"),
        (
            [
                (
                    "                address: asked\n",
                    ("                address: asked\n                bindings:\n                  kafka: {topic: other}\n"),
                )
            ],
            "kafka: {topic",
            "The reference takes the address",
        ),
        (
            [("                reply:\n", "                reply:\n                  address: {location: x}\n")],
            "address: {location",
            "Name the channel of the replies",
        ),
        (
            [
                (
                    "              ask:\n                action: send\n                channel: {$ref",
                    (
                        "              ask:\n                traits: [{security: []}]\n                action: send\n"
                        "                channel: {$ref"
                    ),
                )
            ],
            "traits: [{security",
            "Write it at the operation itself",
        ),
        (
            [
                (
                    "                  question:\n",
                    "                  question:\n                    traits: [{correlationId: {}}]\n",
                )
            ],
            "traits: [{correlationId",
            "Write it at the message itself",
        ),
    ],
)
def test_an_asyncapi_document_is_held_to_what_is_understood(edits: list[tuple[str, str]], part: str, says: str) -> None:
    text = edited(DESK, *edits)
    errors = [each for each in refused(text) if says in each]
    assert errors
    assert errors[0].startswith(f"zilla.yaml:{line_of(text, part)}: ")


_ROUTE = "      - when:\n          - spec: api\n        exit: kafka\n        with:\n          spec: topics\n"


@pytest.mark.parametrize(
    ("old", "new", "part", "says"),
    [
        ("          - spec: api\n", "          - spec: apii\n", "- spec: apii", "Did you mean 'api'?"),
        ("          spec: topics\n", "          spec: topcs\n", "spec: topcs", "Did you mean 'topics'?"),
        ("          spec: topics\n", "          operation: showPet\n", _ROUTE[:12], "Write it as spec under with"),
        (
            "          spec: topics\n",
            "          spec: topics\n          operation: shwPet\n",
            "shwPet",
            "Did you mean 'showPet'?",
        ),
        (
            "          spec: topics\n",
            "          spec: topics\n          operation: a\n          tag: b\n",
            "tag: b",
            "A tag cannot",
        ),
        ("          - spec: api\n", "          - {spec: api, operation: a, tag: b}\n", "- {spec", "by name and by tag"),
        ("          - spec: api\n", "          - {spec: api, servers: [{url: a}]}\n", "- {spec", "Select by operation or tag"),
        ("          - spec: api\n", "          - {spec: api, operaton: a}\n", "- {spec", "Did you mean 'operation'?"),
        (_ROUTE, _ROUTE + "        guarded: {keeper: []}\n", "        guarded:", "Guard by the security of the specification"),
        ("        exit: kafka\n", "        exit: web\n", "        exit: web", "'web' is no asyncapi client"),
        ("        exit: kafka\n", "        exit: kafak\n", "savePet", "There is no binding 'kafak'"),
        ("    kind: proxy\n", "    kind: client\n", "", ""),
    ],
)
def test_routes_of_a_proxy_are_held_to_their_grammar(old: str, new: str, part: str, says: str) -> None:
    text = edited(PETS, (old, new))
    errors = refused(text)
    assert any(says in error for error in errors)
    if part not in ("", "savePet"):
        assert [error for error in errors if error.startswith(f"zilla.yaml:{line_of(text, part)}: ")]


@pytest.mark.parametrize(
    ("old", "new", "part", "says"),
    [
        ("            - http://localhost:7114\n", "            - ${{env.URL}}\n", "${{env.URL}}", "Write the protocol as text"),
        ("            - http://localhost:7114\n", "            - localhost:7114\n", "- localhost:7114", "which protocol"),
        ("            - http://localhost:7114\n", "            - http://localhost/{v}\n", "localhost/{v}", "has variables"),
        ("            - http://localhost:7114\n", "            - {hots: a}\n", "{hots", "unknown property 'hots'"),
        ("            - http://localhost:7114\n", "            - [a]\n", "- [a]", "This is not a server"),
        (
            "            openapi: 3.0.3\n",
            "            openapi: 3.0.3\n            servers: [{url: http://a/v1}, {url: /v2}]\n",
            "            - http://localhost:7114",
            "under '/v1', '/v2', 'localhost:7114' names no path",
        ),
    ],
)
def test_servers_are_known(old: str, new: str, part: str, says: str) -> None:
    text = edited(PETS, (old, new))
    errors = refused(text)
    assert says in errors[0]
    assert errors[0].startswith(f"zilla.yaml:{line_of(text, part)}: ")


_BROKERS = "            - kafka://${{env.BROKERS}}\n"


@pytest.mark.parametrize(
    ("old", "new", "part", "says"),
    [
        (_BROKERS, f"{_BROKERS}            - kafka-secure://a:1\n", "kafka-secure", "Some servers of 'topics' are secure"),
        (_BROKERS, "            - http://a:1\n", "  kafka:\n    type", "Nothing says where the Kafka of 'topics' is"),
        (
            "                protocol: kafka\n",
            "                protocol: kafka\n                security: [{type: plain}]\n",
            "  kafka:\n    type",
            "wants credentials (plain), and none are given",
        ),
        (
            "                protocol: kafka\n",
            "                protocol: kafka\n                security: [{type: gssapi}]\n",
            "security: [{type",
            "has the type 'gssapi'",
        ),
        (
            f"{_BROKERS}          catalog: {{own: {{subject: kafka}}}}\n",
            f"{_BROKERS}          catalog: {{own: {{subject: api}}}}\n",
            "            openapi: 3.0.3",
            "is not an asyncapi document",
        ),
    ],
)
def test_the_kafka_side_is_known(old: str, new: str, part: str, says: str) -> None:
    text = edited(PETS, (old, new))
    errors = refused(text)
    assert any(says in error and (not says or error.startswith(f"zilla.yaml:{line_of(text, part)}: ")) for error in errors), (
        errors
    )


def test_schemas_that_would_be_checked_are_refused_unless_that_is_accepted() -> None:
    body = "                  requestBody: {content: {application/json: {schema: {type: object}}}}\n"
    parameter = "                  parameters: [{name: id, in: path, schema: {type: string, maxLength: 3}}]\n"
    for more in (body, parameter):
        text = edited(PETS, (_PET_OPERATION, _PET_OPERATION + more))
        error = refused_at(text, more.partition(":")[0])
        assert "savePet (PUT /pets/{id})" in error
        assert "--without-schemas" in error
    text = edited(
        PETS, ("                  pet: {}\n", "                  pet:\n                    payload: {type: object}\n")
    )
    assert "Records are not checked against the schemas of their topics here: pets." in refused_at(text, "payload:")


def test_schemas_that_nothing_is_checked_against_do_not_matter() -> None:
    unused = "              unused: {address: unused, messages: {any: {payload: {}}}}\n              answers:\n"
    unserved = "              /unserved:\n                put:\n                  requestBody: {content: {a/b: {schema: {}}}}\n"
    planned(edited(PETS, ("              answers:\n", unused), ("            paths:\n", f"            paths:\n{unserved}")))


def test_records_that_would_be_converted_are_refused_even_then() -> None:
    pet = "                  pet:\n                    contentType: avro/binary\n                    payload: {}\n"
    text = edited(PETS, ("                  pet: {}\n", pet))
    assert "The records of the topic 'pets' are not JSON." in refused_at(text, "contentType", schemas=False)


def test_other_bindings_do_not_lead_to_expanded_ones() -> None:
    other = "  http:\n    type: http\n    kind: server\n    exit: mapping\n"
    text = edited(PETS, ("bindings:\n", f"bindings:\n{other}"))
    assert "'http' cannot lead to the openapi-asyncapi proxy binding 'mapping'" in refused_at(text, "exit: mapping")


def test_a_name_that_an_expanded_binding_needs_is_said_to_be_taken() -> None:
    text = edited(PETS, ("bindings:\n", "bindings:\n  kafka.tcp:\n    type: tcp\n    kind: client\n"))
    assert any("The name 'kafka.tcp' is needed" in error for error in refused(text))


def test_a_proxy_that_brings_nothing_together_is_refused() -> None:
    text = edited(PETS, ("          spec: topics\n", "          spec: topics\n          tag: nothing\n"))
    assert "No operation of 'mapping' has one on Kafka" in refused_at(text, "  mapping:")


def test_an_openapi_binding_is_no_proxy() -> None:
    text = edited(PETS, ("    type: openapi-asyncapi\n", "    type: openapi\n"))
    error = refused_at(text, "    kind: proxy")
    assert "There is no openapi proxy binding 'mapping'. Known here: client, server." in error


def test_a_part_with_nothing_for_http_is_no_import() -> None:
    errors = refused(
        "name: a\nbindings:\n  b:\n    type: asyncapi\n    kind: server\n    exit: c\n  c:\n    type: echo\n    kind: server\n"
    )
    assert "There is nothing to import" in errors[0]


_SECURED = '                security: [{$ref: "#/components/securitySchemes/login"}]\n            components:\n'
_OF_THE_PROXY = "          catalog: {own: {subject: api}}\n        topics:\n"
_OF_THE_SERVER = "          catalog: {own: {subject: api}}\n    exit: mapping\n"
_STAFF = "          security: {login: staff}\n"
_STREAM = "              showPet:\n                action: receive\n                channel: {"


def test_an_answer_is_not_given_past_the_guard_of_who_asks_for_it() -> None:
    text = edited(
        DESK,
        ("            components:\n", _SECURED),
        (_OF_THE_PROXY, _OF_THE_PROXY.replace("        topics", f"{_STAFF}        topics")),
    )
    start, end = text.index(_STREAM), text.index("              answer:\n                action")
    text = text[:start] + text[end:]
    start, end = text.index("      http:\n        authorization:"), text.index("      specs:\n        api:")
    only_inside = text[:start] + text[end:]
    error = refused_at(only_inside, "              answer:\n                action")
    assert "answer (GET /ask;cid={correlationId}) has another security than ask (POST /ask)" in error
    plan, _ = planned(edited(text, (_OF_THE_SERVER, _OF_THE_SERVER.replace("    exit", f"{_STAFF}    exit"))))
    answered = "produce asked, reply-to answers, location /ask;cid=${correlationId}, guarded by staff [desk]"
    assert rules(plan)[-2:] == [
        "GET /ask;cid=*, guarded by staff [desk]",
        f"GET /ask;cid={{correlationId}} → {answered}",
    ]


_PLAIN = "                protocol: http\n"


def test_a_channel_of_single_servers_is_refused() -> None:
    servers = "              second:\n                host: other.example:8080\n                protocol: http\n"
    listed = '                servers: [{$ref: "#/servers/plain"}]\n                address: /pets\n'
    text = edited(DESK, ("                address: /pets\n", listed), ("                protocol: http\n", _PLAIN + servers))
    assert any("The channel is not on the server 'second'" in error for error in refused(text))
    planned(edited(text, (servers, "")))


def test_a_server_leads_somewhere_that_knows_what_it_serves() -> None:
    text = edited(PETS, ("    exit: mapping\n", "    exit: mappin\n"))
    assert "There is no binding 'mappin'. Did you mean 'mapping'?" in refused_at(text, "    exit: mappin")
    copied = "              subject: api\n"
    text = (COMPOSITES / "openapi" / "zilla.yaml").read_text()
    assert text.count(copied) == 2
    text = text.replace(copied, "              subject: copy\n", 1)
    text = text.replace("        api:\n", "        copy:\n          path: specs/api.yaml\n        api:\n", 1)
    (error,) = refused(text, COMPOSITES / "openapi")
    assert "'mapping' has no specification from the subject 'copy'" in error


def test_a_server_and_its_proxy_are_in_one_document() -> None:
    start, end = PETS.index("  web:"), PETS.index("  mapping:")
    front = PETS[start:end].replace("exit: mapping", "exit: pets:mapping")
    catalogs = PETS[PETS.index("catalogs:\n") : PETS.index("        kafka:\n          schema")]
    rest = edited(PETS[:start] + PETS[end:], ("                  security:\n                    - keepers: [write]\n", ""))
    error = refused(f"{rest}---\nname: front\n{catalogs}bindings:\n{front}")[0]
    assert "'web' and 'mapping' are in different documents" in error


@pytest.mark.parametrize("kind", ["sever", "''", "proxi"])
def test_a_kind_that_is_misspelt_is_not_passed_over(kind: str) -> None:
    text = edited(PETS, ("    type: openapi\n    kind: server\n", f"    type: openapi\n    kind: {kind}\n"))
    assert "Known here: client, server." in refused_at(text, f"    kind: {kind}")
