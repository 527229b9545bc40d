"""The admin of routes: what is wrong is said beside the field that is wrong, and what is odd once it is saved."""

from __future__ import annotations

from typing import Any

import pytest

from kafkaproxy import models
from tests.integration.admin_site import Site, add_row, make_gateway, make_route

pytestmark = pytest.mark.django_db


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def entry() -> models.Entry:
    return make_gateway().ensure_entry()


@pytest.fixture
def new(site: Site, entry: models.Entry) -> dict[str, Any]:
    """A route that could be saved as it is."""
    data = site.form("route", "add")
    data |= {"name": "put-item", "capability": "produce", "topic": "items", "conditions-0-path": "/items/{id}"}
    return data


def test_a_route_is_saved_with_all_its_rows(site: Site, entry: models.Entry, new: dict[str, Any]) -> None:
    guard = models.Guard.objects.create(name="jwt")
    new |= {"key": "${params.id}", "reply_to": "replies", "conditions-0-method": "PUT"}
    add_row(new, "overrides", name="zilla:identity", value="${guarded['jwt'].identity}")
    add_row(new, "overrides", name="kind", value="item")
    add_row(new, "async_fields", name="location", value="/items/${params.id};cid=${correlationId}")
    add_row(new, "guarded", guard=guard.pk, roles="items:write\n\n items:read")

    assert site.save("route", "add", data=new) == []

    route = models.Route.objects.get()
    assert (route.entry, route.key, route.position) == (entry, "${params.id}", 0)
    assert [(row.name, row.position) for row in route.overrides.all()] == [("zilla:identity", 0), ("kind", 1)]
    assert route.guarded.get().roles == ["items:write", "items:read"]


def test_the_only_entry_is_chosen_for_a_new_route(site: Site, entry: models.Entry) -> None:
    assert site.form("route", "add")["entry"] == entry.pk
    other = make_gateway("other").ensure_entry()
    assert "entry" not in site.form("route", "add")
    assert site.form("route", "add", entry=other.pk)["entry"] == str(other.pk)


def test_an_unknown_parameter_is_an_error_at_the_override_that_uses_it(site: Site, new: dict[str, Any]) -> None:
    add_row(new, "overrides", name="good", value="${params.id}")
    add_row(new, "overrides", name="bad", value="${params.nope}")

    errors = site.errors(site.post("route", "add", data=new))

    assert list(errors) == ["overrides-1-value"]
    assert "${params.nope}" in errors["overrides-1-value"][0]
    assert not models.Route.objects.exists()


@pytest.mark.parametrize("field", ["topic", "key", "reply_to"])
def test_an_unknown_parameter_is_an_error_at_the_field_that_uses_it(site: Site, new: dict[str, Any], field: str) -> None:
    new[field] = "${params.nope}"
    assert list(site.errors(site.post("route", "add", data=new))) == [field]


def test_removing_the_condition_that_defines_a_parameter_is_an_error_where_it_is_used(site: Site, entry: models.Entry) -> None:
    route = make_route(entry, "put", key="${params.id}", conditions=[{"path": "/items/{id}"}])
    data = site.form("route", "change", route.pk) | {"conditions-0-DELETE": "on"}

    assert list(site.errors(site.post("route", "change", route.pk, data=data))) == ["key"]
    assert route.conditions.count() == 1


def test_a_malformed_template_is_said_once(site: Site, new: dict[str, Any]) -> None:
    new["key"] = "${params.id"
    errors = site.errors(site.post("route", "add", data=new))
    assert list(errors) == ["key"]
    assert len(errors["key"]) == 1


def test_a_malformed_path_hides_what_would_only_follow_from_it(site: Site, new: dict[str, Any]) -> None:
    new |= {"conditions-0-path": "/items/{id", "key": "${params.id}"}
    assert list(site.errors(site.post("route", "add", data=new))) == ["conditions-0-path"]


def test_a_guard_that_does_not_exist_is_an_error_where_it_is_read(site: Site, new: dict[str, Any]) -> None:
    new["key"] = "${guarded['nobody'].identity}"
    errors = site.errors(site.post("route", "add", data=new))
    assert list(errors) == ["key"]
    assert "nobody" in errors["key"][0]


