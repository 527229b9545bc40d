"""How long a topic that only requests name is read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kafkaproxy.worker.ingest.topic_interest import topic_interest
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.store.reader import Store
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.types import Role

IDLE, LONGEST_WAIT = 600, 300


@pytest.mark.parametrize(
    ("roles", "unused", "kept"),
    [
        ({Role.FETCH}, IDLE - 10, True),
        ({Role.FETCH}, IDLE + 10, False),
        ({Role.STREAM}, IDLE + 10, False),
        ({Role.REPLY}, IDLE + LONGEST_WAIT - 10, True),  # a request may wait for its reply that long after its use
        ({Role.REPLY, Role.FETCH}, IDLE + LONGEST_WAIT - 10, True),
        ({Role.REPLY}, IDLE + LONGEST_WAIT + 10, False),
    ],
)
def test_a_reply_topic_is_read_for_as_long_as_a_request_may_wait(
    tmp_path: Path, roles: set[Role], unused: int, kept: bool
) -> None:
    store = Store(tmp_path, 64 << 20)
    limits = Limits(store_dir=tmp_path, topic_idle=IDLE, max_wait=LONGEST_WAIT)
    store.add_interest("t", frozenset(roles), time.time() - unused)
    wanted = topic_interest({}, store, StoreWriter(store, frozenset()), limits)
    assert wanted == ({"t": roles} if kept else {})
    assert list(store.interest()) == list(wanted)
    store.close()
