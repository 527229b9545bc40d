"""What a single field accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from kafkaproxy.validators import (
    TemplateValidator,
    validate_condition_path,
    validate_field_map,
    validate_field_name,
    validate_method,
    validate_name,
    validate_pattern,
    validate_string_list,
    validate_topic_name,
)

ACCEPTED: list[tuple[Callable[[Any], None], Any]] = [
    (validate_name, "items-2.x_y"),
    (validate_condition_path, ""),
    (validate_condition_path, "/items/{id};cid={correlationId}"),
    (validate_condition_path, "/${{env.BASE}}/*"),
    (validate_pattern, "example.com:*"),
    (validate_method, ""),
    (validate_method, "*"),
    (validate_method, "GET"),
    (validate_method, "X-own"),
    (validate_topic_name, "items.v1_a-B"),
    (validate_topic_name, "${{env.PREFIX}}-items"),
    (validate_topic_name, "a" * 249),
    (validate_field_name, "zilla:correlation-id"),
    (validate_field_name, ":status"),
    (validate_field_map, {}),
    (validate_field_map, {"authorization": "Bearer {credentials}"}),
    (validate_string_list, None),
    (validate_string_list, []),
    (validate_string_list, ["a"]),
    (TemplateValidator("KEY"), "${params.id}-${idempotencyKey}"),
    (TemplateValidator("TOPIC"), "${{ env.STAGE }}-items"),
]
REFUSED: list[tuple[Callable[[Any], None], Any, str]] = [
    (validate_name, "1a", "name"),
    (validate_name, "a b", "name"),
    (validate_name, "", "name"),
    (validate_name, "a\n", "name"),
    (validate_condition_path, "items", "path"),
    (validate_condition_path, "/items?x=1", "path"),
    (validate_condition_path, "/items#x", "path"),
    (validate_condition_path, "/items/{", "template"),
    (validate_pattern, "{a}{a}", "template"),
    (validate_method, "GET|POST", "method"),
    (validate_method, "get", "method"),
    (validate_method, "P*", "method"),
    (validate_topic_name, "", "topic"),
    (validate_topic_name, "..", "topic"),
    (validate_topic_name, "a b", "topic"),
    (validate_topic_name, "a" * 250, "topic"),
    (validate_field_name, "a b", "field"),
    (validate_field_name, "a\r\nb", "field"),
    (validate_field_name, "", "field"),
    (validate_field_map, ["a"], "fields"),
    (validate_field_map, {"a": 1}, "fields"),
    (validate_field_map, {"a b": "c"}, "field"),
    (validate_string_list, "a", "list"),
    (validate_string_list, ["a", ""], "list"),
    (validate_string_list, [1], "list"),
    (TemplateValidator("TOPIC"), "${idempotencyKey}", "template"),
    (TemplateValidator("KEY"), "${params.id", "template"),
    (TemplateValidator("TOPIC"), "it ems", "topic"),
    (TemplateValidator("REPLY_TO"), "..", "topic"),
]


@pytest.mark.parametrize(("validator", "value"), ACCEPTED)
def test_it_accepts(validator: Callable[[Any], None], value: Any) -> None:
    validator(value)


@pytest.mark.parametrize(("validator", "value", "code"), REFUSED)
def test_it_refuses(validator: Callable[[Any], None], value: Any, code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validator(value)
    assert caught.value.code == code


def test_a_lower_case_method_is_told_its_spelling() -> None:
    with pytest.raises(ValidationError, match="write DELETE"):
        validate_method("delete")


def test_template_validators_of_one_place_are_equal() -> None:
    assert TemplateValidator("KEY") == TemplateValidator("KEY")
    assert TemplateValidator("KEY") != TemplateValidator("TOPIC")
    assert len({TemplateValidator("KEY"), TemplateValidator("KEY")}) == 1
