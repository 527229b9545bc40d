"""Try it: send a request as a client would, and see which route serves it, the answer, and what Kafka got."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from asgiref.sync import async_to_sync
from django import forms
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from kafkaproxy.admin.forms.drafts import draft_route
from kafkaproxy.admin.forms.generic import ModelAdmin
from kafkaproxy.admin.pages.base import page_context
from kafkaproxy.admin.pages.topic_records import show, show_record
from kafkaproxy.admin.pages.topics import is_sensitive
from kafkaproxy.admin.pages.tryit_run import Asked, ProducedRecord, Trial, run_trial
from kafkaproxy.admin.pages.tryit_steps import steps
from kafkaproxy.core.capabilities import Capability, served_methods
from kafkaproxy.core.names import is_token
from kafkaproxy.guards.principals import ClientPrincipal
from kafkaproxy.guards.session import SessionGuard
from kafkaproxy.models import Route
from kafkaproxy.serving.runtime import runtime
from kafkaproxy.specs.types import ConditionSpec

__all__ = ["TrialForm", "TryItMixin"]

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PARAMETER: Final = re.compile(r"\{[^/{}]*\}")
_CLIENTS: Final = [
    ("anonymous", gettext_lazy("without credentials")),
    ("token", gettext_lazy("with a token")),
    ("user", gettext_lazy("a user who is logged in to the site")),
]


class TrialForm(forms.Form):
    """A request. Acting as another user needs a permission, and only a superuser may act as a superuser."""

    required_css_class = "required"

    method = forms.CharField(label=gettext_lazy("method"), max_length=20, widget=forms.TextInput({"list": "kp-methods"}))
    target = forms.CharField(
        label=gettext_lazy("path"),
        max_length=4000,
        strip=False,
        help_text=gettext_lazy("With its query, such as /items/1?a=b."),
    )
    scheme = forms.ChoiceField(label=gettext_lazy("scheme"), choices=[("https", "https"), ("http", "http")])
    host = forms.CharField(label=gettext_lazy("host"), max_length=255)
    fields_text = forms.CharField(
        label=gettext_lazy("header fields"),
        required=False,
        widget=forms.Textarea({"rows": 3, "class": "kp-code", "spellcheck": "false"}),
        help_text=gettext_lazy("One a line: content-type: application/json"),
    )
    body = forms.CharField(
        label=gettext_lazy("body"),
        required=False,
        strip=False,
        widget=forms.Textarea({"rows": 5, "class": "kp-code", "spellcheck": "false"}),
    )
    client = forms.ChoiceField(label=gettext_lazy("client"), choices=_CLIENTS, widget=forms.RadioSelect)
    token = forms.CharField(
        label=gettext_lazy("token"),
        required=False,
        widget=forms.PasswordInput({"autocomplete": "off"}),
        help_text=gettext_lazy("Sent as authorization: Bearer. Not kept. For another place, write a header field or a query."),
    )
    username = forms.CharField(
        label=gettext_lazy("user"),
        required=False,
        max_length=254,
        widget=forms.TextInput({"autocomplete": "off"}),
        help_text=gettext_lazy("A user name; guards of the kind session take the client for that user. Empty: yourself."),
    )
    seconds = forms.IntegerField(
        label=gettext_lazy("time limit, seconds"),
        min_value=1,
        max_value=60,
        initial=5,
        help_text=gettext_lazy("A stream is cut off then."),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        self.chosen_user: Any = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are suggested."""
        return _METHODS

    @property
    def client_text(self) -> str:
        """The client in words, for the history; without its token."""
        if self.chosen_user is not None:
            return _("user %(name)s") % {"name": self.chosen_user.get_username()}
        return str(self.cleaned_data["client"])

    def clean_method(self) -> str:
        """Check that the method is a token; it is case-sensitive."""
        method: str = self.cleaned_data["method"]
        if not is_token(method):
            raise ValidationError(_("Write a method, such as GET."))
        return method

    def clean_target(self) -> str:
        """Check that the target begins with a slash and has no fragment."""
        target: str = self.cleaned_data["target"]
        if not target.startswith("/") or "#" in target or any(each < "!" for each in target):
            raise ValidationError(_("Begin with a slash; write no spaces and no #."))
        if (parameter := _PARAMETER.search(target.partition("?")[0])) is not None:
            message = _("Write a value of your own in the place of %(part)s. (A brace itself is %%7B.)")
            raise ValidationError(message % {"part": parameter[0]})
        return target

    def clean_fields_text(self) -> tuple[tuple[str, str], ...]:
        """Parse the header fields, one a line."""
        fields = []
        for number, line in enumerate(self.cleaned_data["fields_text"].splitlines(), 1):
            if not line.strip():
                continue
            name, colon, value = line.strip().partition(":")
            if not colon or not is_token(name) or not _is_latin(value):
                raise ValidationError(_("Line %(number)d: write name: value, in Latin-1.") % {"number": number})
            fields.append((name, value.lstrip(" \t")))
        return tuple(fields)

    def clean(self) -> dict[str, Any]:
        """Find the user to act as, and check that the requesting user may act as that one."""
        super().clean()
        data = self.cleaned_data
        if data.get("client") == "user":
            self.chosen_user = self._find_user(data.get("username") or "")
        if data.get("client") == "token" and not (data.get("token") and data["token"].isascii()):
            self.add_error("token", _("Paste a token."))
        return data

    def _find_user(self, name: str) -> Any:
        if name in ("", self._user.get_username()):
            return self._user
        if not self._user.has_perm("kafkaproxy.try_route_as_user"):
            self.add_error("username", _("You may only be yourself here: acting as another user needs a permission."))
            return None
        model = get_user_model()
        found = model._default_manager.filter(**{model.USERNAME_FIELD: name, "is_active": True}).first()  # noqa: SLF001 (public)
        if found is None:
            self.add_error("username", _("There is no active user of this name."))
        elif getattr(found, "is_superuser", False) and not self._user.is_superuser:
            self.add_error("username", _("Only a superuser may act as a superuser."))
        else:
            return found
        return None

    def asked(self, principals: Mapping[str, ClientPrincipal]) -> Asked:
        """Return the request."""
        data = self.cleaned_data
        fields = data["fields_text"]
        if data["client"] == "token":
            fields = (*fields, ("authorization", f"Bearer {data['token']}"))
        return Asked(
            method=data["method"],
            target=data["target"],
            scheme=data["scheme"],
            host=data["host"],
            fields=fields,
            body=data["body"].encode(),
            seconds=data["seconds"],
            principals=principals,
        )


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


