"""All the way on one site: import a zilla.yaml, look at a route, try it, see its records, watch them, ask from outside.

The site is the demo's, served by a server of its own, with a real Kafka. The test puts nothing into its database but users.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser import chain_file
from tests.browser.conftest import OpenPage
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.servers import serve
from tests.support.tokens import fresh

pytestmark = [pytest.mark.browser, pytest.mark.kafka]

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 20_000
_PASSWORD = "a password for one test"
_USERS = """
from django.contrib.auth.models import Group, User
User.objects.create_superuser("boss", password="{password}")
User.objects.create_user("alice").groups.add(Group.objects.create(name="readers"))
"""


@dataclass(frozen=True, slots=True)
class Chain:
    """The site, the page that is open, and the topic that everything is about."""

    url: str
    page: Page
    topic: str

    async def go(self, path: str) -> None:
        await self.page.goto(f"{self.url}/admin/kafkaproxy/{path}")

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def follow(self, name: str) -> None:
        await self.page.locator("#content").get_by_role("link", name=name, exact=True).first.click()

    async def open_route(self, name: str) -> None:
        await self.go("gateway/")
        await self.follow("chain")
        await self.follow(name)

    async def try_it(self, target: str, **fields: str) -> Locator:
        """Send the form of the page that is open; return where the status is."""
        await self.page.fill("#id_target", target)
        for name, value in fields.items():
            await self.page.fill(f"#id_{name}", value)
        await self.press("Send")
        return self.page.locator(".kp-status")

    def step(self, text: str) -> Locator:
        return self.page.locator(".kp-steps li", has_text=text).last


@pytest.fixture
def site(kafka: Cluster, tmp_path: Path) -> Iterator[str]:
    """The demo's site with an empty configuration, a superuser and a reader."""
    env = {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "KAFKAPROXY_STORE_DIR": str(tmp_path / "store"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
    }
    for arguments in (["migrate", "--verbosity=0"], ["shell", "--verbosity=0", "--command", _USERS.format(password=_PASSWORD)]):
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=_ROOT, env=os.environ | env, check=True)
    with serve("uvicorn", "project.asgi:application", tmp_path, env=env, cwd=_ROOT) as running:
        yield running.url