def test_a_wrong_line_of_a_filter_is_named(site: Site, new: dict[str, Any]) -> None:
    new |= {"capability": "fetch"}
    add_row(new, "filters", headers="kind: item\nno colon\nowner: ${params.id")

    errors = site.errors(site.post("route", "add", data=new))

    assert list(errors) == ["filters-0-headers"]
    assert [message.split(":")[0] for message in errors["filters-0-headers"]] == ["Line 2", "Line 3"]


def test_an_unknown_parameter_in_a_filter_is_an_error_at_the_filter(site: Site, new: dict[str, Any]) -> None:
    new |= {"capability": "fetch"}
    add_row(new, "filters", key="${params.id}")
    add_row(new, "filters", headers="owner: ${params.owner}")
    assert list(site.errors(site.post("route", "add", data=new))) == ["filters-1-headers"]


def test_an_empty_filter_is_refused(site: Site, entry: models.Entry) -> None:
    route = make_route(entry, "get", "fetch", filters=[{"key": "fixed"}])
    data = site.form("route", "change", route.pk) | {"filters-0-key": ""}
    assert list(site.errors(site.post("route", "change", route.pk, data=data))) == ["filters-0-__all__"]


def test_what_belongs_to_another_capability_is_refused_where_it_stands(site: Site, new: dict[str, Any]) -> None:
    new |= {"capability": "fetch", "key": "${params.id}", "reply_to": "replies"}
    add_row(new, "overrides", name="kind", value="item")
    assert set(site.errors(site.post("route", "add", data=new))) == {"key", "reply_to", "overrides"}


def test_the_rows_of_someone_who_may_not_see_them_count_all_the_same(entry: models.Entry) -> None:
    route = make_route(entry, "put", conditions=[{"path": "/items/{id}"}])
    clerk = Site(["change_route", "view_entry"])
    data = clerk.form("route", "change", route.pk)
    assert not any(name.startswith("conditions") for name in data)

    clerk.save("route", "change", route.pk, data=data | {"key": "${params.id}"})
    assert list(clerk.errors(clerk.post("route", "change", route.pk, data=data | {"key": "${params.no}"}))) == ["key"]


def test_an_empty_key_is_no_key(site: Site, entry: models.Entry) -> None:
    route = make_route(entry, "put", key="fixed")
    site.save("route", "change", route.pk, data=site.form("route", "change", route.pk) | {"key": ""})
    route.refresh_from_db()
    assert route.key is None


def test_a_new_route_comes_last(site: Site, entry: models.Entry, new: dict[str, Any]) -> None:
    make_route(entry, "first", position=7)
    site.save("route", "add", data=new)
    assert [route.name for route in entry.routes.all()] == ["first", "put-item"]


def test_a_route_that_is_never_reached_is_saved_with_a_warning(site: Site, entry: models.Entry, new: dict[str, Any]) -> None:
    make_route(entry, "greedy", conditions=[{"path": "/*"}])
    (warning,) = site.save("route", "add", data=new)
    assert "put-item" in warning
    assert "greedy" in warning


def test_the_order_of_routes_is_changed_in_the_list_and_judged_as_a_whole(site: Site, entry: models.Entry) -> None:
    greedy = make_route(entry, "greedy", conditions=[{"path": "/*"}])
    narrow = make_route(entry, "narrow", conditions=[{"path": "/items"}])
    data = {"form-TOTAL_FORMS": 2, "form-INITIAL_FORMS": 2, "_save": "Save"}
    data |= {"form-0-id": greedy.pk, "form-0-position": 5, "form-0-enabled": "on"}
    data |= {"form-1-id": narrow.pk, "form-1-position": 2, "form-1-enabled": "on"}
    assert site.save("route", "changelist", data=data) == []
    assert [route.name for route in entry.routes.all()] == ["narrow", "greedy"]

    (warning,) = site.save(
        "route",
        "changelist",
        data=data | {"form-0-position": 9, "form-1-position": 1, "form-0-id": narrow.pk, "form-1-id": greedy.pk},
    )
    assert "narrow" in warning


