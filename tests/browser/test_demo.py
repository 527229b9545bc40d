"""The demo as a newcomer meets it: ``manage.py demo``, then the page at ``/``."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, Request, expect

from tests.browser.conftest import OpenPage
from tests.kafka import Cluster
from tests.support.demo import demo_site

pytestmark = pytest.mark.browser

_PATIENCE = 20_000


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with demo_site(tmp_path_factory.mktemp("demo"), None) as (url, _process, _log):
        yield url


@pytest.fixture(scope="module")
def on_kafka(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with demo_site(tmp_path_factory.mktemp("demo"), kafka.bootstrap) as (url, _process, _log):
        yield url


@pytest.fixture(params=["embedded", pytest.param("on_kafka", marks=pytest.mark.kafka)])
def demo(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


async def _press(page: Page, card: str, action: str) -> Locator:
    """Press a button and return the card as soon as the last answer is there."""
    where = page.locator(f"#{card}")
    await where.locator(f"button[data-do='{action}']").click()
    await expect(where.locator(".status").first).to_be_visible(timeout=_PATIENCE)
    await expect(where).not_to_have_attribute("aria-busy", "true", timeout=_PATIENCE)
    return where


async def _answer(page: Page, card: str, action: str) -> tuple[int, str]:
    """Press a button and return the last answer's status and body as shown."""
    where = await _press(page, card, action)
    status = await where.locator(".status").last.inner_text()
    bodies = await where.locator(".exchange").last.locator(".body").all_inner_texts()
    return int(status.split()[0]), "".join(bodies)


async def test_an_item_is_written_read_listed_and_deleted(demo: str, open_page: OpenPage) -> None:
    page = await open_page(demo)
    await page.fill("#items input[name=id]", "quince")
    await page.fill("#items input[name=body]", '{"name": "Quince"}')
    assert await _answer(page, "items", "put") == (204, "")
    await expect(page.locator("#items .made li", has_text="key quince")).to_have_count(1, timeout=_PATIENCE)
    status, body = await _answer(page, "items", "get")
    assert (status, json.loads(body)) == (200, {"name": "Quince"})
    assert await _answer(page, "items", "get-if-changed") == (304, "")
    status, body = await _answer(page, "items", "list")
    assert status == 200
    assert {"name": "Quince"} in json.loads(body)
    assert await _answer(page, "items", "delete") == (204, "")
    assert (await _answer(page, "items", "get"))[0] == 404


async def test_a_created_item_can_be_read_by_its_key(demo: str, open_page: OpenPage) -> None:
    page = await open_page(demo)
    await page.fill("#items input[name=body]", '{"name": "Medlar"}')
    assert await _answer(page, "items", "create") == (204, "")
    status, body = await _answer(page, "items", "get")
    assert (status, json.loads(body)) == (200, {"name": "Medlar"})


async def test_an_event_shows_up_among_the_records(demo: str, open_page: OpenPage) -> None:
    page = await open_page(demo)
    await page.fill("#events input[name=id]", "sensor-42")
    assert await _answer(page, "events", "send") == (204, "")
    record = page.locator("#records .record[data-topic=events]", has_text="sensor-42").first
    await expect(record).to_be_visible(timeout=_PATIENCE)
    await record.locator("summary").click()
    await expect(record.locator("details pre")).to_contain_text("source: sensor-42")


async def test_a_card_shows_the_records_that_it_made_and_no_other(demo: str, open_page: OpenPage) -> None:
    page = await open_page(demo)
    await page.fill("#events input[name=id]", "sensor-43")
    assert await _answer(page, "events", "send") == (204, "")
    made = page.locator("#events .made li")
    await expect(made).to_have_count(1, timeout=_PATIENCE)
    await page.evaluate("fetch('/events/elsewhere', {method: 'POST', body: '{}'})")
    await expect(page.locator("#records .record", has_text="elsewhere").first).to_be_visible(timeout=_PATIENCE)
    await expect(made).to_have_count(1)
    await expect(made).to_contain_text("key sensor-43")


async def test_what_comes_out_of_kafka_is_no_markup(demo: str, open_page: OpenPage) -> None:
    page = await open_page(demo)
    evil = '"\'></pre><img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    await page.fill("#events input[name=id]", evil)
    await page.fill("#events input[name=body]", evil)
    assert (await _answer(page, "events", "send"))[0] == 204
    await expect(page.locator("#events .made li", has_text=evil)).to_have_count(1, timeout=_PATIENCE)
    record = page.locator("#records .record[data-topic=events]", has_text=evil).first
    await record.locator("summary").click()
    await expect(record.locator("details pre")).to_contain_text(f"source: {evil}")
    assert await page.evaluate("window.hit === undefined && document.querySelector('img') === null")


