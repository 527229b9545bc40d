"""Expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.expressions import (
    Attribute,
    CorrelationId,
    Expression,
    IdempotencyKey,
    Identity,
    Parameter,
    RenderContext,
    Template,
    TemplatePlace,
)
from kafkaproxy.core.paths import TemplateError


@dataclass
class Somebody:
    identity: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


SPELLED: dict[str, Expression] = {
    "${params.id}": Parameter("id"),
    "${params.item_2}": Parameter("item_2"),
    "${guarded['jwt'].identity}": Identity("jwt"),
    "${guarded['my.guard:1'].attributes.tenant-id}": Attribute("my.guard:1", "tenant-id"),
    "${idempotencyKey}": IdempotencyKey(),
    "${correlationId}": CorrelationId(),
}
ALLOWED = {
    TemplatePlace.TOPIC: {Parameter, Identity, Attribute},
    TemplatePlace.KEY: {Parameter, Identity, Attribute, IdempotencyKey},
    TemplatePlace.OVERRIDE: {Parameter, Identity, Attribute, IdempotencyKey},
    TemplatePlace.FILTER: {Parameter, Identity, Attribute},
    TemplatePlace.REPLY_TO: {Parameter, Identity, Attribute},
    TemplatePlace.ASYNC: {Parameter, CorrelationId},
}
CONTEXT = RenderContext(
    params={"id": "1", "item_2": "2"},
    guarded={"jwt": Somebody("alice"), "my.guard:1": Somebody("", {"tenant-id": "acme"})},
    idempotency_key="key",
    correlation_id="key-0123",
)
VALUES = {
    "${params.id}": "1",
    "${params.item_2}": "2",
    "${guarded['jwt'].identity}": "alice",
    "${guarded['my.guard:1'].attributes.tenant-id}": "acme",
    "${idempotencyKey}": "key",
    "${correlationId}": "key-0123",
}


@pytest.mark.parametrize("place", TemplatePlace)
@pytest.mark.parametrize(("text", "expression"), SPELLED.items())
def test_an_expression_stands_where_the_contract_allows_it(place: TemplatePlace, text: str, expression: Expression) -> None:
    if type(expression) in ALLOWED[place]:
        assert Template.parse(text, place).parts == (expression,)
    else:
        with pytest.raises(TemplateError, match="cannot stand here"):
            Template.parse(text, place)


literal = st.text(max_size=10).filter(lambda text: "${" not in text and not text.endswith("$"))


@given(st.lists(st.tuples(literal, st.sampled_from(["${params.id}", "${idempotencyKey}", "${guarded['jwt'].identity}"]))))
def test_rendering_is_one_literal_pass(pairs: list[tuple[str, str]]) -> None:
    template = Template.parse("".join(before + expression for before, expression in pairs), TemplatePlace.KEY)
    assert template.render(CONTEXT) == "".join(before + VALUES[expression] for before, expression in pairs)


@given(st.text())
def test_a_value_is_never_looked_at_again(value: str) -> None:
    context = RenderContext(params={"id": value}, idempotency_key="never")
    assert Template.parse("a-${params.id}-b", TemplatePlace.KEY).render(context) == f"a-{value}-b"
    assert Template.parse("${params.id}", TemplatePlace.KEY).render(context) == value


@given(st.text(), st.sampled_from(TemplatePlace))
def test_any_text_parses_or_says_what_is_wrong(text: str, place: TemplatePlace) -> None:
    try:
        template = Template.parse(text, place)
    except TemplateError as error:
        said = str(error)
    else:
        said = repr(template.render(RenderContext()) if template.is_literal else template.text)
    assert repr(text) in said


@given(st.text(alphabet="${}params.id'[]guarded", max_size=30))
def test_what_looks_like_an_expression_is_one_or_is_refused(text: str) -> None:
    try:
        template = Template.parse(text, TemplatePlace.KEY)
    except TemplateError:
        assert "${" in text
    else:
        assert all("${" not in part for part in template.parts if isinstance(part, str))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a-${params.id", r"at position 3 of 'a-\$\{params.id' is not closed"),
        ("${${params.id}}", "is not closed"),
        ("${{env.NAME}}", "is not closed"),
        ("${}", "is not an expression"),
        ("${params.}", "is not an expression"),
        ("${params.a b}", "is not an expression"),
        ("${params.1}", "is not an expression"),
        ("${param.id}", "is not an expression"),
        ("${guarded[jwt].identity}", "is not an expression"),
        ("${guarded['jwt'].roles}", "is not an expression"),
        ("${guarded['1'].identity}", "is not an expression"),
        ("${params.id }", "is not an expression"),
    ],
)
def test_a_malformed_expression_says_where_and_what_is_known(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        Template.parse(text, TemplatePlace.TOPIC)


def test_the_error_lists_what_may_stand_there() -> None:
    with pytest.raises(TemplateError) as caught:
        Template.parse("${params}", TemplatePlace.ASYNC)
    assert str(caught.value).endswith("Known are ${params.NAME}, ${correlationId}.")


def test_what_a_guard_does_not_know_is_empty() -> None:
    text = "[${guarded['other'].identity}${guarded['other'].attributes.a}${guarded['jwt'].attributes.a}]"
    assert Template.parse(text, TemplatePlace.KEY).render(CONTEXT) == "[]"


def test_values_can_be_quoted_and_literals_are_not() -> None:
    template = Template.parse("/a b/${params.id};${correlationId}", TemplatePlace.ASYNC)
    context = RenderContext(params={"id": "x"}, correlation_id="y")
    assert template.render_quoted(context, lambda value: f"<{value}>") == "/a b/<x>;<y>"


def test_a_template_knows_its_parameters_and_guards() -> None:
    template = Template.parse("${params.a}-${params.b}-${guarded['g'].identity}${guarded['h'].attributes.x}", TemplatePlace.KEY)
    assert template.param_names == {"a", "b"}
    assert template.guard_names == {"g", "h"}
    assert not template.is_literal
    assert Template.parse("plain $ { }", TemplatePlace.KEY).is_literal


def test_empty_text_renders_empty() -> None:
    assert Template.parse("", TemplatePlace.KEY).render(RenderContext()) == ""


def test_a_missing_idempotency_key_is_one_random_key_for_the_whole_request() -> None:
    context = RenderContext()
    assert Template.parse("${idempotencyKey}", TemplatePlace.KEY).render(context) == context.idempotency_key
    assert RenderContext().idempotency_key != context.idempotency_key