@pytest.fixture
async def chain(site: str, open_page: OpenPage, topic: TopicFactory) -> Chain:
    """A user that has just logged in."""
    page = await open_page(f"{site}/admin/")
    page.set_default_timeout(_PATIENCE)
    await page.fill("#id_username", "boss")
    await page.fill("#id_password", _PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    return Chain(site, page, topic(name="chain"))


@pytest.fixture
async def outside() -> AsyncIterator[httpx.AsyncClient]:
    """A client that is no browser and knows no session."""
    async with httpx.AsyncClient(timeout=20) as client:
        yield client


async def test_from_a_zilla_yaml_to_records_that_one_watches(
    chain: Chain, outside: httpx.AsyncClient, tmp_path: Path, kafka: Cluster
) -> None:
    await _import_pasted(chain)
    await _look_at_the_route(chain)
    await _try_as_nobody_and_with_a_token(chain)
    await _ask_outside(chain, outside)
    await _try_as_a_user(chain)
    await _see_the_record(chain, kafka)
    await _watch(chain, outside)
    await _import_uploaded_over_a_change_by_hand(chain, tmp_path)
    await _read_the_history(chain)


async def _import_pasted(chain: Chain) -> None:
    await chain.go("")
    await expect(chain.page.locator(".kp-first")).to_contain_text("A cluster")
    await chain.follow("Import a zilla.yaml")
    await chain.page.fill("#id_text", chain_file.broken(chain.topic))
    await chain.press("Preview")
    await expect(chain.page.get_by_role("alert")).to_contain_text("Did you mean 'fetch'?")

    await chain.page.fill("#id_text", chain_file.first(chain.topic))
    await chain.press("Preview again")
    await expect(chain.page.locator(".kp-changes")).to_contain_text("create route chain/chain-any/put-chain-id")
    await expect(chain.page.locator("details", has_text="Ignored: no client would notice")).to_contain_text("telemetry")
    await chain.press("Apply")
    await expect(chain.page.locator(".messagelist")).to_contain_text("Imported: ")


async def _look_at_the_route(chain: Chain) -> None:
    await chain.open_route("put-chain-id")
    said = f"PUT /chain/{{id}} → topic {chain.topic}, key = id, answers 204 once Kafka has it, only for jwt with write:stream"
    await expect(chain.page.locator("#kp-sentence")).to_have_text(said)
    await expect(chain.page.locator("#id_key")).to_be_visible()
    for hidden in ("#id_merge", "#id_start", "#filters-group"):
        await expect(chain.page.locator(hidden)).to_be_hidden()


async def _try_as_nobody_and_with_a_token(chain: Chain) -> None:
    await chain.follow("Try it")
    status = await chain.try_it("/chain/{id}")
    await expect(chain.page.locator(".field-target .errorlist")).to_contain_text("in the place of {id}")
    status = await chain.try_it("/chain/7", body='{"name":"<b>seven</b>"}')
    await expect(status).to_contain_text("401")
    await expect(chain.step("put-chain-id")).to_have_text("put-chain-id: guard jwt: there is no credential")
    await expect(chain.step("get-chain-id")).to_contain_text("for this path it serves GET, HEAD")
    await expect(chain.page.locator("#kp-sent + p")).to_have_text("None.")

    await chain.page.get_by_label("with a token").check()
    await expect(await chain.try_it("/chain/7", token=fresh())).to_contain_text("204")
    await expect(chain.page.locator(".kp-served")).to_have_text("put-chain-id: serves the request")
    record = chain.page.locator(".kp-record", has_text=chain.topic)
    await expect(record.locator(".kp-key")).to_have_text("7")
    await expect(record.locator(".kp-value pre")).to_have_text('{\n  "name": "<b>seven</b>"\n}')
    await expect(record.locator(".kp-headers dt", has_text="kind").locator("+ dd")).to_have_text("imported")
    await expect(record).not_to_contain_text("Bearer")


async def _ask_outside(chain: Chain, outside: httpx.AsyncClient) -> None:
    url = f"{chain.url}/chain/7"
    assert (await outside.put(url, json={"name": "<b>seven</b>"})).status_code == 401
    allowed = await outside.put(url, json={"name": "<b>seven</b>"}, headers={"authorization": f"Bearer {fresh()}"})
    assert (allowed.status_code, allowed.content) == (204, b"")
    found = await outside.get(url)
    assert (found.status_code, found.json()) == (200, {"name": "<b>seven</b>"})

    await chain.open_route("get-chain-id")
    await chain.follow("Try it")
    await expect(await chain.try_it("/chain/7")).to_contain_text("200")
    answer = chain.page.locator("section", has_text="Answer").first
    await expect(answer.locator("pre")).to_have_text('{\n  "name": "<b>seven</b>"\n}')
    await expect(answer.locator("dt", has_text="etag").locator("+ dd")).to_have_text(found.headers["etag"])


async def _try_as_a_user(chain: Chain) -> None:
    await chain.go("guard/add/")
    await chain.page.fill("#id_name", "who")
    await chain.page.select_option("#id_kind", "session")
    await chain.press("Save")
    await chain.open_route("get-chain-id")
    await chain.page.get_by_text("Add another Guard").click()
    await chain.page.locator("#guarded-0 .select2-selection").click()
    await chain.page.locator(".select2-results__option", has_text="who").click()
    await chain.page.fill("#id_guarded-0-roles", "readers")
    await expect(chain.page.locator("#kp-sentence")).to_contain_text("only for who with readers")
    await chain.press("Save and continue editing")

    await chain.follow("Try it")
    await chain.page.get_by_label("a user who is logged in to the site").check()
    await expect(await chain.try_it("/chain/7", username="")).to_contain_text("403")
    await expect(chain.page.locator(".kp-steps").first).to_contain_text("guard who: the client lacks readers")
    await expect(await chain.try_it("/chain/7", username="alice")).to_contain_text("200")
    await expect(chain.page.locator(".kp-served")).to_have_text("get-chain-id: serves the request")


async def _see_the_record(chain: Chain, kafka: Cluster) -> None:
    stored = kafka.wait_for(chain.topic, 2)
    await chain.go("")
    await chain.follow("Topics of kafka")
    await chain.follow(chain.topic)
    await chain.page.fill("#kp-key", "7")
    await chain.press("Filter")
    records = chain.page.locator(".kp-record")
    await expect(records).to_have_count(len(stored))
    await expect(records.first.locator(".kp-headers dt", has_text="kind").locator("+ dd")).to_have_text("imported")
    await expect(records.first.locator(".kp-value pre")).to_contain_text("<b>seven</b>")


async def _watch(chain: Chain, outside: httpx.AsyncClient) -> None:
    async with chain.page.expect_response("**/live/events/") as waiting:
        await chain.go("gateway/live/")
    assert (await (await waiting.value).header_value("content-type")) == "text/event-stream"
    tile = chain.page.locator("[data-kp=streams]")
    await expect(tile).to_have_text("0")
    async with outside.stream("GET", f"{chain.url}/chain-live") as stream:
        assert stream.status_code == 200
        await expect(tile).to_have_text("1")
        async with _producing(chain, outside):
            await expect(chain.page.locator("[data-kp=produce-rate]")).to_have_text(re.compile("[1-9]"))
    await expect(tile).to_have_text("0")
    row = chain.page.locator("[data-kp=routes] tr", has_text="put-chain-id")
    await expect(row.locator("td").nth(1)).to_have_text(re.compile("[1-9]"))
    await expect(chain.page.locator("[data-kp=clusters]")).to_contain_text("this process")


@contextlib.asynccontextmanager
async def _producing(chain: Chain, outside: httpx.AsyncClient) -> AsyncIterator[None]:
    """Produce until the block ends."""

    async def produce() -> None:
        headers = {"authorization": f"Bearer {fresh()}"}
        while True:
            assert (await outside.put(f"{chain.url}/chain/live", json={}, headers=headers)).status_code == 204

    work = asyncio.ensure_future(produce())
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _import_uploaded_over_a_change_by_hand(chain: Chain, folder: Path) -> None:
    await chain.open_route("put-chain-id")
    await chain.page.fill("#id_overrides-0-value", "by hand")
    await chain.press("Save")
    file = folder / "edited.yaml"
    file.write_text(chain_file.edited(chain.topic))
    await chain.go("gateway/import/")
    await chain.page.set_input_files("#id_file", file)
    await chain.press("Preview")
    conflicts = chain.page.locator(".kp-conflicts")
    await expect(conflicts).to_contain_text("Changed by hand: overrides.")
    for heading in ("Created (1)", "Removed (2)"):
        await expect(chain.page.get_by_role("heading", name=heading)).to_be_visible()
    await expect(chain.page.locator(".kp-changes").first).to_contain_text("post-chain-new")
    await chain.page.get_by_label("The file is right").check()
    await chain.press("Apply")
    await expect(chain.page.locator(".messagelist")).to_contain_text("Imported: ")
    await chain.open_route("put-chain-id")
    await expect(chain.page.locator("#id_overrides-0-value")).to_have_value("edited")


async def _read_the_history(chain: Chain) -> None:
    await chain.follow("History")
    history = chain.page.locator("#change-history")
    changed = ("Changed Value for override", "Changed by an import of a zilla.yaml: overrides.")
    for said in ("Imported from a zilla.yaml", "Tried PUT /chain/7 as token", *changed):
        await expect(history).to_contain_text(said)
