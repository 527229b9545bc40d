"""Rules over a whole route, hidden rules, and polls."""

from __future__ import annotations

from typing import Any

import pytest

from kafkaproxy.routing.polling import poll_template
from kafkaproxy.routing.rules import Severity, validate_route
from kafkaproxy.routing.unreachable import shadowed_entries, shadowed_routes
from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec, EntrySpec, FilterSpec, RouteSpec

PUT_ITEM = ConditionSpec("PUT", "/items/{id}")
POLL_ITEM = ConditionSpec("GET", "/items/{id};cid={correlationId}")
LOCATION = ("location", "/items/${params.id};cid=${correlationId}")


def route(capability: str = "produce", **fields: Any) -> RouteSpec:
    return RouteSpec(**{"name": "r", "capability": capability, "topic": "items", **fields})


def fetch(name: str, *paths: str, method: str = "GET", **fields: Any) -> RouteSpec:
    return route("fetch", name=name, conditions=[ConditionSpec(method, path) for path in paths], **fields)


def found(text: RouteSpec, **options: Any) -> list[tuple[str, int | None, str, str]]:
    return [(each.field, each.index, each.part, each.code) for each in validate_route(text, **options)]


class TestParameters:
    def test_every_place_is_checked_against_every_condition(self) -> None:
        text = route(
            conditions=[PUT_ITEM, ConditionSpec("POST", "/items")],
            topic="t-${params.id}",
            key="${params.id}",
            reply_to="r-${params.id}",
            overrides=[("a", "x"), ("b", "${params.id}")],
            async_fields=[LOCATION],
        )
        assert found(text) == [
            ("topic", None, "", "param"),
            ("key", None, "", "param"),
            ("reply_to", None, "", "param"),
            ("overrides", 1, "value", "param"),
            ("async_fields", 0, "value", "param"),
        ]

    def test_filters_are_checked_by_key_and_header(self) -> None:
        filters = [FilterSpec("${params.a}"), FilterSpec(None, {"x": "${params.b}", "y": "${params.id}"})]
        text = route("fetch", conditions=[ConditionSpec("GET", "/items/{id}")], filters=filters)
        assert found(text) == [("filters", 0, "key", "param"), ("filters", 1, "headers", "param")]

    def test_the_message_names_the_condition_that_lacks_it(self) -> None:
        (issue,) = validate_route(route(conditions=[PUT_ITEM, ConditionSpec("POST", "/x")], key="${params.id}"))
        assert issue.message == "${params.id} is unknown: the path of “POST /x” has no {id}."

    @pytest.mark.parametrize("conditions", [[], [ConditionSpec("PUT", "")]])
    def test_a_route_without_a_path_defines_none(self, conditions: list[ConditionSpec]) -> None:
        assert found(route(conditions=conditions, key="${params.id}")) == [("key", None, "", "param")]

    def test_a_poll_defines_only_what_the_reply_needs(self) -> None:
        text = route(
            conditions=[ConditionSpec("PUT", "/items/{id}/{op}"), POLL_ITEM],
            key="${params.op}",
            reply_to="replies-${params.id}",
            async_fields=[LOCATION],
        )
        assert found(text) == []

    def test_a_poll_that_cannot_render_the_reply_topic_is_refused(self) -> None:
        text = route(
            conditions=[ConditionSpec("PUT", "/{tenant}/items/{id}"), POLL_ITEM],
            reply_to="replies-${params.tenant}",
            async_fields=[LOCATION],
        )
        assert ("reply_to", None, "", "param") in found(text)

    def test_environment_references_are_no_parameters(self) -> None:
        text = route(topic="${{env.PREFIX}}-${params.id}", conditions=[ConditionSpec("PUT", "/${{ env.BASE }}/{id}")])
        assert found(text) == []


class TestMalformed:
    def test_a_malformed_template_is_told_with_its_place(self) -> None:
        text = route(topic="${x}", overrides=[("a", "${params.id")], conditions=[PUT_ITEM, ConditionSpec("PUT", "/{")])
        assert found(text) == [
            ("topic", None, "", "template"),
            ("overrides", 0, "value", "template"),
            ("conditions", 1, "path", "template"),
        ]

    @pytest.mark.parametrize(
        ("capability", "fields", "field"),
        [
            ("fetch", {"overrides": [("a", "b")]}, "overrides"),
            ("stream", {"async_fields": [("location", "/x/${correlationId}")], "reply_to": "r"}, "async_fields"),
            ("produce", {"filters": [FilterSpec("a")]}, "filters"),
        ],
    )
    def test_rows_of_another_capability_are_refused(self, capability: str, fields: dict[str, Any], field: str) -> None:
        assert (field, None, "", "capability") in found(route(capability, **fields))

    def test_async_fields_need_a_reply_topic(self) -> None:
        text = route(conditions=[PUT_ITEM], async_fields=[LOCATION])
        assert ("async_fields", None, "", "async") in found(text)


