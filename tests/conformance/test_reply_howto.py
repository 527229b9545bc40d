"""The service of the how-to answers, as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conformance.conftest import StartProxy
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import produce

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/answer-requests.md"


async def test_the_example_in_python_answers(kafka: Cluster, start: StartProxy, topic: TopicFactory, tmp_path: Path) -> None:
    requests, replies = topic(name="requests"), topic(name="replies")
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    script = tmp_path / "service.py"
    script.write_text(code.replace("orders-requests", requests).replace('"orders"', f'"{requests}"'))
    proxy = start(produce("/orders/{id}", topic=requests, key="${params.id}", reply_to=replies))
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
    service = await asyncio.to_thread(subprocess.Popen, [sys.executable, str(script)], env=environment)
    try:
        response = await proxy.request("PUT", "/orders/8", content=b'{"item":"pear"}', headers={"prefer": "wait=60"})
    finally:
        service.kill()
        service.wait()
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"id": "8", "method": "PUT", "length": 15}
