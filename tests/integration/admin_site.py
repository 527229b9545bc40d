"""Drive the admin as a browser does: read the form of a page, change some of it, send it back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from kafkaproxy import models
from kafkaproxy.admin.forms.secrets import SecretField

__all__ = ["Site", "add_row", "make_gateway", "make_route"]


def make_gateway(name: str = "shop", **fields: Any) -> models.Gateway:
    """Return a gateway with its entry, on the cluster ``main``."""
    cluster, _created = models.Cluster.objects.get_or_create(name="main", defaults={"bootstrap_servers": "localhost:9092"})
    return models.Gateway.objects.create_with_entry(name=name, cluster=cluster, **fields)


def make_route(entry: models.Entry, name: str, capability: str = "produce", **fields: Any) -> models.Route:
    """Return a route with rows: ``conditions`` and so on are lists of their fields."""
    rows = {key: fields.pop(key) for key in ("conditions", "overrides", "filters", "async_fields") if key in fields}
    route = models.Route.objects.create(entry=entry, name=name, capability=capability, **{"topic": "items", **fields})
    for related, each in rows.items():
        for values in each:
            getattr(route, related).create(**values)
    return route


class Site:
    """The admin, seen by a user with these permissions (None: by a superuser)."""

    def __init__(self, permissions: Iterable[str] | None = None) -> None:
        self.client = Client()
        kind = "boss" if permissions is None else "clerk"
        self.user = User.objects.create_user(kind, is_staff=True, is_superuser=permissions is None)
        self.user.user_permissions.set(Permission.objects.filter(codename__in=permissions or ()))
        self.client.force_login(self.user)

    def url(self, model: str, page: str, *args: Any) -> str:
        """Return the address of ``changelist``, ``add``, ``change``, ``check`` and so on."""
        return reverse(f"admin:kafkaproxy_{model}_{page}", args=args)

    def get(self, model: str, page: str, *args: Any, **query: Any) -> Any:
        """Return the page."""
        return self.client.get(self.url(model, page, *args), query)

    def form(self, model: str, page: str, *args: Any, **query: Any) -> dict[str, Any]:
        """Return what a browser would send if nothing was changed."""
        context = self.get(model, page, *args, **query).context
        forms = [context["adminform"].form]
        data: dict[str, Any] = {}
        for inline in context["inline_admin_formsets"]:
            forms += [inline.formset.management_form, *inline.formset.forms]
        for form in forms:
            for bound in form:
                data |= _sent(bound)
        return data

    def post(self, model: str, page: str, *args: Any, data: dict[str, Any]) -> Any:
        """Send the form."""
        return self.client.post(
            self.url(model, page, *args), {name: value for name, value in data.items() if value is not None}
        )

    def save(self, model: str, page: str, *args: Any, data: dict[str, Any]) -> list[str]:
        """Send the form, which has to be accepted; return the warnings."""
        response = self.post(model, page, *args, data=data)
        if response.status_code == 200:
            pytest.fail(f"refused: {self.errors(response)}")
        warnings = [str(each) for each in get_messages(response.wsgi_request) if each.level_tag == "warning"]
        self.client.get(reverse("admin:index"))  # shows the messages, so that the next request starts without them
        return warnings

    def errors(self, response: Any) -> dict[str, list[str]]:
        """Return the errors of a form that was refused, by the name of the input or the prefix of the table."""
        assert response.status_code == 200, f"it was accepted: {response.status_code}"
        context = response.context
        found = dict(_errors(context["adminform"].form))
        for inline in context["inline_admin_formsets"]:
            for form in inline.formset.forms:
                found |= dict(_errors(form))
            if general := inline.formset.non_form_errors():
                found[inline.formset.prefix] = [str(each) for each in general]
        return found

    def act(self, model: str, action: str, *objects: Any) -> Any:
        """Run an action of the list."""
        data = {"action": action, "_selected_action": [each.pk for each in objects]}
        return self.client.post(self.url(model, "changelist"), data)


def add_row(data: dict[str, Any], prefix: str, **fields: Any) -> int:
    """Fill in one more row of a table; return its number."""
    number = int(data[f"{prefix}-TOTAL_FORMS"])
    data[f"{prefix}-TOTAL_FORMS"] = number + 1
    data |= {f"{prefix}-{number}-{name}": value for name, value in fields.items()}
    return number


def _sent(bound: Any) -> dict[str, Any]:
    value = bound.value()
    if value is None or value is False or isinstance(bound.field, SecretField):  # a secret's input is empty
        return {}
    if isinstance(value, list):  # date and time of a split widget
        return {f"{bound.html_name}_{index}": each for index, each in enumerate(value)}
    return {bound.html_name: value}


def _errors(form: Any) -> Iterable[tuple[str, list[str]]]:
    for name, errors in form.errors.items():
        yield (form.add_prefix(name), [str(each) for each in errors])
