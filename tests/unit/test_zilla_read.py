"""Reading YAML: everything that could hurt is refused with its line, and nothing else goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.zilla.yaml.read import MAX_BYTES, MAX_DEPTH, ReadError, read_file, read_text
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row, plain_data


def _error(text: str) -> ReadError:
    with pytest.raises(ReadError) as caught:
        read_text(text)
    return caught.value


def test_scalars_stay_the_texts_they_were_written_as() -> None:
    (root,) = read_text("a: no\nb: 017\nc: 2011-04-29\nd: 1_000\ne: 12:30:45\nf: 1e3\n")
    assert plain_data(root) == {"a": "no", "b": "017", "c": "2011-04-29", "d": "1_000", "e": "12:30:45", "f": "1e3"}


def test_every_node_knows_its_line() -> None:
    (root,) = read_text("a:\n  - b\n  -\n    c: d\n")
    assert isinstance(root, Branch)
    row = root.get("a")
    assert isinstance(row, Row)
    assert [item.line for item in row.items] == [2, 4]


def test_an_empty_value_is_null_and_a_quoted_empty_one_is_a_text() -> None:
    (root,) = read_text("a:\nb: ''\n")
    assert isinstance(root, Branch)
    assert root.get("a") is None
    assert root.get("b") == Leaf("", 2, plain=False)


def test_a_stream_may_hold_several_documents_and_empty_ones_do_not_count() -> None:
    assert [plain_data(root) for root in read_text("---\na: 1\n---\n---\nb: 2\n")] == [{"a": "1"}, {"b": "2"}]


def test_environment_references_may_stand_where_yaml_would_not_have_them() -> None:
    (root,) = read_text('servers: [${{env.A}}, ${{ env.B }}:9092]\n${{env.KEY}}: "x${{env.C}}"\n')
    assert plain_data(root) == {"servers": ["${{env.A}}", "${{ env.B }}:9092"], "${{env.KEY}}": "x${{env.C}}"}


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n  - \tb: 1\n", "a: |\n  x\n\ty\n"])
def test_a_tab_in_the_indentation_is_named_as_such(text: str) -> None:
    error = _error(text)
    assert error.line == text[: text.index("\t")].count("\n") + 1
    assert "tab" in error.message
    assert "spaces" in error.advice


def test_a_tab_in_quotes_or_in_a_block_is_no_error() -> None:
    assert plain_data(read_text("a: 'x\ty'\nb: |\n  x\ty\n")[0]) == {"a": "x\ty", "b": "x\ty\n"}


def test_a_duplicate_key_is_an_error_at_the_second_one() -> None:
    error = _error("routes:\n  - guarded: {}\n    exit: a\n    guarded: {}\n")
    assert (error.line, "'guarded' stands twice" in error.message) == (4, True)


def test_a_billion_laughs_are_not_laughed() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    error = _error("\n".join(lines))
    assert error.line == 5
    assert "values" in error.message


def test_aliases_cannot_make_a_tree_deeper_than_the_limit() -> None:
    error = _error("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300)))
    assert (error.line, "deeper" in error.message) == (MAX_DEPTH - 1, True)


def test_harmless_aliases_are_read() -> None:
    assert plain_data(read_text("a: &x [1]\nb: *x\n")[0]) == {"a": ["1"], "b": ["1"]}


@pytest.mark.parametrize("text", ["a: *x\n", "a: &x [*x]\n", "a: &x 1\n---\nb: *x\n"])
def test_an_alias_without_a_value_is_an_error(text: str) -> None:
    assert "alias" in _error(text).message


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 10_000, "- " * 50_000])
def test_deep_nesting_is_refused_and_not_followed(text: str) -> None:
    assert "deeper" in _error(text).message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: !!python/object:os.system x\n", "tag"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "Merge keys"),
        ("? [a]\n: b\n", "key"),
        (": b\n", "key"),
        ("a: [\n", "not YAML"),
        ("a: b: c\n", "not YAML"),
        ("a: 'x\n", "not YAML"),
        ("a: \x07\n", "character"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str, part: str) -> None:
    error = _error(text)
    assert part in error.message
    assert error.line > 0
    assert error.advice


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "zilla.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)  # sparse: it takes no space, and reading all of it would show
    with pytest.raises(ReadError, match="larger"):
        read_file(path)


def test_a_text_that_is_too_large_is_refused() -> None:
    assert "larger" in _error("#" * (MAX_BYTES + 1)).message


def test_a_file_that_is_missing_or_not_utf8_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be read"):
        read_file(tmp_path / "missing.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ReadError, match="UTF-8") as caught:
        read_file(path)
    assert caught.value.line == 2


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert plain_data(read_text(read_file(path))[0]) == {"a": "1"}


_TEXTS = st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`?,\t\n $\ue000\ue0010"), max_size=60)


@given(st.one_of(st.text(max_size=60), _TEXTS))
def test_any_text_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    try:
        roots = read_text(text)
    except ReadError as error:
        sound = error.line >= 0 and bool(error.message and error.advice)
    else:
        sound = all(_is_sound(root, text.count("\n") + 2) for root in roots)
    assert sound


def _is_sound(node: Node, last: int) -> bool:
    if not 1 <= node.line <= last:
        return False
    match node:
        case Leaf():
            return True
        case Row():
            return all(_is_sound(item, last) for item in node.items)
        case Branch():
            names = [key.text for key, _ in node.pairs]
            return len(set(names)) == len(names) and all(_is_sound(value, last) for _, value in node.pairs)


_DATA = st.recursive(
    st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4)),
    max_leaves=20,
)


@given(_DATA)
def test_what_json_writes_is_read_back(data: object) -> None:
    (root,) = read_text(json.dumps(data))
    assert plain_data(root) == data