log = logging.getLogger("kafkaproxy.admin")


class TryItMixin(ModelAdmin):
    """Adds the page to the admin of routes."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page, for a route and for any path."""
        view = self.admin_site.admin_view(self.try_view)
        own = [
            path("try/", view, name="kafkaproxy_route_try_any"),
            path("<int:pk>/try/", view, name="kafkaproxy_route_try"),
        ]
        return [*own, *super().get_urls()]

    @method_decorator(sensitive_post_parameters("token", "fields_text", "body"))
    def try_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Show the form; for a valid one send the request and show the outcome."""
        if not request.user.has_perm("kafkaproxy.try_route"):
            raise PermissionDenied
        route = None if pk is None else get_object_or_404(Route.objects.select_related("entry__gateway"), pk=pk)
        form = TrialForm(request.POST or None, user=request.user, initial=_initial(request, route))
        title = _("Try %(route)s") % {"route": route} if route else _("Try a request")
        context = {**page_context(self, request, title), "route": route, "form": form, "is_off": route and _is_off(route)}
        if form.is_valid():
            context |= self._try(request, form)
        return TemplateResponse(request, "admin/kafkaproxy/tryit.html", context)

    def _try(self, request: HttpRequest, form: TrialForm) -> dict[str, Any]:
        running = runtime()
        table = running.start()
        guards = table.guards.instances(SessionGuard) if form.chosen_user is not None else {}
        principals = {name: guard.principal(form.chosen_user) for name, guard in guards.items()}
        asked = form.asked(principals)
        try:
            trial = async_to_sync(run_trial)(running, table, asked)
        except BaseException:
            self._note(request, form, asked, None)
            raise
        served = _served(trial)
        self._note(request, form, asked, served)
        return _shown(trial, served) | {"no_session_guard": form.chosen_user is not None and not guards}

    def _note(self, request: HttpRequest, form: TrialForm, asked: Asked, served: Route | None) -> None:
        """Log the trial in the history: it may write to Kafka as another user. Without the query, which may hold secrets."""
        line = f"{asked.method} {asked.target.partition('?')[0]}"
        log.info("trial user=%s client=%s method=%s", request.user.pk, form.client_text, asked.method)
        LogEntry.objects.create(
            user_id=cast(Any, request.user.pk),
            content_type=ContentType.objects.get_for_model(Route),
            object_id=None if served is None else str(served.pk),
            object_repr=(line if served is None else str(served))[:200],
            action_flag=CHANGE,
            change_message=_("Tried %(line)s as %(client)s.") % {"line": line, "client": form.client_text},
        )


def _initial(request: HttpRequest, route: Route | None) -> dict[str, Any]:
    initial = {"method": "GET", "target": "/", "host": request.get_host(), "scheme": request.scheme, "client": "anonymous"}
    if route is not None:
        condition = next(iter(draft_route(route).conditions), ConditionSpec())
        methods = served_methods(Capability(route.capability), condition.method or None)
        initial["target"] = condition.path or "/"
        if route.capability == Capability.PRODUCE:
            initial["fields_text"] = "content-type: application/json"
        initial["method"] = next(each for each in ("GET", "POST", *sorted(methods)) if each in methods)
    return initial


def _is_off(route: Route) -> bool:
    return not (route.enabled and route.entry.enabled and route.entry.gateway.enabled)


def _served(trial: Trial) -> Route | None:
    if trial.match is None:
        return None
    names = {"entry__gateway__name": trial.match.gateway.name, "entry__name": trial.match.entry.name}
    return Route.objects.filter(name=trial.match.route.name, **names).first()


def _shown(trial: Trial, served: Route | None) -> dict[str, Any]:
    """Return what the page shows. Records of sensitive topics are left out, in the answer too."""
    cluster = "" if trial.match is None else trial.match.route.cluster
    hidden = [topic for topic in trial.topics if is_sensitive(cluster, topic)]
    body = show(trial.body or None, pretty=True)
    body.left_out += trial.body_size - len(trial.body)
    told = steps(trial.table.matcher, trial.request, trial.seen)
    sent = [_sent(each) for each in trial.sent]
    return {"trial": trial, "served": served, "hidden": hidden, "body": body, "steps": told, "sent": sent}


def _sent(sent: ProducedRecord) -> dict[str, Any]:
    hidden = is_sensitive(sent.cluster, sent.topic)
    record = None if hidden or sent.record is None else show_record(sent.topic, sent.record)
    return {"sent": sent, "record": record, "hidden": hidden}
