"""Try it: send a request as a client would, and see which route serves it, the answer, and what Kafka got."""

from __future__ import annotations

import logging
from typing import Any, cast

from asgiref.sync import async_to_sync
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters

from kafkaproxy.admin.forms.drafts import draft_route
from kafkaproxy.admin.forms.generic import ModelAdmin
from kafkaproxy.admin.pages.base import page_context
from kafkaproxy.admin.pages.topic_records import show, show_record
from kafkaproxy.admin.pages.topics import is_sensitive
from kafkaproxy.admin.pages.tryit_form import TrialForm
from kafkaproxy.admin.pages.tryit_run import Asked, ProducedRecord, Trial, run_trial
from kafkaproxy.admin.pages.tryit_steps import steps
from kafkaproxy.core.capabilities import Capability, served_methods
from kafkaproxy.guards.session import SessionGuard
from kafkaproxy.models import Route
from kafkaproxy.serving.runtime import runtime
from kafkaproxy.specs.types import ConditionSpec

__all__ = ["TryItMixin"]

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
