"""Twenty streams of a page in Chromium, over HTTP/2: one answer to one challenge keeps all of them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.browser.conftest import OpenPage
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.kafka.certificates import make_certificates
from tests.support.servers import free_port, serve
from tests.support.tokens import token

pytestmark = pytest.mark.browser

# The listener is the one of docs/reference/guards.md.
_PAGE = """async ([url, end, token]) => {
    const freshToken = async () => token;
    const streams = Array.from({length: 20}, () => new EventSource(url));
    const seen = {answers: [], protocols: []};
    const messages = streams.map(events => new Promise(resolve => {
        events.onmessage = event => resolve(event.data);
        events.onerror = () => resolve("an error");
        events.addEventListener("challenge", async event => {
            const init = JSON.parse(event.data);
            init.headers.authorization = `Bearer ${await freshToken()}`;
            seen.answers.push((await fetch(events.url, init)).status);
        });
    }));
    await Promise.all(streams.map(events => new Promise(resolve => { events.onopen = resolve; })));
    await new Promise(resolve => setTimeout(resolve, end + 1000 - Date.now()));
    await fetch("/still-here");
    seen.messages = await Promise.all(messages);
    streams.forEach(events => events.close());
    seen.protocols = [...new Set(performance.getEntriesByType("resource").map(entry => entry.nextHopProtocol))];
    return seen;
}"""


async def test_one_answer_keeps_twenty_streams(
    open_page: OpenPage, kafka: Cluster, topic: TopicFactory, tmp_path: Path
) -> None:
    certificates, name, port = make_certificates(tmp_path), topic(), free_port()
    env = {
        "STREAM_BOOTSTRAP": kafka.bootstrap,
        "STREAM_STORE": str(tmp_path / "store"),
        "STREAM_SETTINGS": json.dumps({"HEARTBEAT_SECONDS": 1}),
        "GUARDED_CACHE": str(tmp_path / "cache"),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    pem = str(certificates.server)
    options = ["--ssl-certificate", pem, "--ssl-keyfile", pem, "--http", "2"]
    with serve("granian", "tests.support.guarded_site:application", tmp_path, env=env, port=port, options=options):
        page = await open_page(f"https://127.0.0.1:{port}/count", untrusted=True)
        end = time.time() + 12
        old, fresh = token("HS256", exp=end), token("HS256", exp=end + 600)
        arguments = [f"/news/{name}?access_token={old}", end * 1000, fresh]
        evaluation = asyncio.ensure_future(page.evaluate(_PAGE, arguments))
        async with page.expect_request("**/still-here", timeout=60_000):
            pass
        kafka.produce(name, "still here")
        seen = await asyncio.wait_for(evaluation, 60)
    assert seen == {"answers": [204], "messages": ["still here"] * 20, "protocols": ["h2"]}