class TestGuards:
    TEXT = route(
        conditions=[PUT_ITEM],
        topic="${guarded['a'].identity}-items",
        key="${guarded['b'].attributes.x}",
        guarded={"a": [], "c": ["admin"]},
    )

    def test_unknown_guards_are_told(self) -> None:
        assert found(self.TEXT, guards=["a"]) == [("key", None, "", "guard"), ("guarded", 1, "guard", "guard")]

    def test_guards_are_not_checked_where_nobody_knows_them(self) -> None:
        assert found(self.TEXT) == []


class TestPolls:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ([LOCATION], "/items/{id};cid={correlationId}"),
            ([("x-other", "/other/${correlationId}"), LOCATION], "/items/{id};cid={correlationId}"),
            ([("x-other", "/other/${correlationId}"), ("location", "/fixed")], "/other/{correlationId}"),
            ([("Location", "https://example.com:8443/a/${correlationId}")], "/a/{correlationId}"),
            ([("location", "https://example.com/${params.id}/${correlationId}")], "/{id}/{correlationId}"),
            ([("location", "https://example.com${correlationId}")], None),
            ([("location", "${correlationId}")], None),
            ([("location", "status/${correlationId}")], None),
            ([("location", "/status?cid=${correlationId}")], None),
            ([("location", "/${params.id}/${params.id}/${correlationId}")], None),
            ([("location", "/items/${params.id}")], None),
            ([], None),
        ],
    )
    def test_the_location_is_read_backwards(self, fields: list[tuple[str, str]], expected: str | None) -> None:
        poll = poll_template(route(reply_to="replies", async_fields=fields))
        assert (poll.text if poll else None) == expected

    def test_literals_of_a_location_stay_literal(self) -> None:
        poll = poll_template(route(reply_to="r", async_fields=[("location", "/a*{b} ü/${correlationId}")]))
        assert poll is not None
        assert poll.match("/a*%7Bb%7D%20%C3%BC/1-2") == {"correlationId": "1-2"}
        assert poll.match("/axxx%7Bb%7D%20%C3%BC/1-2") is None

    def test_a_location_that_lacks_what_the_reply_needs_cannot_be_polled(self) -> None:
        text = route(
            conditions=[ConditionSpec("PUT", "/{tenant}")],
            reply_to="r-${params.tenant}",
            async_fields=[("location", "/status/${correlationId}")],
        )
        assert poll_template(text) is None
        assert found(text) == [("async_fields", None, "", "poll")]
        assert validate_route(text)[0].severity is Severity.WARNING

    def test_a_condition_that_accepts_more_leaves_the_location_in_place(self) -> None:
        text = route(
            conditions=[PUT_ITEM, ConditionSpec("GET", "/items/{id};{correlationId}")], reply_to="r", async_fields=[LOCATION]
        )
        poll = poll_template(text)
        assert poll is not None
        assert poll.text == "/items/{id};cid={correlationId}"

    def test_behind_a_proxy_that_rewrites_paths_the_condition_counts(self) -> None:
        location = ("location", "/api/items/${params.id};cid=${correlationId}")
        poll = poll_template(route(conditions=[PUT_ITEM, POLL_ITEM], reply_to="r", async_fields=[location]))
        assert poll is not None
        assert poll.text == POLL_ITEM.path


