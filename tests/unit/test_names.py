"""The rules about names, and that forms, imports, the compiler and run time all follow them."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.names import (
    is_header_name,
    is_method,
    is_name,
    is_token,
    is_topic_name,
    may_name_topic,
    nearest,
    unusable_in_topic,
)
from kafkaproxy.models import Topic
from kafkaproxy.routing.rules import Severity, validate_route
from kafkaproxy.specs.types import RouteSpec
from kafkaproxy.validators import TemplateValidator, validate_topic_name
from tests.support.zilla_samples import BASE, edited, refused

WITH = "capability: produce\n          topic: items\n"
IN_TOPICS = frozenset(string.ascii_letters + string.digits + "._-")
LITERALS = st.one_of(
    st.text(st.sampled_from(sorted(IN_TOPICS)), max_size=260),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="${}"), max_size=12),
)


@given(LITERALS)
@example(".")
@example("..")
@example("...")
@example("")
@example("a" * 249)
@example("a" * 250)
@example("a\n")
@example("é")
def test_a_topic_has_the_name_that_kafka_allows(text: str) -> None:
    allowed = 1 <= len(text) <= 249 and text not in (".", "..") and set(text) <= IN_TOPICS
    assert is_topic_name(text) == allowed


@given(LITERALS)
@example(".")
@example("..")
@example("a" * 250)
def test_rows_routes_and_rules_agree_about_a_literal(text: str) -> None:
    verdicts = {is_topic_name(text), _accepts(validate_topic_name, text)}
    verdicts |= {_accepts(TemplateValidator(place), text) for place in ("TOPIC", "REPLY_TO")}
    route = RouteSpec(name="r", capability="produce", topic=text)
    verdicts.add(not [each for each in validate_route(route) if each.severity is Severity.ERROR])
    assert len(verdicts) == 1


def _accepts(validator: Any, text: str) -> bool:
    try:
        validator(text)
    except ValidationError:
        return False
    return True


@given(LITERALS, LITERALS)
@example("a" * 200, "b" * 50)
def test_a_template_is_judged_by_its_fixed_parts(before: str, after: str) -> None:
    template = Template.parse(f"{before}${{params.x}}{after}", TemplatePlace.TOPIC)
    assert may_name_topic(template) == (len(before + after) <= 249 and set(before + after) <= IN_TOPICS)


@given(st.text(max_size=12))
def test_the_first_character_that_no_topic_has_is_named(text: str) -> None:
    assert unusable_in_topic(text) == next((each for each in text if each not in IN_TOPICS), "")


@pytest.mark.parametrize("name", [".", "..", "a" * 250])
def test_an_import_refuses_a_topic_that_kafka_would(name: str) -> None:
    assert f"{name!r} is not the name of a topic." in refused(edited(BASE, (WITH, WITH.replace("items", name))))[0]


def test_a_template_with_a_part_that_no_topic_has_is_refused_by_an_import() -> None:
    text = edited(BASE, (WITH, WITH.replace("items", "items!${params.id}")))
    assert "'items!${params.id}' is not the name of a topic." in refused(text)[0]


def test_the_environment_stands_for_a_usable_part() -> None:
    validate_topic_name("${{env.STAGE}}-items")
    TemplateValidator("TOPIC")("${{env.STAGE}}-${params.id}")
    Topic(name="${{env.STAGE}}").clean_fields(exclude=["cluster"])


@given(st.text(st.characters(max_codepoint=0x17F), max_size=6))
@example("GET|POST")
@example("*")
@example("zilla:reply-to")
@example("a\n")
def test_tokens_methods_and_header_names_are_what_rfc_9110_says(text: str) -> None:
    token = re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text) is not None
    assert is_token(text) == token
    assert is_method(text) == (token and not set(text) & {"|", "*"})
    assert is_header_name(text) == (re.fullmatch(r"[!#$%&'*+.^_`|~:0-9A-Za-z-]+", text) is not None)


@given(st.text(st.sampled_from("aZ09._- é\n"), max_size=5))
def test_a_name_begins_with_a_letter(text: str) -> None:
    assert is_name(text) == bool(text and text[0] in "aZ" and set(text) <= set("aZ09._-"))


@given(st.lists(st.text(min_size=1, max_size=8), max_size=6))
def test_what_is_known_is_nearest_to_itself(known: list[str]) -> None:
    assert all(nearest(name, known) == name for name in known)
    assert nearest("", known) == ""


def test_a_name_that_is_misspelt_is_found() -> None:
    assert nearest("audince", ["issuer", "audience", "keys"]) == "audience"
