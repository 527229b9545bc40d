"""Topics: models that matter and models that cannot, replies that take their own way, addresses that limit nothing."""

from __future__ import annotations

import pytest

from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_samples import BASE, edited, planned, refused, refused_at, said

_BOOTSTRAP = "      bootstrap:\n        - items\n"
_MODEL = "      topics:\n        - name: {name}\n          value: {{model: string}}\n"
_REPLY = "          key: ${params.id}\n      - when:\n"
_REPLYING = "          key: ${params.id}\n          reply-to: replies\n      - when:\n"
_CACHE = "  cache_client:\n    type: kafka\n    kind: cache_client\n    exit: cache_server\n"
_GUARD = "guards:\n  users:\n    type: jwt\n    options: {issuer: 'https://a.example', audience: b}\n"


def _modelled(name: str) -> str:
    return edited(BASE, (_BOOTSTRAP, _BOOTSTRAP + _MODEL.format(name=name)))


@pytest.mark.parametrize("name", ["items", "it{x}", "item.*", "items-*", "'*'", ".*", "other|items", "'{x}'", "(it)?ems"])
def test_a_model_whose_name_may_be_a_topic_of_a_route_is_refused(name: str) -> None:
    assert "not supported yet" in refused_at(_modelled(name), "value: {model")


@pytest.mark.parametrize("name", ["item", "sensors", "iot-mqtt-*", "orders.{x}", "items-snapshots"])
def test_a_model_whose_name_is_no_topic_of_a_route_is_ignored(name: str) -> None:
    _, report = planned(_modelled(name))
    assert f"The value of {name!r}: no imported route reads or writes such a topic." in said(report, Verdict.IGNORED)


def test_a_model_without_a_name_is_for_every_topic() -> None:
    text = edited(BASE, (_BOOTSTRAP, _BOOTSTRAP + "      topics:\n        - value: {model: string}\n"))
    assert "not supported yet" in refused_at(text, "value: {model")


def test_a_model_matters_where_the_topic_depends_on_the_request() -> None:
    text = edited(
        _modelled("sensors"), ("          topic: items\n          key", "          topic: ${params.id}\n          key")
    )
    assert "not supported yet" in refused_at(text, "value: {model")


def test_a_model_of_the_topic_of_replies_is_refused_too() -> None:
    text = edited(_modelled("replies"), (_REPLY, _REPLYING))
    assert "not supported yet" in refused_at(text, "value: {model")


def _with_replies(routes: str) -> str:
    """Let the cache client send topics their own ways."""
    client = f"  cache_client:\n    type: kafka\n    kind: cache_client\n    routes:\n{routes}"
    return edited(BASE, (_REPLY, _REPLYING), (_CACHE, client))


def test_the_guards_of_the_way_of_the_replies_count_as_well() -> None:
    routes = "      - when: [{topic: replies}]\n        guarded: {users: [a]}\n        exit: cache_server\n"
    routes += "      - when: [{topic: items}]\n        guarded: {users: [b]}\n        exit: cache_server\n"
    plan, _ = planned(_with_replies(routes) + _GUARD)
    put, get = plan.gateways[0].entries[0].routes
    assert put.guarded == {"users": ("b", "a")}
    assert get.guarded == {"users": ("b",)}


def test_replies_that_are_let_through_nowhere_are_refused() -> None:
    routes = "      - when: [{topic: items}]\n        exit: cache_server\n"
    [error] = refused(_with_replies(routes))
    assert "lets the topic 'replies' through nowhere" in error


def test_replies_on_another_cluster_are_refused() -> None:
    routes = "      - when: [{topic: replies}]\n        exit: other\n      - exit: cache_server\n"
    other = "  other:\n    type: kafka\n    kind: client\n    options:\n      servers: ['b:1']\n    exit: sys:tcp_client\n"
    [error] = refused(_with_replies(routes) + other)
    assert "The replies are on another cluster" in error


@pytest.mark.parametrize("when", ["cidr: 0.0.0.0/0", "cidr: '::/0'", "authority: '*'"])
def test_a_condition_that_every_broker_fulfils_is_ignored(when: str) -> None:
    _, report = planned(BASE + f"    routes:\n      - when:\n          - {when}\n")
    assert "let every broker be connected to" in said(report, Verdict.IGNORED)


@pytest.mark.parametrize(
    "when", ["cidr: 10.0.0.0/8", "authority: kafka.example", "{cidr: 0.0.0.0/0, port: [9092]}", "port: 9092"]
)
def test_a_condition_that_some_brokers_fulfil_is_refused(when: str) -> None:
    [error] = refused(BASE + f"    routes:\n      - when:\n          - {when}\n")
    assert "limit which brokers are connected to" in error
