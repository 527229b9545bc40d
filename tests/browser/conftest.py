"""Headless Chromium for tests of what a person sees."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
from playwright.async_api import ConsoleMessage, Page, async_playwright

OpenPage = Callable[..., Awaitable[Page]]

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]
# A refused request is an answer that tests ask for; Chromium reports it all the same.
_EXPECTED: Final = ("the server responded with a status of",)
_BLOCKED: Final = ("has been blocked by CORS policy", "net::ERR_FAILED")
_BROKEN: Final = tuple(f"net::ERR_{each}" for each in ("INCOMPLETE_CHUNKED_ENCODING", "EMPTY_RESPONSE", "CONNECTION_RE"))


@pytest.fixture
async def open_page() -> AsyncIterator[OpenPage]:
    """Open a page: ``await open_page(url, width=, scheme=, blocked=, broken=, untrusted=)``. Its errors fail the test.

    ``blocked``: other origins may refuse what the page asks for. ``broken``: connections may break. ``untrusted``: any
    certificate will do.
    """
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip("no Chromium: install it, or set CHROMIUM to its path")
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=_FLAGS)

        async def open_one(
            url: str,
            *,
            width: int = 1280,
            scheme: Any = "light",
            blocked: bool = False,
            broken: bool = False,
            untrusted: bool = False,
        ) -> Page:
            context = await browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, ignore_https_errors=untrusted
            )
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            expected = (*_EXPECTED, *(_BLOCKED if blocked else ()), *(_BROKEN if broken else ()))
            page.on("console", lambda message: complaints.extend(_unexpected(message, expected)))
            await page.goto(url)
            return page

        yield open_one
        await browser.close()
    assert complaints == []


def _unexpected(message: ConsoleMessage, expected: tuple[str, ...]) -> list[str]:
    """Return an error that no test asked for."""
    return [message.text] if message.type == "error" and not any(each in message.text for each in expected) else []
