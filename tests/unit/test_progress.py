"""The progress codec: what the reference writes, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.progress import BadProgress, Encoder, decode, encode

PARTITIONS = st.integers(-(2**31), 2**31 - 1)
OFFSETS = st.integers(-(2**63), 2**63 - 1)
PROGRESSES = st.dictionaries(PARTITIONS, OFFSETS, max_size=8)


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        ({}, "AQA="),
        ({0: 1}, "AQIAAg=="),
        ({0: 2}, "AQIABA=="),
        ({0: 2, 1: 1}, "AQQABAIC"),
        ({1: 1, 0: 2}, "AQQABAIC"),
        ({0: 64}, "AQIAgAE="),
        ({-2: 0}, "AQIDAA=="),
    ],
)
def test_the_text_is_the_references(progress: dict[int, int], text: str) -> None:
    assert encode(progress) == text
    assert decode(text) == progress


@given(PROGRESSES)
def test_what_was_encoded_is_decoded(progress: dict[int, int]) -> None:
    assert decode(encode(progress)) == progress


@given(st.dictionaries(PARTITIONS, OFFSETS, max_size=4), st.lists(st.tuples(PARTITIONS, OFFSETS), max_size=12))
def test_encoding_step_by_step_gives_the_same_text(start: dict[int, int], steps: list[tuple[int, int]]) -> None:
    encoder = Encoder(start)
    progress = dict(start)
    before = encoder.copy()
    for partition, offset in steps:
        encoder.set(partition, offset)
        progress[partition] = offset
        assert encoder.text() == encode(progress)
    assert before.text() == encode(start)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AQ==",  # no count
        "AgA=",  # version 2
        "AQA",  # no padding
        "AQA=AQA=",  # padding inside
        "AQ A=",
        "AQA=\n",
        "AQAA",  # a byte too many
        "AQI=",  # the pair is missing
        "AQIA",  # the offset is missing
        "AQIAgA==",  # the offset is cut off
        "AQIA////////////////////",  # the offset is longer than any
        "AQM=",  # minus two pairs
        "AQQAAgAC",  # partition 0 twice
        "AQQABAI+",  # the other alphabet
        "ĀQA=",
        "=",
        "====",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadProgress):
        decode(text)


@given(st.text(alphabet="AQIEB-_=w", max_size=40) | st.text(max_size=20))
def test_no_text_breaks_the_decoder(text: str) -> None:
    try:
        progress = decode(text)
    except BadProgress:
        return
    assert decode(encode(progress)) == progress
