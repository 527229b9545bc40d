"""Path templates."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kafkaproxy.core.paths import BadPath, Glob, Param, PathTemplate, TemplateError, decode_params, quote_literal

# A small alphabet finds more: the parts of a template meet each other in the path.
raw_text = st.text("ab/;.%1", max_size=8).map(quote_literal)
literals = st.text("ab/;.", min_size=1, max_size=4)
Parts = list[str | Param | Glob]


@st.composite
def templates(draw: st.DrawFn) -> PathTemplate:
    names = iter("klmnopqr")
    parts: Parts = []
    for kind in draw(st.lists(st.sampled_from(["literal", "param", "glob"]), max_size=5)):
        last = parts[-1] if parts else None
        if kind == "literal" and not isinstance(last, str):
            parts.append(draw(literals))
        elif kind == "param":
            parts.append(Param(next(names)))
        elif kind == "glob" and not isinstance(last, Glob):
            parts.append(Glob())
    return PathTemplate.parse(_spell(parts))


def _spell(parts: Parts) -> str:
    return "".join(part if isinstance(part, str) else "*" if isinstance(part, Glob) else f"{{{part.name}}}" for part in parts)


def _matches(parts: tuple[str | Param | Glob, ...], path: str) -> bool:
    """A slow reference of the grammar that tries every way to match."""
    if not parts:
        return path == ""
    first, rest = parts[0], parts[1:]
    if isinstance(first, str):
        return path.startswith(first) and _matches(rest, path[len(first) :])
    if isinstance(first, Glob):
        return any(_matches(rest, path[end:]) for end in range(len(path) + 1))
    return any(_matches(rest, path[end:]) for end in range(1, len(path) + 1) if "/" not in path[:end])


@given(templates(), raw_text)
def test_a_template_matches_what_its_grammar_says(template: PathTemplate, path: str) -> None:
    assert (template.match(path) is not None) is _matches(template.parts, path)


@given(templates(), st.data())
def test_a_path_made_from_a_template_matches_it_and_gives_its_values(template: PathTemplate, data: st.DataObject) -> None:
    pieces = []
    for part in template.parts:
        match part:
            case Param():
                pieces.append(data.draw(st.text("ab;.", min_size=1, max_size=3)))
            case Glob():
                pieces.append(data.draw(st.text("ab/;", max_size=3)))
            case _:
                pieces.append(part)
    path = "".join(pieces)
    found = template.match(path)
    assert found is not None
    assert set(found) == set(template.names)
    assert all(value and "/" not in value for value in found.values())


@given(st.lists(st.sampled_from(["a", "ab", ".", "/", "{}"]), max_size=7), raw_text)
def test_earlier_parameters_take_as_much_as_they_can(spelled: list[str], path: str) -> None:
    names = iter("klmnopq")
    text = "".join(f"{{{next(names)}}}" if part == "{}" else part for part in spelled)
    greedy = re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>[^/]+)", re.escape(text)))
    found = greedy.fullmatch(path)
    assert PathTemplate.parse(text).match(path) == (None if found is None else found.groupdict())


@given(templates())
def test_parsing_the_text_again_gives_the_same_template(template: PathTemplate) -> None:
    assert PathTemplate.parse(template.text) == template


@given(st.text())
def test_any_text_parses_or_says_what_is_wrong(text: str) -> None:
    try:
        template = PathTemplate.parse(text)
    except TemplateError as error:
        said = str(error)
    else:
        said = repr(template.text)
    assert repr(text) in said


@given(st.text())
def test_a_literal_becomes_what_a_client_sends(literal: str) -> None:
    assume(not set("*{}%") & set(literal))
    assert PathTemplate.parse("/" + literal).match("/" + quote(literal, safe="/:@!$&'()*+,;=")) is not None


@given(st.dictionaries(st.sampled_from("abc"), st.text()))
def test_values_survive_percent_encoding(values: dict[str, str]) -> None:
    assert decode_params({name: quote(value, safe="") for name, value in values.items()}) == values


@pytest.mark.parametrize(
    ("template", "path", "params"),
    [
        ("/items/{id}", "/items/1", {"id": "1"}),
        ("/items/{id}", "/items/", None),
        ("/items/{id}", "/items/1/2", None),
        ("/items/{id}", "/items/a%2Fb", {"id": "a%2Fb"}),
        ("/items/{id};cid={cid}", "/items/1;cid=x-2", {"id": "1", "cid": "x-2"}),
        ("/items/{id};cid={cid}", "/items/1;cid=2;cid=3", {"id": "1;cid=2", "cid": "3"}),
        ("/{a}.{b}/x", "/1.2.3/x", {"a": "1.2", "b": "3"}),
        ("/files/*", "/files/", {}),
        ("/files/*", "/files/a/b", {}),
        ("/files/*", "/files", None),
        ("/a.b", "/aXb", None),
        ("/a+b", "/a+b", {}),
        ("*", "/any/thing", {}),
        ("/grüße", "/gr%C3%BC%C3%9Fe", {}),
        ("/a%20b", "/a%20b", {}),
        ("/a b", "/a%20b", {}),
        ("/100%", "/100%25", {}),
        ("/x", "/x\n", None),
        ("/{id}", "/a\nb", {"id": "a\nb"}),
    ],
)
def test_a_path_matches_or_not(template: str, path: str, params: dict[str, str] | None) -> None:
    assert PathTemplate.parse(template).match(path) == params


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("/items/{id", "Unbalanced '{' at position 8"),
        ("/items/id}", "Unbalanced '}' at position 10"),
        ("/{a{b}}", "Unbalanced"),
        ("/{}", "'' at position 2"),
        ("/{1a}", "'1a' at position 2 .* is not a parameter name"),
        ("/{a-b}", "is not a parameter name"),
        ("/{ä}", "is not a parameter name"),
        ("/{id}/{id}", "stands twice"),
    ],
)
def test_a_malformed_template_says_where(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        PathTemplate.parse(template)


def test_stars_in_a_row_are_one() -> None:
    assert PathTemplate.parse("/**").parts == ("/", Glob())


def test_only_literals_match_exactly_one_path() -> None:
    assert PathTemplate.parse("/a").is_literal
    assert not PathTemplate.parse("/{a}").is_literal


def test_a_value_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(BadPath, match="'id'"):
        decode_params({"id": "%ff"})


@pytest.mark.timeout(20)  # a regular expression takes hours
def test_a_path_made_for_it_does_not_make_several_parameters_backtrack() -> None:
    assert PathTemplate.parse("/{year}-{month}-{day}.json").match("/" + "-" * 60_000) is None
    assert PathTemplate.parse("/{a}ab{b}cd{c}").match("/xcdx" + "ab" * 30_000) is None


def test_a_long_path_does_not_make_ordinary_templates_backtrack() -> None:
    template = PathTemplate.parse("/{a}/{b}/{c}/{d}/{e}/x")
    assert template.match("/" + "/".join(["a" * 20_000] * 5) + "/y") is None
