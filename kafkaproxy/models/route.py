"""Routes: what a request that matches does with Kafka."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from kafkaproxy.models.base import ChildManager, ConfigModel, Ordered
from kafkaproxy.models.cluster import Cluster
from kafkaproxy.models.gateway import Entry
from kafkaproxy.models.guard import Guard
from kafkaproxy.validators import (
    TemplateValidator,
    validate_condition_path,
    validate_field_map,
    validate_field_name,
    validate_method,
    validate_name,
    validate_string_list,
)

__all__ = ["AsyncField", "Condition", "Filter", "Override", "Route", "RouteGuard"]


class Route(Ordered):
    """Inside an entry, the first route whose condition matches and whose guards pass serves the request."""

    class Capability(models.TextChoices):
        PRODUCE = "produce", _("produce: requests become records")
        FETCH = "fetch", _("fetch: GET serves records")
        STREAM = "stream", _("stream: GET opens an event stream (SSE)")

    class Acks(models.TextChoices):
        NONE = "none", _("none")
        LEADER_ONLY = "leader_only", _("leader only")
        IN_SYNC_REPLICAS = "in_sync_replicas", _("in-sync replicas")

    class EventId(models.TextChoices):
        ETAG = "etag", _("position and etag")
        KEY_AND_ETAG = "key_and_etag", _("key, position and etag")

    class Start(models.TextChoices):
        EARLIEST = "earliest", _("earliest")
        LATEST = "latest", _("latest")
        TIMESTAMP = "timestamp", _("timestamp")

    class Encoding(models.TextChoices):
        TEXT = "text", _("text; base64 only for what is not UTF-8")
        BASE64 = "base64", _("base64 for every record")

    entry = models.ForeignKey(Entry, on_delete=models.CASCADE, related_name="routes", verbose_name=_("entry"))
    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    enabled = models.BooleanField(_("enabled"), default=True)
    capability = models.CharField(_("capability"), max_length=20, choices=Capability.choices)
    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("cluster"),
        help_text=_("Empty: the gateway's."),
    )
    topic = models.CharField(
        _("topic"),
        max_length=500,
        validators=[TemplateValidator("TOPIC")],
        help_text=_("A name, or a template: ${params.NAME}, ${guarded['GUARD'].identity}."),
    )
    key = models.CharField(  # noqa: DJ001 (no key and an empty key differ)
        _("key"),
        max_length=1000,
        null=True,
        blank=True,
        default=None,
        validators=[TemplateValidator("KEY")],
        help_text=_("A template: ${params.id}, ${idempotencyKey}. Empty: records without a key."),
    )
    acks = models.CharField(_("acks"), max_length=20, choices=Acks.choices, default=Acks.IN_SYNC_REPLICAS)
    reply_to = models.CharField(
        _("reply-to topic"),
        max_length=500,
        blank=True,
        validators=[TemplateValidator("REPLY_TO")],
        help_text=_("Where the service answers. Empty: one way, 204 as soon as Kafka has the record."),
    )
    correlation_header = models.CharField(
        _("correlation id header of the request"),
        max_length=100,
        blank=True,
        validators=[validate_field_name],
        help_text=_("Empty: the gateway's. Replies always carry the gateway's."),
    )
    timeout = models.PositiveIntegerField(
        _("timeout, seconds"),
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(86400)],
        help_text=_("How long a request waits for its reply before 504."),
    )
    merge = models.BooleanField(
        _("merge"), default=False, help_text=_("Serve all records as one JSON array, instead of one record.")
    )
    cache_control = models.CharField(
        _("cache-control"), max_length=200, blank=True, help_text=_("Of the responses. Empty: no-cache.")
    )
    event_id = models.CharField(_("event id"), max_length=20, choices=EventId.choices, default=EventId.ETAG)
    start = models.CharField(_("start"), max_length=20, choices=Start.choices, default=Start.EARLIEST)
    start_timestamp = models.DateTimeField(_("start timestamp"), null=True, blank=True)
    encoding = models.CharField(_("data encoding"), max_length=20, choices=Encoding.choices, default=Encoding.TEXT)

    sibling_fields = ("entry",)
    natural_lookups = ("entry__gateway__name", "entry__name", "name")
    objects = ChildManager["Route"]()

    class Meta(Ordered.Meta):
        verbose_name = _("route")
        verbose_name_plural = _("routes")
        constraints = [models.UniqueConstraint(fields=["entry", "name"], name="kafkaproxy_route_unique")]
        permissions = [
            ("try_route", _("Can send trial requests through routes")),
            ("try_route_as_user", _("Can send trial requests as another user")),
        ]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str, ...]:
        """Entry, route name."""
        return (*self.entry.natural_key(), self.name)

    natural_key.dependencies = ["kafkaproxy.entry", "kafkaproxy.cluster"]  # type: ignore[attr-defined]

    def clean(self) -> None:
        """Refuse fields of another capability, instead of ignoring them silently."""
        super().clean()
        errors: dict[str, Any] = {}
        produces = self.capability == self.Capability.PRODUCE
        if not produces:
            for name in ("key", "reply_to", "correlation_header"):
                if getattr(self, name):
                    errors[name] = _("Only a produce route has this: empty it, or change the capability.")
        if self.merge and self.capability != self.Capability.FETCH:
            errors["merge"] = _("Only a fetch route merges.")
        if self.start == self.Start.TIMESTAMP and self.start_timestamp is None:
            errors["start_timestamp"] = _("Give the time at which streams start.")
        if errors:
            raise ValidationError(errors)


class _RouteRow(Ordered):
    """A row that belongs to a route and has a place in its order."""

    sibling_fields = ("route",)
    natural_lookups = ("route__entry__gateway__name", "route__entry__name", "route__name", "position")

    class Meta(Ordered.Meta):
        abstract = True

    def natural_key(self) -> tuple[Any, ...]:
        """Route, position."""
        route: Route = self.route  # type: ignore[attr-defined]
        return (*route.natural_key(), self.position)

    natural_key.dependencies = ["kafkaproxy.route"]  # type: ignore[attr-defined]


class Condition(_RouteRow):
    """When a route serves: conditions are alternatives; a route without one serves every path."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="conditions", verbose_name=_("route"))
    method = models.CharField(
        _("method"),
        max_length=100,
        blank=True,
        validators=[validate_method],
        help_text=_("Empty: POST, PUT, PATCH, DELETE for produce; GET and HEAD for fetch; GET for stream."),
    )
    path = models.CharField(
        _("path"),
        max_length=2000,
        blank=True,
        validators=[validate_condition_path],
        help_text=_("/items/{id}: a parameter is one segment or a part of it; * is anything. Empty: every path."),
    )

    objects = ChildManager["Condition"]()

    class Meta(_RouteRow.Meta):
        verbose_name = _("condition")
        verbose_name_plural = _("conditions")

    def __str__(self) -> str:
        return f"{self.method or '*'} {self.path or '*'}"


