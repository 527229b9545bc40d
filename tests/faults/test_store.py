"""The store over restarts: gone on from where it can be trusted, made anew where it cannot."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from kafkaproxy.worker.store import reader as store_module
from tests.conftest import TopicFactory
from tests.faults.asking import assert_unavailable, get, items, until_body, until_status
from tests.faults.conftest import StartProxy
from tests.kafka import Broker, Cluster
from tests.support.proxy import Proxy, configuration

THREE = b'["a","b","c"]'


@pytest.fixture
def name(kafka: Cluster, topic: TopicFactory) -> str:
    name = topic(name="kept")
    kafka.produce_many(name, [{"value": f'"{value}"', "key": value} for value in "abc"])
    return name


@pytest.fixture
def folder(kafka: Cluster, name: str, start: StartProxy, tmp_path: Path) -> Path:
    """The folder of a store that was read and closed."""
    import asyncio

    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert asyncio.run(get(proxy, "/items")).content == THREE
    proxy.close()
    return tmp_path / "store" / "default"


@pytest.fixture
def positions(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[int, int]]]:
    """From where topics were read, as the worker says in its log."""
    caplog.set_level(logging.INFO, "kafkaproxy.ingest")
    seen: list[dict[int, int]] = []

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if str(record.msg).startswith("topic_reading"):
                arguments: Any = record.args
                seen.append(arguments[-1])

    watch = Watch()
    logging.getLogger("kafkaproxy.ingest").addHandler(watch)
    yield seen
    logging.getLogger("kafkaproxy.ingest").removeHandler(watch)


async def served(kafka: Cluster, name: str, start: StartProxy) -> Proxy:
    """Start again and check that every record is served, a new one too."""
    kafka.produce(name, '"d"', key="d")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items")).content == b'["a","b","c","d"]'
    return proxy


async def test_a_restart_reads_on_from_where_it_was(
    kafka: Cluster, name: str, folder: Path, start: StartProxy, positions: list[dict[int, int]]
) -> None:
    await served(kafka, name, start)
    assert positions == [{0: 3}]


async def test_a_deleted_store_is_read_again(
    kafka: Cluster, name: str, folder: Path, start: StartProxy, positions: list[dict[int, int]]
) -> None:
    shutil.rmtree(folder)
    await served(kafka, name, start)
    assert positions == [{0: 0}]


async def test_a_store_that_a_crash_of_the_machine_may_have_torn_is_read_again(
    kafka: Cluster, name: str, folder: Path, start: StartProxy, positions: list[dict[int, int]]
) -> None:
    (folder / "store.json").write_text(json.dumps({"boot": "another boot", "clean": False}))
    await served(kafka, name, start)
    assert positions == [{0: 0}]


async def test_a_store_that_was_closed_before_the_machine_went_down_is_kept(
    kafka: Cluster, name: str, folder: Path, start: StartProxy, positions: list[dict[int, int]]
) -> None:
    assert json.loads((folder / "store.json").read_text())["clean"] is True
    (folder / "store.json").write_text(json.dumps({"boot": "another boot", "clean": True}))
    proxy = await served(kafka, name, start)
    assert positions == [{0: 3}]
    assert json.loads((folder / "store.json").read_text())["clean"] is False  # while it is written to
    proxy.close()
    assert json.loads((folder / "store.json").read_text())["clean"] is True


async def test_a_store_without_its_note_is_read_again(
    kafka: Cluster, name: str, folder: Path, start: StartProxy, positions: list[dict[int, int]]
) -> None:
    (folder / "store.json").write_text("{")
    await served(kafka, name, start)
    assert positions == [{0: 0}]


async def test_a_store_that_is_no_store_is_read_again(
    kafka: Cluster, name: str, folder: Path, start: StartProxy, positions: list[dict[int, int]]
) -> None:
    data = folder / f"store-{store_module.FORMAT}" / "current" / "data.mdb"
    data.write_bytes(b"no store" * 1000)
    await served(kafka, name, start)
    assert positions == [{0: 0}]


async def test_a_store_of_another_format_is_left_alone(
    kafka: Cluster,
    name: str,
    folder: Path,
    start: StartProxy,
    positions: list[dict[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = (folder / f"store-{store_module.FORMAT}" / "current" / "data.mdb").read_bytes()
    old = store_module.FORMAT
    monkeypatch.setattr(store_module, "FORMAT", 999)
    await served(kafka, name, start)
    assert positions == [{0: 0}]
    assert (folder / "store-999").is_dir()
    assert (folder / f"store-{old}" / "current" / "data.mdb").read_bytes() == before


async def test_a_store_of_another_cluster_is_read_again(
    kafka: Cluster,
    name: str,
    folder: Path,
    start: StartProxy,
    positions: list[dict[int, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with lmdb.open(str(folder / f"store-{store_module.FORMAT}" / "current"), max_dbs=20) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True, db=meta) as txn:
            assert len(txn.get(b"cluster_id")) > 10
            txn.put(b"cluster_id", b"somebody else")
    await served(kafka, name, start)
    assert positions == [{0: 0}]
    assert "store_of_another_cluster cluster=default" in caplog.text


async def test_a_cluster_that_moved_to_other_brokers_shows_nothing_of_the_old(
    kafka: Cluster, broken_kafka: Broker, name: str, folder: Path, start: StartProxy
) -> None:
    broken_kafka.create_topic(name)
    broken_kafka.produce(name, '"z"', key="z")
    proxy = start(configuration(broken_kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items")).content == b'["z"]'
    assert (await get(proxy, "/items/a")).status_code == 404


async def test_a_full_store_is_503_and_a_larger_one_goes_on(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic(name="too-much")
    values = [json.dumps("x" * 10_000) for _ in range(300)]
    kafka.produce_many(name, [{"value": value, "key": str(number)} for number, value in enumerate(values)])
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "STORE_MAX_BYTES": 1 << 20}
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert_unavailable(await until_status(proxy, "/items/0", 503), "topic-store-full")
    assert f"store_full cluster=default topic={name}: raise KAFKAPROXY['STORE_MAX_BYTES']" in caplog.text
    proxy.close()
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "STORE_MAX_BYTES": 64 << 20}
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_body(proxy, "/items", f"[{','.join(values)}]".encode())
