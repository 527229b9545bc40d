"""Environment references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.env import MissingVariable, env_names, mask_env, resolve_env

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
plain = st.text(max_size=20).filter(lambda text: "${{" not in text)


def test_names_are_found_in_order() -> None:
    assert env_names("${{env.B}}x${{ env.A }}${{env.B}}") == ["B", "A", "B"]


def test_masking_leaves_the_name() -> None:
    assert mask_env("a-${{env.STAGE}}-${params.id}") == "a-STAGE-${params.id}"


def test_references_are_resolved_with_and_without_spaces() -> None:
    assert resolve_env("${{env.A}}:${{  env.A  }}", {"A": "x"}) == "x:x"


def test_an_empty_value_is_a_value() -> None:
    assert resolve_env("[${{env.A}}]", {"A": ""}) == "[]"


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(MissingVariable, match="The environment variable NOPE is not set") as caught:
        resolve_env("${{env.NOPE}}", {"OTHER": "x"})
    assert caught.value.name == "NOPE"


@pytest.mark.parametrize("text", ["${env.A}", "${{A}}", "${{env.1A}}", "${{env.A}", "${{ secrets.A }}"])
def test_what_is_no_reference_stays(text: str) -> None:
    assert resolve_env(text, {"A": "x"}) == text
    assert env_names(text) == []


@given(plain, names, plain, st.text())
def test_a_value_is_put_in_as_it_is(before: str, name: str, after: str, value: str) -> None:
    reference = f"{before}${{{{env.{name}}}}}{after}"
    assert resolve_env(reference, {name: value}) == before + value + after
