"""What the how-to tells a browser to do, done as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kafkaproxy.core import progress
from tests.browser.conftest import OpenPage
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.servers import serve

pytestmark = [pytest.mark.browser, pytest.mark.kafka]

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/stream.md"
KEYS = ["sensor-7", "ключ", "ключ >>>???"]  # the last has both a - and a _ in base64url
_SITE = """
  window.seen = [];
  const show = (value) => seen.push(["show", value]);
  const remove = (key) => seen.push(["remove", key]);
  const reload = (lost) => seen.push(["reload", lost]);
"""


async def test_the_example_in_javascript_shows_removes_and_reloads(
    kafka: Cluster, open_page: OpenPage, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic()
    kafka.produce(name, '{"celsius": 21.5}', key=KEYS[0])
    for key in KEYS:
        kafka.produce(name, None, key=key)
    [code] = re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL)
    beyond = progress.encode({0: 50})
    code = code.replace('"/events"', f'"/any/{name}?lastEventId={beyond}"')
    env = {"STREAM_BOOTSTRAP": kafka.bootstrap, "STREAM_STORE": str(tmp_path / "store")}
    with serve("uvicorn", "tests.support.stream_site:application", tmp_path, env=env) as site:
        page = await open_page(f"{site.url}/count")
        await page.evaluate(f"() => {{ {_SITE} {code} }}")
        await page.wait_for_function("seen.length >= 5")
        assert await page.evaluate("seen") == [
            ["reload", [{"partition": 0, "from": 50, "to": 0}]],
            ["show", {"celsius": 21.5}],
            *(["remove", key] for key in KEYS),
        ]