class TestHiddenRoutes:
    def test_a_wider_earlier_route_hides_a_later_one(self) -> None:
        (issue,) = shadowed_routes([fetch("all", "/items/*"), fetch("one", "/other", "/items/{id}")])
        assert (issue.subject, issue.field, issue.index, issue.part) == ("one", "conditions", 1, "path")
        assert issue.severity is Severity.WARNING
        assert issue.message == (
            "“GET /items/{id}” is never reached: the earlier route “all” serves “GET /items/*” to everyone."
        )

    def test_the_fetch_before_the_poll_hides_it(self) -> None:
        later = route(name="async", conditions=[PUT_ITEM, POLL_ITEM], reply_to="r", async_fields=[LOCATION])
        (issue,) = shadowed_routes([fetch("item", "/items/{id}"), later])
        assert (issue.subject, issue.field) == ("async", "async_fields")

    def test_the_poll_before_the_fetch_hides_nothing(self) -> None:
        first = route(name="async", conditions=[PUT_ITEM, POLL_ITEM], reply_to="r", async_fields=[LOCATION])
        assert shadowed_routes([first, fetch("item", "/items/{id}")]) == []

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [
            (fetch("a", "/items/{id}", method="HEAD"), fetch("b", "/items/1")),
            (route(name="a", conditions=[PUT_ITEM]), route(name="b", conditions=[ConditionSpec("", "/items/{id}")])),
            (fetch("a", "/items/{id}"), fetch("b", "/items")),
            (fetch("a", "/items/{id}", guarded={"g": []}), fetch("b", "/items/1")),
            (fetch("a", "/items/{id}", guarded={"g": ["x", "y"]}), fetch("b", "/items/1", guarded={"g": ["x"]})),
        ],
    )
    def test_what_serves_fewer_requests_or_people_hides_nothing(self, earlier: RouteSpec, later: RouteSpec) -> None:
        assert shadowed_routes([earlier, later]) == []

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [
            (route(name="a", conditions=[]), route(name="b", conditions=[PUT_ITEM])),
            (fetch("a", "/x"), route("stream", name="b", conditions=[ConditionSpec("", "/x")], guarded={"g": []})),
            (fetch("a", "/items/{id}", guarded={"g": ["x"]}), fetch("b", "/items/1", guarded={"g": ["x", "y"], "h": []})),
            (fetch("a", "/{x}/${{env.A}}"), fetch("b", "/items/${{env.A}}")),
        ],
    )
    def test_what_serves_the_same_requests_and_people_hides(self, earlier: RouteSpec, later: RouteSpec) -> None:
        assert [each.subject for each in shadowed_routes([earlier, later])] == ["b"]

    def test_other_variables_are_other_paths(self) -> None:
        assert shadowed_routes([fetch("a", "/${{env.A}}"), fetch("b", "/${{env.B}}")]) == []

    def test_malformed_routes_hide_nothing_and_are_left_to_their_validators(self) -> None:
        broken = [
            fetch("a", "/{"),
            route("nonsense", name="b"),
            route(name="c", conditions=[PUT_ITEM], reply_to="${", async_fields=[LOCATION]),
        ]
        assert shadowed_routes([*broken, fetch("d", "/x")]) == []


class TestHiddenEntries:
    @staticmethod
    def entry(name: str, *conditions: EntryConditionSpec, **fields: Any) -> EntrySpec:
        return EntrySpec(name=name, conditions=conditions, **fields)

    def test_an_entry_that_matches_everything_hides_the_next(self) -> None:
        (issue,) = shadowed_entries([self.entry("all"), self.entry("api", EntryConditionSpec(path="/api/*"))])
        assert (issue.subject, issue.field, issue.severity) == ("api", "position", Severity.WARNING)

    def test_an_entry_with_a_guard_hides_only_the_better_guarded(self) -> None:
        guarded = self.entry("all", guarded={"g": ["a"]})
        later = [self.entry("open"), self.entry("better", guarded={"g": ["a", "b"]})]
        assert [each.subject for each in shadowed_entries([guarded, *later])] == ["better"]

    def test_levels_are_all_needed_and_alternatives_are_not(self) -> None:
        api = EntryConditionSpec(level=0, path="/api/*")
        put = EntryConditionSpec(level=1, path="/api/items/*", method="PUT")
        post = EntryConditionSpec(level=1, path="/api/items/*", method="POST")
        narrow = self.entry("narrow", api, put)
        assert shadowed_entries([narrow, self.entry("wide", api, put, post)]) == []
        assert [each.subject for each in shadowed_entries([self.entry("wide", api, put, post), narrow])] == ["narrow"]

    @pytest.mark.parametrize(
        ("first", "second", "hides"),
        [
            ({"scheme": "https"}, {}, False),
            ({}, {"scheme": "https"}, True),
            ({"authority": "*:443"}, {"authority": "example.com:443"}, True),
            ({"authority": "example.com:443"}, {"authority": "*:443"}, False),
            ({"method": "GET"}, {"method": "*"}, False),
            ({"method": "*"}, {"method": "GET"}, True),
            ({"headers": {"X-A": "*"}}, {"headers": {"x-a": "1", "b": "2"}}, True),
            ({"headers": {"x-a": "*"}}, {}, False),
        ],
    )
    def test_every_part_of_a_condition_counts(self, first: dict[str, Any], second: dict[str, Any], hides: bool) -> None:
        entries = [self.entry("a", EntryConditionSpec(**first)), self.entry("b", EntryConditionSpec(**second))]
        assert bool(shadowed_entries(entries)) is hides

    def test_a_malformed_entry_hides_nothing(self) -> None:
        entries = [self.entry("a", EntryConditionSpec(path="/{")), self.entry("b")]
        assert shadowed_entries(entries) == []