def test_the_list_asks_as_few_questions_for_many_routes_as_for_one(
    site: Site, entry: models.Entry, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        make_route(entry, f"r{number}", key="${params.id}", conditions=[{"path": f"/r{number}/{{id}}"}])
    with django_assert_max_num_queries(16):
        page = site.get("route", "changelist").content.decode()
    assert "/r11/{id} → topic items, key = id" in page


@pytest.mark.parametrize("text", ["put-item", "items-requests", "/items/", "shop"])
def test_a_route_is_found_by_name_topic_path_and_gateway(site: Site, entry: models.Entry, text: str) -> None:
    make_route(entry, "put-item", topic="items-requests", conditions=[{"path": "/items/{id}"}])
    other = make_gateway("elsewhere").ensure_entry()
    make_route(other, "unrelated", topic="else", conditions=[{"path": "/else"}])
    found = site.get("route", "changelist", q=text).context["cl"].result_list
    assert [route.name for route in found] == ["put-item"]


class TestLiveCheck:
    def test_it_answers_with_the_sentence_and_the_errors_and_saves_nothing(self, site: Site, new: dict[str, Any]) -> None:
        new |= {"key": "${params.id}", "conditions-0-method": "PUT", "topic": "items-requests", "reply_to": "items-responses"}
        add_row(new, "overrides", name="bad", value="${params.nope}")

        answer = site.post("route", "check_new", data=new).json()

        assert answer["sentence"] == "PUT /items/{id} → topic items-requests, key = id, waits for items-responses"
        assert list(answer["errors"]) == ["overrides-0-value"]
        assert not models.Route.objects.exists()

    def test_it_says_nothing_of_what_is_still_missing(self, site: Site, entry: models.Entry) -> None:
        answer = site.post("route", "check_new", data=site.form("route", "add")).json()
        assert answer == {"sentence": "", "errors": {}, "warnings": []}

    def test_it_warns(self, site: Site, new: dict[str, Any]) -> None:
        new["reply_to"] = "replies"
        add_row(new, "async_fields", name="location", value="https://example.com/?id=${correlationId}")
        (warning,) = site.post("route", "check_new", data=new).json()["warnings"]
        assert "${correlationId}" in warning

    def test_it_compares_with_what_is_stored(self, site: Site, entry: models.Entry) -> None:
        route = make_route(entry, "put", conditions=[{"path": "/items/{id}"}])
        make_route(entry, "taken")
        data = site.form("route", "change", route.pk)
        assert site.post("route", "check", route.pk, data=data).json()["errors"] == {}
        errors = site.post("route", "check", route.pk, data=data | {"name": "taken"}).json()["errors"]
        assert list(errors) == ["name"]

    def test_a_misplaced_table_is_named_by_its_group(self, site: Site, new: dict[str, Any]) -> None:
        add_row(new, "filters", key="x")
        assert list(site.post("route", "check_new", data=new).json()["errors"]) == ["filters-group"]

    @pytest.mark.parametrize("permissions", [[], ["view_route"], ["view_route", "add_entry"]])
    def test_it_is_for_those_who_may_save(self, entry: models.Entry, permissions: list[str]) -> None:
        route = make_route(entry, "put")
        clerk = Site(permissions)
        assert clerk.post("route", "check_new", data={}).status_code == 403
        assert clerk.post("route", "check", route.pk, data={}).status_code == 403

    def test_it_wants_a_form(self, site: Site, entry: models.Entry) -> None:
        assert site.get("route", "check_new").status_code == 405
        assert site.post("route", "check", 4711, data={}).status_code == 404


@pytest.mark.parametrize("field", ["topic", "reply_to"])
def test_a_topic_that_kafka_could_not_have_is_an_error_at_its_field(site: Site, new: dict[str, Any], field: str) -> None:
    new[field] = "two words-${params.id}"
    errors = site.errors(site.post("route", "add", data=new))
    assert errors == {field: ["A topic has letters, digits, '.', '_' and '-' in its name, and no “ ”."]}
    new[field] = "${{env.PREFIX}}-items.${params.id}"
    site.save("route", "add", data=new)
