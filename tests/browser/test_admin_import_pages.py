"""Import and export in headless Chromium: paste, look, correct, apply; two widths, light and dark."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.async_api import Page, expect

from kafkaproxy.models import AccessControl, Gateway, Route
from kafkaproxy.zilla.sync.apply import apply_plan
from tests.browser.conftest import OpenPage
from tests.integration.admin_site import make_gateway, make_route
from tests.support.zilla_samples import BASE, edited, planned

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

OpenAdmin = Callable[..., Awaitable[Page]]
LONG = "a-name-that-is-long-enough-to-be-troublesome-on-a-narrow-screen"
SCREENS = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]


@pytest.fixture
def open_admin(open_page: OpenPage, live_server: Any, transactional_db: None) -> OpenAdmin:
    """Open a page of the admin as a superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))

    async def opened(path: str, **options: Any) -> Page:
        page = await open_page(f"{live_server.url}/site/", **options)
        cookie: Any = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
        await page.context.add_cookies([cookie])
        await page.goto(f"{live_server.url}/admin/kafkaproxy/{path}")
        return page

    return opened


@pytest.fixture
def conflict(transactional_db: None) -> Route:
    """A route that was imported, and changed by hand."""
    plan, _report = planned(BASE)
    apply_plan(plan)
    route = Route.objects.get(name="put-items-id")
    route.key = LONG
    route.save()
    return route


@pytest.fixture
def lossy(transactional_db: None) -> Gateway:
    """A gateway that Zilla lacks something of."""
    gateway = make_gateway(LONG)
    AccessControl.objects.create(gateway=gateway)
    conditions = [{"method": "PUT", "path": f"/{LONG}"}]
    make_route(gateway.ensure_entry(), LONG, timeout=5, cache_control="no-store", conditions=conditions)
    return gateway


async def _preview(page: Page, text: str) -> None:
    await page.get_by_label("Text").fill(text)
    await page.get_by_role("button", name="Preview").click()


async def _fits(page: Page, name: str) -> None:
    """Fail if the page is wider than the screen; keep a picture where ``SCREENSHOTS`` names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    assert await page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0


async def test_a_file_is_pasted_corrected_and_applied(open_admin: OpenAdmin) -> None:
    page = await open_admin("gateway/")
    await page.get_by_role("link", name="Import a zilla.yaml").click()
    await _preview(page, edited(BASE, ("capability: fetch", "capability: fetsch")))
    await expect(page.get_by_role("alert")).to_contain_text("Did you mean 'fetch'?")
    await expect(page.get_by_role("button", name="Apply")).to_have_count(0)

    await _preview(page, BASE)
    await expect(page.locator(".kp-changes")).to_contain_text("create route shop/items-any/put-items-id")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator(".messagelist")).to_have_text("Imported: 6 changes.")
    await expect(page.locator("#result_list .field-name")).to_have_text("shop")

    await page.get_by_role("link", name="shop").click()
    await page.get_by_role("link", name="History").click()
    await expect(page.locator("#change-history")).to_contain_text("Imported from a zilla.yaml (shop).")


async def test_a_conflict_is_overwritten_only_where_one_says_so(open_admin: OpenAdmin, conflict: Route) -> None:
    page = await open_admin("gateway/import/")
    await _preview(page, BASE)
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator(".messagelist")).to_contain_text("tick the box if the file is right")
    await page.get_by_label("The file is right").check()
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator(".messagelist")).to_have_text("Imported: 1 change.")


async def test_an_export_is_downloaded_once_one_agrees_to_what_is_lost(open_admin: OpenAdmin, lossy: Gateway) -> None:
    page = await open_admin("gateway/")
    await page.locator(f"input.action-select[value='{lossy.pk}']").check()
    await page.select_option("select[name=action]", "export_zilla")
    await page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
    await expect(page.locator(".kp-warned").first).to_contain_text("timeout is left out")
    await page.get_by_label("It may be left out").check()
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download").click()
    download = await waiting.value
    assert download.suggested_filename == f"{LONG}.zilla.yaml"


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
async def test_the_pages_fit_the_screen(
    open_admin: OpenAdmin, conflict: Route, lossy: Gateway, width: int, scheme: str
) -> None:
    page = await open_admin("gateway/import/", width=width, scheme=scheme)
    await _fits(page, f"import-empty-{width}-{scheme}")
    key, path = "          key: ${params.id}\n", ":path: /items/*"
    await _preview(page, edited(BASE, (key, f"          key: {LONG}{LONG}\n"), (path, f":path: /{LONG}/*")))
    await expect(page.locator(".kp-conflicts")).to_be_visible()
    await _fits(page, f"import-preview-{width}-{scheme}")
    await _preview(page, edited(BASE, (key, f"          key: ${{params.{LONG.replace('-', '')}}}\n")))
    await expect(page.get_by_role("alert")).to_contain_text("Nothing can be imported.")
    await _fits(page, f"import-refused-{width}-{scheme}")
    await page.goto(page.url.replace("import/", ""))
    await page.locator(f"input.action-select[value='{lossy.pk}']").check()
    await page.select_option("select[name=action]", "export_zilla")
    await page.locator("button[name=index]").click()
    await page.locator("summary").click()
    await _fits(page, f"export-{width}-{scheme}")