class Override(_RouteRow):
    """A record header that the route sets; it replaces a forwarded field of its name."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="overrides", verbose_name=_("route"))
    name = models.CharField(_("header"), max_length=200, validators=[validate_field_name])
    value = models.CharField(_("value"), max_length=2000, blank=True, validators=[TemplateValidator("OVERRIDE")])

    objects = ChildManager["Override"]()

    class Meta(_RouteRow.Meta):
        verbose_name = _("override")
        verbose_name_plural = _("overrides")

    def __str__(self) -> str:
        return self.name


class Filter(_RouteRow):
    """Which records a fetch or a stream serves: filters are alternatives; key and all headers of one have to match."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="filters", verbose_name=_("route"))
    key = models.CharField(  # noqa: DJ001 (no key and an empty key differ)
        _("key"), max_length=1000, null=True, blank=True, default=None, validators=[TemplateValidator("FILTER")]
    )
    headers = models.JSONField(
        _("headers"),
        default=dict,
        blank=True,
        validators=[validate_field_map],
        help_text=_("name: template, one a line."),
    )

    objects = ChildManager["Filter"]()

    class Meta(_RouteRow.Meta):
        verbose_name = _("filter")
        verbose_name_plural = _("filters")

    def __str__(self) -> str:
        return " and ".join([*(["key"] if self.key is not None else []), *self.headers])

    def clean(self) -> None:
        """Refuse a filter that tests nothing; check the templates of its headers like its key."""
        super().clean()
        if self.key is None and not self.headers:
            raise ValidationError(_("An empty filter matches everything: give a key or a header, or remove it."))
        if isinstance(self.headers, dict):
            for value in self.headers.values():
                try:
                    TemplateValidator("FILTER")(value)
                except ValidationError as error:
                    raise ValidationError({"headers": error.messages}) from error


class AsyncField(_RouteRow):
    """A response field of 202 Accepted, usually ``location``; it makes the route answer ``prefer: respond-async``."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="async_fields", verbose_name=_("route"))
    name = models.CharField(_("field"), max_length=100, default="location", validators=[validate_field_name])
    value = models.CharField(
        _("value"),
        max_length=2000,
        validators=[TemplateValidator("ASYNC")],
        help_text=_("Such as /items/${params.id};cid=${correlationId}."),
    )

    objects = ChildManager["AsyncField"]()

    class Meta(_RouteRow.Meta):
        verbose_name = _("async field")
        verbose_name_plural = _("async fields")

    def __str__(self) -> str:
        return self.name


class RouteGuard(ConfigModel):
    """A guard that has to pass before the route serves. All guards of a route have to pass."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="guarded", verbose_name=_("route"))
    guard = models.ForeignKey(Guard, on_delete=models.PROTECT, related_name="+", verbose_name=_("guard"))
    roles = models.JSONField(
        _("roles"),
        default=list,
        blank=True,
        validators=[validate_string_list],
        help_text=_("All of them are needed, one a line. Empty: a valid credential is enough."),
    )

    natural_lookups = ("route__entry__gateway__name", "route__entry__name", "route__name", "guard__name")
    objects = ChildManager["RouteGuard"]()

    class Meta:
        verbose_name = _("route guard")
        verbose_name_plural = _("route guards")
        constraints = [models.UniqueConstraint(fields=["route", "guard"], name="kafkaproxy_routeguard_unique")]

    def __str__(self) -> str:
        return self.guard.name

    def natural_key(self) -> tuple[str, ...]:
        """Route, guard name."""
        return (*self.route.natural_key(), self.guard.name)

    natural_key.dependencies = ["kafkaproxy.route", "kafkaproxy.guard"]  # type: ignore[attr-defined]
