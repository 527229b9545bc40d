"""Whose a path is while no configuration was ever loaded, and what a request gets whose path may be a route's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path

from kafkaproxy.routing.table import Configuration
from kafkaproxy.serving.site_paths import is_site_path
from tests.support.proxy import Proxy


def view(_request: HttpRequest, **_kwargs: object) -> HttpResponse:
    return HttpResponse()


urlpatterns = [
    path("", view),
    path("healthz", view),
    path("blog/<slug:name>/", view),
    path("files/<path:rest>", view),
    path("admin/", admin.site.urls),
    path("kafkaproxy/", include("kafkaproxy.urls")),
    re_path(r"^old/(?P<year>[0-9]{4})/$", view),
    path("<slug:page>/", view),
    path("<int:number>", view),
    *i18n_patterns(path("about/", view)),
    re_path(r"^spa/.*$", view),
]


@pytest.fixture(autouse=True)
def _site(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.LANGUAGES = [("en", "English"), ("de", "German")]
    settings.STATIC_URL = "/static/"
    settings.MEDIA_URL = "https://media.example/files/"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path, Configuration(known=False))
    yield proxy
    proxy.close()


def certain(path: str, root_path: str = "") -> bool:
    return is_site_path({"type": "http", "path": path, "root_path": root_path})


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/healthz", "/blog/kafka/", "/old/2024/", "/kafkaproxy/metrics", "/de/about/", "/en/about/"),
        *("/admin/", "/admin/login/", "/admin/kafkaproxy/route/", "/admin/kafkaproxy/route/5/change/", "/static/a/b.css"),
    ],
)
def test_the_sites_own(path: str) -> None:
    assert certain(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/items", "/items/a", "/healthz/", "/blog/kafka/x/", "/old/24/", "/fr/about/", "/static", "/media/x"),
        *("/files/a", "/files/a/b", "/page/", "/17", "/spa/items", "/files/"),
    ],
)
def test_what_may_be_a_routes(path: str) -> None:
    assert not certain(path)


def test_a_pattern_for_everything_proves_nothing(settings: Any) -> None:
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("healthz", view), re_path(r"^.*$", view)]})
    assert certain("/healthz")
    assert not any(map(certain, ("/", "/items", "/items/a")))


def test_below_a_prefix_of_the_server() -> None:
    assert certain("/prefix/healthz", "/prefix")
    assert not certain("/prefix/items", "/prefix")


def test_the_setting_names_more(settings: Any) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "SITE_PATHS": ["/live", "/app/"]}
    assert all(map(certain, ("/live", "/app/", "/app/x/y")))
    assert not any(map(certain, ("/live/x", "/liver", "/app", "/apple")))
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "SITE_PATHS": ["/"]}
    assert certain("/anything")


def test_a_urlconf_that_cannot_be_read_is_the_sites_to_report(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.ROOT_URLCONF = "tests.no_such_module"
    assert certain("/items")
    assert "urlconf_unusable" in caplog.text


@pytest.mark.parametrize(
    ("method", "fields"),
    [("GET", {}), ("PUT", {}), ("DELETE", {}), ("OPTIONS", {"origin": "https://a"}), ("GET", {"accept": "text/event-stream"})],
)
async def test_a_request_that_may_be_a_routes_is_to_come_again(proxy: Proxy, method: str, fields: dict[str, str]) -> None:
    response = await proxy.request(method, "/items", headers=fields)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert json.loads(response.content)["type"] == "urn:kafkaproxy:problem:not-configured-yet"


async def test_a_head_gets_no_body(proxy: Proxy) -> None:
    response = await proxy.request("HEAD", "/items")
    assert (response.status_code, response.headers["retry-after"], response.content) == (503, "1", b"")


async def test_the_site_serves_what_is_its_own_and_what_is_not_http(proxy: Proxy) -> None:
    assert (await proxy.request("GET", "/healthz")).status_code == 299
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await proxy.app({"type": "websocket", "path": "/items"}, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 299  # as the site of these tests answers anything


async def test_everything_is_as_ever_once_a_configuration_is_loaded(proxy: Proxy) -> None:
    proxy.runtime.configure(Configuration())
    assert (await proxy.request("GET", "/items")).status_code == 299