async def test_the_service_answers_in_time_and_later(demo: str, open_page: OpenPage) -> None:
    page = await open_page(demo)
    status, body = await _answer(page, "sync", "put")
    assert status in {200, 201}
    assert json.loads(body) == {"id": "pear", "item": {"name": "Pear"}}
    where = await _press(page, "async", "put")
    statuses = [text.split()[0] for text in await where.locator(".status").all_inner_texts()]
    assert statuses[0] == "202"
    assert statuses[-1] in {"200", "201"}
    await expect(where.locator(".made li")).to_have_count(2, timeout=_PATIENCE)


async def test_a_stream_that_the_server_breaks_loses_nothing_and_says_so(demo: str, open_page: OpenPage) -> None:
    page = await open_page(demo, broken=True)
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if "/stream" in request.url else None)
    card = page.locator("#stream")
    own = await card.get_attribute("data-page") or "a page without a name"
    events, verdict = card.locator(".events .own, .events .lost, .events .back"), card.locator(".verdict")
    await card.locator("[data-stream=open]").click()
    await expect(card.locator(".status")).to_contain_text("Open.", timeout=_PATIENCE)
    await card.locator("[data-stream=send]").click()
    await expect(verdict).to_have_text("3 of 3 arrived, none missing, none twice.", timeout=_PATIENCE)
    live = [f'{{"page":"{own}","number":{number},"sent":"live"}}' for number in (3, 2, 1)]
    await expect(events).to_have_text(live)
    await card.locator("[data-stream=cut]").click()
    await expect(verdict).to_have_text("3 of 6 arrived, 3 waiting in Kafka, none missing, none twice.", timeout=_PATIENCE)
    await expect(events).to_have_text(["The connection broke.", *live])
    await expect(verdict).to_have_text("6 of 6 arrived, none missing, none twice.", timeout=_PATIENCE)
    missed = [f'{{"page":"{own}","number":{number},"sent":"while cut"}}' for number in (6, 5, 4)]
    await expect(events).to_have_text(
        [*missed, "The browser is back, with the last id it saw.", "The connection broke.", *live]
    )
    first, *others = asked
    assert "last-event-id" not in await first.all_headers()
    assert others  # the browser's own doing: the same address, and the id in its field
    for each in others:
        assert (each.url, "last-event-id" in await each.all_headers()) == (first.url, True)


_FAULTY = """() => {
  window.EventSource = class extends EventSource {
    constructor(url) {
      super(url);
      window.source = this;
      this.addEventListener("message", (event) => {
        if (event.data.includes('"number":2')) event.stopImmediatePropagation(); // before the page sees it
      });
    }
  };
}"""
_AGAIN = "data => source.dispatchEvent(new MessageEvent('message', { data }))"


async def test_the_page_says_what_is_missing_and_what_came_twice(embedded: str, open_page: OpenPage) -> None:
    page = await open_page(embedded)
    await page.evaluate(_FAULTY)
    card = page.locator("#stream")
    await card.locator("[data-stream=open]").click()
    await card.locator("[data-stream=send]").click()
    verdict = card.locator(".verdict")
    await expect(verdict).to_have_text("2 of 3 arrived, 1 missing, none twice.", timeout=_PATIENCE)
    await page.evaluate(_AGAIN, json.dumps({"page": "another", "number": 3}))
    await expect(verdict).to_have_text("2 of 3 arrived, 1 missing, none twice.")
    await page.evaluate(_AGAIN, json.dumps({"page": await card.get_attribute("data-page"), "number": 3}))
    await expect(verdict).to_have_text("2 of 3 arrived, 1 missing, 1 twice.")


async def test_nothing_sticks_out_at_any_width(embedded: str, open_page: OpenPage) -> None:
    page = await open_page(embedded)
    await _press(page, "async", "put")
    for width, scheme in product((1280, 400), ("light", "dark")):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.emulate_media(color_scheme=scheme)
        assert await page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
        colors = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ground, ink = map(_lightness, await page.evaluate(colors))
        assert (ground > ink) == (scheme == "light")


async def test_every_field_and_button_has_a_name(embedded: str, open_page: OpenPage) -> None:
    page = await open_page(embedded)
    nameless = "e => e.filter(i => !(i.labels?.length || i.textContent.trim())).length"
    assert await page.locator("input, button").evaluate_all(nameless) == 0
    assert await page.locator("h1").count() == 1


def test_the_password_stays_and_ctrl_c_stops_everything(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        with demo_site(tmp_path, None) as (_url, process, log):
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            said.append(log.read_text())
    passwords = [re.findall(r"user admin   password (\S{16})$", text, re.MULTILINE) for text in said]
    assert passwords[0] == passwords[1]
    assert len(passwords[0]) == 1
    assert "Traceback" not in said[1]


def _lightness(color: str) -> int:
    return sum(int(part) for part in re.findall(r"\d+", color)[:3])
