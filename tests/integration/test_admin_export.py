"""The export of a gateway in the admin: what is left out is shown before anything is downloaded."""

from __future__ import annotations

from typing import Any

import pytest

from kafkaproxy.models import AccessControl, Gateway
from tests.integration.admin_site import Site, make_gateway, make_route
from tests.support.zilla_samples import planned

pytestmark = pytest.mark.django_db

VIEWS = [f"view_{name}" for name in ("gateway", "entry", "route", "cluster", "topic", "guard")]


@pytest.fixture
def gateway() -> Gateway:
    made = make_gateway()
    AccessControl.objects.create(gateway=made)
    make_route(made.ensure_entry(), "put-items", conditions=[{"method": "PUT", "path": "/items"}])
    return made


def _export(site: Site, *gateways: Gateway, **data: Any) -> Any:
    chosen = {"action": "export_zilla", "_selected_action": [each.pk for each in gateways]}
    return site.client.post(site.url("gateway", "changelist"), chosen | data)


def test_a_gateway_is_downloaded_and_can_be_imported(gateway: Gateway) -> None:
    site = Site(VIEWS)
    page = _export(site, gateway).content.decode()
    assert "Zilla has everything that this gateway uses." in page
    response = _export(site, gateway, download="Download")
    assert response["content-disposition"] == 'attachment; filename="shop.zilla.yaml"'
    plan, _report = planned(response.content.decode())
    assert plan.gateways[0].name == "shop"


def test_what_is_left_out_needs_a_word(gateway: Gateway) -> None:
    gateway.entries.get().routes.update(timeout=5)
    site = Site(VIEWS)
    page = _export(site, gateway, download="Download").content.decode()
    assert "timeout is left out" in page
    response = _export(site, gateway, download="Download", lossy="on")
    assert "# - route shop/all/put-items: timeout is left out" in response.content.decode()


def test_what_would_serve_others_is_never_downloaded(gateway: Gateway) -> None:
    make_route(gateway.ensure_entry(), "live", "stream")
    response = _export(Site(VIEWS), gateway, download="Download", lossy="on")
    page = response.content.decode()
    assert "Move the streams to an entry of their own" in page
    assert 'name="download"' not in page


def test_the_dialect_can_be_chosen(gateway: Gateway) -> None:
    gateway.entries.get().routes.update(correlation_header="x-id")
    site = Site(VIEWS)
    assert "Choose dialect 2" in _export(site, gateway).content.decode()
    response = _export(site, gateway, dialect="2", download="Download")
    assert "correlation-id: x-id" in response.content.decode()


def test_only_one_gateway_at_a_time(gateway: Gateway) -> None:
    site = Site(VIEWS)
    response = site.client.get(_export(site, gateway, make_gateway("other"))["location"])
    assert "A zilla.yaml holds one gateway: select one." in response.content.decode()


@pytest.mark.parametrize("missing", VIEWS[1:])
def test_whoever_may_not_see_all_of_it_may_not_export(gateway: Gateway, missing: str) -> None:
    site = Site([each for each in VIEWS if each != missing])
    assert "Export the selected" not in site.get("gateway", "changelist").content.decode()
    response = _export(site, gateway, download="Download")
    assert "attachment" not in response.headers.get("content-disposition", "")
