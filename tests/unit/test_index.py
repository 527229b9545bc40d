"""The index of path templates finds what trying every template finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.index import PathIndex
from kafkaproxy.core.paths import PathTemplate

SEGMENTS = st.sampled_from(["a", "b", "ab", "{p}", "{q}", "a{p}", "{p}b", "a-{p}.b", "{p}-{q}", "*", "a*", "*b", "a*b", ""])
TEMPLATES = st.lists(SEGMENTS, min_size=1, max_size=4)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "aab", "a-x.b", "x-y", "x", "", "%2F", "ä"]), min_size=1, max_size=5)


def template(segments: list[str]) -> PathTemplate | None:
    """Make a template of the segments; parameters get names of their own. None if the segments make no valid template."""
    text = "/" + "/".join(segments)
    for number in range(text.count("{")):
        text = text.replace("{p}", f"{{p{number}}}", 1) if "{p}" in text else text.replace("{q}", f"{{q{number}}}", 1)
    return PathTemplate.parse(text)


@given(st.lists(TEMPLATES, max_size=8), PATHS)
def test_every_template_that_matches_is_found(many: list[list[str]], segments: list[str]) -> None:
    templates = [template(each) for each in many]
    index = PathIndex([(each, number) for number, each in enumerate(templates)])
    path = "/" + "/".join(segments)
    found = index.find(path)
    expected = [number for number, each in enumerate(templates) if each is not None and each.match(path) is not None]
    assert set(expected) <= set(found)
    assert len(found) == len(set(found)), "a template was found twice"


@given(st.lists(TEMPLATES.filter(lambda each: not any("*" in part for part in each)), max_size=8), PATHS)
def test_without_globs_nothing_else_is_found(many: list[list[str]], segments: list[str]) -> None:
    templates = [template(each) for each in many]
    index = PathIndex([(each, number) for number, each in enumerate(templates)])
    path = "/" + "/".join(segments)
    assert sorted(index.find(path)) == [
        n for n, each in enumerate(templates) if each is not None and each.match(path) is not None
    ]


def test_no_template_is_every_path() -> None:
    index = PathIndex([(None, "any")])
    for path in ("/", "", "/a/b", "a"):
        assert index.find(path) == ["any"]


def test_templates_of_one_shape_share_their_place() -> None:
    index = PathIndex(
        [(PathTemplate.parse("/x-{a}/1"), 1), (PathTemplate.parse("/x-{b}/2"), 2), (PathTemplate.parse("/x-{c}y/3"), 3)]
    )
    assert index.find("/x-q/1") == [1]
    assert index.find("/x-q/2") == [2]
    assert index.find("/x-qy/3") == [3]
    assert index.find("/x-/1") == []


def test_the_number_of_templates_does_not_add_to_the_candidates() -> None:
    items = [(PathTemplate.parse(f"/t{number}/{{id}}"), number) for number in range(5000)]
    items += [(PathTemplate.parse(f"/files/{number}/*"), 5000 + number) for number in range(5000)]
    index = PathIndex(items)
    assert index.find("/t77/x") == [77]
    assert index.find("/files/77/x/y") == [5077]
    assert index.find("/nothing/here") == []
