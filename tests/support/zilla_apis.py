"""Configurations with asyncapi and openapi bindings that tests edit, line by line, and import."""

from __future__ import annotations

from pathlib import Path

from kafkaproxy.zilla.plan import Plan, describe

__all__ = ["COMPOSITES", "DESK", "PETS", "rules"]

COMPOSITES = Path(__file__).parents[2] / "fixtures" / "zilla" / "composites"

_KAFKA = """\
        kafka:
          schema: |
            asyncapi: 3.0.0
            servers:
              broker:
                host: broker.example:9092
                protocol: kafka
            channels:
              pets:
                address: pets
                messages:
                  pet: {}
              asked:
                address: asked
              answers:
                address: answers
            operations:
              listPets:
                action: receive
                channel:
                  $ref: "#/channels/pets"
              showPet:
                action: receive
                channel:
                  $ref: "#/channels/pets"
              savePet:
                action: send
                channel:
                  $ref: "#/channels/pets"
              ask:
                action: send
                channel:
                  $ref: "#/channels/asked"
                reply:
                  channel:
                    $ref: "#/channels/answers"
"""

_CLIENT = """\
  kafka:
    type: asyncapi
    kind: client
    options:
      specs:
        topics:
          servers:
            - kafka://${{env.BROKERS}}
          catalog: {own: {subject: kafka}}
"""

PETS = f"""\
name: pets
guards:
  keeper:
    type: jwt
    options:
      issuer: https://login.example
      audience: pets
catalogs:
  own:
    type: inline
    options:
      subjects:
        api:
          schema: |
            openapi: 3.0.3
            paths:
              /pets:
                get:
                  operationId: listPets
                  tags: [reading]
                  responses: {{}}
              /pets/{{id}}:
                get:
                  operationId: showPet
                  responses: {{}}
                put:
                  operationId: savePet
                  security:
                    - keepers: [write]
                  responses: {{}}
            components:
              securitySchemes:
                keepers:
                  type: http
                other:
                  type: http
{_KAFKA}bindings:
  web:
    type: openapi
    kind: server
    options:
      http:
        authorization:
          keeper: {{credentials: {{headers: {{authorization: "Bearer {{credentials}}"}}}}}}
      specs:
        api:
          servers:
            - http://localhost:7114
          catalog: {{own: {{subject: api}}}}
          security:
            keepers: keeper
    exit: mapping
  mapping:
    type: openapi-asyncapi
    kind: proxy
    options:
      specs:
        openapi:
          api:
            servers: [http://localhost:7114]
            catalog: {{own: {{subject: api}}}}
        asyncapi:
          topics:
            servers: ["kafka://${{{{env.BROKERS}}}}"]
            catalog: {{own: {{subject: kafka}}}}
    routes:
      - when:
          - spec: api
        exit: kafka
        with:
          spec: topics
{_CLIENT}"""
"""OpenAPI, one guarded operation among others; each line stands for itself where a test wants to change it."""

DESK = f"""\
name: desk
guards:
  staff:
    type: jwt
    options:
      issuer: https://login.example
      audience: desk
catalogs:
  own:
    type: inline
    options:
      subjects:
        api:
          schema: |
            asyncapi: 3.0.0
            servers:
              plain:
                host: desk.example:8080
                protocol: http
            channels:
              pets:
                address: /pets
              pet:
                address: /pets/{{id}}
              ask:
                address: /ask
                messages:
                  question:
                    correlationId:
                      location: $message.header#/Where
                    headers:
                      properties:
                        Where:
                          format: /ask;cid={{correlationId}}
              answer:
                address: /ask;cid={{correlationId}}
              feed:
                address: /feed/{{kind}}
            operations:
              listPets:
                action: receive
                channel: {{$ref: "#/channels/pets"}}
                bindings:
                  http: {{method: GET}}
              ask:
                action: send
                channel: {{$ref: "#/channels/ask"}}
                bindings:
                  http: {{method: POST}}
              showPet:
                action: receive
                channel: {{$ref: "#/channels/feed"}}
                bindings:
                  x-zilla-sse: {{}}
                  x-zilla-sse-kafka:
                    filters:
                      - key: "{{identity}}"
                      - headers:
                          kind: all
                security:
                  - $ref: "#/components/securitySchemes/login"
              answer:
                action: receive
                channel: {{$ref: "#/channels/answer"}}
                bindings:
                  http: {{method: GET}}
            components:
              securitySchemes:
                login:
                  type: oauth2
                  scopes: [desk]
{_KAFKA}bindings:
  web:
    type: asyncapi
    kind: server
    options:
      http:
        authorization:
          staff: {{credentials: {{headers: {{authorization: "Bearer {{credentials}}"}}}}}}
      specs:
        api:
          catalog: {{own: {{subject: api}}}}
    exit: mapping
  mapping:
    type: asyncapi
    kind: proxy
    options:
      specs:
        api:
          catalog: {{own: {{subject: api}}}}
        topics:
          catalog: {{own: {{subject: kafka}}}}
    routes:
      - when:
          - api-id: api
        exit: kafka
        with:
          api-id: topics
{_CLIENT}"""
"""AsyncAPI on both sides in the 1.x dialect: an answer that comes later, and a guarded stream."""


def rules(plan: Plan) -> list[str]:
    """Return the entries and routes of a plan in words, without their names and lines."""
    lines = [line.strip() for line in describe(plan)]
    return [line.partition("): ")[2] for line in lines if ". entry " in line or ". route " in line]
