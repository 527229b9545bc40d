"""Routes that an earlier gateway hides, as the admin and the checks tell of them."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks

from kafkaproxy import models
from tests.integration.admin_site import Site, make_gateway, make_route

pytestmark = pytest.mark.django_db


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def gateways() -> tuple[models.Gateway, models.Gateway]:
    """Two gateways that serve the same paths, the wider one last."""
    shop, everything = make_gateway("shop", position=1), make_gateway("everything", position=2)
    make_route(shop.ensure_entry(), "item", "fetch", conditions=[{"path": "/items/{id}"}])
    make_route(everything.ensure_entry(), "any", "fetch", conditions=[{"path": "/*"}])
    return shop, everything


def _checked() -> list[str]:
    return [each.msg for each in run_checks(tags=["kafkaproxy"], databases=["default"]) if each.id == "kafkaproxy.W013"]


def test_nothing_is_told_where_both_are_reached(site: Site, gateways: tuple[models.Gateway, models.Gateway]) -> None:
    for gateway in gateways:
        assert site.save("gateway", "change", gateway.pk, data=site.form("gateway", "change", gateway.pk)) == []
    assert _checked() == []


def test_a_gateway_that_is_moved_before_another_one_warns_of_what_it_hides(
    site: Site, gateways: tuple[models.Gateway, models.Gateway]
) -> None:
    everything = gateways[1]
    data = site.form("gateway", "change", everything.pk) | {"position": 0}
    (warning,) = site.save("gateway", "change", everything.pk, data=data)
    assert "“shop / all / item”" in warning
    assert "never reached: the gateway “everything” comes first, and its route “any” takes “* /*”" in warning
    (checked,) = _checked()
    assert "shop / all / item" in checked
    assert "the gateway “everything” comes first" in checked


def test_a_route_that_is_hidden_warns_when_it_is_saved(site: Site, gateways: tuple[models.Gateway, models.Gateway]) -> None:
    models.Gateway.objects.filter(name="everything").update(position=0)
    route = models.Route.objects.get(name="item")
    (warning,) = site.save("route", "change", route.pk, data=site.form("route", "change", route.pk))
    assert "the gateway “everything” comes first" in warning


def test_what_is_switched_off_hides_nothing(site: Site, gateways: tuple[models.Gateway, models.Gateway]) -> None:
    models.Gateway.objects.filter(name="everything").update(position=0, enabled=False)
    shop = gateways[0]
    assert site.save("gateway", "change", shop.pk, data=site.form("gateway", "change", shop.pk)) == []
    response = site.act("gateway", "enable", gateways[1])
    assert "comes first" in site.client.get(response.url).content.decode()
